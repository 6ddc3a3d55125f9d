//! Edits at the worst moments lose and repeat nothing: in the second before a tick, where clocks change, while no
//! dispatcher is there; and edits of the title alone, at any of them.

use chrono_tz::Europe::Berlin;
use model::document::{Agent, Document, Schedule, Subject};
use model::id::AgentId;
use model::run::{RunState, TickOutcome};

use crate::harness::{House, agent, at, document, organisation, versioned};

/// By the clocks of Berlin.
fn in_berlin(mut agent: Agent) -> Agent {
    agent.schedule.timezone = Some(Berlin);
    agent
}

fn renamed(agent: &Agent, house: &House) -> Document {
    versioned("acme", Agent { title: "Renamed".into(), ..agent.clone() }, house.version())
}

fn disabled(agent: &Agent, house: &House) -> Document {
    let schedule = Schedule { enabled: false, ..agent.schedule.clone() };
    versioned("acme", Agent { schedule, ..agent.clone() }, house.version())
}

/// Moves the clock to this moment, at which exactly these agents fire, each once and for this very tick.
async fn assert_fire(house: &mut House, moment: &str, expected: &[i64]) {
    house.clock.advance(at(moment) - house.clock.now());
    let mut fired = Vec::new();
    for request in house.requested_many(expected.len()).await {
        fired.push((request.run.agent_id.0, request.run.nominal_time));
        house.answer(&request, "done").await;
        house.reached(request.run.id, RunState::Success).await;
    }
    fired.sort_unstable();
    let expected: Vec<_> = expected.iter().map(|id| (*id, at(moment))).collect();
    assert_eq!(fired, expected);
    house.assert_nothing_requested().await;
}

/// An agent's ticks, oldest first: when, and whether it ran.
async fn ticks(house: &House, agent_id: i64) -> Vec<(String, bool)> {
    let mut ticks = house.ticks(agent_id).await;
    ticks.reverse();
    let ran = |outcome: &TickOutcome| matches!(outcome, TickOutcome::Run(_));
    ticks.iter().map(|tick| (tick.nominal_time.format("%d %H:%M").to_string(), ran(&tick.outcome))).collect()
}

fn ran(times: &[&str]) -> Vec<(String, bool)> {
    times.iter().map(|time| ((*time).to_owned(), true)).collect()
}

#[tokio::test]
async fn edits_in_the_second_before_a_tick_decide_on_that_tick_and_lose_and_repeat_nothing() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let [stays, goes, renames, ends] = [7, 8, 10, 11].map(|id| agent(id, "10", "*", version));
    let comes = agent(9, "30", "*", version);
    let before = [&stays, &goes, &comes, &renames, &ends].map(Agent::clone);
    house.settle_in(before.to_vec()).await;
    house.clock.advance(at("2026-01-01T10:09:59Z") - house.clock.now());
    let now = house.version();
    let edits = vec![
        document("acme", agent(7, "10,40", "*", now)),
        document("acme", agent(8, "20", "*", now)),
        document("acme", agent(9, "10,20", "*", now)),
        renamed(&renames, &house),
        disabled(&ends, &house),
    ];
    house.announce(edits).await;
    assert_fire(&mut house, "2026-01-01T10:10:00Z", &[7, 9, 10]).await;
    assert_fire(&mut house, "2026-01-01T10:20:00Z", &[8, 9]).await;
    assert_fire(&mut house, "2026-01-01T10:30:00Z", &[]).await;
    assert_fire(&mut house, "2026-01-01T10:40:00Z", &[7]).await;
    let seen = [ticks(&house, 7).await, ticks(&house, 8).await, ticks(&house, 9).await, ticks(&house, 10).await];
    let expected = [ran(&["01 10:10", "01 10:40"]), ran(&["01 10:20"]), ran(&["01 10:10", "01 10:20"])];
    assert_eq!(seen[..3], expected);
    assert_eq!(seen[3], ran(&["01 10:10"]));
    // What it had of its own before it was disabled: nothing.
    assert_eq!(ticks(&house, 11).await, [("01 10:10".to_owned(), false)]);
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn edits_in_a_daylight_saving_gap_lose_and_repeat_nothing() {
    // At 02:00 the clocks of Berlin go to 03:00, which is 01:00 in UTC: 02:30 fires at what is then called 03:30.
    let mut house = House::start("2026-03-28T12:00:00Z").await;
    let version = house.version();
    let untouched = [7, 8, 9, 10, 11].map(|id| in_berlin(agent(id, "30", "2", version)));
    house.settle_in(untouched.to_vec()).await;
    house.clock.advance(at("2026-03-29T01:10:00Z") - house.clock.now());
    let now = house.version();
    let edits = vec![
        renamed(&untouched[1], &house),
        // The same instant by another name; one that is still to come; one that is over.
        document("acme", in_berlin(agent(9, "30", "3", now))),
        document("acme", in_berlin(agent(10, "15", "2", now))),
        document("acme", in_berlin(agent(11, "5", "2", now))),
    ];
    house.announce(edits).await;
    assert_fire(&mut house, "2026-03-29T01:15:00Z", &[10]).await;
    assert_fire(&mut house, "2026-03-29T01:30:00Z", &[7, 8, 9]).await;
    // The day after, by the clocks of summer.
    assert_fire(&mut house, "2026-03-30T00:05:00Z", &[11]).await;
    assert_fire(&mut house, "2026-03-30T00:15:00Z", &[10]).await;
    assert_fire(&mut house, "2026-03-30T00:30:00Z", &[7, 8]).await;
    assert_fire(&mut house, "2026-03-30T01:30:00Z", &[9]).await;
    assert_eq!(ticks(&house, 8).await, ran(&["29 01:30", "30 00:30"]));
    assert_eq!(ticks(&house, 9).await, ran(&["29 01:30", "30 01:30"]));
    assert_eq!(ticks(&house, 10).await, ran(&["29 01:15", "30 00:15"]));
    assert_eq!(ticks(&house, 11).await, ran(&["30 00:05"]));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn edits_in_an_hour_that_occurs_twice_lose_and_repeat_nothing() {
    // At 03:00 the clocks of Berlin go back to 02:00, which is 01:00 in UTC: 02:30 fires the first time that it is.
    let mut house = House::start("2026-10-24T12:00:00Z").await;
    let version = house.version();
    let untouched = [7, 8, 9, 10, 11].map(|id| in_berlin(agent(id, "30", "2", version)));
    house.settle_in(untouched.to_vec()).await;
    assert_fire(&mut house, "2026-10-25T00:30:00Z", &[7, 8, 9, 10, 11]).await;
    house.clock.advance(at("2026-10-25T00:40:00Z") - house.clock.now());
    let now = house.version();
    let edits = vec![
        renamed(&untouched[1], &house),
        // One that is still to come, and one that will only be read again: it was, before the edit.
        document("acme", in_berlin(agent(9, "45", "2", now))),
        document("acme", in_berlin(agent(10, "15", "2", now))),
    ];
    house.announce(edits).await;
    assert_fire(&mut house, "2026-10-25T00:45:00Z", &[9]).await;
    house.clock.advance(at("2026-10-25T01:10:00Z") - house.clock.now());
    // In the second pass: from then on each half hour of real time.
    house.announce(vec![document("acme", in_berlin(agent(11, "0,30", "*", house.version())))]).await;
    for moment in ["2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z", "2026-10-25T01:45:00Z", "2026-10-25T02:00:00Z"] {
        let expected: &[i64] = if moment.contains(":15:") || moment.contains(":45:") { &[] } else { &[11] };
        assert_fire(&mut house, moment, expected).await;
    }
    assert_eq!(ticks(&house, 7).await, ran(&["25 00:30"]));
    assert_eq!(ticks(&house, 8).await, ran(&["25 00:30"]));
    assert_eq!(ticks(&house, 9).await, ran(&["25 00:30", "25 00:45"]));
    assert_eq!(ticks(&house, 10).await, ran(&["25 00:30"]));
    assert_eq!(ticks(&house, 11).await, ran(&["25 00:30", "25 01:30", "25 02:00"]));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn edits_while_no_dispatcher_is_there_lose_and_repeat_nothing() {
    let mut house = House::start("2026-01-01T10:05:00Z").await;
    let version = house.version();
    let before = [7, 8, 9, 10].map(|id| agent(id, "*/10", "*", version));
    house.settle_in(before.to_vec()).await;
    house.crash().await;
    house.clock.advance(at("2026-01-01T10:35:00Z") - house.clock.now());
    let gone = Subject::AgentDeleted(AgentId(10));
    let edits = vec![
        document("acme", agent(7, "*/15", "*", house.version())),
        renamed(&before[1], &house),
        disabled(&before[2], &house),
        Document { subject: gone, ..organisation("acme", house.version()) },
        document("acme", agent(11, "*/15", "*", house.version())),
    ];
    house.clock.advance(at("2026-01-01T11:00:00Z") - house.clock.now());
    // It hears of the edits before it looks for what is due: else they begin where it has got to by then.
    house.apply(edits).await;
    house.crash_and_restart().await;
    let mut fired: Vec<_> = Vec::new();
    for request in house.requested_many(5).await {
        fired.push((request.run.agent_id.0, request.run.nominal_time, request.run.passed_over));
    }
    fired.sort_unstable();
    let (half_past, eleven) = (at("2026-01-01T10:30:00Z"), at("2026-01-01T11:00:00Z"));
    assert_eq!(fired, [(7, half_past, 2), (7, eleven, 1), (8, eleven, 5), (9, half_past, 2), (11, eleven, 1)]);
    house.assert_ledger_is_clean().await;
    let span = |from: &str| (from.to_owned(), false);
    let run = |at: &str| (at.to_owned(), true);
    let of_seven = [span("01 10:10"), run("01 10:30"), span("01 10:45"), run("01 11:00")];
    assert_eq!(ticks(&house, 7).await, of_seven);
    assert_eq!(ticks(&house, 8).await, [span("01 10:10"), run("01 11:00")]);
    assert_eq!(ticks(&house, 9).await[..2], [span("01 10:10"), run("01 10:30")]);
    assert_eq!(ticks(&house, 10).await, []);
    assert_eq!(ticks(&house, 11).await, [span("01 10:45"), run("01 11:00")]);
}

#[tokio::test]
async fn edits_that_wait_at_the_bus_while_no_dispatcher_is_there_lose_and_repeat_nothing() {
    let mut house = House::start("2026-01-01T10:05:00Z").await;
    let version = house.version();
    let before = [7, 8].map(|id| agent(id, "*/10", "*", version));
    house.settle_in(before.to_vec()).await;
    house.crash().await;
    house.clock.advance(at("2026-01-01T10:35:00Z") - house.clock.now());
    let edits = vec![document("acme", agent(7, "*/15", "*", house.version())), renamed(&before[1], &house)];
    house.clock.advance(at("2026-01-01T11:00:00Z") - house.clock.now());
    // Whether it hears of them or fires first, each tick is one run or one reason.
    house.crash_and_restart_with(edits).await;
    let eleven = at("2026-01-01T11:00:00Z");
    let mut last = [7, 8].to_vec();
    while !last.is_empty() {
        let run = house.requested().await.run;
        last.retain(|id| run.agent_id.0 != *id || run.nominal_time != eleven);
    }
    house.assert_ledger_is_clean().await;
    assert_eq!(ticks(&house, 8).await, [("01 10:10".to_owned(), false), ("01 11:00".to_owned(), true)]);
}

#[tokio::test]
async fn edits_of_the_title_around_every_tick_lose_and_repeat_nothing() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let first = agent(7, "*/10", "*", version);
    house.settle_in(vec![first.clone()]).await;
    let mut expected = Vec::new();
    for minute in [10, 20, 30, 40] {
        house.clock.advance(at(&format!("2026-01-01T10:{:02}:59Z", minute - 1)) - house.clock.now());
        house.announce(vec![renamed(&first, &house)]).await;
        assert_fire(&mut house, &format!("2026-01-01T10:{minute}:00Z"), &[7]).await;
        // Once more at the tick itself, and in the second after it.
        house.announce(vec![versioned("acme", first.clone(), house.version())]).await;
        house.advance(1);
        house.announce(vec![renamed(&first, &house)]).await;
        house.assert_nothing_requested().await;
        expected.push(format!("01 10:{minute}"));
    }
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(ticks(&house, 7).await, ran(&expected));
    house.assert_ledger_is_clean().await;
}
