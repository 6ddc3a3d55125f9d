//! Who finds room, and who does not.

use futures::FutureExt;

use super::*;

fn lanes(in_flight_max: usize) -> Arc<Lanes> {
    Lanes::new(Limits { in_flight_max, body_bytes_max: 1_000 })
}

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn wanted(agent_id: i64) -> Wanted<'static> {
    let (lane, host) = (Lane::Endpoint(agent_id), format!("{agent_id}.example:443"));
    Wanted {
        webhook_id: Uuid::new_v4(),
        lane,
        organisation: "acme",
        organisation_max: Some(1_000),
        host,
        first: true,
        fresh: false,
        bytes: 1,
    }
}

#[test]
fn a_receiver_that_hangs_holds_a_few_slots_and_its_neighbours_find_room() {
    let lanes = lanes(100);
    let hanging: Vec<Slot> = (0..WIDTH_BEGIN).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
    assert_eq!(lanes.take(wanted(1), noon()).unwrap_err(), Refusal::LaneFull);
    assert!(lanes.take(wanted(2), noon()).is_ok());
    drop(hanging);
    assert!(lanes.take(wanted(1), noon()).is_ok());
}

#[test]
fn what_is_new_goes_behind_what_has_waited() {
    let lanes = lanes(100);
    let fresh = || Wanted { fresh: true, ..wanted(1) };
    assert_eq!(lanes.take(fresh(), noon()).unwrap_err(), Refusal::LaneFull);
    lanes.begin_claim();
    let taken: Vec<Slot> = (0..WIDTH_BEGIN).map(|_| lanes.take(fresh(), noon()).unwrap()).collect();
    assert!(lanes.take(fresh(), noon()).is_err());
    drop(taken);
    assert_eq!(lanes.take(fresh(), noon()).unwrap_err(), Refusal::LaneFull);
    assert!(lanes.take(wanted(1), noon()).is_ok());
    lanes.begin_claim();
    assert!(lanes.take(fresh(), noon()).is_ok());
}

#[test]
fn a_lane_widens_with_answers_and_narrows_without() {
    let lanes = lanes(100);
    let first = lanes.take(wanted(1), noon()).unwrap();
    (0..10).for_each(|_| lanes.answered(&Lane::Endpoint(1)));
    let more: Vec<Slot> = (1..WIDTH_MAX).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
    assert!(lanes.take(wanted(1), noon()).is_err());
    drop(more);
    assert!(!lanes.failed(&Lane::Endpoint(1), noon()));
    let half: Vec<Slot> = (1..WIDTH_MAX / 2).map(|_| lanes.take(wanted(1), noon()).unwrap()).collect();
    assert!(lanes.take(wanted(1), noon()).is_err());
    drop((first, half));
}

#[test]
fn a_closed_lane_opens_for_one_and_then_for_all_or_closes_for_longer() {
    let (lanes, lane) = (lanes(100), Lane::Endpoint(1));
    drop(lanes.take(wanted(1), noon()).unwrap());
    let closings: Vec<bool> = (0..7).map(|_| lanes.failed(&lane, noon())).collect();
    assert_eq!(closings, [false, false, false, false, true, false, false]);
    let until = noon() + CLOSED_MIN;
    assert_eq!(lanes.take(wanted(1), noon()).unwrap_err(), Refusal::Closed(until));

    let probe = lanes.take(wanted(1), until).unwrap();
    assert_eq!(lanes.take(wanted(1), until).unwrap_err(), Refusal::LaneFull);
    assert!(lanes.failed(&lane, until));
    drop(probe);
    let later = until + CLOSED_MIN * 2;
    assert_eq!(lanes.take(wanted(1), until).unwrap_err(), Refusal::Closed(later));
    let probe = lanes.take(wanted(1), later).unwrap();
    lanes.answered(&lane);
    assert!(lanes.take(wanted(1), later).is_ok());
    drop(probe);
}

#[test]
fn what_is_tried_again_leaves_room_for_what_is_new() {
    let lanes = lanes(8);
    let repeat = |agent_id: i64| Wanted { first: false, ..wanted(agent_id) };
    let repeats: Vec<Slot> = (0..6).map(|n| lanes.take(repeat(n), noon()).unwrap()).collect();
    assert_eq!(lanes.take(repeat(6), noon()).unwrap_err(), Refusal::FullOfRepeats);
    let new: Vec<Slot> = (6..8).map(|n| lanes.take(wanted(n), noon()).unwrap()).collect();
    assert_eq!(lanes.take(wanted(8), noon()).unwrap_err(), Refusal::Full);
    drop((repeats, new));
}

#[test]
fn an_organisation_and_a_host_have_their_limits() {
    let lanes = lanes(8);
    let two = |agent_id: i64| Wanted { organisation_max: Some(2), ..wanted(agent_id) };
    let taken = [lanes.take(two(1), noon()).unwrap(), lanes.take(two(2), noon()).unwrap()];
    assert_eq!(lanes.take(two(3), noon()).unwrap_err(), Refusal::OrganisationFull);
    lanes.share_among(2);
    drop(taken);
    let one = lanes.take(two(1), noon()).unwrap();
    assert_eq!(lanes.take(two(2), noon()).unwrap_err(), Refusal::OrganisationFull);
    drop(one);

    let there = |agent_id: i64| Wanted { host: "shared.example:443".into(), ..wanted(agent_id) };
    let taken: Vec<Slot> = (0..4).map(|n| lanes.take(there(n), noon()).unwrap()).collect();
    assert_eq!(lanes.take(there(5), noon()).unwrap_err(), Refusal::HostFull);
    drop(taken);
}

#[test]
fn bodies_in_memory_are_bounded_and_a_large_one_goes_alone() {
    let lanes = lanes(8);
    let large = |agent_id: i64| Wanted { bytes: 5_000, ..wanted(agent_id) };
    let alone = lanes.take(large(1), noon()).unwrap();
    assert_eq!(lanes.take(wanted(2), noon()).unwrap_err(), Refusal::Full);
    drop(alone);
    let small = lanes.take(wanted(2), noon()).unwrap();
    assert_eq!(lanes.take(large(1), noon()).unwrap_err(), Refusal::Full);
    drop(small);
}

#[tokio::test]
async fn who_found_no_room_is_told_when_there_is_some() {
    let lanes = lanes(1);
    let only = lanes.take(wanted(1), noon()).unwrap();
    assert_eq!(lanes.take(wanted(2), noon()).unwrap_err(), Refusal::Full);
    drop(only);
    lanes.freed().await;
    assert!(lanes.take(wanted(2), noon()).is_ok());
}

#[tokio::test]
async fn who_found_the_way_to_a_host_full_is_told_when_another_lane_leaves_it() {
    let lanes = lanes(4);
    let there = |agent_id: i64| Wanted { host: "shared.example:443".into(), ..wanted(agent_id) };
    let taken: Vec<Slot> = (0..2).map(|n| lanes.take(there(n), noon()).unwrap()).collect();
    assert_eq!(lanes.take(there(5), noon()).unwrap_err(), Refusal::HostFull);
    drop(taken);
    let told = tokio::time::timeout(std::time::Duration::from_secs(60), lanes.freed()).await;
    assert!(told.is_ok(), "nobody was told");
}

#[test]
fn a_delivery_gets_no_second_slot_while_it_has_one() {
    let lanes = lanes(8);
    let one = wanted(1);
    let slot = lanes.take(one.clone(), noon()).unwrap();
    assert_eq!(lanes.take(one.clone(), noon()).unwrap_err(), Refusal::InHand);
    drop(slot);
    assert!(lanes.take(one, noon()).is_ok());
}

#[tokio::test]
async fn who_found_a_delivery_in_hand_is_told_when_it_no_longer_is() {
    let lanes = lanes(8);
    let (one, other) = (wanted(1), wanted(2));
    let (slot, beside) = (lanes.take(one.clone(), noon()).unwrap(), lanes.take(other, noon()).unwrap());
    assert_eq!(lanes.take(one.clone(), noon()).unwrap_err(), Refusal::InHand);
    drop(beside);
    assert!(lanes.freed().now_or_never().is_none(), "told of another's slot");
    drop(slot);
    assert!(lanes.freed().now_or_never().is_some(), "nobody was told");
    assert!(lanes.take(one, noon()).is_ok());
}
