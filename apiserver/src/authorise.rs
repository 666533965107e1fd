//! May a user do what a request asks for: members of `system:masters` anything, nodes what is about them, others what roles give
//! them.

pub(crate) mod node;

use apimachinery::Status;
use apimachinery::rbac::Attributes;
use kubeapi::user::User;

use crate::context::Context;

/// Why `user` may do this; `Err`: he may not, and why, if anybody says.
pub(crate) fn decide(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<String, String> {
    let why = match node::of(user).filter(|_| !user.is_master()) {
        None => String::new(),
        Some(name) => match node::decide(&context.graph, name, asked) {
            Ok(()) => return Ok(String::new()),
            Err(why) => why,
        },
    };
    context.roles.decide(user, asked).ok_or(why)
}

/// Why `user` may do this; 403 if he may not.
pub(crate) fn reason(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<String, Status> {
    decide(context, user, asked).map_err(|why| {
        let mut status = asked.forbidden(&user.name);
        if !why.is_empty() {
            status.message = format!("{}: {why}", status.message);
        }
        status
    })
}

/// 403 unless `user` may do this.
pub(crate) fn authorise(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<(), Status> {
    reason(context, user, asked).map(drop)
}
