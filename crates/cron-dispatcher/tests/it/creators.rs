//! A run acts as the user who created its agent, and only while that user may.

use chrono::TimeDelta;
use model::document::{Agent, CatchUp, Document, Organisation, OverlapPolicy, Pause, Previous, Subject};
use model::id::{AgentId, OrganisationKey};
use model::run::{RunReason, RunState, SkipReason, TickOutcome};
use test_kit::until;

use crate::harness::{House, PATIENCE, agent, at, document, mentor, organisation, versioned};

/// The organisation's document when these users may not any more, a moment later than now.
fn revoked(house: &House, usernames: &[&str], pause: Pause) -> Document {
    house.clock.advance(TimeDelta::milliseconds(1));
    let revoked_users = usernames.iter().map(|&name| name.to_owned()).collect();
    let settings = Organisation { revoked_users, pause, ..Organisation::default() };
    Document { subject: Subject::Organisation(settings), ..organisation("acme", house.version()) }
}

fn made_by(username: &str, agent: Agent) -> Agent {
    Agent { username: username.into(), ..agent }
}

/// What became of an agent's ticks, newest first.
async fn outcomes(house: &House, agent_id: i64) -> Vec<Option<SkipReason>> {
    let outcome = |tick: model::run::Tick| match tick.outcome {
        TickOutcome::Run(_) => None,
        TickOutcome::Skipped { reason, .. } => Some(reason),
    };
    house.ticks(agent_id).await.into_iter().map(outcome).collect()
}

const NOT_PAUSED: Pause = Pause { paused: false, resumed_with: None };
const SKIPPED: Option<SkipReason> = Some(SkipReason::CreatorNotAllowed);

#[tokio::test]
async fn ticks_are_skipped_while_the_creator_may_not_and_run_again_when_he_may() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![made_by("eve", agent(7, "*/10", "*", version)), agent(8, "*/10", "*", version)]).await;
    house.announce(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    house.advance(600);
    let others = house.requested().await;
    assert_eq!(others.run.agent_id, AgentId(8));
    house.answer(&others, "done").await;
    house.assert_nothing_requested().await;
    assert_eq!(outcomes(&house, 7).await, [SKIPPED]);

    house.announce(vec![revoked(&house, &[], NOT_PAUSED)]).await;
    house.advance(600);
    let both: Vec<_> = house.requested_many(2).await.into_iter().map(|request| request.run).collect();
    let hers = both.iter().find(|run| run.agent_id == AgentId(7)).expect("a run of hers");
    assert_eq!((hers.sequence, hers.nominal_time), (1, at("2026-01-01T10:20:00Z")));
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn a_user_of_the_same_name_in_another_organisation_may_as_before() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house.settle_in(vec![made_by("eve", agent(7, "1", "10", version))]).await;
    let theirs = made_by("eve", Agent { mentor_id: model::id::MentorId(2), ..agent(8, "1", "10", version) });
    let mut mentor = mentor("globex", version);
    if let Subject::Mentor(mentor) = &mut mentor.subject {
        mentor.id = model::id::MentorId(2);
    }
    let other = OrganisationKey("globex".into());
    house.announce(vec![organisation("globex", version), mentor, document("globex", theirs)]).await;
    house.announce(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    house.advance(60);
    assert_eq!(house.requested().await.run.organisation, other);
    house.assert_nothing_requested().await;
}

#[tokio::test]
async fn what_was_missed_or_follows_is_skipped_too() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut diligent = made_by("eve", agent(7, "*/10", "*", version));
    diligent.schedule.catch_up = CatchUp::All;
    let previous = Some(Previous { agent_id: AgentId(8), status: RunState::Success });
    let follower = made_by("eve", Agent { previous, ..agent(9, "*", "*", version) });
    house.settle_in(vec![diligent, agent(8, "30", "10", version), follower]).await;
    house.announce(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    house.crash().await;
    house.advance(1_800);
    house.crash_and_restart().await;
    let first = house.requested().await;
    assert_eq!(first.run.agent_id, AgentId(8));
    house.answer(&first, "done").await;
    house.finished().await;
    until("the follower is skipped", PATIENCE, async || (outcomes(&house, 9).await == [SKIPPED]).then_some(())).await;
    house.assert_nothing_requested().await;
    assert_eq!(outcomes(&house, 7).await, [SKIPPED; 3]);
    assert_eq!(outcomes(&house, 9).await, [SKIPPED]);
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_was_requested_and_has_not_begun_ends_at_once_and_what_has_begun_goes_on() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    house
        .settle_in(vec![made_by("eve", agent(7, "1", "10", version)), made_by("eve", agent(8, "2", "10", version))])
        .await;
    let mut broadcasts = house.subscribe().await;
    house.advance(60);
    let begun = house.requested().await;
    house.started(&begun).await;
    house.recorded().await;
    house.advance(60);
    let waiting = house.requested().await;

    house.announce(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    let ended = house.run(waiting.run.id).await.unwrap();
    let reason = ended.result.as_ref().unwrap().reason;
    assert_eq!((ended.state, reason), (RunState::Error, Some(RunReason::CreatorNotAllowed)));
    assert_eq!(house.finished().await[0].run.id, waiting.run.id, "it is called back");
    let told = broadcasts.next().await.unwrap();
    let told: model::event::RunCancel = model::wire::decode_event(told.kind, &told.body).unwrap();
    assert_eq!(told.run_ids, [waiting.run.id]);
    house.answer(&begun, "done").await;
    assert_eq!(house.finished().await[0].state, RunState::Success);
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn what_a_pause_held_ends_when_it_would_be_requested() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let mut hers = made_by("eve", agent(7, "1", "10", version));
    hers.schedule.overlap = OverlapPolicy::Skip;
    house.settle_in(vec![hers]).await;
    house.advance(60);
    let taken_back = house.requested().await;
    house.apply(vec![revoked(&house, &[], Pause { paused: true, resumed_with: None })]).await;
    house.advance(600);
    house.apply(vec![revoked(&house, &["eve"], Pause { paused: true, resumed_with: None })]).await;
    house.assert_nothing_requested().await;
    assert_eq!(house.run(taken_back.run.id).await.unwrap().state, RunState::Pending);

    house.apply(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    house.reached(taken_back.run.id, RunState::Error).await;
    let reason = house.finished().await[0].result.as_ref().unwrap().reason;
    assert_eq!(reason, Some(RunReason::CreatorNotAllowed));
    house.assert_nothing_requested().await;
    house.assert_ledger_is_clean().await;
}

#[tokio::test]
async fn nobody_can_trigger_an_agent_whose_creator_may_not() {
    let mut house = House::start("2026-01-01T10:00:00Z").await;
    let version = house.version();
    let hers = made_by("eve", agent(7, "1", "10", version));
    house.settle_in(vec![hers.clone()]).await;
    house.announce(vec![revoked(&house, &["eve"], NOT_PAUSED)]).await;
    assert_eq!(house.trigger_status(AgentId(7)).await, 409);
    house.assert_nothing_requested().await;
    // Given to somebody else, it runs.
    house.advance(1);
    house.announce(vec![versioned("acme", Agent { username: "admin".into(), ..hers }, house.version())]).await;
    assert_eq!(house.trigger_status(AgentId(7)).await, 200);
    house.requested().await;
}
