//! How often the service registry is asked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use futures::stream;
use model::service::CallableServices;
use model::wire::Wire;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{STOCKS, ask, registry, runner, says, service};
use crate::harness::{World, within};
use crate::model_server::{ModelServer, Script, status};

#[tokio::test]
async fn runs_that_begin_together_ask_the_service_registry_once() {
    let world = World::new().await;
    let body = CallableServices { services: vec![service(STOCKS, "Stocks", "https://s.example/")] }.encode();
    let slow: Script = Box::new(move || {
        let body = body.clone();
        let later = async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok::<_, std::io::Error>(body)
        };
        HttpResponse::Ok().content_type("application/x-protobuf").streaming(stream::once(later))
    });
    let registry = ModelServer::start(&world.clock, vec![slow]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    for id in 1..=30 {
        world.request(&ask(id, &model)).await;
    }
    let mut ended = HashSet::new();
    for _ in 0..30 {
        let answer = world.end().await;
        assert!(answer.result.log.contains("services offered: `Stocks`"), "{}", answer.result.log);
        ended.insert(answer.run_id);
    }
    assert_eq!((ended.len(), registry.asked_until_now().len()), (30, 1));
}

#[tokio::test]
async fn while_the_service_registry_is_ill_it_is_asked_once_a_second() {
    let world = World::new().await;
    let ill = ModelServer::start(&world.clock, vec![status(503, json!({}))]);
    let _runner = runner(&world, &ill.url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    for (id, asked) in [(1, 1), (2, 1), (3, 2)] {
        if id == 3 {
            world.advance(1_000);
        }
        world.request(&ask(id, &model)).await;
        let log = world.end().await.result.log;
        assert!(log.contains("no services are offered: the service registry is away (it answered 503"), "{log}");
        assert_eq!(ill.asked_until_now().len(), asked, "run {id}");
    }
}

#[tokio::test]
async fn a_silent_service_registry_is_asked_once_and_left_alone_for_a_second() {
    let world = World::new().await;
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let connected = Arc::new(watch::Sender::new(0));
    let counting = Arc::clone(&connected);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            open.push(connection);
            counting.send_replace(open.len());
        }
    });
    let _runner = runner(&world, &url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    world.request(&ask(1, &model)).await;
    within("it is asked", connected.subscribe().wait_for(|connections| *connections == 1)).await.unwrap();
    // So long it is waited for.
    world.advance(3_000);
    assert_eq!(world.end().await.result.output, "fine");
    world.request(&ask(2, &model)).await;
    let log = world.end().await.result.log;
    assert!(log.contains("no services are offered: the service registry is away"), "{log}");
    assert_eq!(*connected.borrow(), 1);
}

#[tokio::test]
async fn a_large_answer_is_kept_as_a_small_one_is() {
    let world = World::new().await;
    let mut large = service(STOCKS, "Stocks", "https://s.example/");
    large.fields[0].description = "d".repeat(200_000);
    let registry = registry(&world, vec![large]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![says("fine")]);
    for id in 1..=2 {
        world.request(&ask(id, &model)).await;
        assert_eq!(world.end().await.result.output, "fine");
    }
    assert_eq!(registry.asked_until_now().len(), 1);
}
