//! `/metrics` of a running Carillon, held against docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use test_kit::{Receiver, Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(180);

/// A metric: its kind, its labels, and what is said of it.
type Described = (String, BTreeSet<String>, String);

/// The rows of docs/metrics.md.
fn documented() -> BTreeMap<String, Described> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `carillon_"));
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    cells
        .map(|row| (row[0].trim_matches('`').to_owned(), (row[1].to_owned(), words(row[2]), row[3].to_owned())))
        .collect()
}

/// What a scrape says of each metric that it has; the labels of all its samples.
fn scraped(text: &str) -> BTreeMap<String, Described> {
    let mut found: BTreeMap<String, Described> = BTreeMap::new();
    let mut help = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap();
            help.insert(name.to_owned(), text.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = name.to_owned();
            let help = help.get(name).cloned().unwrap_or_default();
            found.insert(current.clone(), (kind.to_owned(), BTreeSet::new(), help));
        } else {
            let labels = line.split_once('{').map(|(_, rest)| rest.rsplit_once('}').unwrap().0).unwrap_or_default();
            // Every other piece stands before an `=` and a quote.
            let names = labels.split('"').step_by(2).map(|name| name.trim_matches([',', '=']).to_owned());
            let names = names.filter(|name| !name.is_empty() && name != "le");
            found.get_mut(&current).unwrap().1.extend(names);
        }
    }
    found
}

#[tokio::test]
async fn everything_that_is_scraped_is_documented_and_what_operators_need_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().unwrap();
    // Sixty times as fast: what waits is measured four times a second.
    let setup = Setup::new(BINARY, folder.path().join("data")).with_clock_rate(60);
    let carillon = setup.start().await.unwrap();
    let api = carillon.api("acme", "admin").await.unwrap();
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    // Nobody is at the second: its endpoint fails.
    for url in [format!("{}/hook", receiver.url()), "http://127.0.0.1:1/".to_owned()] {
        let agent = json!({
            "mentor": mentor["unique_id"], "title": url, "prompt": "what is new?", "task": {"crontab": {}},
            "callback_url": url, "callback_secret": "s3cret",
        });
        let agent = api.post("periodic-agents/", &agent).await.unwrap();
        let run = format!("periodic-agents/{}/run/", agent["id"]);
        // On a clock this fast what one part signs for another is good for a second: it may have to be asked again.
        until("it runs", PATIENCE, async || api.post(&run, &json!({})).await.ok()).await;
    }
    // A mentor that never answers: this run ends by the dispatcher's own verdict.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let provider = json!({"kind": "http", "base_url": format!("http://{}/", silent.local_addr().unwrap())});
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Silent", "provider": provider});
    let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
    let agent = json!({"mentor": mentor["unique_id"], "title": "Silent", "prompt": "?", "task": {"crontab": {}, "enabled": false}});
    let agent = api.post("periodic-agents/", &agent).await.unwrap();
    let run = format!("periodic-agents/{}/run/", agent["id"]);
    let log = until("it runs", PATIENCE, async || api.post(&run, &json!({})).await.ok()).await;
    let cancel = format!("periodic-agent-logs/{}/cancel/", log["id"]);
    until("it is cancelled", PATIENCE, async || api.post(&cancel, &json!({})).await.ok()).await;

    let needed = [
        "carillon_condition_met",
        "carillon_database_connections_in_use",
        "carillon_database_wait_seconds",
        "carillon_dead_letters_total",
        "carillon_deliveries_due",
        "carillon_deliveries_settled_total",
        "carillon_delivery_attempts_total",
        "carillon_endpoints_unwell",
        "carillon_http_requests_total",
        "carillon_oldest_due_delivery_seconds",
        "carillon_oldest_due_tick_seconds",
        "carillon_oldest_queued_run_seconds",
        "carillon_requests_lost_total",
        "carillon_run_seconds",
        "carillon_runs",
        "carillon_runs_ended_total",
        "carillon_window_size",
    ];
    let all_are_there = async || {
        let answer = reqwest::get(format!("http://{}/metrics", carillon.admin_url().trim_start_matches("http://")));
        let text = answer.await.unwrap().text().await.unwrap();
        let failing = text.contains("carillon_endpoints_unwell{state=\"failing\"} 1");
        let cancelled = text.contains("carillon_runs_ended_total{state=\"error\",reason=\"cancelled\"} 1");
        let found = scraped(&text);
        (failing && cancelled && needed.iter().all(|name| found.contains_key(*name))).then_some(found)
    };
    let found = until("what operators need is there", PATIENCE, all_are_there).await;
    let documented = documented();
    for (name, described) in found {
        assert_eq!(Some(&described), documented.get(&name), "{name}");
    }
}
