//! The grammar of one field, and what is said about text that does not follow it.
//!
//! Comma-separated parts, each a number or name, or `*` or `a-b` with an optional `/step`; ranges may wrap around.
//! The messages are those that users of Celery's database scheduler know, followed by the whole part where they quote
//! only a piece of it.

use std::fmt;

/// One of the five fields of a crontab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrontabField {
    /// `minute`
    Minute,
    /// `hour`
    Hour,
    /// `day_of_month`
    DayOfMonth,
    /// `month_of_year`
    MonthOfYear,
    /// `day_of_week`
    DayOfWeek,
}

impl CrontabField {
    /// All fields, in the order in which they are written and reported.
    pub const ALL: [Self; 5] = [Self::Minute, Self::Hour, Self::DayOfMonth, Self::MonthOfYear, Self::DayOfWeek];

    /// The name of the field in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day_of_month",
            Self::MonthOfYear => "month_of_year",
            Self::DayOfWeek => "day_of_week",
        }
    }

    /// The greatest number of characters that its text may have.
    pub fn max_length(self) -> usize {
        match self {
            Self::Minute => 240,
            Self::Hour => 96,
            Self::DayOfMonth => 124,
            Self::MonthOfYear | Self::DayOfWeek => 64,
        }
    }

    /// The name of the field in messages.
    fn label(self) -> &'static str {
        match self {
            Self::Minute => "Minutes",
            Self::Hour => "Hours",
            Self::DayOfMonth => "Day of Month",
            Self::MonthOfYear => "Month",
            Self::DayOfWeek => "Day of Week",
        }
    }

    /// The least and the greatest number that may be written.
    fn bounds(self) -> (u64, u64) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::MonthOfYear => (1, 12),
            Self::DayOfWeek => (0, SUNDAY_AT_END),
        }
    }

    /// The whole names of its numbers, from the least on; a name's first three letters also stand for it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::MonthOfYear => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            _ => &[],
        }
    }
}

impl fmt::Display for CrontabField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Sunday's second number: where a range ends with it, that range ends after Saturday.
const SUNDAY_AT_END: u64 = 7;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// The set of numbers that a field selects, bit `n` standing for number `n`, or what is wrong with its first bad part.
pub(super) fn parse(field: CrontabField, text: &str) -> Result<u64, String> {
    let limit = field.max_length();
    if text.chars().nth(limit).is_some() {
        return Err(format!("Ensure this field has no more than {limit} characters."));
    }
    text.split(',').try_fold(0, |set, part| Ok(set | parse_part(field, part)?))
}

fn parse_part(field: CrontabField, part: &str) -> Result<u64, String> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => field.bounds(),
        // A part such as `-1` is a bad number rather than a range without a start.
        Some((first, last)) if !first.is_empty() => (number(field, first, part)?, number(field, last, part)?),
        _ if step.is_some() => return Err(in_part(format!("Unknown cron range value \"{range}\""), range, part)),
        _ => {
            let number = number(field, part, part)?;
            (number, number)
        }
    };
    let step = step.map_or(Ok(1), |step| parse_step(step, part))?;
    Ok(numbers_of_range(field, first, last, step))
}

/// The numbers from `first` to `last`, around the end of the cycle if need be, one in every `step`.
fn numbers_of_range(field: CrontabField, first: u64, last: u64, step: usize) -> u64 {
    let (least, greatest) = field.bounds();
    let (first, last, cycle) = match field {
        CrontabField::DayOfWeek if first == SUNDAY_AT_END => (0, last % SUNDAY_AT_END, SUNDAY_AT_END),
        CrontabField::DayOfWeek => (first, last, SUNDAY_AT_END),
        _ => (first, last, greatest - least + 1),
    };
    let last = if last < first { last + cycle } else { last };
    (first..=last).step_by(step).fold(0, |set, number| set | 1 << (least + (number - least) % cycle))
}

/// A step; one beyond the longest range counts as such, as it leaves nothing but the first number anyway.
fn parse_step(text: &str, part: &str) -> Result<usize, String> {
    match digits(text) {
        Some(0) => Err(in_part("Sequence can not be divided by zero or max".to_owned(), text, part)),
        Some(step) => Ok(usize::try_from(step).map_or(usize::from(u8::MAX), |step| step.min(usize::from(u8::MAX)))),
        None => Err(in_part(format!("Bad step '{text}'"), text, part)),
    }
}

/// A number or name that `field` knows; `part` is where it stands.
fn number(field: CrontabField, text: &str, part: &str) -> Result<u64, String> {
    let (least, greatest) = field.bounds();
    let label = field.label();
    let reason = match digits(text).or_else(|| named(field, text)) {
        Some(number) if (least..=greatest).contains(&number) => return Ok(number),
        Some(_) => format!("'{text}', not in {least}-{greatest} for {label}"),
        None if field.names().is_empty() => format!("\"No enumeration for {label}: '{text}'\""),
        None => format!("Unrecognised {label}: '{text}'"),
    };
    Err(in_part(reason, text, part))
}

/// The value of text that is nothing but ASCII digits, huge ones cut off.
fn digits(text: &str) -> Option<u64> {
    let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| text.parse().unwrap_or(u64::MAX))
}

fn named(field: CrontabField, text: &str) -> Option<u64> {
    let is = |name: &&str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..3]);
    (field.bounds().0..).zip(field.names()).find(|(_, name)| is(name)).map(|(number, _)| number)
}

/// The reason, followed by the whole part unless `quoted`, which it quotes, is all of that.
fn in_part(reason: String, quoted: &str, part: &str) -> String {
    if quoted == part { reason } else { format!("{reason} in '{part}'") }
}
