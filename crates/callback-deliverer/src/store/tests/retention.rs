//! What nobody sees any more.

use super::*;
use crate::payload::RUN_FINISHED;
use crate::store::new_delivery::NewDelivery;
use crate::store::organisations::Organisation;
use crate::store::retention::{self, Walk};
use crate::store::{new_delivery, organisations};

#[tokio::test]
async fn a_delivery_is_forgotten_with_its_body_and_its_delivery_attempts() {
    in_a_database(|connection| {
        let delivery = leased(connection);
        assert_eq!(Walk::default().step(connection, noon().into(), TimeDelta::zero(), 10).unwrap(), 0);
        let entries = [entry(&delivery, OutcomeClass::Timeout, Verdict::Exhausted)];
        record(connection, &entries).unwrap();
        let before = noon() - TimeDelta::microseconds(1);
        assert_eq!(Walk::default().step(connection, before.into(), TimeDelta::zero(), 10).unwrap(), 0);
        assert_eq!(status(connection, delivery.id), (Status::Exhausted, 1, 1));
        assert_eq!(Walk::default().step(connection, noon().into(), TimeDelta::zero(), 0).unwrap(), 0);
        assert_eq!(Walk::default().step(connection, noon().into(), TimeDelta::zero(), 10).unwrap(), 1);

        let deliveries: i64 = schema::deliveries::table.count().get_result(connection).unwrap();
        let bodies: i64 = schema::delivery_bodies::table.count().get_result(connection).unwrap();
        let made: i64 = schema::delivery_attempts::table.count().get_result(connection).unwrap();
        assert_eq!((deliveries, bodies, made), (0, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn each_organisation_is_forgotten_by_its_own_time_and_the_others_by_that_of_all() {
    in_a_database(|connection| {
        let settled = |n: u128, organisation| NewDelivery {
            status: Status::Exhausted,
            due_at: None,
            settled_at: Some(noon().into()),
            ..NewDelivery::due(Uuid::from_u128(n), organisation, 7, RUN_FINISHED, 0, noon().into())
        };
        let rows = [settled(1, "acme"), settled(2, "globex"), settled(3, "acme"), settled(4, "initech")];
        new_delivery::insert(connection, &rows).unwrap();
        let own = Organisation {
            organisation: "acme".into(),
            version: 1,
            callbacks_in_flight_max: None,
            deliveries_days: Some(90),
            alert_url: None,
            alert_sealed_secret: Vec::new(),
        };
        organisations::apply(connection, &[own]).unwrap();
        let mut forget = |days: i64, limit| {
            let now = Timestamp::from(noon() + TimeDelta::days(days));
            Walk::default().step(connection, now, TimeDelta::days(30), limit).unwrap()
        };
        assert_eq!(forget(29, 10), 0);
        assert_eq!((forget(30, 1), forget(30, 10), forget(89, 10)), (1, 1, 0));
        assert_eq!((forget(90, 1), forget(90, 10)), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_walk_over_many_organisations_takes_several_steps_and_carries_on_where_it_was() {
    in_a_database(|connection| {
        let names: Vec<_> = (0..1_100).map(|n| format!("org-{n:04}")).collect();
        let settled = (0..).zip(&names).map(|(n, name)| NewDelivery {
            status: Status::Exhausted,
            due_at: None,
            settled_at: Some(noon().into()),
            ..NewDelivery::due(Uuid::from_u128(n), name, 7, RUN_FINISHED, 0, noon().into())
        });
        let rows: Vec<_> = settled.collect();
        new_delivery::insert(connection, &rows).unwrap();
        let mut walk = Walk::default();
        let mut step = |limit| {
            let forgotten = walk.step(connection, noon().into(), TimeDelta::zero(), limit).unwrap();
            (forgotten, walk.is_through())
        };
        // A step ends at so many organisations or rows, whichever comes first.
        assert_eq!(step(1_000), (500, false));
        assert_eq!(step(10), (10, false));
        assert_eq!(step(1_000), (500, false));
        assert_eq!(step(1_000), (90, true));
        assert_eq!(step(1_000), (0, true));
    })
    .await;
}

#[tokio::test]
async fn only_tombstones_are_forgotten_and_only_old_ones() {
    in_a_database(|connection| {
        let endpoint = |agent_id: i64, deleted: bool, updated_at: DateTime<Utc>| Endpoint {
            url: None,
            deleted,
            updated_at: updated_at.into(),
            ..endpoint(agent_id, "")
        };
        let later = noon() + TimeDelta::seconds(1);
        let held = [endpoint(1, true, noon()), endpoint(2, true, later), endpoint(3, false, noon())];
        endpoints::apply(connection, &held, noon().into()).unwrap();
        assert_eq!(retention::forget_tombstones(connection, noon().into(), 10).unwrap(), 1);
        let mut left: Vec<i64> = endpoints::of_agents(connection, &[1, 2, 3]).unwrap().into_keys().collect();
        left.sort_unstable();
        assert_eq!(left, [2, 3]);
    })
    .await;
}
