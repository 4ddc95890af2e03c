//! One service, what tells its counts, and three receivers of changes: one of absolute counts, Jenkins with the job `service-scale`
//! (<https://github.com/vfarcic/docker-flow-stacks/blob/3c6c24c4/jenkins/var/jenkins_home/jobs/service-scale/config.xml>), and docker-scaler
//! (<https://github.com/thomasjpfan/docker-scaler/blob/831f2fe1/server/server.go>, `ScaleService`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::support::proxy::{Call, Proxy};

pub const SERVICE: &str = "go-demo_main";
pub const TOKEN: &str = "canary-token";

type Pairs = BTreeMap<String, String>;

pub struct State {
    pub replicas: i64,
    pub running: i64,
    pub updating: bool,
    /// The labels `com.df.scaleMin` and `com.df.scaleMax`.
    pub bounds: (i64, i64),
    /// Builds of Jenkins that wait for an agent, if builds wait at all.
    pub queue: Option<Vec<Pairs>>,
    /// What is answered to the next changes.
    pub answers: Vec<u16>,
    /// What the answer to a change says in place of the count.
    pub says: Option<Value>,
    /// Headers of the changes, without those that any client sends.
    pub headers: Vec<Pairs>,
    /// Bodies of the changes.
    pub bodies: Vec<String>,
}

pub struct Receiver {
    pub wire: Proxy,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    pub async fn start(replicas: i64) -> Self {
        let state = Arc::new(Mutex::new(State {
            replicas,
            running: replicas,
            updating: false,
            bounds: (0, 1000),
            queue: None,
            answers: Vec::new(),
            says: None,
            headers: Vec::new(),
            bodies: Vec::new(),
        }));
        let kept = state.clone();
        let answer = move |head: &Parts, call: &Call| answer(&mut kept.lock().expect("no holder panics"), head, call);
        Self { wire: Proxy::within(answer).await, state }
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no holder panics"))
    }

    pub fn replicas(&self) -> i64 {
        self.with(|state| state.replicas)
    }

    /// Lets Jenkins build what waits.
    pub fn build(&self) {
        self.with(|state| {
            let builds = state.queue.replace(Vec::new()).expect("builds wait");
            builds.iter().for_each(|build| state.build(build));
        });
    }
}

impl State {
    /// The pipeline of the job: `currentReplicas + scale.toInteger()`, and an error outside the labels' bounds.
    fn build(&mut self, parameters: &Pairs) {
        assert_eq!(parameters["service"], SERVICE);
        let new = self.replicas + parameters["scale"].parse::<i64>().expect("toInteger() takes it");
        if (self.bounds.0..=self.bounds.1).contains(&new) {
            self.replicas = new;
        }
    }
}

fn reply(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    Response::builder().status(status).body(body.into()).expect("a valid reply")
}

fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    let url = Url::parse(&format!("http://fake{}", call.path)).expect("a path");
    let query: Pairs = url.query_pairs().into_owned().collect();
    let is_of_service = |path: &str| path == format!("/services/{SERVICE}");
    if call.method == "GET" && !url.path().starts_with("/set") {
        return match url.path() {
            path if is_of_service(path) => counts(state),
            _ => reply(404, "no such service"),
        };
    }
    state.headers.push(
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect(),
    );
    state.bodies.push(String::from_utf8_lossy(&call.body).into_owned());
    if !state.answers.is_empty() {
        return reply(state.answers.remove(0), "canary-body");
    }
    match (call.method.as_str(), url.path()) {
        ("PUT", path) if is_of_service(path) => set(state, call.json()["replicas"].as_i64()),
        ("GET", "/set") => set(state, query.get("replicas").and_then(|replicas| replicas.parse().ok())),
        ("POST", "/job/service-scale/buildWithParameters") => jenkins(state, head, call, query),
        ("POST", "/v1/scale-service") => docker_scaler(state, call, &query),
        _ => reply(404, "no such path"),
    }
}

/// As Docker's API tells a service with `status=true`.
fn counts(state: &State) -> Response<Bytes> {
    let update = if state.updating { "updating" } else { "completed" };
    let service = json!({
        "Spec": { "Name": SERVICE, "Mode": { "Replicated": { "Replicas": state.replicas } } },
        "UpdateStatus": { "State": update },
        "ServiceStatus": { "RunningTasks": state.running, "DesiredTasks": state.replicas },
    });
    reply(200, service.to_string())
}

fn set(state: &mut State, count: Option<i64>) -> Response<Bytes> {
    let Some(count) = count.filter(|count| 0 <= *count) else { return reply(400, "no count") };
    state.replicas = count;
    let says = state.says.clone().unwrap_or_else(|| count.into());
    reply(200, json!({ "replicas": says }).to_string())
}

/// A parameterized build by the job's own token. Parameters come in the query or in a form; what the job does not declare is
/// dropped, and a build that waits with the same parameters is not queued twice.
fn jenkins(state: &mut State, head: &Parts, call: &Call, query: Pairs) -> Response<Bytes> {
    let content_type = head.headers.get("content-type").map(|value| value.to_str().expect("text"));
    let form = match content_type {
        Some("application/x-www-form-urlencoded") => form_urlencoded::parse(&call.body).into_owned().collect(),
        _ => Pairs::new(),
    };
    let given: Pairs = query.into_iter().chain(form).collect();
    if given.get("token").map(String::as_str) != Some(TOKEN) {
        return reply(403, "<html>Forbidden</html>");
    }
    let parameters: Pairs =
        given.into_iter().filter(|(name, _)| ["service", "scale"].contains(&name.as_str())).collect();
    match &mut state.queue {
        Some(queue) if queue.contains(&parameters) => {}
        Some(queue) => queue.push(parameters),
        None => state.build(&parameters),
    }
    reply(201, "")
}

/// What cannot be decoded counts as not given, and `by` then as 1, the default. Bounds clamp.
fn docker_scaler(state: &mut State, call: &Call, query: &Pairs) -> Response<Bytes> {
    let labels = &call.json()["groupLabels"];
    let of_body = |name: &str| labels[name].as_str().unwrap_or_default().to_owned();
    let given = |name: &str| query.get(name).cloned().unwrap_or_else(|| of_body(name));
    let refuse = |message: &str| reply(400, json!({ "status": "NOK", "message": message }).to_string());
    let (service, scale) = (given("service"), given("scale"));
    if service.is_empty() {
        return refuse("No service name in request");
    }
    if scale != "up" && scale != "down" {
        return refuse("Incorrect scale direction in request");
    }
    if service != SERVICE {
        return reply(500, json!({ "status": "NOK", "message": "no such service" }).to_string());
    }
    let by = query.get("by").and_then(|by| by.parse::<i64>().ok().map(i64::abs)).or(labels["by"].as_i64());
    let by = by.filter(|by| *by != 0).unwrap_or(1);
    let new = state.replicas + if scale == "up" { by } else { -by };
    state.replicas = new.max(0).max(state.bounds.0).min(state.bounds.1);
    reply(200, json!({ "status": "OK", "message": format!("Scaling {service}") }).to_string())
}
