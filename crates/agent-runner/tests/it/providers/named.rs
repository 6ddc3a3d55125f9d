//! Providers of the configuration, and where each kind of URL may lead.

use model::document;
use model::run::RunReason;
use service_kit::egress::Guard;

use super::{API_KEY, ask, hosted};
use crate::harness::{KEY_1, World, key_ring, request};
use crate::model_server::{ModelServer, ending, part, stream, text};

#[tokio::test]
async fn a_mentor_that_only_names_a_provider_is_asked_there_with_the_configured_key() {
    let mut world = World::new().await;
    world.egress = Guard::new(Vec::new());
    let server = ModelServer::start(&world.clock, vec![stream(vec![part("yes"), ending(1, 1)])]);
    let providers = hosted("openai", &server);
    let _runner = world.runner_with(|config| config.providers = providers, key_ring(KEY_1)).await;

    // As the original clients say it (`llm_provider`, `llm_name`), with a name in their own case; and not at all.
    for (id, name, model, expected) in [(1, "Hosted", "large", "large"), (2, "", "", "configured")] {
        let mut asked = request(id, "hello");
        let (name, model) = (name.into(), model.into());
        asked.mentor.provider = document::Provider { name, model, ..document::Provider::default() };
        world.request(&asked).await;
        let result = world.end().await.result;
        assert_eq!(result.output, "yes", "{}", result.log);
        assert!(result.log.contains("provider `hosted` of the configuration: `openai`"), "{}", result.log);
        assert!(result.log.contains(&format!("audience `{}`", server.url)), "{}", result.log);
        let request = server.asked_until_now().pop().unwrap();
        assert_eq!((request.path.as_str(), request.body["model"].as_str()), ("/v1/chat/completions", Some(expected)));
        assert_eq!(request.header("authorization"), Some("Bearer sk-operators"));
    }
}

#[tokio::test]
async fn a_mentors_own_key_goes_before_the_configured_one() {
    let world = World::new().await;
    let server = ModelServer::start(&world.clock, vec![text("text/plain", "yes")]);
    let providers = hosted("http", &server);
    let _runner = world.runner_with(|config| config.providers = providers, key_ring(KEY_1)).await;
    let mut asked = ask("", &server, "hello");
    asked.mentor.provider.name = "hosted".into();
    asked.mentor.provider.base_url.clear();
    world.request(&asked).await;
    assert_eq!(world.end().await.result.output, "yes");
    assert_eq!(server.asked_until_now()[0].header("x-api-key"), Some(API_KEY));
}

#[tokio::test]
async fn a_url_of_a_mentor_may_lead_only_where_callbacks_may() {
    let mut world = World::new().await;
    world.egress = Guard::new(Vec::new());
    let server = ModelServer::start(&world.clock, vec![text("text/plain", "secrets of this host")]);
    let providers = hosted("http", &server);
    let _runner = world.runner_with(|config| config.providers = providers, key_ring(KEY_1)).await;
    let port = server.url.rsplit(':').next().unwrap();
    for (kind, name, url) in [
        ("openai", "", server.url.clone()),
        ("http", "", format!("http://localhost:{port}/")),
        ("", "hosted", server.url.clone()),
        ("http", "", "ftp://files.example/".to_owned()),
    ] {
        let mut asked = ask(kind, &server, "hello");
        asked.mentor.provider.name = name.into();
        asked.mentor.provider.base_url = url;
        world.request(&asked).await;
        let result = world.end().await.result;
        assert_eq!(result.reason, Some(RunReason::ProviderFailed));
        let reason = "provider_failed: the mentor's `provider.base_url` may not be called: ";
        assert!(result.log.contains(reason), "{}", result.log);
    }
    assert!(server.asked_until_now().is_empty());
}
