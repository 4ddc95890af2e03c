//! Jobs of Buildkite, by the agents' metrics API: `scheduled` is the backlog, `running` is in-flight, and `waiting`, jobs whose
//! dependencies are not done, is delayed: <https://buildkite.com/docs/apis/agent-api/metrics>.
//!
//! Without a queue it is all that the token's cluster has. Buildkite's own collector takes a count that is not in the answer
//! for zero (buildkite-agent-metrics, `collector_test.go` at 220234fa, `TestCollectorWithEmptyResponseForAllQueues`);
//! here that is an error.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::{Amount, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Answer, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "buildkite",
    aliases: &[],
    about: "Buildkite: jobs that wait for an agent, run, and wait for other jobs.",
    renamed: &[],
    env: &[("BUILDKITE_AGENT_TOKEN", "agent_token"), ("BUILDKITE_QUEUE", "queue")],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// Where Buildkite's agents ask.
const USUAL_URL: &str = "https://agent.buildkite.com/v3";

/// The settings of a `buildkite` source.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The queue. Without it, all jobs of the token's cluster.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    queue: Option<String>,
    /// The agent token, of the cluster whose jobs count; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    agent_token: Reference,
    /// The agents' API.
    #[serde(default = "usual_url")]
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

fn usual_url() -> String {
    USUAL_URL.to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    net::parse(&settings.url).err().into_iter().collect()
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let queue = settings.queue.unwrap_or_else(|| "-".to_owned());
    let identity = |url| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![net::host_and_port(&url), queue],
    };
    net::parse(&settings.url).ok().map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let Settings { queue, agent_token, url, ca, insecure_tls } = parse(settings)?;
    let api = shared.http.endpoint(&url, Tls { ca, insecure: insecure_tls })?;
    let endpoint = match &queue {
        Some(queue) => api.below(&["metrics", "queue"]).with_query(&[("name", queue)]),
        None => api.below(&["metrics"]),
    };
    Ok(Box::new(Buildkite {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        endpoint,
        queue,
        token: agent_token,
    }))
}

struct Buildkite {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    queue: Option<String>,
    token: Reference,
}

impl fmt::Debug for Buildkite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buildkite({:?}, {:?})", self.endpoint, self.queue)
    }
}

#[async_trait]
impl Source for Buildkite {
    async fn read(&self) -> Result<Measurement> {
        let read = async |token: Secret<String>| {
            let credential = Some(Credential::Raw(Secret::new(format!("Token {}", token.expose()))));
            self.depth(self.http.ask(&self.endpoint, Ask { credential, ..Ask::default() }).await?)
        };
        let depth = self.secrets.with(&self.token, read).await?;
        Ok(Measurement::from(Amount::Queue(depth)))
    }
}

impl Buildkite {
    fn depth(&self, answer: Answer) -> Result<QueueDepth> {
        let of = self.queue.as_ref().map_or_else(|| "all queues".to_owned(), |queue| format!("queue {queue:?}"));
        let during = || format!("reading jobs of {of}");
        let answer = answer.success().map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::Denied => {
                    "; agent_token must be an agent token of the cluster, which an API access token is not"
                }
                ErrorKind::NotFound => "; the token's cluster has no such queue, or url is not the agents' API",
                _ => "",
            };
            Error::new(error.kind(), during(), format!("{error}{remedy}"))
        })?;
        let document: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| Error::new(ErrorKind::Malformed, during(), "the answer is no JSON"))?;
        let count = |name: &str| match &document["jobs"][name] {
            Value::Null => Ok(None),
            number => match number.as_u64() {
                Some(count) => Ok(Some(count)),
                None => Err(Error::new(ErrorKind::Malformed, during(), format!("jobs.{name} is no count"))),
            },
        };
        let missing = || Error::new(ErrorKind::Missing, during(), "the answer has no jobs.scheduled");
        Ok(QueueDepth {
            backlog: count("scheduled")?.ok_or_else(missing)?,
            in_flight: count("running")?,
            delayed: count("waiting")?,
            oldest_age_secs: None,
            ..QueueDepth::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "url": format!("{endpoint}/v3"), "queue": "deploy & test", "agent_token": "canary-token" })
    }

    /// The answer's form is that of <https://buildkite.com/docs/apis/agent-api/metrics>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Token canary-token"));
        assert_eq!(request.path, "/v3/metrics/queue?name=deploy+%26+test");
        let jobs = |jobs: Value| {
            let agents = json!({ "idle": 1, "busy": 0, "total": 1 });
            Reply::new(200, json!({ "agents": agents, "jobs": jobs, "organization": { "slug": "o" } }).to_string())
        };
        match scene {
            Scene::Amount(scheduled) => jobs(json!({ "scheduled": scheduled, "running": 2, "waiting": 1, "total": 3 })),
            Scene::Malformed => jobs(json!({ "scheduled": -1, "running": 2, "waiting": 1, "total": 3 })),
            Scene::Missing => Reply::new(200, r#"{"organization": {"slug": "o"}}"#),
            Scene::Denied => Reply::new(401, r#"{"message": "canary"}"#),
            Scene::NotFound => Reply::new(404, r#"{"message": "canary"}"#),
            Scene::Throttled => Reply::new(429, r#"{"message": "canary"}"#),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }
}
