//! Temporal, by its server's HTTP API: the tasks that wait in a task queue, or the number of running workflows.
//!
//! Descriptions of both calls: <https://github.com/temporalio/api/blob/a43d7d321d07ad4e067b54ff8dc6b77397f8af31/openapi/openapiv2.json>,
//! `DescribeTaskQueue` and `CountWorkflowExecutions`. The count is the one that fly-autoscaler takes, `ExecutionStatus="Running"`
//! and the query. That and KEDA's `temporal`, which reads the backlog, ask by gRPC and with client certificates; neither is
//! done here.
//!
//! Temporal leaves a zero out of its JSON, as proto3 does (<https://protobuf.dev/programming-guides/json/>): its marshaler sets no
//! `EmitUnpopulated` (temporalio/temporal `service/frontend/protojson_marshaler.go` at 1bac2626). So that a zero that was left
//! out is told from an answer of somebody else, a form is asked for that only Temporal has, and an absent number is zero only
//! in an answer of that form. What is in flight Temporal does not tell; and a task queue that nobody uses is an empty one, since
//! Temporal has no others: a misspelt name reads as zero.
//!
//! A backlog of zero is not no work. The count leaves out the workflow tasks in sticky queues, which go to the worker that has the
//! workflow, and what runs. Temporal loses it when it unloads a partition of a task queue, as after some five minutes in which
//! nobody polls and nothing is added: tasks still wait, and read as zero until the partition is loaded again
//! (<https://github.com/temporalio/documentation/pull/4392>). Servers with an SQL store do not keep the count with each
//! task (<https://github.com/temporalio/temporal/pull/5767>). So keep a task that polls (`bounds.min` of 1), or add a
//! source for running workflows, which are counted by Temporal's visibility store.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Measurement, Source};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::{Amount, Finite, QueueDepth};
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Ask, Credential, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Source> = Kind {
    name: "temporal",
    aliases: &[],
    about: "Temporal: tasks that wait in a task queue, or the number of running workflows.",
    renamed: &[("address", "url")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// JSON of Temporal's own, which a server names in its answer: `service/frontend/protojson_marshaler.go`.
const TEMPORALS_JSON: &str = "application/json+no-payload-shorthand";

const NAMESPACE: HeaderName = HeaderName::from_static("temporal-namespace");

/// The settings of a `temporal` source.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The server's HTTP API, which has a port of its own beside gRPC's (`frontend.rpc.httpPort`, usually 7243):
    /// `https://temporal.internal:7243`.
    #[schemars(length(min = 1, max = 2048))]
    url: String,
    /// The namespace.
    #[schemars(length(min = 1, max = 255))]
    namespace: String,
    /// The task queue whose waiting tasks are counted. A name that nobody uses is an empty queue to Temporal. The count leaves
    /// out tasks that run and sticky queues, and Temporal may lose it where nobody polls for some minutes, so that work
    /// which waits reads as zero: do not scale to 0 tasks by it alone; keep `min_tasks` at 1, or add a source with `query`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1000))]
    task_queue: Option<String>,
    /// Which tasks of the task queue count: both kinds, unless one is named.
    #[serde(default = "all_kinds")]
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    task_types: Vec<TaskType>,
    /// Which of the running workflows are counted, where no task queue is named, as a list filter such as
    /// `WorkflowType="Order"`: <https://docs.temporal.io/list-filter>. Without it, all of the namespace.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 4096))]
    query: Option<String>,
    /// An API key; a reference such as `env:NAME` or `file:PATH`, or the key itself. Client certificates are not supported.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    api_key: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

/// What is in a task queue.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TaskType {
    /// Tasks that move workflows on.
    Workflow,
    /// Activities that wait for a worker.
    Activity,
}

impl TaskType {
    fn name(self) -> &'static str {
        match self {
            Self::Workflow => "TASK_QUEUE_TYPE_WORKFLOW",
            Self::Activity => "TASK_QUEUE_TYPE_ACTIVITY",
        }
    }
}

fn all_kinds() -> Vec<TaskType> {
    vec![TaskType::Workflow, TaskType::Activity]
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    if settings.task_queue.is_some() && settings.query.is_some() {
        problems.push(("has both task_queue and query".to_owned(), "keep one of them".to_owned()));
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Settings { url, namespace, task_queue, .. } = settings;
    let identity = |url| Identity {
        provider: KIND.name,
        region: "-".to_owned(),
        account: None,
        path: vec![net::host_and_port(&url), namespace, task_queue.unwrap_or_else(|| "-".to_owned())],
    };
    net::parse(&url).ok().map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Source>> {
    let settings: Settings = parse(settings)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?;
    Ok(Box::new(Temporal { http: shared.http.clone(), secrets: shared.secrets().clone(), endpoint, settings }))
}

struct Temporal {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    settings: Settings,
}

impl fmt::Debug for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Temporal({:?}, {:?})", self.endpoint, self.settings.namespace)
    }
}

#[async_trait]
impl Source for Temporal {
    async fn read(&self) -> Result<Measurement> {
        let amount = match &self.settings.api_key {
            Some(key) => self.secrets.with(key, |key| self.amount(Some(Credential::Bearer(key)))).await?,
            None => self.amount(None).await?,
        };
        Ok(Measurement::from(amount))
    }
}

impl Temporal {
    async fn amount(&self, credential: Option<Credential>) -> Result<Amount> {
        let Settings { namespace, task_queue, task_types, .. } = &self.settings;
        let namespace = self.endpoint.below(&["api", "v1", "namespaces", namespace]);
        let Some(queue) = task_queue else {
            let endpoint = namespace.below(&["workflow-count"]).with_query(&[("query", &self.settings.running())]);
            let count = self.ask(&endpoint, credential, "counting workflows").await?.number("/count")?;
            return Ok(Amount::Gauge { value: Finite::try_from(count as f64).expect("a count is finite") });
        };
        let queue = namespace.below(&["task-queues", queue]);
        let depths = try_join_all(task_types.iter().map(|kind| self.depth(&queue, *kind, credential.clone()))).await?;
        Ok(Amount::Queue(QueueDepth {
            backlog: depths.iter().fold(0, |sum, (backlog, _)| sum.saturating_add(*backlog)),
            in_flight: None,
            delayed: None,
            oldest_age_secs: depths.iter().filter_map(|(_, age)| *age).max(),
            ..QueueDepth::default()
        }))
    }

    /// The tasks of one kind that wait, and how long the oldest has waited.
    async fn depth(
        &self,
        queue: &Endpoint,
        kind: TaskType,
        credential: Option<Credential>,
    ) -> Result<(u64, Option<u64>)> {
        let queue = queue.with_query(&[("taskQueueType", kind.name()), ("reportStats", "true")]);
        let answer = self.ask(&queue, credential, "describing a task queue").await?;
        if !answer.document["stats"].is_object() {
            let cause = "the answer has no stats; the server is too old to report them";
            return Err(answer.wrong(ErrorKind::Missing, cause.to_owned()));
        }
        let backlog = answer.number("/stats/approximateBacklogCount")?;
        // Of an empty queue there is no oldest.
        let age = if backlog == 0 { None } else { answer.seconds("/stats/approximateBacklogAge")? };
        Ok((backlog, age))
    }

    async fn ask(&self, endpoint: &Endpoint, credential: Option<Credential>, doing: &'static str) -> Result<Found> {
        let mut headers = vec![(ACCEPT, TEMPORALS_JSON.to_owned())];
        if credential.is_some() {
            headers.push((NAMESPACE, self.settings.namespace.clone()));
        }
        let during = format!("{doing} of namespace {:?}", self.settings.namespace);
        let answer = self.http.ask(endpoint, Ask { headers, credential, ..Ask::default() }).await?;
        let answer = answer.success().map_err(|error| {
            let remedy = match error.kind() {
                ErrorKind::Denied => "; check api_key, and that it may read this namespace",
                ErrorKind::NotFound => "; there is no such namespace, or url is not the HTTP API",
                ErrorKind::Refused => "; check query and namespace",
                _ => "",
            };
            Error::new(error.kind(), during.clone(), format!("{error}{remedy}"))
        })?;
        let is_temporals =
            answer.headers.get(CONTENT_TYPE).is_some_and(|form| form.as_bytes() == TEMPORALS_JSON.as_bytes());
        match serde_json::from_slice::<Value>(&answer.body) {
            Ok(document) if document.is_object() => Ok(Found { document, is_temporals, during }),
            _ => Err(Error::new(ErrorKind::Malformed, during, "the answer is no JSON object")),
        }
    }
}

impl Settings {
    fn running(&self) -> String {
        match &self.query {
            Some(query) => format!(r#"ExecutionStatus="Running" AND ({query})"#),
            None => r#"ExecutionStatus="Running""#.to_owned(),
        }
    }
}

/// An answer.
struct Found {
    document: Value,
    /// Whether the server answered in the form that only Temporal has, which leaves zeros out.
    is_temporals: bool,
    during: String,
}

impl Found {
    /// A count, which is text where it has 64 bits.
    fn number(&self, pointer: &str) -> Result<u64> {
        let malformed = || self.wrong(ErrorKind::Malformed, format!("{pointer:?} is no count"));
        match self.document.pointer(pointer) {
            None if self.is_temporals => Ok(0),
            None | Some(Value::Null) => Err(self.wrong(ErrorKind::Missing, format!("there is nothing at {pointer:?}"))),
            Some(Value::String(text)) => text.parse().map_err(|_| malformed()),
            Some(number) => number.as_u64().ok_or_else(malformed),
        }
    }

    /// A duration such as `120.5s`, whole seconds of it.
    fn seconds(&self, pointer: &str) -> Result<Option<u64>> {
        let Some(text) = self.document.pointer(pointer).filter(|value| !value.is_null()) else { return Ok(None) };
        let seconds = text.as_str().and_then(|text| text.strip_suffix('s')?.parse::<f64>().ok());
        match seconds.map(Finite::try_from) {
            Some(Ok(seconds)) => Ok(Some(seconds.get() as u64)),
            _ => Err(self.wrong(ErrorKind::Malformed, format!("{pointer:?} is no duration"))),
        }
    }

    fn wrong(&self, kind: ErrorKind, cause: String) -> Error {
        Error::new(kind, self.during.clone(), cause)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "url": endpoint, "namespace": "prod", "query": "WorkflowType=\"Order\"", "api_key": "canary-key" })
    }

    /// The answer's form: `CountWorkflowExecutionsResponse` of the description that the file's head names. A zero is left out.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        assert_eq!(header("authorization"), Some("Bearer canary-key"));
        assert_eq!(header("temporal-namespace"), Some("prod"));
        assert_eq!(header("accept"), Some(TEMPORALS_JSON));
        let query = "ExecutionStatus%3D%22Running%22+AND+%28WorkflowType%3D%22Order%22%29";
        assert_eq!(request.path, format!("/api/v1/namespaces/prod/workflow-count?query={query}"));
        let status = |status: u16| Reply::new(status, r#"{"code": 7, "message": "canary"}"#);
        match scene {
            Scene::Amount(0) => Reply::new(200, "{}").header("content-type", TEMPORALS_JSON),
            Scene::Amount(count) => {
                let body = json!({ "count": count.to_string() }).to_string();
                Reply::new(200, body).header("content-type", TEMPORALS_JSON)
            }
            Scene::Malformed => Reply::new(200, r#"{"count": "-1"}"#).header("content-type", TEMPORALS_JSON),
            Scene::Missing => Reply::new(200, "{}").header("content-type", "application/json"),
            Scene::Denied => status(403),
            Scene::NotFound => status(404),
            Scene::Throttled => status(429),
            other => panic!("{other:?} is not a scene of a source"),
        }
    }

    fn found(document: Value, is_temporals: bool) -> Found {
        Found { document, is_temporals, during: "a test".to_owned() }
    }

    #[test]
    fn a_number_that_is_left_out_is_zero_only_in_temporals_own_form() {
        assert_eq!(found(json!({}), true).number("/count").expect("a zero is left out"), 0);
        assert_eq!(found(json!({ "count": "0" }), false).number("/count").expect("a zero"), 0);
        for (document, is_temporals, kind) in [
            (json!({}), false, ErrorKind::Missing),
            (json!({ "count": null }), true, ErrorKind::Missing),
            (json!({ "count": "" }), true, ErrorKind::Malformed),
            (json!({ "count": "-1" }), true, ErrorKind::Malformed),
            (json!({ "count": 1.5 }), true, ErrorKind::Malformed),
            (json!({ "count": [] }), true, ErrorKind::Malformed),
        ] {
            let error = found(document.clone(), is_temporals).number("/count").expect_err("it is no count");
            assert_eq!(error.kind(), kind, "{document}: {error}");
        }
    }

    #[test]
    fn a_duration_is_seconds_with_a_unit() {
        let seconds = |text: Value| found(json!({ "age": text }), true).seconds("/age");
        assert_eq!(seconds(json!("120.5s")).expect("a duration"), Some(120));
        assert_eq!(seconds(Value::Null).expect("no duration"), None);
        for wrong in [json!("120"), json!("-1s"), json!("NaNs"), json!("infs"), json!(5), json!("")] {
            assert_eq!(seconds(wrong.clone()).expect_err("no duration").kind(), ErrorKind::Malformed, "{wrong}");
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let with = |more: Value| {
            let mut all = json!({ "url": "https://temporal.internal:7243", "namespace": "prod" });
            all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            check(&all).len()
        };
        assert_eq!(with(json!({ "task_queue": "orders" })), 0);
        assert_eq!(with(json!({ "task_queue": "orders", "query": "WorkflowType='a'" })), 1);
        assert_eq!(with(json!({ "url": "temporal.internal:7233" })), 1);
        assert_eq!(with(json!({ "url": "https://user:canary@temporal.internal:7243" })), 1);
    }
}
