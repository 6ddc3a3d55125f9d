//! `carillon backup` and `carillon restore`: an installation that is one process, copied while it runs.
//!
//! The dispatcher's database is copied first: what it believes others to hold, their later copies hold. Documents go the
//! other way, from the registry, so a restored registry announces all of them again. The bus is not copied: it stores
//! nothing that is not in a database. Both commands prepare a directory beside the one that was asked for and rename it
//! in the end, so that what has the right name is whole.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};
use serde::{Deserialize, Serialize};
use service_kit::clock::Clock;
use service_kit::config::{ConnectionUrl, DatabaseConfig};
use service_kit::database::Db;

use crate::cli::{BackupArguments, RestoreArguments};
use crate::config::Config;
use crate::data_dir::{DATABASES, DataDir, REGISTRY_DATABASE};
use crate::output::{print, progress};

const MANIFEST: &str = "manifest.json";
const KEYS: &str = "keys";
/// How long a copy waits for a writer; a reader of a WAL waits for nobody, but for a database that is being opened.
const BUSY_WAIT: &str = "PRAGMA busy_timeout = 10000";

/// What a backup is, and what is in it.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    /// The version of Carillon that made it.
    carillon: String,
    made_at: DateTime<Utc>,
    /// SHA-256 by path.
    files: BTreeMap<String, String>,
}

/// Copies an installation, running or not.
pub(crate) fn backup(arguments: &BackupArguments) -> anyhow::Result<ExitCode> {
    let place = &arguments.place;
    let databases = Config::load(place, Vec::new())?.own_databases(&DataDir::at(&place.data_dir))?;
    let target = Target::prepare(&arguments.to)?;
    let progress = progress(databases.len() + 1);
    let made_at = Clock::host().now();
    let mut files = BTreeMap::new();
    for (name, path) in databases {
        progress.set_message(format!("copying {name}"));
        ensure!(path.exists(), "there is no {}: name the data directory with --data-dir", path.display());
        copy_database(&path, &target.partial.join(name))?;
        files.insert(name.to_owned(), sha256(&target.partial.join(name))?);
        progress.inc(1);
    }
    progress.set_message("copying keys");
    copy_keys(&place.data_dir.join(KEYS), &target.partial.join(KEYS), &mut files)?;
    let manifest = Manifest { carillon: env!("CARGO_PKG_VERSION").to_owned(), made_at, files };
    write_private(&target.partial.join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
    target.finish()?;
    drop(progress);
    print(format_args!(
        "{} files in {}: keep it as secret as the keys in it\n",
        manifest.files.len(),
        arguments.to.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a data directory of a backup.
pub(crate) async fn restore(arguments: &RestoreArguments) -> anyhow::Result<ExitCode> {
    let from = &arguments.from;
    let manifest = fs::read(from.join(MANIFEST))
        .with_context(|| format!("{} is no backup of carillon: it has no {MANIFEST}", from.display()))?;
    let manifest: Manifest = serde_json::from_slice(&manifest).context("the backup's manifest is not readable")?;
    let target = Target::prepare(&arguments.data_dir)?;
    make_directory(&target.partial.join(KEYS))?;
    let progress = progress(manifest.files.len() + 1);
    for (name, expected) in &manifest.files {
        progress.set_message(format!("copying {name}"));
        ensure!(is_known(name), "the backup's manifest names `{name}`, which is no part of one");
        let copied = target.partial.join(name);
        copy_file(&from.join(name), &copied)?;
        ensure!(sha256(&copied)? == *expected, "{name} of the backup is not what was written: it is damaged");
        progress.inc(1);
    }
    progress.set_message("preparing documents to be announced again");
    let registry = target.partial.join(REGISTRY_DATABASE);
    let url = ConnectionUrl::new(format!("sqlite:{}", registry.display()));
    let database = DatabaseConfig { url, ..DatabaseConfig::default() };
    let db = Db::open(&database, agent_registry::migrations()).await?;
    let documents = agent_registry::republish(&db).await?;
    drop(db);
    target.finish()?;
    drop(progress);
    print(format_args!(
        "{} is as it was at {}, and {documents} documents will be announced again; carillon up --data-dir {}\n",
        arguments.data_dir.display(),
        manifest.made_at.to_rfc3339(),
        arguments.data_dir.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn is_known(name: &str) -> bool {
    let key = name.strip_prefix("keys/").is_some_and(|key| !key.contains('/') && key != "..");
    key || DATABASES.contains(&name)
}

/// A directory that is prepared under another name.
struct Target {
    partial: PathBuf,
    path: PathBuf,
}

impl Target {
    /// What an earlier attempt left behind is removed. A link is followed, as to a service's state directory.
    fn prepare(path: &Path) -> anyhow::Result<Self> {
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let empty = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error).with_context(|| format!("cannot look into {}", path.display())),
        };
        ensure!(empty, "{} is there already and not empty: choose another", path.display());
        ensure!(!is_mounted(path), "{} is where a volume begins: name a directory below it", path.display());
        let name = path.file_name().with_context(|| format!("{} is no name of a directory", path.display()))?;
        let partial = path.with_file_name(format!("{}.partial", name.to_string_lossy()));
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        make_directory(&partial)?;
        Ok(Self { partial, path: path.to_owned() })
    }

    fn finish(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(&self.partial)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(&self.partial)?.sync_all()?;
        fs::rename(&self.partial, &self.path).with_context(|| format!("cannot make {}", self.path.display()))?;
        let above = self.path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(File::open(above)?.sync_all()?)
    }
}

/// Whether a directory lies on another device than the one above it, so that none beside it can take its place.
fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    path.exists() && path.parent().is_some_and(|above| device(above) != device(path))
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// As it is at one moment, whatever is written meanwhile: <https://www.sqlite.org/lang_vacuum.html#vacuuminto>.
fn copy_database(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    let copied = || -> anyhow::Result<()> {
        let mut connection = SqliteConnection::establish(&from)?;
        connection.batch_execute(BUSY_WAIT)?;
        diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(&*to).execute(&mut connection)?;
        check(&to)
    };
    copied().with_context(|| format!("cannot copy {from}"))
}

fn check(database: &str) -> anyhow::Result<()> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        quick_check: String,
    }
    let mut connection = SqliteConnection::establish(database)?;
    let row: Row = diesel::sql_query("PRAGMA quick_check(1)").get_result(&mut connection)?;
    if row.quick_check != "ok" {
        bail!("it is damaged: {}", row.quick_check);
    }
    Ok(())
}

fn copy_keys(from: &Path, to: &Path, files: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    make_directory(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot look into {}", from.display()))?;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Half a key of a start that was interrupted.
        if Path::new(&name).extension().is_some_and(|extension| extension == "new") {
            continue;
        }
        copy_file(&from.join(&name), &to.join(&name))?;
        files.insert(format!("{KEYS}/{name}"), sha256(&to.join(&name))?);
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = || -> io::Result<()> {
        let mut target = private(to)?;
        io::copy(&mut File::open(from)?, &mut target)?;
        target.sync_all()
    };
    copied().with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = || -> io::Result<()> {
        let mut file = private(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut file = File::open(path)?;
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex::encode(context.finish())),
            read => context.update(&buffer[..read]),
        }
    }
}
