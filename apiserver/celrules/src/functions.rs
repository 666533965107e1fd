//! Which functions there are.

use std::sync::Arc;
use std::time::Duration;

use kube_cel::cel::common::ast::{CallExpr, Expr, IdedExpr};
use kube_cel::cel::{Context, ExecutionError};
use tokio::time::Instant;

use crate::budget::Budget;

/// True if there is a function of this name, of a value or alone.
pub(crate) fn is_function(context: &Context<'_>, name: &str) -> bool {
    let call = CallExpr { func_name: name.to_owned(), target: None, args: vec![] };
    let asked = IdedExpr { id: 0, expr: Expr::Call(call) };
    !matches!(context.resolve(&asked), Err(ExecutionError::UndeclaredReference(unknown)) if *unknown == name)
}

/// A context to look for functions in.
pub(crate) fn functions() -> Context<'static> {
    let budget: Arc<Budget> = Budget::until(Instant::now() + Duration::from_secs(3600));
    budget.context()
}
