//! `carillon doctor`: silent about what is well, and precise about what is not.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::sql_types::BigInt;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use serde_json::{Value, json};
use test_kit::{Api, Carillon, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes an agent that never fires in our time, and waits until everybody holds it: none is announced again.
async fn agent(setup: &Setup, api: &Api) -> i64 {
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let task = json!({"crontab": {"minute": "0", "hour": "0", "day_of_month": "29", "month_of_year": "2"}});
    let agent = json!({
        "mentor": mentor["unique_id"], "title": "Report", "prompt": "what is new?", "task": task,
        "callback_url": "http://127.0.0.1:9/", "callback_secret": "s3cret",
    });
    let id = api.post("periodic-agents/", &agent).await.unwrap()["id"].as_i64().unwrap();
    until("everybody holds it", PATIENCE, async || (unheld(setup.data_dir()) == 0).then_some(())).await;
    id
}

/// How many documents somebody does not hold.
fn unheld(data_dir: &Path) -> i64 {
    #[derive(QueryableByName)]
    struct Unheld {
        #[diesel(sql_type = BigInt)]
        documents: i64,
    }
    const COUNT: &str = "SELECT count(*) AS documents FROM documents
                          WHERE version > dispatcher_held_version OR version > deliverer_held_version";
    let file = data_dir.join("agent-registry.db");
    let mut registry = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    registry.batch_execute("PRAGMA busy_timeout = 60000").unwrap();
    sql_query(COUNT).get_result::<Unheld>(&mut registry).unwrap().documents
}

fn ask(setup: &Setup, carillon: &Carillon, command: &[&str]) -> Output {
    let mut asking = Command::new(BINARY);
    asking.args(command).args(["--output", "json", "--admin", carillon.admin_url(), "--data-dir"]);
    asking.arg(setup.data_dir()).output().unwrap()
}

/// What is wrong, once it says anything that `wanted` waits for.
async fn findings(setup: &Setup, carillon: &Carillon, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    until(what, PATIENCE, async || {
        let output = ask(setup, carillon, &["doctor"]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found: Vec<String> = said["findings"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(output.status.success(), found.is_empty(), "{output:?}");
        wanted(&found).then_some(found)
    })
    .await
}

fn copy_database(from: &Path, to: &Path) {
    for file in ["cron-dispatcher.db", "cron-dispatcher.db-wal", "cron-dispatcher.db-shm"] {
        let _ = std::fs::remove_file(to.join(file));
        if from.join(file).exists() {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

#[tokio::test]
async fn it_finds_agents_that_the_dispatcher_has_forgotten_and_secrets_that_no_key_opens() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    agent(&setup, &carillon.api("acme", "admin").await.unwrap()).await;
    findings(&setup, &carillon, "nothing is wrong", <[String]>::is_empty).await;
    let status: Value = serde_json::from_slice(&ask(&setup, &carillon, &["keys", "status"]).stdout).unwrap();
    let sealed = status.as_array().unwrap().iter().find(|one| one["column"] == "agents.sealed_callback_secret");
    let sealed = sealed.unwrap_or_else(|| panic!("{status}"));
    assert_eq!((&sealed["key"], &sealed["secrets"], &sealed["seals"]), (&json!("k1"), &json!(1), &json!(true)));
    assert_eq!(carillon.stop().await.unwrap(), Some(0));

    // The dispatcher's database is restored from a backup that does not know the second agent.
    copy_database(setup.data_dir(), &kept);
    let carillon = setup.start().await.unwrap();
    let forgotten = agent(&setup, &carillon.api("acme", "admin").await.unwrap()).await;
    assert_eq!(carillon.stop().await.unwrap(), Some(0));
    copy_database(&kept, setup.data_dir());
    let carillon = setup.start().await.unwrap();
    let is_forgotten = format!("does not know 1 agent ({forgotten})");
    let says = |found: &[String]| found.iter().any(|one| one.contains(&is_forgotten));
    let found = findings(&setup, &carillon, "it says what is forgotten", says).await;
    assert!(found.iter().any(|one| one.contains("carillon republish")), "{found:?}");
    assert_eq!(carillon.stop().await.unwrap(), Some(0));

    // The key is lost.
    let other = "k2:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    std::fs::write(setup.data_dir().join("keys/secrets-keys"), other).unwrap();
    let carillon = setup.start().await.unwrap();
    let locked = ["2 secrets in agents.sealed_callback_secret", "2 secrets in endpoints.sealed_secret"];
    let is_said = |found: &[String], what: &str| found.iter().any(|one| one.contains(what) && one.contains("`k1`"));
    // The deliverer may hear of the second agent only now.
    let says = |found: &[String]| locked.iter().all(|what| is_said(found, what));
    findings(&setup, &carillon, "it says what is locked", says).await;
    assert_eq!(ask(&setup, &carillon, &["keys", "status"]).status.code(), Some(1));
}

#[tokio::test]
async fn it_says_who_cannot_be_asked_and_whose_key_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let stranger = Setup::new(BINARY, folder.path().join("other"));
    let other = stranger.start().await.unwrap();
    // The other installation's key opens nothing here.
    let output = ask(&stranger, &carillon, &["doctor"]);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said["findings"][0]["what"].as_str().unwrap().contains("401"), "{said}");
    other.stop().await.unwrap();
    let mut gone = Command::new(BINARY);
    gone.args(["doctor", "--admin", "http://127.0.0.1:9", "--data-dir"]).arg(setup.data_dir());
    assert!(String::from_utf8_lossy(&gone.output().unwrap().stdout).contains("cannot be asked"));
}
