//! What cannot start says in one line what to do, and exits non-zero.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use test_kit::Setup;

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");

fn up(data_dir: &Path, extra: &[&str]) -> Output {
    Command::new(BINARY)
        .args(["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .args(extra)
        .env("CARILLON__TELEMETRY__LOG", "off")
        .output()
        .unwrap()
}

/// The one line that it ends with.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "more than one line: {said}");
    said
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _running = Setup::new(BINARY, &data).start().await.unwrap();
    let said = refusal(&up(&data, &[]));
    assert!(said.contains("used by another carillon") && said.contains("--data-dir"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = refusal(&up(&file.join("data"), &[]));
    assert!(said.contains("cannot make the data directory") && said.contains("--data-dir"), "{said}");
}

#[test]
fn a_port_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Command::new(BINARY)
        .args(["up", "--admin-listen", "127.0.0.1:0", "--listen", &address, "--data-dir"])
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    let said = refusal(&output);
    assert!(said.contains(&address) && said.contains("http.listen"), "{said}");
}

#[tokio::test]
async fn a_damaged_database_is_refused_by_name() {
    for name in ["cron-dispatcher.db", "agent-registry.db", "callback-deliverer.db", "bus.db"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Setup::new(BINARY, &data).start().await.unwrap().stop().await.unwrap();
        std::fs::write(data.join(name), vec![0xAB; 64 * 1024]).unwrap();
        let said = refusal(&up(&data, &[]));
        assert!(said.contains(name) && said.contains("damaged"), "{said}");
    }
}

#[test]
fn an_unknown_setting_is_refused_by_name_and_a_wrong_one_by_value() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, value: &str| {
        let output = Command::new(BINARY)
            .args(["up", "--data-dir"])
            .arg(folder.path().join("data"))
            .env(name, value)
            .output()
            .unwrap();
        refusal(&output)
    };
    let said = with("CARILLON__HTTP__LISTN", "127.0.0.1:0");
    assert!(said.contains("CARILLON__HTTP__LISTN") && said.contains("listn"), "{said}");
    let said = with("CARILLON__DISPATCHER__WINDOW", "0");
    assert!(said.contains("dispatcher.window") && said.contains('0'), "{said}");
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(BINARY)
        .args(["up", "--check-config", "--data-dir"])
        .arg(folder.path().join("data"))
        .env("CARILLON__AUTH__JWT_SECRET", "a very secret secret of forty characters")
        .env("CARILLON__HTTP__LISTEN", "127.0.0.1:7777")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("127.0.0.1:7777"), "{printed}");
    assert!(!printed.contains("very secret"), "{printed}");

    // What the data directory would have is filled in, and nothing is made.
    let data = folder.path().join("data");
    for name in ["agent-registry.db", "cron-dispatcher.db", "callback-deliverer.db", "service-registry.db", "bus.db"] {
        assert!(printed.contains(&format!("\"sqlite:{}\"", data.join(name).display())), "{name}: {printed}");
    }
    let made = format!(
        "# Made on the first start, in {}: secrets.keys, internal.key, sessions.key\n",
        data.join("keys").display()
    );
    assert!(printed.starts_with(&made), "{printed}");
    assert_eq!(printed.matches("\"********\"").count(), 4, "{printed}");
    assert!(!data.exists());
}

#[test]
fn what_up_would_refuse_is_refused_when_the_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value, setting) in [
        ("CARILLON__AUTH__JWT_SECRET", "short", "`auth.jwt_secret`"),
        ("CARILLON__INTERNAL__KEY", "short", "`internal.key`"),
        ("CARILLON__SECRETS__KEYS", "k1:short", "`secrets.keys`"),
        ("CARILLON__BUS__URL", "http://127.0.0.1:5672", "`bus.url`"),
        ("CARILLON__DATABASE__AGENT_REGISTRY_URL", "mysql://db/x", "`database.agent_registry_url`"),
        ("CARILLON__DATABASE__POOL_SIZE", "0", "`database.pool_size`"),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let output = Command::new(BINARY)
                .args(["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
                .arg(folder.path().join("data"))
                .args(check)
                .env(name, value)
                .output()
                .unwrap();
            let said = refusal(&output);
            assert!(said.contains(setting) && !said.contains("short"), "{check:?} {said}");
        }
    }
}

/// The lock of a process that is still closing its files.
#[tokio::test]
async fn a_process_that_is_just_ending_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let lock = std::fs::File::create(data.join("carillon.lock")).unwrap();
    lock.lock().unwrap();
    let setup = Setup::new(BINARY, &data);
    let (started, ()) = tokio::join!(setup.start(), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(lock);
    });
    started.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn the_log_has_no_line_of_the_web_framework_whatever_clients_send() {
    let folder = tempfile::tempdir().unwrap();
    // Empty is not set: the default.
    let setup = Setup::new(BINARY, folder.path().join("data")).with("CARILLON__TELEMETRY__LOG", "");
    let carillon = setup.start().await.unwrap();
    let mut client = TcpStream::connect(carillon.url().strip_prefix("http://").unwrap()).unwrap();
    client.write_all(b"\x16\x03\x01 no HTTP at all\r\n\r\n").unwrap();
    // Until it hangs up, however.
    let _ = client.read_to_end(&mut Vec::new());
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
    let log = setup.log();
    assert!(log.contains("listening") && !log.contains("actix"), "{log}");
}

#[tokio::test]
async fn it_stops_with_exit_code_zero_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let mentor = serde_json::json!({"name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("", &mentor).await.unwrap();
    assert_eq!(carillon.stop().await.unwrap(), Some(0));

    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let found = api.get(&format!("mentors/{}/", mentor["unique_id"].as_str().unwrap())).await.unwrap();
    assert_eq!(found["name"], "Echo");
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
}
