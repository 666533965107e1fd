//! The walk through an expression.

use kube_cel::cel::Context;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, StructExpr, operators,
};

use super::{Scope, Type, Wrong};
use crate::budget::TYPES;
use crate::functions::is_function;
use crate::made;

pub(super) struct Walk<'a, 's> {
    pub scope: &'a Scope<'s>,
    pub bound: Vec<(String, Type<'s>)>,
    pub errors: Vec<Wrong>,
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

    /// The type of an expression, and the steps that it may take.
    pub(super) fn visit(&mut self, expression: &IdedExpr) -> Found<'s> {
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
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        cost += self.visit(&entry.key).1 + self.visit(&entry.value).1;
                    }
                }
                (Type::Map(Box::new(Type::Dyn), map.entries.len() as u64), cost)
            }
            Expr::Comprehension(of) => self.comprehension(of),
            Expr::Call(call) => self.call(call),
            Expr::Struct(of) => self.made(of),
            Expr::Unspecified => (Type::Dyn, 0),
        }
    }

    fn made(&mut self, of: &StructExpr) -> Found<'s> {
        let name = of.type_name.as_str();
        let is_operation = name == made::OPERATION;
        let mut cost = 1u64;
        for field in made::fields(of) {
            let (value, more) = self.visit(&field.value);
            cost = cost.saturating_add(more);
            let of_field = field.field.as_str();
            if is_operation && !made::OPERATION_FIELDS.contains(&of_field) {
                self.wrong([of_field, ""], format!("undefined field '{of_field}'"));
            } else if is_operation && of_field != "value" && !matches!(value, Type::Dyn | Type::String) {
                let why = format!(
                    "expected type of field '{of_field}' is 'string' but provided type is '{}'",
                    value.name()
                );
                self.wrong([of_field, ""], why);
            }
        }
        let of_name = match name {
            _ if !self.scope.makes => None,
            made::OPERATION => Some(Type::Operation),
            made::OBJECT => Some(Type::Configuration),
            name => name.strip_prefix(made::OBJECT).filter(|rest| rest.starts_with('.')).map(|_| Type::Part),
        };
        let found = of_name.unwrap_or_else(|| {
            self.wrong([name, ""], format!("undeclared reference to '{name}' (in container '')"));
            Type::Dyn
        });
        (found, cost)
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
            Type::Operation if !made::OPERATION_FIELDS.contains(&field) => {
                self.wrong(near, format!("undefined field '{field}'"));
            }
            Type::Dyn | Type::Null | Type::Configuration | Type::Part | Type::Operation => {}
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
