//! What the registry would announce: random agents, and what becomes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::TZ_VARIANTS;
use model::crontab::{Crontab, CrontabFields};
use model::document::{
    Agent, CatchUp, Document, Mentor, Organisation, OverlapPolicy, Pause, Previous, Provider, Schedule, Subject,
    next_version,
};
use model::id::{AgentId, MentorId, OrganisationKey};
use model::run::RunState;

/// Numbers that look random and follow from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from).unsigned_abs() + 1).cast_signed()
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    pub(super) fn shuffle<T>(&mut self, values: &mut [T]) {
        for at in (1..values.len()).rev() {
            values.swap(at, usize::try_from(self.below(at as u64 + 1)).unwrap());
        }
    }
}

const ORGANISATIONS: [&str; 3] = ["acme", "globex", "initech"];
const USERS: [&str; 4] = ["ann", "ben", "eve", "joe"];

/// What it has, in its newest version.
#[derive(Default)]
pub(super) struct Registry {
    agents: BTreeMap<i64, (&'static str, Agent)>,
    settings: BTreeMap<&'static str, Organisation>,
    versions: BTreeMap<String, i64>,
    newest_id: i64,
}

impl Registry {
    pub(super) fn found_organisations(&mut self, now: DateTime<Utc>) -> Vec<Document> {
        let mut documents = Vec::new();
        for (id, organisation) in (1..).zip(ORGANISATIONS) {
            self.settings.insert(organisation, Organisation::default());
            documents.push(self.announce(organisation, Subject::Organisation(Organisation::default()), now));
            let mentor = Mentor {
                id: MentorId(id),
                unique_id: String::new(),
                name: "Echo".into(),
                system_prompt: String::new(),
                provider: Provider::default(),
                runs_in_flight_max: NonZeroU32::new(40),
                service_groups: Vec::new(),
            };
            documents.push(self.announce(organisation, Subject::Mentor(mentor), now));
        }
        documents
    }

    /// A new agent; one in six follows an older one of its organisation.
    pub(super) fn create(&mut self, now: DateTime<Utc>, random: &mut Random) -> Document {
        self.newest_id += 1;
        let id = self.newest_id;
        let at = usize::try_from(id).unwrap() % ORGANISATIONS.len();
        let agent = Agent {
            id: AgentId(id),
            mentor_id: MentorId(i64::try_from(at).unwrap() + 1),
            title: String::new(),
            prompt: String::new(),
            username: random.pick(&USERS).into(),
            last_editor: "admin".into(),
            schedule: timing(Schedule { timing_version: next_version(0, now), ..Schedule::default() }, now, random),
            endpoint: None,
            pathway: String::new(),
            parent_session_id: String::new(),
            parent_mentor_id: None,
            previous: if random.below(6) == 0 { self.somebody_before(id, random) } else { None },
            pause: Pause::default(),
            runs_in_flight_max: None,
        };
        self.put(ORGANISATIONS[at], policies(agent, random), now)
    }

    /// How many agents there are.
    pub(super) fn agents(&self) -> usize {
        self.agents.len()
    }

    /// Somebody edits something.
    pub(super) fn edit(&mut self, now: DateTime<Utc>, random: &mut Random) -> Option<Document> {
        let organisation = random.pick(&ORGANISATIONS);
        if random.below(20) == 0 {
            let settings = self.settings.get_mut(organisation)?;
            // What is stopped is soon let go on.
            match if settings.pause.paused { 1 } else { random.below(6) } {
                3 => toggle_user(&mut settings.revoked_users, random.pick(&USERS)),
                0 => settings.timezone = random.pick(&TZ_VARIANTS),
                1 => settings.pause = toggle(settings.pause, random),
                _ => settings.runs_in_flight_max = NonZeroU32::new(u32::try_from(random.below(30)).unwrap()),
            }
            let settings = settings.clone();
            return Some(self.announce(organisation, Subject::Organisation(settings), now));
        }
        let id = self.somebody(random)?;
        if random.below(60) == 0 {
            // One goes, and another comes some time later.
            let (organisation, _) = self.agents.remove(&id)?;
            return Some(self.announce(organisation, Subject::AgentDeleted(AgentId(id)), now));
        }
        let (organisation, mut agent) = self.agents.get(&id)?.clone();
        let stopped = if agent.pause.paused { 4 } else { 3 };
        let is_stopped = agent.pause.paused || !agent.schedule.enabled;
        let begins = match if is_stopped && random.below(3) > 0 { stopped } else { random.below(9) } {
            0..=2 => {
                agent.schedule = timing(agent.schedule, now, random);
                true
            }
            3 => {
                agent.schedule.enabled = !agent.schedule.enabled;
                agent.schedule.enabled
            }
            4 => {
                agent.pause = toggle(agent.pause, random);
                false
            }
            5 => {
                agent = policies(agent, random);
                false
            }
            6 => {
                agent.schedule.jitter = Duration::from_secs(random.below(900));
                true
            }
            7 => {
                agent.previous = agent.previous.map_or_else(|| self.somebody_before(id, random), |_| None);
                true
            }
            _ => {
                agent.title.push('x');
                false
            }
        };
        if begins {
            agent.schedule.timing_version = self.next_version(&format!("agent/{id}"), now);
        }
        Some(self.put(organisation, agent, now))
    }

    /// Some agent that there is.
    pub(super) fn somebody(&self, random: &mut Random) -> Option<i64> {
        let nth = random.below(self.agents.len().max(1) as u64);
        self.agents.keys().nth(usize::try_from(nth).unwrap()).copied()
    }

    /// Whom an agent may follow: an older one, so that nobody follows himself round a corner.
    fn somebody_before(&self, id: i64, random: &mut Random) -> Option<Previous> {
        let agent_id = AgentId(self.somebody(random).filter(|other| *other < id)?);
        let status = random.pick(&[RunState::Pending, RunState::Running, RunState::Success, RunState::Error]);
        Some(Previous { agent_id, status })
    }

    fn put(&mut self, organisation: &'static str, agent: Agent, now: DateTime<Utc>) -> Document {
        self.agents.insert(agent.id.0, (organisation, agent.clone()));
        self.announce(organisation, Subject::Agent(Box::new(agent)), now)
    }

    fn announce(&mut self, organisation: &str, subject: Subject, now: DateTime<Utc>) -> Document {
        let mut document = Document { organisation: OrganisationKey(organisation.into()), version: 0, subject };
        let name = format!("{}/{}", document.kind(), document.key());
        document.version = self.next_version(&name, now);
        self.versions.insert(name, document.version);
        document
    }

    fn next_version(&self, name: &str, now: DateTime<Utc>) -> i64 {
        next_version(self.versions.get(name).copied().unwrap_or_default(), now)
    }
}

fn toggle_user(users: &mut BTreeSet<String>, name: &str) {
    if !users.remove(name) {
        users.insert(name.to_owned());
    }
}

fn toggle(pause: Pause, random: &mut Random) -> Pause {
    let choice = random.pick(&[None, Some(CatchUp::None), Some(CatchUp::Latest), Some(CatchUp::All)]);
    if pause.paused {
        Pause { paused: false, resumed_with: choice }
    } else {
        Pause { paused: true, resumed_with: None }
    }
}

fn policies(mut agent: Agent, random: &mut Random) -> Agent {
    agent.schedule.overlap = random.pick(OverlapPolicy::ALL);
    agent.schedule.catch_up = random.pick(CatchUp::ALL);
    agent.schedule.catch_up_window = Duration::from_secs(3_600 * (1 + random.below(200)));
    agent.schedule.max_attempts = NonZeroU32::MIN.saturating_add(u32::try_from(random.below(3)).unwrap());
    agent
}

/// A schedule in any zone.
fn timing(schedule: Schedule, now: DateTime<Utc>, random: &mut Random) -> Schedule {
    let crontab = loop {
        let fields = crontab(random);
        if Crontab::parse(&fields).is_ok() {
            break fields;
        }
    };
    let some_time = |random: &mut Random| now + TimeDelta::hours(random.between(-100, 2_000));
    Schedule {
        crontab,
        timezone: (random.below(4) > 0).then(|| random.pick(&TZ_VARIANTS)),
        one_off: random.below(25) == 0,
        start_time: (random.below(10) == 0).then(|| some_time(random)),
        end_time: (random.below(20) == 0).then(|| some_time(random)),
        jitter: Duration::from_secs(if random.below(3) == 0 { random.below(600) } else { 0 }),
        ..schedule
    }
}

/// As people write them: of a hundred, two fire by the minute, eight by the hour, fifty by the day, thirty by the week,
/// ten by the month or less; many at night, where clocks change.
fn crontab(random: &mut Random) -> CrontabFields {
    let minute = random.pick(&["0", "30", "15", "59", "0,45"]);
    let hour = random.pick(&["2", "1", "0", "23", "9", "1,2,3", "*/12", "2,14", "12"]);
    let [minute, hour, day_of_month, month_of_year, day_of_week] = match random.below(100) {
        0..=1 => {
            let minute = random.pick(&["*", "*/5", "*/15", "10-50/7"]);
            [minute, random.pick(&["*", "*", "8-17", "22-2"]), "*", "*", random.pick(&["*", "mon-fri"])]
        }
        2..=9 => [minute, random.pick(&["*", "*", "*/2", "*/6"]), "*", "*", random.pick(&["*", "1-5"])],
        10..=59 => [minute, hour, "*", random.pick(&["*", "*", "*", "mar,oct,nov"]), "*"],
        60..=89 => [minute, hour, "*", "*", random.pick(&["sun", "1", "fri-mon", "1-5", "6,7"])],
        _ => {
            let day = random.pick(&["1", "*/7", "28-3", "25-31", "13"]);
            [minute, hour, day, random.pick(&["*", "*", "mar,oct,nov", "1-6"]), random.pick(&["*", "*", "fri-mon"])]
        }
    }
    .map(str::to_owned);
    CrontabFields { minute, hour, day_of_month, month_of_year, day_of_week }
}
