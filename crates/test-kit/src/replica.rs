//! One process of a distributed stack: a microservice's own binary, which tests start, stop, freeze and kill.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};

/// How long a process may take to be ready, in a debug build on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// One process, running or not; killed when dropped.
#[derive(Debug)]
pub struct Replica {
    name: String,
    binary: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    address: SocketAddr,
    admin_address: SocketAddr,
    process: Option<Child>,
}

impl Replica {
    pub(crate) fn new(name: String, binary: PathBuf, log: PathBuf, environment: Vec<(String, String)>) -> Self {
        let (address, admin_address) = (free_address(), free_address());
        Self { name, binary, log, environment, address, admin_address, process: None }
    }

    /// Its microservice and number, as `agent-runner-2`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its part of the public API is, if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where health, metrics and internal routes are.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address)
    }

    /// One more variable of its environment, from its next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// A variable of its environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The id of its process, while it runs.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().and_then(Child::id)
    }

    /// What it wrote since its first start.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts it, where it was before; does not wait.
    ///
    /// # Errors
    ///
    /// There is no such binary.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let process = Command::new(&self.binary)
            .env("CARILLON__HTTP__ADMIN_LISTEN", self.admin_address.to_string())
            .env("CARILLON__HTTP__LISTEN", self.address.to_string())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}: build it first", self.binary.display()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// It ends, or is not ready in time; with what it says of itself.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let mut said = String::new();
        let ready = async {
            loop {
                if let Some(process) = &mut self.process
                    && let Some(status) = process.try_wait()?
                {
                    let log = self.log();
                    bail!("{} ended with {status}: {}", self.name, log.lines().last().unwrap_or_default());
                }
                match ask(&format!("http://{}/readyz", self.admin_address)).await {
                    Ok((true, _)) => return Ok(()),
                    Ok((false, body)) => said = body,
                    Err(error) => said = format!("{error:#}"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let waited = tokio::time::timeout(READY_WITHIN, ready).await;
        waited.unwrap_or_else(|_| bail!("{} is not ready after {READY_WITHIN:?}: {said}", self.name))
    }

    /// The sum of a counter over all its labels, since its present process began.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn counted(&self, metric: &str) -> anyhow::Result<f64> {
        let (_, text) = ask(&format!("{}/metrics", self.admin_url())).await?;
        let is_of = |line: &&str| line.starts_with(metric) && line[metric.len()..].starts_with(['{', ' ']);
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        Ok(text.lines().filter(is_of).filter_map(value).sum())
    }

    /// SIGSTOP: it stands still and notices nothing.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub async fn freeze(&self) -> anyhow::Result<()> {
        self.signal("STOP").await
    }

    /// SIGCONT.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub async fn wake(&self) -> anyhow::Result<()> {
        self.signal("CONT").await
    }

    /// SIGKILL: it dies where it stands.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        Ok(process.kill().await?)
    }

    /// SIGTERM, and its exit code once it has drained.
    ///
    /// # Errors
    ///
    /// It does not run, or does not end.
    pub async fn stop(&mut self) -> anyhow::Result<Option<i32>> {
        self.signal("TERM").await?;
        let mut process = self.process.take().with_context(|| format!("{} does not run", self.name))?;
        let ended = tokio::time::timeout(READY_WITHIN, process.wait()).await;
        Ok(ended.with_context(|| format!("{} does not end", self.name))??.code())
    }

    async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.process.as_ref().and_then(Child::id).with_context(|| format!("{} does not run", self.name))?;
        let sent = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status().await?;
        ensure!(sent.success(), "kill -{name} {id} failed");
        Ok(())
    }
}

/// Whether it answered with success, and the body.
async fn ask(url: &str) -> anyhow::Result<(bool, String)> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
    let answer = client.get(url).send().await?;
    Ok((answer.status().is_success(), answer.text().await?))
}

/// An address that nobody has, below the ports that clients get, so that it stays free between two starts.
///
/// # Panics
///
/// The host has no address.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 8_000).unwrap_or_default();
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 8_000;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener.local_addr().unwrap_or_else(|error| panic!("no address: {error}"));
        }
    }
}
