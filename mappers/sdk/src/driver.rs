//! What a mapper author writes.

use crate::{Device, Property};

/// Why a driver could not do what was asked. The runtime logs it and tries again in the next cycle.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DriverError(pub String);

/// One device's hardware. All calls come from one task, one after the other; a slow call delays only this device.
pub trait Driver: Send + 'static {
    /// Connects. Called before anything else, and again after a pause if it fails.
    fn init(&mut self, device: &Device) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// The value now, as text: integers decimal, floats shortest, booleans `true` or `false`.
    fn read(&mut self, property: &Property) -> impl Future<Output = Result<String, DriverError>> + Send;

    /// Sets a desired value. Called once per change, and again each cycle while it fails.
    fn write(
        &mut self,
        property: &Property,
        value: &str,
    ) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// `online`, `offline`, `ok`, `unknown`, or what the author likes.
    fn state(&mut self) -> impl Future<Output = String> + Send;

    /// Disconnects; the driver is dropped afterwards.
    fn stop(&mut self) -> impl Future<Output = ()> + Send;
}
