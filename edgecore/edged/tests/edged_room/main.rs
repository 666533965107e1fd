//! Edged with a runtime that runs nothing and a clock that stands still unless it is waited on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]
#![allow(clippy::disallowed_methods, reason = "a test waits for nobody else")]

mod decisions;
mod life;
mod lost;
mod machine;
mod node;
mod owners;
mod queries;
mod room;
mod statics;
mod volumes;
