//! What a `webhook` target is told, and what is wrong with it.

use std::collections::BTreeMap;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderName, PROXY_AUTHORIZATION};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::counts::is_pointer;
use super::template::{Change, Form, NAMES, names};
use super::{KEY, KIND, SIGNATURE, TIMESTAMP};
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::expression;
use crate::net::{self, Ask, Credential as Proof, Endpoint};

/// The settings of a `webhook` target. They have no `Debug`, since a URL may hold a token.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The service. `${service}` stands for it in `url`, `set_url`, `body` and `form`.
    #[schemars(length(min = 1, max = 255), pattern("^[^/:*\\s]+$"))]
    pub(super) service: String,
    /// The URL whose answer to GET tells the counts as JSON, https without a credential in it. Redirects are not followed.
    #[schemars(length(min = 1, max = 2048))]
    pub(super) url: String,
    /// Where the answer tells how many tasks are asked for: a JSON Pointer such as `/spec/replicas`, or a formula in the Expr
    /// language over the answer, `doc`. It must show a change as soon as the change was answered.
    #[schemars(length(max = 1024))]
    pub(super) desired: String,
    /// Where it tells how many run; the place of `desired` again where it tells no other count.
    #[schemars(length(max = 1024))]
    pub(super) running: String,
    /// Where it tells how many are being started. Without it those that were asked for and do not run.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    pub(super) pending: Option<String>,
    /// Where it tells whether a new version is being rolled out: true, or a number that is not 0. Without it none ever is.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    pub(super) rolling_out: Option<String>,
    /// Whether counts may also be given as text, `"42"`.
    #[serde(default)]
    pub(super) as_text: bool,
    /// Headers of the request for the counts. Secrets go into `credential`.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// Who asks for the counts: one of `bearer` (a token), `basic` (`user` and `password`), `header` and `parameter` of the query
    /// (`name` and `value`). Tokens, passwords and values are references such as `env:NAME` or `file:PATH`, or the secret itself.
    #[serde(default)]
    #[schemars(with = "Credential")]
    pub(super) credential: Option<Credential>,
    /// The URL that takes a change. In it, in `body` and in `form`, `${service}`, `${desired}`, `${current}` (the count before),
    /// `${delta}` (3 or -3), `${by}` (3) and `${direction}` (`up` or `down`) stand for the change.
    #[schemars(length(min = 1, max = 2048))]
    pub(super) set_url: String,
    /// The method of the request.
    #[serde(default)]
    pub(super) method: Verb,
    /// A JSON document to send: `{"count": ${desired}}`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 16384))]
    pub(super) body: Option<String>,
    /// A form to send, in place of `body`, by its fields.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) form: Option<BTreeMap<String, String>>,
    /// Headers of the request that changes the count.
    #[serde(default)]
    pub(super) set_headers: BTreeMap<String, String>,
    /// Who changes the count. Without it `credential`, where both URLs have the same host and port, and nobody elsewhere.
    #[serde(default)]
    #[schemars(with = "Credential")]
    pub(super) set_credential: Option<Credential>,
    /// A secret by which the receiver knows that the request is ours and how old it is: `X-Tidegate-Signature` is `sha256=` and the
    /// HMAC-SHA256, in hexadecimal, of `X-Tidegate-Timestamp` (seconds since 1970), a full stop and the body.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    pub(super) signature_secret: Option<Reference>,
    /// Where the answer to the change tells the new count, as `desired` is told. Another one than asked for is an error.
    #[serde(default)]
    #[schemars(with = "String", length(max = 1024))]
    pub(super) count: Option<String>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub(super) insecure_tls: bool,
}

/// Who asks.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Credential {
    /// A token, sent as `Authorization: Bearer`.
    Bearer(Reference),
    /// A user's name and password, sent as `Authorization: Basic`.
    Basic { user: String, password: Reference },
    /// A header of its own.
    Header { name: String, value: Reference },
    /// A parameter of the query, as Jenkins' `token`.
    Parameter { name: String, value: Reference },
}

/// A method that may change something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Verb {
    #[default]
    Post,
    Put,
    Patch,
    Get,
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Post => Self::POST,
            Verb::Put => Self::PUT,
            Verb::Patch => Self::PATCH,
            Verb::Get => Self::GET,
        }
    }
}

impl Credential {
    pub(super) fn secret(&self) -> &Reference {
        match self {
            Self::Bearer(secret) => secret,
            Self::Basic { password, .. } => password,
            Self::Header { value, .. } | Self::Parameter { value, .. } => value,
        }
    }

    /// The request with the secret in its place.
    pub(super) fn prove(&self, endpoint: &Endpoint, mut ask: Ask, secret: Secret<String>) -> Result<(Endpoint, Ask)> {
        let mut endpoint = endpoint.clone();
        match self {
            Self::Bearer(_) => ask.credential = Some(Proof::Bearer(secret)),
            Self::Basic { user, .. } => ask.credential = Some(Proof::Basic { user: user.clone(), password: secret }),
            Self::Header { name, .. } => ask.headers.push((header(name)?, secret.expose().clone())),
            Self::Parameter { name, .. } => endpoint = endpoint.with_query(&[(name, secret.expose())]),
        }
        Ok((endpoint, ask))
    }
}

impl Settings {
    /// A credential is for one host.
    pub(super) fn credential_to_set(&self) -> Option<&Credential> {
        let origin = |template| self.example(template).ok().map(|url| url.origin());
        let is_same = origin(&self.url).is_some_and(|one| origin(&self.set_url) == Some(one));
        self.set_credential.as_ref().or_else(|| self.credential.as_ref().filter(|_| is_same))
    }

    /// A URL with an example of what stands in it.
    fn example(&self, template: &str) -> Result<Url, (String, String)> {
        net::parse(&Change { service: &self.service, current: 1, desired: 2 }.fill(template, Form::Url))
    }

    /// What says the change.
    fn templates(&self) -> impl Iterator<Item = &str> {
        let form = self.form.iter().flat_map(BTreeMap::values);
        form.chain(&self.body).chain([&self.set_url]).map(String::as_str)
    }
}

fn header(name: &str) -> Result<HeaderName> {
    HeaderName::try_from(name)
        .map_err(|_| Error::new(ErrorKind::Config, "making a request", format!("{name:?} is no name of a header")))
}

pub(super) fn headers(given: &BTreeMap<String, String>) -> Result<Vec<(HeaderName, String)>> {
    given.iter().map(|(name, value)| Ok((header(name)?, value.clone()))).collect()
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    for (name, template) in [("url", &settings.url), ("set_url", &settings.set_url)] {
        match settings.example(template) {
            Err((problem, remedy)) => problems.push((format!("has {name} that {problem}"), remedy)),
            Ok(_) if place_of(template).contains('$') => {
                problems.push((format!("has {name} whose host is a template"), "write the host out".to_owned()));
            }
            Ok(_) => {}
        }
    }
    problems.extend(wrong_places(&settings));
    problems.extend(wrong_templates(&settings));
    problems.extend(wrong_headers(&settings));
    problems
}

/// Everything of a URL before its path.
fn place_of(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find(['/', '?', '#']).map_or(url.len(), |at| begin + at);
    &url[..end]
}

fn wrong_places(settings: &Settings) -> Vec<(String, String)> {
    let Settings { desired, running, pending, rolling_out, count, .. } = settings;
    let places = [
        ("desired", Some(desired)),
        ("running", Some(running)),
        ("pending", pending.as_ref()),
        ("rolling_out", rolling_out.as_ref()),
        ("count", count.as_ref()),
    ];
    let formulas = places.iter().filter_map(|(name, place)| Some((name, place.filter(|place| !is_pointer(place))?)));
    let problem = |(name, formula): (&&str, &String)| {
        let problem = expression::check(formula).err()?;
        let remedy = "give a JSON Pointer such as /spec/replicas, or a formula such as len(doc.tasks)";
        Some((format!("has {name} that is no JSON Pointer, and as a formula {problem}"), remedy.to_owned()))
    };
    formulas.filter_map(problem).collect()
}

fn wrong_templates(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    let mut problem = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    if names(&settings.url).iter().any(|name| *name != "service") {
        problem("has in url a ${…} other than ${service}", "leave it out");
    }
    let used: Vec<_> = settings.templates().flat_map(names).collect();
    if used.iter().any(|name| !NAMES.contains(name)) {
        let remedy = "use ${service}, ${desired}, ${current}, ${delta}, ${by} and ${direction}";
        problem("has a ${…} that stands for nothing", remedy);
    }
    let says = |name: &str| used.contains(&name);
    let says_how_many = says("desired") || says("delta") || (says("by") && says("direction"));
    if !says_how_many {
        let remedy = "put ${desired}, ${delta}, or ${by} and ${direction} into set_url, body or form";
        problem("does not say the change to the receiver", remedy);
    }
    let example = Change { service: &settings.service, current: 1, desired: 2 };
    let is_json = |body: &String| serde_json::from_str::<Value>(&example.fill(body, Form::Json)).is_ok();
    if !settings.body.as_ref().is_none_or(is_json) {
        problem("has a body that is no JSON with the names filled in", r#"give one such as {"count": ${desired}}"#);
    }
    match (&settings.body, &settings.form) {
        (Some(_), Some(_)) => problem("has both body and form", "keep one of them"),
        (None, None) if settings.signature_secret.is_some() => {
            problem("has signature_secret and nothing to sign", "give body or form");
        }
        (Some(_), None) | (None, Some(_)) if settings.method == Verb::Get => {
            problem("has a GET with a document", "give another method, or put the change into set_url");
        }
        _ => {}
    }
    problems
}

fn wrong_headers(settings: &Settings) -> Vec<(String, String)> {
    let credentials = settings.credential.iter().chain(&settings.set_credential);
    let of_credentials = credentials.filter_map(|credential| match credential {
        Credential::Header { name, .. } => Some(name),
        _ => None,
    });
    let given = settings.headers.keys().chain(settings.set_headers.keys());
    let mut problems: Vec<_> = (given.clone().chain(of_credentials))
        .filter(|name| header(name).is_err())
        .map(|name| {
            (format!("has a header {name:?}, which is no name of one"), "give a name such as X-Team".to_owned())
        })
        .collect();
    for name in given.filter_map(|name| header(name).ok()) {
        if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) {
            problems.push((format!("has a secret in the header {name}"), "give it as credential".to_owned()));
        }
        if [KEY, TIMESTAMP, SIGNATURE].contains(&name) {
            problems.push((format!("has the header {name}, which is ours"), "leave it out".to_owned()));
        }
    }
    problems
}

/// Both hosts and the path that takes the change, so that an allow-list sees where a secret may go.
pub(super) fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let (Ok(url), Ok(set_url)) = (settings.example(&settings.url), settings.example(&settings.set_url)) else {
        return Vec::new();
    };
    let segments = set_url.path_segments().into_iter().flatten().filter(|segment| !segment.is_empty());
    let mut path = vec![net::host_and_port(&url)];
    path.extend(segments.map(str::to_owned));
    path.push(settings.service);
    vec![Identity { provider: KIND.name, region: net::host_and_port(&set_url), account: Some("-".to_owned()), path }]
}
