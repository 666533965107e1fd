//! What the rooms of edged are built on: its settings, the host, the clock, what is known of the runtime, events.
//!
//! ```text
//! settings, clock  <-  host  <-  machine, addresses, usage     runtime     events     owner     steady
//!                                        all of it  <-  base: one for all rooms
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod addresses;
pub mod base;
pub mod clock;
pub mod events;
pub mod host;
pub mod machine;
pub mod owner;
pub mod runtime;
pub mod settings;
pub mod steady;
pub mod usage;

pub use settings::Settings;
