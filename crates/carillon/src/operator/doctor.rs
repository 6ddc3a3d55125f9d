//! `carillon doctor` and `carillon keys status`: what the processes find when they examine themselves, and what only
//! shows when two of them are compared.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use reqwest::Client;
use serde_json::{Value, json};
use service_kit::auth::InternalSigner;
use service_kit::clock::Clock;

use super::access::Admin;
use super::show::{self, Column, Shape};
use crate::cli::MicroserviceName;
use crate::output::print;

/// An examination reads whole tables.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How far the clocks of two hosts may differ.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::seconds(2);
/// What is under way between two microservices has arrived by then.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Agents that are named one by one.
const NAMED_MAX: usize = 10;

const PROCESSES: &[Column] = &[("process", "/process"), ("version", "/version"), ("microservices", "/microservices")];
const FINDINGS: &[Column] = &[("where", "/where"), ("what is wrong", "/what"), ("what to do", "/advice")];
const SEALED: &[Column] = &[
    ("where", "/microservice"),
    ("secrets in", "/column"),
    ("key", "/key"),
    ("how many", "/secrets"),
    ("configured", "/configured"),
    ("seals", "/seals"),
];

/// `carillon doctor`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon doctor\n  \
    carillon doctor --admin http://10.0.0.7:9090 --admin http://10.0.0.8:9090 --output json\n\n\
    Exits 0 if nothing is wrong, 1 if something is. It changes nothing, and needs `internal.key`, or the data directory \
    that has it. Name one process of each microservice at least.")]
pub(crate) struct DoctorArguments {
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
    #[command(flatten)]
    admin: Admin,
}

/// `carillon keys status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  carillon keys status\n\n\
    A key that seals nothing any more may be taken out of `secrets.keys`. Exits 1 if secrets are sealed with a key that \
    is not configured.")]
pub(crate) struct KeysStatusArguments {
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    output: Shape,
    #[command(flatten)]
    admin: Admin,
}

/// Examines every process, compares them, and prints what is wrong.
pub(crate) async fn run(arguments: &DoctorArguments) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(&arguments.admin)?;
    let (mut processes, mut findings) = (Vec::new(), Vec::new());
    for url in arguments.admin.urls()? {
        match asker.examine(&url).await {
            Ok(examined) => {
                findings.extend(examined.findings());
                processes.push(examined);
            }
            Err(error) => {
                let advice = "start it, or name the admin listeners of this installation with --admin";
                findings.push(finding(&url, format!("it cannot be asked: {error:#}"), advice));
            }
        }
    }
    findings.extend(versions(&processes));
    findings.extend(asker.agents(&processes).await);
    let shown: Vec<Value> = processes.iter().map(Examined::shown).collect();
    match arguments.output {
        Shape::Json => show::one(&json!({ "processes": shown, "findings": findings }))?,
        Shape::Table => {
            show::rows(Shape::Table, PROCESSES, &shown)?;
            match findings.as_slice() {
                [] => print("nothing is wrong\n")?,
                findings => show::rows(Shape::Table, FINDINGS, findings)?,
            }
        }
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints what is sealed with which key.
pub(crate) async fn keys_status(arguments: &KeysStatusArguments) -> anyhow::Result<ExitCode> {
    let asker = Asker::new(&arguments.admin)?;
    // Replicas of one microservice see the same.
    let mut sealed: BTreeMap<String, Value> = BTreeMap::new();
    for url in arguments.admin.urls()? {
        let examined = asker.examine(&url).await.with_context(|| url.clone())?;
        for one in examined.answer["sealed"].as_array().into_iter().flatten() {
            sealed.insert(format!("{}{}{}", one["microservice"], one["column"], one["key"]), one.clone());
        }
    }
    let rows: Vec<Value> = sealed.into_values().collect();
    show::rows(arguments.output, SEALED, &rows)?;
    let well = rows.iter().all(|row| row["configured"] == true);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finding(place: &str, what: impl Into<String>, advice: impl Into<String>) -> Value {
    json!({ "where": place, "what": what.into(), "advice": advice.into() })
}

/// What one process said, and how far its clock is off.
struct Examined {
    url: String,
    answer: Value,
    readiness: Value,
    offset: TimeDelta,
}

impl Examined {
    fn has(&self, microservice: &str) -> bool {
        self.answer["microservices"].as_array().is_some_and(|names| names.iter().any(|name| name == microservice))
    }

    fn version(&self) -> &str {
        self.answer["version"].as_str().unwrap_or_default()
    }

    fn shown(&self) -> Value {
        let names = self.answer["microservices"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names = names.collect::<Vec<_>>().join(", ");
        json!({ "process": self.url, "version": self.version(), "microservices": names })
    }

    fn findings(&self) -> Vec<Value> {
        let mut findings = Vec::new();
        let place = |microservice: &Value| format!("{} at {}", microservice.as_str().unwrap_or_default(), self.url);
        for one in self.answer["findings"].as_array().into_iter().flatten() {
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            findings.push(finding(&place(&one["microservice"]), text("what"), text("advice")));
        }
        for (condition, why) in self.readiness["not_ready"].as_object().into_iter().flatten() {
            let why = why.as_str().unwrap_or("not known yet");
            let advice = "mend what it says; docs/runbooks.md has more";
            findings.push(finding(&self.url, format!("not ready: {condition}: {why}"), advice));
        }
        if self.offset.abs() > CLOCKS_DIFFER_MAX {
            let what = format!("its clock is {:.1} s ahead of this host's", self.offset.as_seconds_f64());
            findings.push(finding(&self.url, what, "set both right, as with chrony"));
        }
        findings
    }
}

fn versions(processes: &[Examined]) -> Option<Value> {
    let versions: BTreeSet<&str> = processes.iter().map(Examined::version).collect();
    let found = versions.iter().copied().collect::<Vec<_>>().join(", ");
    let advice = "right during an upgrade: finish it (docs/upgrading.md)";
    (versions.len() > 1).then(|| finding("the processes", format!("several versions are at work: {found}"), advice))
}

/// Asks processes what only operators may ask.
struct Asker {
    client: Client,
    signer: InternalSigner,
    clock: Clock,
}

impl Asker {
    fn new(admin: &Admin) -> anyhow::Result<Self> {
        let client =
            Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).no_proxy().build()?;
        Ok(Self { client, signer: InternalSigner::new(&admin.internal()?, "carillon"), clock: Clock::host() })
    }

    async fn ask(&self, url: &str, path: &str) -> anyhow::Result<Value> {
        let names: Vec<String> = MicroserviceName::value_variants().iter().map(MicroserviceName::name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let token = self.signer.sign_for_any(&names, self.clock.now())?;
        let url = format!("{}/{path}", url.trim_end_matches('/'));
        let answer = self.client.get(url).bearer_auth(token).send().await.map_err(reqwest::Error::without_url)?;
        let status = answer.status();
        if path != "readyz" && !status.is_success() {
            bail!("it answered {status}");
        }
        answer.json().await.context("this is no admin listener of Carillon")
    }

    async fn examine(&self, url: &str) -> anyhow::Result<Examined> {
        let readiness = self.ask(url, "readyz").await?;
        let answer = self.ask(url, "internal/doctor").await?;
        // It took its time at the end of the examination.
        let received = self.clock.now();
        let said: Option<DateTime<Utc>> = answer["now"].as_str().and_then(|text| text.parse().ok());
        let offset = said.context("it does not say what time it is")? - received;
        Ok(Examined { url: url.trim_end_matches('/').to_owned(), answer, readiness, offset })
    }

    /// Agents that only one of the registry and the dispatcher knows.
    async fn agents(&self, processes: &[Examined]) -> Vec<Value> {
        let place = "agent-registry and cron-dispatcher";
        let of = |name: &str| processes.iter().find(|process| process.has(name)).map(|process| process.url.as_str());
        let (Some(registry), Some(dispatcher)) = (of("agent-registry"), of("cron-dispatcher")) else {
            return Vec::new();
        };
        match self.compare(registry, dispatcher).await {
            Err(error) => {
                vec![finding(
                    place,
                    format!("their agents cannot be compared: {error:#}"),
                    "see whether both are ready",
                )]
            }
            Ok((here, there)) => {
                let here = (!here.is_empty()).then(|| {
                    let what = format!("the dispatcher does not know {}, which never fire", named(&here));
                    finding(place, what, "carillon republish: the registry announces every agent again")
                });
                let there = (!there.is_empty()).then(|| {
                    let what = format!("the dispatcher fires {}, which the registry does not know", named(&there));
                    let advice = "the registry was restored from a backup that is older than they are: restore a newer \
                                  one, or make them anew under other ids and pause these (docs/backup.md)";
                    finding(place, what, advice)
                });
                here.into_iter().chain(there).collect()
            }
        }
    }

    async fn compare(&self, registry: &str, dispatcher: &str) -> anyhow::Result<(BTreeSet<i64>, BTreeSet<i64>)> {
        let look = async || {
            let here = self.agents_of(registry, "agent-registry").await?;
            let there = self.agents_of(dispatcher, "cron-dispatcher").await?;
            anyhow::Ok((&here - &there, &there - &here))
        };
        let (here, there) = look().await?;
        if here.is_empty() && there.is_empty() {
            return Ok((here, there));
        }
        // What was made or deleted a moment ago is known to one of them only.
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        let (still_here, still_there) = look().await?;
        Ok((&here & &still_here, &there & &still_there))
    }

    async fn agents_of(&self, url: &str, microservice: &str) -> anyhow::Result<BTreeSet<i64>> {
        let (mut all, mut after) = (BTreeSet::new(), String::new());
        loop {
            let path = format!("internal/doctor/agents/{microservice}?after={after}");
            let page = self.ask(url, &path).await.with_context(|| microservice.to_owned())?;
            let keys: Vec<&str> = page["agents"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let Some(last) = keys.last() else { return Ok(all) };
            all.extend(keys.iter().filter_map(|key| key.parse::<i64>().ok()));
            after = (*last).to_owned();
        }
    }
}

/// How many agents, and the first of them.
fn named(ids: &BTreeSet<i64>) -> String {
    let first: Vec<String> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if ids.len() > NAMED_MAX { " and others" } else { "" };
    let noun = if ids.len() == 1 { "agent" } else { "agents" };
    format!("{} {noun} ({}{more})", ids.len(), first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(version: &str, offset: TimeDelta) -> Examined {
        let answer = json!({ "version": version, "microservices": ["agent-runner"], "findings": [] });
        Examined { url: "http://a".to_owned(), answer, readiness: json!({ "ready": true }), offset }
    }

    #[test]
    fn several_versions_and_another_clock_are_found() {
        assert_eq!(versions(&[examined("1", TimeDelta::zero()), examined("1", TimeDelta::zero())]), None);
        let found = versions(&[examined("1", TimeDelta::zero()), examined("2", TimeDelta::zero())]).unwrap();
        assert!(found["what"].as_str().unwrap().contains("1, 2"), "{found}");
        assert!(examined("1", TimeDelta::seconds(1)).findings().is_empty());
        let found = examined("1", TimeDelta::seconds(-9)).findings();
        assert!(found[0]["what"].as_str().unwrap().contains("-9.0 s"), "{found:?}");
    }

    #[test]
    fn agents_are_named_up_to_a_point() {
        assert_eq!(named(&BTreeSet::from([7])), "1 agent (7)");
        assert!(named(&(1..=12).collect()).starts_with("12 agents (1, 2,"));
        assert!(named(&(1..=12).collect()).ends_with(" and others)"));
    }
}
