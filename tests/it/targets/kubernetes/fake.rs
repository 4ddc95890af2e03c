//! An API server with Deployments, StatefulSets and ReplicaSets of one namespace, as strict as the real one where Prism is not:
//! the media type of a patch, unknown fields, negative counts, names, tokens.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Response;
use hyper::body::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};

use crate::support::proxy::{Call, Proxy};

/// The token that it takes.
pub const TOKEN: &str = "canary-token";

/// The objects by resource and name.
type Objects = BTreeMap<(String, String), Value>;

/// A running fake. As a [`Proxy`], it takes scripts and logs calls.
pub struct Cluster {
    proxy: Proxy,
    objects: Arc<Mutex<Objects>>,
}

impl Deref for Cluster {
    type Target = Proxy;

    fn deref(&self) -> &Proxy {
        &self.proxy
    }
}

impl Cluster {
    /// Each kind once, with three replicas.
    pub async fn start() -> Self {
        let objects: Objects = [("deployments", "orders"), ("statefulsets", "carts"), ("replicasets", "bills")]
            .into_iter()
            .map(|(resource, name)| ((resource.to_owned(), name.to_owned()), object(resource, name)))
            .collect();
        let objects = Arc::new(Mutex::new(objects));
        let kept = objects.clone();
        let answer = move |head: &Parts, call: &Call| {
            let mut objects = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (status, body) = answer(&mut objects, head, call).unwrap_or_else(|refusal| refusal);
            let reply = Response::builder().status(status).header("content-type", "application/json");
            reply.body(Bytes::from(body.to_string())).expect("a valid reply")
        };
        Self { proxy: Proxy::within(answer).await, objects }
    }

    /// Looks at an object, or changes it.
    pub fn with<T>(&self, resource: &str, name: &str, change: impl FnOnce(&mut Value) -> T) -> T {
        let mut objects = self.objects.lock().expect("no other test panics while it holds the objects");
        change(objects.get_mut(&(resource.to_owned(), name.to_owned())).expect("it is there"))
    }

    /// How many an object asks for.
    pub fn replicas(&self, resource: &str, name: &str) -> u64 {
        self.with(resource, name, |it| it["spec"]["replicas"].as_u64().expect("it has a count"))
    }
}

fn object(resource: &str, name: &str) -> Value {
    let kind = match resource {
        "deployments" => "Deployment",
        "statefulsets" => "StatefulSet",
        _ => "ReplicaSet",
    };
    let labels = json!({ "app": name });
    let mut it = json!({
        "kind": kind, "apiVersion": "apps/v1",
        "metadata": { "name": name, "namespace": "shop", "uid": name, "resourceVersion": "7", "generation": 1, "labels": labels },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "it", "image": "it:1" }] } },
        },
        "status": { "observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3 },
    });
    match resource {
        "deployments" => {
            it["status"]["updatedReplicas"] = 3.into();
            it["status"]["conditions"] =
                json!([{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }]);
        }
        "statefulsets" => {
            it["spec"]["serviceName"] = name.into();
            it["status"]["updatedReplicas"] = 3.into();
            it["status"]["currentRevision"] = format!("{name}-1").into();
            it["status"]["updateRevision"] = format!("{name}-1").into();
        }
        _ => {}
    }
    it
}

/// A status and a document; the same as an error where nothing was done.
type Answer = Result<(u16, Value), (u16, Value)>;

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let message = "canary message";
    let body = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code });
    (code, body)
}

fn answer(objects: &mut Objects, head: &Parts, call: &Call) -> Answer {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("authorization") != format!("Bearer {TOKEN}") {
        return Err(failure(401, "Unauthorized"));
    }
    let path: Vec<_> = head.uri.path().trim_start_matches('/').split('/').collect();
    let ["apis", "apps", "v1", "namespaces", "shop", resource, rest @ ..] = &path[..] else {
        return Err(failure(404, "NotFound"));
    };
    let find = |name: &str| ((*resource).to_owned(), name.to_owned());
    match (head.method.as_str(), rest) {
        ("GET", []) => Ok((200, list(objects, resource, head))),
        ("GET", [name]) => match objects.get(&find(name)) {
            Some(found) => Ok((200, found.clone())),
            None => Err(failure(404, "NotFound")),
        },
        ("PATCH", [name, "scale"]) => match objects.get_mut(&find(name)) {
            _ if header("content-type") != "application/merge-patch+json" => Err(failure(415, "UnsupportedMediaType")),
            Some(found) => patch_scale(found, &call.json()),
            None => Err(failure(404, "NotFound")),
        },
        _ => Err(failure(405, "MethodNotAllowed")),
    }
}

/// Sets the count, and lets the controller follow at once. The API server refuses no unknown fields, but this does.
fn patch_scale(found: &mut Value, patch: &Value) -> Answer {
    let replicas = patch["spec"]["replicas"].as_i64().ok_or_else(|| failure(400, "BadRequest"))?;
    if *patch != json!({ "spec": { "replicas": replicas } }) {
        return Err(failure(400, "BadRequest"));
    }
    if !(0..=i64::from(i32::MAX)).contains(&replicas) {
        return Err(failure(422, "Invalid"));
    }
    if found["spec"]["replicas"] != replicas {
        found["spec"]["replicas"] = replicas.into();
        let generation = found["metadata"]["generation"].as_i64().unwrap_or_default() + 1;
        found["metadata"]["generation"] = generation.into();
        found["status"]["observedGeneration"] = generation.into();
        let counts = ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"];
        for count in counts.into_iter().filter(|count| found["status"].get(count).is_some()).collect::<Vec<_>>() {
            found["status"][count] = replicas.into();
        }
    }
    // Go leaves a count of 0 out.
    let spec = if replicas == 0 { json!({}) } else { json!({ "replicas": replicas }) };
    let metadata = json!({ "name": found["metadata"]["name"], "namespace": "shop", "resourceVersion": "8" });
    Ok((
        200,
        json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": { "replicas": replicas } }),
    ))
}

/// Pages of one object, of whatever label.
fn list(objects: &Objects, resource: &str, head: &Parts) -> Value {
    let url = url::Url::parse(&format!("http://it{}", head.uri)).expect("it is a URL");
    let asked = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let at: usize = asked("continue").map_or(0, |token| token.parse().expect("a token of ours"));
    let mut all = objects
        .iter()
        .filter(|((of, _), _)| of == resource)
        .map(|(_, it)| json!({ "metadata": it["metadata"] }))
        .skip(at);
    let items: Vec<_> = all.next().into_iter().collect();
    let token = if all.next().is_some() { (at + 1).to_string() } else { String::new() };
    json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": { "continue": token }, "items": items })
}

impl Cluster {
    /// Adds a Deployment.
    pub fn add(&self, name: &str) {
        let mut objects = self.objects.lock().expect("no other test panics while it holds the objects");
        objects.insert(("deployments".to_owned(), name.to_owned()), object("deployments", name));
    }
}
