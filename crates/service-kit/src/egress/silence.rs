//! A receiver that speaks HTTP/2 and then falls silent, while its kernel goes on acknowledging every byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h2::server;
use reqwest::Method;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::{Guard, GuardedClient, Pings};

/// A receiver whose first connection answers one request and is then frozen; all others answer everything.
async fn receiver() -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let frozen_after = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { usize::MAX };
            tokio::spawn(answer(stream, frozen_after));
        }
    });
    (url, connections)
}

/// Answers so many requests, then keeps the connection and reads nothing from it any more.
async fn answer(stream: TcpStream, requests: usize) {
    let mut connection = server::handshake(stream).await.unwrap();
    for _ in 0..requests {
        let Some(Ok((_, mut respond))) = connection.accept().await else { return };
        respond.send_response(http::Response::new(()), true).unwrap();
        // What is answered is written by the connection, not by the request.
        let written = std::future::poll_fn(|context| {
            let _ = connection.poll_accept(context);
            std::task::Poll::Ready(())
        });
        written.await;
    }
    std::future::pending::<()>().await;
}

/// A client that knows that its receivers speak HTTP/2, as TLS would tell it.
fn client(timeout: Duration, pings: Pings) -> GuardedClient {
    let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let client = guard.builder(timeout, pings).http2_prior_knowledge().build().unwrap();
    GuardedClient { guard, client }
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_given_up() {
    let (url, connections) = receiver().await;
    let pings = Pings { after: Duration::from_millis(50), patience: Duration::from_millis(50) };
    let client = client(Duration::from_secs(5), pings);
    let ask = async || client.request(Method::POST, &url).unwrap().send().await;
    assert!(ask().await.unwrap().status().is_success());

    assert!(ask().await.is_err(), "the frozen connection answered");
    assert!(ask().await.unwrap().status().is_success());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_gave_up_first_leaves_no_dead_connection_to_the_next() {
    let (url, connections) = receiver().await;
    let pings = Pings { after: Duration::from_millis(100), patience: Duration::from_millis(400) };
    let client = client(Duration::from_millis(200), pings);
    let ask = async || client.request(Method::POST, &url).unwrap().send().await;
    assert!(ask().await.unwrap().status().is_success());

    assert!(ask().await.unwrap_err().is_timeout());
    let answered = async { while ask().await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), answered).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}
