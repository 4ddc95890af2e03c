//! A number in a JSON document that is asked for by HTTP.
//!
//! The number is named by a JSON Pointer (RFC 6901, <https://www.rfc-editor.org/rfc/rfc6901>). KEDA's `metrics-api` scaler does
//! the same by another notation (<https://keda.sh/docs/latest/scalers/metrics-api/>), and takes quantities such as `100m`
//! too; here a text is taken for a number only where `as_text` says so, and then only a plain one.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::{Amount, Finite, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
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
    #[schemars(length(max = 1024))]
    pointer: String,
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

/// The counts of a queue, each a JSON Pointer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Fields {
    /// Messages that wait and can be received now.
    #[schemars(length(max = 1024))]
    backlog: String,
    /// Messages received and not yet acknowledged.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    in_flight: Option<String>,
    /// Messages that wait and cannot be received yet.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    delayed: Option<String>,
    /// Age of the oldest waiting message in seconds.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    oldest_age_secs: Option<String>,
}

impl Fields {
    fn pointers(&self) -> impl Iterator<Item = &String> {
        let Self { backlog, in_flight, delayed, oldest_age_secs } = self;
        [Some(backlog), in_flight.as_ref(), delayed.as_ref(), oldest_age_secs.as_ref()].into_iter().flatten()
    }
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
    let fields = settings.fields.iter().flat_map(Fields::pointers);
    let mut pointers = fields.chain(&settings.taken_at).chain([&settings.pointer]);
    if pointers.any(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        let remedy = "begin it with /, as in /queue/waiting";
        problems.push(("has a JSON Pointer that is none".to_owned(), remedy.to_owned()));
    }
    let mut twice = |both: bool, names: &str| {
        if both {
            problems.push((format!("has both {names}"), "keep one of them".to_owned()));
        }
    };
    twice(settings.fields.is_some() && !settings.pointer.is_empty(), "pointer and fields");
    twice(settings.basic.is_some() && settings.bearer_token.is_some(), "bearer_token and basic");
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
        let document: Value = serde_json::from_slice(&body).map_err(|error| {
            let cause = format!("the answer is no JSON (line {}, column {})", error.line(), error.column());
            wrong(ErrorKind::Malformed, cause)
        })?;
        let taken_at = self.settings.taken_at.as_deref().map(|at| time(&document, at)).transpose()?;
        Ok(Measurement { amount: self.settings.amount(&document)?, taken_at })
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
    fn amount(&self, document: &Value) -> Result<Amount> {
        let Some(fields) = &self.fields else {
            return Ok(Amount::Gauge { value: self.number(document, &self.pointer)? });
        };
        let count = |pointer: &String| self.count(document, pointer);
        let age = |pointer: &String| self.number(document, pointer).map(|age| age.get() as u64);
        Ok(Amount::Queue(QueueDepth {
            backlog: count(&fields.backlog)?,
            in_flight: fields.in_flight.as_ref().map(count).transpose()?,
            delayed: fields.delayed.as_ref().map(count).transpose()?,
            oldest_age_secs: fields.oldest_age_secs.as_ref().map(age).transpose()?,
        }))
    }

    /// A count of messages; more than fit are the most that fit.
    fn count(&self, document: &Value, pointer: &str) -> Result<u64> {
        let number = self.number(document, pointer)?.get();
        match number.fract() == 0.0 {
            true => Ok(number as u64),
            false => Err(wrong(ErrorKind::Malformed, format!("{pointer:?} is {number}, and no whole number"))),
        }
    }

    fn number(&self, document: &Value, pointer: &str) -> Result<Finite> {
        let number = match at(document, pointer)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.as_text => text.trim().parse().ok(),
            _ => None,
        };
        let malformed = |what: String| wrong(ErrorKind::Malformed, format!("{pointer:?} is {what}"));
        let number = number.ok_or_else(|| malformed("no number".to_owned()))?;
        Finite::try_from(number).map_err(|_| malformed(format!("{number}, and no finite number of at least 0")))
    }
}

/// What a pointer leads to. Null is nothing.
fn at<'a>(document: &'a Value, pointer: &str) -> Result<&'a Value> {
    let found = document.pointer(pointer).filter(|value| !value.is_null());
    found.ok_or_else(|| wrong(ErrorKind::Missing, format!("there is nothing at {pointer:?}")))
}

fn time(document: &Value, pointer: &str) -> Result<Timestamp> {
    let read = match at(document, pointer)? {
        Value::String(text) => text.parse().ok(),
        Value::Number(seconds) => {
            let seconds = seconds.as_f64().filter(|seconds| seconds.abs() < 1e12);
            seconds.and_then(|seconds| Timestamp::from_millisecond((seconds * 1000.0) as i64).ok())
        }
        _ => None,
    };
    let cause = || format!("{pointer:?} is neither RFC 3339 text nor seconds since 1970");
    read.ok_or_else(|| wrong(ErrorKind::Malformed, cause()))
}

fn wrong(kind: ErrorKind, cause: String) -> Error {
    Error::new(kind, "reading the JSON document", cause)
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

    fn read(settings: Value, document: &Value) -> Result<Amount> {
        let mut all = json!({ "url": "https://example.com/" });
        all.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        parse::<Settings>(&all)?.amount(document)
    }

    fn gauge(number: f64) -> Amount {
        Amount::Gauge { value: Finite::try_from(number).expect("finite") }
    }

    #[test]
    fn a_number_is_found_where_the_pointer_says() {
        let document = json!({ "queues": [{ "waiting": 3 }, { "waiting": 4.5 }], "a/b": 1, "~": 2, "text": " 42 " });
        for (pointer, number) in [("/queues/1/waiting", 4.5), ("/queues/0/waiting", 3.0), ("/a~1b", 1.0), ("/~0", 2.0)]
        {
            assert_eq!(read(json!({ "pointer": pointer }), &document).expect(pointer), gauge(number));
        }
        assert_eq!(read(json!({}), &json!(7)).expect("the document is the number"), gauge(7.0));
        assert_eq!(read(json!({ "pointer": "/text", "as_text": true }), &document).expect("allowed"), gauge(42.0));
    }

    #[test]
    fn what_is_no_number_is_never_zero() {
        let texts = json!({ "as_text": true });
        for (settings, document, kind) in [
            (json!({}), json!(null), ErrorKind::Missing),
            (json!({ "pointer": "/a" }), json!({}), ErrorKind::Missing),
            (json!({ "pointer": "/a" }), json!({ "a": null }), ErrorKind::Missing),
            (json!({ "pointer": "/a/0" }), json!({ "a": [] }), ErrorKind::Missing),
            (json!({}), json!([]), ErrorKind::Malformed),
            (json!({}), json!([5]), ErrorKind::Malformed),
            (json!({}), json!({}), ErrorKind::Malformed),
            (json!({}), json!(true), ErrorKind::Malformed),
            (json!({}), json!("5"), ErrorKind::Malformed),
            (json!({}), json!(-1), ErrorKind::Malformed),
            (json!({}), json!(-0.5), ErrorKind::Malformed),
            (texts.clone(), json!("NaN"), ErrorKind::Malformed),
            (texts.clone(), json!("inf"), ErrorKind::Malformed),
            (texts.clone(), json!("-inf"), ErrorKind::Malformed),
            (texts.clone(), json!("+Infinity"), ErrorKind::Malformed),
            (texts.clone(), json!("1e999"), ErrorKind::Malformed),
            (texts.clone(), json!("-3"), ErrorKind::Malformed),
            (texts.clone(), json!("100m"), ErrorKind::Malformed),
            (texts.clone(), json!("0x10"), ErrorKind::Malformed),
            (texts, json!(""), ErrorKind::Malformed),
            (json!({ "fields": { "backlog": "/a" } }), json!({ "a": 1.5 }), ErrorKind::Malformed),
            (json!({ "fields": { "backlog": "/a", "delayed": "/b" } }), json!({ "a": 1 }), ErrorKind::Missing),
        ] {
            let error = read(settings.clone(), &document).expect_err("it is no number");
            assert_eq!(error.kind(), kind, "{settings} {document}: {error}");
        }
    }

    #[test]
    fn a_queue_has_the_counts_that_are_pointed_at_and_no_others() {
        let document = json!({ "ready": 5, "unacked": 2, "age": 12.9, "spike": 1e300 });
        let fields = json!({ "fields": { "backlog": "/ready", "in_flight": "/unacked", "oldest_age_secs": "/age" } });
        let depth = QueueDepth { backlog: 5, in_flight: Some(2), delayed: None, oldest_age_secs: Some(12) };
        assert_eq!(read(fields, &document).expect("all are there"), Amount::Queue(depth));
        let spike = read(json!({ "fields": { "backlog": "/spike" } }), &document).expect("it is a number");
        assert_eq!(spike, Amount::Queue(QueueDepth { backlog: u64::MAX, ..QueueDepth::default() }));
    }

    #[test]
    fn a_time_is_text_or_seconds() {
        let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("a time");
        for given in [json!("2026-11-22T12:00:00Z"), json!("2026-11-22T13:00:00+01:00"), json!(noon.as_second())] {
            assert_eq!(time(&json!({ "at": given }), "/at").expect("a time"), noon);
        }
        for given in
            [json!("noon"), json!(noon.as_millisecond()), json!(1e300), json!(true), json!("2026-11-22T12:00:00")]
        {
            assert_eq!(time(&json!({ "at": given }), "/at").expect_err("no time").kind(), ErrorKind::Malformed);
        }
        assert_eq!(time(&json!({}), "/at").expect_err("no time").kind(), ErrorKind::Missing);
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
