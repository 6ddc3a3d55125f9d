//! `carillon demo`: the main job, seen working. A real `carillon up` beside a receiver that checks signatures the way
//! the API's documentation tells receivers to.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use service_kit::clock::Clock;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cli::DemoArguments;
use crate::output::print;

const ORGANISATION: &str = "demo";
const USER: &str = "admin";
const SECRET: &str = "a secret that sender and receiver share";
/// How long anything here may take before the demonstration has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same where a model answers: at home, it may have to be loaded first.
const PATIENCE_WITH_MODELS: Duration = Duration::from_secs(300);
/// What a real model is called in the configuration of this demonstration.
const PROVIDER: &str = "openai";

/// Shows it; exits 0 once a callback was received and verified.
pub(crate) fn demo(arguments: &DemoArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    runtime.block_on(show(arguments, folder.path()))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(arguments: &DemoArguments, folder: &Path) -> anyhow::Result<()> {
    let mut steps = Steps::begin();
    let model = arguments.model();
    if let Some((base_url, model)) = model {
        ensure!(!model.is_empty(), "say which model of {base_url} is to be asked: set OPENAI_MODEL");
        check_endpoint(base_url).await?;
    }
    let (receiver_url, mut callbacks) = start_receiver()?;
    steps.done(&format!("a receiver listens on {receiver_url} and checks every signature"))?;

    let carillon = Carillon::start(&folder.join("data"), arguments)?;
    let token = carillon.token(&folder.join("data"))?;
    steps.done(&format!("carillon up listens on {} (everything in one process, on SQLite)", carillon.url))?;

    let api = Api { base: format!("{}/api/ai-mentor/orgs/{ORGANISATION}/users/{USER}", carillon.url), token };
    let mentor = api.post("mentor-with-settings/", &mentor(model)).await?;
    let unique_id = mentor["unique_id"].as_str().context("the mentor has no unique_id")?;
    let what = match model {
        Some((base_url, model)) => format!("`{model}` at {base_url}"),
        None => "which repeats what it is asked".to_owned(),
    };
    steps.done(&format!("POST mentor-with-settings/  → mentor {unique_id}, {what}"))?;

    let prompt = if model.is_some() { MODEL_PROMPT } else { "What happened since yesterday?" };
    let agent = api.post("periodic-agents/", &agent(unique_id, prompt, &receiver_url)).await?;
    steps.done(&format!("POST periodic-agents/       → agent {}, crontab `* * * * *`", agent["id"]))?;

    let log = api.post(&format!("periodic-agents/{}/run/", agent["id"]), &json!({})).await?;
    steps.done(&format!("POST periodic-agents/{}/run/ → log {}, {}", agent["id"], log["id"], log["state"]))?;

    let first = first_callback(&mut callbacks, if model.is_some() { PATIENCE_WITH_MODELS } else { PATIENCE }).await?;
    steps.done("a callback arrived and its X-Hub-Signature-256 is that of its body:")?;
    print(format_args!("\n{first}\n\n"))?;
    ensure!(first.body["status"] == "success", "the run ended as error: its log above says why");

    if arguments.keep {
        print("Every minute a tick from here on; Ctrl-C ends it.\n\n")?;
        keep(&mut callbacks).await?;
    }
    let total = steps.total();
    print(format_args!("Verified, {total:.1} s after the start. Next: README.md, \"Five minutes with curl\".\n"))
}

async fn first_callback(callbacks: &mut UnboundedReceiver<Callback>, patience: Duration) -> anyhow::Result<Callback> {
    let first = tokio::time::timeout(patience, callbacks.recv()).await;
    let first = first.with_context(|| format!("no callback came in {} seconds", patience.as_secs()))?;
    let first = first.context("the receiver stopped")?;
    ensure!(first.verified, "the callback's signature was NOT that of its body");
    Ok(first)
}

async fn keep(callbacks: &mut UnboundedReceiver<Callback>) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
            callback = callbacks.recv() => {
                let callback = callback.context("the receiver stopped")?;
                print(format_args!("{callback}\n\n"))?;
            }
        }
    }
}

/// Fails at once where nobody listens: a run would wait for the endpoint to come back.
async fn check_endpoint(base_url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
    let url = format!("{}/models", base_url.trim_end_matches('/'));
    // Whatever it answers, it answers.
    client.get(url).send().await.with_context(|| format!("nobody answers at OPENAI_BASE_URL, {base_url}"))?;
    Ok(())
}

/// What a real model is asked, so that one sees that it was.
const MODEL_PROMPT: &str = "In two sentences: why do towns ring their bells on the hour?";

/// A real model is asked for in the words of the original API alone.
fn mentor(model: Option<(&str, &str)>) -> Value {
    match model {
        Some((_, model)) => json!({
            "template_name": "ai-mentor",
            "new_mentor_name": "Bell ringer",
            "system_prompt": "You answer in plain words, without any formatting.",
            "llm_provider": PROVIDER,
            "llm_name": model,
        }),
        None => json!({
            "template_name": "ai-mentor",
            "new_mentor_name": "Echo",
            "provider": {"kind": "echo"},
        }),
    }
}

fn agent(mentor: &str, prompt: &str, callback_url: &str) -> Value {
    json!({
        "mentor": mentor,
        "title": "Morning report",
        "prompt": prompt,
        "task": {"crontab": {}},
        "callback_url": callback_url,
        "callback_secret": SECRET,
    })
}

/// Prints each step with the time that it took.
struct Steps {
    start: Instant,
    last: Instant,
}

impl Steps {
    fn begin() -> Self {
        let now = Instant::now();
        Self { start: now, last: now }
    }

    fn done(&mut self, what: &str) -> anyhow::Result<()> {
        print(format_args!("{:>6} ms  {what}\n", self.last.elapsed().as_millis()))?;
        self.last = Instant::now();
        Ok(())
    }

    fn total(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// A real model, as a named provider of the configuration. Those may be anywhere, on this machine too.
fn provider(arguments: &DemoArguments) -> Vec<(String, String)> {
    let Some((base_url, _)) = arguments.model() else { return Vec::new() };
    let api_key = arguments.openai_api_key.as_deref().unwrap_or_default();
    let settings = [("KIND", PROVIDER), ("BASE_URL", base_url), ("API_KEY", api_key)];
    let variable = |key: &str| format!("CARILLON__PROVIDERS__{}__{key}", PROVIDER.to_uppercase());
    settings.iter().map(|(key, value)| (variable(key), (*value).to_owned())).collect()
}

/// This program, configured by nothing of the shell's: a demonstration beside an installation that is configured so
/// would join it, and take its messages with it when it ends.
fn carillon() -> anyhow::Result<std::process::Command> {
    let mut carillon = std::process::Command::new(std::env::current_exe()?);
    let ours = |name: &OsString| name.to_string_lossy().starts_with("CARILLON__");
    for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
        carillon.env_remove(name);
    }
    Ok(carillon)
}

/// A running `carillon up`, stopped when dropped.
struct Carillon {
    process: Child,
    url: String,
}

impl Carillon {
    fn start(data_dir: &Path, arguments: &DemoArguments) -> anyhow::Result<Self> {
        let mut process = carillon()?
            .args(["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            // The receiver of this demonstration is on this machine.
            .env("CARILLON__CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8")
            .env("CARILLON__TELEMETRY__LOG", "warn")
            .envs(provider(arguments))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start carillon up")?;
        let output = process.stdout.take().context("carillon up has no output")?;
        for line in BufReader::new(output).lines() {
            if let Some(url) = line?.trim().strip_prefix("API ") {
                return Ok(Self { process, url: url.trim().to_owned() });
            }
        }
        bail!("carillon up did not start: see above")
    }

    fn token(&self, data_dir: &Path) -> anyhow::Result<String> {
        let output = carillon()?
            .args(["token", "--user", USER, "--org", ORGANISATION, "--role", "tenant_admin", "--data-dir"])
            .arg(data_dir)
            .stderr(Stdio::inherit())
            .output()?;
        ensure!(output.status.success(), "carillon token failed: see above");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

impl Drop for Carillon {
    fn drop(&mut self) {
        // Its directory goes with it, so there is nothing to drain for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The API, as the original document calls it.
struct Api {
    base: String,
    token: String,
}

impl Api {
    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        let url = format!("{}/{path}", self.base);
        let authorization = format!("Token {}", self.token);
        let response = client.post(&url).header("Authorization", authorization).json(body).send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "POST {path} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}

/// A callback that arrived.
struct Callback {
    verified: bool,
    signature: String,
    latency_ms: Option<i64>,
    body: Value,
}

impl std::fmt::Display for Callback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.verified { "verified" } else { "NOT VERIFIED" };
        writeln!(f, "    X-Hub-Signature-256: {} ({verdict})", self.signature)?;
        if let Some(latency) = self.latency_ms {
            writeln!(f, "    received {latency} ms after the run ended")?;
        }
        for key in ["status", "log_id", "prompt", "agent_output"] {
            writeln!(f, "    {key}: {}", self.body[key])?;
        }
        write!(f, "    log:")?;
        self.body["log"].as_str().unwrap_or_default().lines().try_for_each(|line| write!(f, "\n      {line}"))
    }
}

/// Starts a receiver on a free port. Returns its URL, and what arrives.
fn start_receiver() -> anyhow::Result<(String, UnboundedReceiver<Callback>)> {
    let (arrived, callbacks) = unbounded_channel();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
    let url = format!("http://{}/callback", listener.local_addr()?);
    let app = move || {
        App::new()
            .app_data(web::Data::new(arrived.clone()))
            .app_data(web::PayloadConfig::new(1 << 24))
            .route("/callback", web::post().to(receive))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run();
    tokio::spawn(server);
    Ok((url, callbacks))
}

async fn receive(
    request: HttpRequest,
    payload: web::Bytes,
    arrived: web::Data<UnboundedSender<Callback>>,
) -> HttpResponse {
    let header = request.headers().get("X-Hub-Signature-256").and_then(|value| value.to_str().ok());
    let signature = header.unwrap_or_default().to_owned();
    let verified = validate_payload(&payload, &signature);
    let body: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let ended = body["timestamp"].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let latency_ms = ended.map(|ended| (Clock::host().now() - ended).num_milliseconds());
    // Nobody listens any more once the demonstration is over.
    let _ = arrived.send(Callback { verified, signature, latency_ms, body });
    if verified { HttpResponse::NoContent().finish() } else { HttpResponse::BadRequest().finish() }
}

/// The algorithm of the API's documentation, step by step: prefix, HMAC-SHA256 of the raw body, hexadecimal digest,
/// comparison in constant time.
fn validate_payload(payload: &[u8], header: &str) -> bool {
    let Some(received_signature) = header.strip_prefix("sha256=") else { return false };
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    let expected_signature = hex::encode(aws_lc_rs::hmac::sign(&key, payload));
    aws_lc_rs::constant_time::verify_slices_are_equal(received_signature.as_bytes(), expected_signature.as_bytes())
        .is_ok()
}
