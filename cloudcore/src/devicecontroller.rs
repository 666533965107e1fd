//! DeviceController: devices and their models down, membership notices with them; twins and states up into
//! DeviceStatus (docs/protocol/devices.md section 2).
//!
//! ```text
//! watches -> [downstream: inventory, index] -> desired sets of connected nodes
//!                  | new devices
//!                  v
//!            [statuses] -> a DeviceStatus for each, at a modest rate
//! reports of nodes -> [upstream] -> DeviceStatus
//! ```

mod downstream;
mod index;
mod inventory;
mod missing;
mod outline;
mod statuses;
pub mod upstream;
mod written;

pub use downstream::{Devices, WATCHED};
pub use written::Stamp;
