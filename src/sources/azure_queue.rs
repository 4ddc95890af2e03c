//! Queues of Azure Storage, by their metadata: <https://learn.microsoft.com/rest/api/storageservices/get-queue-metadata>.
//!
//! `x-ms-approximate-messages-count` is all that Azure tells, and has in it what was received and not deleted yet, and
//! what is not visible yet. It is the backlog here, so that work in flight keeps its tasks, and in-flight and delayed are
//! unknown. Microscaling reads the same count, and takes a failed read for zero. KEDA's `visibleonly` counts messages by
//! peeking at up to 32 of them, which reads their contents; that is not done here.

mod access;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use self::access::{Connection, Proof};
use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::clock::Clock;
use crate::config::{Reference, Secret};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Answer, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "azure_queue",
    aliases: &["azure-queue", "AzureQueue"],
    about: "Azure Storage: messages of a queue, those that were received and are not deleted among them.",
    renamed: &[("queueName", "queue"), ("accountName", "account")],
    env: &[
        ("AZURE_STORAGE_ACCOUNT_NAME", "account"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "account_key"),
        ("AZURE_STORAGE_CONNECTION_STRING", "connection_string"),
        ("AZURE_QUEUE_NAME", "queue"),
    ],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// Where the accounts of the public cloud are.
const USUAL_SUFFIX: &str = "core.windows.net";

/// The settings of an `azure_queue` source.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The queue: 3 to 63 lower-case letters, digits and hyphens.
    #[schemars(length(min = 3, max = 63), pattern("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    queue: String,
    /// The storage account: 3 to 24 lower-case letters and digits. Its queues are at `https://ACCOUNT.queue.core.windows.net`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 3, max = 24), pattern("^[a-z0-9]+$"))]
    account: Option<String>,
    /// The URL of the account's queues, where it is another: of another cloud, a private endpoint, or the emulator
    /// (`http://HOST:10001/ACCOUNT`).
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    url: Option<String>,
    /// A key of the account; a reference such as `env:NAME` or `file:PATH`, or the key itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    account_key: Option<Reference>,
    /// A shared access signature that may read the queue, in place of a key; a reference or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    sas_token: Option<Reference>,
    /// A connection string, in place of account, URL, key and token; a reference or the string itself. Since it says where
    /// the queues are, and allow-lists cannot look into it, it is `-` to them.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    connection_string: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

impl Settings {
    /// The URL of the account's queues, unless a connection string says it.
    fn place(&self) -> Option<String> {
        let usual = |account: &String| format!("https://{account}.queue.{USUAL_SUFFIX}");
        self.url.clone().or_else(|| self.account.as_ref().map(usual))
    }
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = settings.url.iter().filter_map(|url| net::parse(url).err()).collect();
    let mut problem = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    let Settings { account, url, account_key, sas_token, connection_string, .. } = &settings;
    match [account_key, sas_token, connection_string].into_iter().flatten().count() {
        0 => problem("has no credential", "give account_key, sas_token or connection_string"),
        1 => {}
        _ => problem("has more than one credential", "keep one of account_key, sas_token and connection_string"),
    }
    if account_key.is_some() && account.is_none() {
        problem("has account_key without account", "give the account's name as account");
    }
    if sas_token.is_some() && account.is_none() && url.is_none() {
        problem("does not say where the queue is", "give account or url");
    }
    if connection_string.is_some() && (account.is_some() || url.is_some()) {
        problem("says twice where the queue is", "leave out account and url, which the connection string has in it");
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let place = match settings.place() {
        Some(url) => net::parse(&url).ok().map(|url| net::host_and_port(&url)),
        None => Some("-".to_owned()),
    };
    let identity = |place| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![place, settings.queue.clone()],
    };
    place.map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let (http, secrets, clock) = (shared.http.clone(), shared.secrets().clone(), shared.clock.clone());
    let source = AzureQueue { http, secrets, clock, settings };
    // What can be refused is refused before anything is asked.
    if let Some(url) = source.settings.place() {
        source.endpoint(&url)?;
    }
    Ok(Box::new(source))
}

struct AzureQueue {
    http: Arc<Http>,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl fmt::Debug for AzureQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AzureQueue({:?})", self.settings.queue)
    }
}

#[async_trait]
impl Source for AzureQueue {
    async fn read(&self) -> Result<Measurement> {
        let Settings { account, account_key, sas_token, connection_string, .. } = &self.settings;
        let place = self.settings.place().unwrap_or_default();
        let account = account.clone().unwrap_or_default();
        let backlog = match (account_key, sas_token, connection_string) {
            (Some(key), ..) => {
                let proof = |key| Proof::Key { account: account.clone(), key };
                self.secrets.with(key, |key| self.count(place.clone(), proof(key))).await?
            }
            (None, Some(sas), _) => self.secrets.with(sas, |sas| self.count(place.clone(), Proof::Sas(sas))).await?,
            (None, None, Some(connection)) => {
                let count = async |text: Secret<String>| {
                    let connection = Connection::read(text.expose());
                    let Connection { url, proof } = connection
                        .map_err(|cause| Error::new(ErrorKind::Config, "reading connection_string", cause))?;
                    self.count(url, proof).await
                };
                self.secrets.with(connection, count).await?
            }
            (None, None, None) => return Err(Error::new(ErrorKind::Config, self.during(), "there is no credential")),
        };
        let depth = QueueDepth { backlog, in_flight: None, ..QueueDepth::default() };
        Ok(Measurement::from(Amount::Queue(depth)))
    }
}

impl AzureQueue {
    async fn count(&self, place: String, proof: Proof) -> Result<u64> {
        let endpoint = self.endpoint(&place)?;
        let (endpoint, ask) = match &proof {
            Proof::Key { account, key } => {
                let ask = access::signed(endpoint.url(), account, key, self.clock.now());
                (endpoint, ask.map_err(|cause| Error::new(ErrorKind::Config, self.during(), cause))?)
            }
            Proof::Sas(token) => {
                let token = token.expose().trim().trim_start_matches('?').to_owned();
                let pairs: Vec<_> = form_urlencoded::parse(token.as_bytes()).into_owned().collect();
                let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                (endpoint.with_query(&pairs), access::unsigned())
            }
        };
        let answer = self.success(self.http.ask(&endpoint, ask).await?)?;
        let missing =
            || Error::new(ErrorKind::Missing, self.during(), "the answer has no x-ms-approximate-messages-count");
        let count = answer.headers.get("x-ms-approximate-messages-count").ok_or_else(missing)?;
        let malformed =
            || Error::new(ErrorKind::Malformed, self.during(), "x-ms-approximate-messages-count is no count");
        count.to_str().ok().and_then(|count| count.parse().ok()).ok_or_else(malformed)
    }

    fn endpoint(&self, place: &str) -> Result<Endpoint> {
        let Settings { queue, ca, insecure_tls, .. } = &self.settings;
        let endpoint = self.http.endpoint(place, Tls { ca: ca.clone(), insecure: *insecure_tls })?;
        Ok(endpoint.below(&[queue]).with_query(&[("comp", "metadata")]))
    }

    /// The codes: <https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes>.
    fn success(&self, answer: Answer) -> Result<Answer> {
        let code =
            answer.headers.get("x-ms-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default().to_owned();
        answer.success().map_err(|error| {
            let (kind, remedy) = match (error.kind(), code.as_str()) {
                (_, "ServerBusy") => (ErrorKind::Throttled, "; the account takes no more requests for now"),
                (kind, "AuthenticationFailed") => {
                    (kind, "; the key or token is not this account's, the token has expired, or the clock is wrong")
                }
                (ErrorKind::Denied, _) => {
                    (ErrorKind::Denied, "; the token or the account's network rules do not let it read")
                }
                (ErrorKind::NotFound, "QueueNotFound") => (ErrorKind::NotFound, "; the account has no such queue"),
                (ErrorKind::NotFound, _) => (ErrorKind::NotFound, "; the url is not that of an account's queues"),
                (kind, _) => (kind, ""),
            };
            // The code is shown where it looks like one: what else a server says is not ours to show.
            let is_code = (1..64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
            let code = if is_code { format!(" ({code})") } else { String::new() };
            Error::new(kind, self.during(), format!("{error}{code}{remedy}"))
        })
    }

    fn during(&self) -> String {
        format!("reading metadata of queue {:?}", self.settings.queue)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        // `canary-key` in base64.
        json!({ "url": endpoint, "account": "orders", "account_key": "Y2FuYXJ5LWtleQ==", "queue": "waiting" })
    }

    /// The answers' form: <https://learn.microsoft.com/rest/api/storageservices/get-queue-metadata#sample-response> and
    /// <https://learn.microsoft.com/rest/api/storageservices/status-and-error-codes2>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.path, "/waiting?comp=metadata");
        let authorization = request.headers.get("authorization").expect("it is signed");
        assert!(authorization.starts_with("SharedKey orders:"), "{authorization}");
        let count = |count: &str| Reply::new(200, "").header("x-ms-approximate-messages-count", count);
        let error = |status: u16, code: &'static str| Reply::new(status, "canary").header("x-ms-error-code", code);
        match scene {
            Scene::Amount(waiting) => count(&waiting.to_string()),
            Scene::Malformed => count("-1"),
            Scene::Missing => Reply::new(200, ""),
            Scene::Denied => error(403, "AuthenticationFailed"),
            Scene::NotFound => error(404, "QueueNotFound"),
            Scene::Throttled => error(503, "ServerBusy"),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let problems = |settings: &Value| {
            let problems = check(settings);
            assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
            problems.len()
        };
        for (settings, expected) in [
            (json!({ "queue": "in1", "account": "orders", "account_key": "canary" }), 0),
            (json!({ "queue": "in1", "account": "orders", "sas_token": "canary" }), 0),
            (json!({ "queue": "in1", "url": "https://q.example", "sas_token": "canary" }), 0),
            (json!({ "queue": "in1", "connection_string": "canary" }), 0),
            (json!({ "queue": "in1", "account": "orders" }), 1),
            (json!({ "queue": "in1", "account_key": "canary" }), 1),
            (json!({ "queue": "in1", "sas_token": "canary" }), 1),
            (json!({ "queue": "in1", "account": "orders", "connection_string": "canary" }), 1),
            (json!({ "queue": "in1", "account": "orders", "account_key": "canary", "sas_token": "canary" }), 1),
            (json!({ "queue": "in1", "url": "https://canary:canary@q.example", "sas_token": "canary" }), 1),
        ] {
            assert_eq!(problems(&settings), expected, "{settings}");
        }
    }

    #[test]
    fn a_queue_is_known_by_its_accounts_host() {
        let path = |settings: Value| identities(&settings, "us-east-1")[0].path.join("/");
        let by_account = json!({ "queue": "in1", "account": "orders", "account_key": "canary" });
        assert_eq!(path(by_account), "orders.queue.core.windows.net:443/in1");
        let by_url =
            json!({ "queue": "in1", "url": "http://127.0.0.1:10001/orders", "account": "orders", "account_key": "a" });
        assert_eq!(path(by_url), "127.0.0.1:10001/in1");
        assert_eq!(path(json!({ "queue": "in1", "connection_string": "canary" })), "-/in1");
    }
}
