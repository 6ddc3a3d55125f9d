//! `carillon bus`: what waits in the queues, what is in a message, and what becomes of dead letters.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bus::{Bus, Message, Queue};
use serde_json::{Value, json};

use crate::cli::{BusCommand, BusPeekArguments, BusPlace, BusStatusArguments, DeadLettersCommand, Output};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::print;

/// More dead letters than these are not counted one by one.
const DEAD_LETTERS_COUNTED: usize = 1000;
/// How long to wait for the next message of a queue that is expected to have one.
const PEEK_PATIENCE: Duration = Duration::from_secs(2);

/// Runs one of the commands.
pub(crate) fn run(command: &BusCommand) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bus = open(place(command)).await?;
        let outcome = perform(command, &*bus).await;
        bus.close().await;
        outcome
    })?;
    Ok(ExitCode::SUCCESS)
}

fn place(command: &BusCommand) -> &BusPlace {
    match command {
        BusCommand::Status(arguments) => &arguments.bus,
        BusCommand::Peek(arguments) => &arguments.bus,
        BusCommand::DeadLetters { command } => match command {
            DeadLettersCommand::List(arguments) => &arguments.bus,
            DeadLettersCommand::Requeue(arguments) | DeadLettersCommand::Discard(arguments) => &arguments.bus,
        },
    }
}

async fn open(place: &BusPlace) -> anyhow::Result<Arc<dyn Bus>> {
    let configured = match &place.url {
        Some(url) => url.clone(),
        None => Config::load(&place.place, Vec::new())?.bus.url.expose().to_owned(),
    };
    if !configured.is_empty() {
        return Ok(bus::open(&configured).await?);
    }
    let file = DataDir::at(&place.place.data_dir).join("bus.db");
    ensure!(
        file.exists(),
        "there is no {}: name the data directory with --data-dir, or the bus with --url",
        file.display()
    );
    Ok(bus::open(&format!("sqlite:{}", file.display())).await?)
}

async fn perform(command: &BusCommand, bus: &dyn Bus) -> anyhow::Result<()> {
    match command {
        BusCommand::Status(arguments) => status(arguments, bus).await,
        BusCommand::Peek(arguments) => peek(arguments, bus).await,
        BusCommand::DeadLetters { command } => match command {
            DeadLettersCommand::List(arguments) => list(arguments, bus).await,
            DeadLettersCommand::Requeue(arguments) => {
                let count = bus.requeue_dead_letters(arguments.queue).await?;
                say(&format!("{count} dead letters of {} are back in the queue", arguments.queue))
            }
            DeadLettersCommand::Discard(arguments) => {
                let count = bus.discard_dead_letters(arguments.queue).await?;
                say(&format!("{count} dead letters of {} are gone", arguments.queue))
            }
        },
    }
}

async fn status(arguments: &BusStatusArguments, bus: &dyn Bus) -> anyhow::Result<()> {
    let mut queues = Vec::new();
    for queue in Queue::ALL {
        let dead = bus.dead_letters(queue, DEAD_LETTERS_COUNTED).await?.len();
        queues.push((queue, bus.depth(queue).await?, dead));
    }
    match arguments.output {
        Output::Json => {
            let shown = |(queue, depth, dead): &(Queue, bus::Depth, usize)| json!({ "queue": queue.as_str(), "ready": depth.ready, "delayed": depth.delayed, "dead_letters": dead });
            say(&Value::from_iter(queues.iter().map(shown)).to_string())
        }
        Output::Text => {
            say(&format!("{:<30} {:>10} {:>10} {:>12}", "queue", "ready", "delayed", "dead letters"))?;
            for (queue, depth, dead) in queues {
                let more = if dead == DEAD_LETTERS_COUNTED { "+" } else { "" };
                say(&format!(
                    "{:<30} {:>10} {:>10} {:>12}",
                    queue.as_str(),
                    depth.ready,
                    depth.delayed,
                    format!("{dead}{more}")
                ))?;
            }
            Ok(())
        }
    }
}

/// Takes messages and gives them back: while they are looked at, nobody else gets them.
async fn peek(arguments: &BusPeekArguments, bus: &dyn Bus) -> anyhow::Result<()> {
    let ready = usize::try_from(bus.depth(arguments.queue).await?.ready).unwrap_or(usize::MAX);
    let wanted = ready.min(arguments.count.into());
    if wanted == 0 {
        return Ok(());
    }
    let mut consumer = bus.consume(arguments.queue, wanted).await?;
    let mut taken = Vec::new();
    while taken.len() < wanted {
        let next = consumer.next_batch(wanted - taken.len(), usize::MAX);
        // Somebody else may have been faster.
        let Ok(Some(batch)) = tokio::time::timeout(PEEK_PATIENCE, next).await else { break };
        taken.extend(batch);
    }
    for delivery in &taken {
        let mut shown = attributes(&delivery.message);
        shown["failures"] = delivery.failures.into();
        say(&shown.to_string())?;
    }
    Ok(())
}

async fn list(arguments: &BusPeekArguments, bus: &dyn Bus) -> anyhow::Result<()> {
    for dead in bus.dead_letters(arguments.queue, arguments.count.into()).await? {
        let mut shown = attributes(&dead.message);
        shown["failures"] = dead.failures.into();
        shown["reason"] = dead.reason.into();
        shown["given_up_at"] = dead.time.to_rfc3339().into();
        say(&shown.to_string())?;
    }
    Ok(())
}

/// A message as CloudEvents writes it in JSON. Its body is protobuf, `proto/carillon/v1/events.proto`.
fn attributes(message: &Message) -> Value {
    json!({
        "specversion": "1.0",
        "id": message.id,
        "type": message.kind.as_str(),
        "source": message.source,
        "time": message.time.to_rfc3339(),
        "traceparent": message.traceparent,
        "datacontenttype": "application/protobuf",
        "data_base64": STANDARD.encode(&message.body),
    })
}

fn say(line: &str) -> anyhow::Result<()> {
    print(format_args!("{line}\n"))
}
