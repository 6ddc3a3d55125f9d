//! Where the binaries and the servers are, and a place of a test's own among them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use test_kit::Backends;

/// How often a busy broker is asked for the same.
const TRIES: u32 = 10;

pub(crate) const CARILLON: &str = env!("CARGO_BIN_EXE_carillon");

/// A variable that `deploy/local/services.sh env` sets.
pub(crate) fn variable(name: &str) -> String {
    let found = std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value);
    found
        .unwrap_or_else(|| panic!("{name} is not set: run `make test`, or `deploy/local/services.sh run cargo test …`"))
}

/// What stands between the colon and the @ of a URL.
pub(crate) fn password(url: &str) -> String {
    let (credentials, _) = url.split_once("://").unwrap().1.split_once('@').unwrap();
    credentials.split_once(':').unwrap().1.to_owned()
}

/// Databases, a virtual host and keys of a test's own.
pub(crate) struct Place {
    pub(crate) backends: Backends,
    virtual_host: String,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let virtual_host = format!("test-{}-{name}", std::process::id());
        broker(&["add_vhost", &virtual_host]);
        broker(&["set_permissions", "-p", &virtual_host, "carillon", ".*", ".*", ".*"]);
        Self { backends: Backends::of_environment(), virtual_host }
    }

    pub(crate) fn bus_url(&self) -> String {
        let url = variable("CARILLON_TEST_AMQP_URL");
        format!("{}/{}", url.rsplit_once('/').unwrap().0, self.virtual_host)
    }

    /// A microservice's own binary with its keys, on free ports unless the environment says otherwise.
    pub(crate) fn command(&self, name: &str, environment: &[(&str, &str)]) -> Command {
        let binary = PathBuf::from(CARILLON).with_file_name(name);
        assert!(binary.exists(), "{} is not there: cargo build --workspace", binary.display());
        let mut command = Command::new("sh");
        let keys = self.backends.folder().join("keys");
        let script = r#"keys=$(env -i "$1" keys env "$2" --data-dir "$3") && eval "$keys" && exec "$4""#;
        command.args(["-c", script, "sh", CARILLON, name]).args([&keys, &binary]);
        command.env("CARILLON__HTTP__LISTEN", "127.0.0.1:0").env("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:0");
        command.envs(environment.iter().copied());
        command
    }

    /// `carillon bus …` at this place's virtual host.
    pub(crate) fn bus_command(&self, arguments: &[&str]) -> Output {
        Command::new(CARILLON).arg("bus").args(arguments).args(["--url", &self.bus_url()]).output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is no fault of the test.
        let _ = ask_broker(&["delete_vhost", &self.virtual_host]);
    }
}

/// Asks the broker, again if it is too busy to answer.
fn broker(arguments: &[&str]) {
    let mut done = ask_broker(arguments);
    for _ in 1..TRIES {
        if done.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        done = ask_broker(arguments);
    }
    done.unwrap();
}

fn ask_broker(arguments: &[&str]) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/services.sh");
    let done = Command::new(script).arg("ctl").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    // What was made before the answer was lost is there.
    if done.status.success() || said.contains("already") { Ok(()) } else { Err(said) }
}
