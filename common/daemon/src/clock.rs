//! The one place that reads the wall clock.

use jiff::Timestamp;

/// Now, as Kubernetes' timestamps need it.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Unix time in seconds.
pub fn unix_seconds() -> i64 {
    now().as_second()
}

/// Unix time in milliseconds, the unit of message headers.
pub fn unix_ms() -> i64 {
    now().as_millisecond()
}

/// RFC 3339 in UTC with whole seconds (`metav1.Time`).
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 in UTC with microseconds (`metav1.MicroTime`).
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_forms_kubernetes_writes() {
        let time = Timestamp::from_microsecond(1_795_222_389_718_984).unwrap();
        assert_eq!(rfc3339(time), "2026-11-21T00:53:09Z");
        assert_eq!(rfc3339_micro(time), "2026-11-21T00:53:09.718984Z");
    }
}
