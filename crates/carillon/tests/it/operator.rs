//! What operators do from the command line with a running Carillon.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use test_kit::{Api, Receiver, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(180);

/// A crontab that does not come in our time.
fn never() -> Value {
    json!({"crontab": {"minute": "0", "hour": "0", "day_of_month": "29", "month_of_year": "2"}})
}

async fn agent(api: &Api, receiver: &Receiver) -> i64 {
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let agent = json!({
        "mentor": mentor["unique_id"], "title": "Report", "prompt": "what is new?", "task": never(),
        "callback_url": format!("{}/hook", receiver.url()), "callback_secret": "s3cret",
    });
    api.post("periodic-agents/", &agent).await.unwrap()["id"].as_i64().unwrap()
}

/// An operator with a profiles file.
struct Operator<'a> {
    profiles: &'a Path,
}

impl Operator<'_> {
    fn says(&self, line: &str) -> Output {
        let profiles = ("CARILLON_PROFILES", self.profiles.to_str().unwrap());
        Command::new(BINARY).args(line.split(' ')).env_clear().envs([profiles]).output().unwrap()
    }

    fn sees(&self, line: &str) -> String {
        let output = self.says(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.sees(&format!("{line} --output json"))).unwrap()
    }

    fn is_told(&self, line: &str) -> String {
        let output = self.says(line);
        assert!(!output.status.success() && output.stdout.is_empty(), "{line}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
        said
    }
}

fn write_profiles(file: &Path, url: &str, key: &str) {
    let profile = format!("[default]\nurl = \"{url}\"\norg = \"acme\"\nuser = \"admin\"\napi_key = \"{key}\"\n");
    std::fs::write(file, profile).unwrap();
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn an_operator_with_a_profile_sees_agents_runs_and_deliveries_and_acts_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let agent = agent(&carillon.api("acme", "admin").await.unwrap(), &receiver).await;
    let data_dir = setup.data_dir().to_str().unwrap();
    let bootstrap = ["bootstrap", "--org", "acme", "--user", "admin", "--url", carillon.url(), "--data-dir", data_dir];
    let key = Command::new(BINARY).args(bootstrap).output().unwrap().stdout;
    let profiles = folder.path().join("profiles.toml");
    write_profiles(&profiles, carillon.url(), String::from_utf8(key).unwrap().trim());
    let operator = Operator { profiles: &profiles };

    let status = operator.json(&format!("status --admin {}", carillon.admin_url()));
    assert_eq!(status["processes"][0]["ready"], true);
    assert!(status["measures"].as_array().unwrap().iter().any(|one| one["what"] == "runs requested at most"));
    let nobody = operator.says("status --admin http://127.0.0.1:1");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stdout).unwrap().contains("http://127.0.0.1:1  false"));

    let ended = operator.json(&format!("agents trigger {agent} --prompt again --wait"));
    assert_eq!((&ended["state"], &ended["agent_output"]), (&json!("success"), &json!("again")));
    let listed = operator.json("runs list");
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &ended["id"]));
    assert_eq!(operator.json(&format!("runs list --agent {agent} --status error")), json!([]));
    assert!(operator.sees(&format!("runs show {}", ended["id"])).contains("asked `echo`"));
    let table = operator.sees("agents list --search report");
    assert!(table.contains("last status") && table.contains("success"), "{table}");

    assert_eq!(operator.json(&format!("agents pause {agent} --note why-not"))["paused"], true);
    assert_eq!(operator.json("agents list")[0]["paused_note"], "why-not");
    assert_eq!(operator.json(&format!("agents resume {agent} --catch-up none"))["paused"], false);

    let delivered = async || operator.json("deliveries list --status delivered").get(0).cloned();
    let delivery = until("the delivery is settled", PATIENCE, delivered).await["id"].clone();
    operator.sees(&format!("deliveries replay {delivery}"));
    until("it came again", PATIENCE, async || (receiver.count() >= 2).then_some(())).await;
    until("it is settled again", PATIENCE, delivered).await;
    let all = format!("deliveries replay --since 2020-01-01T00:00:00Z --status delivered --agent {agent}");
    let job = operator.json(&all);
    assert_eq!((&job["state"], &job["total"]), (&json!("finished"), &json!(1)));

    assert!(operator.is_told(&format!("runs cancel {}", i64::MAX)).contains("404"));
    assert!(operator.is_told("runs list --profile other").contains("it has: default"));
    assert!(operator.is_told("runs list --url ftp://x").contains("http://"));
    std::fs::set_permissions(&profiles, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(operator.is_told("runs list").contains("chmod 600"));
}

#[tokio::test]
async fn what_was_backed_up_while_it_ran_is_restored_with_keys_logs_and_schedules() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let agent = agent(&api, &receiver).await;
    let log = api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
    let log = format!("periodic-agent-logs/{}/", log["id"]);
    until("it is called back", PATIENCE, async || (receiver.count() >= 1).then_some(())).await;

    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let command = |arguments: &[&str]| Command::new(BINARY).args(arguments).output().unwrap();
    let made = command(&["backup", &path("backup"), "--data-dir", &path("data")]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mode = std::fs::metadata(path("backup")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // What comes later is not in it.
    api.patch(&format!("periodic-agents/{agent}/"), &json!({"title": "Later"})).await.unwrap();
    carillon.kill().await.unwrap();

    let restored = command(&["restore", &path("backup"), "--data-dir", &path("restored")]);
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let carillon = Setup::new(BINARY, path("restored")).start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    assert_eq!(api.get(&format!("periodic-agents/{agent}/")).await.unwrap()["title"], "Report");
    assert_eq!(api.get(&log).await.unwrap()["status"], "success");
    api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap();
    // Once or twice: that the first was delivered may not have been written down yet when the backup was made.
    until("it is called back again", PATIENCE, async || (receiver.count() >= 2).then_some(())).await;
    // The secret of its callbacks was sealed with a key that is in the backup.
    assert!(receiver.callbacks().iter().all(|callback| callback.is_signed_with("s3cret")));

    let refused = |arguments: &[&str], reason: &str| {
        let output = command(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(reason) && said.lines().count() == 1, "{said}");
    };
    refused(&["backup", &path("backup"), "--data-dir", &path("data")], "not empty");
    refused(&["backup", &path("other"), "--data-dir", &path("nowhere")], "--data-dir");
    refused(&["restore", &path("backup"), "--data-dir", &path("restored")], "not empty");
    refused(&["restore", &path("data"), "--data-dir", &path("other")], "no backup");
    std::fs::write(folder.path().join("backup/agent-registry.db"), "scribble").unwrap();
    refused(&["restore", &path("backup"), "--data-dir", &path("other")], "damaged");
    assert!(!folder.path().join("other").exists(), "half a restored directory has no name to be started under");
}
