//! Connections that break, freeze or never were: nothing confirmed is lost, and everything goes on by itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::rabbitmq::RabbitMqBus;
use bus::{Bus, BusError, Delivery, Depth, PublishError};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use crate::contract::handler::{NOT_HERE, Running, becomes_true, options};
use crate::contract::{
    ANY_BYTES, Installation, QUEUE, depth_becomes, message, messages, numbers, run_requested, runs_requested, soon,
    take,
};
use crate::installation::{RabbitMqInstallation, url};

async fn connected_becomes(bus: &dyn Bus, expected: bool) {
    let mut connected = bus.connected();
    soon(connected.wait_for(|connected| *connected == expected)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_and_consuming_go_on_by_themselves_when_connections_break_again_and_again() {
    let installation = RabbitMqInstallation::new().await;
    let bus: Arc<dyn Bus> = installation.open().await;
    let publisher = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move {
            for n in 0..400 {
                bus.publish(vec![run_requested(n)]).await.unwrap();
            }
        }
    });
    let breaker = tokio::spawn({
        let proxy = installation.proxy();
        async move {
            for _ in 0..5 {
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(50)).await;
                proxy.mend();
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
        }
    });
    let mut consumer = bus.consume(QUEUE, 50).await.unwrap();
    let mut arrived = BTreeSet::new();
    while arrived.len() < 400 {
        let batch = soon(consumer.next_batch(20, ANY_BYTES)).await.unwrap();
        arrived.extend(numbers(&messages(&batch)));
        // Fails if the connection broke in between: then they come again.
        let _ = Delivery::ack_all(batch).await;
    }
    soon(publisher).await.unwrap();
    soon(breaker).await.unwrap();
    connected_becomes(&*bus, true).await;
    // What was published twice, or could not be acknowledged, comes again, and then nothing is left. That the last
    // connection broke may be heard of only now.
    while !bus.depth(QUEUE).await.is_ok_and(|depth| depth.is_empty()) {
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(50), consumer.next_batch(20, ANY_BYTES)).await {
            let _ = Delivery::ack_all(batch.unwrap()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_hand_when_the_connection_broke_comes_again_and_settling_it_fails() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    bus.publish(runs_requested(4)).await.unwrap();
    let mut consumer = bus.consume(QUEUE, 4).await.unwrap();
    let mut in_hand = take(&mut consumer, 4).await;

    installation.proxy().cut();
    connected_becomes(&*bus, false).await;
    installation.proxy().mend();
    let again = take(&mut consumer, 4).await;
    assert_eq!(numbers(&messages(&again)), [0, 1, 2, 3]);
    assert!(again.iter().all(|delivery| delivery.failures == 0));

    // Their tags name other messages now, which must not be settled in their place.
    assert!(matches!(in_hand.remove(0).ack().await, Err(BusError::Unavailable(_))));
    let late = in_hand.remove(0).retry_later(Duration::from_secs(60), "too late").await;
    assert!(matches!(late, Err(BusError::Unavailable(_))), "{late:?}");
    drop(in_hand);
    depth_becomes(&*bus, QUEUE, Depth { unacknowledged: 4, ..Depth::default() }).await;
    Delivery::ack_all(again).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_stops_waiting_while_a_consumer_reconnects_leaves_none_behind_that_nobody_reads() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let broker = installation.connect().await;
    let channel = broker.create_channel().await.unwrap();
    let queue = installation.queues(QUEUE).remove(0);
    let consumers = async || {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.clone().into(), options, FieldTable::default()).await.unwrap().consumer_count()
    };
    for _ in 0..5 {
        installation.proxy().cut();
        connected_becomes(&*bus, false).await;
        installation.proxy().mend();
        // Whatever step of consuming again is under way: nobody waits for more than a moment.
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            let moment = Duration::from_micros(200);
            assert!(tokio::time::timeout(moment, consumer.next_batch(1, ANY_BYTES)).await.is_err());
        }
        connected_becomes(&*bus, true).await;
        bus.publish(vec![run_requested(1)]).await.unwrap();
        Delivery::ack_all(soon(consumer.next_batch(1, ANY_BYTES)).await.unwrap()).await.unwrap();
        // A busy broker still counts who has just gone.
        becomes_true(|| async { consumers().await == 1 }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_loop_says_that_it_is_not_ready_while_the_connection_is_away() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let running = Running::start(&bus, options(NOT_HERE), |_| Ok(()));
    let ready_becomes = |expected: &'static [bool]| {
        let ready = Arc::clone(&running.ready);
        becomes_true(move || {
            let matches = *ready.lock().unwrap() == expected;
            async move { matches }
        })
    };
    ready_becomes(&[true]).await;
    installation.proxy().cut();
    ready_becomes(&[true, false]).await;
    installation.proxy().mend();
    ready_becomes(&[true, false, true]).await;
    bus.publish(runs_requested(3)).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth::default()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_are_heard_again_when_the_connection_is_back() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let mut subscription = bus.subscribe().await.unwrap();
    installation.proxy().cut();
    connected_becomes(&*bus, false).await;
    installation.proxy().mend();
    connected_becomes(&*bus, true).await;
    // Who subscribes, is told so when this process listens.
    bus.subscribe().await.unwrap();
    let cancel = message(model::event::EventKind::RunCancel, "1");
    bus.broadcast(cancel.clone()).await.unwrap();
    assert_eq!(soon(subscription.next()).await, Some(cancel));
}

/// The broker keeps its connections, and nothing gets through: found out by missing heartbeats.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_went_silent_is_replaced() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    installation.proxy().freeze();
    let publishing = tokio::spawn({
        let bus = Arc::clone(&bus);
        // On a busy machine its patience may end before there is a new connection.
        async move { while bus.publish(vec![run_requested(1)]).await.is_err() {} }
    });
    connected_becomes(&*bus, false).await;
    // New connections get through; the frozen ones would, too late.
    installation.proxy().mend();
    soon(publishing).await.unwrap();
    assert_eq!(numbers(&messages(&take(&mut consumer, 1).await)), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_comes_later_is_found() {
    let installation = RabbitMqInstallation::new().await;
    installation.proxy().cut();
    let bus = installation.open().await;
    assert!(!*bus.connected().borrow());
    let error = bus.depth(QUEUE).await.unwrap_err();
    assert!(matches!(error, BusError::Unavailable(_)), "{error}");

    installation.proxy().mend();
    connected_becomes(&*bus, true).await;
    bus.publish(vec![run_requested(1)]).await.unwrap();
    depth_becomes(&*bus, QUEUE, Depth { ready: 1, ..Depth::default() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_a_publish_says_so_after_its_patience() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    installation.proxy().cut();
    connected_becomes(&*bus, false).await;
    let error = soon(bus.publish(vec![run_requested(1)])).await.unwrap_err();
    assert!(matches!(error, PublishError::Unavailable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_somebody_deleted_are_made_again() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 10).await.unwrap();
    let operator = installation.connect().await.create_channel().await.unwrap();
    for name in installation.queues(QUEUE) {
        operator.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
    }
    bus.publish(vec![run_requested(1)]).await.unwrap();
    assert_eq!(numbers(&messages(&take(&mut consumer, 1).await)), [1]);
}

#[tokio::test]
async fn a_broker_that_refuses_is_an_error_that_says_what_to_do_and_tells_no_secret() {
    let url = url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (_, place) = rest.split_once('@').unwrap();
    let (host, _) = place.split_once('/').unwrap();
    let wrong_password = format!("{scheme}://carillon:s3cret@{place}");
    let wrong_vhost = format!("{}/nowhere", url.strip_suffix("/%2f").unwrap());
    for (url, advice) in [(wrong_password, "check user, password"), (wrong_vhost, "check the virtual host")] {
        let error = RabbitMqBus::open(&url, "refused").await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(matches!(error, BusError::Refused { .. }), "{shown}");
        assert!(shown.contains(advice) && shown.contains(host), "{shown}");
        let password = url.split_once("://").unwrap().1.split_once('@').unwrap().0.split_once(':').unwrap().1;
        assert!(!shown.contains(password), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_nobody_has_any_more_leaves_the_broker() {
    let installation = RabbitMqInstallation::new().await;
    let bus = installation.open().await;
    let mut consumer = bus.consume(QUEUE, 1).await.unwrap();
    bus.publish(vec![run_requested(1)]).await.unwrap();
    let in_hand = take(&mut consumer, 1).await;
    drop((bus, consumer));
    // Still good for what is in hand.
    Delivery::ack_all(in_hand).await.unwrap();
    let proxy = installation.proxy();
    soon(async {
        while proxy.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
