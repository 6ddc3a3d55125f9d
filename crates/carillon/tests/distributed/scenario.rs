//! What all these tests do: let agents fire every minute of a fast clock, do harm, and compare every tick, run and
//! callback in the end.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use test_kit::{Api, Forgotten, Ledger, Plan, Receiver, Report, Stack, until};

/// How much faster than time the clock of a scenario runs: a tick of each agent every six seconds.
pub(crate) const CLOCK_RATE: u32 = 10;
/// How long anything may take that has to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

const SECRET: &str = "a secret";
const LATER_PROMPT: &str = "asked after all that";
/// Requests to the API at the same time.
const AT_ONCE: usize = 8;

/// What is to fire, and on what.
pub(crate) struct Load {
    /// So many of each microservice.
    pub(crate) replicas: Vec<(&'static str, usize)>,
    /// So many agents.
    pub(crate) agents: usize,
    /// How their mentor is asked.
    pub(crate) provider: Value,
    /// Their crontab: every minute.
    pub(crate) task: Value,
    /// As [`Plan::settings`].
    pub(crate) settings: Vec<(&'static str, &'static str, String)>,
}

/// A stack whose agents fire.
pub(crate) struct Scenario {
    pub(crate) stack: Stack,
    pub(crate) receiver: Receiver,
    agent_ids: Vec<i64>,
}

impl Scenario {
    /// Starts so many of each, and makes so many agents that echo, and all fire at the same moment.
    pub(crate) async fn begin(replicas: &[(&'static str, usize)], agents: usize) -> Self {
        let (replicas, settings) = (replicas.to_vec(), Vec::new());
        let (provider, task) = (json!({"kind": "echo"}), json!({"crontab": {}}));
        Self::of(Load { replicas, agents, provider, task, settings }).await
    }

    /// Starts it, and makes its agents, through all registries in turn.
    pub(crate) async fn of(load: Load) -> Self {
        let Load { replicas, agents, provider, task, settings } = load;
        let binaries = Path::new(env!("CARGO_BIN_EXE_carillon")).parent().expect("a folder").to_owned();
        let plan = Plan { binaries, replicas, clock_rate: CLOCK_RATE, settings };
        let mut stack = Stack::start(plan).await.expect("a stack");
        let receiver = Receiver::start().expect("a receiver");
        let mut apis = Vec::new();
        for number in 1..=stack.replicas("agent-registry").len() {
            apis.push(stack.api("acme", "admin", number).await.expect("a token"));
        }
        let agent_ids = make_agents(&apis, receiver.url(), agents, &provider, &task).await;
        Self { stack, receiver, agent_ids }
    }

    /// Waits until so many callbacks have arrived.
    pub(crate) async fn called_back(&self, count: usize) {
        let what = format!("{count} callbacks have arrived");
        until(&what, PATIENCE, async || (self.receiver.count() >= count).then_some(())).await;
    }

    /// Waits until callbacks come: all agents fire at the same moment, so this is when every part has work in hand.
    pub(crate) async fn busy(&self) {
        self.called_back(self.receiver.count() + self.agent_ids.len() / 10).await;
    }

    /// How long it takes from now until everything that was due by now has run, is in the log and has been called back.
    pub(crate) async fn recovered(&self) -> Duration {
        let (since, now) = (Instant::now(), self.stack.now().to_rfc3339());
        let unsettled = format!(
            "SELECT (SELECT count(*) FROM schedules WHERE next_fire_at <= '{now}')
                  + (SELECT count(*) FROM runs WHERE fire_time <= '{now}' AND NOT (registry_held AND deliverer_held))
                    AS value"
        );
        self.none("cron-dispatcher", &unsettled).await;
        let newest = format!("SELECT coalesce(max(id), 0) AS value FROM runs WHERE fire_time <= '{now}'");
        let newest = self.stack.query("cron-dispatcher", &newest).await.expect("a number")[0];
        let undelivered =
            format!("SELECT count(*) AS value FROM deliveries WHERE status = 'pending' AND log_id <= {newest}");
        self.none("callback-deliverer", &undelivered).await;
        since.elapsed()
    }

    /// Waits until a count is zero; a database that is away is waited for too.
    async fn none(&self, microservice: &str, count: &str) {
        let none = async || matches!(self.stack.query(microservice, count).await.as_deref(), Ok([0])).then_some(());
        until(&format!("in {microservice} `{count}` is 0"), PATIENCE, none).await;
    }

    /// All run ids of a table.
    pub(crate) async fn ids(&self, microservice: &str, table: &str) -> BTreeSet<i64> {
        let found = self.stack.query(microservice, &format!("SELECT id AS value FROM {table}")).await;
        found.expect("ids").into_iter().collect()
    }

    /// Sees that later edits take effect, stops the ticks, lets everything come to rest, and compares.
    pub(crate) async fn verify(&mut self, forgotten: &Forgotten) -> Report {
        self.stack.all_ready().await.expect("all are ready");
        let registries = self.stack.replicas("agent-registry").len();
        let api = self.stack.api("acme", "admin", registries).await.expect("a token");
        self.edit(&api).await;
        self.rest().await;
        let ledger = Ledger { api: &api, agent_ids: &self.agent_ids, secret: SECRET };
        let began = Instant::now();
        let report = ledger.verify_restored(&self.receiver.callbacks(), forgotten).await.expect("the API answers");
        println!("compared {} runs in {:.1} s", report.runs, began.elapsed().as_secs_f64());
        let some = &report.faults[..report.faults.len().min(20)];
        assert!(report.faults.is_empty(), "{} faults, among them {some:#?}", report.faults.len());
        println!("{}", self.stack.verify_ledger().await.expect("every tick is accounted for").trim_end());
        report
    }

    /// An edit reaches the dispatcher (the prompt) and the deliverer (the URL); then every agent is disabled.
    async fn edit(&self, api: &Api) {
        let first = format!("periodic-agents/{}/", self.agent_ids[0]);
        let later = json!({"prompt": LATER_PROMPT, "callback_url": format!("{}/later", self.receiver.url())});
        api.patch(&first, &later).await.expect("edited");
        let arrived = async || {
            let callbacks = self.receiver.callbacks();
            let mut later = callbacks.iter().rev().filter(|callback| callback.path == "/later");
            later.any(|callback| callback.json()["agent_output"].to_string().contains(LATER_PROMPT)).then_some(())
        };
        until("an edit takes effect", PATIENCE, arrived).await;
        let disable = |id: &i64| {
            let path = format!("periodic-agents/{id}/");
            async move { api.patch(&path, &json!({"task": {"enabled": false}})).await }
        };
        let disabled: Result<Vec<_>, _> =
            stream::iter(&self.agent_ids).map(disable).buffered(AT_ONCE).try_collect().await;
        disabled.expect("disabled");
        self.none("cron-dispatcher", "SELECT count(*) AS value FROM schedules WHERE next_fire_at IS NOT NULL").await;
    }

    /// Nothing is left in flight: in no database, and in no queue.
    async fn rest(&self) {
        for (microservice, in_flight) in [
            ("cron-dispatcher", "runs WHERE ended_at IS NULL OR check_at IS NOT NULL"),
            ("cron-dispatcher", "run_bodies"),
            ("callback-deliverer", "deliveries WHERE status = 'pending'"),
            ("agent-registry", "documents WHERE version > dispatcher_held_version OR version > deliverer_held_version"),
        ] {
            self.none(microservice, &format!("SELECT count(*) AS value FROM {in_flight}")).await;
        }
        let list = ["list_queues", "-p", self.stack.virtual_host(), "--no-table-headers", "name", "messages"];
        let empty = async || {
            let queues = self.stack.services().broker(&list).await.ok()?;
            let counts = queues.lines().filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok());
            let counts: Vec<u64> = counts.collect();
            (counts.len() > 8 && counts.iter().sum::<u64>() == 0).then_some(())
        };
        until("all queues are empty", PATIENCE, empty).await;
    }
}

async fn make_agents(apis: &[Api], receiver_url: &str, count: usize, provider: &Value, task: &Value) -> Vec<i64> {
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Mentor", "provider": provider});
    let mentor = apis[0].post("mentor-with-settings/", &mentor).await.expect("a mentor");
    let make = |number: usize| {
        let agent = json!({
            "mentor": mentor["unique_id"], "title": format!("Agent {number}"), "prompt": format!("question {number}"),
            "task": task, "callback_url": receiver_url, "callback_secret": SECRET,
        });
        async move { apis[number % apis.len()].post("periodic-agents/", &agent).await }
    };
    let made: Result<Vec<Value>, _> = stream::iter(0..count).map(make).buffered(AT_ONCE).try_collect().await;
    made.expect("agents").iter().map(|agent| agent["id"].as_i64().expect("an id")).collect()
}
