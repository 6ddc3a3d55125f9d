//! A run that calls a registered service, through every real part: registered over HTTP, looked up, called, counted.

use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use test_kit::{Setup, until};

const BINARY: &str = env!("CARGO_BIN_EXE_carillon");
const PATIENCE: Duration = Duration::from_secs(120);

/// An OpenAI-compatible model that calls the first function it is offered, and then says what that answered.
async fn model(body: web::Json<Value>) -> HttpResponse {
    let answered = body["messages"].as_array().unwrap().iter().find(|message| message["role"] == "tool");
    let name = body["tools"][0]["function"]["name"].clone();
    let message = match answered {
        Some(message) => json!({"role": "assistant", "content": format!("It says {}", message["content"])}),
        None if name.is_null() => json!({"role": "assistant", "content": "I was offered nothing"}),
        None => {
            let function = json!({"name": name, "arguments": r#"{"symbol": "ACME"}"#});
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c", "function": function}]})
        }
    };
    HttpResponse::Ok().json(json!({"choices": [{"index": 0, "message": message}]}))
}

/// A service: it wants a token, and names what it was asked for.
async fn price(request: HttpRequest, body: web::Json<Value>) -> HttpResponse {
    let has_token =
        request.headers().get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"Bearer ey"));
    if !has_token {
        return HttpResponse::Unauthorized().finish();
    }
    HttpResponse::Ok().json(json!({"symbol": body["arguments"]["symbol"], "price": 17.5}))
}

fn serve() -> String {
    let app = || {
        App::new()
            .route("/v1/chat/completions", web::post().to(model))
            .service(web::resource("/price").route(web::post().to(price)))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(0).bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

#[tokio::test]
async fn a_run_calls_a_registered_service_and_is_counted_and_another_organisations_is_offered_nothing() {
    let (folder, place) = (tempfile::tempdir().unwrap(), serve());
    let setup = Setup::new(BINARY, folder.path().join("data"));
    let carillon = setup.start().await.unwrap();
    let token = setup.token("acme", "admin", "tenant_admin").await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = async |method: reqwest::Method, path: &str, body: Option<Value>| -> Value {
        let request = client.request(method, format!("{}/v1beta1/{path}", carillon.url())).bearer_auth(&token);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    };
    let service = json!({
        "agent": "agent1qdnt5j8wr7cyzupu759w79scp3uaz50m33lfqazsf2tpfz84qfazjgnvfvy",
        "name": "Stock price service", "description": "Retrieves the stock price of a share.",
        "protocolDigest": "proto:05c3504f6d6486792e8410c9d1c6d626991fc8e0007bae960acb2ab1dd83072a",
        "modelDigest": "model:4ec922f7f18419cf7c6742f96eb4543a7ed5c131af077ca2b267607f65e62eb2",
        "modelName": "StockPrice", "taskType": "task", "endpoint": format!("{place}/price"),
        "fields": [{"name": "symbol", "required": true, "field_type": "string", "description": "As AAPL."}],
    });
    let service = send(reqwest::Method::POST, "services", Some(service)).await;
    let id = service["uuid"].as_str().unwrap();
    let group = json!({"name": "Prices", "isPrivate": false});
    let group = send(reqwest::Method::POST, "service-groups/", Some(group)).await;
    let pair = json!({"service": id, "serviceGroup": group["uuid"]});
    send(reqwest::Method::POST, "services/service-sg/", Some(pair)).await;

    let run = async |organisation: &str| {
        let api = carillon.api(organisation, "admin").await.unwrap();
        let provider = json!({"kind": "openai", "base_url": format!("{place}/v1"), "model": "small"});
        let mentor = json!({
            "template_name": "ai-mentor", "new_mentor_name": "Broker", "provider": provider,
            "service_groups": [group["uuid"]],
        });
        let mentor = api.post("mentor-with-settings/", &mentor).await.unwrap();
        // A crontab that does not come in our time: it runs when it is asked to.
        let never = json!({"minute": "0", "hour": "0", "day_of_month": "29", "month_of_year": "2"});
        let agent = json!({
            "mentor": mentor["unique_id"], "title": "Prices", "prompt": "What is ACME worth?", "task": {"crontab": never},
            "callback_url": format!("{place}/hook"), "callback_secret": "s",
        });
        let agent = api.post("periodic-agents/", &agent).await.unwrap()["id"].clone();
        let log = api.post(&format!("periodic-agents/{agent}/run/"), &json!({})).await.unwrap()["id"].clone();
        until("the run ends", PATIENCE, async || {
            let log = api.get(&format!("periodic-agent-logs/{log}/")).await.unwrap();
            (log["status"] == "success" || log["status"] == "error").then_some(log)
        })
        .await
    };
    let log = run("acme").await;
    let content = log["content"].as_str().unwrap();
    assert!(content.contains("It says") && content.contains("17.5"), "{content}");
    assert!(content.contains("services offered: `Stock price service` as `Stock_price_service`"), "{content}");
    assert!(content.contains("service `Stock price service` answered after"), "{content}");
    let numbers = until("the call is counted, and the endpoint probed", PATIENCE, async || {
        let shown = send(reqwest::Method::GET, &format!("services/{id}"), None).await;
        (shown["num_conversions"] == 1 && shown["uptime"] != 0).then_some(shown)
    })
    .await;
    assert_eq!((&numbers["conversion_rate"], &numbers["uptime"]), (&json!(1.0), &json!(1.0)));

    let log = run("other").await;
    let content = log["content"].as_str().unwrap();
    assert!(content.contains("services offered: none") && content.contains("I was offered nothing"), "{content}");
}
