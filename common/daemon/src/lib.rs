//! Life of a process: logs, signals, exit codes, memory, other programs, the wall clock, configuration files, private folders.

pub mod clock;
pub mod config;
pub mod errors;
pub mod exit;
pub mod health;
pub mod logs;
pub mod memory;
pub mod process;
pub mod stop;
