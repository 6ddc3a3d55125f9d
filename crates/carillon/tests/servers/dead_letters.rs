//! What nobody can read, sent to a microservice that runs: it ends as a dead letter and harms nobody.

use std::process::{Child, Stdio};
use std::time::Duration;

use bus::{Message, Queue};
use bytes::Bytes;
use model::event::EventKind;
use test_kit::{Fields, free_address, until};

use crate::place::Place;

const PATIENCE: Duration = Duration::from_secs(180);
const QUEUE: Queue = Queue::CallbackDelivererRuns;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn get(url: String) -> Option<(bool, String)> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.ok()?;
    Some((answer.status().is_success(), answer.text().await.ok()?))
}

/// An ended run in bytes.
fn finished(id: u64) -> Bytes {
    let now = "2026-03-01T12:00:00Z".parse().unwrap();
    let run = Fields::new().number(1, id).text(2, "acme").number(3, 7).text(4, "schedule").time(5, now).time(6, now);
    let record = Fields::new().message(1, &run.number(7, 1).number(8, 1)).text(2, "success").time(4, now).time(5, now);
    let record = record.time(6, now).message(7, &Fields::new().text(1, "success").text(3, "hi"));
    Fields::new().message(1, &record).body()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_a_dead_letter_that_is_counted_and_can_be_sent_back_while_its_neighbours_are_handled() {
    let place = Place::new("poison");
    let admin = free_address().to_string();
    let (url, database) = (place.bus_url(), place.backends.database("deliverer"));
    let environment = [
        ("CARILLON__BUS__URL", url.as_str()),
        ("CARILLON__DATABASE__URL", &database),
        ("CARILLON__HTTP__ADMIN_LISTEN", &admin),
    ];
    let mut command = place.command("callback-deliverer", &environment);
    let _process = Process(command.stdout(Stdio::null()).spawn().unwrap());
    let ready = async || get(format!("http://{admin}/readyz")).await.filter(|(ready, _)| *ready);
    until("the deliverer is ready", PATIENCE, ready).await;

    let bus = bus::open(&url).await.unwrap();
    let time = "2026-03-01T12:00:00Z".parse().unwrap();
    let bodies = [finished(1), Bytes::from_static(b"\xff\xff\xff"), finished(2)];
    let messages = bodies.map(|body| Message::new(EventKind::RunsFinished, "test", time, body));
    bus.publish(messages.into()).await.unwrap();
    let counted = async |count: u32| {
        let wanted = format!("carillon_dead_letters_total{{queue=\"{QUEUE}\"}} {count}");
        let found = async || get(format!("http://{admin}/metrics")).await.filter(|(_, text)| text.contains(&wanted));
        until("the dead letter is counted", PATIENCE, found).await;
    };
    counted(1).await;
    let held = async || (bus.depth(Queue::CronDispatcherRunsHeld).await.unwrap().ready >= 1).then_some(());
    until("its neighbours are said to be held", PATIENCE, held).await;

    let list = place.bus_command(&["dead-letters", "list", QUEUE.as_str()]);
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.lines().count() == 1 && list.contains("the bytes are no RunsFinished message"), "{list}");
    let requeued = place.bus_command(&["dead-letters", "requeue", QUEUE.as_str()]);
    assert_eq!(
        String::from_utf8(requeued.stdout).unwrap(),
        format!("1 dead letters of {QUEUE} are back in the queue\n")
    );
    // Judged anew, once, and given up again: it goes round no further.
    counted(2).await;
    let empty = async || bus.depth(QUEUE).await.unwrap().is_empty().then_some(());
    until("nothing of it is left", PATIENCE, empty).await;
    assert!(ready().await.is_some());
    bus.close().await;
}
