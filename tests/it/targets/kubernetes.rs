//! Kubernetes: a fake API server that remembers, behind Prism with the description that Kubernetes publishes.

mod fake;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::adapter::find;
use tidegate::config::{self, Input};
use tidegate::error::ErrorKind;
use tidegate::shared::Shared;
use tidegate::targets::TABLE;

use self::fake::{Cluster, TOKEN};
use crate::support::http::{CA, HttpServer, Reply};
use crate::support::prism::Prism;
use crate::support::proxy::Fault;
use crate::support::target::{look_on_through, rehearse, set, status};

/// A target at an API server. Autoscalers are not in the description that Prism has, so that none is looked for.
fn target(url: &str, kind: &str, name: &str) -> Value {
    json!({
        "type": "kubernetes", "url": url, "namespace": "shop", "kind": kind, "name": name, "token": TOKEN,
        "allow_other_scaler": true,
    })
}

fn refused(status: u16, reason: &str) -> Fault {
    let body = json!({ "kind": "Status", "status": "Failure", "message": "canary", "reason": reason, "code": status });
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Fault::Status { status, headers, body: body.to_string() }
}

#[tokio::test]
async fn counts_of_every_kind_are_read_and_set_as_kubernetes_describes_it() {
    let cluster = Cluster::start().await;
    let prism = Prism::start("kubernetes-scale.json", &cluster.url()).await;
    let url = prism.url();
    for (kind, resource, name) in [
        ("Deployment", "deployments", "orders"),
        ("StatefulSet", "statefulsets", "carts"),
        ("ReplicaSet", "replicasets", "bills"),
    ] {
        let target = target(&url, kind, name);
        let read = status(&[], target.clone()).await.expect("it is there");
        assert_eq!((read.status.desired, read.status.running, read.status.pending), (3, 3, 0), "{kind}");
        assert!(!read.status.rolling_out && read.status.warnings.is_empty(), "{kind}: {:?}", read.status);
        for (count, outcome, changes) in [(5, "changed", 1), (5, "held", 0), (0, "changed", 1), (7, "changed", 1)] {
            cluster.reset();
            let record = set(&[], target.clone(), count).await;
            assert_eq!(record["outcome"], outcome, "{kind}, {count}: {record}");
            assert_eq!(cluster.mutating().len(), changes, "{kind}, {count}");
            assert_eq!(cluster.replicas(resource, name), u64::from(count), "{kind}");
        }
        let container = |it: &mut Value| it["spec"]["template"]["spec"]["containers"][0]["image"].clone();
        assert_eq!(cluster.with(resource, name, container), "it:1");
    }
    cluster.fail_about("*", "/scale", 2, refused(409, "Conflict"));
    let record = set(&[], target(&url, "Deployment", "orders"), 6).await;
    assert_eq!(record["outcome"], "changed", "a conflict is tried again: {record}");
    rolls_out(&cluster, &url).await;
    for name in ["orders-b", "orders-a", "returns"] {
        cluster.add(name);
    }
    let found = discovered(target(&url, "Deployment", "orders-*")).await;
    assert_eq!(found, [target(&url, "Deployment", "orders-a"), target(&url, "Deployment", "orders-b")]);
    fails_in_its_kind(&cluster, &url).await;
    assert_eq!(prism.violations(), Vec::<String>::new());
}

async fn rolls_out(cluster: &Cluster, url: &str) {
    let new = |it: &mut Value| it["status"]["conditions"][0]["reason"] = "ReplicaSetUpdated".into();
    cluster.with("deployments", "orders", new);
    cluster.with("statefulsets", "carts", |it| it["status"]["updateRevision"] = "carts-2".into());
    for (kind, name) in [("Deployment", "orders"), ("StatefulSet", "carts")] {
        let read = status(&[], target(url, kind, name)).await.expect("it is there");
        assert!(read.status.rolling_out, "{kind}");
    }
}

async fn fails_in_its_kind(cluster: &Cluster, url: &str) {
    let error = status(&[], target(url, "Deployment", "unknown")).await.expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let another = with(target(url, "Deployment", "orders"), json!({ "token": "another" }));
    let error = status(&[], another).await.expect_err("not a token");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    cluster.with("deployments", "orders", |it| it["metadata"]["deletionTimestamp"] = "2026-11-22T06:00:00Z".into());
    let error = status(&[], target(url, "Deployment", "orders")).await.expect_err("it is being deleted");
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

/// What a target finds.
async fn discovered(mut settings: Value) -> Vec<Value> {
    let vars: BTreeMap<String, String> = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "it"),
        ("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/it"),
        ("S3_CONFIG_BUCKET", "it"),
        ("ALLOW_LOCAL_ADDRESSES", "true"),
        ("ALLOW_PLAIN_HTTP", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let config = config::load(Input { vars: &vars, event: &Value::Null, in_lambda: false, remote: None });
    let shared = Shared::new(&config.expect("it is valid"), Arc::new(vars), None).await;
    settings.as_object_mut().expect("an object").remove("type");
    let Ok(kind) = find(TABLE, "kubernetes") else { panic!("it is in the table") };
    let target = (kind.build)(&settings, &shared).expect("settings are valid");
    let found = target.discover().await.expect("it can be listed");
    found.into_iter().map(|it| with(json!({ "type": "kubernetes" }), it)).collect()
}

fn with(mut settings: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    settings
}

#[tokio::test]
async fn every_answer_that_is_an_error_has_its_kind_and_changes_nothing() {
    let cluster = Cluster::start().await;
    let orders = target(&cluster.url(), "Deployment", "orders");
    let error = status(&[], target(&cluster.url(), "Deployment", "unknown")).await.expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    for (code, reason, kind) in [
        (401, "Unauthorized", ErrorKind::Denied),
        (403, "Forbidden", ErrorKind::Denied),
        (404, "NotFound", ErrorKind::NotFound),
        (422, "Invalid", ErrorKind::Refused),
        (429, "TooManyRequests", ErrorKind::Throttled),
        (500, "InternalError", ErrorKind::Unavailable),
        (503, "ServiceUnavailable", ErrorKind::Unavailable),
        (504, "Timeout", ErrorKind::Timeout),
    ] {
        cluster.reset();
        cluster.fail("*", 1, refused(code, reason));
        let error = status(&[], orders.clone()).await.expect_err(reason);
        assert!(error.kind() == kind && error.to_string().contains(reason), "{code}: {error}");
        assert_eq!(cluster.calls().len(), 1, "{code}: nothing is repeated");
        cluster.fail_about("*", "/scale", 1, refused(code, reason));
        let record = set(&[], orders.clone(), 9).await;
        assert_eq!(record["failures"][0]["kind"], json!(kind), "{code}: {record}");
        assert_eq!(cluster.mutating().len(), 1, "{code}: what may have changed something is sent once");
        assert_eq!(cluster.replicas("deployments", "orders"), 3, "{code}");
    }
}

#[tokio::test]
async fn a_count_whose_reply_is_lost_is_not_set_twice() {
    let cluster = Cluster::start().await;
    let orders = target(&cluster.url(), "Deployment", "orders");
    cluster.fail_about("*", "/scale", 1, Fault::DropReply);
    let record = set(&[], orders.clone(), 4).await;
    assert_eq!(record["outcome"], "failed", "{record}");
    assert_eq!(cluster.replicas("deployments", "orders"), 4, "it was done all the same");
    let record = set(&[], orders, 4).await;
    assert_eq!((record["outcome"].as_str(), cluster.mutating().len()), (Some("held"), 1), "{record}");
}

#[tokio::test]
async fn a_dry_run_sends_nothing_that_changes_anything() {
    let cluster = Cluster::start().await;
    let target = json!({
        "type": "kubernetes", "url": cluster.url(), "namespace": "shop", "name": "orders", "token": TOKEN,
    });
    for count in [0, 9] {
        let record = rehearse(&[], target.clone(), count).await;
        assert_eq!(
            (record["outcome"].as_str(), &record["would_have"]["desired"]),
            (Some("dry_run"), &json!(count)),
            "{record}"
        );
    }
    assert!(!cluster.calls().is_empty() && cluster.mutating().is_empty(), "{:?}", cluster.mutating());
    assert_eq!(cluster.replicas("deployments", "orders"), 3);
}

#[tokio::test]
async fn a_rehearsal_beside_others_sends_kubernetes_nothing_that_changes_anything() {
    let cluster = Cluster::start().await;
    for (kind, resource, name) in [("Deployment", "deployments", "orders"), ("StatefulSet", "statefulsets", "carts")] {
        let settings = with(target(&cluster.url(), kind, name), json!({ "allow_other_scaler": false }));
        let others = async |count: u32| cluster.with(resource, name, |it| it["spec"]["replicas"] = count.into());
        look_on_through(&cluster, &[], settings, others).await;
    }
}

#[tokio::test]
async fn a_deployment_is_read_over_tls_and_from_nobody_else() {
    let pod = json!({
        "kind": "Deployment", "metadata": { "name": "orders", "generation": 1 }, "spec": { "replicas": 2 },
        "status": { "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1 },
    });
    let server = HttpServer::with_tls(Reply::json(pod)).await;
    let here = |more: Value| {
        let url = format!("https://localhost:{}", server.address.port());
        with(
            json!({ "type": "kubernetes", "url": url, "name": "orders", "token": TOKEN, "allow_other_scaler": true }),
            more,
        )
    };
    let base64 = base64_of(CA);
    for ca in [CA, &base64, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/certs/ca.pem")] {
        let read = status(&[], here(json!({ "ca": ca }))).await.expect("the CA is its own");
        assert_eq!((read.status.desired, read.status.running, read.status.pending), (2, 1, 1));
    }
    let error = status(&[], here(json!({}))).await.expect_err("nobody knows the CA");
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("certificate"), "{error}");
    let insecure = here(json!({ "insecure_tls": true }));
    let error = status(&[], insecure.clone()).await.expect_err("it is not permitted");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let read = status(&[("ALLOW_INSECURE_TLS", "true")], insecure).await.expect("it is permitted");
    assert!(read.status.warnings.iter().any(|warning| warning.contains("not verified")), "{:?}", read.status);
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A kubeconfig with two contexts, of which `it` has this user.
fn kubeconfig(folder: &Path, url: &str, user: &Value) -> Value {
    let file = folder.join("kubeconfig");
    let text = json!({
        "kind": "Config", "apiVersion": "v1", "current-context": "other",
        "clusters": [{ "name": "it", "cluster": { "server": url } }],
        "users": [{ "name": "it", "user": user }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    std::fs::write(&file, text.to_string()).expect("writing a file");
    json!({ "type": "kubernetes", "kubeconfig": file, "context": "it", "namespace": "shop", "name": "orders" })
}

/// A program that prints this and ends so.
fn program(folder: &Path, says: &str, code: u8) -> String {
    let file = folder.join("credential");
    std::fs::write(&file, format!("#!/bin/sh\nprintf '%s' '{says}'\nexit {code}\n")).expect("writing a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("making it executable");
    file.display().to_string()
}

#[tokio::test]
async fn a_kubeconfig_says_where_and_who_also_by_a_program() {
    let (cluster, folder) = (Cluster::start().await, tempfile::tempdir().expect("creating a folder"));
    let (url, folder) = (cluster.url(), folder.path());
    std::fs::write(folder.join("token"), TOKEN).expect("writing a file");
    let credential = json!({
        "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1", "status": { "token": TOKEN },
    });
    let exec = |command: String| json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1beta1", "command": command } });
    for user in [
        json!({ "token": TOKEN }),
        json!({ "tokenFile": folder.join("token") }),
        exec(program(folder, &credential.to_string(), 0)),
    ] {
        let read = status(&[], kubeconfig(folder, &url, &user)).await.expect("it is there");
        assert_eq!(read.status.desired, 3);
    }
    let denied = [
        exec(program(folder, "canary", 1)),
        exec("/nowhere/canary-less".to_owned()),
        json!({ "tokenFile": "/nowhere" }),
        json!({}),
    ];
    for user in denied {
        let error = status(&[], kubeconfig(folder, &url, &user)).await.expect_err("nobody asks");
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    let settings = kubeconfig(folder, &url, &json!({ "token": TOKEN }));
    for (more, says) in [
        (json!({ "context": "another" }), "no such context"),
        (json!({ "kubeconfig": "/nowhere" }), "cannot be read"),
        (json!({ "kubeconfig": concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE") }), "is none"),
    ] {
        let error = status(&[], with(settings.clone(), more)).await.expect_err(says);
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{error}");
    }
}
