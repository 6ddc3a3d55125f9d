//! The profiles file: the Carillons that an operator works with, by name, so that a command need not say where.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use service_kit::config::without_source;
use service_kit::secrets::Secret;

/// One Carillon, and as whom it is asked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Profile {
    pub(crate) url: Option<String>,
    pub(crate) org: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) api_key: Option<Secret<String>>,
    /// Where the admin listeners are, one for each process.
    pub(crate) admin: Vec<String>,
}

impl Profile {
    /// The profile of that name; without a name, `default` if there is one.
    pub(crate) fn find(name: Option<&str>) -> anyhow::Result<Self> {
        let path = path()?;
        let mut profiles = read(&path)?;
        match name {
            None => Ok(profiles.remove("default").unwrap_or_default()),
            Some(name) => match profiles.remove(name) {
                Some(profile) => Ok(profile),
                None => {
                    let known: Vec<&str> = profiles.keys().map(String::as_str).collect();
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    bail!("{} has no profile `{name}`; it has: {known}", path.display())
                }
            },
        }
    }
}

/// `CARILLON_PROFILES`, else `carillon/profiles.toml` in the user's configuration directory.
fn path() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARILLON_PROFILES").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let directory = dirs::config_dir().context("there is no configuration directory: set CARILLON_PROFILES or HOME")?;
    Ok(directory.join("carillon").join("profiles.toml"))
}

fn read(path: &Path) -> anyhow::Result<BTreeMap<String, Profile>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let profiles: BTreeMap<String, Profile> = toml::from_str(&text).map_err(|error| {
        let problem = without_source(&error.to_string());
        anyhow!("{} is no profiles file: {problem}", path.display())
    })?;
    if profiles.values().any(|profile| profile.api_key.is_some()) {
        let mode = fs::metadata(path)?.permissions().mode();
        ensure!(
            mode.trailing_zeros() >= 6,
            "{} holds an API key and others may read it: chmod 600 {}",
            path.display(),
            path.display()
        );
    }
    Ok(profiles)
}
