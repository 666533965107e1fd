//! The task of one device: opens its driver, writes desired values, reads and reports in cycles.
//!
//! ```text
//! opening --init ok--> serving --device changed in more than desired values--> opening
//!    ^  |fails: pause
//!    +--+                                       removed or stopped, from anywhere --> driver.stop, end
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dmi::v1beta1::{DeviceStatus, Twin};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::device::{Device, LONGEST_CYCLE};
use crate::driver::{Driver, DriverError};
use crate::report::Progress;
use crate::reporter::Reporter;

/// Pause after a driver could not be opened.
const REOPEN: Duration = Duration::from_secs(5);
/// How long a driver may take for one call before the task goes on without it.
const CALL: Duration = Duration::from_secs(10);

/// Last value reported of each property, for GetDevice.
pub(crate) type Twins = Arc<Mutex<BTreeMap<String, Twin>>>;

pub(crate) struct Task<F> {
    pub device: watch::Receiver<Arc<Device>>,
    pub open: Arc<F>,
    pub reporter: Reporter,
    pub twins: Twins,
    pub stop: CancellationToken,
}

/// Why serving ended.
enum Turn {
    Stopped,
    Reopen,
}

impl<F> Task<F> {
    pub(crate) async fn run<D>(mut self)
    where
        D: Driver,
        F: Fn(&Device) -> Result<D, DriverError> + Send + Sync,
    {
        while !self.stop.is_cancelled() {
            let device = self.device.borrow_and_update().clone();
            let mut driver = match self.open(&device).await {
                Ok(driver) => driver,
                Err(error) => {
                    tracing::warn!(namespace = device.namespace, name = device.name, error = %error, "device could not be opened");
                    self.pause().await;
                    continue;
                }
            };
            let turn = Serving::new(&self, device).run(&mut driver).await;
            let _ = tokio::time::timeout(CALL, driver.stop()).await;
            if matches!(turn, Turn::Stopped) {
                return;
            }
        }
    }

    async fn open<D>(&self, device: &Device) -> Result<D, DriverError>
    where
        D: Driver,
        F: Fn(&Device) -> Result<D, DriverError>,
    {
        let mut driver = (self.open)(device)?;
        in_time(driver.init(device)).await?;
        Ok(driver)
    }

    async fn pause(&mut self) {
        tokio::select! {
            biased;
            _ = self.stop.cancelled() => {}
            _ = self.device.changed() => {}
            _ = tokio::time::sleep(REOPEN) => {}
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
    match tokio::time::timeout(CALL, call).await {
        Ok(result) => result,
        Err(_) => Err(DriverError("driver did not answer in time".into())),
    }
}

/// One opened driver's time.
struct Serving {
    device: Arc<Device>,
    changes: watch::Receiver<Arc<Device>>,
    reporter: Reporter,
    twins: Twins,
    stop: CancellationToken,
    progress: Vec<Progress>,
    state_due: Instant,
}

impl Serving {
    fn new<F>(task: &Task<F>, device: Arc<Device>) -> Serving {
        let now = Instant::now();
        Serving {
            progress: device.properties.iter().map(|_| Progress::new(now)).collect(),
            device,
            changes: task.device.clone(),
            reporter: task.reporter.clone(),
            twins: task.twins.clone(),
            stop: task.stop.clone(),
            state_due: now,
        }
    }

    async fn run<D: Driver>(mut self, driver: &mut D) -> Turn {
        let stop = self.stop.clone();
        loop {
            let work = async {
                self.write_desired(driver).await;
                self.report_twins(driver).await;
                self.report_state(driver).await;
            };
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Turn::Stopped,
                () = work => {}
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                _ = stop.cancelled() => return Turn::Stopped,
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Turn::Stopped;
                    }
                    let next = self.changes.borrow_and_update().clone();
                    if !self.device.differs_only_in_desired(&next) {
                        return Turn::Reopen;
                    }
                    self.device = next;
                    self.look_again();
                }
                _ = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Makes properties with a new desired value due, so that the answer does not wait for the cycle.
    fn look_again(&mut self) {
        for (property, progress) in self.device.properties.iter().zip(&mut self.progress) {
            if progress.must_write(property) {
                progress.due = Instant::now();
            }
        }
    }

    fn next_due(&self) -> Instant {
        let properties = self.progress.iter().map(|progress| progress.due);
        let state = self.device.state_cycle.map(|_| self.state_due);
        properties.chain(state).min().unwrap_or_else(|| Instant::now() + LONGEST_CYCLE)
    }

    async fn write_desired<D: Driver>(&mut self, driver: &mut D) {
        let now = Instant::now();
        for (property, progress) in self.device.properties.iter().zip(&mut self.progress) {
            if !progress.must_write(property) || progress.due > now {
                continue;
            }
            match in_time(driver.write(property, &property.desired)).await {
                Ok(()) => progress.written = Some(property.desired.clone()),
                Err(error) => {
                    tracing::warn!(namespace = self.device.namespace, name = self.device.name, kind = property.name, error = %error, "desired value could not be written");
                }
            }
        }
    }

    async fn report_twins<D: Driver>(&mut self, driver: &mut D) {
        let now = Instant::now();
        let mut twins = Vec::new();
        let mut reported = Vec::new();
        for (at, (property, progress)) in self.device.properties.iter().zip(&mut self.progress).enumerate() {
            if progress.due > now {
                continue;
            }
            progress.due = now + property.collect_cycle;
            match in_time(driver.read(property)).await {
                Ok(value) => {
                    if let Some(twin) = progress.on_value(property, &value, daemon::clock::unix_ms()) {
                        twins.push(twin);
                        reported.push(at);
                    }
                }
                Err(error) => {
                    tracing::warn!(namespace = self.device.namespace, name = self.device.name, kind = property.name, error = %error, "property could not be read");
                }
            }
        }
        if twins.is_empty() {
            return;
        }
        self.remember(&twins);
        let status = DeviceStatus { twins, ..DeviceStatus::default() };
        if !self.reporter.twins(&self.device.namespace, &self.device.name, status).await {
            reported.into_iter().for_each(|at| self.progress[at].on_lost());
        }
    }

    fn remember(&self, twins: &[Twin]) {
        let mut last = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        for twin in twins {
            last.insert(twin.property_name.clone(), twin.clone());
        }
    }

    async fn report_state<D: Driver>(&mut self, driver: &mut D) {
        let Some(cycle) = self.device.state_cycle else { return };
        if self.state_due > Instant::now() {
            return;
        }
        self.state_due = Instant::now() + cycle;
        if let Ok(state) = tokio::time::timeout(CALL, driver.state()).await {
            self.reporter.state(&self.device.namespace, &self.device.name, &state).await;
        }
    }
}
