//! Real callbacks to receivers that verify with others' libraries; `run` makes those and starts this.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, dead_code, reason = "the stage is that of the other tests")]

use std::path::Path;
use std::process::Stdio;

use callback_deliverer::signature;
use model::document::{Endpoint, PreviousSecret};
use service_kit::clock::Clock;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[path = "../it/stage.rs"]
mod stage;

use stage::{Stage, run};

const PLAIN: &str = "s3crét";
const ENCODED: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver, stopped with its test.
struct Receiver {
    port: String,
    _process: Child,
}

async fn start(program: &Path, arguments: &[&Path]) -> Receiver {
    let mut process = Command::new(program).args(arguments).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    Receiver { port: lines.next_line().await.unwrap().unwrap(), _process: process }
}

/// Delivers one callback whose receiver must accept each of `secrets`, and `hub` for the hub signature.
async fn deliver(receiver: &Receiver, secrets: &[&str], hub: &str, change: impl FnOnce(&Stage, &mut Endpoint)) {
    let mut stage = Stage::new().await;
    // The libraries look at the time.
    stage.clock = Clock::host();
    let running = stage.start().await;
    let mut url: reqwest::Url = format!("http://127.0.0.1:{}/", receiver.port).parse().unwrap();
    url.query_pairs_mut().extend_pairs(secrets.iter().map(|secret| ("secret", secret))).append_pair("hub", hub);
    let mut endpoint = Endpoint::new(url.into(), stage.seal(7, secrets[0]));
    change(&stage, &mut endpoint);
    stage.announce_endpoint(7, 1, endpoint).await;
    stage.finish([run(7, 41)]).await;
    running.settled(41, "delivered").await;
    running.stop().await;
}

async fn deliver_all(receiver: &Receiver) {
    tamper(receiver).await;
    deliver(receiver, &[PLAIN], PLAIN, |_, _| {}).await;
    deliver(receiver, &[ENCODED], ENCODED, |_, _| {}).await;
    deliver(receiver, &[PLAIN, "old"], "old", |stage, endpoint| {
        let until = stage.clock.now() + chrono::TimeDelta::hours(1);
        endpoint.previous_secret = Some(PreviousSecret { sealed: stage.seal(7, "old"), until });
    })
    .await;
}

/// Nothing but what was signed is accepted: no other body, no other signature, and not none.
async fn tamper(receiver: &Receiver) {
    let mut url: reqwest::Url = format!("http://127.0.0.1:{}/", receiver.port).parse().unwrap();
    url.query_pairs_mut().append_pair("secret", PLAIN).append_pair("hub", PLAIN);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (body, at) = (r#"{"status":"success"}"#, Clock::host().now().timestamp());
    let hub = signature::sign(PLAIN.as_bytes(), body.as_bytes());
    let standard = signature::standard::sign(PLAIN.as_bytes(), "some-id", at, body.as_bytes());
    let (other_hub, cut_hub) = (signature::sign(b"another", body.as_bytes()), hub[..hub.len() - 2].to_owned());
    for (sent, hub, accepted) in [
        (body, Some(&hub), true),
        (r#"{"status":"failure"}"#, Some(&hub), false),
        (body, Some(&other_hub), false),
        (body, Some(&cut_hub), false),
        (body, Some(&"sha256=zz".to_owned()), false),
        (body, None, false),
    ] {
        let request = client.post(url.clone()).header("webhook-id", "some-id").header("webhook-timestamp", at);
        let request = request.header("webhook-signature", &standard).header("content-type", "application/json");
        let request = if let Some(hub) = hub { request.header(signature::HEADER, hub) } else { request };
        let status = request.body(sent).send().await.unwrap().status().as_u16();
        assert_eq!(status, if accepted { 204 } else { 400 }, "{sent} signed with {hub:?}");
    }
}

fn made() -> std::path::PathBuf {
    let made = std::env::vars().find(|(name, _)| name == "CARILLON_RECEIVERS");
    made.expect("run it by crates/callback-deliverer/tests/receivers/run").1.into()
}

#[tokio::test]
async fn the_python_of_the_document_verifies_and_jwcrypto_decrypts() {
    let receiver = start(&made().join("venv/bin/python"), &[&made().join("receiver.py")]).await;
    deliver_all(&receiver).await;
    deliver(&receiver, &[PLAIN], PLAIN, |_, endpoint| endpoint.encrypt = true).await;
}

#[tokio::test]
async fn the_javascript_of_the_document_verifies() {
    let receiver = start(Path::new("node"), &[&made().join("receiver.mjs")]).await;
    deliver_all(&receiver).await;
}

#[tokio::test]
async fn the_go_of_the_document_verifies() {
    deliver_all(&start(&made().join("go/receiver"), &[]).await).await;
}

#[tokio::test]
async fn the_rust_of_the_document_verifies() {
    deliver_all(&start(&made().join("rust/target/debug/receiver"), &[]).await).await;
}

#[tokio::test]
async fn the_php_of_the_document_verifies() {
    deliver_all(&start(Path::new("php"), &[&made().join("receiver.php")]).await).await;
}

#[tokio::test]
async fn the_java_of_the_document_verifies() {
    let classes = made().join("java");
    deliver_all(&start(Path::new("java"), &[Path::new("-cp"), &classes, Path::new("Receiver")]).await).await;
}
