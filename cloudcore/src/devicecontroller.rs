//! DeviceController: devices and their models down, membership notices with them; twins and states up into
//! DeviceStatus (docs/protocol/devices.md section 2).

mod downstream;
mod inventory;
pub mod upstream;

pub use downstream::{Devices, WATCHED};
pub use upstream::Stamp;
