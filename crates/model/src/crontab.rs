//! Crontabs: five text fields parsed to sets of numbers, and the instants at which they fire.
//!
//! A [`Crontab`] is five bit sets, so it is cheap to copy, compare and hash, and two texts that mean the same are
//! equal. Day of month *and* day of week must match. How local times become instants is told in the `zone` module.

mod civil;
mod describe;
mod error;
mod field;
#[cfg(test)]
mod tests;
mod zone;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use error::{CrontabError, CrontabErrors};
pub use field::CrontabField;

/// The five fields of a crontab as its owner wrote them, which is how the API stores and shows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CrontabFields {
    /// Minutes, 0-59.
    pub minute: String,
    /// Hours, 0-23.
    pub hour: String,
    /// Days of the month, 1-31.
    pub day_of_month: String,
    /// Months, 1-12 or English names.
    pub month_of_year: String,
    /// Days of the week, 0-7 or English names; 0 and 7 are both Sunday.
    pub day_of_week: String,
}

impl Default for CrontabFields {
    /// Every minute.
    fn default() -> Self {
        let every = || "*".to_owned();
        Self { minute: every(), hour: every(), day_of_month: every(), month_of_year: every(), day_of_week: every() }
    }
}

impl CrontabFields {
    /// The text of one field.
    pub fn get(&self, field: CrontabField) -> &str {
        match field {
            CrontabField::Minute => &self.minute,
            CrontabField::Hour => &self.hour,
            CrontabField::DayOfMonth => &self.day_of_month,
            CrontabField::MonthOfYear => &self.month_of_year,
            CrontabField::DayOfWeek => &self.day_of_week,
        }
    }
}

/// A crontab that is known to fire: for each field the set of numbers it selects, bit `n` standing for number `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Crontab {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Bit 0 is Sunday; bit 7 is never set.
    weekdays: u64,
}

impl Crontab {
    /// Reads the five fields. The error names every bad field, and days that no selected month has.
    pub fn parse(fields: &CrontabFields) -> Result<Self, CrontabErrors> {
        let mut errors = Vec::new();
        let mut set = |field: CrontabField| match field::parse(field, fields.get(field)) {
            Ok(set) => Some(set),
            Err(reason) => {
                errors.push(CrontabError { field: Some(field), reason });
                None
            }
        };
        let (minutes, hours) = (set(CrontabField::Minute), set(CrontabField::Hour));
        let (days, months) = (set(CrontabField::DayOfMonth), set(CrontabField::MonthOfYear));
        let weekdays = set(CrontabField::DayOfWeek);
        if let (Some(days), Some(months)) = (days, months)
            && !civil::date_exists(days, months)
        {
            errors.push(CrontabError { field: None, reason: never_fires(fields) });
        }
        match (minutes, hours, days, months, weekdays) {
            (Some(minutes), Some(hours), Some(days), Some(months), Some(weekdays)) if errors.is_empty() => {
                Ok(Self { minutes, hours, days, months, weekdays })
            }
            _ => Err(CrontabErrors(errors)),
        }
    }

    /// The earliest instant strictly later than `after` at which this fires in `zone`.
    ///
    /// It composes: the ticks in (a, b] followed by those in (b, c] are the ticks in (a, c], wherever b falls.
    /// The search covers the years 1 to 9999, both by UTC and by local reading, so that every answer can be written
    /// as RFC 3339: an earlier `after` counts as the last second before them, and `None` means that they are over.
    /// The zone data knows no daylight saving after 2099.
    pub fn next_after(&self, zone: Tz, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let from = after.timestamp().saturating_add(1).max(zone::FIRST);
        let tick = zone::first_tick(self, zone, from).filter(|tick| *tick <= zone::LAST)?;
        DateTime::from_timestamp(tick, 0)
    }

    /// All instants later than `after` at which this fires in `zone`, in order.
    pub fn ticks(&self, zone: Tz, after: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> + use<> {
        let crontab = *self;
        std::iter::successors(crontab.next_after(zone, after), move |tick| crontab.next_after(zone, *tick))
    }
}

impl TryFrom<&CrontabFields> for Crontab {
    type Error = CrontabErrors;

    fn try_from(fields: &CrontabFields) -> Result<Self, CrontabErrors> {
        Self::parse(fields)
    }
}

/// The edition of the IANA time zone database that ticks are computed with, for example `2025b`.
pub fn tzdb_version() -> &'static str {
    chrono_tz::IANA_TZDB_VERSION
}

fn never_fires(fields: &CrontabFields) -> String {
    let CrontabFields { day_of_month, month_of_year, .. } = fields;
    format!("Never fires: no month of month_of_year '{month_of_year}' has a day of day_of_month '{day_of_month}'")
}
