//! Which Carillon a command asks, and as whom.

use std::time::Duration;

use clap::Args;
use service_kit::auth::{Caller, Role, issue_token};
use service_kit::clock::Clock;
use service_kit::config::InternalConfig;
use service_kit::secrets::Secret;

use super::api::{Api, Credentials};
use super::profiles::Profile;
use super::show::Shape;
use crate::cli::Place;
use crate::config::Config;
use crate::data_dir::DataDir;

/// How long a token of the installation's own secret is good: the time of a command.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// Which Carillon, as whom, and how its answer is printed: arguments, then the environment, then a profile, then the installation itself.
#[derive(Debug, Args)]
pub(crate) struct Access {
    /// A profile of carillon/profiles.toml in the configuration directory (or of the file CARILLON_PROFILES): `url`,
    /// `org`, `user`, `api_key` and `admin` by name [default: `default`, if there is one].
    #[arg(long, value_name = "NAME", env = "CARILLON_PROFILE")]
    profile: Option<String>,
    /// Where the API is [default: the profile's, else http.public_url of the configuration, else http.listen].
    #[arg(long, value_name = "URL", env = "CARILLON_URL")]
    url: Option<String>,
    /// The organisation.
    #[arg(long, env = "CARILLON_ORG")]
    org: Option<String>,
    /// The user in the API's paths [default: the profile's, else `admin`].
    #[arg(long, env = "CARILLON_USER")]
    user: Option<String>,
    /// An API key; given here, others on this machine can see it [default: the profile's, else a token of the
    /// installation in the data directory].
    #[arg(long, value_name = "KEY", env = "CARILLON_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    pub(super) output: Shape,
    #[command(flatten)]
    place: Place,
}

/// Where the admin listeners are.
#[derive(Debug, Args)]
pub(crate) struct Admin {
    /// A process's admin listener, as http://10.0.0.7:9090; one for each [default: the profile's `admin`, else
    /// http.admin_listen of the configuration].
    #[arg(long = "admin", value_name = "URL")]
    urls: Vec<String>,
    /// A profile of carillon/profiles.toml [default: `default`, if there is one].
    #[arg(long, value_name = "NAME", env = "CARILLON_PROFILE")]
    profile: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Admin {
    /// The listeners that are meant.
    pub(crate) fn urls(&self) -> anyhow::Result<Vec<String>> {
        if !self.urls.is_empty() {
            return Ok(self.urls.clone());
        }
        let profile = Profile::find(self.profile.as_deref().filter(|name| !name.is_empty()))?;
        if !profile.admin.is_empty() {
            return Ok(profile.admin);
        }
        let config = Config::load(&self.place, Vec::new())?;
        Ok(vec![format!("http://{}", config.http.admin_listen)])
    }

    /// What opens their internal routes: as configured, else the data directory's.
    pub(crate) fn internal(&self) -> anyhow::Result<InternalConfig> {
        Config::load(&self.place, Vec::new())?.internal_of(&DataDir::at(&self.place.data_dir))
    }
}

impl Access {
    /// The API that is meant.
    ///
    /// # Errors
    ///
    /// It is not said which organisation is meant, or there is nothing to ask with.
    pub(crate) fn open(&self) -> anyhow::Result<Api> {
        let profile = Profile::find(self.profile.as_deref().filter(|name| !name.is_empty()))?;
        let config = Config::load(&self.place, Vec::new())?;
        let base = given(self.url.as_ref()).or(profile.url).unwrap_or_else(|| base_of(&config));
        let organisation = given(self.org.as_ref()).or(profile.org).ok_or_else(|| {
            anyhow::anyhow!("which organisation? Say --org, or set CARILLON_ORG or `org` in a profile")
        })?;
        let user = given(self.user.as_ref()).or(profile.user).unwrap_or_else(|| "admin".to_owned());
        let credentials = match given(self.api_key.as_ref()).map(Secret::new).or(profile.api_key) {
            Some(key) => Credentials::ApiKey(key),
            None => own_token(config, &self.place, &organisation, &user)?,
        };
        Api::new(&base, organisation, user, credentials)
    }
}

/// Where the API of this configuration is.
pub(crate) fn base_of(config: &Config) -> String {
    let configured = config.http.public_url.as_ref().map(ToString::to_string);
    configured.unwrap_or_else(|| format!("http://{}", config.http.listen))
}

/// A token of the installation's own, for an administrator of the organisation.
pub(crate) fn own_token(config: Config, place: &Place, organisation: &str, user: &str) -> anyhow::Result<Credentials> {
    let auth = config.auth_of(&DataDir::at(&place.data_dir))?;
    let caller =
        Caller { username: user.to_owned(), organisation: Some(organisation.to_owned()), role: Role::TenantAdmin };
    Ok(Credentials::Token(Secret::new(issue_token(&auth, &caller, TOKEN_LIFE, Clock::host().now())?)))
}

/// An empty variable says nothing.
fn given(value: Option<&String>) -> Option<String> {
    value.filter(|value| !value.is_empty()).cloned()
}
