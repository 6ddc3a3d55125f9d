//! A full disk, played by a limit on the pages of the file.

use bytes::Bytes;
use chrono::DateTime;
use diesel::connection::SimpleConnection;
use model::event::EventKind;
use tokio::sync::oneshot;

use super::command::{Change, Command, Write};
use super::store::Store;
use super::writer::Writer;
use super::{file, host_now};
use crate::consumer::{Settlement, Verdict};
use crate::message::Message;
use crate::topology::Queue;

fn large_message() -> Message {
    Message::new(EventKind::RunRequested, "cron-dispatcher", DateTime::UNIX_EPOCH, Bytes::from(vec![7; 20_000]))
}

fn change(writer: &mut Writer, change: Change) -> Result<u64, String> {
    let (reply, mut answer) = oneshot::channel();
    writer.perform(vec![Command::Write(Write { change, reply })]);
    answer.try_recv().unwrap().map_err(|cause| cause.to_string())
}

fn publish(writer: &mut Writer) -> Result<u64, String> {
    change(writer, Change::Publish(vec![large_message()]))
}

fn depth(writer: &mut Writer) -> u64 {
    let (reply, mut answer) = oneshot::channel();
    writer.perform(vec![Command::Depth { queue: Queue::AgentRunnerRuns, reply }]);
    answer.try_recv().unwrap().unwrap().ready
}

#[test]
fn nothing_is_confirmed_on_a_full_disk_and_publishing_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let (mut conn, _lock) = file::open(&directory.path().join("bus.sqlite")).unwrap();
    conn.batch_execute("PRAGMA max_page_count = 60").unwrap();
    let mut writer = Writer::load(Store::new(conn).unwrap(), host_now).unwrap();

    let mut confirmed = 0;
    let error = loop {
        match publish(&mut writer) {
            Ok(count) => confirmed += count,
            Err(error) => break error,
        }
    };
    assert!(error.contains("full"), "{error}");
    assert!(confirmed > 3);
    assert!(publish(&mut writer).is_err());
    assert_eq!(depth(&mut writer), confirmed);

    let ack = |tag| Settlement { tag, message: large_message(), failures: 0, verdict: Verdict::Ack };
    let settlements = vec![ack(1), ack(2)];
    assert_eq!(change(&mut writer, Change::Settle { queue: Queue::AgentRunnerRuns, settlements }), Ok(2));
    assert_eq!(publish(&mut writer), Ok(1));
}
