//! What runs did with services, counted.

use std::time::Duration;

use bus::Queue;
use model::id::{OrganisationKey, RunId};
use model::service::{CallFailure, ServiceCall, ServiceInvocation, ServicesInvoked};
use serde_json::{Value, json};
use test_kit::until;
use uuid::Uuid;

use crate::harness::{App, World};

const PATIENCE: Duration = Duration::from_secs(120);

fn invoked(
    app: &App<'_>,
    run_id: i64,
    run_attempt: u32,
    services: &[(&str, &[Option<CallFailure>])],
) -> ServicesInvoked {
    let invocation = |(service, calls): &(&str, &[Option<CallFailure>])| ServiceInvocation {
        service: service.parse().unwrap(),
        calls: calls.iter().map(|failure| ServiceCall { failure: *failure, duration_ms: 5 }).collect(),
    };
    ServicesInvoked {
        run_id: RunId(run_id),
        run_attempt,
        organisation: OrganisationKey("acme".into()),
        at: app.world.clock.now(),
        services: services.iter().map(invocation).collect(),
    }
}

/// What is shown of a service once everything on the bus is counted.
async fn numbers(app: &App<'_>, service: &str) -> Value {
    until("everything is counted", PATIENCE, async || {
        app.bus.depth(Queue::ServiceRegistryInvocations).await.unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(app.bus.dead_letters(Queue::ServiceRegistryInvocations, 10).await.unwrap(), []);
    let shown = app.get(&format!("/services/{service}")).await.ok(200);
    json!([shown["num_conversions"], shown["conversion_rate"], shown["uptime"]])
}

#[tokio::test]
async fn calls_are_counted_once_although_their_message_comes_twice() {
    let world = World::new();
    let app = world.open_at_work().await;
    let (called, offered) = (app.register(json!({})).await, app.register(json!({})).await);
    assert_eq!(numbers(&app, &called).await, json!([0, 0, 0]));
    let one = invoked(&app, 1, 1, &[(&called, &[None, Some(CallFailure::TimedOut)]), (&offered, &[])]);
    for _ in 0..3 {
        app.invoked(&one).await;
    }
    assert_eq!(numbers(&app, &called).await, json!([1, 1.0, 0.5]));
    assert_eq!(numbers(&app, &offered).await, json!([0, 0, 0]));
    app.invoked(&invoked(&app, 2, 1, &[(&called, &[]), (&offered, &[None])])).await;
    // Another attempt of the same run is another.
    app.invoked(&invoked(&app, 1, 2, &[(&called, &[]), (&offered, &[])])).await;
    app.invoked(&invoked(&app, 1, 2, &[(&called, &[]), (&offered, &[])])).await;
    assert_eq!(numbers(&app, &called).await, json!([1, 0.3333, 0.5]));
    assert_eq!(numbers(&app, &offered).await, json!([1, 0.3333, 1.0]));
}

#[tokio::test]
async fn what_many_runs_did_with_many_services_is_counted_by_the_hour() {
    let world = World::new();
    let app = world.open_at_work().await;
    let mut services = Vec::new();
    for _ in 0..30 {
        services.push(app.register(json!({})).await);
    }
    let called: Vec<(&str, &[Option<CallFailure>])> =
        services.iter().map(|service| (service.as_str(), &[None][..])).collect();
    let mut runs = Vec::new();
    for run in 1..=40 {
        world.advance(1);
        runs.push(invoked(&app, run, 1, &called));
    }
    for one in runs.iter().chain(&runs) {
        app.invoked(one).await;
    }
    assert_eq!(numbers(&app, &services[29]).await, json!([40, 1.0, 1.0]));
    for (statement, value) in [
        ("SELECT sum(offered) AS value FROM service_hours", 1_200),
        ("SELECT count(*) AS value FROM service_hours", 30),
        ("SELECT sum(conversions) AS value FROM service_conversions", 1_200),
        ("SELECT count(*) AS value FROM service_invocations", 1_200),
    ] {
        assert_eq!(world.value(statement), value, "{statement}");
    }
}

#[tokio::test]
async fn what_is_not_the_services_fault_does_not_lower_its_uptime() {
    let world = World::new();
    let app = world.open_at_work().await;
    let service = app.register(json!({})).await;
    let calls = [Some(CallFailure::WrongArguments), Some(CallFailure::RunEnded), None];
    app.invoked(&invoked(&app, 1, 1, &[(&service, &calls)])).await;
    assert_eq!(numbers(&app, &service).await, json!([1, 1.0, 1.0]));
}

#[tokio::test]
async fn rates_are_those_of_the_last_day_and_conversions_stay() {
    let world = World::new();
    let app = world.open_at_work().await;
    let service = app.register(json!({})).await;
    app.invoked(&invoked(&app, 1, 1, &[(&service, &[None, Some(CallFailure::Status)])])).await;
    assert_eq!(numbers(&app, &service).await, json!([1, 1.0, 0.5]));
    world.advance(22 * 3600);
    app.invoked(&invoked(&app, 2, 1, &[(&service, &[])])).await;
    assert_eq!(numbers(&app, &service).await, json!([1, 0.5, 0.5]));
    world.advance(2 * 3600);
    assert_eq!(numbers(&app, &service).await, json!([1, 0, 0]));
    // What is counted survives an edit and a restart.
    let mut edited = app.get(&format!("/services/{service}")).await.ok(200);
    edited["num_conversions"] = json!(77);
    edited["name"] = json!("Edited");
    assert_eq!(app.put("/services", edited).await.ok(200)["num_conversions"], 1);
    app.stop().await;
    let app = world.open().await;
    assert_eq!(app.get(&format!("/services/{service}")).await.ok(200)["num_conversions"], 1);
}

#[tokio::test]
async fn a_service_that_is_gone_takes_no_neighbour_with_it() {
    let world = World::new();
    let app = world.open_at_work().await;
    let (gone, left) = (app.register(json!({})).await, app.register(json!({})).await);
    app.delete(&format!("/services/{gone}")).await.ok(200);
    let never = Uuid::from_u128(7).to_string();
    app.invoked(&invoked(&app, 1, 1, &[(&gone, &[None]), (&never, &[None]), (&left, &[None])])).await;
    assert_eq!(numbers(&app, &left).await, json!([1, 1.0, 1.0]));
}

#[tokio::test]
async fn what_was_counted_long_ago_is_forgotten() {
    let world = World::new();
    let app = world.open_at_work().await;
    let service = app.register(json!({})).await;
    app.invoked(&invoked(&app, 1, 1, &[(&service, &[None])])).await;
    assert_eq!(numbers(&app, &service).await, json!([1, 1.0, 1.0]));
    let left = |table: &str| world.value(&format!("SELECT count(*) AS value FROM {table}"));
    assert_eq!((left("service_hours"), left("service_invocations")), (1, 1));
    until("hours and invocations are forgotten", PATIENCE, async || {
        world.advance(24 * 3600);
        (left("service_hours") + left("service_invocations") == 0).then_some(())
    })
    .await;
    assert_eq!(numbers(&app, &service).await, json!([1, 0, 0]));
}
