//! `callback-deliverer.runs`: ended runs, each to be delivered.
//!
//! In order: one transaction with a delivery per run, the first of them leased; they are handed to the sender, which
//! tries them at once; `runs.held`; the ack. Idempotent: a delivery's webhook id is unique, so a run that comes again
//! makes none. On a crash before the commit the batch comes again as if new. After it, whatever else was not done, the
//! deliveries are pending in the database and sent from there; the batch comes again and is said to be held (again).

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bus::{HandleError, Handler, Message};
use metrics::counter;
use model::document::Receiver;
use model::event::{RunsFinished, RunsHeld};
use model::run::RunRecord;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{database_fault, decode, publish};
use crate::core::{Core, InHand};
use crate::payload::NotEnded;
use crate::store::intake::{self, IntakeError, Taken};

/// Makes deliveries, then says which runs are held.
pub(crate) struct Runs {
    pub(crate) core: Arc<Core>,
    /// To the sender. Never holds more than there are slots.
    pub(crate) fresh: mpsc::UnboundedSender<InHand>,
}

#[async_trait]
impl Handler for Runs {
    async fn handle(&self, batch: &[Message]) -> Result<(), HandleError> {
        let mut runs = Vec::new();
        for message in batch {
            runs.extend(decode::<RunsFinished>(message)?.runs);
        }
        if let Some(unfinished) = runs.iter().find(|record| record.result.is_none() || record.ended_at.is_none()) {
            return Err(HandleError::Rejected(NotEnded(unfinished.run.id).to_string()));
        }
        if runs.is_empty() {
            return Ok(());
        }
        let run_ids = runs.iter().map(|record| record.run.id).collect();
        self.take_in(runs).await?;
        publish(&self.core, &RunsHeld { receiver: Receiver::CallbackDeliverer, run_ids, ticks: Vec::new() }).await
    }
}

impl Runs {
    async fn take_in(&self, runs: Vec<RunRecord>) -> Result<(), HandleError> {
        let mut slots = self.free_slots(runs.len());
        let room = slots.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let (leased_at, lessee, installation) = (Instant::now(), self.core.lessee(), self.core.installation);
        let taken =
            self.core.db.write(move |connection| intake::take_in(connection, &runs, installation, &lessee, room)).await;
        let Taken { leased, due, new } = taken.map_err(|error| match error {
            IntakeError::Database(error) => database_fault(&error),
            IntakeError::NotEnded(error) => HandleError::Rejected(error.to_string()),
        })?;
        counter!("carillon_deliveries_made_total").increment(new as u64);
        for delivery in leased {
            let Some(slot) = slots.as_mut().and_then(|slots| slots.split(1)) else { break };
            // The sender lives as long as this consumer; if it is gone, so is the process.
            let _ = self.fresh.send(InHand { delivery, slot, leased_at });
        }
        if due {
            self.core.due.notify_one();
        }
        Ok(())
    }

    /// As many free slots as there are, at most `wanted`; what finds none is sent from the database when one is free.
    fn free_slots(&self, wanted: usize) -> Option<OwnedSemaphorePermit> {
        let free = u32::try_from(self.core.slots.available_permits().min(wanted)).ok()?;
        Arc::clone(&self.core.slots).try_acquire_many_owned(free).ok()
    }
}
