//! Life of a process: supervised rooms, work that blocks, logs, metrics, health, the service manager, signals, exit codes, memory, priority, rates, other
//! programs, the wall clock, configuration files.

#![deny(clippy::missing_errors_doc)]

pub mod backoff;
mod blocking;
pub mod clock;
pub mod config;
pub mod errors;
pub mod exit;
pub mod health;
pub mod log_file;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod monitor;
pub mod notify;
pub mod priority;
pub mod process;
pub mod rate;
pub mod rooms;
pub mod stop;
mod tasks;

pub use blocking::blocking;
pub use rooms::Rooms;
pub use tasks::spawn;
