//! Everything a mapper needs but its hardware: configuration, EdgeCore's DMI socket, the mapper's own socket, one task
//! per device, reports. A mapper author writes a [`Driver`] and a function that opens one for a [`Device`].
//!
//! ```text
//! EdgeCore --DMI--> service --> registry --(latest device)--> device task --> Driver
//!    ^                              ^                              |
//!    +---- link (registers) --------+         reporter <-----------+
//! ```

mod config;
mod device;
mod driver;
mod link;
mod registry;
mod report;
mod reporter;
mod runtime;
mod service;
mod task;

pub use config::{Config, Settings, load};
pub use device::{Device, Property};
pub use driver::{Driver, DriverError};
pub use runtime::{BuildError, Mapper};
