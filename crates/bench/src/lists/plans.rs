//! How PostgreSQL read the tables: `auto_explain` writes every plan of this database into the server's log.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, RunQueryDsl, sql_types};

/// Tables that no list may read from end to end.
const TABLES: [&str; 4] = ["agents", "agent_activity", "logs", "log_bodies"];

/// The part of the log that begins with this.
pub(crate) struct Plans {
    log: PathBuf,
    from: usize,
}

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = sql_types::Text)]
    name: String,
}

impl Plans {
    /// From now on, new connections to this database have their plans written down.
    pub(crate) fn record(url: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::establish(url)?;
        connection.batch_execute(
            "DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database());
             END $$",
        )?;
        let directory = std::env::vars().find(|(name, _)| name == "CARILLON_SERVICES_DIR").map(|(_, value)| value);
        let directory = PathBuf::from(directory.unwrap_or_else(|| "target/local-services".to_owned()));
        let log = directory.join("postgres.log");
        let from = std::fs::read(&log).with_context(|| format!("no log at {}", log.display()))?.len();
        let server: Row = diesel::sql_query("SELECT version() AS name").get_result(&mut connection)?;
        eprintln!("{}", server.name);
        Ok(Self { log, from })
    }

    /// Fails if a table was read from end to end.
    pub(crate) fn verify(self) -> anyhow::Result<()> {
        let log = std::fs::read(&self.log)?;
        let log = String::from_utf8_lossy(log.get(self.from..).unwrap_or_default()).into_owned();
        let plans = log.matches("Query Text:").count();
        ensure!(plans > 100, "only {plans} plans were written down");
        let scans = sequential_scans(&log);
        ensure!(scans.is_empty(), "read from end to end:\n{}", scans.join("\n"));
        println!("\n{plans} plans, none of which reads a table from end to end.");
        Ok(())
    }
}

/// The queries whose plans have such a scan, searches apart.
fn sequential_scans(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    for plan in log.split("Query Text:").skip(1) {
        let query = plan.lines().next().unwrap_or_default();
        let scanned =
            TABLES.iter().any(|table| plan.lines().any(|line| line.contains(&format!("Seq Scan on {table} "))));
        if scanned && !query.contains(" LIKE ") && !found.iter().any(|known| known == query) {
            found.push(query.to_owned());
        }
    }
    found
}
