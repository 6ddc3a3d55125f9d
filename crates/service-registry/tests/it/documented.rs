//! The seven curl lines of the API's documentation, run as they stand there by the real `curl`.
//!
//! Replaced are the base URL and the three placeholders (`<your token here>` with the quotes that a shell needs around
//! it, `{service_id}`, `{service_group_id}`): bodies, options and paths are untouched, so that each body comes under the
//! content type of a form. The ids in the samples' bodies are given to rows behind the registry's back.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{App, World};

const DOCUMENTED: &str = include_str!("documented_curl.txt");
const SERVICE: &str = "37da66a9-9649-4b7a-9112-f461a2bd923d";
const CONNECTED_SERVICE: &str = "beac0677-85fd-4bc5-820a-71038e355f2e";
const GROUP: &str = "21d05673-3956-4d7d-81ef-8961b182fa37";

/// Runs one of the lines; returns the status and the body.
async fn run(app: &App<'_>, line: &str, service: &str) -> (String, String) {
    let header = "-H Authorization: bearer <your token here>";
    assert!(line.contains(header) && line.contains("https://agentverse.ai/"), "{line}");
    let line = line
        .replace(header, &format!("-H 'Authorization: bearer {}'", app.world.ann()))
        .replace("https://agentverse.ai", &app.base)
        .replace("{service_id}", service)
        .replace("{service_group_id}", GROUP);
    // Only what is shown of the answer is changed: no progress, and the status at the end.
    let script = format!("curl() {{ command curl -q -sS -w '\\n%{{http_code}}' \"$@\"; }}\n{line}\n");
    let output = Command::new("bash").arg("-c").arg(script).env_remove("http_proxy").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

/// The answer that the documentation shows, after which come only keys of ours.
fn sample(name: &str, updated_at: &str) -> String {
    format!(
        "{{\"uuid\":\"{SERVICE}\",\
         \"agent\":\"agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy\",\
         \"name\":\"{name}\",\"description\":\"Retrieves the stock price of a share.\",\
         \"category\":null,\"location\":null,\
         \"protocolDigest\":\"proto:05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a\",\
         \"modelDigest\":\"model:4ec922f7f18419cf7c6742f96eb4543a7ed5c131af077ca2b267607f65e62eb2\",\
         \"modelName\":\"StockPrice/StocksProtocol\",\
         \"fields\":[{{\"name\":\"symbol\",\"required\":true,\"field_type\":\"string\",\
         \"description\":\"The symbol of the share, for example: AAPL, GOOG, MSFT, etc.\"}}],\
         \"taskType\":\"task\",\"created_at\":\"2023-10-22T21:28:46\",\"updated_at\":\"{updated_at}\",\
         \"num_conversions\":0,\"conversion_rate\":0,\"uptime\":0"
    )
}

#[tokio::test]
async fn every_line_of_the_documentation_does_what_it_says() {
    let world = World::new();
    let app = world.open().await;
    let lines: Vec<&str> = DOCUMENTED.split("\n\n").collect();
    let [create, list, fetch, update, delete, connect, disconnect] = lines[..] else { panic!("not seven lines") };
    let give = |table: &str, old: &str, new: &str| {
        world.execute(&format!("UPDATE {table} SET id = '{new}' WHERE id = '{old}'"));
    };

    let (status, body) = run(&app, create, "").await;
    let id = serde_json::from_str::<Value>(&body).unwrap()["uuid"].as_str().unwrap().to_owned();
    let expected = sample("Stock price service", "2023-10-22T21:28:46").replace(SERVICE, &id);
    assert_eq!((status.as_str(), body.as_str()), ("200", format!("{expected},\"endpoint\":null}}").as_str()));
    give("services", &id, SERVICE);

    let (status, body) = run(&app, list, "").await;
    let summary = json!([{
        "uuid": SERVICE,
        "agent": "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy",
        "name": "Stock price service",
        "description": "Retrieves the stock price of a share.",
        "created_at": "2023-10-22T21:28:46",
        "updated_at": "2023-10-22T21:28:46",
    }]);
    assert_eq!((status.as_str(), serde_json::from_str::<Value>(&body).unwrap()), ("200", summary));

    let (status, body) = run(&app, fetch, SERVICE).await;
    let expected = sample("Stock price service", "2023-10-22T21:28:46");
    assert_eq!((status.as_str(), body.starts_with(&expected)), ("200", true), "{body}");

    world.advance(60);
    let (status, body) = run(&app, update, SERVICE).await;
    let expected = sample("Stock price service modified name", "2023-10-22T21:29:46");
    assert_eq!((status.as_str(), body.starts_with(&expected)), ("200", true), "{body}");

    give("services", &app.register(json!({})).await, CONNECTED_SERVICE);
    give("service_groups", &app.group("Stocks", true).await, GROUP);
    let pair = json!({ "service": CONNECTED_SERVICE, "serviceGroup": GROUP });
    let (status, body) = run(&app, connect, "").await;
    assert_eq!((status.as_str(), serde_json::from_str::<Value>(&body).unwrap()), ("200", pair));

    assert_eq!(run(&app, disconnect, CONNECTED_SERVICE).await, ("200".to_owned(), "{}".to_owned()));
    assert_eq!(run(&app, disconnect, CONNECTED_SERVICE).await.0, "404");
    assert_eq!(run(&app, delete, SERVICE).await, ("200".to_owned(), "{}".to_owned()));
    assert_eq!(run(&app, fetch, SERVICE).await.0, "404");
}
