//! `temperature` wanders up and down, `threshold` is what was desired, `alarm` is `temperature > threshold`.

use std::collections::BTreeMap;

use mapper_sdk::{Device, Driver, DriverError, Property};
use serde_json::Value;

/// Degrees between the start and the turning point.
const SPAN: f64 = 5.0;

/// One device. Properties with other names answer what was last written to them.
pub struct Thermometer {
    start: f64,
    step: f64,
    /// Steps made in the triangle.
    steps: u32,
    threshold: f64,
    written: BTreeMap<String, String>,
}

impl Thermometer {
    /// Reads `start` (default 20.0) and `step` (default 0.1) of the protocol's configData.
    pub fn open(device: &Device) -> Result<Thermometer, DriverError> {
        Ok(Thermometer {
            start: number(device, "start", 20.0)?,
            step: number(device, "step", 0.1)?.abs(),
            steps: 0,
            threshold: f64::INFINITY,
            written: BTreeMap::new(),
        })
    }

    fn temperature(&self) -> f64 {
        if self.step == 0.0 {
            return self.start;
        }
        let way = ((SPAN / self.step).ceil() as u32).max(1);
        let position = self.steps % (2 * way);
        let distance = if position <= way { position } else { 2 * way - position };
        // Rounded to what a reader expects of tenths: 20.3, not 20.299999.
        ((self.start + f64::from(distance) * self.step) * 1000.0).round() / 1000.0
    }
}

/// A number, or a text that holds one.
fn number(device: &Device, key: &str, default: f64) -> Result<f64, DriverError> {
    let bad = |given: &Value| DriverError(format!("configData.{key}: {given} is not a number"));
    match device.protocol.get(key) {
        None => Ok(default),
        // DMI carries fractions in 32 bits; through text, 0.1 stays 0.1.
        Some(given @ (Value::Number(_) | Value::String(_))) => {
            let text = given.as_str().map_or_else(|| given.to_string(), str::to_owned);
            let parsed = text.parse::<f32>().ok().filter(|number| number.is_finite());
            parsed.ok_or_else(|| bad(given))?.to_string().parse().map_err(|_| bad(given))
        }
        Some(given) => Err(bad(given)),
    }
}

impl Driver for Thermometer {
    async fn init(&mut self, _: &Device) -> Result<(), DriverError> {
        Ok(())
    }

    async fn read(&mut self, property: &Property) -> Result<String, DriverError> {
        match property.name.as_str() {
            "temperature" => {
                let now = self.temperature();
                self.steps = self.steps.wrapping_add(1);
                Ok(now.to_string())
            }
            "alarm" => Ok((self.temperature() > self.threshold).to_string()),
            name => Ok(self.written.get(name).cloned().unwrap_or_default()),
        }
    }

    async fn write(&mut self, property: &Property, value: &str) -> Result<(), DriverError> {
        match property.name.as_str() {
            "temperature" | "alarm" => return Err(DriverError(format!("{} is measured", property.name))),
            "threshold" => {
                let number = value.parse().ok().filter(|number: &f64| number.is_finite());
                self.threshold =
                    number.ok_or_else(|| DriverError(format!("threshold {value:?} is not a number")))?;
            }
            _ => {}
        }
        self.written.insert(property.name.clone(), value.to_owned());
        Ok(())
    }

    async fn state(&mut self) -> String {
        "online".into()
    }

    async fn stop(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn device(protocol: Value) -> Device {
        Device {
            namespace: "default".into(),
            name: "t".into(),
            protocol: protocol.as_object().cloned().unwrap(),
            properties: Vec::new(),
            state_cycle: None,
        }
    }

    fn property(name: &str) -> Property {
        Property {
            name: name.into(),
            kind: "string".into(),
            is_writable: true,
            desired: String::new(),
            visitor: serde_json::Map::new(),
            collect_cycle: Duration::from_secs(1),
            is_reported: true,
        }
    }

    #[tokio::test]
    async fn the_temperature_is_a_triangle() {
        let config = serde_json::json!({"start": 10, "step": "2.5"});
        let mut thermometer = Thermometer::open(&device(config)).unwrap();
        let mut values = Vec::new();
        for _ in 0..6 {
            values.push(thermometer.read(&property("temperature")).await.unwrap());
        }
        assert_eq!(values, ["10", "12.5", "15", "12.5", "10", "12.5"]);
        let fraction = serde_json::json!({"start": 20.1_f32, "step": 0.1_f32});
        let mut thermometer = Thermometer::open(&device(fraction)).unwrap();
        assert_eq!(thermometer.read(&property("temperature")).await.unwrap(), "20.1");
        assert_eq!(thermometer.read(&property("temperature")).await.unwrap(), "20.2");
    }

    #[tokio::test]
    async fn the_alarm_follows_the_threshold_and_other_properties_echo() {
        let mut thermometer = Thermometer::open(&device(serde_json::json!({}))).unwrap();
        assert_eq!(thermometer.read(&property("alarm")).await.unwrap(), "false");
        thermometer.write(&property("threshold"), "19.5").await.unwrap();
        assert_eq!(thermometer.read(&property("alarm")).await.unwrap(), "true");
        assert_eq!(thermometer.read(&property("threshold")).await.unwrap(), "19.5");
        thermometer.write(&property("note"), "hello").await.unwrap();
        assert_eq!(thermometer.read(&property("note")).await.unwrap(), "hello");
        assert!(thermometer.write(&property("threshold"), "hot").await.is_err());
        assert!(Thermometer::open(&device(serde_json::json!({"start": true}))).is_err());
    }
}
