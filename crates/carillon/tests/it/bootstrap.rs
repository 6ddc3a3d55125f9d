//! `carillon bootstrap` against a running Carillon.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use test_kit::Setup;

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");

fn bootstrap(url: &str, data_dir: &Path, more: &[&str]) -> Output {
    let data_dir = data_dir.to_str().unwrap();
    let arguments = ["bootstrap", "--org", "acme", "--user", "admin", "--url", url, "--data-dir", data_dir];
    Command::new(BINARY).args(arguments).args(more).output().unwrap()
}

#[tokio::test]
async fn the_first_key_is_printed_once_and_does_what_an_administrator_may() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let url = carillon.url().to_owned();

    let made = bootstrap(&url, setup.data_dir(), &[]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert_eq!(key.len(), 64);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let place = format!("{url}/api/ai-mentor/orgs/acme/users/admin/");
    let mentor = json!({ "name": "Ada", "provider": { "kind": "echo" } });
    let request = client.post(&place).header("authorization", format!("Api-Token {key}")).json(&mentor);
    assert_eq!(request.send().await.unwrap().status(), 201);

    let again = bootstrap(&url, setup.data_dir(), &[]);
    let complaint = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && again.stdout.is_empty());
    assert!(complaint.contains("`bootstrap` already") && complaint.contains("--name"), "{complaint}");

    let more = ["--name", "second", "--expires-in", "1 00:00:00", "--output", "json"];
    let second: Value = serde_json::from_slice(&bootstrap(&url, setup.data_dir(), &more).stdout).unwrap();
    assert_eq!((&second["name"], &second["username"]), (&json!("second"), &json!("admin")));
    assert!(second["expires"].is_string() && second["key"] != json!(key));
}

#[tokio::test]
async fn a_carillon_that_is_not_there_or_another_ones_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Setup::new(BINARY, folder.path().join("a")), Setup::new(BINARY, folder.path().join("b")));
    assert_eq!(ours.start().await.unwrap().stop().await.unwrap(), Some(0));
    // Port 1 is nobody's.
    let nobody = bootstrap("http://127.0.0.1:1", ours.data_dir(), &[]);
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("cannot reach"));
    let carillon = theirs.start().await.unwrap();
    let stranger = bootstrap(carillon.url(), ours.data_dir(), &[]);
    let complaint = String::from_utf8(stranger.stderr).unwrap();
    assert!(!stranger.status.success() && complaint.contains("--data-dir"), "{complaint}");
}
