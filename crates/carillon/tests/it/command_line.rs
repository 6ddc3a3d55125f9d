//! The commands beside `up`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const JWT_SECRET: &str = "a very secret secret of forty characters";

fn carillon(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_next_ticks_of_a_crontab_are_printed_as_json() {
    let output = carillon(&[
        "cron",
        "next",
        "30 2 * * *",
        "--timezone",
        "Europe/Berlin",
        "--after",
        "2026-03-28T00:00:00Z",
        "--count",
        "3",
        "--output",
        "json",
    ]);
    assert!(output.status.success());
    // On 29 March 02:30 does not occur: it fires at what is then called 03:30.
    let expected = "[\"2026-03-28T01:30:00Z\",\"2026-03-29T01:30:00Z\",\"2026-03-30T00:30:00Z\"]\n";
    assert_eq!(printed(&output), expected);
}

#[test]
fn a_crontab_that_is_none_is_refused_with_the_reason() {
    for (crontab, reason) in [
        ("61 * * * *", "'61', not in 0-59 for Minutes"),
        ("* * * *", "five fields"),
        ("* * 31 2 *", "Never fires"),
        ("* * * * monday,fry", "fry"),
    ] {
        let output = carillon(&["cron", "next", crontab]);
        assert_eq!(output.status.code(), Some(1), "{crontab}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason) && said.lines().count() == 1, "{crontab}: {said}");
    }
}

#[test]
fn a_signature_is_verified_against_the_raw_body() {
    let signature = "sha256=0dff37efe6107634dfc855ef6435c0bdc358c3c68a43ed45107fb89cf826f3ee";
    let verify = |secret: &str, signature: &str| {
        let mut process = Command::new(BINARY)
            .args(["verify-signature", "--secret", secret, "--signature", signature])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let body = br#"{"timestamp":"2026-11-21T10:00:00Z"}"#;
        // Whoever refuses the signature as it stands may be gone before it has read anything.
        let _ = process.stdin.take().unwrap().write_all(body);
        process.wait().unwrap().code()
    };
    assert_eq!(verify("s3crét", signature), Some(0));
    assert_eq!(verify("another", signature), Some(1));
    // The whole line of the header will do, but of no other.
    assert_eq!(verify("s3crét", &format!("X-Hub-Signature-256: {signature}")), Some(0));
    assert_eq!(verify("s3crét", &format!("x-hub-signature-256:{signature}\r\n")), Some(0));
    assert_eq!(verify("s3crét", &format!("X-Hub-Signature: {signature}")), Some(1));
}

#[test]
fn a_signature_of_standard_webhooks_is_verified_with_its_id_and_timestamp() {
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), br#"{"test": 2432232314}"#).unwrap();
    let verify = |arguments: &[&str]| {
        let secret = ["verify-signature", "--secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"];
        let mut command = Command::new(BINARY);
        let command = command.args(secret).args(arguments).arg(body.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
    };
    let (id, signature) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let line = format!("Webhook-Signature: v1,AAAA {signature}");
    assert_eq!(verify(&["--id", id, "--timestamp", "1614265330", "--signature", signature]), Some(0));
    assert_eq!(verify(&["--id", id, "--timestamp", "1614265330", "--signature", &line]), Some(0));
    assert_eq!(verify(&["--id", id, "--timestamp", "1614265331", "--signature", signature]), Some(1));
    assert_eq!(verify(&["--id", id, "--signature", signature]), Some(2));
}

#[test]
fn a_token_needs_an_organisation_unless_it_is_a_platform_administrators() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let token = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("token").args(arguments).arg("--data-dir").arg(&data);
        command.env("CARILLON__AUTH__JWT_SECRET", JWT_SECRET).output().unwrap()
    };
    let refused = token(&["--user", "admin"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("--org"));
    let platform = token(&["--user", "root", "--role", "platform_admin"]);
    assert_eq!(printed(&platform).trim().split('.').count(), 3);
    let tenant = token(&["--user", "admin", "--org", "acme"]);
    assert_ne!(printed(&tenant), printed(&platform));
    assert!(!data.exists(), "a configured secret needs no data directory");
}

#[test]
fn a_token_is_never_signed_with_a_key_that_was_made_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let refusal = || {
        let token = ["token", "--user", "admin", "--org", "acme", "--data-dir", data.to_str().unwrap()];
        let output = carillon(&token);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let key = data.join("keys/jwt-secret");
    let said = refusal();
    let parts = [key.to_str().unwrap(), "carillon up", "--data-dir"];
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    assert!(!data.exists());

    std::fs::create_dir_all(data.join("keys")).unwrap();
    std::fs::write(&key, "\n").unwrap();
    let said = refusal();
    assert!(said.contains(key.to_str().unwrap()) && said.contains("is empty"), "{said}");
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["cron", "next", "* * * * *", "--count", "10000"][..],
        &["cron", "next", "* * * * *", "--output", "json"],
        &["token", "--user", "admin", "--org", "acme"],
        &["keys", "env", "agent-runner", "--data-dir", folder.path().to_str().unwrap()],
        &["up", "--check-config"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(BINARY);
        command.args(arguments).env("CARILLON__AUTH__JWT_SECRET", JWT_SECRET);
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
}

#[test]
fn each_microservice_gets_only_the_keys_that_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let names = |microservice: &str| {
        let mut command = Command::new(BINARY);
        let output = command.args(["keys", "env", microservice, "--data-dir"]).arg(folder.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let lines = printed(&output);
        let exports = lines.lines().filter_map(|line| line.strip_prefix("export CARILLON__"));
        exports.filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(names("cron-dispatcher"), ["INTERNAL__KEY"]);
    assert_eq!(names("agent-runner"), ["INTERNAL__KEY", "SECRETS__KEYS", "SESSIONS__KEY"]);
    assert_eq!(names("callback-deliverer"), ["INTERNAL__KEY", "SECRETS__KEYS"]);
    assert_eq!(names("service-registry"), ["AUTH__JWT_SECRET", "INTERNAL__KEY", "SESSIONS__JWKS"]);
    assert_eq!(names("agent-registry"), ["AUTH__JWT_SECRET", "INTERNAL__KEY", "SECRETS__KEYS", "SESSIONS__JWKS"]);
}

#[test]
fn a_demonstration_heeds_nothing_that_the_shell_configures() {
    let mut demo = Command::new(BINARY);
    demo.arg("demo").env("CARILLON__DATABASE__AGENT_REGISTRY_URL", "sqlite:/nowhere/another-installations.db");
    let output = demo.env("CARILLON__HTTP__BODY_BYTES_MAX", "none").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn who_looks_where_nothing_is_makes_nothing_there() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("nowhere");
    let output = carillon(&["bus", "status", "--data-dir", nowhere.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("--data-dir"), "{said}");
    assert!(!nowhere.exists());

    let empty = folder.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let url = format!("sqlite://{}", empty.display());
    for command in [&["ledger", "verify"][..], &["republish"]] {
        let output = carillon(&[command, &["--url", &url]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("has no migration"), "{command:?}: {said}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in [&["up"][..], &["token"], &["cron", "next"], &["verify-signature"], &["keys", "env"], &["demo"]] {
        let output = carillon(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}");
        assert!(printed(&output).contains("Example:"), "{command:?}");
    }
}
