//! Reading the layers, and finding the one at fault.

use std::fmt::Display;
use std::path::Path;

use ::config::{Config, ConfigError as LibraryError, Environment, File, FileFormat, Map};
use serde::Serialize;

use super::{ConfigError, Settings};

/// What the environment's names begin with.
const PREFIX: &str = "CARILLON__";

/// Reads `file` if there is one, then `environment`, then `overrides` (`("http.listen", "0.0.0.0:80")`): what comes
/// later wins, what nobody sets has its default. Pass [`process_environment`] as the environment.
///
/// # Errors
///
/// A file that cannot be read, an unknown key or a value of the wrong kind, with where it came from, or what
/// [`Settings::validate`] says.
pub fn load<T: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut layers = Vec::new();
    if let Some(path) = file {
        layers.push(Layer::file(path)?);
    }
    layers.extend(environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).map(Layer::variable));
    layers.extend(overrides.into_iter().map(Layer::override_of));

    let settings = parse::<T>(&layers).map_err(|error| blame::<T>(&layers, &error))?;
    settings.validate()?;
    Ok(settings)
}

/// The variables of this process, for [`load`]; those that are no text are none of ours.
pub fn process_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// The configuration in force as TOML, with every secret masked.
///
/// # Errors
///
/// Only if a section holds something that TOML cannot say.
pub fn effective<T: Serialize>(settings: &T) -> Result<String, ConfigError> {
    Ok(toml::to_string(settings)?)
}

/// One place where settings come from.
struct Layer {
    /// How to name the place to a person.
    origin: String,
    content: Content,
}

enum Content {
    Toml(String),
    Variable(String, String),
    Override(String, String),
}

impl Layer {
    fn file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { origin: path.display().to_string(), content: Content::Toml(text) })
    }

    fn variable((name, value): (String, String)) -> Self {
        Self { origin: format!("environment variable {name}"), content: Content::Variable(name, value) }
    }

    fn override_of((key, value): (String, String)) -> Self {
        Self { origin: format!("override of `{key}`"), content: Content::Override(key, value) }
    }
}

fn parse<'a, T: Settings>(layers: impl IntoIterator<Item = &'a Layer>) -> Result<T, LibraryError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = match &layer.content {
            Content::Toml(text) => builder.add_source(File::from_str(text, FileFormat::Toml)),
            Content::Variable(name, value) => {
                // Values stay text until a field wants a number: else a secret of digits would lose its zeros.
                let variable = Environment::with_prefix("CARILLON").prefix_separator("__").separator("__");
                let source = Map::from_iter([(name.clone(), value.clone())]);
                builder.add_source(variable.ignore_empty(true).source(Some(source)))
            }
            Content::Override(key, value) => builder.set_override(key, value.as_str())?,
        };
    }
    builder.build()?.try_deserialize()
}

/// Names the layer that fails in the same way when read alone: the library itself says only "the environment".
fn blame<T: Settings>(layers: &[Layer], error: &LibraryError) -> ConfigError {
    let problem = describe(error);
    let culprit = layers.iter().find(|layer| parse::<T>([*layer]).is_err_and(|error| describe(&error) == problem));
    let origin = culprit.map_or_else(|| "configuration".to_owned(), |layer| layer.origin.clone());
    ConfigError::Layer { origin, problem }
}

/// The library's error without the origin that it gives, with its key.
fn describe(error: &LibraryError) -> String {
    fn at(key: Option<&String>, problem: impl Display) -> String {
        key.map_or_else(|| problem.to_string(), |key| format!("`{key}`: {problem}"))
    }
    match error {
        LibraryError::At { error, key, .. } => at(key.as_ref(), describe(error)),
        LibraryError::Type { unexpected, expected, key, .. } => {
            at(key.as_ref(), format_args!("expected {expected}, found {unexpected}"))
        }
        LibraryError::FileParse { cause, .. } => without_source(&cause.to_string()),
        // It names no key, which may be that of a secret.
        LibraryError::Message(text) => without_value(text),
        other => other.to_string(),
    }
}

/// What a parser of TOML complains of, without the line that it shows: a secret may stand in it.
#[must_use]
pub fn without_source(complaint: &str) -> String {
    let is_shown = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    complaint.lines().filter(|line| !is_shown(line)).collect::<Vec<_>>().join(": ")
}

/// A complaint of serde about a string's type, without the string.
fn without_value(complaint: &str) -> String {
    match (complaint.find("string \""), complaint.rfind("\", expected ")) {
        (Some(begin), Some(end)) if begin < end => format!("{}a string{}", &complaint[..begin], &complaint[end + 1..]),
        _ => complaint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::config::{AuthConfig, DatabaseConfig, EgressConfig, HttpConfig, LogFormat, TelemetryConfig};

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        http: HttpConfig,
        database: DatabaseConfig,
        auth: AuthConfig,
        callbacks: EgressConfig,
        telemetry: TelemetryConfig,
        providers: BTreeMap<String, Provider>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Provider {
        kind: String,
        timeout_seconds: Option<u32>,
    }

    impl Settings for Example {
        fn validate(&self) -> Result<(), ConfigError> {
            self.http.validate()?;
            self.telemetry.validate()
        }
    }

    const SECRET: &str = "00123456789012345678901234567890";

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn load_from(file: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Example, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carillon.toml");
        std::fs::write(&path, file).unwrap();
        load(Some(&path), pairs(environment), pairs(overrides))
    }

    fn refusal(file: &str, environment: &[(&str, &str)]) -> String {
        load_from(file, environment, &[]).unwrap_err().to_string()
    }

    #[test]
    fn without_any_layer_everything_has_its_default() {
        let settings: Example = load(None, [], []).unwrap();
        assert_eq!(settings, Example::default());
        assert_eq!(settings.http.body_bytes_max, 4 * 1024 * 1024);
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file = "[http]\nlisten = '127.0.0.1:1'\nadmin_listen = '127.0.0.1:2'\nbody_bytes_max = 2048";
        let environment = [("CARILLON__HTTP__LISTEN", "127.0.0.1:3"), ("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:4")];
        let settings = load_from(file, &environment, &[("http.listen", "127.0.0.1:5")]).unwrap();
        assert_eq!((settings.http.listen.port(), settings.http.admin_listen.port()), (5, 4));
        assert_eq!(settings.http.body_bytes_max, 2048);
    }

    #[test]
    fn the_environment_says_texts_numbers_lists_names_and_maps() {
        let settings = load_from(
            "",
            &[
                ("CARILLON__AUTH__JWT_SECRET", SECRET),
                ("CARILLON__AUTH__CLAIMS__ORG", "tenant"),
                ("CARILLON__AUTH__ISSUER", "42"),
                ("CARILLON__AUTH__LEEWAY_SECONDS", "5"),
                ("CARILLON__CALLBACKS__ALLOW_NETWORKS", "10.0.0.0/8, ::1/128,"),
                ("CARILLON__TELEMETRY__FORMAT", "json"),
                ("CARILLON__PROVIDERS__OPENAI__KIND", "openai"),
                ("CARILLON__PROVIDERS__OPENAI__TIMEOUT_SECONDS", "7"),
                ("CARILLON__DATABASE__URL", ""),
                ("CARILLON_UNRELATED", "x"),
                ("PATH", "/bin"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(settings.auth.jwt_secret.expose(), SECRET);
        assert_eq!((settings.auth.claims.org.as_str(), settings.auth.leeway_seconds), ("tenant", 5));
        assert_eq!(settings.auth.issuer.as_deref(), Some("42"));
        assert_eq!(settings.callbacks.allow_networks.len(), 2);
        assert_eq!(settings.telemetry.format, LogFormat::Json);
        assert_eq!(settings.providers["openai"].timeout_seconds, Some(7));
        assert!(settings.database.url.is_empty(), "an empty variable is not set");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_source() {
        let error = refusal("", &[("CARILLON__HTTP__LISTEM", "x"), ("CARILLON__HTTP__LISTEN", "127.0.0.1:1")]);
        assert!(error.starts_with("environment variable CARILLON__HTTP__LISTEM: "), "{error}");
        assert!(error.contains("`http`: unknown field `listem`, expected one of `listen`"), "{error}");

        let error = refusal("[htp]\nlisten = ''", &[]);
        assert!(error.contains("carillon.toml: unknown field `htp`"), "{error}");

        let error = load_from("", &[], &[("telemetry.loud", "1")]).unwrap_err().to_string();
        assert!(error.starts_with("override of `telemetry.loud`: "), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_with_its_key_and_source() {
        let error = refusal("", &[("CARILLON__HTTP__BODY_BYTES_MAX", "lots")]);
        assert!(error.starts_with("environment variable CARILLON__HTTP__BODY_BYTES_MAX: "), "{error}");
        assert!(error.contains("http.body_bytes_max"), "{error}");

        let error = refusal("", &[("CARILLON__CALLBACKS__ALLOW_NETWORKS", "10.0.0.0/8,home")]);
        assert!(error.contains("ALLOW_NETWORKS") && error.contains("`home` is not understood"), "{error}");

        let error = refusal("[http]\nlisten = 80", &[]);
        assert!(error.contains("carillon.toml") && error.contains("http.listen"), "{error}");
    }

    #[test]
    fn what_may_be_a_secret_is_not_in_a_complaint() {
        const SECRET: &str = "s3cr3t-of-f0rty-characters-and-a-few-more";
        for (file, variable) in [
            (format!("[auth]\njwt_secret = {SECRET}\n"), "CARILLON__HTTP__LISTEN"),
            (format!("[auth]\njwt_secret = \"{SECRET}\n[http]\n"), "CARILLON__HTTP__LISTEN"),
            (String::new(), "CARILLON__AUTH"),
            (String::new(), "CARILLON__DATABASE"),
        ] {
            let error = refusal(&file, &[(variable, SECRET)]);
            assert!(!error.contains("s3cr3t"), "{error}");
            assert!(error.contains("line 2") || error.contains(variable), "{error}");
        }
    }

    #[test]
    fn a_fault_that_takes_two_layers_is_still_told() {
        let error = refusal("", &[("CARILLON__PROVIDERS__X__TIMEOUT_SECONDS", "1")]);
        assert!(error.contains("missing") && error.contains("kind"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_named() {
        let missing = load::<Example>(Some(Path::new("/nowhere/carillon.toml")), [], []).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the configuration file /nowhere/carillon.toml");
        let error = refusal("[http", &[]);
        assert!(error.contains("carillon.toml: ") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused_by_key_and_value() {
        for (name, value, problem) in [
            ("CARILLON__HTTP__ADMIN_LISTEN", "127.0.0.1:8080", "`http.admin_listen` must differ from `http.listen`"),
            ("CARILLON__HTTP__PUBLIC_URL", "ftp://x/", "`http.public_url` must be http:// or https://, got ftp://x/"),
            ("CARILLON__HTTP__BODY_BYTES_MAX", "1", "`http.body_bytes_max` must be 1024 to 1073741824, got 1"),
            ("CARILLON__TELEMETRY__LOG", "a=b=c", "`telemetry.log` is not understood"),
        ] {
            let error = refusal("", &[(name, value)]);
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn the_effective_configuration_can_be_read_back_and_shows_no_secret() {
        let environment = [
            ("CARILLON__AUTH__JWT_SECRET", SECRET),
            ("CARILLON__DATABASE__URL", "postgres://u:s3cret@db/x"),
            ("CARILLON__CALLBACKS__ALLOW_NETWORKS", "10.0.0.0/8"),
        ];
        let text = effective(&load_from("", &environment, &[]).unwrap()).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("s3cret"), "{text}");
        assert!(text.contains("postgres://u:****@db/x"), "{text}");
        assert!(load_from(&text, &[], &[]).is_ok(), "{text}");
    }

    #[test]
    fn a_secret_that_is_missing_or_short_is_refused_without_being_shown() {
        for (secret, problem) in [("", "must be set"), ("hunter2", "at least 32 bytes long, got 7")] {
            let auth = AuthConfig { jwt_secret: secret.to_owned().into(), ..AuthConfig::default() };
            let error = auth.validate().unwrap_err().to_string();
            assert!(error.contains(problem) && !error.contains("hunter2"), "{error}");
        }
    }
}
