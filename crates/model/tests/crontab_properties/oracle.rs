//! Ticks by trying minute after minute: slow, written from the text of the rules, with nothing of the product's code
//! but the five texts.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use model::crontab::CrontabFields;

/// The numbers that each field selects.
pub(crate) struct Oracle([BTreeSet<u32>; 5]);

impl Oracle {
    /// For fields that are known to be well-formed.
    pub(crate) fn new(fields: &CrontabFields) -> Self {
        Self([
            selected(&fields.minute, 0, 59),
            selected(&fields.hour, 0, 23),
            selected(&fields.day_of_month, 1, 31),
            selected(&fields.month_of_year, 1, 12),
            selected(&fields.day_of_week, 0, 6),
        ])
    }

    /// Whether all five fields match.
    pub(crate) fn matches(&self, local: NaiveDateTime) -> bool {
        let weekday = local.weekday().num_days_from_sunday();
        [local.minute(), local.hour(), local.day(), local.month(), weekday]
            .iter()
            .zip(&self.0)
            .all(|(n, set)| set.contains(n))
    }

    /// All ticks in (from, to], both whole minutes.
    pub(crate) fn ticks(&self, zone: Tz, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let minute = TimeDelta::minutes(1);
        if self.0[1].len() == 24 {
            let instants = std::iter::successors(Some(from + minute), |t| Some(*t + minute)).take_while(|t| *t <= to);
            return instants.filter(|t| self.matches(t.with_timezone(&zone).naive_local())).collect();
        }
        let (first, last) = (from.naive_utc() - TimeDelta::days(2), to.naive_utc() + TimeDelta::days(2));
        let local_times = std::iter::successors(Some(first), |t| Some(*t + minute)).take_while(|t| *t <= last);
        let ticks = local_times.filter(|local| self.matches(*local)).map(|local| instant_of(zone, local));
        ticks.filter(|t| *t > from && *t <= to).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// The numbers of a field, by walking the ring of its values.
fn selected(text: &str, least: u32, greatest: u32) -> BTreeSet<u32> {
    let ring: Vec<u32> = (least..=greatest).collect();
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let walk = match range.split_once('-') {
            None if range == "*" => ring.clone(),
            None => vec![number(range, &ring)],
            Some((a, b)) if ring.len() == 7 && a != "7" && b == "7" => {
                // After Saturday comes the Sunday that ends the range.
                walk(&ring, number(a, &ring), 6).into_iter().chain([0]).collect()
            }
            Some((a, b)) => walk(&ring, number(a, &ring), number(b, &ring)),
        };
        set.extend(walk.into_iter().step_by(step.parse().expect("a step")));
    }
    set
}

fn walk(ring: &[u32], from: u32, to: u32) -> Vec<u32> {
    let mut walk = vec![from];
    let mut rest = ring.iter().copied().cycle().skip_while(|n| *n != from).skip(1);
    while walk.last() != Some(&to) {
        walk.extend(rest.next());
    }
    walk
}

fn number(text: &str, ring: &[u32]) -> u32 {
    match text.to_lowercase().get(..3) {
        Some("sun") => 0,
        Some("jan") => 1,
        Some("wed") => 3,
        Some("fri") => 5,
        Some("oct") => 10,
        _ if ring.len() == 7 && text == "7" => 0,
        _ => text.parse().expect("a number"),
    }
}

/// The first occurrence of a local time, or where the length of the gap that swallowed it shifts it to.
fn instant_of(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(t) => t.to_utc(),
        LocalResult::Ambiguous(a, b) => a.min(b).to_utc(),
        LocalResult::None => {
            let exists = |t: &NaiveDateTime| zone.from_local_datetime(t).latest();
            let earlier = (1..).find_map(|m| exists(&(local - TimeDelta::minutes(m)))).expect("a time before the gap");
            (local - earlier.offset().fix()).and_utc()
        }
    }
}
