//! The bare pipeline: the steps of a run and nothing else, on the same servers. Claim due rows and insert runs, publish
//! with confirms, consume and publish again, consume, POST, insert, acknowledge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_lc_rs::hmac;
use diesel::connection::SimpleConnection;
use diesel::sql_types::{Array, BigInt};
use diesel::{Connection as _, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use futures::{StreamExt, TryStreamExt, stream};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};

use crate::bare::{self, BODY_BYTES, CONFIRMS_WAITING};
use crate::sink::{SIGNATURE, Sink, signing_key};

const REQUESTS: &str = "bench.pipeline.requests";
const ANSWERS: &str = "bench.pipeline.answers";
/// Rows claimed, and rows inserted, in one transaction.
const BATCH: usize = 1_000;
/// Messages that a consumer has in hand, and then acknowledges together.
const IN_HAND: u16 = 500;
const POSTS_AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(300);
const TABLES: &str = "
    CREATE TABLE bare_schedules (id bigint PRIMARY KEY, next_at timestamptz NOT NULL, fired_through timestamptz);
    CREATE INDEX ON bare_schedules (next_at);
    CREATE TABLE bare_runs (id bigserial PRIMARY KEY, schedule_id bigint NOT NULL, stage text NOT NULL,
        requested_at timestamptz NOT NULL, body bytea NOT NULL);
    CREATE INDEX ON bare_runs (schedule_id);
    CREATE INDEX ON bare_runs (stage, requested_at);
    CREATE TABLE bare_deliveries (run_id bigint PRIMARY KEY, delivered_at timestamptz NOT NULL)";
const DROP: &str = "DROP TABLE IF EXISTS bare_schedules, bare_runs, bare_deliveries";
const CLAIM: &str = "
    WITH due AS (SELECT id FROM bare_schedules WHERE next_at <= now() ORDER BY next_at, id LIMIT $1 FOR UPDATE SKIP LOCKED),
         moved AS (UPDATE bare_schedules SET fired_through = next_at, next_at = next_at + interval '1 day'
                     FROM due WHERE bare_schedules.id = due.id RETURNING bare_schedules.id)
    INSERT INTO bare_runs (schedule_id, stage, requested_at, body)
    SELECT id, 'requested', now(), decode(repeat('62', 1024), 'hex') FROM moved RETURNING id";

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = BigInt)]
    id: i64,
}

/// Runs per second through all of it.
pub(crate) async fn measure(postgres: &str, amqp: &str, sink: &Sink, count: usize) -> anyhow::Result<f64> {
    let mut database = due(postgres, count)?;
    let (publishing, channel) = bare::channel_with_queue(amqp, REQUESTS).await?;
    let (answering, answers) = bare::channel_with_queue(amqp, ANSWERS).await?;
    let (requests, results) = (consume(&answering, REQUESTS).await?, consume(&answering, ANSWERS).await?);
    let delivered = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let answering = tokio::spawn(answer(requests, answers.clone()));
    let delivering = tokio::spawn(deliver(results, postgres.to_owned(), sink.clone(), Arc::clone(&delivered)));
    loop {
        let claimed = tokio::task::spawn_blocking(move || (claim(&mut database), database));
        let (rows, returned) = claimed.await?;
        database = returned;
        let rows = rows?;
        if rows.is_empty() {
            break;
        }
        publish_all(&channel, REQUESTS, rows.into_iter().map(|row| row.id)).await?;
    }
    let received = sink.take(count, PATIENCE).await?;
    while delivered.load(Ordering::Relaxed) < count && !delivering.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = bare::per_second(count, began.elapsed().max(received.last()? - began));
    answering.abort();
    delivering.abort();
    for queue in [REQUESTS, ANSWERS] {
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
    }
    publishing.close(200, "done".into()).await?;
    database.batch_execute(DROP)?;
    Ok(rate)
}

/// Due rows per second that are claimed and advanced, and of which runs are made, by one connection.
pub(crate) async fn claims(postgres: &str, count: usize) -> anyhow::Result<f64> {
    let postgres = postgres.to_owned();
    let claiming = tokio::task::spawn_blocking(move || {
        let mut database = due(&postgres, count)?;
        let began = Instant::now();
        while !claim(&mut database)?.is_empty() {}
        let rate = bare::per_second(count, began.elapsed());
        database.batch_execute(DROP)?;
        Ok(rate)
    });
    claiming.await?
}

/// So many rows that are due.
fn due(postgres: &str, count: usize) -> anyhow::Result<PgConnection> {
    let mut database = PgConnection::establish(postgres)?;
    database.batch_execute(DROP)?;
    database.batch_execute(TABLES)?;
    database.batch_execute(&format!(
        "INSERT INTO bare_schedules SELECT n, now() - interval '1 hour' FROM generate_series(1, {count}) AS n; ANALYZE"
    ))?;
    Ok(database)
}

fn claim(database: &mut PgConnection) -> anyhow::Result<Vec<Id>> {
    Ok(sql_query(CLAIM).bind::<BigInt, _>(i64::try_from(BATCH)?).load(database)?)
}

async fn consume(connection: &Connection, queue: &str) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(IN_HAND * 2, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), queue.into(), options, FieldTable::default()).await?)
}

async fn publish_all(channel: &Channel, queue: &str, ids: impl Iterator<Item = i64>) -> anyhow::Result<()> {
    let publishing = stream::iter(ids).map(|id| async move {
        let mut body = vec![b'b'; BODY_BYTES];
        body[..8].copy_from_slice(&id.to_le_bytes());
        bare::publish(channel, queue, &body).await
    });
    publishing.buffer_unordered(CONFIRMS_WAITING).try_collect::<()>().await
}

/// The runner's part.
async fn answer(consumer: Consumer, channel: Channel) -> anyhow::Result<()> {
    let mut batches = consumer.ready_chunks(IN_HAND.into());
    while let Some(batch) = batches.next().await {
        let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
        let ids = batch.iter().map(|one| id_of(&one.data)).collect::<anyhow::Result<Vec<_>>>()?;
        publish_all(&channel, ANSWERS, ids.into_iter()).await?;
        acknowledge(batch.last()).await?;
    }
    Ok(())
}

/// The deliverer's part.
async fn deliver(consumer: Consumer, postgres: String, sink: Sink, delivered: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let mut database = PgConnection::establish(&postgres)?;
    let (key, mut batches) = (signing_key(), consumer.ready_chunks(IN_HAND.into()));
    while let Some(batch) = batches.next().await {
        let batch = batch.into_iter().collect::<Result<Vec<_>, _>>()?;
        let ids = batch.iter().map(|one| id_of(&one.data)).collect::<anyhow::Result<Vec<_>>>()?;
        let posting = stream::iter(ids.clone()).map(|id| post(&client, &key, &sink, id));
        posting.buffer_unordered(POSTS_AT_ONCE).try_collect::<()>().await?;
        let count = ids.len();
        database = tokio::task::spawn_blocking(move || {
            let insert = "INSERT INTO bare_deliveries SELECT id, now() FROM unnest($1) AS id";
            sql_query(insert).bind::<Array<BigInt>, _>(ids).execute(&mut database).map(|_| database)
        })
        .await??;
        acknowledge(batch.last()).await?;
        delivered.fetch_add(count, Ordering::Relaxed);
    }
    Ok(())
}

async fn post(client: &reqwest::Client, key: &hmac::Key, sink: &Sink, id: i64) -> anyhow::Result<()> {
    let body = bare::callback(id);
    let signature = format!("sha256={}", hex::encode(hmac::sign(key, body.as_bytes())));
    let url = sink.url(usize::try_from(id)?, Duration::ZERO);
    client.post(url).header(SIGNATURE, signature).body(body).send().await?.error_for_status()?;
    Ok(())
}

async fn acknowledge(last: Option<&lapin::message::Delivery>) -> anyhow::Result<()> {
    let last = last.context("an empty batch")?;
    last.acker.ack(BasicAckOptions { multiple: true }).await?;
    Ok(())
}

fn id_of(body: &[u8]) -> anyhow::Result<i64> {
    Ok(i64::from_le_bytes(body.get(..8).context("a short message")?.try_into()?))
}
