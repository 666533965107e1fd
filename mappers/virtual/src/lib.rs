//! A thermometer that exists only here: for trying out and testing the path from a device to the cloud.

mod thermometer;

pub use thermometer::Thermometer;
