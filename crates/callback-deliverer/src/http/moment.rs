//! Moments as every answer of the API shows them.

use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use serde::{Serialize, Serializer};
use service_kit::database::Timestamp;

/// A moment that is shown: UTC with `Z`, microseconds only where there are any, and then all six digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(DateTime<Utc>);

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self(*time)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let format = if self.0.nanosecond() / 1_000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
        serializer.serialize_str(&self.0.to_rfc3339_opts(format, true))
    }
}
