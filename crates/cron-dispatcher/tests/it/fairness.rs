//! One organisation's flood does not delay another's few.

use cron_dispatcher::DispatcherConfig;

use crate::harness::{House, agent, document, mentor, organisation};

#[tokio::test]
async fn the_window_is_never_exceeded_and_serves_organisations_in_turn() {
    let config = DispatcherConfig { window: 10, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut documents = vec![organisation("large", version), organisation("small", version), mentor("large", version)];
    documents.extend((1..=200).map(|id| document("large", agent(id, "1", "10", version))));
    documents.extend((201..=203).map(|id| document("small", agent(id, "1", "10", version))));
    house.announce(documents).await;
    house.advance(60);

    let mut served = Vec::new();
    for round in 0..20 {
        let window = house.requested_many(10).await;
        house.assert_window_is_full().await;
        for request in &window {
            house.answer(request, "done").await;
        }
        served.extend(window.into_iter().map(|request| (round, request.run.organisation.0)));
    }
    let last_small = served.iter().filter(|(_, organisation)| organisation == "small").map(|(round, _)| *round).max();
    assert_eq!(last_small, Some(0), "the small organisation waited behind the large one");
}

#[tokio::test]
async fn of_those_due_at_one_instant_each_organisations_first_fire_first() {
    let config = DispatcherConfig { fire_batch: 10, ..DispatcherConfig::default() };
    let mut house = House::with_config("2026-01-01T10:00:00Z", config).await;
    let version = house.version();
    let mut documents = vec![organisation("large", version), organisation("small", version), mentor("large", version)];
    documents.extend((1..=100).map(|id| document("large", agent(id, "1", "10", version))));
    documents.extend((101..=103).map(|id| document("small", agent(id, "1", "10", version))));
    house.announce(documents).await;
    house.advance(60);

    let requested = house.requested_many(103).await;
    let places = requested.iter().enumerate().filter(|(_, request)| request.run.organisation.0 == "small");
    let places: Vec<usize> = places.map(|(place, _)| place).collect();
    assert!(places.len() == 3 && places.iter().all(|place| *place < 10), "the small organisation waited: {places:?}");
}
