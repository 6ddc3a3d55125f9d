//! How much memory large logs and lists take on their way out: a process of its own, since all of its memory is counted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]
#![expect(dead_code, reason = "the harness is that of the other tests")]

#[path = "../it/deliverer_peer.rs"]
mod deliverer_peer;
#[path = "../it/dispatcher_peer.rs"]
mod dispatcher_peer;
#[path = "../it/harness.rs"]
mod harness;

use futures::future::join_all;
use model::run::{RunRecord, RunResult, RunState};
use peak_alloc::PeakAlloc;
use reqwest::Response;
use serde_json::json;
use tokio::sync::Mutex;

use dispatcher_peer::pending_run;
use harness::{App, ORG, World, path};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MIB: usize = 1024 * 1024;
const READERS: usize = 24;
const LOGS: usize = 5;
/// Agents, and mentors.
const PAGE: usize = 20;

async fn ask(app: &App<'_>, rest: &str) -> Response {
    let url = format!("{}{}", app.base, path(rest));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(app.world.admin_token()).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

/// Held by the one test whose memory is counted.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Reads to the end and keeps nothing: returns how many bytes came, and how many of them are like those of `expected`.
async fn read(mut answer: Response, expected: &[u8]) -> (usize, usize) {
    let (mut bytes, mut alike) = (0, 0);
    while let Some(chunk) = answer.chunk().await.unwrap() {
        let wanted = expected.get(bytes..bytes + chunk.len()).unwrap_or_default();
        alike += if wanted == chunk { chunk.len() } else { 0 };
        bytes += chunk.len();
    }
    (bytes, alike)
}

/// What `work` needs at most, beyond what is in use before.
async fn peak<T>(work: impl Future<Output = T>) -> (usize, T) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let outcome = work.await;
    (MEMORY.peak_usage().saturating_sub(before), outcome)
}

#[tokio::test]
async fn however_many_read_large_logs_the_memory_is_that_of_a_few_pieces_each() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let app = world.open().await;
    let agent = app.agent(&app.mentor().await, json!({})).await["id"].as_i64().unwrap();
    // Together the most that a run may have.
    let text = |bytes: usize| "é\"\n0123456789\u{1}😀".repeat(bytes / 20);
    let log = |id: usize| {
        let now = world.clock.now();
        let result = RunResult { output: text(4 * MIB), log: text(6 * MIB), ..RunResult::default() };
        let run = pending_run(i64::try_from(id).unwrap(), ORG, agent, now);
        RunRecord { state: RunState::Success, ended_at: Some(now), result: Some(result), ..run }
    };
    for id in 1..=LOGS {
        world.record(vec![log(id)]).await;
        world.until_rows("logs", i64::try_from(id).unwrap()).await;
    }
    let (one, expected) = peak(async { ask(&app, "periodic-agent-logs/1/").await.bytes().await.unwrap() }).await;
    let mut whole: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    assert!(whole["content"].take() == json!(text(6 * MIB)) && whole["agent_output"].take() == json!(text(4 * MIB)));
    drop(whole);
    assert!(one > expected.len(), "what the client keeps is counted, too: {one} bytes");

    let (at_once, read_by) = peak(async {
        // All are being answered before the first of them reads on.
        let answers = join_all((0..READERS).map(|_| ask(&app, "periodic-agent-logs/1/"))).await;
        join_all(answers.into_iter().map(|answer| read(answer, &expected))).await
    })
    .await;
    assert!(read_by.iter().all(|read| *read == (expected.len(), expected.len())), "{read_by:?}");
    assert!(at_once < READERS * 2 * MIB, "{READERS} readers of {} bytes took {at_once}", expected.len());

    let (list, (bytes, _)) = peak(async { read(ask(&app, "periodic-agent-logs/").await, &[]).await }).await;
    assert!(bytes > LOGS * expected.len(), "{bytes} bytes are no {LOGS} logs");
    assert!(list < 4 * MIB, "a list of {bytes} bytes took {list}");
    eprintln!("one reader {list}, {READERS} readers {at_once}, of logs of {} bytes", expected.len());
}

/// The most characters of a prompt, and of a description, each of four bytes.
fn texts() -> (String, String) {
    ("😀".repeat(128 * 1024), "😀".repeat(64 * 1024))
}

/// What it takes that many read this list, none of them reading on before all are answered, beside its length.
async fn read_at_once(app: &App<'_>, list: &str) -> (usize, usize) {
    let (taken, read_by) = peak(async {
        let answers = join_all((0..READERS).map(|_| ask(app, list))).await;
        join_all(answers.into_iter().map(|answer| read(answer, &[]))).await
    })
    .await;
    let (bytes, _) = read_by[0];
    assert!(read_by.iter().all(|read| read.0 == bytes), "{read_by:?}");
    eprintln!("{READERS} readers {taken}, of {list} of {bytes} bytes");
    (taken, bytes)
}

#[tokio::test]
async fn however_many_read_lists_of_large_entries_the_memory_is_that_of_an_entry_or_two_each() {
    let _alone = ALONE.lock().await;
    let world = World::new().await;
    let app = world.open().await;
    let (prompt, description) = texts();
    let mentor = async |name: &str| {
        let texts = json!({ "system_prompt": prompt, "description": description });
        let mut body = json!({ "name": name, "provider": { "kind": "echo" } });
        body.as_object_mut().unwrap().extend(texts.as_object().unwrap().clone());
        app.post("", body).await.ok(201)
    };
    let shared = mentor("M").await;
    for index in 1..PAGE {
        mentor(&format!("M{index}")).await;
    }
    for _ in 0..PAGE {
        app.agent(&shared, json!({ "prompt": prompt, "description": description })).await;
    }

    let (taken, bytes) = read_at_once(&app, "periodic-agents/?page_size=100").await;
    assert!(bytes > PAGE * 3 * MIB / 2, "{bytes} bytes are no {PAGE} agents");
    assert!(taken < READERS * 3 * MIB, "{READERS} readers of {bytes} bytes took {taken}");
    let (taken, bytes) = read_at_once(&app, "?page_size=100").await;
    assert!(bytes > PAGE * 3 * MIB / 4, "{bytes} bytes are no {PAGE} mentors");
    assert!(taken < READERS * 3 * MIB, "{READERS} readers of {bytes} bytes took {taken}");
}
