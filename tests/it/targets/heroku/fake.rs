//! An app of Heroku's, as far as scaling it goes: <https://devcenter.heroku.com/articles/platform-api-reference>.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use crate::support::judged::{Judged, json as answer_with};
use crate::support::proxy::Call;
use crate::support::proxy::call::text;

const APP: &str = "01234567-89ab-cdef-0123-456789abcdef";
const TIME: &str = "2026-01-01T00:00:00Z";

/// What there is.
pub struct State {
    /// Process types with their quantity and their size.
    pub formation: Vec<(&'static str, i64, &'static str)>,
    /// Dynos with their type, their state and their release.
    pub dynos: Vec<(&'static str, &'static str, i64)>,
    pub maintenance: bool,
    /// How many calls are left of the account's.
    pub calls_left: u32,
    /// How many entries a page has.
    pub page: usize,
    /// What a change is refused with.
    pub refusal: Option<(u16, &'static str)>,
}

pub struct Heroku {
    judged: Judged,
    state: Arc<Mutex<State>>,
}

impl Deref for Heroku {
    type Target = Judged;

    fn deref(&self) -> &Judged {
        &self.judged
    }
}

impl Heroku {
    /// An app with so many workers and one web dyno.
    pub async fn start(workers: i64) -> Self {
        let mut dynos = vec![("web", "up", 42)];
        dynos.extend((0..workers).map(|_| ("worker", "up", 42)));
        let state = State {
            formation: vec![("worker", workers, "Standard-1X"), ("web", 1, "Eco"), ("console", 0, "Standard-1X")],
            dynos,
            maintenance: false,
            calls_left: 4500,
            page: 200,
            refusal: None,
        };
        let state = Arc::new(Mutex::new(state));
        let kept = state.clone();
        let answer = move |head: &Parts, call: &Call| {
            answer(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), head, call)
        };
        Self { judged: Judged::start("heroku-platform.json", answer).await, state }
    }

    /// Looks at everything, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no holder of the state panics"))
    }

    /// What is asked for of a process type, and in which size.
    pub fn process(&self, name: &str) -> (i64, &'static str) {
        let find = |state: &mut State| state.formation.iter().find(|process| process.0 == name).copied();
        self.with(find).map(|(_, quantity, size)| (quantity, size)).expect("it is there")
    }

    pub fn settings(&self, process: &str) -> Value {
        json!({ "type": "heroku", "app": "shop", "process": process, "token": "canary-token", "url": self.url() })
    }
}

fn refuse(status: u16, id: &str, message: &str) -> Response<Bytes> {
    answer_with(status, &json!({ "id": id, "message": message, "url": "https://devcenter.heroku.com/articles/" }))
}

fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    if text(&head.headers, "authorization") != Some("Bearer canary-token") {
        return refuse(401, "unauthorized", "Invalid credentials provided.");
    }
    if text(&head.headers, "accept") != Some("application/vnd.heroku+json; version=3") {
        return refuse(406, "not_acceptable", "Set the Accept header.");
    }
    let Some(left) = state.calls_left.checked_sub(1) else {
        let mut answer = refuse(429, "rate_limit", "Your account reached the API rate limit");
        answer.headers_mut().insert("ratelimit-remaining", 0.into());
        return answer;
    };
    state.calls_left = left;
    match (call.method.as_str(), call.path.split('/').collect::<Vec<_>>().as_slice()) {
        (_, ["", "apps", app, ..]) if *app != "shop" => refuse(404, "not_found", "Couldn't find that app."),
        ("GET", ["", "apps", _]) => {
            answer_with(200, &json!({ "id": APP, "name": "shop", "maintenance": state.maintenance }))
        }
        ("GET", ["", "apps", _, "formation"]) => page(state.formation.iter().map(process).collect(), state.page, head),
        ("GET", ["", "apps", _, "dynos"]) => page(state.dynos.iter().zip(0..).map(dyno).collect(), state.page, head),
        ("PATCH", ["", "apps", _, "formation", name]) => update(state, name, call),
        _ => refuse(404, "not_found", "The requested API endpoint was not found."),
    }
}

fn process((name, quantity, size): &(&str, i64, &str)) -> Value {
    json!({
        "app": { "id": APP, "name": "shop" }, "command": "bin/run", "created_at": TIME, "updated_at": TIME, "id": APP,
        "dyno_size": { "id": APP, "name": size }, "size": size, "type": name, "quantity": quantity,
    })
}

fn dyno(((kind, state, version), number): (&(&str, &str, i64), usize)) -> Value {
    json!({
        "app": { "id": APP, "name": "shop" }, "attach_url": null, "command": "bin/run", "created_at": TIME, "updated_at": TIME,
        "id": format!("01234567-89ab-cdef-0123-{number:012}"), "name": format!("{kind}.{number}"), "size": "Standard-1X",
        "release": { "id": APP, "version": version }, "state": state, "type": kind,
    })
}

/// A page of a list, by the Range header: <https://devcenter.heroku.com/articles/platform-api-reference#ranges>.
fn page(entries: Vec<Value>, length: usize, head: &Parts) -> Response<Bytes> {
    let after = text(&head.headers, "range").map(|range| {
        let number = range.strip_prefix("id ]").and_then(|range| range.strip_suffix("..; max=200"));
        number
            .and_then(|number| number.parse::<usize>().ok())
            .unwrap_or_else(|| panic!("a range that was not named: {range}"))
    });
    let from = after.map_or(0, |after| after + 1);
    let shown: Vec<_> = entries.iter().skip(from).take(length).cloned().collect();
    match from + length < entries.len() {
        false => answer_with(200, &shown.into()),
        true => {
            let mut answer = answer_with(206, &shown.into());
            let next = format!("id ]{}..; max=200", from + length - 1);
            answer.headers_mut().insert("next-range", next.parse().expect("a valid header"));
            answer
        }
    }
}

fn update(state: &mut State, name: &str, call: &Call) -> Response<Bytes> {
    if let Some((status, id)) = state.refusal {
        return refuse(status, id, "Conflicting request.");
    }
    let Some(found) = state.formation.iter_mut().find(|process| process.0 == name) else {
        return refuse(404, "not_found", "Couldn't find that process type.");
    };
    // The description lets through what it does not know, and what is negative.
    let body: Map<String, Value> = serde_json::from_slice(&call.body).unwrap_or_default();
    let quantity = match body.get("quantity").and_then(Value::as_i64) {
        Some(quantity) if 0 <= quantity && body.len() == 1 => quantity,
        _ => return refuse(422, "invalid_params", "Only quantity may be changed, to 0 or more."),
    };
    if found.2 == "Eco" && 1 < quantity {
        let message = "Cannot update to more than 1 Eco size dynos per process type.";
        return refuse(422, "cannot_update_above_limit", message);
    }
    found.1 = quantity;
    let (kind, entry) = (found.0, process(found));
    let (mut ours, others): (Vec<_>, Vec<_>) = state.dynos.iter().copied().partition(|dyno| dyno.0 == kind);
    ours.resize(usize::try_from(quantity).expect("it is not negative"), (kind, "starting", 42));
    state.dynos = [others, ours].concat();
    answer_with(200, &entry)
}
