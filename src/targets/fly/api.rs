//! The requests: <https://fly.io/docs/machines/api/>.

use std::fmt;
use std::sync::Arc;

use jiff::fmt::rfc2822;
use reqwest::Method;
use reqwest::header::DATE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::machine::{Lease, Machine};
use super::settings::Settings;
use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Answer, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// How many machines one answer has. Each takes some 10 KiB with its events, and no more than one MiB is read.
const PER_PAGE: &str = "50";

/// How long Fly waits for a machine that stops, in seconds: a tick has a few.
const LONGEST_WAIT: &str = "2";

/// What can be done with one machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    Start,
    Stop(Value),
    Suspend,
    /// The query says whether it may run.
    Destroy(&'static str),
}

/// The Machines API with a token.
pub(super) struct Api {
    http: Arc<Http>,
    secrets: Secrets,
    apps: Endpoint,
    token: Reference,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Api({:?})", self.apps)
    }
}

#[derive(Deserialize)]
struct Apps {
    apps: Vec<App>,
    #[serde(default)]
    total_apps: Option<usize>,
}

#[derive(Deserialize)]
struct App {
    name: String,
}

impl Api {
    pub fn new(settings: &Settings, shared: &Shared) -> Result<Self> {
        let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
        let apps = shared.http.endpoint(&settings.url, tls)?.below(&["v1", "apps"]);
        let (http, secrets) = (shared.http.clone(), shared.secrets().clone());
        Ok(Self { http, secrets, apps, token: settings.token.clone() })
    }

    /// The names of all apps of an organization.
    pub async fn apps(&self, org: &str) -> Result<Vec<String>> {
        let endpoint = self.apps.with_query(&[("org_slug", org)]);
        let answer = self.ask(&endpoint, Method::GET, None).await?;
        let Apps { apps, total_apps } = read(&answer)?;
        match total_apps {
            Some(total) if apps.len() < total => {
                let cause = format!("the answer has {} apps of {total}", apps.len());
                Err(Error::new(ErrorKind::Malformed, answer.during(), cause))
            }
            _ => Ok(apps.into_iter().map(|app| app.name).collect()),
        }
    }

    /// All machines of an app in the order of the API, with the leases that last.
    pub async fn machines(&self, app: &str) -> Result<Vec<Machine>> {
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![("include_leases", "true"), ("limit", PER_PAGE)];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let endpoint = self.apps.below(&[app, "machines"]).with_query(&query);
            let answer = self.ask(&endpoint, Method::GET, None).await?;
            let mut page: Vec<Machine> = read(&answer)?;
            for machine in &mut page {
                machine.lease = machine.lease.take().filter(|lease| lasts(lease, &answer));
            }
            found.extend(page);
            let next = answer.headers.get("fly-next-cursor").and_then(|next| next.to_str().ok()).map(str::to_owned);
            match next.filter(|next| !next.is_empty()) {
                None => return Ok(found),
                next if next == cursor => {
                    return Err(Error::new(ErrorKind::Malformed, answer.during(), "the next page is the same again"));
                }
                next => cursor = next,
            }
        }
    }

    pub async fn machine(&self, app: &str, id: &str) -> Result<Machine> {
        let answer = self.ask(&self.apps.below(&[app, "machines", id]), Method::GET, None).await?;
        read(&answer)
    }

    /// Returns once a machine has stopped, as it is now, or when it takes longer than two seconds.
    ///
    /// # Errors
    /// `Timeout` for one that takes longer.
    pub async fn stopped(&self, app: &str, machine: &Machine) -> Result<()> {
        let query = [("state", "stopped"), ("timeout", LONGEST_WAIT), ("instance_id", &machine.instance_id)];
        let endpoint = self.apps.below(&[app, "machines", &machine.id, "wait"]).with_query(&query);
        self.ask(&endpoint, Method::GET, None).await.map(drop)
    }

    /// Creates a machine.
    pub async fn create(&self, app: &str, machine: &Value) -> Result<()> {
        let endpoint = self.apps.below(&[app, "machines"]);
        self.ask(&endpoint, Method::POST, Some(machine.to_string())).await.map(drop)
    }

    /// Does something with a machine. That it was taken on does not mean that it is done.
    pub async fn act(&self, app: &str, id: &str, action: &Action) -> Result<()> {
        let at = |parts: &[&str]| self.apps.below(&[&[app, "machines", id], parts].concat());
        let (endpoint, method, body) = match action {
            Action::Start => (at(&["start"]), Method::POST, None),
            Action::Stop(how) => (at(&["stop"]), Method::POST, Some(how.to_string())),
            Action::Suspend => (at(&["suspend"]), Method::POST, None),
            Action::Destroy(force) => (at(&[]).with_query(&[("force", force)]), Method::DELETE, None),
        };
        self.ask(&endpoint, method, body).await.map(drop)
    }

    async fn ask(&self, endpoint: &Endpoint, method: Method, body: Option<String>) -> Result<Answer> {
        let ask = async |token: Secret<String>| {
            // A token of Fly's own scheme names it: <https://fly.io/docs/security/tokens/>.
            let credential = match token.expose().starts_with("FlyV1 ") {
                true => Credential::Raw(token),
                false => Credential::Bearer(token),
            };
            let (credential, method, body) = (Some(credential), Some(method.clone()), body.clone());
            let answer = self.http.ask(endpoint, Ask { credential, method, body, ..Ask::default() }).await?;
            judged(answer)
        };
        self.secrets.with(&self.token, ask).await
    }
}

/// An answer that succeeded, or what its status means: <https://fly.io/docs/machines/api/working-with-machines-api/#response-codes>.
fn judged(answer: Answer) -> Result<Answer> {
    let (kind, cause) = match answer.status {
        401 | 403 => (ErrorKind::Denied, "the token is not valid here; `fly tokens create deploy -a APP` makes one"),
        404 => (ErrorKind::NotFound, "there is no such app or machine, or the token is for another organization"),
        // Of a change nobody knows whether it is made.
        408 => (ErrorKind::Timeout, "Fly did not get it done in time"),
        // 409 is a lease of somebody else's, 412 a state from which this cannot be done.
        409 | 412 => (ErrorKind::Locked, "something else is being done with the machine, as by a deployment"),
        _ => return answer.success(),
    };
    Err(Error::new(kind, answer.during(), format!("it answered {}: {cause}", answer.status)))
}

fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T> {
    let malformed = |error: serde_json::Error| {
        Error::new(ErrorKind::Malformed, answer.during(), format!("its answer cannot be read: {error}"))
    };
    serde_json::from_slice(&answer.body).map_err(malformed)
}

/// Whether a lease had not ended when the answer was given, by the clock of who gave it.
fn lasts(lease: &Lease, answer: &Answer) -> bool {
    let date = answer.headers.get(DATE).and_then(|date| rfc2822::parse(date.to_str().ok()?).ok());
    match (lease.expires_at, date) {
        (Some(end), Some(date)) => date.timestamp().as_second() < end,
        _ => true,
    }
}
