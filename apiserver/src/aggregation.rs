//! Versions of groups that other servers serve, as APIServices say (`k8s.io/kube-aggregator`).
//!
//! ```text
//! commit of an APIService --set--> Services (who serves what, by version of a group)
//!   request   --hand_on--> its server, by TLS, with who asks in headers           503 while it is not available
//!   discovery <--listed--- what its server told when it was last asked
//!   probing   --asks each server--> condition `Available` of the APIService --commit-->
//!   registering: APIServices of what this server serves itself, those of definitions included
//! ```
//!
//! `Services` is [`crate::apiservices`]. Discovery and requests for others ask no server: one that is slow or gone is seen by those alone
//! who ask for what it serves.

pub(crate) mod probing;
mod proxy;
pub(crate) mod registering;

pub(crate) use proxy::hand_on;
