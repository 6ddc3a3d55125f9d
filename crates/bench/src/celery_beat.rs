//! django-celery-beat on the same work and the same servers: `peers/celery-beat`, in a Python environment of its own
//! under `target/`.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, ensure};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection};
use serde::Deserialize;
use tokio::process::Command;

/// What its harness prints.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    scheduled: usize,
    dispatched: usize,
    beat_is_alive: bool,
    pub(crate) per_second: f64,
    pub(crate) late_p99_ms: f64,
}

impl Measured {
    /// What it is called beside our figures: also how far it came, where its ten minutes were too few.
    pub(crate) fn name(&self) -> String {
        let Self { scheduled, dispatched, .. } = self;
        if dispatched == scheduled {
            return "django-celery-beat".to_owned();
        }
        format!("django-celery-beat, {dispatched} of {scheduled} in ten minutes")
    }
}

/// Lets it dispatch so many tasks that are due at one minute.
pub(crate) async fn measure(count: usize) -> anyhow::Result<Measured> {
    let variable =
        |name: &str| std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value).context("unset");
    let server = variable("CARILLON_TEST_POSTGRES_URL").context("CARILLON_TEST_POSTGRES_URL")?;
    let broker = variable("CARILLON_TEST_AMQP_URL").context("CARILLON_TEST_AMQP_URL")?;
    let (host, _) = server.rsplit_once('/').context("CARILLON_TEST_POSTGRES_URL names no database")?;
    PgConnection::establish(&server)?.batch_execute("DROP DATABASE IF EXISTS celery_beat WITH (FORCE)")?;
    PgConnection::establish(&server)?.batch_execute("CREATE DATABASE celery_beat")?;
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(crate_dir.join("peers/celery-beat/run.sh"))
        .arg(count.to_string())
        .env("DATABASE_URL", format!("{host}/celery_beat"))
        .env("AMQP_URL", broker)
        .env("PEER_HOME", crate_dir.join("../../target/celery-beat"))
        .stderr(Stdio::inherit())
        .output()
        .await?;
    PgConnection::establish(&server)?.batch_execute("DROP DATABASE celery_beat WITH (FORCE)")?;
    ensure!(ran.status.success(), "peers/celery-beat/run.sh failed: {}", ran.status);
    let printed = String::from_utf8(ran.stdout)?;
    let measured: Measured = serde_json::from_str(printed.lines().last().context("it printed nothing")?)?;
    ensure!(measured.dispatched > 0 && measured.beat_is_alive, "it ended too early: {measured:?}");
    eprintln!("django-celery-beat: {measured:?}");
    Ok(measured)
}
