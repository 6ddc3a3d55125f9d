//! A service that answers with what it was asked: what it is sent, and what the model is told, byte by byte.

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};

use super::{STOCKS, ask, calls, registry, runner, says, service, told};
use crate::harness::World;
use crate::model_server::ModelServer;

/// Starts one; it says which token it was sent, and the body as it came.
fn repeating() -> String {
    async fn repeat(request: HttpRequest, body: web::Bytes) -> HttpResponse {
        let token = request.headers().get("authorization").unwrap().to_str().unwrap();
        let asked = String::from_utf8(body.to_vec()).unwrap();
        let token = if asked.contains("ESCAPE") { token.replace('.', "\\u002e") } else { token.to_owned() };
        HttpResponse::Ok().body(format!(r#"{{"token":"{token}","asked":{asked}}}"#))
    }
    let server = HttpServer::new(|| App::new().default_service(web::to(repeat))).workers(1).disable_signals();
    let server = server.shutdown_timeout(0).bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    tokio::spawn(server.run());
    url
}

/// What the model is told of a call with these arguments.
async fn repeated(arguments: &str) -> String {
    let world = World::new().await;
    let registry = registry(&world, vec![service(STOCKS, "Stocks", &repeating())]);
    let _runner = runner(&world, &registry.url).await;
    let model = ModelServer::start(&world.clock, vec![calls(&[("Stocks", arguments)]), says("done")]);
    world.request(&ask(1, &model)).await;
    let result = world.end().await.result;
    assert_eq!(result.output, "done", "{}", result.log);
    told(&model).remove(0)
}

#[tokio::test]
async fn the_session_token_is_told_to_no_model() {
    for symbol in ["ACME", "ESCAPE"] {
        let told = repeated(&format!(r#"{{"symbol": "{symbol}"}}"#)).await;
        assert!(told.contains(r#""token":"Bearer ****""#), "{told}");
    }
}

#[tokio::test]
async fn numbers_stay_what_they_are_on_both_ways() {
    let told =
        repeated(r#"{"symbol": "1", "days": 2, "symbol": "ACME", "days": 123456789012345678901234567890}"#).await;
    assert!(told.contains(r#""arguments":{"days":123456789012345678901234567890,"symbol":"ACME"}"#), "{told}");
}
