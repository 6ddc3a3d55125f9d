//! The search for the next matching local time, without any notion of a time zone.
//!
//! Local times are counted in seconds since 1970-01-01T00:00:00 as a clock on the wall shows them.

use chrono::{Datelike, NaiveDate, NaiveDateTime};

use super::Crontab;

const MINUTES_PER_HOUR: i64 = 60;
const MINUTES_PER_DAY: i64 = 24 * MINUTES_PER_HOUR;
/// The last year that RFC 3339 can write.
const LAST_YEAR: i32 = 9999;
/// The greatest length of each month; index 0 is unused.
const MONTH_LENGTHS: [u32; 13] = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
/// Bits 0, 7, 14, 21, 28 and 35: multiplied with a week it repeats that week for more than a month.
const WEEKS: u64 = 0x8_1020_4081;

/// Whether any of the days (bits 1-31) is ever a date in any of the months (bits 1-12).
///
/// Weekdays need no look: in the 400 years after which the calendar repeats, each date meets all seven of them.
pub(super) fn date_exists(days: u64, months: u64) -> bool {
    (1..=12).any(|month| months >> month & 1 == 1 && days & up_to(MONTH_LENGTHS[month]) != 0)
}

/// The set of the numbers from 0 to `last`.
fn up_to(last: u32) -> u64 {
    (2 << last) - 1
}

impl Crontab {
    /// Whether this local reading, to the minute, is one that it names.
    pub(crate) fn matches_local(&self, local: NaiveDateTime) -> bool {
        let local = local.and_utc().timestamp();
        let minute = local - local.rem_euclid(60);
        self.next_local(minute) == Some(minute)
    }

    /// Whether neither day of month nor day of week is left open, so that each takes days from the other.
    pub(crate) fn restricts_both_days(&self) -> bool {
        self.days & up_to(31) & !1 != up_to(31) & !1 && self.weekdays & up_to(6) != up_to(6)
    }

    /// The first matching local time at or after `from`, always a whole minute; none after [`LAST_YEAR`].
    pub(super) fn next_local(&self, from: i64) -> Option<i64> {
        let minute = from.div_euclid(60) + i64::from(from.rem_euclid(60) > 0);
        let (today, of_day) = (minute.div_euclid(MINUTES_PER_DAY), minute.rem_euclid(MINUTES_PER_DAY));
        let day = self.next_day(today)?;
        if day == today
            && let Some(of_day) = self.next_minute(of_day)
        {
            return Some((day * MINUTES_PER_DAY + of_day) * 60);
        }
        let day = if day == today { self.next_day(today + 1)? } else { day };
        Some((day * MINUTES_PER_DAY + self.next_minute(0)?) * 60)
    }

    /// The first matching minute of a day at or after minute `from` of that day.
    fn next_minute(&self, from: i64) -> Option<i64> {
        let (hour, minute) = (from / MINUTES_PER_HOUR, from % MINUTES_PER_HOUR);
        let minutes = self.minutes >> minute;
        if self.hours >> hour & 1 == 1 && minutes != 0 {
            return Some(from + i64::from(minutes.trailing_zeros()));
        }
        let hours = self.hours >> (hour + 1);
        let hour = hour + 1 + i64::from(hours.trailing_zeros());
        (hours != 0).then(|| hour * MINUTES_PER_HOUR + i64::from(self.minutes.trailing_zeros()))
    }

    /// The first matching day at or after day `from`, both counted from 1970-01-01.
    fn next_day(&self, from: i64) -> Option<i64> {
        let date = NaiveDate::from_epoch_days(i32::try_from(from).ok()?)?;
        let (mut year, mut month) = (date.year(), date.month());
        let mut candidates = u64::MAX << date.day();
        while year <= LAST_YEAR {
            if self.months >> month & 1 == 1 {
                let first = NaiveDate::from_ymd_opt(year, month, 1)?;
                let days = self.days_of(first) & candidates;
                if days != 0 {
                    return Some(i64::from(first.to_epoch_days()) + i64::from(days.trailing_zeros()) - 1);
                }
            }
            candidates = u64::MAX;
            (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        }
        None
    }

    /// The matching days, bits 1-31, of the month that starts at `first`.
    fn days_of(&self, first: NaiveDate) -> u64 {
        let weekdays = (self.weekdays * WEEKS) >> first.weekday().num_days_from_sunday() << 1;
        self.days & weekdays & up_to(u32::from(first.num_days_in_month()))
    }
}
