//! The API: agents created, retrieved and listed, each beside a bare handler that makes the same one statement.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};
use test_kit::Api;

use crate::bare::per_second;
use crate::bare_handler::BareHandler;
use crate::bed::Bed;
use crate::report::Report;

const MICROSERVICES: [&str; 3] = ["agent-registry", "cron-dispatcher", "callback-deliverer"];
const ROWS: usize = 1_000;
const AT_ONCE: usize = 16;
/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How often each is measured.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("api", quick);
    let (runs, requests) = (options.runs.unwrap_or(if quick { 1 } else { 5 }), if quick { 1_000 } else { 5_000 });
    let unlimited = ("agent-registry", "CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned());
    let mut bed = Bed::start(binaries, &MICROSERVICES, vec![unlimited]).await?;
    let api = bed.stack.api("bench", "admin", 1).await?;
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await?["unique_id"].clone();
    let agent = json!({
        "mentor": mentor, "title": "Agent", "prompt": "p".repeat(350), "task": {"crontab": {"minute": "0", "hour": "0"}},
        "callback_url": "http://127.0.0.1:9/", "callback_secret": "secret",
    });
    flood(&api, ROWS, Method::POST, |_| "periodic-agents/".to_owned(), Some(&agent)).await?;
    bed.analyse()?;
    let bare = BareHandler::start(bed.stack.database("agent-registry"))?;
    let bare = Api::new(bare.base_url(), "bench", "admin", "none")?;
    let first = api.get("periodic-agents/?ordering=id&page_size=1").await?["results"][0]["id"].as_u64().unwrap_or(1);
    let (mut created, mut retrieved, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let agents = || "periodic-agents/".to_owned();
        let one =
            move |number: usize| format!("periodic-agents/{}/", first + u64::try_from(number % ROWS).unwrap_or(0));
        let inserts = flood(&bare, requests, Method::POST, move |_| agents(), Some(&agent)).await?;
        created.push((flood(&api, requests, Method::POST, move |_| agents(), Some(&agent)).await?, inserts));
        let selects = flood(&bare, requests, Method::GET, one, None).await?;
        retrieved.push((flood(&api, requests, Method::GET, one, None).await?, selects));
        let pages = flood(&bare, requests / 4, Method::GET, move |_| agents(), None).await?;
        listed.push((flood(&api, requests / 4, Method::GET, move |_| agents(), None).await?, pages));
    }
    report.compare("agents created", "/s", "bare handler, the same insert", &created);
    report.compare("agents retrieved", "/s", "bare handler, the same select", &retrieved);
    report.compare("pages of agents listed", "/s", "bare handler, a select of the same rows", &listed);
    bed.stop().await?;
    report.finish(output)
}

/// Requests answered a second, so many at once.
async fn flood(
    api: &Api,
    count: usize,
    method: Method,
    path: impl Fn(usize) -> String + Clone + Send + 'static,
    body: Option<&Value>,
) -> anyhow::Result<f64> {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let asking = (0..AT_ONCE).map(|_| {
        let (api, next, method, path) = (api.clone(), Arc::clone(&next), method.clone(), path.clone());
        let body = body.cloned();
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                let (status, answer) = api.call(method.clone(), &path(number), body.as_ref()).await?;
                anyhow::ensure!(status.is_success(), "answered {status} {answer}");
            }
        })
    });
    for one in futures::future::join_all(asking).await {
        one??;
    }
    Ok(per_second(count, began.elapsed()))
}
