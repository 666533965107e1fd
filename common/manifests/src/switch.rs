//! Parts that are not in every installation.

/// Whether a part is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
    /// In a chart: if this expression is true when the chart is installed.
    When(&'static str),
}

impl Switch {
    /// `On` if `is_on`.
    pub fn of(is_on: bool) -> Switch {
        if is_on { Switch::On } else { Switch::Off }
    }

    /// False if the part is in no case there.
    pub fn is_there(&self) -> bool {
        *self != Switch::Off
    }
}
