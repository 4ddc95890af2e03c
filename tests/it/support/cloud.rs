//! A strict AWS endpoint within the test: SQS, ECS, Application Auto Scaling, CloudWatch, S3 and STS as far as a tick needs them.
//!
//! The emulators forgive what AWS refuses: eleven services in a call, negative counts, updates of DAEMON services. This one
//! checks each request and each reply of its own against AWS's published models ([`shapes`]), keeps state, and stands behind
//! a [`Proxy`], so that the same script holds, fails, cuts and alters calls. It checks no signature; ministack does.

#![allow(dead_code, reason = "a kit: not every test uses every tool of it")]

mod ecs;
pub mod metrics;
mod s3;
mod scaling;
pub mod shapes;
mod sqs;
pub mod state;
mod sts;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tidegate::clock::Clock;
use tidegate::handler::Host;

use super::emulator::{Env, REGION, environment, function, rested};
use super::proxy::call::{scope, text};
use super::proxy::{Call, Proxy};
use super::runtime_api::Function;
use state::{Bucket, Queue, Service, State};

/// The account of everything that does not state another one.
pub const ACCOUNT: &str = "123456789012";
/// The names of the cluster and the bucket that every endpoint has.
pub const CLUSTER: &str = "prod";
const BUCKET: &str = "state";
/// The name of the queue and of the service that every endpoint has.
pub const ORDERS: &str = "orders";

/// A running endpoint. As a [`Proxy`], it takes scripts and logs calls.
pub struct Cloud {
    proxy: Proxy,
    state: Arc<Mutex<State>>,
}

impl Deref for Cloud {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

/// Who calls, as far as that matters.
pub struct Caller {
    region: String,
    host: String,
}

/// An error of the JSON protocols: <https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization>.
pub struct Refusal {
    code: String,
    message: String,
    query_code: Option<&'static str>,
}

impl Refusal {
    fn new(code: &str, message: &str) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), query_code: None }
    }
}

fn refuse<T>(code: &str, message: &str) -> Result<T, Refusal> {
    Err(Refusal::new(code, message))
}

impl Cloud {
    /// A queue with this many waiting messages, a service that asks for and runs this many tasks, and an empty bucket.
    pub async fn start(waiting: u64, desired: i64) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let kept = state.clone();
        let answer = move |head: &Parts, call: &Call| {
            // A test that panics while it looks at the state fails by itself.
            answer(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), head, call)
        };
        let cloud = Self { proxy: Proxy::within(answer).await, state };
        cloud.add(ORDERS, waiting, desired);
        cloud.with(|state| {
            state.buckets.insert(BUCKET.to_owned(), Bucket::default());
            state.points_per_page = 100_800;
        });
        cloud
    }

    /// Adds a queue and a service of one name.
    pub fn add(&self, name: &str, waiting: u64, desired: i64) {
        self.with(|state| {
            state.queues.insert(name.to_owned(), Queue { visible: waiting, ..Queue::default() });
            let place = (REGION.to_owned(), ACCOUNT.to_owned(), CLUSTER.to_owned());
            state.clusters.entry(place).or_default().insert(name.to_owned(), Service::new(desired));
        });
    }

    /// Looks at everything, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no other test panics while it holds the state"))
    }

    /// Looks at a service of the usual cluster, or changes it.
    pub fn service<T>(&self, name: &str, change: impl FnOnce(&mut Service) -> T) -> T {
        let place = (REGION.to_owned(), ACCOUNT.to_owned(), CLUSTER.to_owned());
        self.with(|state| {
            change(state.clusters.get_mut(&place).and_then(|all| all.get_mut(name)).expect("it is there"))
        })
    }

    /// Sets how many messages wait in a queue.
    pub fn wait(&self, queue: &str, waiting: u64) {
        self.with(|state| state.queues.get_mut(queue).expect("it is there").visible = waiting);
    }

    pub fn desired(&self) -> i64 {
        self.desired_of(ORDERS)
    }

    pub fn desired_of(&self, service: &str) -> i64 {
        self.service(service, |service| service.desired)
    }

    pub fn queue_url(&self, queue: &str) -> String {
        format!("{}/{ACCOUNT}/{queue}", self.url())
    }

    /// Every object by its key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.with(|state| state.buckets[BUCKET].objects.clone())
    }

    /// Puts an object into the bucket, or removes it.
    pub fn put(&self, key: &str, content: Option<&str>) {
        self.with(|state| {
            let objects = &mut state.buckets.get_mut(BUCKET).expect("it is there").objects;
            match content {
                Some(content) => objects.insert(key.to_owned(), content.to_owned().into()),
                None => objects.remove(key),
            }
        });
    }

    pub fn key_of(service: &str) -> String {
        format!("tidegate/v1/ecs/{ACCOUNT}/{REGION}/{CLUSTER}/{service}.json")
    }

    /// What is remembered of a service.
    pub fn remembered(&self, service: &str) -> Value {
        let objects = self.objects();
        let document = objects.get(&Self::key_of(service)).map_or(&b"null"[..], |bytes| bytes);
        let document: Value = serde_json::from_slice(document).expect("the state is JSON");
        document["services"][Self::id_of(service)].clone()
    }

    fn id_of(service: &str) -> String {
        format!("ecs:{REGION}/{ACCOUNT}/{CLUSTER}/{service}")
    }

    /// Makes services such as were first seen long ago, so that no cooldown runs from first sight.
    pub fn rest(&self, services: &[&str]) {
        for service in services {
            let id = Self::id_of(service);
            let mut state = rested(&id);
            state["services"][&id]["count"] = self.desired_of(service).into();
            self.put(&Self::key_of(service), Some(&state.to_string()));
        }
    }

    /// The function's environment, as [`environment`] has it.
    pub fn env(&self, more: &[(&str, &str)]) -> Env {
        environment(&self.url(), [CLUSTER, ORDERS, &self.queue_url(ORDERS), BUCKET], more)
    }

    /// The same without a service, for payloads that list services.
    pub fn env_without_service(&self, more: &[(&str, &str)]) -> Env {
        self.env(more)
            .into_iter()
            .filter(|(name, _)| !["ECS_CLUSTER", "SERVICE_NAME", "SQS_QUEUE_URL"].contains(&name.as_str()))
            .collect()
    }

    /// A payload with services whose queues have the same names.
    pub fn payload(&self, services: &[&str]) -> Value {
        let service = |name: &&str| {
            json!({
                "name": name, "target": { "type": "ecs", "cluster": CLUSTER, "service": name },
                "sources": [{ "type": "sqs", "queue": self.queue_url(name) }], "policies": [{ "type": "threshold" }],
            })
        };
        json!({ "config": { "services": services.iter().map(service).collect::<Vec<_>>() } })
    }

    /// The real `bootstrap` under the Runtime API.
    pub async fn function(&self, more: &[(&str, &str)]) -> Function {
        function(ACCOUNT, &self.env(more)).await
    }

    /// The same for payloads that list services.
    pub async fn function_of_services(&self, more: &[(&str, &str)]) -> Function {
        function(ACCOUNT, &self.env_without_service(more)).await
    }

    /// The function within the test, with a clock of the test's. It shares the SDK's allowance of retries with every other
    /// test of this process: where retries matter, take [`Cloud::function`].
    pub fn host(&self, clock: Arc<dyn Clock>, more: &[(&str, &str)]) -> Host {
        let vars: BTreeMap<_, _> = self.env(more).into_iter().collect();
        Host::new(Arc::new(vars), clock, true)
    }
}

/// Answers one call as AWS would.
fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    let name = format!("{}.{}", call.service, call.action);
    let operation = shapes::operation(&name);
    let signed = scope(&head.headers);
    let expected = operation.and_then(|operation| operation["signed_for"].as_str());
    let (region, service) = signed.unwrap_or_default();
    if expected.is_some_and(|expected| expected != service) {
        let missing = Refusal::new("MissingAuthenticationTokenException", "Missing Authentication Token");
        return json_error("1.1", missing, 403);
    }
    let host = text(&head.headers, "host").unwrap_or_default().to_owned();
    let caller = Caller { region: region.to_owned(), host };
    match call.service.as_str() {
        "S3" => s3::answer(state, head, call),
        "sts" => sts::answer(&call.action),
        "GraniteServiceVersion20100801" => metrics::answer(state, call, operation),
        "AmazonSQS" => json_answer(head, call, operation, |input| sqs::answer(state, &caller, &call.action, input)),
        "AmazonEC2ContainerServiceV20141113" => {
            json_answer(head, call, operation, |input| ecs::answer(state, &caller, &call.action, input))
        }
        "AnyScaleFrontendService" => {
            json_answer(head, call, operation, |input| scaling::answer(state, &call.action, input))
        }
        _ => json_error("1.1", Refusal::new("UnknownOperationException", &name), 400),
    }
}

/// Checks a request of the JSON protocols against the model, answers it, and checks the reply.
fn json_answer(
    head: &Parts,
    call: &Call,
    operation: Option<&Value>,
    answer: impl FnOnce(&Value) -> Result<Value, Refusal>,
) -> Response<Bytes> {
    let Some(operation) = operation else {
        return json_error("1.1", Refusal::new("UnknownOperationException", &call.action), 400);
    };
    let member = |name: &str| operation[name].as_str().expect("the model has it");
    let version = member("json_version");
    if text(&head.headers, "content-type") != Some(format!("application/x-amz-json-{version}").as_str()) {
        return json_error(version, Refusal::new("SerializationException", "the content type is another"), 400);
    }
    let input = call.json();
    if let Err(problem) = shapes::check(member("input"), &input) {
        return json_error(version, Refusal::new("SerializationException", &problem), 400);
    }
    match answer(&input) {
        Ok(output) => {
            let checked = shapes::check(member("output"), &output);
            checked.unwrap_or_else(|problem| panic!("{}: the reply is not of the model: {problem}", call.action));
            json_reply(version, 200, &output, None)
        }
        Err(refusal) => json_error(version, refusal, 400),
    }
}

fn json_error(version: &str, refusal: Refusal, status: u16) -> Response<Bytes> {
    let body = json!({ "__type": refusal.code, "message": refusal.message });
    json_reply(version, status, &body, refusal.query_code)
}

fn json_reply(version: &str, status: u16, body: &Value, query_code: Option<&str>) -> Response<Bytes> {
    let reply = Response::builder().status(status).header("content-type", format!("application/x-amz-json-{version}"));
    let reply = match query_code {
        Some(code) => reply.header("x-amzn-query-error", format!("{code};Sender")),
        None => reply,
    };
    reply.body(body.to_string().into()).expect("a valid reply")
}
