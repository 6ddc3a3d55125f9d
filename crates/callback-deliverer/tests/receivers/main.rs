//! Real callbacks to receivers that verify with others' libraries; `run` makes those and starts this.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(unreachable_pub, dead_code, reason = "the stage is that of the other tests")]

use std::path::Path;
use std::process::Stdio;

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

async fn start(program: &Path, script: &Path) -> Receiver {
    let mut process = Command::new(program).arg(script).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
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
    deliver(receiver, &[PLAIN], PLAIN, |_, _| {}).await;
    deliver(receiver, &[ENCODED], ENCODED, |_, _| {}).await;
    deliver(receiver, &[PLAIN, "old"], "old", |stage, endpoint| {
        let until = stage.clock.now() + chrono::TimeDelta::hours(1);
        endpoint.previous_secret = Some(PreviousSecret { sealed: stage.seal(7, "old"), until });
    })
    .await;
}

fn made() -> std::path::PathBuf {
    let made = std::env::vars().find(|(name, _)| name == "CARILLON_RECEIVERS");
    made.expect("run it by crates/callback-deliverer/tests/receivers/run").1.into()
}

#[tokio::test]
async fn the_python_of_the_document_verifies_and_jwcrypto_decrypts() {
    let receiver = start(&made().join("venv/bin/python"), &made().join("receiver.py")).await;
    deliver_all(&receiver).await;
    deliver(&receiver, &[PLAIN], PLAIN, |_, endpoint| endpoint.encrypt = true).await;
}

#[tokio::test]
async fn the_javascript_of_the_document_verifies() {
    let receiver = start(Path::new("node"), &made().join("receiver.mjs")).await;
    deliver_all(&receiver).await;
}
