//! Receivers that answer badly, and places where callbacks must not go.

use std::time::Duration;

use callback_deliverer::Config;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::receiver::{Answer, Receiver};
use crate::stage::{SECRET, Stage, run};

/// The only delivery attempt that is made with this URL.
async fn attempt(stage: &Stage, url: &str) -> Value {
    let running = stage.start().await;
    stage.announce(7, 1, url, Some(SECRET)).await;
    stage.finish([run(7, 41)]).await;
    let delivery = running.attempted(41, 1).await;
    running.stop().await;
    delivery["delivery_attempts"][0].clone()
}

/// A receiver that reads the request and then says exactly these bytes.
async fn saying(bytes: &'static [u8], then: Then) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut hanging = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 16 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
            if then == Then::Hang {
                hanging.push(stream);
            }
        }
    });
    url
}

/// What a receiver does when it has said everything.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Close,
    Hang,
}

/// Loopback allowed, and a deadline that a test can wait for, and a busy machine can keep.
async fn hasty() -> Stage {
    let config = Config { deadline_ms: 5_000, ..Stage::new().await.config };
    Stage::with(config).await
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = Receiver::answering(Answer::Status(200)).await;
    let receiver = Receiver::answering(Answer::Redirect(elsewhere.url.clone())).await;
    let made = attempt(&Stage::new().await, &receiver.url).await;
    assert_eq!((&made["outcome"], made["http_status"].as_i64()), (&"redirect".into(), Some(307)));
    assert_eq!((receiver.count(), elsewhere.count()), (1, 0));
}

#[tokio::test]
async fn loopback_is_refused_unless_it_is_allowed() {
    let receiver = Receiver::answering(Answer::Status(200)).await;
    let made = attempt(&Stage::with(Config::default()).await, &receiver.url).await;
    assert_eq!(made["outcome"], "refused_address");
    assert!(made["error"].as_str().unwrap().contains("callbacks.allow_networks"), "{made}");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_hits_the_one_deadline() {
    let receiver = Receiver::answering(Answer::Never).await;
    let made = attempt(&hasty().await, &receiver.url).await;
    assert_eq!(made["outcome"], "timeout");
    assert!((5_000..60_000).contains(&made["duration_ms"].as_i64().unwrap()), "{made}");
}

#[tokio::test]
async fn an_answer_that_never_ends_or_breaks_off_counts_by_its_status() {
    for (then, error) in
        [(Then::Hang, "the answer did not end before the deadline"), (Then::Close, "the answer broke off")]
    {
        let failed = saying(b"HTTP/1.1 500 Oops\r\ncontent-length: 100\r\n\r\nbeginning", then).await;
        let made = attempt(&hasty().await, &failed).await;
        assert_eq!((&made["outcome"], made["http_status"].as_i64()), (&"http_status".into(), Some(500)));
        assert_eq!((&made["error"], &made["response_excerpt"]), (&error.into(), &"beginning".into()));

        let taken = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", then).await;
        let made = attempt(&hasty().await, &taken).await;
        assert_eq!((&made["outcome"], &made["error"]), (&"delivered".into(), &error.into()));
    }
}

#[tokio::test]
async fn garbage_and_an_early_close_are_bad_answers() {
    for bytes in [b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(), b"", b"\0\0\0", b"HTTP/1.1 2"] {
        let made = attempt(&Stage::new().await, &saying(bytes, Then::Close).await).await;
        assert_eq!(made["outcome"], "bad_answer", "{made}");
        assert!(!made["error"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn of_a_megabyte_of_answer_only_the_beginning_is_kept() {
    let receiver = Receiver::answering(Answer::Bytes(1 << 20)).await;
    let made = attempt(&Stage::new().await, &receiver.url).await;
    assert_eq!(made["outcome"], "delivered");
    assert_eq!(made["response_excerpt"].as_str().unwrap().len(), 20 * 1024);
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_classified() {
    let plain = Receiver::answering(Answer::Status(200)).await.url.replace("http:", "https:");
    for (url, outcome) in [
        // Port 1 is nobody's.
        ("http://127.0.0.1:1/".to_owned(), "connect_failed"),
        (plain, "tls_failed"),
        ("http://no-such-host.invalid/".to_owned(), "dns_failed"),
        ("ftp://127.0.0.1/".to_owned(), "bad_url"),
        ("http://".to_owned(), "bad_url"),
        ("no url".to_owned(), "bad_url"),
        ("http://10.0.0.1/".to_owned(), "refused_address"),
    ] {
        let made = attempt(&Stage::new().await, &url).await;
        assert_eq!(made["outcome"], outcome, "{url}: {made}");
    }
}

/// A receiver that reads the request and then says these bytes again and again, a while apart.
async fn dripping(first: &'static [u8], drip: Vec<u8>, pause: Duration) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 16 * 1024];
        let _ = stream.read(&mut request).await;
        let mut said = stream.write_all(first).await;
        while said.is_ok() {
            said = stream.write_all(&drip).await;
            tokio::time::sleep(pause).await;
        }
    });
    url
}

#[tokio::test]
async fn a_receiver_that_drips_is_cut_off_at_the_deadline() {
    let pause = Duration::from_millis(20);
    let headers = dripping(b"HTTP/1.1 200 OK\r\n", b"x-drip: 1\r\n".to_vec(), pause).await;
    assert_eq!(attempt(&hasty().await, &headers).await["outcome"], "timeout");
    let body = dripping(b"HTTP/1.1 503 Away\r\ncontent-length: 100000\r\n\r\n", b".".to_vec(), pause).await;
    let made = attempt(&hasty().await, &body).await;
    assert_eq!((&made["outcome"], &made["http_status"]), (&"http_status".into(), &503.into()));
    assert!(made["duration_ms"].as_i64().unwrap() < 60_000, "{made}");
}

#[tokio::test]
async fn a_compressed_answer_is_never_unpacked_and_an_endless_one_is_cut() {
    let bomb = vec![0x1f; 64 * 1024];
    let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1000000000000\r\n\r\n";
    let url = dripping(head, bomb, Duration::ZERO).await;
    let made = attempt(&hasty().await, &url).await;
    assert_eq!(made["outcome"], "delivered");
    assert!(made["response_excerpt"].as_str().unwrap().len() <= 20 * 1024);
}
