//! Who is believed to be the server, and what is said otherwise.

use std::path::PathBuf;

use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::embed_migrations;
use service_kit::config::{ConnectionUrl, DatabaseConfig};
use service_kit::database::{DatabaseError, Db, Migrations};

const MIGRATIONS: Migrations = Migrations {
    postgres: embed_migrations!("tests/migrations/postgres"),
    sqlite: embed_migrations!("tests/migrations/sqlite"),
};

fn variable(name: &str) -> String {
    let found = std::env::vars().find(|(known, _)| known == name).map(|(_, value)| value);
    found.unwrap_or_else(|| panic!("{name} is not set: run `make test-tls`"))
}

/// The password of the server, which no error may show.
fn password() -> String {
    url::Url::parse(&variable("CARILLON_TEST_POSTGRES_URL")).unwrap().password().unwrap().to_owned()
}

/// Opens the server's database at `host`, believing only the authority in `ca`.
async fn open(host: &str, mode: &str, ca: &str) -> Result<Db, DatabaseError> {
    let mut url = url::Url::parse(&variable("CARILLON_TEST_POSTGRES_URL")).unwrap();
    let ca = PathBuf::from(variable("CARILLON_TEST_TLS_DIR")).join(ca);
    url.set_host(Some(host)).unwrap();
    url.query_pairs_mut().append_pair("sslmode", mode).append_pair("sslrootcert", ca.to_str().unwrap());
    let config = DatabaseConfig { url: ConnectionUrl::new(url.as_str()), pool_size: 1 };
    Db::open(&config, MIGRATIONS).await
}

async fn refusal(host: &str, mode: &str, ca: &str) -> String {
    let error = open(host, mode, ca).await.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains(&password()), "{told}");
    assert!(!error.to_string().contains('\n'), "{error}");
    error.to_string()
}

#[derive(QueryableByName)]
struct Session {
    #[diesel(sql_type = Bool)]
    ssl: bool,
    #[diesel(sql_type = Text)]
    version: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_server_is_believed_and_what_goes_to_it_is_encrypted() {
    let db = open("localhost", "verify-full", "ca.pem").await.unwrap();
    let session: Session = db
        .read(|connection| {
            let query = diesel::sql_query("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
            Ok::<_, DatabaseError>(query.get_result::<Session>(connection)?)
        })
        .await
        .unwrap();
    assert!(session.ssl && session.version.starts_with("TLSv1."), "{}", session.version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_name_is_refused() {
    let refusal = refusal("127.0.0.1", "verify-full", "ca.pem").await;
    assert!(refusal.contains("does not match host name \"127.0.0.1\""), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_an_unknown_authority_vouches_for_is_refused() {
    for mode in ["verify-full", "verify-ca"] {
        let refusal = refusal("localhost", mode, "other-ca.pem").await;
        assert!(refusal.contains("certificate verify failed"), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_there_is_named() {
    let refusal = refusal("localhost", "verify-full", "nobody.pem").await;
    assert!(refusal.contains("root certificate file") && refusal.contains("nobody.pem"), "{refusal}");
}
