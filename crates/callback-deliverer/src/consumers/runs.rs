//! `callback-deliverer.runs`: ended runs and skipped ticks, each to be delivered.
//!
//! In order: one transaction with a delivery for each, those that find room leased; they are handed to the sender,
//! which tries them at once; `runs.held`; the ack. Idempotent: a delivery's webhook id is unique, so what comes again
//! makes none. On a crash before the commit the batch comes again as if new. After it, whatever else was not done, the
//! deliveries are pending in the database and sent from there; the batch comes again and is said to be held (again).

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use metrics::counter;
use model::document::Receiver;
use model::event::{EventKind, HeldTick, RunsFinished, RunsHeld, TicksSkipped};
use tokio::sync::mpsc;

use super::{database_fault, decode, publish};
use crate::core::{Core, InHand, Lease};
use crate::delivery_attempt::count_settled;
use crate::payload::NotEnded;
use crate::store::intake::{self, Intake, IntakeError, News, Taken};
use crate::words::Status;

/// Makes deliveries, then says what is held.
pub(crate) struct Runs {
    pub(crate) core: Arc<Core>,
    /// To the sender. Never holds more than there is room for.
    pub(crate) fresh: mpsc::UnboundedSender<InHand>,
}

#[async_trait]
impl Handler for Runs {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let news = read(batch)?;
        if news.is_empty() {
            return Ok(());
        }
        let mut held = RunsHeld { receiver: Receiver::CallbackDeliverer, run_ids: Vec::new(), ticks: Vec::new() };
        for one in &news {
            match one {
                News::Run(record) => held.run_ids.push(record.run.id),
                News::Tick(tick) => held.ticks.push(HeldTick { agent_id: tick.agent_id, fire_time: tick.fire_time }),
            }
        }
        self.take_in(news).await?;
        publish(&self.core, &held).await
    }
}

fn read(batch: &[Message]) -> Result<Vec<News>, HandleError> {
    let mut news = Vec::new();
    for message in batch {
        if message.kind == EventKind::TicksSkipped {
            news.extend(decode::<TicksSkipped>(message)?.ticks.into_iter().map(News::Tick));
            continue;
        }
        for record in decode::<RunsFinished>(message)?.runs {
            if record.result.is_none() || record.ended_at.is_none() {
                return Err(HandleError::Rejected(NotEnded(record.run.id).to_string()));
            }
            news.push(News::Run(Box::new(record)));
        }
    }
    Ok(news)
}

impl Runs {
    async fn take_in(&self, news: Vec<News>) -> Result<(), HandleError> {
        let (began_at, lessee, installation) = (Instant::now(), self.core.lessee(), self.core.installation);
        let (lanes, links) = (Arc::clone(&self.core.lanes), Arc::clone(&self.core.links));
        let taken = self.core.db.write(move |connection| {
            let intake = Intake { installation, lessee, lanes: &lanes, links: &links };
            intake::take_in(connection, &news, &intake)
        });
        let Taken { leased, due, new, discarded } = taken.await.map_err(|error| match error {
            IntakeError::Database(error) => database_fault(&error),
            IntakeError::NotEnded(error) => HandleError::Rejected(error.to_string()),
        })?;
        counter!("carillon_deliveries_made_total").increment(new as u64);
        count_settled(Status::Discarded, discarded);
        for delivery in leased {
            // The sender lives as long as this consumer; if it is gone, so is the process.
            let _ = self.fresh.send(InHand { delivery, lease: Lease { owner: lessee.owner, began_at } });
        }
        if due {
            self.core.due.notify_one();
        }
        Ok(())
    }
}
