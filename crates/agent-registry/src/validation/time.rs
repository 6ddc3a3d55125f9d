//! Moments as the original reads and writes them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Timelike, Utc};

/// What is said about anything else.
pub(crate) const BAD_DATETIME: &str = "Datetime has wrong format. Use one of these formats instead: \
                                       YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z].";

/// Reads a moment to the microsecond: without a zone it is UTC, a bare date is its midnight.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00"),
    };
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok().filter(|_| date.len() == 10)?;
    let (clock, offset_minutes) = split_zone(time.trim_end())?;
    let (hour, minute, second, micros) = read_clock(clock)?;
    let local: NaiveDateTime = date.and_hms_micro_opt(hour, minute, second, micros)?;
    let utc = local.checked_sub_signed(chrono::TimeDelta::minutes(offset_minutes))?.and_utc();
    (1..=9999).contains(&chrono::Datelike::year(&utc)).then_some(utc)
}

/// The part before the zone, and the zone's distance from UTC in minutes.
fn split_zone(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock.trim_end(), 0));
    }
    let Some(sign_at) = time.rfind(['+', '-']) else { return Some((time, 0)) };
    let (clock, zone) = time.split_at(sign_at);
    let digits: String = zone.chars().skip(1).filter(|char| *char != ':').collect();
    let hours: i64 = two_digits(digits.get(..2)?)?.into();
    let minutes: i64 = match digits.get(2..)? {
        "" => 0,
        minutes => two_digits(minutes)?.into(),
    };
    let distance = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
    Some((clock.trim_end(), if zone.starts_with('-') { -distance } else { distance }))
}

fn read_clock(clock: &str) -> Option<(u32, u32, u32, u32)> {
    let mut parts = clock.splitn(3, ':');
    let (hour, minute) = (two_digits(parts.next()?)?, two_digits(parts.next()?)?);
    let Some(seconds) = parts.next() else { return Some((hour, minute, 0, 0)) };
    let (seconds, fraction) = seconds.split_once(['.', ',']).unwrap_or((seconds, "0"));
    if fraction.is_empty() || fraction.len() > 12 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let micros: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some((hour, minute, two_digits(seconds)?, micros.parse().ok()?))
}

fn two_digits(text: &str) -> Option<u32> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Writes a moment: UTC with `Z`, microseconds only where there are any.
pub(crate) fn render(time: DateTime<Utc>) -> String {
    let format = if time.nanosecond() / 1_000 == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    time.to_rfc3339_opts(format, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form_that_the_original_takes() {
        for (text, expected) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01 00:00:00z", "2026-01-01T00:00:00Z"),
            ("2026-01-01T12:30", "2026-01-01T12:30:00Z"),
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z"),
            ("2026-01-01T02:00:00-0130", "2026-01-01T03:30:00Z"),
            ("2026-01-01T02:00:00+05", "2025-12-31T21:00:00Z"),
            ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.500000Z"),
            ("2026-01-01T00:00:00,1234567Z", "2026-01-01T00:00:00.123456Z"),
            ("2024-02-29T23:59:59.999999Z", "2024-02-29T23:59:59.999999Z"),
        ] {
            assert_eq!(parse(text).map(render).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_no_moment() {
        for text in [
            "",
            "zz",
            "2026-13-01",
            "2026-02-30T00:00:00Z",
            "2026-1-1",
            "2026-01-01T24:00:00Z",
            "2026-01-01T10",
            "2026-01-01T10:00:61Z",
            "2026-01-01T10:00:00.Z",
            "2026-01-01T10:00:00+25:00",
            "0001-01-01T00:00:00+05:00",
            "2026-01-01T10:00:00Z and more",
            "1767225600",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(micros in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            proptest::prop_assert_eq!(parse(&render(time)), Some(time));
        }

        #[test]
        fn no_text_is_too_strange(text: String, near in "[0-9TZ:+. -]{0,32}") {
            let _ = (parse(&text), parse(&near));
        }
    }
}
