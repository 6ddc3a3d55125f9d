//! How fast ticks are found: the mean and the longest time of a search. A measurement, not a check:
//! `cargo bench -p model --bench crontab`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use model::crontab::{Crontab, CrontabFields};

/// Minute, hour, day of month, month, day of week; dense, usual, rare and hard to find.
const CRONTABS: [&str; 8] = [
    "* * * * *",
    "*/5 * * * *",
    "30 2 * * *",
    "*/20 1-3 * * *",
    "0 9 * * mon-fri",
    "0 0 13 * fri",
    "0 * 1 1 *",
    "0 12 29 2 mon",
];
const ZONES: [Tz; 5] =
    [Tz::UTC, Tz::Europe__Berlin, Tz::Australia__Lord_Howe, Tz::Africa__Casablanca, Tz::Pacific__Apia];

fn parse(text: &str) -> Crontab {
    let mut fields = text.split(' ').map(String::from);
    let mut next = || fields.next().expect("five fields");
    let (minute, hour, day_of_month) = (next(), next(), next());
    let fields = CrontabFields { minute, hour, day_of_month, month_of_year: next(), day_of_week: next() };
    Crontab::parse(&fields).expect("a crontab")
}

/// The mean time of a search from moments 97 minutes and 13 seconds apart, and the longest of the fastest of three.
fn measure(crontab: Crontab, zone: Tz, start: DateTime<Utc>) -> (Duration, Duration) {
    const SEARCHES: u32 = 50_000;
    let moments = || (0..SEARCHES).map(|i| start + Duration::from_secs(5833) * i);
    let begin = Instant::now();
    moments().for_each(|after| {
        black_box(crontab.next_after(zone, after));
    });
    let mean = begin.elapsed() / SEARCHES;
    let fastest_of_three = |after| {
        let once = |_| {
            let begin = Instant::now();
            black_box(crontab.next_after(zone, after));
            begin.elapsed()
        };
        (0..3).map(once).min().unwrap_or_default()
    };
    (mean, moments().map(fastest_of_three).max().unwrap_or_default())
}

fn main() {
    for (start, zones) in [("2026-01-01T00:00:00Z", &ZONES[..]), ("2092-03-01T00:00:00Z", &ZONES[..1])] {
        let start = start.parse().expect("RFC 3339");
        for zone in zones {
            for text in CRONTABS {
                let (mean, longest) = measure(parse(text), *zone, start);
                println!("{start} {zone:24} {text:16} mean {mean:>9.1?} longest {longest:>9.1?}");
            }
        }
    }
}
