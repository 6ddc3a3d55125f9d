//! The distributed stack: every microservice a process of its own, any number of each, over PostgreSQL and RabbitMQ.
//!
//! Each stack has databases, a virtual host, keys and ports of its own, and a clock that may run fast. When a test
//! fails, the last warnings of every process are shown, and all logs and databases are kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl};
use tempfile::TempDir;
use tokio::process::Command;

use crate::api::Api;
use crate::backends::Backends;
use crate::replica::Replica;
use crate::services::{Services, output};

/// How many warnings of each process a failed test shows.
const LINES_SHOWN: usize = 12;

/// Microservices with a database.
const WITH_DATABASE: [&str; 4] = ["agent-registry", "cron-dispatcher", "callback-deliverer", "service-registry"];

/// How to start a stack.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where the binaries are; `CARILLON_BIN_DIR` overrides it.
    pub binaries: PathBuf,
    /// How many of each microservice.
    pub replicas: Vec<(&'static str, usize)>,
    /// How fast its clock runs from the start on. Anything but 1 needs binaries with a test clock.
    pub clock_rate: u32,
    /// More of the configuration: of this microservice, this variable (as `DISPATCHER__WINDOW`), this value.
    pub settings: Vec<(&'static str, &'static str, String)>,
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    replicas: BTreeMap<&'static str, Vec<Replica>>,
    databases: BTreeMap<&'static str, String>,
    services: Services,
    virtual_host: String,
    binaries: PathBuf,
    anchor: DateTime<Utc>,
    clock_rate: u32,
    folder: TempDir,
    // Last, so that the processes are gone before their databases go.
    backends: Option<Backends>,
}

impl Stack {
    /// Starts every process, and waits until all are ready.
    ///
    /// # Errors
    ///
    /// There are no servers or binaries, or a process does not get ready.
    pub async fn start(plan: Plan) -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let services = Services::of_environment()?;
        let backends = Backends::of_environment();
        ensure!(backends.is_postgres(), "CARILLON_TEST_POSTGRES_URL is not set: see deploy/local/services.sh env");
        let virtual_host = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        services.add_virtual_host(&virtual_host).await?;
        let binaries = std::env::vars().find(|(name, _)| name == "CARILLON_BIN_DIR");
        let mut stack = Self {
            replicas: BTreeMap::new(),
            databases: WITH_DATABASE.map(|name| (name, backends.database(name))).into(),
            services,
            virtual_host,
            binaries: binaries.map_or(plan.binaries, |(_, path)| path.into()),
            anchor: host_now(),
            clock_rate: plan.clock_rate,
            folder: tempfile::tempdir()?,
            backends: Some(backends),
        };
        for (name, count) in plan.replicas {
            stack.add(name, count).await?;
        }
        for (microservice, name, value) in plan.settings {
            for replica in stack.replicas.get_mut(microservice).into_iter().flatten() {
                replica.set(&format!("CARILLON__{name}"), &value);
            }
        }
        stack.introduce_peers();
        for replica in stack.replicas.values_mut().flatten() {
            replica.start()?;
        }
        stack.all_ready().await?;
        Ok(stack)
    }

    /// Who asks another microservice, asks the first of it.
    fn introduce_peers(&mut self) {
        for (asking, peer, variable) in [
            ("agent-registry", "cron-dispatcher", "CRON_DISPATCHER"),
            ("agent-registry", "callback-deliverer", "CALLBACK_DELIVERER"),
            ("agent-runner", "service-registry", "SERVICE_REGISTRY"),
        ] {
            let Some(url) = self.replicas(peer).first().map(Replica::admin_url) else { continue };
            for replica in self.replicas.get_mut(asking).into_iter().flatten() {
                replica.set(&format!("CARILLON__PEERS__{variable}_URL"), &url);
            }
        }
    }

    async fn add(&mut self, name: &'static str, count: usize) -> anyhow::Result<()> {
        let mut environment = self.keys(name).await?;
        let mut set = |name: &str, value: String| environment.push((format!("CARILLON__{name}"), value));
        set("TELEMETRY__LOG", "info".to_owned());
        set("TELEMETRY__FORMAT", "json".to_owned());
        if name != "cron-dispatcher" {
            set("CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned());
        }
        set("BUS__URL", self.services.amqp_url(&self.virtual_host));
        if let Some(url) = self.databases.get(name) {
            set("DATABASE__URL", url.clone());
        }
        if self.clock_rate != 1 {
            let clock = format!("{},{}", self.anchor.to_rfc3339(), self.clock_rate);
            environment.push(("CARILLON_TEST_CLOCK".to_owned(), clock));
        }
        let replicas = (1..=count).map(|number| {
            let instance = format!("{name}-{number}");
            let log = self.folder.path().join(format!("{instance}.log"));
            Replica::new(instance, self.binaries.join(name), log, environment.clone())
        });
        self.replicas.insert(name, replicas.collect());
        Ok(())
    }

    async fn keys(&self, name: &str) -> anyhow::Result<Vec<(String, String)>> {
        let printed = self.carillon(&["keys", "env", name]).await?;
        let variables = printed.split("export ").filter(|text| !text.is_empty()).map(|text| {
            let (name, value) = text.split_once("='").context("no variable")?;
            let (value, _) = value.rsplit_once('\'').context("no value")?;
            Ok((name.to_owned(), value.to_owned()))
        });
        variables.collect()
    }

    async fn carillon(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.binaries.join("carillon"));
        command.args(arguments).arg("--data-dir").arg(self.folder.path().join("keys"));
        Ok(String::from_utf8(output(&mut command).await?.stdout)?)
    }

    /// Waits until every process that was started is ready.
    ///
    /// # Errors
    ///
    /// One is not.
    pub async fn all_ready(&mut self) -> anyhow::Result<()> {
        for replica in self.replicas.values_mut().flatten() {
            replica.ready().await?;
        }
        Ok(())
    }

    /// One process, by its microservice and its number from 1 on.
    ///
    /// # Panics
    ///
    /// There is none.
    pub fn replica(&mut self, name: &str, number: usize) -> &mut Replica {
        let found = self.replicas.get_mut(name).and_then(|replicas| replicas.get_mut(number - 1));
        found.unwrap_or_else(|| panic!("there is no {name}-{number}"))
    }

    /// All processes of one microservice.
    pub fn replicas(&self, name: &str) -> &[Replica] {
        self.replicas.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where the database of a microservice is.
    #[must_use]
    pub fn database(&self, microservice: &str) -> &str {
        &self.databases[microservice]
    }

    /// The servers that it stands on.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// The broker's part that is its own.
    #[must_use]
    pub fn virtual_host(&self) -> &str {
        &self.virtual_host
    }

    /// A tenant administrator's view of the API, through one of the registries.
    ///
    /// # Errors
    ///
    /// There is no token to be had.
    pub async fn api(&mut self, organisation: &str, user: &str, registry: usize) -> anyhow::Result<Api> {
        let arguments = ["token", "--user", user, "--org", organisation, "--role", "tenant_admin", "--ttl", "365d"];
        let token = self.carillon(&arguments).await?;
        Api::new(&self.replica("agent-registry", registry).url(), organisation, user, token.trim())
    }

    /// What its clock shows.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let elapsed = host_now() - self.anchor;
        self.anchor + TimeDelta::microseconds(elapsed.num_microseconds().unwrap_or(0) * i64::from(self.clock_rate))
    }

    /// The column `value`, of integers, of every row that a statement finds in the database of one microservice.
    ///
    /// # Errors
    ///
    /// The database is away, or does not understand.
    pub async fn query(&self, microservice: &str, statement: &str) -> anyhow::Result<Vec<i64>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = BigInt)]
            value: i64,
        }
        let (url, statement) = (self.databases[microservice].clone(), statement.to_owned());
        let rows = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<Row>> {
            let mut connection = PgConnection::establish(&url)?;
            Ok(diesel::sql_query(statement).load(&mut connection)?)
        });
        Ok(rows.await??.into_iter().map(|row| row.value).collect())
    }

    /// What `carillon ledger verify` prints of the dispatcher's database.
    ///
    /// # Errors
    ///
    /// A tick is missing, double or unexplained.
    pub async fn verify_ledger(&self) -> anyhow::Result<String> {
        let mut command = Command::new(self.binaries.join("carillon"));
        command.args(["ledger", "verify", "--url", &self.databases["cron-dispatcher"]]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "carillon ledger verify: {printed}");
        Ok(printed)
    }

    /// Writes a dump of a microservice's database, as an operator would for a backup.
    ///
    /// # Errors
    ///
    /// `pg_dump` fails.
    pub async fn dump(&self, microservice: &str) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join(format!("{microservice}.sql"));
        let url = &self.databases[microservice];
        output(Command::new("pg_dump").args(["--no-owner", "--dbname", url, "--file"]).arg(&path)).await?;
        Ok(path)
    }

    /// Puts a dump in the place of a microservice's database. Its processes must be stopped.
    ///
    /// # Errors
    ///
    /// `psql` fails.
    pub async fn restore(&self, microservice: &str, dump: &Path) -> anyhow::Result<()> {
        let url = &self.databases[microservice];
        let (server, name) = url.rsplit_once('/').context("the URL names no database")?;
        let psql = |database: String| {
            let mut command = Command::new("psql");
            command.args(["-qX", "-v", "ON_ERROR_STOP=1", "--dbname", &database]);
            command
        };
        let anew = [format!("DROP DATABASE {name} WITH (FORCE)"), format!("CREATE DATABASE {name}")];
        output(psql(format!("{server}/postgres")).args(anew.iter().flat_map(|statement| ["-c", statement]))).await?;
        output(psql(url.clone()).arg("--file").arg(dump)).await.map(drop)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.folder.disable_cleanup(true);
        std::mem::forget(self.backends.take());
        for replica in self.replicas.values().flatten() {
            let log = replica.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"INFO\"")).collect();
            eprintln!("---- {}: {} warnings and errors, at last", replica.name(), lines.len());
            lines[lines.len().saturating_sub(LINES_SHOWN)..].iter().for_each(|line| eprintln!("{line}"));
        }
        let databases = self.databases.values().map(|url| url.rsplit('/').next().unwrap_or_default());
        let databases: Vec<&str> = databases.collect();
        eprintln!("---- kept: logs {}, databases {}", self.folder.path().display(), databases.join(", "));
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own clock is where the faster one departs from")]
fn host_now() -> DateTime<Utc> {
    Utc::now()
}
