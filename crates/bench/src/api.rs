//! The API: agents created, retrieved and listed, beside an actix handler that makes one statement of the same kind
//! through a pool of as many connections.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use actix_web::error::ErrorInternalServerError;
use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Args;
use diesel::connection::SimpleConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, PgConnection, QueryableByName, RunQueryDsl, sql_query};
use reqwest::Method;
use serde_json::{Value, json};
use test_kit::Api;

use crate::bare::per_second;
use crate::bed::Bed;
use crate::report::Report;

const MICROSERVICES: [&str; 3] = ["agent-registry", "cron-dispatcher", "callback-deliverer"];
const ROWS: usize = 1_000;
const AT_ONCE: usize = 16;
/// As many as a microservice has by default.
const CONNECTIONS: u32 = 4;
const WORKERS: usize = 2;
const TABLE: &str = "
    CREATE TABLE bare_agents (id bigserial PRIMARY KEY, title text NOT NULL, prompt text NOT NULL);
    INSERT INTO bare_agents (title, prompt) SELECT 'Agent ' || n, repeat('p', 350) FROM generate_series(1, 1000) AS n";

type Connections = Pool<ConnectionManager<PgConnection>>;

/// How much of it.
#[derive(Args, Clone)]
pub(crate) struct Options {
    /// How often each is measured.
    #[arg(long)]
    runs: Option<usize>,
}

/// Measures and reports.
pub(crate) async fn run(binaries: &Path, output: &Path, quick: bool, options: &Options) -> anyhow::Result<()> {
    let mut report = Report::begin("api", quick);
    let (runs, requests) = (options.runs.unwrap_or(if quick { 1 } else { 5 }), if quick { 1_000 } else { 5_000 });
    let unlimited = ("agent-registry", "CALLBACKS__ALLOW_NETWORKS", "127.0.0.0/8".to_owned());
    let mut bed = Bed::start(binaries, &MICROSERVICES, vec![unlimited]).await?;
    let api = bed.stack.api("bench", "admin", 1).await?;
    let mentor = json!({"template_name": "ai-mentor", "new_mentor_name": "Echo", "provider": {"kind": "echo"}});
    let mentor = api.post("mentor-with-settings/", &mentor).await?["unique_id"].clone();
    let agent = json!({
        "mentor": mentor, "title": "Agent", "prompt": "p".repeat(350), "task": {"crontab": {"minute": "0", "hour": "0"}},
        "callback_url": "http://127.0.0.1:9/", "callback_secret": "secret",
    });
    let bare = Bare::start(bed.stack.database("service-registry"))?;
    flood(&api, ROWS, Method::POST, |_| "periodic-agents/".to_owned(), Some(&agent)).await?;
    bed.analyse()?;
    let first = api.get("periodic-agents/?ordering=id&page_size=1").await?["results"][0]["id"].as_u64().unwrap_or(1);
    let (mut created, mut retrieved, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let one = |number: usize| format!("{}", number % ROWS + 1);
        let inserts = bare.flood(requests, Method::POST, |_| String::new()).await?;
        created.push((
            flood(&api, requests, Method::POST, |_| "periodic-agents/".to_owned(), Some(&agent)).await?,
            inserts,
        ));
        let selects = bare.flood(requests, Method::GET, one).await?;
        let path =
            move |number: usize| format!("periodic-agents/{}/", first + u64::try_from(number % ROWS).unwrap_or(0));
        retrieved.push((flood(&api, requests, Method::GET, path, None).await?, selects));
        let pages = bare.flood(requests / 4, Method::GET, |_| "page".to_owned()).await?;
        listed.push((flood(&api, requests / 4, Method::GET, |_| "periodic-agents/".to_owned(), None).await?, pages));
    }
    report.compare("agents created", "/s", "bare handler, one insert", &created);
    report.compare("agents retrieved", "/s", "bare handler, one select", &retrieved);
    report.compare("pages of agents listed", "/s", "bare handler, one select of a page", &listed);
    bed.stop().await?;
    report.finish(output)
}

/// Requests answered a second, so many at once.
async fn flood(
    api: &Api,
    count: usize,
    method: Method,
    path: impl Fn(usize) -> String + Clone + Send + 'static,
    body: Option<&Value>,
) -> anyhow::Result<f64> {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let asking = (0..AT_ONCE).map(|_| {
        let (api, next, method, path) = (api.clone(), Arc::clone(&next), method.clone(), path.clone());
        let body = body.cloned();
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return anyhow::Ok(());
                }
                let (status, answer) = api.call(method.clone(), &path(number), body.as_ref()).await?;
                anyhow::ensure!(status.is_success(), "answered {status} {answer}");
            }
        })
    });
    for one in futures::future::join_all(asking).await {
        one??;
    }
    Ok(per_second(count, began.elapsed()))
}

/// The handler that does nothing else.
struct Bare(Api);

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    title: String,
    #[diesel(sql_type = Text)]
    prompt: String,
}

impl Bare {
    fn start(database: &str) -> anyhow::Result<Self> {
        PgConnection::establish(database)?.batch_execute(TABLE)?;
        let manager = ConnectionManager::<PgConnection>::new(database);
        let pool: Connections = Pool::builder().max_size(CONNECTIONS).test_on_check_out(false).build(manager)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let base = format!("http://{}", listener.local_addr()?);
        let app = move || {
            App::new()
                .app_data(web::Data::new(pool.clone()))
                .service(web::resource("/{path:.*}/").route(web::post().to(insert)))
                .service(web::resource("/{path:.*}/page").route(web::get().to(page)))
                .service(web::resource("/{path:.*}/{id:[0-9]+}").route(web::get().to(select)))
        };
        tokio::spawn(HttpServer::new(app).workers(WORKERS).disable_signals().listen(listener)?.run());
        Ok(Self(Api::new(&base, "bench", "admin", "none")?))
    }

    async fn flood(
        &self,
        count: usize,
        method: Method,
        path: impl Fn(usize) -> String + Clone + Send + 'static,
    ) -> anyhow::Result<f64> {
        flood(&self.0, count, method, path, None).await
    }
}

async fn insert(pool: web::Data<Connections>) -> actix_web::Result<HttpResponse> {
    query(pool, |connection| {
        let rows = sql_query("INSERT INTO bare_agents (title, prompt) VALUES ('Agent', repeat('p', 350)) RETURNING *");
        rows.load(connection)
    })
    .await
}

async fn select(pool: web::Data<Connections>, path: web::Path<(String, i64)>) -> actix_web::Result<HttpResponse> {
    let id = path.1;
    query(pool, move |connection| {
        sql_query("SELECT * FROM bare_agents WHERE id = $1").bind::<BigInt, _>(id).load(connection)
    })
    .await
}

async fn page(pool: web::Data<Connections>) -> actix_web::Result<HttpResponse> {
    query(pool, |connection| sql_query("SELECT * FROM bare_agents ORDER BY id DESC LIMIT 25").load(connection)).await
}

async fn query(
    pool: web::Data<Connections>,
    load: impl FnOnce(&mut PgConnection) -> diesel::QueryResult<Vec<Row>> + Send + 'static,
) -> actix_web::Result<HttpResponse> {
    let rows = web::block(move || {
        let mut connection = pool.get().map_err(|error| error.to_string())?;
        load(&mut connection).map_err(|error| error.to_string())
    });
    let rows = rows.await?.map_err(ErrorInternalServerError)?;
    let rows = rows.into_iter().map(|Row { id, title, prompt }| json!({"id": id, "title": title, "prompt": prompt}));
    Ok(HttpResponse::Ok().json(rows.collect::<Vec<Value>>()))
}
