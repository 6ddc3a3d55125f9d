//! Logs of megabytes: kept in pieces, sent as they are read, and for clients like any other.

use model::run::{RunReason, RunRecord, RunResult, RunState};
use serde_json::json;
use service_kit::signed_link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::dispatcher_peer::pending_run;
use crate::harness::{App, ORG, PATIENCE, World, path};

/// All that JSON has an escape for, and characters of one to four bytes: 29 bytes, so that pieces end everywhere in it.
const UNIT: &str = "a\"\\\n\r\t\u{8}\u{c}\u{1}\u{7f}/é€😀\u{2028}<&'";

/// A text of so many megabytes, or somewhat more.
fn text(megabytes: usize) -> String {
    UNIT.repeat(megabytes * 1024 * 1024 / UNIT.len() + 1)
}

fn ended(id: i64, agent_id: i64, world: &World, output: String, log: String) -> RunRecord {
    let now = world.clock.now();
    RunRecord {
        state: RunState::Success,
        started_at: Some(now),
        ended_at: Some(now),
        result: Some(RunResult { output, log, ..RunResult::default() }),
        ..pending_run(id, ORG, agent_id, now)
    }
}

async fn agent_id(app: &App<'_>) -> i64 {
    app.agent(&app.mentor().await, json!({})).await["id"].as_i64().unwrap()
}

#[tokio::test]
async fn a_large_log_reads_like_a_small_one_to_the_byte_alone_and_in_a_list() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let (output, content) = (text(1), text(2));
    let mut large = ended(42, agent, &world, output.clone(), content.clone());
    large.prompt = text(1);
    let mut small = ended(41, agent, &world, "OUTPUT".into(), "CONTENT".into());
    small.prompt = "PROMPT".into();
    // What looks like a place for a text is none.
    for record in [&mut large, &mut small] {
        record.result.as_mut().unwrap().session_id = r#""content":"","prompt":"""#.into();
    }
    // As a message that comes again.
    world.record(vec![large.clone(), small]).await;
    world.record(vec![large.clone()]).await;
    app.eventually("periodic-agent-logs/?periodic_agent=1&page_size=1&ordering=id", |page| page["count"] == 2).await;

    let small = app.get("periodic-agent-logs/41/").await;
    let mut expected = small.text.replace("\"id\":41", "\"id\":42");
    for (place, text) in [("CONTENT", &content), ("OUTPUT", &output), ("PROMPT", &large.prompt)] {
        expected = expected.replace(&format!("\"{place}\""), &json!(text).to_string());
    }
    let found = app.get("periodic-agent-logs/42/").await;
    assert_eq!((found.status.as_u16(), &found.headers["content-type"]), (200, &small.headers["content-type"]));
    assert!(found.text == expected, "{} bytes are not the {} expected", found.text.len(), expected.len());
    assert_eq!(found.body["agent_output"], json!(output));

    let list = app.get("periodic-agent-logs/?ordering=id").await;
    let whole = format!(r#"{{"count":2,"next":null,"previous":null,"results":[{},{expected}]}}"#, small.text);
    assert!(list.text == whole, "{} bytes are not the {} expected", list.text.len(), whole.len());
    assert_eq!(list.headers["content-type"], small.headers["content-type"]);

    let link = format!("/api/callbacks/orgs/{ORG}/logs/42/?signature={}", signed_link::sign(&world.keys, ORG, 42));
    let answer = app.send("GET", &link, &[], Vec::new()).await;
    assert!(answer.text == content, "the link shows {} bytes", answer.text.len());
    assert_eq!(app.send("HEAD", &link, &[], Vec::new()).await.status, 200);
}

#[tokio::test]
async fn a_search_finds_what_begins_in_one_piece_and_ends_in_another() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let content: String = (0..100_000).map(|number| format!("{number:06X}-")).collect();
    world.record(vec![ended(42, agent, &world, String::new(), content.clone())]).await;
    world.record(vec![ended(43, agent, &world, content.clone(), "small".into())]).await;
    world.until_rows("logs", 2).await;
    let search = async |term: &str| {
        let page = app.get(&format!("periodic-agent-logs/?search={}", term.to_lowercase())).await.ok(200);
        page["results"].as_array().unwrap().iter().map(|log| log["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    // Wherever a text may be cut.
    for at in (32..1024).step_by(32).map(|kilobytes| kilobytes * 1024).take_while(|at| *at < content.len()) {
        assert_eq!(search(&content[at - 10..at + 10]).await, [42], "at {at}");
    }
    assert_eq!(search("SMALL").await, [43]);
    assert!(search("000003-000002").await.is_empty());
    assert_eq!(search(&content[1_000..30_000]).await, [42]);
}

#[tokio::test]
async fn the_pieces_of_a_log_go_when_it_goes() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let id = async || app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let (old, deleted, erased) = (id().await, id().await, id().await);
    for (log, agent) in [(1, old), (2, deleted), (3, erased)] {
        let mut record = ended(log, agent, &world, text(1), "small".into());
        if agent == old {
            record.requested_at -= chrono::TimeDelta::days(11);
        }
        world.record(vec![record]).await;
    }
    world.until_rows("logs", 3).await;
    let each = world.rows("log_pieces WHERE log_id = 2");
    assert!(each > 2 && world.rows("log_pieces") == 3 * each);
    app.organisation(Some(json!({ "retention": { "logs_days": 10 } }))).await.ok(200);
    world.until_rows("logs", 2).await;
    world.until_rows("log_pieces", 2 * each).await;
    app.delete(&format!("periodic-agents/{deleted}/")).await.ok(204);
    world.until_rows("log_pieces", each).await;
    let admin = format!("Bearer {}", world.admin_token());
    app.call_as(&admin, "DELETE", &format!("/api/core/orgs/{ORG}/"), None).await.ok(202);
    world.until_rows("log_pieces", 0).await;
}

#[tokio::test]
async fn a_large_log_that_only_the_dispatcher_has_is_recorded_and_shown() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let record = ended(7, agent, &world, text(1), text(1));
    world.dispatcher.know(record.clone());
    world.dispatcher.know(ended(8, agent + 1, &world, text(1), String::new()));
    let shown = app.get("periodic-agent-logs/7/").await.ok(200);
    assert_eq!(shown["agent_output"], json!(text(1)));
    assert_eq!(app.get("periodic-agent-logs/?status=success").await.ok(200)["count"], 1);
    app.get("periodic-agent-logs/8/").await.ok(404);
    world.dispatcher.set_away(true);
    // Its message changes nothing.
    let mut other = record.clone();
    other.state = RunState::Error;
    other.result = Some(RunResult { reason: Some(RunReason::TimedOut), ..RunResult::default() });
    world.record(vec![record, other, pending_run(9, ORG, agent, world.clock.now())]).await;
    world.until_rows("logs", 2).await;
    assert!(app.get("periodic-agent-logs/7/").await.ok(200) == shown);
}

#[tokio::test]
async fn a_large_log_of_a_run_that_has_not_ended_is_cancelled_like_any_other() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let mut record = pending_run(7, ORG, agent, world.clock.now());
    record.prompt = text(1);
    world.dispatcher.know(record.clone());
    world.record(vec![record]).await;
    world.until_rows("logs", 1).await;
    let cancelled = app.post("periodic-agent-logs/7/cancel/", json!({})).await.ok(202);
    assert_eq!((&cancelled["reason"], &cancelled["prompt"]), (&json!("cancelled"), &json!(text(1))));
    assert!(app.post("periodic-agent-logs/7/cancel/", json!({})).await.ok(202) == cancelled);
}

#[tokio::test]
async fn a_follower_shows_the_beginning_of_a_large_output() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let first = app.agent(&mentor, json!({})).await["id"].as_i64().unwrap();
    let second = app.agent(&mentor, json!({ "previous_agent": first })).await;
    let output = "😀é".repeat(100_000);
    world.record(vec![ended(42, first, &world, output.clone(), String::new())]).await;
    world.until_rows("logs", 1).await;
    let shown = app.get(&format!("periodic-agents/{}/", second["id"])).await.ok(200);
    assert_eq!(shown["previous_agent_output"], json!(output.chars().take(65_536).collect::<String>()));
}

/// A client that has asked for a log and takes only what its socket takes by itself.
async fn ask_and_stop(app: &App<'_>, id: i64) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let address = app.base.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let token = app.world.admin_token();
    let path = path(&format!("periodic-agent-logs/{id}/"));
    let asked = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await.unwrap();
    // It is being answered.
    let mut begun = [0; 12];
    stream.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream
}

#[tokio::test]
async fn who_stops_reading_keeps_nobody_from_the_database_and_may_go_on_later() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    let content = text(8);
    world.record(vec![ended(42, agent, &world, String::new(), content.clone())]).await;
    world.until_rows("logs", 1).await;
    let mut stopped = Vec::new();
    // Many more than there are connections to the database.
    for _ in 0..12 {
        stopped.push(ask_and_stop(&app, 42).await);
    }
    for _ in 0..12 {
        app.get("periodic-agents/").await.ok(200);
        app.agent(&json!({ "unique_id": app.get("").await.body["results"][0]["unique_id"] }), json!({})).await;
    }
    let (mut going_on, mut rest) = (stopped.pop().unwrap(), Vec::new());
    let read = tokio::time::timeout(6 * PATIENCE, going_on.read_to_end(&mut rest));
    read.await.expect("the log does not go on").unwrap();
    let shown = json!(content).to_string();
    assert!(rest.len() > shown.len() && rest.ends_with(b"0\r\n\r\n"), "{} bytes came", rest.len());
}

#[tokio::test]
async fn a_log_that_is_swept_while_it_is_read_ends_too_early_for_all_to_see() {
    let world = World::new().await;
    let app = world.open().await;
    let agent = agent_id(&app).await;
    world.record(vec![ended(42, agent, &world, String::new(), text(8))]).await;
    world.until_rows("logs", 1).await;
    let mut stopped = ask_and_stop(&app, 42).await;
    app.delete(&format!("periodic-agents/{agent}/")).await.ok(204);
    world.until_rows("log_pieces", 0).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(6 * PATIENCE, stopped.read_to_end(&mut rest));
    // Closed or broken off, but not ended as a whole answer is.
    let _ = read.await.expect("the connection is not closed");
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(app.get("periodic-agent-logs/42/").await.status, 404);
    app.get("periodic-agents/").await.ok(200);
}
