//! Kills a process that works with the bus, again and again, and looks whether anything confirmed is missing.
//!
//! The process is this test binary itself, started with the name of the ignored test at the end.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bus::embedded::EmbeddedBus;
use bus::{Bus, Delivery};
use rand::Rng;

use super::open;
use crate::contract::{ANY_BYTES, QUEUE, messages, numbers, run_requested, take};

const ROUNDS: usize = 15;
const PATH_VARIABLE: &str = "BUS_KILL_TEST_PATH";
const FIRST_NUMBER_VARIABLE: &str = "BUS_KILL_TEST_FIRST_NUMBER";

/// What the killed processes said of their messages.
#[derive(Default)]
struct Said {
    publishing: HashSet<usize>,
    confirmed: HashSet<usize>,
    acknowledging: HashSet<usize>,
    acknowledged: HashSet<usize>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let Some((word, number)) = line.split_once(' ') else { return };
        let said = match word {
            "publishing" => &mut self.publishing,
            "confirmed" => &mut self.confirmed,
            "acknowledging" => &mut self.acknowledging,
            "acknowledged" => &mut self.acknowledged,
            _ => return,
        };
        said.extend(number.parse::<usize>());
    }

    fn check(&self, stored: &[usize]) {
        let present: HashSet<usize> = stored.iter().copied().collect();
        assert_eq!(present.len(), stored.len(), "a message is there twice");
        let lost: Vec<_> = self.confirmed.difference(&self.acknowledging).filter(|n| !present.contains(n)).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        let undead: Vec<_> = self.acknowledged.intersection(&present).collect();
        assert!(undead.is_empty(), "acknowledged and still there: {undead:?}");
        assert!(present.is_subset(&self.publishing), "there is what nobody published");
    }
}

#[tokio::test]
async fn nothing_confirmed_is_lost_when_the_process_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.sqlite");
    let mut said = Said::default();
    for round in 0..ROUNDS {
        let path = path.clone();
        said = tokio::task::spawn_blocking(move || {
            run_and_kill(&path, round * 1_000_000, &mut said);
            said
        })
        .await
        .unwrap();

        said.check(&stored(&directory.path().join("bus.sqlite")).await);
    }
    println!("{ROUNDS} kills, {} confirmed, {} acknowledged", said.confirmed.len(), said.acknowledged.len());
    assert!(said.confirmed.len() > ROUNDS && said.acknowledged.len() > ROUNDS);
}

/// Starts the process, waits until it works, kills it at some moment, and hears the last that it said.
fn run_and_kill(path: &Path, first_number: usize, said: &mut Said) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::kill::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(PATH_VARIABLE, path)
        .env(FIRST_NUMBER_VARIABLE, first_number.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        said.hear(&line);
        if line.starts_with("acknowledged ") {
            break;
        }
    }
    // Not to wait for anything, but to kill at a random point of its work.
    let moment = Duration::from_millis(rand::rng().random_range(0..120));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(moment);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    lines.for_each(|line| said.hear(&line));
    killer.join().unwrap();
}

/// What is in the queue, left there.
async fn stored(path: &Path) -> Vec<usize> {
    let bus = open(path).await;
    let depth = bus.depth(QUEUE).await.unwrap();
    assert_eq!((depth.unacknowledged, depth.delayed), (0, 0));
    let mut consumer = bus.consume(QUEUE, 60_000).await.unwrap();
    let taken = take(&mut consumer, usize::try_from(depth.ready).unwrap()).await;
    let stored = numbers(&messages(&taken));
    drop((taken, consumer));
    bus.close().await;
    stored
}

fn say(word: &str, numbers: &[usize]) {
    let mut lines: String = numbers.iter().map(|n| format!("{word} {n}\n")).collect();
    // The harness says "test … ... " without an end of the line before anything else.
    lines.insert(0, '\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(lines.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

/// Publishes and acknowledges until it is killed, saying what it does before and after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is the process that the test above starts and kills"]
async fn the_process_that_is_killed() {
    let (Some(path), Some(first)) = (std::env::var_os(PATH_VARIABLE), std::env::var_os(FIRST_NUMBER_VARIABLE)) else {
        return;
    };
    let first: usize = first.to_str().unwrap().parse().unwrap();
    let bus = Arc::new(EmbeddedBus::open(Path::new(&path)).unwrap());
    for publisher in 0..3 {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move {
            for batch in 0.. {
                let numbers: Vec<usize> =
                    (0..=batch % 4).map(|n| first + publisher * 100_000 + batch * 4 + n).collect();
                say("publishing", &numbers);
                bus.publish(numbers.iter().map(|n| run_requested(*n)).collect()).await.unwrap();
                say("confirmed", &numbers);
            }
        });
    }
    let mut consumer = bus.consume(QUEUE, 20).await.unwrap();
    while let Some(batch) = consumer.next_batch(7, ANY_BYTES).await {
        let numbers = numbers(&messages(&batch));
        say("acknowledging", &numbers);
        Delivery::ack_all(batch).await.unwrap();
        say("acknowledged", &numbers);
    }
}
