//! Every recorded case of fields, zone and moment against the ticks that follow it.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use model::crontab::{Crontab, CrontabFields};
use serde::Deserialize;

const VECTORS: &str = include_str!("data/crontab.jsonl");

#[derive(Debug, Deserialize)]
struct Vector {
    id: u32,
    category: String,
    valid: bool,
    crontab: CrontabFields,
    tz: String,
    after: Option<DateTime<Utc>>,
    #[serde(default)]
    expected: Vec<DateTime<Utc>>,
}

fn failure(vector: &Vector) -> Option<String> {
    let crontab = match Crontab::parse(&vector.crontab) {
        Ok(_) if !vector.valid => return Some("accepted".into()),
        Err(_) if !vector.valid => return None,
        Err(errors) => return Some(errors.to_string()),
        Ok(crontab) => crontab,
    };
    let Some(after) = vector.after else { return Some("a valid vector without a moment".into()) };
    let Ok(zone) = vector.tz.parse::<Tz>() else { return Some("an unknown zone".into()) };
    let ticks: Vec<_> = crontab.ticks(zone, after).take(vector.expected.len()).collect();
    (ticks != vector.expected).then(|| format!("got {ticks:?}"))
}

#[test]
fn all_recorded_vectors_hold() {
    let vectors: Vec<Vector> = VECTORS.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(vectors.len(), 1_099);
    let failures = vectors.iter().filter_map(|vector| Some((vector, failure(vector)?)));
    let failures = failures.inspect(|(vector, failure)| eprintln!("{vector:?}: {failure}")).count();
    assert_eq!(failures, 0, "vectors failed; each is printed above");
    assert!(vectors.iter().any(|vector| vector.id == 9032 && vector.category == "day_gap"));
}
