//! May a user do what a request asks for: members of `system:masters` anything, others what roles give them.

use apimachinery::Status;
use apimachinery::rbac::Attributes;
use kubeapi::user::User;

use crate::context::Context;

/// Why `user` may do this; 403 if he may not.
pub(crate) fn reason(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<String, Status> {
    context.roles.decide(user, asked).ok_or_else(|| asked.forbidden(&user.name))
}

/// 403 unless `user` may do this.
pub(crate) fn authorise(context: &Context, user: &User, asked: &Attributes<'_>) -> Result<(), Status> {
    reason(context, user, asked).map(drop)
}
