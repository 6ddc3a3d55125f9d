//! A client of the API.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use service_kit::secrets::Secret;
use url::Url;

const TIMEOUT: Duration = Duration::from_secs(30);
/// As many as a page has at most.
const PAGE_SIZE: usize = 100;

/// What the API is asked with.
pub(crate) enum Credentials {
    /// As administrators make them.
    ApiKey(Secret<String>),
    /// A JWT.
    Token(Secret<String>),
}

/// The API of one Carillon, asked for one organisation.
pub(crate) struct Api {
    client: Client,
    base: Url,
    organisation: String,
    user: String,
    credentials: Credentials,
}

/// The API said no.
#[derive(Debug, thiserror::Error)]
#[error("{base} answered {status}: {text}")]
pub(crate) struct Refusal {
    pub(crate) base: Url,
    pub(crate) status: StatusCode,
    /// The body, or what it says in `detail`.
    pub(crate) text: String,
}

impl Api {
    /// Of the Carillon at `base`.
    pub(crate) fn new(
        base: &str,
        organisation: String,
        user: String,
        credentials: Credentials,
    ) -> anyhow::Result<Self> {
        let base = Url::parse(base).ok().filter(|base| matches!(base.scheme(), "http" | "https"));
        let base = base.context("the URL of the API must begin with http:// or https://")?;
        let client = Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none());
        // Through a tunnel of TLS a proxy sees nothing; else it would be shown the credentials.
        let client = if base.scheme() == "https" { client } else { client.no_proxy() }.build()?;
        Ok(Self { client, base, organisation, user, credentials })
    }

    /// A place of the organisation's agents and logs.
    pub(crate) fn of_agents(&self, path: &str) -> Url {
        self.at(&["api", "ai-mentor", "orgs", &self.organisation, "users", &self.user], path)
    }

    /// A place of the organisation's callbacks.
    pub(crate) fn of_callbacks(&self, path: &str) -> Url {
        self.at(&["api", "callbacks", "orgs", &self.organisation], path)
    }

    /// A place below `segments`, whatever is in them.
    pub(crate) fn at(&self, segments: &[&str], path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut place) = url.path_segments_mut() {
            place.pop_if_empty().extend(segments).extend(path.split('/'));
        }
        url
    }

    /// What is there.
    pub(crate) async fn get(&self, url: Url, query: &[(&str, String)]) -> anyhow::Result<Value> {
        let mut url = url;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.ask(self.request(Method::GET, url)).await
    }

    /// What comes of asking for something to be done.
    pub(crate) async fn post(&self, url: Url, body: &Value) -> anyhow::Result<Value> {
        self.ask(self.request(Method::POST, url).json(body)).await
    }

    /// The first `count` of a list.
    pub(crate) async fn list(&self, url: Url, query: &[(&str, String)], count: usize) -> anyhow::Result<Vec<Value>> {
        let page_size = count.min(PAGE_SIZE);
        let mut found = Vec::new();
        for page in 1.. {
            let mut asked = query.to_vec();
            asked.extend([("page", page.to_string()), ("page_size", page_size.to_string())]);
            let mut answer = self.get(url.clone(), &asked).await?;
            let Value::Array(results) = answer["results"].take() else { bail!("{url} is no list") };
            found.extend(results);
            if answer["next"].is_null() || found.len() >= count {
                break;
            }
        }
        found.truncate(count);
        Ok(found)
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.credentials {
            Credentials::ApiKey(key) => request.header("authorization", format!("Api-Token {}", key.expose())),
            Credentials::Token(token) => request.bearer_auth(token.expose()),
        }
    }

    async fn ask(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let base = &self.base;
        let answer =
            request.send().await.with_context(|| format!("cannot reach {base}: is Carillon running there?"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("the answer of {base} broke off"))?;
        let body = serde_json::from_str::<Value>(&text);
        if status.is_success() {
            return body.with_context(|| format!("the answer of {base} is not JSON"));
        }
        let detail = body.ok().and_then(|body| body["detail"].as_str().map(str::to_owned));
        Err(Refusal { base: base.clone(), status, text: detail.unwrap_or(text) }.into())
    }
}
