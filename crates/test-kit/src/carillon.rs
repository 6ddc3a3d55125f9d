//! The real binary, `carillon up`, on free ports.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::api::Api;

/// How long the process may take to be up, in a debug build on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(180);

/// How to start it, again and again over the same data.
#[derive(Debug, Clone)]
pub struct Setup {
    binary: PathBuf,
    data_dir: PathBuf,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// `binary` is the one under test; loopback receivers are allowed.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        let environment = [
            ("CARILLON__CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8"),
            ("CARILLON__TELEMETRY__LOG", "warn"),
            ("CARILLON__TELEMETRY__FORMAT", "json"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { binary: binary.into(), data_dir: data_dir.into(), environment }
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its clock shows the present time now, and runs `rate` times as fast from here on, over restarts too.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the test's own clock is where the faster one departs from")]
    pub fn with_clock_rate(self, rate: u32) -> Self {
        let now = chrono::Utc::now().to_rfc3339();
        self.with("CARILLON_TEST_CLOCK", &format!("{now},{rate}"))
    }

    /// Where it keeps what it has.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The log of every process so far: what it wrote to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data-dir").arg(&self.data_dir);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it, and waits until it is up.
    ///
    /// # Errors
    ///
    /// It ends or says nothing for minutes; with its log.
    pub async fn start(&self) -> anyhow::Result<Carillon> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let mut process = self
            .command(&["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let output = process.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let addresses = async {
            let mut url = None;
            while let Some(line) = lines.next_line().await? {
                let line = line.trim().to_owned();
                if let Some(address) = line.strip_prefix("API ") {
                    url = Some(address.trim().to_owned());
                } else if let (Some(url), Some(address)) = (&url, line.strip_prefix("admin ")) {
                    let admin = address.split_whitespace().next().unwrap_or_default().to_owned();
                    return Ok((url.clone(), admin));
                }
            }
            bail!("it ended: {}", self.log())
        };
        let (url, admin_url) = tokio::time::timeout(START_WITHIN, addresses).await.context("it is not up")??;
        Ok(Carillon { process, url, admin_url, setup: self.clone() })
    }

    /// A token of `carillon token`, valid for a year.
    ///
    /// # Errors
    ///
    /// The command fails.
    pub async fn token(&self, organisation: &str, user: &str, role: &str) -> anyhow::Result<String> {
        let arguments = ["token", "--user", user, "--org", organisation, "--role", role, "--ttl", "365d"];
        let output = self.command(&arguments).stderr(Stdio::inherit()).output().await?;
        ensure!(output.status.success(), "carillon token failed");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// What `carillon ledger verify` prints of its data.
    ///
    /// # Errors
    ///
    /// A tick is missing, double or unexplained.
    pub async fn verify_ledger(&self) -> anyhow::Result<String> {
        let output = self.command(&["ledger", "verify"]).stderr(Stdio::inherit()).output().await?;
        let printed = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "carillon ledger verify: {printed}");
        Ok(printed)
    }
}

/// A running `carillon up`; killed when dropped.
#[derive(Debug)]
pub struct Carillon {
    process: Child,
    url: String,
    admin_url: String,
    setup: Setup,
}

impl Carillon {
    /// Where the API listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where health and metrics are.
    #[must_use]
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// A tenant administrator's view of the API.
    ///
    /// # Errors
    ///
    /// There is no token to be had.
    pub async fn api(&self, organisation: &str, user: &str) -> anyhow::Result<Api> {
        let token = self.setup.token(organisation, user, "tenant_admin").await?;
        Api::new(&self.url, organisation, user, &token)
    }

    /// SIGKILL: it dies where it stands.
    ///
    /// # Errors
    ///
    /// The system does not let us.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }

    /// SIGTERM, and its exit code once it has drained.
    ///
    /// # Errors
    ///
    /// It does not end within minutes.
    pub async fn stop(mut self) -> anyhow::Result<Option<i32>> {
        let id = self.process.id().context("it has ended already")?;
        let asked = Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        ensure!(asked.success(), "kill -TERM {id} failed");
        let status = tokio::time::timeout(START_WITHIN, self.process.wait()).await.context("it does not end")??;
        Ok(status.code())
    }
}
