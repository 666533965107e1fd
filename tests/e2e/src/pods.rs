//! The table of pods: manifests of `tests/e2e/pods/<theme>/`, each with what the API has to show of it and what has to
//! be true inside its containers, run on a site of real processes.
//!
//! A file holds one row: the pod, objects it needs, and as its last document the steps (see [`case`]). Rows run side by
//! side, each is awaited by itself, and one run tells of every row that does not hold.
//! `CAUSEWAY_PODS=text` runs only the rows with that text in their name.

pub mod case;
pub mod facts;
pub mod matching;
pub mod peers;
mod row;
mod table;
mod watch;

pub use table::{rows, run, themes};
