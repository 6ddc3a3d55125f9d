//! What a microservice does not start with: one line that names the setting, a failure, and no secret.

use std::time::{Duration, Instant};

use test_kit::free_address;

use crate::place::{Place, password, variable};

const SECRET: &str = "s3cret-of-this-test";

/// The URL with a password that is not right.
fn with_wrong_password(url: &str) -> String {
    url.replace(&password(url), SECRET)
}

/// A port that nobody listens at.
const CLOSED: u16 = 1;

#[test]
fn what_cannot_work_is_refused_in_one_line_that_names_the_setting() {
    let place = Place::new("refusals");
    let (database, bus) = (place.backends.database("refused"), place.bus_url());
    let newer = place.backends.database("newer");
    let history = "CREATE TABLE __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY, run_on TIMESTAMP NOT NULL \
                   DEFAULT now()); INSERT INTO __diesel_schema_migrations (version) VALUES ('20991231000000')";
    place.backends.execute(&newer, history);

    let url = |text: &str| (text.to_owned(), bus.clone());
    let cases = [
        ("a database refuses", (with_wrong_password(&database), bus.clone()), "`database.url`: connection to server"),
        ("nobody listens", url(&format!("postgres://u:{SECRET}@127.0.0.1:{CLOSED}/x")), "`database.url`: connection"),
        (
            "no such host",
            url(&format!("postgres://u:{SECRET}@nowhere.invalid/x")),
            "`database.url`: could not translate",
        ),
        (
            "no database",
            url(&format!("mysql://u:{SECRET}@db/x")),
            "`database.url` must begin with sqlite: or postgres://",
        ),
        ("TLS", url(&format!("{database}?sslmode=verify-full")), "`database.url` asks for TLS (`sslmode=verify-full`)"),
        ("a newer version", url(&newer), "has migration 20991231000000, which this version does not know"),
        ("a broker refuses", (database.clone(), with_wrong_password(&bus)), "of `bus.url` refuses"),
        ("no such virtual host", (database.clone(), format!("{bus}-none")), "of `bus.url` refuses"),
        ("no bus", (database.clone(), format!("http://u:{SECRET}@broker/")), "`bus.url` must be amqp://…"),
    ];
    for microservice in ["agent-registry", "cron-dispatcher", "callback-deliverer", "agent-runner", "service-registry"]
    {
        for (case, (database, bus), wanted) in &cases {
            let has_database = microservice != "agent-runner";
            if !has_database && !wanted.contains("bus.url") {
                continue;
            }
            let mut environment = Vec::new();
            environment.extend(has_database.then_some(("CARILLON__DATABASE__URL", database.as_str())));
            environment.push(("CARILLON__BUS__URL", bus.as_str()));
            environment.push(("CARILLON__TELEMETRY__FORMAT", "json"));
            let output = place.command(microservice, &environment).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert_eq!(output.status.code(), Some(1), "{microservice}, {case}: {said}");
            let lines: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
            let [line] = lines[..] else { panic!("{microservice}, {case}: {lines:?}") };
            assert!(line.starts_with(microservice) && line.contains(wanted), "{microservice}, {case}: {line}");
            let real = password(&variable("CARILLON_TEST_POSTGRES_URL"));
            for secret in [SECRET, &real, &password(&variable("CARILLON_TEST_AMQP_URL"))] {
                assert!(!said.contains(secret), "{microservice}, {case}: {said}");
            }
        }
    }
}

/// A broker may come later, as when everything starts at once: the process waits, says so, and is not ready.
#[test]
fn a_broker_that_is_not_there_yet_is_waited_for_without_telling_its_password() {
    let place = Place::new("waiting");
    let (admin, bus) = (free_address().to_string(), format!("amqp://u:{SECRET}@127.0.0.1:{CLOSED}/x"));
    let log = place.backends.folder().join("log");
    let database = place.backends.database("dispatcher");
    let environment = [
        ("CARILLON__DATABASE__URL", database.as_str()),
        ("CARILLON__BUS__URL", &bus),
        ("CARILLON__HTTP__ADMIN_LISTEN", &admin),
    ];
    let mut command = place.command("cron-dispatcher", &environment);
    let file = std::fs::File::create(&log).unwrap();
    let mut process = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
    let probe = || {
        let probe = std::path::PathBuf::from(crate::place::CARILLON).with_file_name("cron-dispatcher");
        let keys = [("CARILLON__INTERNAL__KEY", "k".repeat(40))];
        let output = std::process::Command::new(probe).arg("--probe").envs(keys).envs(environment).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let started = Instant::now();
    let answer = loop {
        let (code, said) = probe();
        assert_eq!(code, Some(1), "{said}");
        if said.contains("not ready") || started.elapsed() > Duration::from_secs(180) {
            break said;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    process.kill().unwrap();
    process.wait().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(answer.contains("not ready: http://"), "{answer}; {log}");
    assert!(log.contains("cannot connect to the broker") && !log.contains(SECRET), "{log}");
}
