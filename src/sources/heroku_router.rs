//! The service time of requests, from the log lines of Heroku's router.
//!
//! Their form: <https://devcenter.heroku.com/articles/http-routing#heroku-router-log-format>; with errors such as `H12`:
//! <https://devcenter.heroku.com/articles/error-codes>. They come from a URL that returns log lines, or in the event: Heroku
//! posts them to a drain (<https://devcenter.heroku.com/articles/log-drains#https-drains>), which may be the function's URL.
//!
//! autoscalebot's `HerokuServiceTimeBackend` (<https://github.com/wieden-kennedy/autoscalebot>) looked for `service=…ms` anywhere
//! in a line. Here a line is the router's by its head, since an application may log what it likes, and of several fields of
//! one name in a line the last is the router's, since a path may have any text.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::ACCEPT;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::payload::event::{self, Found};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::{Amount, Finite};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "heroku_router",
    aliases: &[],
    about: "The service time of requests in milliseconds, from the log lines of Heroku's router.",
    renamed: &[("MEASUREMENT_URL", "path")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `heroku_router` source. They have no `Debug`, since a URL may hold a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A URL that returns log lines, https without a credential in it. Without it, they are in the event, as Heroku posts
    /// them to a drain that is the function's URL.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// What the paths of the requests begin with that count. Default: all.
    #[serde(default = "all")]
    #[schemars(length(max = 1024))]
    path: String,
    /// The type of the dynos that count, such as `web`. Default: all.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64))]
    dyno: Option<String>,
    /// What the number is. Default `service`.
    #[serde(default)]
    value: Number,
    /// Which percentile, by nearest rank, 1 to 100. Default 95.
    #[serde(default = "ninety_five")]
    #[schemars(range(min = 1, max = 100))]
    percentile: u32,
    /// How far back from the newest line others count, in seconds, 1 to 86400. Default 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    window_secs: u32,
    /// The token to send as `Authorization: Bearer`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    bearer_token: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
    /// What was found in the event.
    #[serde(default)]
    #[schemars(skip)]
    found: Option<Found>,
}

/// What the number is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Number {
    /// A percentile of the milliseconds that dynos took. A request that timed out (H12) took 30000.
    #[default]
    Service,
    /// A percentile of the milliseconds that connecting to dynos took, which grow where requests queue.
    Connect,
    /// How many percent of the requests ended in an error of the router's (H10, H12 and so on).
    ErrorPercent,
}

fn all() -> String {
    "/".to_owned()
}

fn ninety_five() -> u32 {
    95
}

fn five_minutes() -> u32 {
    300
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    settings.url.iter().filter_map(|url| net::parse(url).err()).collect()
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let place = match settings.url.as_deref().map(net::parse) {
        Some(Ok(url)) => net::host_and_port(&url),
        Some(Err(_)) => return Vec::new(),
        None => "event".to_owned(),
    };
    let path = vec![place, settings.path];
    vec![Identity { provider: KIND.name, region: "-".to_owned(), account: None, path }]
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = settings.url.as_deref().map(|url| shared.http.endpoint(url, tls)).transpose()?;
    Ok(Box::new(Router { http: shared.http.clone(), secrets: shared.secrets().clone(), endpoint, settings }))
}

/// Puts what these settings find in an event into them.
pub(super) fn take(settings: &mut Value, event: &Value) -> Result<()> {
    let read: Settings = parse(settings)?;
    if read.url.is_none() {
        let event = event::readable(event);
        let missing = || Error::new(ErrorKind::Missing, "reading the drain", "the event has no body of log lines");
        let found = event["body"].as_str().ok_or_else(missing).and_then(|body| read.measure(body));
        settings[event::FOUND] = Found::of(found, &event).into_settings();
    }
    Ok(())
}

struct Router {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Option<Endpoint>,
    settings: Settings,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Router({:?})", self.endpoint)
    }
}

#[async_trait]
impl Source for Router {
    async fn read(&self) -> Result<Measurement> {
        match (&self.endpoint, &self.settings.found) {
            (Some(endpoint), _) => self.settings.measure(&self.lines(endpoint).await?),
            (None, Some(found)) => found.measurement(),
            (None, None) => Err(Error::new(ErrorKind::Bug, "reading the event", "nothing was looked for in it")),
        }
    }
}

impl Router {
    async fn lines(&self, endpoint: &Endpoint) -> Result<String> {
        let get = async |credential| {
            let headers = vec![(ACCEPT, "text/plain".to_owned())];
            self.http.ask(endpoint, Ask { headers, credential, ..Ask::default() }).await?.success()
        };
        let answer = match &self.settings.bearer_token {
            Some(token) => self.secrets.with(token, async |token| get(Some(Credential::Bearer(token))).await).await?,
            None => get(None).await?,
        };
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }
}

impl Settings {
    fn measure(&self, text: &str) -> Result<Measurement> {
        let fail = |kind, cause: String| Error::new(kind, "reading log lines of the router", cause);
        let requests: Vec<_> = lines(text).filter_map(router_line).filter(|request| self.counts(request)).collect();
        let newest = requests.iter().map(|request| request.at).max();
        let newest = newest.ok_or_else(|| {
            fail(ErrorKind::Missing, "none of them is of the router, for this path and dyno".to_owned())
        })?;
        let oldest = newest.saturating_sub(SignedDuration::from_secs(self.window_secs.into())).unwrap_or(newest);
        let recent = || requests.iter().filter(|request| oldest <= request.at);
        let number = match self.value {
            Number::ErrorPercent => {
                let errors = recent().filter(|request| request.field("at") == Some("error")).count();
                100.0 * errors as f64 / recent().count() as f64
            }
            Number::Service => self.percentile(recent(), "service")?,
            Number::Connect => self.percentile(recent(), "connect")?,
        };
        let value = Finite::try_from(number).map_err(|cause| fail(ErrorKind::Malformed, cause))?;
        Ok(Measurement::from(Amount::Gauge { value }).taken(Some(newest)))
    }

    fn counts(&self, request: &Request<'_>) -> bool {
        let path = request.quoted("path").unwrap_or_default();
        let is_of =
            |dyno: &String| request.field("dyno").is_some_and(|name| name.split('.').next() == Some(dyno.as_str()));
        path.starts_with(&self.path) && self.dyno.as_ref().is_none_or(is_of)
    }

    /// The percentile of a time. Requests that no dyno took have none; where none has one, there is no number.
    fn percentile<'a>(&self, requests: impl Iterator<Item = &'a Request<'a>>, name: &str) -> Result<f64> {
        let fail = |kind, cause: &str| Error::new(kind, "reading log lines of the router", format!("{name}: {cause}"));
        let given = requests.filter_map(|request| request.field(name)).filter(|text| !text.is_empty());
        let time = |text: &str| text.strip_suffix("ms").and_then(|digits| digits.parse::<u32>().ok());
        let times: Option<Vec<_>> = given.map(time).collect();
        let mut times = times.ok_or_else(|| fail(ErrorKind::Malformed, "a time is no number of milliseconds"))?;
        times.sort_unstable();
        let rank = (times.len() * self.percentile as usize).div_ceil(100).max(1);
        let found = times.get(rank - 1).map(|time| f64::from(*time));
        found.ok_or_else(|| fail(ErrorKind::Missing, "no request has it, as where no dyno runs"))
    }
}

/// One request as the router logged it.
struct Request<'a> {
    at: Timestamp,
    fields: &'a str,
}

impl<'a> Request<'a> {
    /// The last field of this name that is written without quotes; `at` is the first of a line.
    fn field(&self, name: &str) -> Option<&'a str> {
        if name == "at" {
            return self.fields.strip_prefix("at=")?.split(' ').next();
        }
        let mut fields = self.fields.split(' ').rev();
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    }

    /// The first field of this name that is written in quotes.
    fn quoted(&self, name: &str) -> Option<&'a str> {
        let (_, rest) = self.fields.split_once(&format!(" {name}=\""))?;
        rest.split('"').next()
    }
}

/// The lines of a text: framed by their length as in a drain, or each to its end.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n']);
        (!rest.is_empty()).then_some(())?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let length = rest[digits..].starts_with(" <").then(|| rest[..digits].parse().ok()).flatten();
        let framed = length.and_then(|length: usize| {
            let begin = digits + 1;
            let end = begin.checked_add(length)?;
            Some((rest.get(begin..end)?, &rest[end..]))
        });
        let (line, after) = framed.unwrap_or_else(|| rest.split_once('\n').unwrap_or((rest, "")));
        rest = after;
        Some(line.trim_end())
    })
}

/// A line of the router: `TIME heroku[router]: FIELDS`, or in a drain `<158>1 TIME HOST heroku router - FIELDS`.
fn router_line(line: &str) -> Option<Request<'_>> {
    let (time, fields) = match line.starts_with('<') {
        true => {
            let mut parts = line.splitn(7, ' ');
            let (_, time, _) = (parts.next()?, parts.next()?, parts.next()?);
            let is_router = parts.next()? == "heroku" && parts.next()? == "router" && parts.next()? == "-";
            (time, parts.next().filter(|_| is_router)?)
        }
        false => {
            let (time, rest) = line.split_once(' ')?;
            (time, rest.strip_prefix("heroku[router]: ")?)
        }
    };
    Some(Request { at: time.parse().ok()?, fields })
}

#[cfg(test)]
mod tests;
