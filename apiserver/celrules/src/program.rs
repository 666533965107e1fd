//! Expressions: parsed, completed by what the parser does not know, and made to look at the clock.

use std::{mem, panic};

use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, operators,
};
use kube_cel::cel::parser::Parser;
use kube_cel::cel::{Context, ExecutionError, Value};

use crate::budget::{Budget, TICK};
use crate::made;
use crate::types::{Checked, Scope};

/// Bytes of an expression.
pub(crate) const LONGEST: usize = 16 * 1024;
/// Brackets within brackets, which the parser would give up on after a long time.
const NESTED: usize = 90;
/// Expressions within expressions.
const DEEPEST: usize = 250;
/// Characters of what is told of an error.
const TOLD: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    #[error("the expression is longer than {LONGEST} bytes")]
    TooLong,
    #[error("expression nesting exceeds the limit of {DEEPEST}")]
    TooDeep,
    #[error("{0}")]
    Syntax(String),
    /// What is said of names, fields and operands.
    #[error("{0}")]
    Type(String),
}

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Program {
    text: String,
    expression: IdedExpr,
}

impl Program {
    /// Parses and checks an expression. Recursive: call it on a thread of a [`crate::Runner`].
    ///
    /// # Errors
    /// What kube-apiserver puts behind `compilation failed: `.
    pub(crate) fn compile(text: &str, scope: &Scope<'_>) -> Result<(Program, Checked), ProgramError> {
        if text.len() > LONGEST {
            return Err(ProgramError::TooLong);
        }
        if brackets(text) > NESTED {
            return Err(ProgramError::TooDeep);
        }
        // The parser counts wrongly where it gives up on what is too deep, and panics over it.
        let parse = || Parser::new().enable_optional_syntax(true).parse(text);
        let parsed = panic::catch_unwind(parse).map_err(|_| ProgramError::TooDeep)?;
        let mut expression = parsed.map_err(|error| ProgramError::Syntax(error.to_string()))?;
        if depth(&expression) > DEEPEST {
            return Err(ProgramError::TooDeep);
        }
        each(&mut expression, &mut |expression| bind(expression));
        let checked = scope.check(text, &expression).map_err(ProgramError::Type)?;
        each(&mut expression, &mut meter);
        Ok((Program { text: text.trim().to_owned(), expression }, checked))
    }

    /// The text, without blanks around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of the expression.
    ///
    /// # Errors
    /// In the words of kube-apiserver, where they are known.
    pub(crate) fn value(&self, context: &Context<'_>, budget: &Budget) -> Result<Value, String> {
        budget.begin(&self.text);
        context.resolve(&self.expression).map_err(|error| told(&error))
    }
}

/// How deep brackets are nested; those in texts count as well.
fn brackets(text: &str) -> usize {
    let (mut open, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

fn told(error: &ExecutionError) -> String {
    let text = match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::NoSuchOverload => "no such overload".to_owned(),
        other => other.to_string(),
    };
    text.chars().take(TOLD).collect()
}

fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(of) => {
            vec![&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => {
            let pairs = map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => Some([&entry.key, &entry.value]),
                EntryExpr::StructField(_) => None,
            });
            pairs.flatten().collect()
        }
        Expr::Struct(of) => made::fields(of).map(|field| &field.value).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => vec![],
    }
}

fn children_mut(expression: &mut IdedExpr) -> Vec<&mut IdedExpr> {
    match &mut expression.expr {
        Expr::Call(call) => call.target.as_deref_mut().into_iter().chain(&mut call.args).collect(),
        Expr::Comprehension(of) => {
            let ComprehensionExpr { iter_range, accu_init, loop_cond, loop_step, result, .. } = &mut **of;
            vec![iter_range, accu_init, loop_cond, loop_step, result]
        }
        Expr::List(list) => list.elements.iter_mut().collect(),
        Expr::Select(select) => vec![&mut select.operand],
        Expr::Map(map) => {
            let pairs = map.entries.iter_mut().filter_map(|entry| match &mut entry.expr {
                EntryExpr::MapEntry(entry) => Some([&mut entry.key, &mut entry.value]),
                EntryExpr::StructField(_) => None,
            });
            pairs.flatten().collect()
        }
        Expr::Struct(of) => {
            let values = of.entries.iter_mut().filter_map(|entry| match &mut entry.expr {
                EntryExpr::StructField(field) => Some(&mut field.value),
                EntryExpr::MapEntry(_) => None,
            });
            values.collect()
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => vec![],
    }
}

/// Changes all parts, the inner ones first.
fn each(expression: &mut IdedExpr, change: &mut impl FnMut(&mut IdedExpr)) {
    children_mut(expression).into_iter().for_each(|child| each(child, change));
    change(expression);
}

fn depth(expression: &IdedExpr) -> usize {
    1 + children(expression).into_iter().map(depth).max().unwrap_or(0)
}

fn of(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn literal(value: bool) -> IdedExpr {
    of(Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    of(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

/// `cel.bind(name, value, result)` is a loop over nothing, as cel-go has it.
fn bind(expression: &mut IdedExpr) {
    let Expr::Call(CallExpr { func_name, target: Some(target), args }) = &mut expression.expr else { return };
    let is_bind = func_name == "bind" && matches!(&target.expr, Expr::Ident(name) if name == "cel");
    if let ([IdedExpr { expr: Expr::Ident(name), .. }, value, result], true) = (args.as_mut_slice(), is_bind)
    {
        let (value, result) = (mem::take(value), mem::take(result));
        expression.expr = Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range: of(Expr::List(ListExpr::new(vec![]))),
            iter_var: "#unused".to_owned(),
            iter_var2: None,
            accu_var: name.clone(),
            accu_init: value,
            loop_cond: literal(false),
            loop_step: of(Expr::Ident(name.clone())),
            result,
        }));
    }
}

/// The name under which a policy's variable is looked up.
pub(crate) fn variable(name: &str) -> String {
    format!("variables.{name}")
}

/// Structs become maps; loops ask for the time before each turn; `variables.x` becomes a name, so that it is evaluated when it is looked up; `dyn` is
/// for type checkers.
fn meter(expression: &mut IdedExpr) {
    match &mut expression.expr {
        Expr::Comprehension(of) => {
            let condition = mem::take(&mut of.loop_cond);
            let collected = IdedExpr { id: 0, expr: Expr::Ident(of.accu_var.clone()) };
            of.loop_cond = call(operators::LOGICAL_AND, vec![condition, call(TICK, vec![collected])]);
        }
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "variables") => {
            expression.expr = match select.test {
                true => literal(true).expr,
                false => Expr::Ident(variable(&select.field)),
            };
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == "dyn" && args.len() == 1 => {
            *expression = args.remove(0);
        }
        Expr::Struct(of) => expression.expr = Expr::Map(made::map(mem::take(of))),
        _ => {}
    }
}
