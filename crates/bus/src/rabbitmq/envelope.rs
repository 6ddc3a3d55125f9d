//! A message as the broker carries it: CloudEvents attributes as headers, the body as it is.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use model::event::EventKind;
use uuid::Uuid;

use crate::bus::DeadLetter;
use crate::message::Message;
use crate::topology::Queue;

const SPEC_VERSION: &str = "cloudEvents:specversion";
const ID: &str = "cloudEvents:id";
const TYPE: &str = "cloudEvents:type";
const SOURCE: &str = "cloudEvents:source";
const TIME: &str = "cloudEvents:time";
const TRACEPARENT: &str = "traceparent";
/// How often the message failed.
const FAILURES: &str = "carillon-failures";
/// Of a dead letter: why, and since when.
const REASON: &str = "carillon-reason";
const GIVEN_UP_AT: &str = "carillon-given-up-at";
/// Of a message whose kind is unknown: since when it waits for somebody who knows it.
const POSTPONED_SINCE: &str = "carillon-postponed-since";

/// So long a message waits for a version that knows its kind: longer than any rolling upgrade.
const POSTPONED_MAX: TimeDelta = TimeDelta::hours(24);

/// Headers must fit into one frame.
const REASON_CHARACTERS_MAX: usize = 2000;
const PERSISTENT: u8 = 2;

/// Something to publish.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

impl Envelope {
    /// An event for whoever is bound to its kind.
    pub(super) fn event(exchange: ShortString, message: &Message) -> Self {
        Self {
            exchange,
            routing_key: message.kind.as_str().into(),
            properties: properties(headers(message), message.id),
            body: message.body.clone(),
        }
    }

    /// A message that failed or is put off, for a retry queue.
    pub(super) fn later(queue: ShortString, message: &Message, failures: u32, delay: Duration) -> Self {
        let mut headers = headers(message);
        headers.insert(FAILURES.into(), AMQPValue::LongLongInt(failures.into()));
        let properties = properties(headers, message.id).with_expiration(expiration(delay));
        Self { exchange: ShortString::default(), routing_key: queue, properties, body: message.body.clone() }
    }

    /// A message of an unknown kind for a retry queue, as it came, with the time when it was first put off.
    pub(super) fn put_off_unread(queue: ShortString, delivery: Delivery, delay: Duration) -> Self {
        let since = put_off_since(&delivery).map_or_else(|| shown(host_now()), shown);
        let mut headers = without(&delivery, |name| name.starts_with("x-"));
        headers.insert(POSTPONED_SINCE.into(), text(&since));
        let properties = delivery.properties.with_headers(headers).with_delivery_mode(PERSISTENT);
        let properties = properties.with_expiration(expiration(delay));
        Self { exchange: ShortString::default(), routing_key: queue, properties, body: delivery.data.into() }
    }

    /// A message that is given up, for the exchange of dead letters.
    pub(super) fn dead(exchange: ShortString, queue: Queue, message: &Message, failures: u32, reason: &str) -> Self {
        let mut headers = headers(message);
        mark_dead(&mut headers, failures, reason);
        let properties = properties(headers, message.id);
        Self { exchange, routing_key: queue.as_str().into(), properties, body: message.body.clone() }
    }

    /// A message that cannot be read, given up as it came.
    pub(super) fn dead_unread(exchange: ShortString, queue: Queue, delivery: Delivery, reason: &str) -> Self {
        let mut headers = delivery.properties.headers().clone().unwrap_or_default();
        mark_dead(&mut headers, 1, reason);
        let properties = delivery.properties.with_headers(headers).with_delivery_mode(PERSISTENT);
        Self { exchange, routing_key: queue.as_str().into(), properties, body: delivery.data.into() }
    }

    /// A dead letter for its queue again, as if it had never failed, whether or not it can be read.
    pub(super) fn revived(queue: ShortString, delivery: Delivery) -> Self {
        let own = |name: &str| [FAILURES, REASON, GIVEN_UP_AT, POSTPONED_SINCE].contains(&name);
        let cleared = without(&delivery, |name| own(name) || name.starts_with("x-"));
        let properties = delivery.properties.with_headers(cleared).with_delivery_mode(PERSISTENT);
        Self { exchange: ShortString::default(), routing_key: queue, properties, body: delivery.data.into() }
    }
}

/// Why a message cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// A newer version may know it.
    #[error("`{0}` is no type that this version knows")]
    UnknownKind(String),
    /// Nobody can read it.
    #[error("{0}")]
    Broken(String),
}

/// A message that came, without its body, and how often it failed; or why it cannot be read.
pub(super) fn open(properties: &BasicProperties) -> Result<(Message, u32), Unreadable> {
    let headers = Headers(properties);
    let attribute =
        |name: &str| headers.text(name).ok_or_else(|| Unreadable::Broken(format!("the header `{name}` is missing")));
    let id = attribute(ID)?;
    let id = Uuid::parse_str(id).map_err(|_| Unreadable::Broken(format!("the header `{ID}` is no UUID")))?;
    let kind = attribute(TYPE)?;
    let kind: EventKind = kind.parse().map_err(|_| Unreadable::UnknownKind(kind.to_owned()))?;
    let time = DateTime::parse_from_rfc3339(attribute(TIME)?);
    let time = time.map_err(|_| Unreadable::Broken(format!("the header `{TIME}` is no time")))?;
    let message = Message {
        id,
        kind,
        source: attribute(SOURCE)?.to_owned(),
        time: time.to_utc(),
        traceparent: headers.text(TRACEPARENT).map(str::to_owned),
        body: Bytes::new(),
    };
    Ok((message, headers.failures()))
}

/// A dead letter. What cannot be read is shown as well as it can be: with the kind that its queue usually has.
pub(super) fn open_dead(queue: Queue, delivery: Delivery) -> DeadLetter {
    let headers = Headers(&delivery.properties);
    let reason = match headers.text(REASON) {
        Some(reason) => reason.to_owned(),
        None => format!("given up by the broker: {}", headers.text("x-first-death-reason").unwrap_or("unknown reason")),
    };
    let time = headers.text(GIVEN_UP_AT).and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    let time = time.map(|time| time.to_utc()).or_else(|| headers.died_at()).unwrap_or_default();
    let failures = headers.failures();
    let unread = || Message {
        id: headers.text(ID).and_then(|id| id.parse().ok()).unwrap_or_default(),
        kind: queue.binds().first().copied().unwrap_or(EventKind::RunCancel),
        source: headers.text(SOURCE).unwrap_or_default().to_owned(),
        time,
        traceparent: None,
        body: Bytes::new(),
    };
    let message = open(&delivery.properties).map_or_else(|_| unread(), |(message, _)| message);
    let message = Message { body: delivery.data.into(), ..message };
    DeadLetter { message, failures, reason, time }
}

fn properties(headers: FieldTable, id: Uuid) -> BasicProperties {
    BasicProperties::default()
        .with_headers(headers)
        .with_message_id(id.to_string().into())
        .with_content_type("application/protobuf".into())
        .with_delivery_mode(PERSISTENT)
}

fn headers(message: &Message) -> FieldTable {
    let mut headers = FieldTable::default();
    let time = message.time.to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut insert = |name: &'static str, value: &str| {
        headers.insert(name.into(), text(value));
    };
    insert(SPEC_VERSION, "1.0");
    insert(ID, &message.id.to_string());
    insert(TYPE, message.kind.as_str());
    insert(SOURCE, &message.source);
    insert(TIME, &time);
    if let Some(traceparent) = &message.traceparent {
        insert(TRACEPARENT, traceparent);
    }
    headers
}

fn mark_dead(headers: &mut FieldTable, failures: u32, reason: &str) {
    let reason: String = reason.chars().take(REASON_CHARACTERS_MAX).collect();
    let now = shown(host_now());
    headers.insert(FAILURES.into(), AMQPValue::LongLongInt(failures.into()));
    headers.insert(REASON.into(), text(&reason));
    headers.insert(GIVEN_UP_AT.into(), text(&now));
}

fn put_off_since(delivery: &Delivery) -> Option<DateTime<Utc>> {
    let since = Headers(&delivery.properties).text(POSTPONED_SINCE)?;
    DateTime::parse_from_rfc3339(since).ok().map(|since| since.to_utc())
}

/// Since when a message of an unknown kind waits, if that is for too long.
pub(super) fn put_off_too_long(delivery: &Delivery) -> Option<String> {
    put_off_since(delivery).filter(|since| host_now() - since >= POSTPONED_MAX).map(shown)
}

/// The headers of a message but those.
fn without(delivery: &Delivery, dropped: impl Fn(&str) -> bool) -> FieldTable {
    let headers = delivery.properties.headers().as_ref().map(FieldTable::inner).into_iter().flatten();
    let mut kept = FieldTable::default();
    for (name, value) in headers.filter(|(name, _)| !dropped(name.as_str())) {
        kept.insert(name.clone(), value.clone());
    }
    kept
}

/// Rounded up, so that it never comes early.
fn expiration(delay: Duration) -> ShortString {
    delay.as_micros().div_ceil(1000).max(1).to_string().into()
}

fn host_now() -> DateTime<Utc> {
    #[expect(clippy::disallowed_methods, reason = "when the host says that a message was given up or first put off")]
    Utc::now()
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The headers of a message that anybody may have written.
struct Headers<'a>(&'a BasicProperties);

impl<'a> Headers<'a> {
    fn get(&self, name: &str) -> Option<&'a AMQPValue> {
        self.0.headers().as_ref()?.inner().get(name)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        match self.get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        }
    }

    fn failures(&self) -> u32 {
        self.get(FAILURES).and_then(AMQPValue::as_long_long_int).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
    }

    /// When the broker gave it up by itself.
    fn died_at(&self) -> Option<DateTime<Utc>> {
        let deaths = self.get("x-death")?.as_array()?;
        let last = deaths.as_slice().first()?.as_field_table()?;
        let seconds = last.inner().get("time")?.as_timestamp()?;
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        let mut message = Message::new(EventKind::RunRequested, "cron-dispatcher", DateTime::UNIX_EPOCH, "");
        message.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
        message
    }

    fn arrived(envelope: Envelope) -> Delivery {
        let mut delivery = Delivery::mock(1, envelope.exchange, envelope.routing_key, false, envelope.body.to_vec());
        delivery.properties = envelope.properties;
        delivery
    }

    #[test]
    fn a_message_comes_out_as_it_went_in() {
        for message in [message(), Message { traceparent: None, ..message() }] {
            let delivery = arrived(Envelope::event("carillon.by-kind".into(), &message));
            assert_eq!(open(&delivery.properties), Ok((message, 0)));
        }
    }

    #[test]
    fn a_retry_counts_and_is_never_early() {
        let message = message();
        let envelope = Envelope::later("queue".into(), &message, 7, Duration::from_micros(1500));
        assert_eq!(envelope.properties.expiration().as_ref().map(ShortString::as_str), Some("2"));
        assert_eq!(open(&arrived(envelope).properties), Ok((message, 7)));
    }

    #[test]
    fn a_dead_letter_keeps_its_reason_until_it_is_revived() {
        let (queue, message, long) = (Queue::AgentRunnerRuns, message(), "no ".repeat(100_000));
        let dead = || arrived(Envelope::dead("dead".into(), queue, &message, 20, &long));
        let letter = open_dead(queue, dead());
        assert_eq!((&letter.message, letter.failures), (&message, 20));
        assert_eq!(letter.reason.chars().count(), REASON_CHARACTERS_MAX);
        assert!(letter.time > DateTime::UNIX_EPOCH);

        let revived = arrived(Envelope::revived("queue".into(), dead()));
        assert_eq!(open(&revived.properties), Ok((message, 0)));
    }

    #[test]
    fn what_cannot_be_read_says_why_and_is_kept_as_it_came() {
        let mut foreign = Delivery::mock(1, "".into(), "".into(), false, b"bytes".to_vec());
        assert_eq!(open(&foreign.properties).unwrap_err().to_string(), "the header `cloudEvents:id` is missing");
        let mut headers = headers(&message());
        headers.insert(TYPE.into(), text("run.dreamt"));
        foreign.properties = BasicProperties::default().with_headers(headers);
        let reason = open(&foreign.properties).unwrap_err().to_string();
        assert_eq!(reason, "`run.dreamt` is no type that this version knows");

        let queue = Queue::AgentRunnerRuns;
        let dead = arrived(Envelope::dead_unread("dead".into(), queue, foreign, &reason));
        assert!(open(&dead.properties).is_err());
        let letter = open_dead(queue, dead);
        assert_eq!((letter.reason, letter.message.body), (reason, Bytes::from("bytes")));
        assert_eq!(letter.message.source, "cron-dispatcher");
    }

    #[test]
    fn what_is_of_an_unknown_kind_is_put_off_as_it_came_for_a_day() {
        let mut foreign = Delivery::mock(1, "".into(), "".into(), false, b"bytes".to_vec());
        let mut headers = headers(&message());
        headers.insert(TYPE.into(), text("run.dreamt"));
        headers.insert("theirs".into(), text("kept"));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
        foreign.properties = BasicProperties::default().with_headers(headers).with_priority(3);
        let put_off = |delivery| Envelope::put_off_unread("retry".into(), delivery, Duration::from_secs(8));

        let mut again = arrived(put_off(foreign));
        assert_eq!(open(&again.properties), Err(Unreadable::UnknownKind("run.dreamt".into())));
        assert_eq!((again.properties.priority(), again.data.as_slice()), (&Some(3), b"bytes".as_slice()));
        assert_eq!(again.properties.expiration().as_ref().map(ShortString::as_str), Some("8000"));
        let header = |delivery: &Delivery, name: &str| Headers(&delivery.properties).text(name).map(str::to_owned);
        assert_eq!(header(&again, "theirs").as_deref(), Some("kept"));
        assert!(Headers(&again.properties).get("x-delivery-count").is_none());
        let since = header(&again, POSTPONED_SINCE);
        assert!(since.is_some());
        assert_eq!(put_off_too_long(&again), None);
        again = arrived(put_off(again));
        assert_eq!(header(&again, POSTPONED_SINCE), since);

        let mut long_ago = again.properties.headers().clone().unwrap();
        let day_before = shown(host_now() - POSTPONED_MAX);
        long_ago.insert(POSTPONED_SINCE.into(), text(&day_before));
        again.properties = again.properties.with_headers(long_ago);
        assert_eq!(put_off_too_long(&again), Some(day_before));
        let revived = arrived(Envelope::revived("queue".into(), again));
        assert_eq!(header(&revived, POSTPONED_SINCE), None);
    }
}
