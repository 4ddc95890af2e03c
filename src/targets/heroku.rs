//! Heroku: how many dynos of a process type the formation of an app asks for.
//!
//! Reads the [formation](https://devcenter.heroku.com/articles/platform-api-reference#formation-list), the
//! [dynos](https://devcenter.heroku.com/articles/platform-api-reference#dyno-list) and the
//! [app](https://devcenter.heroku.com/articles/platform-api-reference#app-info), three calls for all process types of an app, and sets
//! [`quantity`](https://devcenter.heroku.com/articles/platform-api-reference#formation-update) and nothing else: the size of the dynos stays.
//!
//! Which dynos a scale-in takes is Heroku's choice. They get SIGTERM, and 30 s later SIGKILL
//! (<https://devcenter.heroku.com/articles/dyno-shutdown-behavior>).
//!
//! autoscalebot (<https://github.com/wieden-kennedy/autoscalebot>) read the count once and kept it for ever, so that it never saw what
//! others changed, and its released version scaled `web` alone. Here each tick reads the formation, of any process type.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join3;
use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderName, RANGE};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Applied, Target, refusal};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret, matches_pattern};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Answer, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// Most pages of a list, of 200 entries each where the API is not told otherwise
/// (<https://devcenter.heroku.com/articles/platform-api-reference#ranges>). An app has 100 dynos of a type by default.
const MOST_PAGES: usize = 20;

/// Most letters of an app's name, which no id is short enough for: <https://devcenter.heroku.com/articles/creating-apps>.
const LONGEST_NAME: usize = 30;

/// Process types that a `*` does not stand for: one runs at each release, and Ruby's buildpack adds the others to every app
/// for one-off dynos. None of them is a service.
const ONE_OFF: [&str; 3] = ["console", "rake", "release"];

/// The type of the dynos in which a release is prepared (<https://devcenter.heroku.com/articles/release-phase>).
const RELEASE_PHASE: &str = "release";

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "heroku",
    aliases: &[],
    about: "Heroku: the number of dynos of a process type.",
    renamed: &[
        ("HEROKU_APP_NAME", "app"),
        ("APP_NAME", "app"),
        ("WORKER_NAME", "process"),
        ("HEROKU_API_KEY", "token"),
        ("API_KEY", "token"),
    ],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of a `heroku` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The app, by its name. Its id is refused, since one app would have two names here.
    #[schemars(length(min = 1, max = 128))]
    app: String,
    /// The process type, such as `worker`. A `*` in it stands for any text: all process types of the app that match, other than `console`,
    /// `rake` and `release`, which are no services.
    #[schemars(length(min = 1, max = 128))]
    process: String,
    /// The token, with the scopes `read` and `write`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    token: Reference,
    /// The URL of the API. Default `https://api.heroku.com`.
    #[serde(default = "api")]
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

fn api() -> String {
    "https://api.heroku.com".to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let of_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if LONGEST_NAME < settings.app.len() || !settings.app.chars().all(of_name) {
        let problem =
            format!("has an app that is no name: up to {LONGEST_NAME} lower-case letters, digits and hyphens");
        problems.push((problem, "give the app's name, not its id".to_owned()));
    }
    if !settings.process.chars().all(|letter| is_plain(letter) || letter == '*') {
        let remedy = "give one as the Procfile has it, such as worker".to_owned();
        problems.push(("has a process that Heroku cannot have".to_owned(), remedy));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(Settings { app, process, url, .. }) = parse(settings) else { return Vec::new() };
    let Ok(url) = net::parse(&url) else { return Vec::new() };
    vec![Identity {
        provider: KIND.name,
        region: net::host_and_port(&url),
        account: Some("-".to_owned()),
        path: [net::names_of_path(&url), vec![app, process]].concat(),
    }]
}

fn build(given: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings = parse::<Settings>(given)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?.below(&["apps", &settings.app]);
    let mut alike = given.clone();
    alike["process"].take();
    Ok(Box::new(Heroku {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        endpoint,
        settings,
        asked_with: alike.to_string(),
        given: given.clone(),
    }))
}

struct Heroku {
    http: Arc<Http>,
    secrets: Secrets,
    /// The app.
    endpoint: Endpoint,
    settings: Settings,
    asked_with: String,
    given: Value,
}

impl fmt::Debug for Heroku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Heroku({:?}, {})", self.endpoint, self.settings.app)
    }
}

/// A process type and how many dynos of it were asked for.
#[derive(Debug, Deserialize)]
struct Process {
    r#type: String,
    quantity: u32,
}

#[derive(Debug, Deserialize)]
struct Dyno {
    r#type: String,
    state: String,
    release: Release,
}

#[derive(Debug, Deserialize)]
struct Release {
    version: u64,
}

#[derive(Debug, Deserialize)]
struct App {
    maintenance: bool,
}

/// An app as it is.
struct Seen {
    formation: Vec<Process>,
    dynos: Vec<Dyno>,
    app: App,
}

#[async_trait]
impl Target for Heroku {
    async fn statuses(&self, processes: &[String]) -> Vec<Result<TargetStatus>> {
        let reading =
            |process: &String| format!("reading status of process {process:?} of app {:?}", self.settings.app);
        match self.secrets.with(&self.settings.token, |token| self.look(token)).await {
            Ok(seen) => {
                let status = |process: &String| {
                    seen.status(process).map_err(|(kind, why)| Error::new(kind, reading(process), why))
                };
                processes.iter().map(status).collect()
            }
            Err(error) => {
                let error = Arc::new(error);
                let each = |process: &String| {
                    Error::new(error.kind(), reading(process), error.to_string()).caused_by(error.clone())
                };
                processes.iter().map(|process| Err(each(process))).collect()
            }
        }
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let list = |token| async move { self.list::<Process>("formation", &token).await };
        let formation = self.secrets.with(&self.settings.token, list).await;
        let during = || format!("looking for processes {:?} of app {:?}", self.settings.process, self.settings.app);
        let formation =
            formation.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        let stands_for = |kind: &String| {
            let is_service = !ONE_OFF.contains(&kind.as_str()) || *kind == self.settings.process;
            is_service && matches_pattern(&self.settings.process, kind)
        };
        let mut found: Vec<_> = formation.into_iter().map(|process| process.r#type).filter(stands_for).collect();
        found.sort_unstable();
        let filled_in = |process| {
            let mut settings = self.given.clone();
            settings["process"] = Value::String(process);
            settings
        };
        Ok(found.into_iter().map(filled_in).collect())
    }

    async fn set_desired(&self, process: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting quantity of process {process:?} of app {:?} to {desired}", self.settings.app);
        let set = self.secrets.with(&self.settings.token, |token| self.patch(process, desired, token)).await;
        let set = set.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        match set.quantity == desired && set.r#type == process {
            true => Ok(Applied::Set),
            false => {
                let cause = format!("the answer says {} of {:?}", set.quantity, set.r#type);
                Err(Error::new(ErrorKind::Malformed, during(), cause))
            }
        }
    }
}

impl Heroku {
    async fn look(&self, token: Secret<String>) -> Result<Seen> {
        let app = async { read(&self.ask(&self.endpoint, Ask::default(), &token).await?, "app") };
        let (formation, dynos) = (self.list("formation", &token), self.list("dynos", &token));
        let (formation, dynos, app) = try_join3(formation, dynos, app).await?;
        Ok(Seen { formation, dynos, app })
    }

    /// Reads a whole list, page by page.
    async fn list<T: DeserializeOwned>(&self, what: &str, token: &Secret<String>) -> Result<Vec<T>> {
        let (endpoint, mut all, mut next) = (self.endpoint.below(&[what]), Vec::new(), None);
        for _ in 0..MOST_PAGES {
            let headers = next.take().map(|range| (RANGE, range)).into_iter().collect();
            let answer = self.ask(&endpoint, Ask { headers, ..Ask::default() }, token).await?;
            all.extend(read::<Vec<T>>(&answer, what)?);
            if answer.status != 206 {
                return Ok(all);
            }
            next = header(&answer, "next-range").map(str::to_owned);
            if next.is_none() {
                let cause = format!("a page of its {what} is not the last, and no next one is named");
                return Err(Error::new(ErrorKind::Malformed, endpoint.during(), cause));
            }
        }
        let cause = format!("its {what} take more than {MOST_PAGES} pages");
        Err(Error::new(ErrorKind::Malformed, endpoint.during(), cause))
    }

    async fn patch(&self, process: &str, quantity: u32, token: Secret<String>) -> Result<Process> {
        let endpoint = self.endpoint.below(&["formation", process]);
        let body = Some(json!({ "quantity": quantity }).to_string());
        let ask = Ask { body, method: Some(Method::PATCH), ..Ask::default() };
        read(&self.ask(&endpoint, ask, &token).await?, "formation")
    }

    async fn ask(&self, endpoint: &Endpoint, mut ask: Ask, token: &Secret<String>) -> Result<Answer> {
        // Without it the API answers 406, or by another version.
        ask.headers.push((ACCEPT, "application/vnd.heroku+json; version=3".to_owned()));
        ask.credential = Some(Credential::Bearer(token.clone()));
        let is_change = ask.method.is_some();
        let answer = self.http.ask(endpoint, ask).await?;
        let (status, left) = (answer.status, header(&answer, "ratelimit-remaining").map(str::to_owned));
        refusal::success(answer, Some(token), words)
            .map_err(|error| explained(status, is_change, left.as_deref(), &error))
    }
}

/// What an error means here: <https://devcenter.heroku.com/articles/platform-api-reference#errors>.
fn explained(status: u16, is_change: bool, left: Option<&str>, error: &Error) -> Error {
    let (kind, hint) = match status {
        401 => (ErrorKind::Denied, "; the token is wrong, revoked or expired".to_owned()),
        403 => (
            ErrorKind::Denied,
            "; the token takes the scopes read and write, and in a team its user the permission operate".to_owned(),
        ),
        // Nothing was changed.
        409 if is_change => (ErrorKind::Locked, String::new()),
        429 => (
            ErrorKind::Throttled,
            format!("; the account has {} calls left of 4500 an hour; tick less often", left.unwrap_or("no")),
        ),
        _ => (error.kind(), String::new()),
    };
    Error::new(kind, "", format!("{error}{hint}"))
}

/// `cannot_update_above_limit: Cannot update to more than 1 Eco size dynos per process type.`
fn words(document: &Value) -> Option<String> {
    Some(format!("{}: {}", document["id"].as_str()?, document["message"].as_str()?))
}

fn header<'a>(answer: &'a Answer, name: &'static str) -> Option<&'a str> {
    answer.headers.get(HeaderName::from_static(name))?.to_str().ok()
}

fn read<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let cause = format!("its {what} cannot be understood: {error}");
        Error::new(ErrorKind::Malformed, answer.during(), cause)
    })
}

impl Seen {
    fn status(&self, name: &str) -> Result<TargetStatus, (ErrorKind, String)> {
        let Some(process) = self.formation.iter().find(|process| process.r#type == name) else {
            let known: Vec<_> = self.formation.iter().map(|process| process.r#type.as_str()).collect();
            return Err((ErrorKind::NotFound, format!("the app has no such process type, only: {}", known.join(", "))));
        };
        let ours = || self.dynos.iter().filter(|dyno| dyno.r#type == name);
        let in_state = |states: &[&str]| ours().filter(|dyno| states.contains(&dyno.state.as_str())).count();
        let count =
            |number: usize| u32::try_from(number).map_err(|_| (ErrorKind::Malformed, format!("it has {number} dynos")));
        Ok(TargetStatus {
            desired: process.quantity,
            // An idle dyno of the Eco size sleeps until the next request, and takes it.
            running: count(in_state(&["up", "idle"]))?,
            pending: count(in_state(&["starting"]))?,
            rolling_out: self.is_rolling_out(name),
            warnings: self.warnings(name, in_state(&["crashed"])),
            ..TargetStatus::default()
        })
    }

    /// Whether a release is being prepared, or dynos still run one that others have left. One-off dynos keep theirs until they end.
    fn is_rolling_out(&self, name: &str) -> bool {
        let is_service = |dyno: &&Dyno| self.formation.iter().any(|process| process.r#type == dyno.r#type);
        let of_services = self.dynos.iter().filter(is_service).filter(|dyno| dyno.r#type != RELEASE_PHASE);
        let newest = of_services.map(|dyno| dyno.release.version).max();
        self.dynos.iter().any(|dyno| match dyno.r#type.as_str() {
            RELEASE_PHASE => matches!(dyno.state.as_str(), "up" | "starting"),
            kind => kind == name && newest.is_some_and(|newest| dyno.release.version < newest),
        })
    }

    fn warnings(&self, name: &str, crashed: usize) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.app.maintenance {
            warnings.push("the app is in maintenance mode, in which nothing reaches its web dynos".to_owned());
        }
        if 0 < crashed {
            warnings.push(format!("{crashed} of its dynos crashed; Heroku starts them again, each time later"));
        }
        let is_known = |state: &str| ["up", "idle", "starting", "crashed", "down"].contains(&state);
        let unknown = self.dynos.iter().filter(|dyno| dyno.r#type == name && !is_known(&dyno.state)).count();
        if 0 < unknown {
            warnings.push(format!("{unknown} of its dynos are in a state that is not known, and not counted"));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
