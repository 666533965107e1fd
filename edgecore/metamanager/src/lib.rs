//! MetaManager: what this node holds of the cluster, and what it still has to tell it.
//!
//! ```text
//! down   edgehub --changes--> [intake: commit, then hand on] --> edged | devicetwin
//! up     edged | devicetwin --> [outbox: commit] --> edgehub        durable, replayed until answered
//!        edged | devicetwin --> [cloud] --> edgehub                 live, fails at once while the link is down
//! read   edged --> [queries: stored object first, then the cloud] --> cloud
//! ```
//!
//! Owns the tables `meta` and `outbox`. Promises: an object is handed on and acknowledged only after its commit; a
//! stored version never goes back; a submitted upstream message is sent until the cloud answers it; with a key ([sealed]),
//! secrets and tokens are on the disk only as that key reads them.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod cloud;
pub mod database;
pub mod intake;
pub mod objects;
pub mod outbox;
pub mod pushes;
pub mod queries;
pub mod reach;
pub mod reseal;
pub mod sealed;

pub use cloud::{Cloud, CloudCallError, LinkState};
pub use objects::{Change, ObjectChange, Objects, StoredObject};
pub use outbox::{Outbox, SubmitError};
pub use queries::{Queries, QueryError, Token};
pub use reach::{KnownPort, KnownService, KnownServices, Reach};
