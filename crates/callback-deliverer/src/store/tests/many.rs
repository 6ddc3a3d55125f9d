//! What waits in thousands.

use std::collections::HashMap;
use std::sync::mpsc;

use super::*;
use crate::lanes::Lane;
use crate::payload::RUN_FINISHED;
use crate::store::ROWS_MAX;
use crate::store::new_delivery::{NewBody, NewDelivery, insert, insert_bodies};

/// Endpoints of these agents, each at its URL.
fn hold(connection: &mut DbConnection, urls: impl Iterator<Item = (i64, String)>) {
    let endpoints: Vec<Endpoint> = urls.map(|(agent_id, url)| endpoint(agent_id, &url)).collect();
    endpoints::apply(connection, &endpoints, noon().into()).unwrap();
}

/// Deliveries that are due at noon, of one agent and organisation each, in this order.
fn due(connection: &mut DbConnection, of: &[(i64, String)]) {
    let rows: Vec<NewDelivery<'_>> = of
        .iter()
        .zip(1..)
        .map(|((agent_id, key), n)| {
            NewDelivery::due(Uuid::from_u128(n), key, *agent_id, RUN_FINISHED, 2, noon().into())
        })
        .collect();
    for rows in rows.chunks(ROWS_MAX) {
        let inserted: HashMap<Uuid, i64> = insert(connection, rows).unwrap();
        let bodies = inserted.into_values().map(|delivery_id| NewBody { delivery_id, body: "{}".into() });
        insert_bodies(connection, &bodies.collect::<Vec<_>>()).unwrap();
    }
}

/// More than SQLite binds in one statement.
#[tokio::test]
async fn all_that_is_due_in_a_closed_lane_waits_until_it_may_open() {
    in_a_database(|connection| {
        let lanes = lanes();
        hold(connection, [(7, "https://a.example/".to_owned())].into_iter());
        due(connection, &vec![(7, "acme".to_owned()); 33_000]);
        let leased = claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased;
        assert!(!leased.is_empty());
        while !lanes.failed(&Lane::Endpoint(7), noon()) {}
        assert!(claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased.is_empty());
        assert!(claim::next_due(connection).unwrap() > Some(noon().into()));
    })
    .await;
}

#[tokio::test]
async fn thousands_that_wait_for_a_full_host_do_not_hide_who_is_behind_them() {
    in_a_database(|connection| {
        let lanes = lanes();
        let behind = 3_001;
        let host = |agent_id| if agent_id == behind { "free" } else { "full" };
        hold(connection, (1..=behind).map(|agent_id| (agent_id, format!("https://{}.example/", host(agent_id)))));
        // Each of an organisation of its own, so that none of these is full.
        due(connection, &(1..=behind).map(|agent_id| (agent_id, format!("of-{agent_id}"))).collect::<Vec<_>>());
        let leased = claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased;
        let agents: Vec<i64> = leased.iter().map(|delivery| delivery.agent_id).collect();
        assert_eq!(agents, [1, 2, 3, 4, 5, behind]);
    })
    .await;
}

#[tokio::test]
async fn one_host_that_is_full_does_not_hide_who_is_behind_more_than_one_claim_looks_at() {
    in_a_database(|connection| {
        let lanes = lanes();
        let behind = 41;
        let host = |agent_id| if agent_id == behind { "free" } else { "full" };
        hold(connection, (1..=behind).map(|agent_id| (agent_id, format!("https://{}.example/", host(agent_id)))));
        // Of two organisations, so that neither is full, and agent after agent, so that no look finds them all.
        let of = |agent_id| (agent_id, if agent_id % 2 == 0 { "acme" } else { "globex" }.to_owned());
        let hidden = (1..behind).flat_map(|agent_id| std::iter::repeat_n(of(agent_id), 300));
        due(connection, &hidden.chain([of(behind)]).collect::<Vec<_>>());
        let claim =
            |connection: &mut DbConnection| claim::claim(connection, &lessee(1, noon()), &lanes).unwrap().leased;
        let agents = |leased: &[Leased]| leased.iter().map(|delivery| delivery.agent_id).collect::<Vec<_>>();
        let slow = claim(connection);
        assert_eq!(agents(&slow), [1, 1, 1, 1, 2]);
        let reached = claim(connection);
        assert_eq!(agents(&reached), [behind]);
        // All was seen, so the next one begins anew, with who has waited longest.
        drop(slow);
        let again = claim(connection);
        assert_eq!(agents(&again), [1, 1, 1, 1, 2]);
    })
    .await;
}

/// SQLite lets nobody else write meanwhile.
#[tokio::test]
async fn a_claim_leaves_other_replicas_what_it_has_no_room_for_even_before_it_ends() {
    let backends = Backends::of_environment();
    if !backends.is_postgres() {
        return;
    }
    let db = database(&backends).await;
    let of = |agent_id: i64| (agent_id, format!("of-{agent_id}"));
    db.write(move |connection| {
        hold(connection, (1..=20).map(|agent_id| (agent_id, format!("https://{agent_id}.example/"))));
        due(connection, &(1..=20).map(of).collect::<Vec<_>>());
        Ok::<_, DatabaseError>(())
    })
    .await
    .unwrap();
    let claim = |owner, claimed: mpsc::Sender<Vec<i64>>, may_end: mpsc::Receiver<()>| {
        db.write(move |connection| {
            let leased = claim::claim(connection, &lessee(owner, noon()), &lanes()).unwrap().leased;
            claimed.send(leased.iter().map(|delivery| delivery.agent_id).collect()).unwrap();
            // Dropped: it may.
            let _ = may_end.recv();
            Ok::<_, DatabaseError>(())
        })
    };
    let ((says, one_claimed), (end, may_end)) = (mpsc::channel(), mpsc::channel());
    let one = claim(1, says, may_end);
    let other = async {
        let one = tokio::task::spawn_blocking(move || one_claimed.recv().unwrap()).await.unwrap();
        let ((says, other_claimed), (_, at_once)) = (mpsc::channel(), mpsc::channel());
        claim(2, says, at_once).await.unwrap();
        drop(end);
        (one, other_claimed.recv().unwrap())
    };
    let (ended, (one, other)) = tokio::join!(one, other);
    ended.unwrap();
    assert_eq!((one, other), ((1..=10).collect(), (11..=20).collect()));
}
