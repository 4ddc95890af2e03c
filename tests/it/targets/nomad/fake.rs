//! Nomad as far as a tick needs it, with what its description leaves open: unknown fields, counts below 0, namespaces, tokens, and
//! why a count is refused (<https://github.com/hashicorp/nomad/blob/v1.6.0/nomad/job_endpoint.go>, `Scale` and `ScaleStatus`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::support::prism::Prism;
use crate::support::proxy::{Call, Proxy};

/// The ACL token that may do everything.
pub const TOKEN: &str = "canary-token";

/// A job with one group.
#[derive(Debug, Clone)]
pub struct Job {
    /// As the API has it, with the group's count.
    pub spec: Value,
    pub version: u64,
    pub placed: u64,
    pub running: u64,
    /// Status of the latest deployment.
    pub deployment: Option<&'static str>,
    pub events: Vec<Value>,
}

impl Job {
    fn new(id: &str, group: &str, count: u64) -> Self {
        let spec = json!({
            "ID": id, "Name": id, "Namespace": "default", "Region": "global", "Type": "service", "Stop": false,
            "Periodic": null, "ParameterizedJob": null, "Meta": null, "CreateIndex": 10, "Priority": 50,
            "TaskGroups": [{
                "Name": group, "Count": count, "Meta": null, "Scaling": null,
                "Tasks": [{ "Name": "task", "Driver": "docker", "Config": { "image": "worker:1" } }],
            }],
        });
        Self { spec, version: 0, placed: count, running: count, deployment: None, events: Vec::new() }
    }

    /// Changes a part of the job, by JSON Pointer.
    pub fn put(&mut self, at: &str, value: Value) {
        *self.spec.pointer_mut(at).expect("it is a part of the job") = value;
    }

    pub fn count(&self) -> i64 {
        self.spec["TaskGroups"][0]["Count"].as_i64().expect("a number")
    }

    fn id(&self) -> String {
        self.spec["ID"].as_str().expect("a text").to_owned()
    }

    fn group(&self) -> &str {
        self.spec["TaskGroups"][0]["Name"].as_str().expect("a text")
    }

    fn is_active(&self) -> bool {
        matches!(self.deployment, Some("running" | "paused" | "blocked" | "unblocking" | "pending" | "initializing"))
    }
}

#[derive(Default)]
pub struct State {
    pub jobs: BTreeMap<String, Job>,
    /// Whether ACLs are on.
    pub asks_for_token: bool,
    /// Deployments end after so many refused counts.
    pub refusals_to_end: Option<usize>,
    /// What is answered to everything.
    pub answer: Option<(u16, &'static str)>,
    index: u64,
}

/// Nomad behind Prism behind a proxy, which is what the target talks to.
pub struct Nomad {
    /// What the target sends.
    pub wire: Proxy,
    prism: Option<Prism>,
    _fake: Proxy,
    state: Arc<Mutex<State>>,
}

impl Nomad {
    /// With a job `orders` that has a group `workers` of so many.
    pub async fn start(count: u64) -> Self {
        let (fake, state) = fake(count).await;
        let prism = Prism::start("nomad.json", &fake.url()).await;
        let address = prism.url().trim_start_matches("http://").parse().expect("an address");
        Self { wire: Proxy::start(address).await, prism: Some(prism), _fake: fake, state }
    }

    /// Without Prism, whose description asks for a token.
    pub async fn without_acls(count: u64) -> Self {
        let (fake, state) = fake(count).await;
        state.lock().expect("no holder panics").asks_for_token = false;
        let address = fake.url().trim_start_matches("http://").parse().expect("an address");
        Self { wire: Proxy::start(address).await, prism: None, _fake: fake, state }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no holder panics"))
    }

    pub fn job<T>(&self, id: &str, change: impl FnOnce(&mut Job) -> T) -> T {
        self.with(|state| change(state.jobs.get_mut(id).expect("it is there")))
    }

    pub fn add(&self, id: &str, group: &str, count: u64) {
        self.with(|state| state.jobs.insert(id.to_owned(), Job::new(id, group, count)));
    }

    pub fn count(&self) -> i64 {
        self.job("orders", |job| job.count())
    }

    /// What was asked or answered against the description, which has none of the answers 404, 429 and 503 that Nomad gives.
    pub fn violations(&self) -> Vec<String> {
        let found = self.prism.as_ref().map(Prism::violations).unwrap_or_default();
        found.into_iter().filter(|line| !line.contains("Unable to match the returned status code")).collect()
    }
}

async fn fake(count: u64) -> (Proxy, Arc<Mutex<State>>) {
    let state = Arc::new(Mutex::new(State { asks_for_token: true, index: 20, ..State::default() }));
    state.lock().expect("nobody else has it").jobs.insert("orders".to_owned(), Job::new("orders", "workers", count));
    let kept = state.clone();
    let fake =
        Proxy::within(move |head: &Parts, call: &Call| answer(&mut kept.lock().expect("no holder panics"), head, call));
    (fake.await, state)
}

fn text(status: u16, text: &str) -> Response<Bytes> {
    let reply = Response::builder().status(status).header("content-type", "text/plain");
    reply.body(text.to_owned().into()).expect("a valid reply")
}

fn document(body: &Value) -> Response<Bytes> {
    let reply = Response::builder().header("content-type", "application/json");
    reply.body(body.to_string().into()).expect("a valid reply")
}

fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    if let Some((status, words)) = state.answer {
        return text(status, words);
    }
    let token = head.headers.get("x-nomad-token").map(|token| token.to_str().expect("plain text"));
    match token {
        Some(_) if !state.asks_for_token => return text(500, "a token where none is configured"),
        token if state.asks_for_token && token != Some(TOKEN) => return text(403, "Permission denied"),
        _ => {}
    }
    let url = Url::parse(&format!("http://fake{}", call.path.trim_start_matches("http://fake"))).expect("a path");
    let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    if !matches!(query.get("region").map_or("global", String::as_str), "global") {
        return text(500, "No path to region");
    }
    let namespace = query.get("namespace").map_or("default", String::as_str);
    let decoded = |part: &str| {
        let pairs = form_urlencoded::parse(format!("k={part}").as_bytes()).into_owned().next();
        pairs.expect("a pair").1
    };
    let parts: Vec<_> = url.path_segments().expect("it has a path").map(decoded).collect();
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    if let ["v1", "jobs"] = parts[..] {
        return list(state, namespace, &query);
    }
    let ["v1", "job", id, rest @ ..] = &parts[..] else { return text(404, "Invalid URL path") };
    let is_there = state.jobs.get(*id).is_some_and(|job| job.spec["Namespace"] == namespace);
    match (rest, call.method.as_str()) {
        (["deployment"], "GET") if !is_there => document(&Value::Null),
        _ if !is_there => text(404, "job not found"),
        ([], "GET") => document(&state.jobs[*id].spec),
        (["scale"], "GET") => document(&scale_status(&state.jobs[*id])),
        (["deployment"], "GET") => document(&deployment(&state.jobs[*id])),
        (["scale"], "POST") => scale(state, id, &call.json()),
        _ => text(405, "Invalid method"),
    }
}

fn deployment(job: &Job) -> Value {
    job.deployment.map_or(Value::Null, |status| {
        json!({
            "ID": "a1b2", "JobID": job.id(), "Namespace": "default", "JobVersion": job.version,
            "JobCreateIndex": job.spec["CreateIndex"], "Status": status, "StatusDescription": "", "TaskGroups": {},
        })
    })
}

fn scale_status(job: &Job) -> Value {
    let group = json!({
        "Desired": job.count(), "Placed": job.placed, "Running": job.running, "Healthy": job.running, "Unhealthy": 0,
        "Events": job.events,
    });
    json!({
        "JobID": job.id(), "Namespace": "default", "JobCreateIndex": job.spec["CreateIndex"], "JobModifyIndex": 12,
        "JobStopped": job.spec["Stop"], "TaskGroups": { job.group(): group },
    })
}

/// A page of jobs by their IDs, which are also where pages begin.
fn list(state: &State, namespace: &str, query: &BTreeMap<String, String>) -> Response<Bytes> {
    let prefix = query.get("prefix").map_or("", String::as_str);
    let from = query.get("next_token").map_or("", String::as_str);
    let size: usize = query.get("per_page").map_or(usize::MAX, |size| size.parse().expect("a number"));
    let is_listed =
        |job: &&Job| job.spec["Namespace"] == namespace && job.id().starts_with(prefix) && from <= job.id().as_str();
    let mut jobs = state.jobs.values().filter(is_listed);
    let stub = |job: &Job| {
        json!({
            "ID": job.id(), "Name": job.id(), "Namespace": "default", "Type": job.spec["Type"], "Stop": job.spec["Stop"],
            "Periodic": !job.spec["Periodic"].is_null(), "ParameterizedJob": !job.spec["ParameterizedJob"].is_null(),
            "Status": "running", "JobSummary": { "JobID": job.id(), "Summary": { job.group(): { "Running": job.running } } },
        })
    };
    let page: Vec<_> = jobs.by_ref().take(size).map(stub).collect();
    let mut reply = document(&page.into());
    if let Some(next) = jobs.next() {
        reply.headers_mut().insert("x-nomad-nexttoken", next.id().parse().expect("plain text"));
    }
    reply
}

fn scale(state: &mut State, id: &str, request: &Value) -> Response<Bytes> {
    let known = ["Count", "Target", "Message", "Meta", "Error", "PolicyOverride"];
    let fields = request.as_object().into_iter().flatten();
    if let Some((field, _)) = fields.clone().find(|(field, _)| !known.contains(&field.as_str())) {
        return text(400, &format!("unknown field {field}"));
    }
    // An event without a count, and one that records an error: neither scales.
    let (Some(count), false) = (request["Count"].as_i64(), request["Error"] == true) else {
        return text(400, "an event and no count");
    };
    if count < 0 {
        return text(400, "scaling action count can't be negative");
    }
    let index = state.index + 1;
    let job = state.jobs.get_mut(id).expect("it is there");
    if job.spec["Type"] == "system" {
        return text(400, "cannot scale jobs of type \"system\"");
    }
    if request["Target"]["Group"] != job.group() {
        return text(400, "task group \"x\" specified for scaling does not exist in job");
    }
    let scaling = &job.spec["TaskGroups"][0]["Scaling"];
    if let Some(least) = scaling["Min"].as_i64().filter(|least| count < *least) {
        return text(400, &format!("group count was less than scaling policy minimum: {count} < {least}"));
    }
    if let Some(most) = scaling["Max"].as_i64().filter(|most| *most < count) {
        return text(400, &format!("group count was greater than scaling policy maximum: {count} > {most}"));
    }
    if job.is_active() {
        let left = state.refusals_to_end.as_mut().map(|left| {
            *left -= 1;
            *left
        });
        if left == Some(0) {
            job.deployment = Some("successful");
        }
        return text(400, "job scaling blocked due to active deployment");
    }
    if count != job.count() {
        job.version += 1;
    }
    job.events
        .insert(0, json!({ "Count": count, "PreviousCount": job.count(), "Message": request["Message"], "Time": 1 }));
    job.put("/TaskGroups/0/Count", count.into());
    state.index = index;
    document(&json!({
        "EvalID": "b7c3e9d0", "EvalCreateIndex": index, "JobModifyIndex": index, "Warnings": "", "LastIndex": index,
    }))
}
