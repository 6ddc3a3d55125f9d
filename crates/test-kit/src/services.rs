//! The private PostgreSQL and RabbitMQ of `deploy/local/services.sh`, to be broken and mended by a test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use tokio::process::Command;

const DIRECTORY: &str = "CARILLON_SERVICES_DIR";
const AMQP_URL: &str = "CARILLON_TEST_AMQP_URL";

/// The servers of this test run.
#[derive(Debug, Clone)]
pub struct Services {
    script: PathBuf,
    directory: PathBuf,
    amqp_url: String,
}

/// What can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL, stopped as by a crash.
    Postgres,
    /// RabbitMQ, stopped.
    RabbitMq,
    /// RabbitMQ, stopped, and all that it stored removed.
    BrokerData,
}

impl Services {
    /// Those that the environment names.
    ///
    /// # Errors
    ///
    /// It names none, or not those of a directory of their own: nobody else's are to be broken.
    pub fn of_environment() -> anyhow::Result<Self> {
        let variable = |name: &str| {
            let found = std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value);
            found.filter(|value| !value.is_empty()).with_context(|| {
                format!(
                    "{name} is not set: run one of `make test-distributed`, `test-faults`, `bench`: they start servers"
                )
            })
        };
        let (directory, amqp_url) = (variable(DIRECTORY)?.into(), variable(AMQP_URL)?);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/services.sh");
        Ok(Self { script, directory, amqp_url })
    }

    /// Where they keep what they have.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The broker, at a virtual host.
    #[must_use]
    pub fn amqp_url(&self, virtual_host: &str) -> String {
        let base = self.amqp_url.rsplit_once('/').map_or(self.amqp_url.as_str(), |(base, _)| base);
        format!("{base}/{virtual_host}")
    }

    /// Makes a virtual host that the user of Carillon may use.
    ///
    /// # Errors
    ///
    /// The broker refuses.
    pub async fn add_virtual_host(&self, name: &str) -> anyhow::Result<()> {
        self.broker(&["add_vhost", name]).await?;
        self.broker(&["set_permissions", "-p", name, "carillon", ".*", ".*", ".*"]).await?;
        Ok(())
    }

    /// Stops a server.
    ///
    /// # Errors
    ///
    /// It does not stop.
    pub async fn break_down(&self, server: Server) -> anyhow::Result<()> {
        let name = match server {
            Server::Postgres => "postgres",
            Server::RabbitMq => "rabbitmq",
            Server::BrokerData => "broker-data",
        };
        self.run(&["break", name]).await.map(drop)
    }

    /// Starts what is not running.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub async fn mend(&self) -> anyhow::Result<()> {
        self.run(&["up"]).await.map(drop)
    }

    /// `rabbitmqctl`; what it printed.
    ///
    /// # Errors
    ///
    /// It failed.
    pub async fn broker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments: Vec<&str> = [&["ctl"], arguments].concat();
        Ok(String::from_utf8(self.run(&arguments).await?.stdout)?)
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        output(Command::new(&self.script).args(arguments)).await
    }
}

/// Runs a command to its end, and fails if that was none.
pub(crate) async fn output(command: &mut Command) -> anyhow::Result<Output> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let first = command.as_std().get_args().next().unwrap_or(OsStr::new("")).to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().await.with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {first} failed: {said}");
    Ok(output)
}
