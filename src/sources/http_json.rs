//! A number in a JSON document that is asked for by HTTP.
//!
//! The number is named by a JSON Pointer (RFC 6901, <https://www.rfc-editor.org/rfc/rfc6901>) or is the result of a formula.
//! KEDA's `metrics-api` scaler does the same by another notation (<https://keda.sh/docs/latest/scalers/metrics-api/>), and
//! takes quantities such as `100m` too; here a text is taken for a number only where `as_text` says so, and then only a plain one.
//! An application that itself says how many tasks it wants, as with autoscalebot's `AppDecisionBackend`, is read like any other.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::document::{Fields, Wanted, parse as parse_document};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::error::Result;
use crate::net::{self, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "http_json",
    aliases: &["metrics-api"],
    about: "A number, or the counts of a queue, in a JSON document by HTTP.",
    renamed: &[],
    env: &[("HTTP_JSON_URL", "url"), ("HTTP_JSON_POINTER", "pointer"), ("HTTP_JSON_BEARER_TOKEN", "bearer_token")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `http_json` source. They have no `Debug`, since a URL may hold a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The URL of the document, https without a credential in it. Redirects are not followed.
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// Where the number is, as a JSON Pointer such as `/queue/waiting`. Without it the document itself is the number.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    pointer: Option<String>,
    /// The number as a formula in the Expr language over the document, `doc`, in place of `pointer`: `sum(doc.queues, .waiting)`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    expression: Option<String>,
    /// Where the counts of a queue are, in place of `pointer`.
    #[serde(default)]
    #[schemars(with = "Fields")]
    fields: Option<Fields>,
    /// Where the time is at which the numbers were taken: RFC 3339 text, or seconds since 1970. Without it they count as fresh.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    taken_at: Option<String>,
    /// Whether numbers may also be given as text, `"42"`.
    #[serde(default)]
    as_text: bool,
    /// The token to send as `Authorization: Bearer`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    bearer_token: Option<Reference>,
    /// The user to be, in place of a token.
    #[serde(default)]
    #[schemars(with = "Basic")]
    basic: Option<Basic>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

/// A user's name and password, sent as `Authorization: Basic`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user's name.
    #[schemars(length(min = 1))]
    user: String,
    /// The password; a reference such as `env:NAME` or `file:PATH`, or the password itself.
    password: Reference,
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    problems.extend(settings.wanted().problems());
    if settings.basic.is_some() && settings.bearer_token.is_some() {
        problems.push(("has both bearer_token and basic".to_owned(), "keep one of them".to_owned()));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let url = parse::<Settings>(settings).ok().and_then(|settings| net::parse(&settings.url).ok());
    let identity = |url| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![net::host_and_port(&url)],
    };
    url.map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?;
    Ok(Box::new(HttpJson { http: shared.http.clone(), secrets: shared.secrets().clone(), endpoint, settings }))
}

struct HttpJson {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    settings: Settings,
}

impl fmt::Debug for HttpJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpJson({:?})", self.endpoint)
    }
}

#[async_trait]
impl Source for HttpJson {
    async fn read(&self) -> Result<Measurement> {
        let body = self.body().await?;
        self.settings.wanted().read(parse_document(&body)?).await
    }
}

impl HttpJson {
    async fn body(&self) -> Result<Vec<u8>> {
        let get = async |credential: Credential| self.http.get(&self.endpoint, Some(&credential)).await;
        match (&self.settings.bearer_token, &self.settings.basic) {
            (Some(token), _) => self.secrets.with(token, |token| get(Credential::Bearer(token))).await,
            (None, Some(Basic { user, password })) => {
                let credential = |password| Credential::Basic { user: user.clone(), password };
                self.secrets.with(password, |password| get(credential(password))).await
            }
            (None, None) => self.http.get(&self.endpoint, None).await,
        }
    }
}

impl Settings {
    fn wanted(&self) -> Wanted {
        let Self { pointer, expression, fields, taken_at, as_text, .. } = self.clone();
        Wanted { pointer, expression, fields, taken_at, as_text }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "url": format!("{endpoint}/depth?key=canary-key"), "pointer": "/waiting", "bearer_token": "canary-token" })
    }

    /// What the source asks of an endpoint is its own description: a document with a number in it.
    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
        let status = |status: u16| Reply::new(status, "canary");
        match scene {
            Scene::Amount(waiting) => Reply::new(200, json!({ "waiting": waiting }).to_string()),
            Scene::Malformed => Reply::new(200, r#"{"waiting": NaN}"#),
            Scene::Missing => Reply::new(200, r#"{"waiting": null}"#),
            Scene::Denied => status(401),
            Scene::NotFound => status(404),
            Scene::Throttled => status(429).header("retry-after", "3600"),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for settings in [
            json!({ "url": "https://user:canary@example.com/" }),
            json!({ "url": "ftp://example.com/" }),
            json!({ "url": "https://example.com/", "pointer": "a.b" }),
            json!({ "url": "https://example.com/", "fields": { "backlog": "a" } }),
            json!({ "url": "https://example.com/", "pointer": "/a", "fields": { "backlog": "/a" } }),
            json!({ "url": "https://example.com/", "bearer_token": "a", "basic": { "user": "a", "password": "b" } }),
        ] {
            let problems = check(&settings);
            assert_eq!(problems.len(), 1, "{settings}: {problems:?}");
            assert!(!format!("{problems:?}").contains("canary"));
        }
    }
}
