//! What comes too late: outcomes of leases that ran out, and answers of receivers whose place another has taken.

use chrono::TimeDelta;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::receiver::{Answer, Receiver};
use crate::stage::{Stage, next_documents_held, run};

#[tokio::test]
async fn what_is_still_on_its_way_is_not_sent_again_when_its_lease_runs_out() {
    let stage = Stage::new().await;
    let (slow, quick) = (Receiver::answering(Answer::Never).await, Receiver::answering(Answer::Status(200)).await);
    let running = stage.start().await;
    stage.announce(7, 1, &slow.url, None).await;
    stage.announce(8, 1, &quick.url, None).await;
    stage.finish([run(8, 42)]).await;
    let delivered = running.settled(42, "delivered").await;
    stage.finish([run(7, 41)]).await;
    slow.received(1).await;
    stage.clock.advance(TimeDelta::hours(1));
    // What is claimed now is claimed after the one whose lease ran out.
    running.post(&format!("deliveries/{}/replay", delivered["id"]), &json!({})).await;
    quick.received(2).await;
    running.delivery(42, |it| it["delivery_attempts_made"] == 2).await;
    assert_eq!(slow.count(), 1);
    running.crash().await;
}

#[tokio::test]
async fn what_a_former_receiver_says_late_does_not_disable_the_present_one() {
    let stage = Stage::new().await;
    let (asked, is_asked) = oneshot::channel();
    let (let_answer, may_answer) = oneshot::channel();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let former = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 16 * 1024]).await.unwrap();
        asked.send(()).unwrap();
        may_answer.await.unwrap();
        stream.write_all(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    });
    let present = Receiver::answering(Answer::Status(200)).await;
    let (running, mut held) = (stage.start().await, stage.documents_held().await);
    stage.announce(7, 1, &former, None).await;
    next_documents_held(&mut held).await;
    stage.finish([run(7, 41)]).await;
    is_asked.await.unwrap();
    stage.announce(7, 2, &present.url, None).await;
    next_documents_held(&mut held).await;
    let_answer.send(()).unwrap();

    let delivered = running.settled(41, "delivered").await;
    assert_eq!(delivered["delivery_attempts"][0]["outcome"], "gone");
    assert_eq!(running.get("endpoints/7").await.1["callback_state"], "ok");
    assert_eq!(present.count(), 1);
}
