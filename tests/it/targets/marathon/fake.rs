//! A Marathon, as far as scaling applications goes: <https://mesosphere.github.io/marathon/api-console/index.html>.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use crate::support::judged::{Judged, json as answer_with};
use crate::support::proxy::Call;
use crate::support::proxy::call::text;

pub const DEPLOYMENT: &str = "97c136bf-5a28-4821-9d94-480d9fbb01c8";

#[derive(Default)]
pub struct App {
    pub instances: i64,
    pub running: i64,
    pub staged: i64,
    pub unhealthy: i64,
    pub labels: BTreeMap<&'static str, &'static str>,
    pub is_deployed: bool,
}

/// What there is.
#[derive(Default)]
pub struct State {
    pub apps: BTreeMap<&'static str, App>,
    /// The only value of `Authorization` that is let in, where there is one.
    pub login: Option<&'static str>,
    /// How many changes find the application locked.
    pub locks: u32,
    /// What a change is refused with.
    pub refusal: Option<(u16, &'static str)>,
}

pub struct Marathon {
    judged: Judged,
    state: Arc<Mutex<State>>,
}

impl Deref for Marathon {
    type Target = Judged;

    fn deref(&self) -> &Judged {
        &self.judged
    }
}

impl Marathon {
    /// An application `/shop/orders` with so many tasks, beside others.
    pub async fn start(instances: i64) -> Self {
        let app = |instances| App { instances, running: instances, ..App::default() };
        let apps =
            [("/shop/orders", app(instances)), ("/shop/orders-2", app(1)), ("/shop/eu/mail", app(2)), ("/top", app(4))];
        let state = Arc::new(Mutex::new(State { apps: apps.into_iter().collect(), ..State::default() }));
        let kept = state.clone();
        let answer = move |head: &Parts, call: &Call| {
            answer(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), head, call)
        };
        Self { judged: Judged::start("marathon.json", answer).await, state }
    }

    /// Looks at everything, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no holder of the state panics"))
    }

    /// Looks at an application, or changes it.
    pub fn app<T>(&self, id: &str, change: impl FnOnce(&mut App) -> T) -> T {
        self.with(|state| change(state.apps.get_mut(id).expect("it is there")))
    }

    pub fn instances(&self, id: &str) -> i64 {
        self.app(id, |app| app.instances)
    }

    pub fn settings(&self, app: &str) -> Value {
        json!({ "type": "marathon", "url": self.url(), "app": app })
    }
}

fn refuse(status: u16, message: &str) -> Response<Bytes> {
    answer_with(status, &json!({ "message": message }))
}

fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    if state.login.is_some_and(|login| text(&head.headers, "authorization") != Some(login)) {
        return refuse(401, "Authentication is needed.");
    }
    let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
    let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    match (call.method.as_str(), path, path.strip_prefix("/v2/apps")) {
        ("GET", "/v2/apps", _) => list(state, &query),
        ("PUT", _, Some(id)) => update(state, id, &query, call),
        _ => refuse(500, "URI not found"),
    }
}

fn list(state: &State, query: &[(String, String)]) -> Response<Bytes> {
    let given = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let is_embedded = |what: &str| query.iter().any(|(key, value)| key == "embed" && value == what);
    let has_label = |app: &App| {
        given("label").is_none_or(|selector| {
            let (name, value) = selector.split_once("==").expect("a selector by equality");
            app.labels.get(name) == Some(&value)
        })
    };
    let shown =
        state.apps.iter().filter(|(id, app)| given("id").is_none_or(|part| id.contains(part)) && has_label(app));
    let apps: Vec<_> = shown
        .map(|(id, app)| {
            let mut shown = json!({ "id": id, "instances": app.instances, "labels": app.labels, "cmd": "run", "killSelection": "YOUNGEST_FIRST" });
            if is_embedded("apps.counts") {
                shown["tasksRunning"] = json!(app.running);
                shown["tasksStaged"] = json!(app.staged);
                shown["tasksUnhealthy"] = json!(app.unhealthy);
                shown["tasksHealthy"] = json!(0);
            }
            if is_embedded("apps.deployments") {
                shown["deployments"] = if app.is_deployed { json!([{ "id": DEPLOYMENT }]) } else { json!([]) };
            }
            shown
        })
        .collect();
    answer_with(200, &json!({ "apps": apps }))
}

fn update(state: &mut State, id: &str, query: &[(String, String)], call: &Call) -> Response<Bytes> {
    if let Some((status, message)) = state.refusal {
        return refuse(status, message);
    }
    // The description lets through what it does not know.
    let body: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
    let instances = body.get("instances").and_then(Value::as_i64).filter(|_| body.len() == 1);
    let is_partial = query == [("partialUpdate".to_owned(), "true".to_owned())];
    let (Some(app), Some(instances), true) = (state.apps.get_mut(id), instances, is_partial) else {
        let details = json!([{ "path": "/", "errors": ["AppDefinition must have cmd, args or a container."] }]);
        return answer_with(422, &json!({ "message": "Object is not valid", "details": details }));
    };
    if app.is_deployed || 0 < state.locks {
        state.locks = state.locks.saturating_sub(1);
        let message = "App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.";
        return answer_with(409, &json!({ "message": message, "deployments": [{ "id": DEPLOYMENT }] }));
    }
    (app.instances, app.running) = (instances, instances);
    let mut answer = answer_with(200, &json!({ "version": "2026-01-01T00:00:00.000Z", "deploymentId": DEPLOYMENT }));
    answer.headers_mut().insert("marathon-deployment-id", DEPLOYMENT.parse().expect("a valid header"));
    answer
}
