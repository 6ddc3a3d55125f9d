//! What happens at the same moment to the same rows: nobody waits for another in a circle.
//!
//! Where writers take turns anyway, as on SQLite, this shows little; a circle on PostgreSQL is an answer of 503.

use futures::future::join_all;
use model::document::{DocumentKind, HeldDocument, Receiver};
use model::run::RunState;
use serde_json::{Value, json};

use crate::dispatcher_peer::pending_run;
use crate::harness::{Answer, App, ORG, World};

const ROUNDS: i64 = 20;
const AGENTS: usize = 12;

/// What an agent is to look like after its round: timing is changed, or only whether it fires.
fn edit(round: i64) -> Value {
    match round % 4 {
        0 => json!({ "task": { "enabled": false } }),
        1 => json!({ "task": { "enabled": true } }),
        _ => json!({ "task": { "crontab": { "minute": (round % 60).to_string() } } }),
    }
}

/// The dispatcher holds the organisation, the mentor and these agents, in versions that it held none of before.
async fn say_held(world: &World, mentor: &Value, agents: &[i64], round: i64) {
    let held = |kind, key| HeldDocument { kind, key, version: i64::MAX / 2 + round, next_fire_time: None };
    let mut documents: Vec<_> = agents.iter().map(|id| held(DocumentKind::Agent, id.to_string())).collect();
    documents.push(held(DocumentKind::Organisation, ORG.to_owned()));
    documents.push(held(DocumentKind::Mentor, mentor["id"].to_string()));
    world.say_held(Receiver::CronDispatcher, documents).await;
}

/// Of each agent, a run has ended.
async fn say_recorded(world: &World, agents: &[i64], round: i64) {
    let run = |(id, agent): (i64, &i64)| {
        let mut run = pending_run(round * 1_000 + id, ORG, *agent, world.clock.now());
        (run.state, run.ended_at) = (RunState::Success, Some(world.clock.now()));
        run
    };
    world.record((1..).zip(agents.iter().rev()).map(run).collect()).await;
}

async fn agents(app: &App<'_>, mentor: &Value) -> Vec<i64> {
    let made = join_all((0..AGENTS).map(|_| app.agent(mentor, json!({})))).await;
    made.iter().map(|agent| agent["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn edits_and_what_is_said_of_their_agents_do_not_wait_for_each_other_in_a_circle() {
    let world = World::new().await;
    let app = world.open().await;
    let mentor = app.mentor().await;
    let kept = agents(&app, &mentor).await;
    for round in 1..=ROUNDS {
        let gone = agents(&app, &mentor).await;
        let all = [kept.as_slice(), gone.as_slice()].concat();
        let edits =
            join_all(kept.iter().map(async |id| app.patch(&format!("periodic-agents/{id}/"), edit(round)).await));
        let ends = join_all(gone.iter().map(async |id| app.delete(&format!("periodic-agents/{id}/")).await));
        let said = async {
            for again in 0..4 {
                say_held(&world, &mentor, &all, round * 4 + again).await;
                say_recorded(&world, &all, round).await;
            }
        };
        let (edited, ended, ()) = futures::join!(edits, ends, said);
        let bad = |answer: &&Answer| !answer.status.is_success();
        let refused: Vec<&Answer> = edited.iter().chain(&ended).filter(bad).collect();
        assert!(refused.is_empty(), "in round {round}: {refused:?}");
    }
}

#[tokio::test]
async fn of_two_agents_that_are_to_wait_for_each_other_only_one_does() {
    let world = World::new().await;
    let app = world.open_with(false).await;
    let mentor = app.mentor().await;
    let (one, other) = (app.agent(&mentor, json!({})).await, app.agent(&mentor, json!({})).await);
    let set = async |agent: &Value, previous: &Value| {
        app.patch(&format!("periodic-agents/{}/", agent["id"]), json!({ "previous_agent": previous })).await
    };
    for round in 0..100 {
        let (first, second) = futures::join!(set(&one, &other["id"]), set(&other, &one["id"]));
        let mut answers = [first.status.as_u16(), second.status.as_u16()];
        answers.sort_unstable();
        assert_eq!(answers, [200, 400], "in round {round}");
        for agent in [&one, &other] {
            set(agent, &Value::Null).await.ok(200);
        }
    }
}
