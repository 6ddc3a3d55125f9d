//! `carillon republish`: every document once more, for those who lost theirs.

use std::process::ExitCode;

use service_kit::database::Db;

use crate::cli::RepublishArguments;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::output::{print, progress};

/// Forgets who holds what, and says how many documents there are.
pub(crate) async fn republish(arguments: &RepublishArguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(&arguments.place, Vec::new())?;
    let data = DataDir::at(&arguments.place.data_dir);
    let database =
        config.database_that_is_there(arguments.url.as_deref(), &data, |databases| databases.agent_registry_url)?;
    let progress = progress(1);
    progress.set_message("preparing documents to be announced again");
    // Beside a registry that runs: it is not for this command to bring its database to another version.
    let db = Db::open_as_it_is(&database, agent_registry::migrations()).await?;
    let documents = agent_registry::republish(&db).await?;
    drop(progress);
    print(format_args!("{documents} documents will be announced again\n"))?;
    Ok(ExitCode::SUCCESS)
}
