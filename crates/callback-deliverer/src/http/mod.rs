//! Internal HTTP: what the registry's public door, operators and tests see and do of deliveries, endpoints and replays.
//!
//! Everything is asked for within an organisation; what is of another is not there.

mod deliveries;
mod endpoints;
mod moment;
mod replays;

use std::sync::Arc;

use actix_web::web;
use serde::Deserialize;
use service_kit::error::ApiError;

use crate::core::Core;

/// The routes, relative to `/internal`.
pub(crate) fn routes(config: &mut web::ServiceConfig, core: Arc<Core>) {
    config
        .app_data(web::Data::from(core))
        .route("/deliveries", web::get().to(deliveries::list_deliveries))
        .route("/deliveries/{id}", web::get().to(deliveries::show_delivery))
        .route("/deliveries/{id}/replay", web::post().to(deliveries::replay_delivery))
        .route("/replays", web::post().to(replays::create_replay))
        .route("/replays/{id}", web::get().to(replays::show_replay))
        .route("/endpoints", web::get().to(endpoints::list_not_well))
        .route("/endpoints/{id}", web::get().to(endpoints::show_endpoint))
        .route("/endpoints/{id}/test", web::post().to(endpoints::test_endpoint))
        .route("/endpoints/{id}/enable", web::post().to(endpoints::enable_endpoint));
}

/// Whose things are asked for; none: an operator asks for anybody's.
#[derive(Debug, Deserialize)]
struct Within {
    organisation: Option<String>,
}

impl Within {
    fn has(&self, organisation: &str) -> bool {
        self.organisation.as_deref().is_none_or(|own| own == organisation)
    }
}

fn id(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| ApiError::not_found())
}
