//! A year in the life of many schedules, at the end of which every tick is accounted for.
//!
//! Random schedules in all zones; two dispatchers whose clocks differ and jump both ways, that are away for days and
//! crash before they commit; owners who edit, disable, chain, delete and rename; operators who pause, resume and revoke;
//! people who want a run now; documents that come late, twice and out of order; results that are held at once or much
//! later. All of it by a seed: `make test-simulation SEEDS=7`, or `AGENTS=1000 SEEDS=1` for the year of a thousand.
//!
//! It is the product's own code on a database in memory, built with optimisation (`simulation.toml`).

mod registry;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;
use model::document::{CatchUp, Document};
use model::id::{AgentId, RunId};
use model::internal::TriggerRequest;
use model::run::{RunAnswer, RunReason, RunResult};
use model::wire::Wire;
use service_kit::database::DbConnection;

use self::registry::{Random, Registry};
use crate::apply::apply;
use crate::config::DispatcherConfig;
use crate::creators::end_barred;
use crate::error::DispatchError;
use crate::judge::take_answers;
use crate::ledger::{Report, verify_on};
use crate::schema::{runs, schedules, skipped_ticks};
use crate::settle::{Through, fire};
use crate::store::schedules::Of;
use crate::store::stage::Stage;
use crate::store::{self, everything, schedules as plans, window};
use crate::trigger::trigger;
use crate::zones;

const START: &str = "2026-01-01T00:00:00Z";

/// All of it: the world outside, and the one database of the dispatchers.
struct World {
    random: Random,
    conn: DbConnection,
    config: DispatcherConfig,
    registry: Registry,
    /// Announced, and not held yet.
    on_the_way: Vec<Document>,
    now: DateTime<Utc>,
    everything_paused: bool,
    /// Runs that have ended and are not held yet.
    unheld: Vec<i64>,
    agents: usize,
}

impl World {
    fn new(seed: u64, agents: usize) -> Self {
        let mut sqlite = SqliteConnection::establish(":memory:").unwrap();
        sqlite.batch_execute("PRAGMA synchronous = OFF").unwrap();
        sqlite.run_pending_migrations(store::migrations().sqlite).unwrap();
        let mut random = Random::new(seed);
        let now = START.parse().unwrap();
        let mut registry = Registry::default();
        let mut on_the_way = registry.found_organisations(now);
        for _ in 0..agents {
            on_the_way.push(registry.create(now, &mut random));
        }
        let config = DispatcherConfig { catch_up_max: 5, ..DispatcherConfig::default() };
        let conn = DbConnection::Sqlite(sqlite);
        Self { random, conn, config, registry, on_the_way, now, everything_paused: false, unheld: Vec::new(), agents }
    }

    fn live(&mut self, days: i64) {
        let end = self.now + TimeDelta::days(days);
        while self.now < end {
            self.happen();
            self.deliver();
            self.work();
            self.advance();
        }
        self.deliver_all();
        self.resume_all();
        self.work();
    }

    /// Time goes on: mostly to the next tick, at times by hours or by days that nobody watched.
    fn advance(&mut self) {
        let earliest = plans::earliest(&mut self.conn, &[]).unwrap();
        let step = match self.random.below(100) {
            0 => TimeDelta::hours(self.random.between(24, 96)),
            1..=30 => TimeDelta::minutes(self.random.between(60, 600)),
            _ => TimeDelta::minutes(1),
        };
        let to_next = earliest.map_or(step, |next| next - self.now).clamp(TimeDelta::zero(), TimeDelta::hours(12));
        self.now += step.max(to_next);
    }

    /// A dispatcher's clock: not the same as the other's, and once in a while far off.
    fn a_clock(&mut self) -> DateTime<Utc> {
        match self.random.below(50) {
            0 => self.now - TimeDelta::minutes(self.random.between(1, 180)),
            _ => self.now + TimeDelta::milliseconds(self.random.between(-1_500, 1_500)),
        }
    }

    fn happen(&mut self) {
        if self.random.below(10) == 0 {
            for _ in 0..self.agents.div_ceil(30) {
                let edited = self.registry.edit(self.now, &mut self.random);
                self.on_the_way.extend(edited);
            }
        }
        if self.registry.agents() < self.agents && self.random.below(20) == 0 {
            let created = self.registry.create(self.now, &mut self.random);
            self.on_the_way.push(created);
        }
        if self.random.below(30) == 0 {
            self.trigger();
        }
        if self.random.below(if self.everything_paused { 20 } else { 1_000 }) == 0 {
            self.pause_everything(!self.everything_paused);
        }
    }

    /// Somebody wants a run now; of an agent that the dispatcher does not know yet, or may not run, there is none.
    fn trigger(&mut self) {
        let Some(agent_id) = self.registry.somebody(&mut self.random).map(AgentId) else { return };
        let (documents, prompt, nominal_time) = (Vec::new(), None, None);
        let asked = TriggerRequest { documents, agent_id, prompt, nominal_time, idempotency_key: String::new() };
        let now = self.a_clock();
        self.commit(|conn, config| match trigger(conn, &asked, config, now) {
            Err(error) if !matches!(error, DispatchError::UnknownAgent(_) | DispatchError::CreatorNotAllowed(_)) => {
                Err(error)
            }
            _ => Ok(()),
        });
    }

    /// Documents arrive late, twice and in any order.
    fn deliver(&mut self) {
        if self.random.below(4) == 0 {
            return;
        }
        let mut batch = std::mem::take(&mut self.on_the_way);
        self.random.shuffle(&mut batch);
        let (now, again) = (self.a_clock(), self.random.below(3) == 0);
        self.commit(|conn, config| apply(conn, &batch, config, now).map(drop));
        if again {
            self.commit(|conn, config| apply(conn, &batch, config, now).map(drop));
        }
        let kept = self.random.below(10) == 0;
        self.on_the_way = if kept { batch } else { Vec::new() };
    }

    fn deliver_all(&mut self) {
        let (batch, now) = (std::mem::take(&mut self.on_the_way), self.now);
        self.commit(|conn, config| apply(conn, &batch, config, now).map(drop));
    }

    fn work(&mut self) {
        for _ in 0..2 {
            let now = self.a_clock();
            self.fire_all(now);
            self.answer(now);
        }
        self.hold();
        self.follow_zones();
    }

    /// Schedules follow to the new zones of their organisations, now and then some.
    fn follow_zones(&mut self) {
        while self.random.below(4) > 0 {
            let now = self.a_clock();
            if self.random.below(10) == 0 {
                self.crash(|conn, config| zones::walk(conn, 20, config, now));
            }
            let mut walked = false;
            self.commit(|conn, config| {
                walked = zones::walk(conn, 20, config, now)?.is_some();
                Ok(())
            });
            if !walked {
                return;
            }
        }
    }

    fn fire_all(&mut self, now: DateTime<Utc>) {
        loop {
            let mut fired = 0;
            if self.random.below(20) == 0 {
                // It dies before it commits.
                self.crash(|conn, config| {
                    let due = plans::lock_due(conn, now, &[], 100)?;
                    fire(conn, due, Through::Now { enters: true }, now, config)
                });
            }
            let enters = self.random.below(2) == 0;
            self.commit(|conn, config| {
                let due = plans::lock_due(conn, now, &[], 100)?;
                fired = due.len();
                fire(conn, due, Through::Now { enters }, now, config).map(drop)
            });
            if fired < 100 {
                return;
            }
        }
    }

    /// Runs enter the window; most are answered, some fail, some go on.
    fn answer(&mut self, now: DateTime<Utc>) {
        self.commit(|conn, config| {
            let entered = window::enter(conn, 100, now, now)?.ids;
            end_barred(conn, entered, config, now).map(drop)
        });
        let open: Vec<(i64, i32)> = runs::table
            .filter(runs::stage.eq(Stage::Requested.literal()))
            .select((runs::id, runs::run_attempt))
            .load(&mut self.conn)
            .unwrap();
        let mut answers = Vec::new();
        for (id, run_attempt) in open {
            let reason = match self.random.below(10) {
                0..=2 => continue,
                3 => Some(RunReason::ProviderFailed),
                _ => None,
            };
            let run_attempt = u32::try_from(run_attempt).unwrap();
            let result = RunResult { reason, ..RunResult::default() };
            let answer = RunAnswer { run_id: RunId(id), run_attempt, started_at: now, ended_at: now, result };
            let bytes = answer.encode();
            answers.push((answer, bytes));
        }
        let mut ended = Vec::new();
        self.commit(|conn, config| {
            ended = take_answers(conn, &answers, config, now)?.ended;
            Ok(())
        });
        self.unheld.extend(ended.iter().map(|one| one.run.id.0));
    }

    /// The registry and the deliverer hold results, at times none for a while.
    fn hold(&mut self) {
        if self.random.below(3) == 0 {
            return;
        }
        let unheld = std::mem::take(&mut self.unheld);
        self.commit(|conn, _| {
            store::runs::hold(conn, &unheld, &[])?;
            Ok(store::runs::hold(conn, &[], &unheld)?)
        });
    }

    fn pause_everything(&mut self, paused: bool) {
        let (now, choice) = (self.now, self.random.pick(&[None, Some(CatchUp::None), Some(CatchUp::All)]));
        self.everything_paused = paused;
        self.commit(|conn, config| {
            if paused {
                for agent_id in plans::due_of(conn, Of::Everything, now)? {
                    let one = plans::lock(conn, agent_id)?.into_iter().collect();
                    fire(conn, one, Through::Edit(now), now, config)?;
                }
            } else {
                plans::resume(conn, Of::Everything, choice)?;
            }
            Ok(everything::put(conn, paused, "", now)?)
        });
    }

    fn resume_all(&mut self) {
        if self.everything_paused {
            self.pause_everything(false);
        }
    }

    fn commit(&mut self, work: impl FnOnce(&mut DbConnection, &DispatcherConfig) -> Result<(), DispatchError>) {
        let config = self.config.clone();
        self.conn.transaction(|conn| work(conn, &config)).expect("what the dispatcher does succeeds");
    }

    fn crash<T>(&mut self, work: impl FnOnce(&mut DbConnection, &DispatcherConfig) -> Result<T, DispatchError>) {
        let config = self.config.clone();
        let crashed: Result<(), DispatchError> = self.conn.transaction(|conn| {
            work(conn, &config)?;
            Err(diesel::result::Error::RollbackTransaction.into())
        });
        assert!(crashed.is_err());
    }

    fn verify(&mut self) -> Report {
        verify_on(&mut self.conn, 400, self.now).unwrap()
    }
}

fn number(variable: &str, default: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "a test says by its environment how much of it there is")]
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Lives a year, and sees what became of every tick.
fn see_a_year(seed: i64, agents: i64, days: i64) {
    let begun = Instant::now();
    let mut world = World::new(seed.cast_unsigned(), usize::try_from(agents).unwrap());
    world.live(days);
    let report = world.verify();
    let ran: i64 = runs::table.count().get_result(&mut world.conn).unwrap();
    let skipped: i64 = skipped_ticks::table.count().get_result(&mut world.conn).unwrap();
    let planned: i64 = schedules::table.count().get_result(&mut world.conn).unwrap();
    let (ticks, took) = (report.ticks, begun.elapsed().as_secs_f64());
    println!("seed {seed}: {planned} schedules, {ticks} ticks, {ran} runs, {skipped} skipped spans, {took:.1} s");
    for made_by in ["schedule", "catch_up", "chain", "manual"] {
        let made: i64 = runs::table.filter(runs::made_by.eq(made_by)).count().get_result(&mut world.conn).unwrap();
        assert!(made > 0, "seed {seed}: no run was made by {made_by}");
    }
    assert!(report.is_clean(), "seed {seed}: {report:#?}");
    assert!(ticks > 500 && ran > 300 && skipped > 50, "seed {seed}: too little happened: {ticks}");
}

#[test]
fn after_a_year_of_everything_every_tick_has_one_run_or_one_reason() {
    let (seeds, agents) = (number("CARILLON_SIMULATION_SEEDS", 1), number("CARILLON_SIMULATION_AGENTS", 30));
    let days = number("CARILLON_SIMULATION_DAYS", 365);
    let next = AtomicI64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let seeds =
                    std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|one| *one <= seeds);
                seeds.for_each(|seed| see_a_year(seed, agents, days));
            });
        }
    });
}
