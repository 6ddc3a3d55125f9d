//! docs/configuring.md, from the sections' own structs: keys, defaults and what each means.

use std::fmt::Write;

use schemars::{Schema, schema_for};
use serde_json::Value;
use service_kit::config as kit;

const ALL: &str = "every microservice";
const INTRODUCTION: &str = "\
# Configuring

Defaults are in the code; a TOML file (`--config FILE`), then the environment, then the command line go over them. The key
`window` of `[dispatcher]` is `CARILLON__DISPATCHER__WINDOW` in the environment; dots become two underscores, a list is
written with commas, an empty variable counts as not set. An unknown key, or a value that cannot work, is an error that
names it and where it came from, and nothing starts. `--check-config` prints what is in force, with secrets masked.

A microservice that runs alone knows only the sections that name it; `carillon up` has all of them in one process, makes
the keys that are not set on its first start, and keeps databases and bus in its data directory. Seconds, days, bytes and
megabytes are in the names of the keys.

Made from the code by `UPDATE=1 cargo test -p carillon reference`; a test keeps it true, and `make validate-deploy` holds
it against what each binary knows.
";

/// Every section: its name, who reads it, and its struct. In the order in which one meets them.
fn sections() -> Vec<(&'static str, &'static str, Schema)> {
    vec![
        ("http", ALL, schema_for!(kit::HttpConfig)),
        (
            "database",
            "agent-registry, cron-dispatcher, callback-deliverer, service-registry",
            schema_for!(kit::DatabaseConfig),
        ),
        ("database", "carillon up", schema_for!(crate::config::DatabasesConfig)),
        ("bus", ALL, schema_for!(kit::BusConfig)),
        ("peers", "agent-registry, agent-runner", schema_for!(kit::PeersConfig)),
        ("auth", "agent-registry, service-registry", schema_for!(kit::AuthConfig)),
        ("auth.claims", "agent-registry, service-registry", schema_for!(kit::ClaimsConfig)),
        ("secrets", "agent-registry, agent-runner, callback-deliverer", schema_for!(kit::SecretsConfig)),
        ("internal", ALL, schema_for!(kit::InternalConfig)),
        ("sessions", "agent-runner", schema_for!(agent_runner::SessionsConfig)),
        ("sessions", "agent-registry, service-registry", schema_for!(agent_registry::SessionsConfig)),
        ("registry", "agent-registry", schema_for!(agent_registry::RegistryConfig)),
        ("dispatcher", "cron-dispatcher", schema_for!(cron_dispatcher::DispatcherConfig)),
        ("runner", "agent-runner", schema_for!(agent_runner::RunnerConfig)),
        ("providers", "agent-runner", schema_for!(agent_runner::ProvidersConfig)),
        ("providers.<name>", "agent-runner", schema_for!(agent_runner::ProviderConfig)),
        ("providers", "agent-registry", schema_for!(agent_registry::ProviderNames)),
        ("callbacks", "callback-deliverer", schema_for!(callback_deliverer::Config)),
        ("callbacks", "agent-registry, agent-runner, service-registry", schema_for!(kit::EgressConfig)),
        ("services", "service-registry", schema_for!(service_registry::Config)),
        ("telemetry", ALL, schema_for!(kit::TelemetryConfig)),
    ]
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for (name, readers, schema) in sections() {
        let _ =
            write!(page, "\n## [{name}]\n\nRead by {readers}.\n\n| key | default | what it says |\n|---|---|---|\n");
        let properties = schema.get("properties").and_then(Value::as_object).unwrap();
        for (key, property) in properties {
            // A section within this one has a table of its own.
            if property.get("$ref").is_some_and(|to| to != "#/$defs/LogFormat") {
                continue;
            }
            let default = shown(property.get("default").unwrap_or(&Value::Null));
            let _ = writeln!(page, "| `{key}` | {default} | {} |", meaning(&schema, property));
        }
    }
    page
}

fn shown(default: &Value) -> String {
    match default {
        Value::Null => String::new(),
        Value::String(text) if text.is_empty() => String::new(),
        Value::Array(items) if items.is_empty() => String::new(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// The field's own comment, in one line; of a choice, what can be chosen, too.
fn meaning(schema: &Schema, property: &Value) -> String {
    let description = |of: &Value| of.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let text = description(property).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(!text.is_empty(), "a setting without a comment: {property}");
    let choices =
        property.get("$ref").and_then(Value::as_str).and_then(|to| schema.pointer(to.trim_start_matches('#')));
    let choices = choices.and_then(|choice| choice["oneOf"].as_array()).into_iter().flatten();
    let choices = choices.map(|one| format!(" `{}`: {}", one["const"].as_str().unwrap(), description(one)));
    format!("{text}{}", choices.collect::<String>())
}

#[test]
fn the_page_of_settings_is_what_the_structs_say() {
    super::keep("docs/configuring.md", &page());
}
