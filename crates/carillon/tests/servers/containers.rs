//! `docker-compose.yml`, its Dockerfile and its `init`, held against the real binaries and a real PostgreSQL: every
//! variable is one that the microservice knows, every address one that it has. No container is started here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::{CARILLON, Place, variable};

const MICROSERVICES: [&str; 5] =
    ["agent-registry", "service-registry", "cron-dispatcher", "agent-runner", "callback-deliverer"];

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// The lines of one container in `docker-compose.yml`.
fn container(name: &str) -> String {
    let compose = file("docker-compose.yml");
    let (_, rest) = compose.split_once("\nservices:\n").unwrap();
    let (_, rest) = rest.split_once(&format!("  {name}:\n")).unwrap_or_else(|| panic!("no container {name}"));
    rest.lines().take_while(|line| line.starts_with("    ") || line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The stage of the Dockerfile that makes an image.
fn stage(name: &str) -> String {
    let dockerfile = file("deploy/docker/Dockerfile");
    let (_, rest) = dockerfile.split_once(&format!(" AS {name}\n")).unwrap_or_else(|| panic!("no stage {name}"));
    rest.split("\nFROM ").next().unwrap().to_owned()
}

/// What the image and `docker-compose.yml` set.
fn settings(name: &str) -> Vec<(String, String)> {
    let (image, container) = (stage("base"), container(name));
    let of_image = image.split_whitespace().filter_map(|word| word.split_once('='));
    let of_container = container.lines().filter_map(|line| line.trim().split_once(": "));
    let all = of_image.chain(of_container).filter(|(name, _)| name.starts_with("CARILLON__"));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Runs `init` as its container would; returns the folder of its volumes.
fn init(place: &Place) -> PathBuf {
    let folder = place.backends.folder().join("init");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/docker/init.sh");
    let (path, binaries) = (variable("PATH"), Path::new(CARILLON).parent().unwrap());
    let mut command = Command::new(script);
    command.env_clear().env("PATH", format!("{}:{path}", binaries.display())).env("CARILLON_INIT_DIR", &folder);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    folder
}

#[test]
fn every_microservice_starts_with_what_its_container_gives_it() {
    let place = Place::new("containers");
    let folder = init(&place);
    for name in MICROSERVICES {
        let binary = Path::new(CARILLON).with_file_name(name);
        let mut command = Command::new("sh");
        command.args(["-c", r#". "$1" && exec "$2" --check-config"#, "sh"]);
        command.arg(folder.join(name).join("env")).arg(binary);
        let output = command.env_clear().envs(settings(name)).output().unwrap();
        let config = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(config.contains("admin_listen = \"0.0.0.0:9090\""), "{name}: {config}");
        let role = name.replace('-', "_");
        assert_eq!(config.contains(&format!("@postgres:5432/{role}\"")), name != "agent-runner", "{name}: {config}");
        assert!(config.contains("@rabbitmq:5672/%2f\""), "{name}: {config}");

        let (container, stage) = (container(name), stage(name));
        assert!(container.contains(&format!("target: {name}}}")), "{container}");
        assert!(container.contains(&format!("- {name}-init:/run/carillon:ro")), "{container}");
        assert!(container.contains(&format!("exec {name} --probe")), "{container}");
        assert!(stage.contains(&format!("COPY --from=build /out/{name} ")) && stage.contains("9090"), "{stage}");
        let is_public = name.ends_with("registry");
        assert_eq!(
            (container.contains(":8080\"]"), stage.contains("EXPOSE 8080 9090")),
            (is_public, is_public),
            "{name}"
        );
    }
    let registry = container("agent-registry");
    for (peer, name) in [("CRON_DISPATCHER", "cron-dispatcher"), ("CALLBACK_DELIVERER", "callback-deliverer")] {
        assert!(registry.contains(&format!("CARILLON__PEERS__{peer}_URL: http://{name}:9090")), "{registry}");
    }
}

#[test]
fn the_first_start_makes_roles_and_passwords_and_a_second_start_keeps_them() {
    let place = Place::new("init");
    let folder = init(&place);
    let read = |path: &str| std::fs::read_to_string(folder.join(path)).unwrap();
    let paths = ["postgres/password", "postgres/roles.sql", "rabbitmq/20-carillon.conf"].map(str::to_owned);
    let paths: Vec<_> = paths.into_iter().chain(MICROSERVICES.map(|name| format!("{name}/env"))).collect();
    let first: Vec<_> = paths.iter().map(|path| read(path)).collect();
    init(&place);
    assert_eq!(paths.iter().map(|path| read(path)).collect::<Vec<_>>(), first);

    // The SQL does what it says, at the server of the tests and under other names.
    let (server, mark) = (variable("CARILLON_TEST_POSTGRES_URL"), format!("init_{}_", std::process::id()));
    let roles = ["agent_registry", "cron_dispatcher", "callback_deliverer", "service_registry"];
    let renamed =
        |text: &str| roles.iter().fold(text.to_owned(), |text, role| text.replace(role, &format!("{mark}{role}")));
    let sql = renamed(&first[1]);
    sql.split(';').filter(|one| !one.trim().is_empty()).for_each(|one| place.backends.execute(&server, one));
    let address = server.rsplit_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    for role in roles {
        let env = renamed(&read(&format!("{}/env", role.replace('_', "-"))));
        let (_, url) = env.split_once("DATABASE__URL='").unwrap();
        let url = url.split('\'').next().unwrap().replace("postgres:5432", &address);
        place.backends.execute(&url, "CREATE TABLE t (id INTEGER)");
        place.backends.execute(&server, &format!("DROP DATABASE {mark}{role}"));
        place.backends.execute(&server, &format!("DROP ROLE {mark}{role}"));
    }
}
