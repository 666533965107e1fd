//! How large values may grow: functions that could make of little more than there is memory for.

use std::sync::Arc;

use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::{Context, ExecutionError, Value};

/// Bytes of a value that an expression makes, about. Objects are smaller.
const LARGEST: usize = 8 * 1024 * 1024;
/// Bytes of a value beside what it holds.
const EACH: usize = 16;

/// True for a value that has grown too large.
pub(crate) fn is_too_large(value: &Value) -> bool {
    let mut left = LARGEST;
    !fits(value, &mut left)
}

fn fits(value: &Value, left: &mut usize) -> bool {
    let own = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    let Some(rest) = left.checked_sub(EACH + own) else { return false };
    *left = rest;
    match value {
        Value::List(items) => items.iter().all(|item| fits(item, left)),
        Value::Map(map) => map.map.values().all(|value| fits(value, left)),
        _ => true,
    }
}

/// Puts functions with limits in the place of those without, and a `size` that counts characters in that of one that counts bytes.
pub(crate) fn limit(context: &mut Context<'_>) {
    context.add_function("size", size);
    context.add_function("replace", replace);
    context.add_function("join", join);
    context.add_function("lists.range", range);
}

type Answer = Result<Value, ExecutionError>;

fn bounded(function: &str, bytes: Option<usize>, make: impl FnOnce() -> Value) -> Answer {
    match bytes.is_some_and(|bytes| bytes <= LARGEST) {
        true => Ok(make()),
        false => Err(ExecutionError::function_error(
            function,
            format!("the result is larger than {LARGEST} bytes"),
        )),
    }
}

fn text(value: String) -> Value {
    Value::String(Arc::new(value))
}

/// `size(X)`, `X.size()`.
fn size(This(this): This<Value>) -> Answer {
    let size = match this {
        Value::String(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(map) => map.map.len(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// `TEXT.replace(FROM, TO)`, `TEXT.replace(FROM, TO, TIMES)`; negative: all.
fn replace(This(this): This<Arc<String>>, Arguments(args): Arguments) -> Answer {
    let (from, to, times) = match args.as_slice() {
        [Value::String(from), Value::String(to)] => (from, to, -1),
        [Value::String(from), Value::String(to), Value::Int(times)] => (from, to, *times),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    let times = usize::try_from(times).unwrap_or(usize::MAX);
    let found = this.matches(from.as_str()).take(times).count();
    let bytes = found.checked_mul(to.len()).and_then(|more| more.checked_add(this.len()));
    bounded("replace", bytes, || text(this.replacen(from.as_str(), to, times)))
}

/// `LIST.join()`, `LIST.join(BETWEEN)`, of texts.
fn join(This(this): This<Arc<Vec<Value>>>, Arguments(args): Arguments) -> Answer {
    let between = match args.as_slice() {
        [] => "",
        [Value::String(between)] => between.as_str(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    let part = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        _ => Err(ExecutionError::NoSuchOverload),
    };
    let parts = this.iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = parts.len().checked_mul(between.len()).and_then(|more| more.checked_add(all));
    bounded("join", bytes, || {
        let parts: Vec<&str> = parts.iter().map(|part| part.as_str()).collect();
        text(parts.join(between))
    })
}

/// `lists.range(N)`: from 0 to before N.
fn range(end: i64) -> Answer {
    let items = usize::try_from(end).ok().and_then(|items| items.checked_mul(EACH));
    bounded("lists.range", items, || Value::List(Arc::new((0..end).map(Value::Int).collect())))
}
