//! A handler that does nothing but one statement of the API: the same rows, columns, joins and indexes, through a pool
//! of as many connections, answered as JSON; no token, no validation, no document, nobody who is told.

use std::net::{Ipv4Addr, TcpListener};

use actix_web::error::ErrorInternalServerError;
use actix_web::{App, HttpResponse, HttpServer, web};
use chrono::{DateTime, TimeDelta};
use diesel::connection::SimpleConnection;
use diesel::deserialize;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::row::{Field, NamedRow};
use diesel::sql_types::{BigInt, Text, Untyped};
use diesel::{Connection, PgConnection, QueryResult, QueryableByName, RunQueryDsl, sql_query};
use serde_json::{Map, Value};

/// As many as a microservice has by default.
const CONNECTIONS: u32 = 4;
const WORKERS: usize = 2;

/// A table like that of agents, with all its indexes, and the row that is inserted again and again.
const TABLES: &str = "
    CREATE TABLE bare_agents (LIKE agents INCLUDING ALL);
    CREATE TABLE bare_template AS SELECT * FROM agents LIMIT 1";

const COLUMNS: &str = "
    SELECT string_agg(column_name::text, ', ') AS columns FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = 'agents' AND column_name <> 'id'";

const WHOLE: &str = "
    SELECT * FROM agents
    INNER JOIN mentors ON mentors.id = agents.mentor_id
    LEFT JOIN agent_activity ON agent_activity.agent_id = agents.id
    WHERE agents.organisation = 'bench'";

type Connections = Pool<ConnectionManager<PgConnection>>;

/// A server with three such handlers, at the paths of the API, until the program ends.
pub(crate) struct BareHandler {
    base_url: String,
}

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    connections: Connections,
    insert: String,
}

/// A statement that stays prepared, as those of the API do: `sql_query` would prepare it each time.
struct Prepared {
    sql: String,
    id: Option<i64>,
}

/// Any row, as JSON.
struct Row(Value);

#[derive(QueryableByName)]
struct Columns {
    #[diesel(sql_type = Text)]
    columns: String,
}

impl BareHandler {
    /// Serves from the database of an agent registry that has an agent.
    pub(crate) fn start(database: &str) -> anyhow::Result<Self> {
        let mut connection = PgConnection::establish(database)?;
        connection.batch_execute(TABLES)?;
        let Columns { columns } = sql_query(COLUMNS).get_result(&mut connection)?;
        let insert = format!("INSERT INTO bare_agents ({columns}) SELECT {columns} FROM bare_template RETURNING *");
        let manager = ConnectionManager::<PgConnection>::new(database);
        let connections = Pool::builder().max_size(CONNECTIONS).test_on_check_out(false).build(manager)?;
        let shared = web::Data::new(Shared { connections, insert });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let app = move || {
            let agents = web::resource("/{path:.*}/periodic-agents/").route(web::post().to(create));
            App::new()
                .app_data(shared.clone())
                .service(agents.route(web::get().to(list)))
                .service(web::resource("/{path:.*}/periodic-agents/{id}/").route(web::get().to(retrieve)))
        };
        tokio::spawn(HttpServer::new(app).workers(WORKERS).disable_signals().listen(listener)?.run());
        Ok(Self { base_url })
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }
}

async fn create(shared: web::Data<Shared>, _body: web::Bytes) -> actix_web::Result<HttpResponse> {
    let insert = Prepared { sql: shared.insert.clone(), id: None };
    Ok(HttpResponse::Created().json(rows_of(shared, insert).await?.first()))
}

async fn retrieve(shared: web::Data<Shared>, path: web::Path<(String, i64)>) -> actix_web::Result<HttpResponse> {
    let select = Prepared { sql: format!("{WHOLE} AND agents.id = "), id: Some(path.1) };
    Ok(HttpResponse::Ok().json(rows_of(shared, select).await?.first()))
}

async fn list(shared: web::Data<Shared>) -> actix_web::Result<HttpResponse> {
    let sql = format!("{WHOLE} ORDER BY agents.created_at DESC, agents.id DESC LIMIT 25");
    Ok(HttpResponse::Ok().json(rows_of(shared, Prepared { sql, id: None }).await?))
}

async fn rows_of(shared: web::Data<Shared>, statement: Prepared) -> actix_web::Result<Vec<Value>> {
    let rows = web::block(move || {
        let mut connection = shared.connections.get().map_err(|error| error.to_string())?;
        statement.load::<Row>(&mut connection).map_err(|error| error.to_string())
    });
    let rows = rows.await?.map_err(ErrorInternalServerError)?;
    Ok(rows.into_iter().map(|Row(value)| value).collect())
}

impl Query for Prepared {
    type SqlType = Untyped;
}

impl QueryId for Prepared {
    type QueryId = ();
    // Cached by its text.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl QueryFragment<Pg> for Prepared {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(&self.sql);
        match &self.id {
            Some(id) => out.push_bind_param::<BigInt, _>(id),
            None => Ok(()),
        }
    }
}

impl RunQueryDsl<PgConnection> for Prepared {}

impl QueryableByName<Pg> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let mut object = Map::new();
        for index in 0..row.field_count() {
            let Some(field) = diesel::row::Row::get(row, index) else { continue };
            let name = field.field_name().unwrap_or_default().to_owned();
            object.insert(name, json_of(&field)?);
        }
        Ok(Self(Value::Object(object)))
    }
}

/// What a column holds. Types that the API does not show are null.
fn json_of<'a>(field: &impl Field<'a, Pg>) -> deserialize::Result<Value> {
    const BOOLEAN: u32 = 16;
    const BIGINT: u32 = 20;
    const INTEGER: u32 = 23;
    const TEXT: u32 = 25;
    const TIMESTAMPTZ: u32 = 1184;
    let Some(value) = field.value() else { return Ok(Value::Null) };
    let bytes = value.as_bytes();
    Ok(match value.get_oid().get() {
        BOOLEAN => (bytes == [1]).into(),
        BIGINT => i64::from_be_bytes(bytes.try_into()?).into(),
        INTEGER => i32::from_be_bytes(bytes.try_into()?).into(),
        TEXT => std::str::from_utf8(bytes)?.into(),
        TIMESTAMPTZ => {
            // The epoch of PostgreSQL: 2000-01-01.
            let epoch = DateTime::from_timestamp(946_684_800, 0).unwrap_or_default();
            (epoch + TimeDelta::microseconds(i64::from_be_bytes(bytes.try_into()?))).to_rfc3339().into()
        }
        _ => Value::Null,
    })
}
