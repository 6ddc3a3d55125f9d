use proptest::prelude::*;

use super::*;
use crate::crontab::CrontabFields;
use crate::document::CatchUp;
use crate::run::SkipReason;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn schedule(minute: &str, hour: &str) -> Schedule {
    let crontab = CrontabFields { minute: minute.into(), hour: hour.into(), ..CrontabFields::default() };
    Schedule { crontab, ..Schedule::default() }
}

fn timing_of(schedule: &Schedule) -> Timing {
    Timing::new(schedule, AgentId(7), Tz::UTC).unwrap()
}

fn timing(minute: &str, hour: &str) -> Timing {
    timing_of(&schedule(minute, hour))
}

fn policy(catch_up: CatchUp) -> Policy {
    Policy::of(&Schedule { catch_up, ..Schedule::default() }, 100)
}

fn runs(settled: &Settled) -> Vec<DateTime<Utc>> {
    settled.runs.iter().map(|due| due.nominal).collect()
}

#[test]
fn a_tick_on_time_runs_and_the_next_is_planned() {
    let (due, now) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T10:00:00.250Z"));
    for catch_up in CatchUp::ALL {
        let settled = timing("*/5", "*").settle(due, now, policy(*catch_up));
        assert_eq!(settled.runs, [Due { nominal: due, passed_over: 0 }]);
        assert_eq!((settled.skipped, settled.next), (vec![], Some(at("2026-01-01T10:05:00Z"))));
    }
}

#[test]
fn missed_ticks_are_coalesced_into_the_newest_which_knows_how_many() {
    let settled =
        timing("*/5", "*").settle(at("2026-01-01T10:00:00Z"), at("2026-01-01T10:17:00Z"), policy(CatchUp::Latest));
    assert_eq!(settled.runs, [Due { nominal: at("2026-01-01T10:15:00Z"), passed_over: 3 }]);
    let span =
        Span { from: at("2026-01-01T10:00:00Z"), until: at("2026-01-01T10:15:00Z"), reason: SkipReason::Coalesced };
    assert_eq!((settled.skipped, settled.next), (vec![span], Some(at("2026-01-01T10:20:00Z"))));
}

#[test]
fn without_catching_up_only_a_tick_on_time_runs() {
    let timing = timing("*/5", "*");
    let late = timing.settle(at("2026-01-01T10:00:00Z"), at("2026-01-01T10:17:00Z"), policy(CatchUp::None));
    assert_eq!((runs(&late), late.next), (vec![], Some(at("2026-01-01T10:20:00Z"))));
    assert_eq!(late.skipped[0].reason, SkipReason::TooLate);
    let just = timing.settle(at("2026-01-01T10:00:00Z"), at("2026-01-01T10:15:02Z"), policy(CatchUp::None));
    assert_eq!(runs(&just), [at("2026-01-01T10:15:00Z")]);
    assert_eq!(just.skipped[0].until, at("2026-01-01T10:15:00Z"));
}

#[test]
fn catching_up_all_is_bounded_by_age_and_by_number() {
    let all = Policy { window: TimeDelta::hours(1), count_max: 3, ..policy(CatchUp::All) };
    let settled = timing("*/10", "*").settle(at("2026-01-01T08:00:00Z"), at("2026-01-01T10:05:00Z"), all);
    let expected = ["2026-01-01T09:40:00Z", "2026-01-01T09:50:00Z", "2026-01-01T10:00:00Z"].map(at);
    assert_eq!(runs(&settled), expected);
    assert_eq!(settled.runs[0].passed_over, 3);
    let reasons: Vec<_> = settled.skipped.iter().map(|span| (span.reason, span.from)).collect();
    let late = (SkipReason::TooLate, at("2026-01-01T08:00:00Z"));
    assert_eq!(reasons, [late, (SkipReason::Limit, at("2026-01-01T09:10:00Z"))]);
}

#[test]
fn a_yearly_tick_missed_for_two_days_is_too_late_and_next_year_is_planned() {
    let mut yearly = schedule("0", "0");
    (yearly.crontab.day_of_month, yearly.crontab.month_of_year) = ("1".into(), "1".into());
    let latest = policy(CatchUp::Latest);
    let settled = timing_of(&yearly).settle(at("2026-01-01T00:00:00Z"), at("2026-01-03T00:00:00Z"), latest);
    assert_eq!((runs(&settled), settled.next), (vec![], Some(at("2027-01-01T00:00:00Z"))));
    assert_eq!(settled.skipped[0].until, at("2026-01-03T00:00:00.000001Z"));
}

#[test]
fn a_one_off_is_late_but_never_too_late_and_has_no_next() {
    let one_off = timing_of(&Schedule { one_off: true, ..schedule("*", "*") });
    let (due, later) = (at("2026-01-01T00:00:00Z"), at("2026-03-01T00:00:00Z"));
    for catch_up in CatchUp::ALL {
        let settled = one_off.settle(due, later, policy(*catch_up));
        assert_eq!((runs(&settled), settled.skipped, settled.next), (vec![due], vec![], None));
    }
}

#[test]
fn a_pause_ends_with_the_choice_of_whoever_resumes() {
    let (timing, due, now) = (timing("0", "*"), at("2026-01-01T10:00:00Z"), at("2026-01-01T12:30:00Z"));
    let settle = |choice| timing.settle(due, now, policy(CatchUp::All).after_pause(choice));
    let none = settle(Some(CatchUp::None));
    let span = Span { from: due, until: now + INSTANT, reason: SkipReason::Paused };
    assert_eq!((runs(&none), none.skipped), (vec![], vec![span]));
    let latest = settle(Some(CatchUp::Latest));
    assert_eq!((runs(&latest), latest.skipped[0].reason), (vec![at("2026-01-01T12:00:00Z")], SkipReason::Paused));
    assert_eq!(runs(&settle(None)).len(), 3);
}

#[test]
fn nothing_fires_before_the_start_time_nor_at_the_end_time_or_after_it() {
    let (start, end) = (at("2026-02-01T09:00:00Z"), at("2026-02-03T09:00:00Z"));
    let timing = timing_of(&Schedule { start_time: Some(start), end_time: Some(end), ..schedule("0", "9") });
    let all: Vec<_> = timing.ticks(at("2026-01-01T00:00:00Z")).collect();
    assert_eq!(all, [start, at("2026-02-02T09:00:00Z")]);
    let settled =
        timing.settle(start, at("2026-02-09T00:00:00Z"), Policy { window: TimeDelta::MAX, ..policy(CatchUp::All) });
    assert_eq!((runs(&settled), settled.next), (all, None));
}

#[test]
fn a_follower_may_fire_at_once_within_a_minute_that_its_crontab_matches() {
    let now = at("2026-01-01T09:00:30Z");
    assert_eq!(timing("*", "*").first_allowed(now), Some(now));
    assert_eq!(timing("0", "9").first_allowed(now), Some(now));
    assert_eq!(timing("5", "9").first_allowed(now), Some(at("2026-01-01T09:05:00Z")));
    let start = at("2026-01-02T00:00:00Z");
    let later = timing_of(&Schedule { start_time: Some(start), ..schedule("*", "*") });
    assert_eq!(later.first_allowed(now), Some(start));
}

#[test]
fn jitter_spreads_agents_evenly_and_each_agent_always_to_the_same_place() {
    let schedule = Schedule { jitter: Duration::from_secs(99), ..schedule("0", "0") };
    let nominal = at("2026-01-01T00:00:00Z");
    let shares: Vec<i64> = (0..10_000)
        .map(|id| Timing::new(&schedule, AgentId(id), Tz::UTC).unwrap())
        .map(|timing| (timing.fire_time(nominal) - nominal).num_seconds())
        .collect();
    let of_each_tenth = (0..10).map(|tenth| shares.iter().filter(|share| **share / 10 == tenth).count());
    for count in of_each_tenth {
        assert!((900..1_100).contains(&count), "{count} of 10,000 agents in one tenth of the time");
    }
    assert_eq!(timing_of(&schedule).fire_time(nominal), timing_of(&schedule).fire_time(nominal));
    assert_eq!(timing("0", "0").fire_time(nominal), nominal);
}

#[test]
fn what_the_clocks_do_to_a_tick_is_marked() {
    let new_york = |minute: &str, hour: &str, after: &str| {
        let schedule = Schedule { timezone: Some(chrono_tz::America::New_York), ..schedule(minute, hour) };
        timing_of(&schedule).upcoming(at(after)).next().unwrap()
    };
    let gap = new_york("30", "2", "2026-03-08T05:00:00Z");
    assert_eq!((gap.nominal, gap.daylight_saving), (at("2026-03-08T07:30:00Z"), Some(DaylightSaving::Shifted)));
    let twice = new_york("30", "1", "2026-11-01T04:00:00Z");
    assert_eq!((twice.nominal, twice.daylight_saving), (at("2026-11-01T05:30:00Z"), Some(DaylightSaving::Repeated)));
    assert_eq!(new_york("30", "2", "2026-03-09T05:00:00Z").daylight_saving, None);
}

#[test]
fn what_the_owner_may_not_have_meant_is_warned_of() {
    let now = at("2026-01-01T00:00:30Z");
    assert_eq!(warnings(&timing("0", "9"), now), Vec::<String>::new());
    assert_eq!(warnings(&timing("*/5", "*"), now), ["Fires 288 times a day."]);
    let mut friday_13th = schedule("0", "9");
    (friday_13th.crontab.day_of_month, friday_13th.crontab.day_of_week) = ("13".into(), "fri".into());
    assert!(warnings(&timing_of(&friday_13th), now)[0].contains("must both match"));
    let over = timing_of(&Schedule { end_time: Some(now), ..schedule("0", "9") });
    assert!(warnings(&over, now)[0].contains("Never fires"));
}

fn policies() -> impl Strategy<Value = Policy> {
    let catch_up = prop::sample::select(CatchUp::ALL);
    (catch_up, 1_i64..3_000, 1_usize..20, 0_u8..3).prop_map(|(catch_up, window, count_max, after)| {
        let regular = Policy { window: TimeDelta::minutes(window), count_max, ..policy(catch_up) };
        match after {
            0 => regular,
            1 => regular.after_pause(None),
            _ => regular.after_overlap(),
        }
    })
}

proptest! {
    /// However late the dispatcher looks and whatever the policy, each tick up to then is one run or in one span.
    #[test]
    fn every_due_tick_is_one_run_or_in_one_span(
        step in 1_u32..59, late in 0_i64..4_000, zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]),
        policy in policies(), end in prop::option::of(0_i64..5_000),
    ) {
        let start = at("2026-03-28T00:00:00Z");
        let end_time = end.map(|minutes| start + TimeDelta::minutes(minutes));
        let timing = timing_of(&Schedule { timezone: Some(zone), end_time, ..schedule(&format!("*/{step}"), "*/3") });
        let Some(due) = timing.first_after(start) else { return Ok(()) };
        let through = due + TimeDelta::minutes(late);
        let settled = timing.settle(due, through, policy);

        let mut next = Some(due);
        while let Some(tick) = next.filter(|tick| *tick <= through) {
            let spans = settled.skipped.iter().filter(|span| span.from <= tick && tick < span.until).count();
            let ran = settled.runs.iter().filter(|due| due.nominal == tick).count();
            prop_assert_eq!(spans + ran, 1, "{}", tick);
            next = timing.first_after(tick);
        }
        prop_assert_eq!(settled.next, next);
        prop_assert!(settled.runs.len() <= policy.count_max);
        prop_assert!(settled.runs.iter().all(|run| run.nominal <= through));
    }

    /// Wherever a settling is cut in two, the same ticks are settled.
    #[test]
    fn settling_composes(step in 1_u32..59, first in 0_i64..2_000, second in 0_i64..2_000) {
        let timing = timing(&format!("*/{step}"), "*/3");
        let due = timing.first_after(at("2026-03-28T00:00:00Z")).unwrap();
        let (middle, end) = (due + TimeDelta::minutes(first), due + TimeDelta::minutes(first + second));
        let all = Policy { window: TimeDelta::MAX, count_max: usize::MAX, ..policy(CatchUp::All) };
        let (one, two) = (timing.settle(due, middle, all), timing.settle(due, end, all));
        let rest = one.next.filter(|tick| *tick <= end).map(|tick| timing.settle(tick, end, all));
        let joined: Vec<_> = runs(&one).into_iter().chain(rest.iter().flat_map(runs)).collect();
        prop_assert_eq!(joined, runs(&two));
    }
}
