//! Why a configuration was refused.

use std::fmt::Display;
use std::path::PathBuf;

/// Why a configuration was refused: one line that names the key, or the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A layer holds an unknown key or a value of the wrong kind.
    #[error("{origin}: {problem}")]
    Layer {
        /// The file, the variable or the override.
        origin: String,
        /// The key, and what is wrong with it.
        problem: String,
    },
    /// A setting that cannot work.
    #[error("`{key}` {problem}")]
    Setting {
        /// The setting, as `http.listen`.
        key: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The configuration cannot be printed as TOML.
    #[error("cannot print the configuration")]
    Unprintable(#[from] toml::ser::Error),
}

impl ConfigError {
    /// `key` cannot work; `problem` goes on from its name: "must be 1-100, got 0".
    pub fn setting(key: &str, problem: impl Display) -> Self {
        Self::Setting { key: key.to_owned(), problem: problem.to_string() }
    }
}
