//! What a process finds when it examines itself, for `carillon doctor`.
//!
//! Each microservice examines what it owns ([`Microservice::examine`](crate::process::Microservice)), with its own
//! database, keys and clock, and changes nothing. What takes two of them to find, whoever asks compares.

use std::pin::Pin;
use std::sync::Arc;

use actix_web::{HttpResponse, web};
use chrono::TimeDelta;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;
use serde_json::json;

use crate::clock::Clock;
use crate::database::{Db, DbConnection};
use crate::error::chain;
use crate::process::Routes;
use crate::secrets::KeyRing;

/// How far a host's clock may be off the database's.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::seconds(2);
/// What is due for longer than this is stuck.
pub const STUCK_AFTER: TimeDelta = TimeDelta::minutes(5);

/// Something that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// A sentence.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Finding {
    /// Something that is wrong, and what to do about it.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// How many secrets in a column are sealed with a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// The table and its column.
    pub column: String,
    /// The key's id.
    pub key: String,
    /// How many.
    pub secrets: i64,
    /// Whether the key is configured here; the one that seals, is.
    pub configured: bool,
    /// Whether it is the one that seals.
    pub seals: bool,
}

/// What an examination brought.
#[derive(Debug, Default)]
pub struct Examination {
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is sealed with which key.
    pub sealed: Vec<Sealed>,
}

/// Examines a microservice.
pub type Examine = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = anyhow::Result<Examination>> + Send>> + Send + Sync>;

/// Makes an examination of a function.
pub fn examine<F>(examination: impl Fn() -> F + Send + Sync + 'static) -> Examine
where
    F: Future<Output = anyhow::Result<Examination>> + Send + 'static,
{
    Arc::new(move || Box::pin(examination()))
}

/// What is wrong with any microservice's database: it is newer than the program, or its clock is another.
///
/// # Errors
///
/// The database does not answer.
pub async fn of_database(db: &Db, clock: &Clock) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if let Some(version) = db.newer_schema().await? {
        findings.push(Finding::new(
            format!("a newer version has migrated the database, to {version}"),
            "finish the upgrade: replace this process by one of the newer version",
        ));
    }
    let offset = if clock.is_host() { db.clock_offset(clock).await? } else { TimeDelta::zero() };
    if offset.abs() > CLOCKS_DIFFER_MAX {
        findings.push(Finding::new(
            format!("the database's clock is {:.1} s ahead of this host's", offset.as_seconds_f64()),
            "set both right, as with chrony: while they differ by more than two seconds nothing fires here",
        ));
    }
    Ok(findings)
}

/// Counts what is sealed in these columns, as (table, column), by key.
///
/// # Errors
///
/// The database does not answer.
pub fn sealed(conn: &mut DbConnection, columns: &[(&str, &str)], keys: &KeyRing) -> QueryResult<Vec<Sealed>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        sealed_with: String,
        #[diesel(sql_type = BigInt)]
        secrets: i64,
    }
    let mut all = Vec::new();
    for (table, column) in columns {
        // An envelope: its version, the length of the key's id, the id.
        let key = match conn {
            DbConnection::Postgres(_) => format!("encode(substr({column}, 3, get_byte({column}, 1)), 'escape')"),
            DbConnection::Sqlite(_) => {
                format!("CAST(substr({column}, 3, unicode(CAST(substr({column}, 2, 1) AS TEXT))) AS TEXT)")
            }
        };
        let counted = format!(
            "SELECT {key} AS sealed_with, count(*) AS secrets FROM {table} WHERE length({column}) > 2 GROUP BY 1 ORDER BY 1"
        );
        for Row { sealed_with: key, secrets } in diesel::sql_query(counted).load::<Row>(conn)? {
            let (configured, seals) = (keys.key_ids().any(|id| id == key), keys.sealing_key() == key);
            all.push(Sealed { column: format!("{table}.{column}"), key, secrets, configured, seals });
        }
    }
    Ok(all)
}

/// What is wrong with these: nobody can open them.
#[must_use]
pub fn of_sealed(sealed: &[Sealed]) -> Vec<Finding> {
    let unknown = sealed.iter().filter(|one| !one.configured).map(|Sealed { column, key, secrets, .. }| {
        Finding::new(
            format!("{secrets} secrets in {column} are sealed with key `{key}`, which is not among `secrets.keys`"),
            format!(
                "add key `{key}` to `secrets.keys`, after the one that seals; if it is lost, set those secrets anew"
            ),
        )
    });
    unknown.collect()
}

/// The routes of a process: what it is, and what it finds.
pub(crate) fn routes(examines: Vec<(&'static str, Option<Examine>)>, clock: Clock) -> Routes {
    let doctor = web::Data::new(Doctor { examines, clock });
    Arc::new(move |config| {
        config.app_data(doctor.clone()).route("/doctor", web::get().to(get));
    })
}

struct Doctor {
    examines: Vec<(&'static str, Option<Examine>)>,
    clock: Clock,
}

/// `GET /internal/doctor`: examines everything here. It may take seconds.
async fn get(doctor: web::Data<Doctor>) -> HttpResponse {
    let (mut findings, mut sealed) = (Vec::new(), Vec::new());
    let with_owner = |microservice: &str, value: serde_json::Value| {
        let mut value = value;
        value["microservice"] = microservice.into();
        value
    };
    for (microservice, examine) in &doctor.examines {
        let Some(examine) = examine else { continue };
        let examination = examine().await.unwrap_or_else(|error| {
            let advice = "/readyz of its admin listener says what is away";
            Examination {
                findings: vec![Finding::new(format!("it cannot be examined: {}", chain(&*error)), advice)],
                sealed: Vec::new(),
            }
        });
        findings.extend(examination.findings.iter().map(|one| with_owner(microservice, json!(one))));
        sealed.extend(examination.sealed.iter().map(|one| with_owner(microservice, json!(one))));
    }
    let microservices: Vec<&str> = doctor.examines.iter().map(|(name, _)| *name).collect();
    HttpResponse::Ok().json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "microservices": microservices,
        "now": doctor.clock.now(),
        "findings": findings,
        "sealed": sealed,
    }))
}
