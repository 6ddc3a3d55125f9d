//! What everything at the broker is called, and how it is declared.
//!
//! ```text
//! <prefix>.by-kind (direct) ──kind──▶ <prefix>.<queue> ──▶ consumers
//!                                      ▲          │ gives up by itself at the delivery limit
//!           after its delay, by itself │          ▼
//!             <prefix>.<queue>.retry.<class>    <prefix>.dead-letters (direct) ──queue──▶ <prefix>.<queue>.dead
//! <prefix>.broadcast (fanout) ──▶ one exclusive queue for each process that listens
//! ```

use std::time::Duration;

use futures::future::{try_join, try_join_all};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::consumer::RETRY_DELAY_MAX;
use crate::topology::Queue;

/// How often the broker hands a message out before it gives it up by itself. Only a backstop: it also counts every
/// connection that was lost and every consumer that was stopped with the message waiting in it.
const DELIVERY_LIMIT: i64 = 200;

/// Dead letters and waiting retries are never given up, and looking at dead letters counts as handing them out. A
/// number, because RabbitMQ 3 knows no way to say "never" and RabbitMQ 4 takes 20 where nothing is said.
const NO_DELIVERY_LIMIT: i64 = 1_000_000_000;

/// The longest delays of the retry queues. A queue lets go of its messages in their order, so a message may come as
/// late as the longest delay of its class; it never waits for one of a longer class.
const RETRY_CLASSES: [(&str, Duration); 4] = [
    ("1s", Duration::from_secs(1)),
    ("8s", Duration::from_secs(8)),
    ("64s", Duration::from_secs(64)),
    ("1h", RETRY_DELAY_MAX),
];

/// The names of one installation; several can share a virtual host under different prefixes.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    /// Where events go, by their kind. A direct exchange: finding the queues of a kind in a topic exchange costs the
    /// broker a fifth of a message, and nobody binds patterns.
    pub(super) events: ShortString,
    /// The fanout exchange of broadcasts.
    pub(super) broadcast: ShortString,
    /// Where dead letters go, by the name of their queue.
    pub(super) dead_letters: ShortString,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            events: format!("{prefix}.by-kind").into(),
            broadcast: format!("{prefix}.broadcast").into(),
            dead_letters: format!("{prefix}.dead-letters").into(),
        }
    }

    pub(super) fn queue(&self, queue: Queue) -> ShortString {
        format!("{}.{queue}", self.prefix).into()
    }

    pub(super) fn dead(&self, queue: Queue) -> ShortString {
        format!("{}.{queue}.dead", self.prefix).into()
    }

    /// The retry queue for such a delay.
    pub(super) fn retry(&self, queue: Queue, delay: Duration) -> ShortString {
        let [.., (longest, _)] = RETRY_CLASSES;
        let class = RETRY_CLASSES.iter().find(|(_, max)| delay <= *max).map_or(longest, |(name, _)| *name);
        self.retry_class(queue, class)
    }

    /// All retry queues of a queue.
    pub(super) fn retries(&self, queue: Queue) -> impl Iterator<Item = ShortString> {
        RETRY_CLASSES.iter().map(move |(class, _)| self.retry_class(queue, class))
    }

    fn retry_class(&self, queue: Queue, class: &str) -> ShortString {
        format!("{}.{queue}.retry.{class}", self.prefix).into()
    }

    /// Declares everything that lasts. What is there already is left as it is; what is there in another shape is an
    /// error.
    pub(super) async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let exchanges = [
            (&self.events, ExchangeKind::Direct),
            (&self.broadcast, ExchangeKind::Fanout),
            (&self.dead_letters, ExchangeKind::Direct),
        ];
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared =
            exchanges.map(|(name, kind)| channel.exchange_declare(name.clone(), kind, options, FieldTable::default()));
        try_join_all(declared).await?;
        try_join_all(Queue::ALL.map(|queue| self.declare_queue(channel, queue))).await?;
        Ok(())
    }

    async fn declare_queue(&self, channel: &Channel, queue: Queue) -> lapin::Result<()> {
        let (main, dead) = (self.queue(queue), self.dead(queue));
        let mut arguments = quorum(DELIVERY_LIMIT);
        dead_letter_to(&mut arguments, self.dead_letters.clone(), queue.as_str().into());
        let options = QueueDeclareOptions::durable();
        let retries = self.retries(queue).map(|name| {
            let mut arguments = quorum(NO_DELIVERY_LIMIT);
            dead_letter_to(&mut arguments, ShortString::default(), main.clone());
            channel.queue_declare(name, options, arguments)
        });
        try_join(
            try_join_all(retries),
            try_join(
                channel.queue_declare(main.clone(), options, arguments),
                channel.queue_declare(dead.clone(), options, quorum(NO_DELIVERY_LIMIT)),
            ),
        )
        .await?;
        let kinds = queue.binds().iter().map(|kind| (&main, &self.events, kind.as_str()));
        let bindings = kinds.chain([(&dead, &self.dead_letters, queue.as_str())]);
        let bound = bindings.map(|(queue, exchange, key)| {
            let options = QueueBindOptions::default();
            channel.queue_bind(queue.clone(), exchange.clone(), key.into(), options, FieldTable::default())
        });
        try_join_all(bound).await?;
        Ok(())
    }
}

fn quorum(delivery_limit: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(delivery_limit));
    arguments
}

/// At least once: a message leaves its queue only when the next one has it.
fn dead_letter_to(arguments: &mut FieldTable, exchange: ShortString, routing_key: ShortString) {
    let text = |text: ShortString| AMQPValue::LongString(text.as_str().into());
    arguments.insert("x-dead-letter-exchange".into(), text(exchange));
    arguments.insert("x-dead-letter-routing-key".into(), text(routing_key));
    arguments.insert("x-dead-letter-strategy".into(), text("at-least-once".into()));
    // What that strategy asks for.
    arguments.insert("x-overflow".into(), text("reject-publish".into()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_goes_to_the_queue_of_its_class() {
        let names = Names::new("carillon");
        let class = |millis| names.retry(Queue::AgentRunnerRuns, Duration::from_millis(millis)).to_string();
        assert_eq!(class(0), "carillon.agent-runner.runs.retry.1s");
        assert_eq!(class(1000), "carillon.agent-runner.runs.retry.1s");
        assert_eq!(class(1001), "carillon.agent-runner.runs.retry.8s");
        assert_eq!(class(60_000), "carillon.agent-runner.runs.retry.64s");
        assert_eq!(class(3_600_000), "carillon.agent-runner.runs.retry.1h");
        assert_eq!(class(9_999_999_999), "carillon.agent-runner.runs.retry.1h");
    }
}
