//! The API as a client sees it.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Entries on a page: the most that there may be.
const PAGE_SIZE: u64 = 100;
/// Pages of one list asked for at the same time.
const PAGES_AT_ONCE: usize = 4;

/// A caller of the API: an organisation, a user, and a token.
#[derive(Debug, Clone)]
pub struct Api {
    root: String,
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    /// `base` is scheme, host and port.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be built.
    pub fn new(base: &str, organisation: &str, user: &str, token: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build()?;
        let root = base.to_owned();
        let base = format!("{base}/api/ai-mentor/orgs/{organisation}/users/{user}");
        Ok(Self { root, base, token: token.to_owned(), client })
    }

    /// One request; returns status and body (null if it has none). A path that begins with a slash is a whole one, any
    /// other is below the user's.
    ///
    /// # Errors
    ///
    /// No answer, or one that is no JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let url = if path.starts_with('/') { format!("{}{path}", self.root) } else { format!("{}/{path}", self.base) };
        let mut request = self.client.request(method, url);
        request = request.header("Authorization", format!("Token {}", self.token));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if text.is_empty() {
            return Ok((status, Value::Null));
        }
        let value = serde_json::from_str(&text).with_context(|| format!("{path} answered {status} {text}"))?;
        Ok((status, value))
    }

    /// GET, expecting success.
    ///
    /// # Errors
    ///
    /// Any other answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.expect_success(Method::GET, path, None).await
    }

    /// POST, expecting success.
    ///
    /// # Errors
    ///
    /// Any other answer.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.expect_success(Method::POST, path, Some(body)).await
    }

    /// PATCH, expecting success.
    ///
    /// # Errors
    ///
    /// Any other answer.
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.expect_success(Method::PATCH, path, Some(body)).await
    }

    /// Every result of a paged list that does not change meanwhile: the first page tells how many there are.
    ///
    /// # Errors
    ///
    /// Any page that is not answered.
    pub async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = |number: u64| async move {
            let mut body = self.get(&format!("{path}{joint}page_size={PAGE_SIZE}&page={number}")).await?;
            let results = body["results"].as_array_mut().map(std::mem::take).unwrap_or_default();
            anyhow::Ok((results, body["count"].as_u64().unwrap_or_default()))
        };
        let (mut all, count) = page(1).await?;
        let others = stream::iter(2..=count.div_ceil(PAGE_SIZE)).map(page).buffered(PAGES_AT_ONCE);
        for (results, _) in others.try_collect::<Vec<_>>().await? {
            all.extend(results);
        }
        Ok(all)
    }

    async fn expect_success(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.call(method.clone(), path, body).await?;
        ensure!(status.is_success(), "{method} {path} answered {status} {answer}");
        Ok(answer)
    }
}
