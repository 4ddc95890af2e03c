//! Fly's Machines API with a state, behind Prism with what Fly publishes of it: <https://fly.io/docs/machines/api/>.
//!
//! What Prism cannot see this one refuses itself: a wrong token, fields that Fly does not know, states from which a step cannot
//! be taken, leased machines. Its own answers pass through Prism as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use crate::support::prism::Prism;
use crate::support::proxy::call::text;
use crate::support::proxy::{Call, Proxy};

/// The app that is there.
pub const APP: &str = "orders";
/// What `Authorization` must be.
const TOKENS: [&str; 2] = ["Bearer canary-token", "FlyV1 canary-token"];

/// A running API. Requests pass first through `front`, where a test breaks connections, then through Prism.
pub struct Api {
    pub front: Proxy,
    prism: Prism,
    _fake: Proxy,
    state: Arc<Mutex<State>>,
}

/// Everything that is there.
#[derive(Default)]
pub struct State {
    pub machines: Vec<Value>,
    /// Apps by organization.
    pub apps: BTreeMap<&'static str, Vec<&'static str>>,
    /// Machines with which nothing can be done.
    pub stuck: BTreeSet<String>,
    /// How many machines can still be created, where that has an end.
    pub room: Option<usize>,
    /// How often a machine that stops is looked at before it has stopped.
    pub slowness: usize,
    /// How many looks at one machine still show it as it was before its last step.
    pub lags: usize,
    before: BTreeMap<String, Value>,
    looks: usize,
    created: usize,
    /// Requests that Fly would refuse and Prism lets through.
    complaints: Vec<String>,
}

type Answer = Result<(Value, Option<String>), (u16, String)>;

impl Api {
    /// An API with machines in these states, with ids from 1.
    pub async fn start(states: &[&str]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let kept = state.clone();
        // A test that panics while it looks at the state fails by itself.
        let fake = Proxy::within(move |head, call| {
            answer(&mut kept.lock().unwrap_or_else(PoisonError::into_inner), head, call)
        });
        let fake = fake.await;
        let prism = Prism::start("fly-machines.json", &fake.url()).await;
        let address = prism.url().trim_start_matches("http://").parse().expect("it is an address");
        let api = Self { front: Proxy::start(address).await, prism, _fake: fake, state };
        api.become_(states);
        api
    }

    /// Has machines in these states instead, and forgets all calls.
    pub fn become_(&self, states: &[&str]) {
        let machines = (1..).zip(states).map(|(id, state)| machine(&format!("{id}"), state)).collect();
        self.with(|all| *all = State { machines, ..State::default() });
        self.front.reset();
    }

    /// Looks at everything, or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().expect("no other test panics while it holds the state"))
    }

    /// Changes one machine.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        self.with(|state| change(state.machine(id).expect("it is there")));
    }

    /// The settings of a target, and what else they have.
    pub fn target(&self, more: Value) -> Value {
        let mut target = json!({ "type": "fly", "app": APP, "url": self.front.url(), "token": "canary-token" });
        target.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        target
    }

    /// How many machines are in this state.
    pub fn count(&self, state: &str) -> usize {
        self.with(|all| all.machines.iter().filter(|machine| machine["state"] == state).count())
    }

    /// What was asked for beside reading, as `stop 2` or `create`, in order of the names.
    pub fn steps(&self) -> Vec<String> {
        let step = |call: Call| {
            let path = call.path.split('?').next().unwrap_or_default().to_owned();
            let parts: Vec<_> = path.trim_start_matches("/v1/apps/orders/machines").split('/').skip(1).collect();
            match (call.method.as_str(), &parts[..]) {
                ("POST", []) => "create".to_owned(),
                ("DELETE", [id]) => format!("destroy {id}"),
                ("POST", [id, step]) => format!("{step} {id}"),
                other => panic!("nobody asks for {other:?}"),
            }
        };
        let calls = self.front.calls().into_iter().filter(|call| call.method != "GET");
        let mut steps: Vec<_> = calls.map(step).collect();
        steps.sort();
        steps
    }

    /// Every request was one that Fly takes, and every answer one that Fly gives. Its description leaves out the answers to
    /// requests that fail, which <https://fly.io/docs/machines/api/working-with-machines-api/#response-codes> has.
    pub fn was_right(&self) {
        let mut violations = self.prism.violations();
        violations.retain(|line| !line.contains("Unable to match the returned status code"));
        assert_eq!(violations, Vec::<String>::new());
        assert_eq!(self.with(|state| state.complaints.clone()), Vec::<String>::new());
    }
}

/// A machine of the process group `app`.
pub fn machine(id: &str, state: &str) -> Value {
    json!({
        "id": id, "name": format!("machine-{id}"), "state": state, "region": "ams", "host_status": "ok",
        "instance_id": format!("01HTXY1Q8ZX3MZ6ZB6MQWJ8R{id:0>2}"), "created_at": format!("2026-11-01T00:00:{id:0>2}Z"),
        "config": {
            "image": "registry.fly.io/orders:latest", "env": { "KEPT": "as it is" },
            "metadata": { "fly_process_group": "app", "fly_platform_version": "v2" },
            "guest": { "cpu_kind": "shared", "cpus": 1, "memory_mb": 256 },
            "services": [{ "internal_port": 8080, "protocol": "tcp", "autostop": false }],
        },
        "image_ref": { "registry": "registry.fly.io", "repository": "orders", "tag": "v7", "digest": "sha256:c0ffee" },
    })
}

fn answer(state: &mut State, head: &Parts, call: &Call) -> Response<Bytes> {
    let token = text(&head.headers, "authorization").unwrap_or_default();
    let result = match TOKENS.contains(&token) {
        true => state.answer(head, call),
        false => refuse(401, "authenticate: token validation error"),
    };
    let (status, body, next) = match result {
        Ok((body, next)) => (200, body, next),
        Err((status, error)) => (status, json!({ "error": error }), None),
    };
    let reply = Response::builder().status(status).header("content-type", "application/json");
    let reply = next.into_iter().fold(reply, |reply, next| reply.header("fly-next-cursor", next));
    reply.body(Bytes::from(body.to_string())).expect("it is a valid reply")
}

fn refuse<T>(status: u16, error: &str) -> Result<T, (u16, String)> {
    Err((status, error.to_owned()))
}

impl State {
    fn machine(&mut self, id: &str) -> Option<&mut Value> {
        self.machines.iter_mut().find(|machine| machine["id"] == id)
    }

    fn answer(&mut self, head: &Parts, call: &Call) -> Answer {
        let query: BTreeMap<_, _> = head
            .uri
            .query()
            .into_iter()
            .flat_map(|all| all.split('&'))
            .filter_map(|pair| pair.split_once('='))
            .collect();
        let parts: Vec<_> = head.uri.path().trim_start_matches("/v1/apps").split('/').skip(1).collect();
        match (call.method.as_str(), &parts[..]) {
            ("GET", []) => self.list_apps(query["org_slug"]),
            (_, [app, ..]) if *app != APP => refuse(404, "app not found"),
            ("GET", [_, "machines"]) => self.list(&query),
            ("POST", [_, "machines"]) => self.create(&call.json()),
            ("GET", [_, "machines", id, "wait"]) => self.wait(id, &query),
            ("GET", [_, "machines", id]) => self.look(id),
            ("DELETE", [_, "machines", id]) => self.step(id, "destroy", query.get("force").copied().unwrap_or("false")),
            ("POST", [_, "machines", id, step]) => {
                self.look_at(&call.json(), &["signal", "timeout"]);
                self.step(id, step, "")
            }
            other => panic!("Prism lets {other:?} through"),
        }
    }

    /// Fly refuses what it does not know.
    fn look_at(&mut self, body: &Value, known: &[&str]) {
        let unknown = body.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str()));
        self.complaints.extend(unknown.map(|(key, _)| format!("nobody knows the field {key}")));
    }

    fn list_apps(&self, org: &str) -> Answer {
        let Some(apps) = self.apps.get(org) else { return refuse(404, "organization not found") };
        let list: Vec<_> = apps.iter().map(|app| json!({ "id": app, "name": app, "machine_count": 1 })).collect();
        Ok((json!({ "total_apps": list.len(), "apps": list }), None))
    }

    /// Time passes from list to list: what is about to be, is.
    fn list(&mut self, query: &BTreeMap<&str, &str>) -> Answer {
        let first: usize = query.get("cursor").map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
        let limit: usize = query["limit"].parse().expect("Prism lets numbers through");
        let page: Vec<_> = self.machines.iter().skip(first).take(limit).cloned().collect();
        let next = (first + limit < self.machines.len()).then(|| (first + limit).to_string());
        if next.is_none() {
            self.pass_time();
        }
        Ok((json!(page), next))
    }

    fn pass_time(&mut self) {
        let stops = self.slowness <= self.looks;
        self.looks += usize::from(self.machines.iter().any(|machine| machine["state"] == "stopping"));
        for machine in &mut self.machines {
            let next = match machine["state"].as_str().expect("it has a state") {
                "starting" => "started",
                "stopping" if stops => "stopped",
                "suspending" => "suspended",
                same => same,
            };
            machine["state"] = json!(next);
        }
    }

    fn look(&mut self, id: &str) -> Answer {
        if let (Some(before), 1..) = (self.before.get(id), self.lags) {
            self.lags -= 1;
            return Ok((before.clone(), None));
        }
        match self.machine(id) {
            Some(machine) => Ok((machine.clone(), None)),
            None => refuse(404, "machine not found"),
        }
    }

    /// <https://fly.io/docs/machines/api/machines-resource/#wait-for-a-machine-to-reach-a-specified-state>
    fn wait(&mut self, id: &str, query: &BTreeMap<&str, &str>) -> Answer {
        let stops = self.slowness <= self.looks;
        let Some(machine) = self.machine(id) else { return refuse(404, "machine not found") };
        if machine["instance_id"] != query["instance_id"] || query["state"] != "stopped" {
            return refuse(400, "invalid instance id");
        }
        match machine["state"].as_str() {
            Some("stopping") if stops => machine["state"] = json!("stopped"),
            Some("stopped") => {}
            _ => return refuse(408, "deadline_exceeded: timed out waiting for machine to reach stopped state"),
        }
        Ok((json!({ "ok": true }), None))
    }

    fn create(&mut self, body: &Value) -> Answer {
        self.look_at(body, &["config", "region", "skip_launch"]);
        if self.room == Some(0) {
            return refuse(429, "rate limit exceeded");
        }
        if !body["config"]["image"].is_string() {
            return refuse(400, "config.image is required");
        }
        self.room = self.room.map(|room| room - 1);
        self.created += 1;
        let mut new =
            machine(&format!("9{}", self.created), if body["skip_launch"] == true { "stopped" } else { "starting" });
        new["config"] = body["config"].clone();
        new["region"] = body["region"].clone();
        self.machines.push(new.clone());
        Ok((new, None))
    }

    fn step(&mut self, id: &str, step: &str, force: &str) -> Answer {
        let is_stuck = self.stuck.contains(id);
        let before = self.machine(id).cloned();
        self.before.extend(before.map(|before| (id.to_owned(), before)));
        let Some(machine) = self.machine(id) else { return refuse(404, "machine not found") };
        if machine["lease"].is_object() {
            return refuse(409, "aborted: lease currently held by canary@tokens.fly.io");
        }
        let next = match (step, machine["state"].as_str().expect("it has a state"), force) {
            _ if is_stuck => return refuse(412, "failed_precondition: unable to do that"),
            ("start", "stopped" | "suspended" | "created", _) => "starting",
            ("stop", "started" | "starting", _) => "stopping",
            ("suspend", "started", _) => "suspending",
            ("destroy", _, "true") | ("destroy", "stopped" | "created", _) => {
                self.machines.retain(|machine| machine["id"] != id);
                return Ok((json!({ "ok": true }), None));
            }
            (_, state, _) => return refuse(412, &format!("failed_precondition: cannot {step} what is {state}")),
        };
        machine["state"] = json!(next);
        Ok((json!({ "ok": true }), None))
    }
}
