//! What can be said of an expression before there are values: fields that are not there, names that nothing has, operands that do not
//! go together, and loops that may be too long. What is not known is let pass (`dyn`).

use std::collections::BTreeMap;

use apimachinery::object::integer;
use kube_cel::cel::Context;
use kube_cel::cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value as Json;

use crate::budget::TYPES;
use crate::program::{functions, is_function};
use crate::values::{escape, is_map};

/// Bytes of the largest object, from which the longest list is guessed, as kube-apiserver does.
const LARGEST: u64 = 3 * 1024 * 1024;

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Type<'s> {
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Null,
    List(Box<Type<'s>>, u64),
    Map(Box<Type<'s>>, u64),
    /// With these fields, by their names in expressions.
    Object(BTreeMap<String, &'s Json>),
    /// With these fields, and fields of theirs; none: any.
    Fields(&'static [(&'static str, &'static [&'static str])]),
    /// With these fields.
    Names(&'static [&'static str]),
}

impl<'s> Type<'s> {
    /// Of values of a schema.
    pub(crate) fn of(schema: &'s Json) -> Type<'s> {
        let flag = |name: &str| schema.get(name).is_some_and(|value| value == true);
        if flag("x-kubernetes-int-or-string") || flag("x-kubernetes-embedded-resource") {
            return Type::Dyn;
        }
        let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
        match (schema.get("type").and_then(Json::as_str).unwrap_or_default(), format) {
            ("string", "date-time" | "date") => Type::Timestamp,
            ("string", "duration") => Type::Duration,
            ("string", "byte") => Type::Bytes,
            ("string", _) => Type::String,
            ("integer", _) => Type::Int,
            ("number", _) => Type::Double,
            ("boolean", _) => Type::Bool,
            ("array", _) => {
                let items = schema.get("items").unwrap_or(&Json::Null);
                Type::List(Box::new(Type::of(items)), size(schema))
            }
            ("object", _) if is_map(schema) => {
                let items = schema.get("additionalProperties").unwrap_or(&Json::Null);
                Type::Map(Box::new(Type::of(items)), size(schema))
            }
            ("object", _) if !flag("x-kubernetes-preserve-unknown-fields") => Type::Object(fields(schema)),
            _ => Type::Dyn,
        }
    }

    /// Of whole objects of a schema: they have a type and a name, whatever it says.
    pub(crate) fn of_root(schema: &'s Json, envelope: &'s Json) -> Type<'s> {
        match Type::of(schema) {
            Type::Object(mut fields) => {
                fields
                    .extend(envelope.as_object().into_iter().flatten().map(|(name, of)| (name.clone(), of)));
                Type::Object(fields)
            }
            other => other,
        }
    }

    /// As kube-apiserver calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Type::Dyn => "dyn",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Duration => "google.protobuf.Duration",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Null => "null_type",
            Type::List(..) => "list",
            Type::Map(..) => "map",
            Type::Object(_) | Type::Fields(_) | Type::Names(_) => "object",
        }
    }
}

fn fields(schema: &Json) -> BTreeMap<String, &Json> {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    properties.map(|(name, schema)| (escape(name), schema)).collect()
}

/// Items that a list or a map has at most.
pub(crate) fn size(schema: &Json) -> u64 {
    let limits = ["/maxItems", "/maxProperties"].into_iter().filter_map(|limit| integer(schema, limit));
    let limit = limits.min().and_then(|limit| u64::try_from(limit).ok());
    let items = schema.get("items").or_else(|| schema.get("additionalProperties"));
    let key = if schema.get("items").is_some() { 0 } else { 3 };
    limit.unwrap_or_else(|| LARGEST / (items.map_or(1, |items| least(items, 0)) + 1 + key))
}

/// Bytes that a value of a schema takes at least.
fn least(schema: &Json, depth: usize) -> u64 {
    match schema.get("type").and_then(Json::as_str) {
        Some("boolean") => 4,
        Some("string" | "array") => 2,
        Some("object") if depth < 16 => {
            let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
            let required = required.filter_map(Json::as_str).map(|name| {
                let inner = schema.pointer(&format!("/properties/{name}"));
                name.len() as u64 + 4 + inner.map_or(1, |inner| least(inner, depth + 1))
            });
            2 + required.sum::<u64>()
        }
        _ => 1,
    }
}

/// What is known of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The name of its type.
    pub of: &'static str,
    /// Steps that it may take.
    pub cost: u64,
}

/// What expressions may name.
pub(crate) struct Scope<'s> {
    names: BTreeMap<String, Type<'s>>,
    /// `variables.x`; `None`: there is no such name.
    variables: Option<BTreeMap<String, &'static str>>,
    functions: Context<'static>,
}

impl<'s> Scope<'s> {
    pub(crate) fn new(names: impl IntoIterator<Item = (&'static str, Type<'s>)>) -> Scope<'s> {
        let names = names.into_iter().map(|(name, of)| (name.to_owned(), of)).collect();
        Scope { names, variables: None, functions: functions() }
    }

    /// Adds a name.
    pub(crate) fn name(&mut self, name: &str, of: Type<'s>) {
        self.names.insert(name.to_owned(), of);
    }

    /// Adds a variable of a policy.
    pub(crate) fn variable(&mut self, name: &str) {
        self.variables.get_or_insert_default().insert(name.to_owned(), "dyn");
    }

    /// # Errors
    /// Where and what, as cel-go prints it.
    pub(crate) fn check(&self, text: &str, expression: &IdedExpr) -> Result<Checked, String> {
        let mut walk = Walk { scope: self, bound: Vec::new(), errors: Vec::new() };
        let (of, cost) = walk.visit(expression);
        let of = of.name();
        match walk.errors.is_empty() {
            true => Ok(Checked { of, cost }),
            false => {
                walk.errors.dedup();
                let lines: Vec<String> = walk.errors.iter().map(|wrong| wrong.told(text)).collect();
                Err(lines.join("\n"))
            }
        }
    }
}

/// Something wrong, and a text by which it is found.
#[derive(PartialEq)]
struct Wrong {
    near: [String; 2],
    why: String,
}

impl Wrong {
    fn told(&self, text: &str) -> String {
        let found =
            self.near.iter().filter(|near| !near.is_empty()).find_map(|near| text.find(near.as_str()));
        let at = found.unwrap_or(0);
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (text[..at].matches('\n').count() + 1, text[start..at].chars().count());
        let shown = text[start..].lines().next().unwrap_or_default();
        format!("ERROR: <input>:{line}:{}: {}\n | {shown}\n | {}^", column + 1, self.why, ".".repeat(column))
    }
}

struct Walk<'a, 's> {
    scope: &'a Scope<'s>,
    bound: Vec<(String, Type<'s>)>,
    errors: Vec<Wrong>,
}

type Found<'s> = (Type<'s>, u64);

impl<'s> Walk<'_, 's> {
    fn wrong(&mut self, near: [&str; 2], why: String) {
        self.errors.push(Wrong { near: near.map(str::to_owned), why });
    }

    fn named(&self, name: &str) -> Option<Type<'s>> {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name).map(|(_, of)| of.clone());
        bound.or_else(|| self.scope.names.get(name).cloned())
    }

    fn visit(&mut self, expression: &IdedExpr) -> Found<'s> {
        match &expression.expr {
            Expr::Ident(name) => (self.ident(name), 1),
            Expr::Literal(literal) => (literal_type(literal), 0),
            Expr::Select(select) => {
                if let Some(of) = self.variable(&select.operand, &select.field) {
                    return (of, 1);
                }
                let (operand, cost) = self.visit(&select.operand);
                let field = self.field(&operand, &select.field);
                (if select.test { Type::Bool } else { field }, cost + 1)
            }
            Expr::List(list) => {
                let found: Vec<Found<'s>> = list.elements.iter().map(|item| self.visit(item)).collect();
                let cost = found.iter().map(|(_, cost)| cost).sum::<u64>() + 1;
                let first = found.first().map_or(Type::Dyn, |(of, _)| of.clone());
                let of = if found.iter().all(|(of, _)| *of == first) { first } else { Type::Dyn };
                (Type::List(Box::new(of), found.len() as u64), cost)
            }
            Expr::Map(map) => {
                let mut cost = 1;
                for entry in &map.entries {
                    if let kube_cel::cel::common::ast::EntryExpr::MapEntry(entry) = &entry.expr {
                        cost += self.visit(&entry.key).1 + self.visit(&entry.value).1;
                    }
                }
                (Type::Map(Box::new(Type::Dyn), map.entries.len() as u64), cost)
            }
            Expr::Comprehension(of) => self.comprehension(of),
            Expr::Call(call) => self.call(call),
            Expr::Struct(of) => {
                let why = format!("undeclared reference to '{}' (in container '')", of.type_name);
                self.wrong([&of.type_name, ""], why);
                (Type::Dyn, 1)
            }
            Expr::Unspecified => (Type::Dyn, 0),
        }
    }

    fn ident(&mut self, name: &str) -> Type<'s> {
        if let Some(of) = self.named(name) {
            return of;
        }
        if name == "authorizer" {
            self.wrong([name, ""], "authorizer is not known to this API server: use RBAC".to_owned());
        } else if !TYPES.contains(&name) {
            self.wrong([name, ""], format!("undeclared reference to '{name}' (in container '')"));
        }
        Type::Dyn
    }

    /// `variables.x`.
    fn variable(&mut self, operand: &IdedExpr, field: &str) -> Option<Type<'s>> {
        let variables = self.scope.variables.as_ref()?;
        if !matches!(&operand.expr, Expr::Ident(name) if name == "variables") {
            return None;
        }
        if !variables.contains_key(field) {
            self.wrong([&format!("variables.{field}"), ""], format!("undefined field '{field}'"));
        }
        Some(Type::Dyn)
    }

    fn field(&mut self, operand: &Type<'s>, field: &str) -> Type<'s> {
        let near = [format!(".{field}"), format!(".?{field}")];
        let near = [near[0].as_str(), near[1].as_str()];
        match operand {
            Type::Object(fields) => match fields.get(field) {
                Some(schema) => return Type::of(schema),
                None => self.wrong(near, format!("undefined field '{field}'")),
            },
            Type::Fields(fields) => match fields.iter().find(|(name, _)| *name == field) {
                Some((_, inner)) if !inner.is_empty() => return Type::Names(inner),
                Some(_) => {}
                None => self.wrong(near, format!("undefined field '{field}'")),
            },
            Type::Names(names) if names.contains(&field) => {}
            Type::Names(_) => self.wrong(near, format!("undefined field '{field}'")),
            Type::Map(of, _) => return (**of).clone(),
            Type::Dyn | Type::Null => {}
            other => {
                self.wrong(near, format!("type '{}' does not support field selection", other.name()));
            }
        }
        Type::Dyn
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Found<'s> {
        let (range, range_cost) = self.visit(&of.iter_range);
        let (accumulated, init_cost) = self.visit(&of.accu_init);
        let (item, turns) = match range {
            Type::List(item, size) => (*item, size),
            Type::Map(_, size) => (Type::String, size),
            _ => (Type::Dyn, 1),
        };
        // Loops collect into lists of what is not known here; `cel.bind` keeps what it binds.
        let collected = match accumulated {
            Type::List(..) if turns > 0 => Type::List(Box::new(Type::Dyn), turns),
            other => other,
        };
        let of_result = match &of.result.expr {
            Expr::Ident(name) if *name == of.accu_var => Some(collected.clone()),
            _ => None,
        };
        let known = self.bound.len();
        self.bound.push((of.accu_var.clone(), collected));
        let result = self.visit(&of.result);
        self.bound.push((of.iter_var.clone(), item));
        let step = self.visit(&of.loop_cond).1.saturating_add(self.visit(&of.loop_step).1);
        self.bound.truncate(known);
        let cost = range_cost + init_cost + result.1;
        (of_result.unwrap_or(result.0), cost.saturating_add(turns.saturating_mul(step)))
    }

    fn call(&mut self, call: &CallExpr) -> Found<'s> {
        let name = call.func_name.as_str();
        let is_operator = name.starts_with(['_', '!', '-', '@']);
        if let (
            operators::OPT_SELECT,
            [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(field)), .. }],
        ) = (name, call.args.as_slice())
        {
            let (of, cost) = self.visit(operand);
            self.field(&of, field.inner());
            return (Type::Dyn, cost + 1);
        }
        let mut cost = 1u64;
        let mut function = name.to_owned();
        let mut receiver = None;
        match call.target.as_deref() {
            // Functions with a prefix, such as `math.greatest`.
            Some(IdedExpr { expr: Expr::Ident(prefix), .. })
                if self.named(prefix).is_none()
                    && is_function(&self.scope.functions, &format!("{prefix}.{name}")) =>
            {
                function = format!("{prefix}.{name}");
            }
            Some(target) => {
                let (of, more) = self.visit(target);
                cost = cost.saturating_add(more);
                receiver = Some(of);
            }
            None => {}
        }
        let mut args = Vec::new();
        for arg in &call.args {
            let (of, more) = self.visit(arg);
            cost = cost.saturating_add(more);
            args.push(of);
        }
        if !is_operator && !matches!(name, "dyn") && !is_function(&self.scope.functions, &function) {
            let why = format!("undeclared reference to '{function}' (in container '')");
            self.wrong([&format!("{name}("), name], why);
        }
        if name == "matches"
            && let Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) =
                call.args.last()
            && !is_pattern(&self.scope.functions, pattern.inner())
        {
            self.wrong([pattern.inner(), ""], "invalid matches argument".to_owned());
        }
        self.operands(name, &args);
        (result(name, receiver.as_ref(), &args), cost)
    }

    fn operands(&mut self, name: &str, args: &[Type<'s>]) {
        let [left, right] = args else { return };
        let numbers = |of: &Type<'_>| matches!(of, Type::Int | Type::Double);
        let compared = matches!(
            name,
            operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
        );
        let open = |of: &Type<'_>| matches!(of, Type::Dyn | Type::Null);
        if compared
            && !open(left)
            && !open(right)
            && left.name() != right.name()
            && !(numbers(left) && numbers(right))
        {
            let why = format!(
                "found no matching overload for '{name}' applied to '({}, {})'",
                left.name(),
                right.name()
            );
            let sign = name.trim_matches('_');
            self.wrong([&format!(" {sign} "), sign], why);
        }
        if matches!(name, operators::LOGICAL_AND | operators::LOGICAL_OR) {
            for of in [left, right] {
                if !matches!(of, Type::Dyn | Type::Bool) {
                    self.wrong(["", ""], format!("expected type 'bool' but found '{}'", of.name()));
                }
            }
        }
    }
}

fn is_pattern(functions: &Context<'_>, pattern: &str) -> bool {
    let mut context = functions.new_inner_scope();
    context.add_variable_from_value("pattern", pattern.to_owned());
    let parsed = kube_cel::cel::parser::Parser::new().parse("''.matches(pattern)");
    parsed.is_ok_and(|asked| context.resolve(&asked).is_ok())
}

fn literal_type<'s>(literal: &LiteralValue) -> Type<'s> {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::Dyn,
    }
}

fn result<'s>(name: &str, receiver: Option<&Type<'s>>, args: &[Type<'s>]) -> Type<'s> {
    match (name, args) {
        (
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS
            | operators::LOGICAL_AND
            | operators::LOGICAL_OR
            | operators::LOGICAL_NOT
            | operators::IN
            | "matches"
            | "startsWith"
            | "endsWith"
            | "hasValue",
            _,
        ) => Type::Bool,
        ("size", _) => Type::Int,
        ("string", [_]) if receiver.is_none() => Type::String,
        ("lowerAscii" | "upperAscii" | "trim" | "replace" | "substring" | "join" | "format", _)
            if receiver.is_some() =>
        {
            Type::String
        }
        ("duration", [_]) => Type::Duration,
        ("timestamp", [_]) => Type::Timestamp,
        (operators::ADD, [Type::String, Type::String]) => Type::String,
        (
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO,
            [Type::Int, Type::Int],
        ) => Type::Int,
        (operators::CONDITIONAL, [_, yes, no]) if yes == no => yes.clone(),
        (operators::INDEX, [Type::List(of, _) | Type::Map(of, _), _]) => (**of).clone(),
        _ => Type::Dyn,
    }
}
