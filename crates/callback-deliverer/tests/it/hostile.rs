//! Receivers that mean harm, all at once: each delivery attempt is classified, memory stays bounded, slots come back,
//! and what goes elsewhere goes on.

use std::time::Duration;

use callback_deliverer::Config;
use serde_json::Value;
use test_kit::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, run};

/// Long enough that what is answered at once is read in time on a busy machine.
const DEADLINE_MS: u64 = 20_000;
const PAUSE: Duration = Duration::from_millis(50);
const HEALTHY: i64 = 1_000;
/// The beginning of what gzip makes of zeros: each zero byte after it stands for 1,032 of them.
const GZIP_OF_ZEROS: [u8; 24] = [
    0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0x02, 0x03, 0xec, 0xc1, 0x01, 0x01, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 0x08,
    0x0a,
];
/// A megabyte that stands for one gigabyte.
const BOMB_BYTES: usize = 1 << 20;
/// Less than what one bomb would take.
const GROWTH_MAX: u64 = 700 << 20;

/// What a receiver does once it was asked.
enum Then {
    Close,
    /// Closes with a reset, without having read anything.
    Reset,
    Hang,
    /// Says this again and again.
    Repeat(Vec<u8>, Duration),
}

struct Hostile {
    name: &'static str,
    says: Vec<u8>,
    then: Then,
    outcome: &'static str,
    status: Option<i64>,
}

fn hostile(name: &'static str, says: &[u8], then: Then, outcome: &'static str, status: Option<i64>) -> Hostile {
    Hostile { name, says: says.to_vec(), then, outcome, status }
}

/// A small body that unpacks to a gigabyte.
fn bomb(name: &'static str, encoding: &str, skip: usize) -> Hostile {
    let length = GZIP_OF_ZEROS.len() - skip + BOMB_BYTES;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {length}\r\n\r\n");
    let says = [head.as_bytes(), &GZIP_OF_ZEROS[skip..], &vec![0; BOMB_BYTES]].concat();
    Hostile { name, says, then: Then::Close, outcome: "delivered", status: Some(200) }
}

fn all() -> Vec<Hostile> {
    use Then::{Close, Hang, Repeat, Reset};
    // As fast as it is taken.
    let flood = |what: &[u8]| Repeat(what.repeat(65_536 / what.len()), Duration::ZERO);
    vec![
        hostile("drips headers", b"HTTP/1.1 200 OK\r\n", Repeat(b"x-drip: 1\r\n".to_vec(), PAUSE), "timeout", None),
        hostile("drips one header", b"HTTP/1.1 200 OK\r\nx: ", Repeat(b"a".to_vec(), PAUSE), "timeout", None),
        hostile(
            "drips a body",
            b"HTTP/1.1 503 Away\r\ncontent-length: 99999\r\n\r\n",
            Repeat(b".".to_vec(), PAUSE),
            "http_status",
            Some(503),
        ),
        hostile("never answers", b"", Hang, "timeout", None),
        hostile("hangs in the body", b"HTTP/1.1 500 Oops\r\ncontent-length: 9\r\n\r\n", Hang, "http_status", Some(500)),
        hostile("hangs up unread", b"", Reset, "bad_answer", None),
        hostile("hangs up", b"", Close, "bad_answer", None),
        hostile("hangs up in the status line", b"HTTP/1.1 2", Close, "bad_answer", None),
        hostile("hangs up in the headers", b"HTTP/1.1 200 OK\r\nx: y\r\n", Close, "bad_answer", None),
        hostile("speaks SSH", b"SSH-2.0-OpenSSH_9.2\r\n", Close, "bad_answer", None),
        hostile("speaks zeros", b"\0\0\0\0", flood(b"\0\0\0\0"), "bad_answer", None),
        hostile("speaks HTTP/2 unasked", b"\0\0\0\x04\0\0\0\0\0", Hang, "bad_answer", None),
        hostile(
            "switches protocols",
            b"HTTP/1.1 101 Now\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Hang,
            "http_status",
            Some(101),
        ),
        hostile("has endless headers", b"HTTP/1.1 200 OK\r\n", flood(b"x-more: 1\r\n"), "bad_answer", None),
        hostile("has one endless header", b"HTTP/1.1 200 OK\r\nx: ", flood(b"a"), "bad_answer", None),
        hostile(
            "says endlessly to go on",
            b"",
            Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100), PAUSE),
            "timeout",
            None,
        ),
        hostile(
            "has two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            Close,
            "bad_answer",
            None,
        ),
        hostile("has a length below zero", b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Close, "bad_answer", None),
        hostile("has an endless body", b"HTTP/1.1 200 OK\r\n\r\n", flood(b"x"), "delivered", Some(200)),
        hostile(
            "has an endless name of a chunk",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;",
            flood(b"e"),
            "delivered",
            Some(200),
        ),
        hostile(
            "has endless trailers",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            flood(b"x-more: 1\r\n"),
            "delivered",
            Some(200),
        ),
        hostile(
            "redirects to itself",
            b"HTTP/1.1 308 There\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            Close,
            "redirect",
            Some(308),
        ),
        bomb("is a gzip bomb", "gzip", 0),
        bomb("is a deflate bomb", "deflate", 10),
        // What these stand for is no matter: nothing is unpacked, whatever it says it is.
        bomb("is a brotli bomb", "br", 10),
        bomb("is a zstd bomb", "zstd", 10),
    ]
}

/// Serves every connection alike; where it listens.
async fn listen(hostile: Hostile) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hostile = std::sync::Arc::new(hostile);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, std::sync::Arc::clone(&hostile)));
        }
    });
    url
}

async fn serve(mut stream: TcpStream, hostile: std::sync::Arc<Hostile>) {
    if matches!(hostile.then, Then::Reset) {
        // What came and was not read makes the kernel answer with a reset.
        let _ = stream.readable().await;
        return;
    }
    let mut request = vec![0; 64 * 1024];
    let _ = stream.read(&mut request).await;
    let mut said = stream.write_all(&hostile.says).await;
    match &hostile.then {
        Then::Close | Then::Reset => {}
        Then::Hang => std::future::pending().await,
        Then::Repeat(drip, pause) => {
            while said.is_ok() {
                said = stream.write_all(drip).await;
                if !pause.is_zero() {
                    tokio::time::sleep(*pause).await;
                }
            }
        }
    }
}

async fn arrive(healthy: &Receiver, count: usize) {
    let what = format!("{count} arrive where no harm is meant");
    until(&what, Duration::from_secs(180), async || (healthy.count() >= count).then_some(())).await;
}

/// The most memory that this process ever had, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_mean_harm_do_none() {
    let base = Stage::new().await.config;
    let stage = Stage::with(Config { deadline_ms: DEADLINE_MS, in_flight_max: 32, ..base }).await;
    let healthy = Receiver::answering(Answer::Status(200)).await;
    let (running, before) = (stage.start().await, peak_memory());
    stage.announce(HEALTHY, 1, &healthy.url, None).await;
    let (mut expected, mut logs) = (Vec::new(), Vec::new());
    for (agent_id, hostile) in (1..).zip(all()) {
        expected.push((agent_id, hostile.name, hostile.outcome, hostile.status));
        stage.announce(agent_id, 1, &listen(hostile).await, None).await;
        logs.push(run(agent_id, agent_id));
    }
    // What harms and what does not, in turn.
    let well = (0..100).map(|log| run(HEALTHY, HEALTHY + log));
    stage.finish(logs).await;
    stage.finish(well).await;
    arrive(&healthy, 100).await;

    for (log, name, outcome, status) in expected {
        let made = running.delivery(log, |it| it["delivery_attempts_made"].as_i64() > Some(0)).await;
        let made = &made["delivery_attempts"][0];
        assert_eq!((made["outcome"].as_str(), made["http_status"].as_i64()), (Some(outcome), status), "{name}: {made}");
        assert!(made["response_excerpt"].as_str().map_or(0, str::len) <= 20 * 1024, "{name}");
        assert!(outcome == "delivered" || made["error"] != Value::Null || status.is_some(), "{name}: {made}");
        assert!(made["duration_ms"].as_u64() < Some(4 * DEADLINE_MS), "{name}: {made}");
    }
    if let (Some(before), Some(after)) = (before, peak_memory()) {
        assert!(after - before < GROWTH_MAX, "memory grew by {} MiB", (after - before) >> 20);
    }
    // Every slot is there again.
    stage.finish((100..200).map(|log| run(HEALTHY, HEALTHY + log))).await;
    arrive(&healthy, 200).await;
    running.stop().await;
}
