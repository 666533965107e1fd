//! What one request's rules may cost: time, and turns of loops.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube_cel::KubeCelExt as _;
use kube_cel::cel::{Context, ExecutionError, Value};
use tokio::time::Instant;

use crate::sizes;

/// Turns of loops of all rules of a request. Of a rule that kube-apiserver takes, by its estimate, there are fewer.
const TURNS: i64 = 2_000_000;

/// The function that programs call before each turn of a loop, with what it has collected (see [`crate::program`]).
pub(crate) const TICK: &str = "@tick";

/// What `type(x)` is compared with.
pub(crate) const TYPES: [&str; 9] =
    ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type"];

fn named(name: &str) -> String {
    format!("type {name}")
}

fn type_of(value: &Value) -> String {
    named(match value {
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Null => "null_type",
        _ => "other",
    })
}

/// Shared by the rules of one request, and by whom waits for them.
#[derive(Debug)]
pub struct Budget {
    deadline: Instant,
    turns: AtomicI64,
    is_spent: AtomicBool,
    /// The rule that runs now.
    rule: Mutex<String>,
}

impl Budget {
    pub fn until(deadline: Instant) -> Arc<Budget> {
        Arc::new(Budget {
            deadline,
            turns: AtomicI64::new(TURNS),
            is_spent: AtomicBool::new(false),
            rule: Mutex::default(),
        })
    }

    /// True if there is no more; what was found since does not count.
    pub fn is_spent(&self) -> bool {
        if self.turns.load(Ordering::Relaxed) <= 0 || Instant::now() >= self.deadline {
            self.is_spent.store(true, Ordering::Relaxed);
        }
        self.is_spent.load(Ordering::Relaxed)
    }

    /// The rule that ran last.
    pub fn rule(&self) -> String {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn begin(&self, rule: &str) {
        let mut named = self.rule.lock().unwrap_or_else(PoisonError::into_inner);
        named.clear();
        named.push_str(rule);
    }

    /// A turn of a loop, with what it has collected; false: there is to be no further one.
    fn tick(&self, collected: &Value) -> bool {
        self.turns.fetch_sub(1, Ordering::Relaxed);
        if sizes::is_too_large(collected) {
            self.is_spent.store(true, Ordering::Relaxed);
        }
        !self.is_spent()
    }

    /// What expressions are evaluated in, without variables.
    pub(crate) fn context(self: &Arc<Budget>) -> Context<'static> {
        let mut context = Context::default().with_all();
        context.add_function("type", |value: Value| -> String { type_of(&value) });
        for name in TYPES {
            context.add_variable_from_value(name, named(name));
        }
        let budget = self.clone();
        sizes::limit(&mut context);
        context.add_function(TICK, move |collected: Value| -> Result<Value, ExecutionError> {
            match budget.tick(&collected) {
                true => Ok(Value::Bool(true)),
                false => Err(ExecutionError::function_error(TICK, "out of time")),
            }
        });
        context
    }
}
