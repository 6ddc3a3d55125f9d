//! Durations as Django reads them: `3 04:05:06`, `05:06`, `30`, `7 days`, and ISO 8601's `P3DT4H5M6S`. Those below zero
//! are none here: nothing of ours can last so long.

use std::time::Duration;

pub(crate) const BAD_DURATION: &str =
    "Duration has wrong format. Use one of these formats instead: [DD] [HH:[MM:]]ss[.uuuuuu].";

const DAY: u64 = 24 * 3600;

/// Reads a duration.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    match text.strip_prefix('P').or_else(|| text.strip_prefix("+P")) {
        Some(rest) => parse_iso(rest),
        None => parse_standard(text),
    }
}

/// `[DD] [HH:[MM:]]ss[.uuuuuu]`; days may be named: `3 days, 04:05:06`.
fn parse_standard(text: &str) -> Option<Duration> {
    let (days, time) = match text.split_once(' ') {
        None => (0, text),
        Some((days, rest)) => {
            let rest = ["days,", "day,", "days", "day"].iter().find_map(|word| rest.strip_prefix(word)).unwrap_or(rest);
            (whole(days)?, rest.trim_start())
        }
    };
    let clock = if time.is_empty() && days > 0 { Duration::ZERO } else { parse_clock(time)? };
    Duration::from_secs(days.checked_mul(DAY)?).checked_add(clock)
}

fn parse_clock(text: &str) -> Option<Duration> {
    let mut parts = text.rsplit(':');
    let seconds = fraction(parts.next()?)?;
    let minutes = parts.next().map_or(Some(0), whole)?;
    let hours = parts.next().map_or(Some(0), whole)?;
    if parts.next().is_some() {
        return None;
    }
    let whole = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    Duration::from_secs(whole).checked_add(seconds)
}

/// What follows the `P`: days, then after a `T` hours, minutes and seconds.
fn parse_iso(text: &str) -> Option<Duration> {
    let (date, time) = text.split_once('T').map_or((text, None), |(date, time)| (date, Some(time)));
    if (date.is_empty() && time.is_none()) || time.is_some_and(str::is_empty) {
        return None;
    }
    let mut total = Duration::ZERO;
    let rest = take(date, 'D', DAY, &mut total)?;
    let left = match time {
        None => rest,
        Some(time) if rest.is_empty() => {
            let time = take(time, 'H', 3600, &mut total)?;
            let time = take(time, 'M', 60, &mut total)?;
            take(time, 'S', 1, &mut total)?
        }
        Some(_) => return None,
    };
    left.is_empty().then_some(total)
}

/// Adds the number before `unit`, if there is one, and gives what follows.
fn take<'a>(text: &'a str, unit: char, seconds: u64, total: &mut Duration) -> Option<&'a str> {
    let Some((number, rest)) = text.split_once(unit) else { return Some(text) };
    let amount = fraction(number)?.as_secs_f64() * f64::from(u32::try_from(seconds).ok()?);
    *total = total.checked_add(Duration::try_from_secs_f64(amount).ok()?)?;
    Some(rest)
}

fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// Digits, with a fraction after a point or a comma.
fn fraction(text: &str) -> Option<Duration> {
    let (seconds, rest) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    whole(rest)?;
    let nanoseconds = format!("{:0<9}", rest.get(..rest.len().min(6))?).parse().ok()?;
    Some(Duration::new(whole(seconds)?, nanoseconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_django_does() {
        let seconds = |text: &str| parse(text).map(|duration| duration.as_secs_f64());
        for (text, expected) in [
            ("30", 30.0),
            ("30.5", 30.5),
            ("15:30", 930.0),
            ("10:15:30", 36_930.0),
            ("4 15:30", 4.0 * 86_400.0 + 930.0),
            ("4 days, 10:15:30", 4.0 * 86_400.0 + 36_930.0),
            ("1 day 0:00:00", 86_400.0),
            ("30 00:00:00", 30.0 * 86_400.0),
            ("90 days", 90.0 * 86_400.0),
            ("P4DT1H", 4.0 * 86_400.0 + 3_600.0),
            ("P0.5D", 43_200.0),
            ("PT5H30M", 19_800.0),
            ("PT0.000005S", 0.000_005),
            ("0", 0.0),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
        for text in
            ["", "x", "-1", "1:2:3:4", "1e3", "P", "PT", "P1DT", "P1W", "PT1D", "4 4 4", "1 x", "9".repeat(30).as_str()]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "[P0-9DTHMS:., dayx-]{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_django_writes_is_read_back(days in 0u64..36_500, seconds in 0u64..86_400) {
            let text = format!("{days} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
            prop_assert_eq!(parse(&text), Some(Duration::from_secs(days * 86_400 + seconds)));
        }
    }
}
