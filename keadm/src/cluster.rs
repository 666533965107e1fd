//! Objects of a cluster, as `keadm init` applies them and `keadm reset` removes them: requests by path, and whose an object is.

mod kind;
mod objects;
mod owner;

pub(crate) use kind::Kind;
pub(crate) use objects::Objects;
pub(crate) use owner::{SELECTOR, is_ours, title};
