//! Drain: a process that is asked to stop ends what it has in hand, and takes nothing new.
//!
//! `RATE` (runs per second, 500) and `ROUNDS` (20) are for machines that cannot do as much, or have no time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use test_kit::Forgotten;

use crate::scenario::{CLOCK_RATE, Load, Scenario};

/// Two of each, so that the other goes on, as when a new version is rolled out; the service registry is asked by none.
const REPLICAS: [(&str, usize); 5] = [
    ("cron-dispatcher", 2),
    ("agent-runner", 2),
    ("callback-deliverer", 2),
    ("agent-registry", 2),
    ("service-registry", 1),
];
/// `runner.drain_seconds` as it is by default; nobody else may take longer.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a mentor thinks: so there is always something in hand, and it is shorter than the drain.
const THINKS: Duration = Duration::from_millis(300);
/// Runs that each runner may have in hand.
const CONCURRENCY: usize = 256;

/// A mentor that repeats its prompt, and remembers how often each run has asked.
#[derive(Clone, Default)]
struct Mentor {
    asked: Arc<Mutex<HashMap<i64, usize>>>,
}

impl Mentor {
    /// Listens until the runtime ends; returns where.
    fn listen(&self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let asked = self.clone();
        let app = move || App::new().app_data(web::Data::new(asked.clone())).default_service(web::to(answer));
        tokio::spawn(HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("it listens").run());
        url
    }

    /// Runs that asked more than once.
    fn asked_again(&self) -> Vec<(i64, usize)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(_, times)| **times > 1).map(|(run, times)| (*run, *times)).collect()
    }
}

async fn answer(question: web::Json<Value>, mentor: web::Data<Mentor>) -> HttpResponse {
    let run = question["session"]["log_id"].as_i64().unwrap_or_default();
    *mentor.asked.lock().unwrap_or_else(PoisonError::into_inner).entry(run).or_default() += 1;
    tokio::time::sleep(THINKS).await;
    HttpResponse::Ok().json(json!({ "output": question["prompt"] }))
}

fn number(name: &str, default: usize) -> usize {
    let given = std::env::vars().find(|(given, value)| given == name && !value.is_empty());
    given.map_or(default, |(_, value)| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_asked_to_stop_ends_what_it_has_in_hand_and_nothing_is_asked_twice() {
    let (rate, rounds) = (number("RATE", 500), number("ROUNDS", 20));
    let mentor = Mentor::default();
    // A tick of each agent every six seconds, spread by its jitter.
    let load = Load {
        replicas: REPLICAS.to_vec(),
        agents: rate * 60 / CLOCK_RATE as usize,
        provider: json!({"kind": "http", "base_url": mentor.listen()}),
        task: json!({"crontab": {}, "jitter_seconds": 59}),
        settings: vec![
            ("agent-runner", "RUNNER__CONCURRENCY", CONCURRENCY.to_string()),
            // What is overdue by a clock that runs faster than the mentor thinks, would be asked for again.
            ("cron-dispatcher", "DISPATCHER__OVERDUE_MS", (5_000 * u64::from(CLOCK_RATE)).to_string()),
        ],
    };
    let mut scenario = Scenario::of(load).await;
    scenario.busy().await;

    let (began, before) = (Instant::now(), scenario.receiver.count());
    let mut longest: HashMap<&str, Duration> = HashMap::new();
    for round in 0..rounds {
        for (name, replicas) in REPLICAS {
            let replica = scenario.stack.replica(name, 1 + round % replicas);
            let asked = Instant::now();
            let code = replica.stop().await.expect("it ends");
            let took = asked.elapsed();
            assert_eq!(code, Some(0), "{name} in round {round}, after {took:?}");
            assert!(took <= DRAIN, "{name} in round {round} took {took:?}");
            let slowest = longest.entry(name).or_default();
            *slowest = took.max(*slowest);
            replica.start().expect("it starts");
            replica.ready().await.expect("it is ready");
        }
    }
    let (took, callbacks) = (began.elapsed(), scenario.receiver.count() - before);
    println!("{rounds} stops of each, {:.0} runs/s, the longest: {longest:?}", callbacks as f64 / took.as_secs_f64());

    let report = scenario.verify(&Forgotten::default()).await;
    assert_eq!(report.failed, 0, "runs ended with an error");
    assert_eq!(mentor.asked_again(), [], "runs that asked their mentor again");
    assert_eq!(report.repeated, 0, "callbacks came again");
    println!("{} runs, {} spans of skipped ticks", report.runs, report.skipped_spans);
}
