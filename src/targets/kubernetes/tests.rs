use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::adapter::parse;
use crate::config::Network;
use crate::core::TargetStatus;
use crate::error::{ErrorKind, Result};
use crate::shared::Shared;
use crate::targets::Target;
use crate::wire::{Contract, Reply, Request, Scene, Wire};

pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

fn settings(endpoint: &str) -> Value {
    json!({ "url": endpoint, "namespace": "shop", "name": "orders", "token": "canary-token" })
}

/// A Deployment as API servers answer it, without what is not read.
fn deployment(desired: u64) -> Value {
    json!({
        "kind": "Deployment", "apiVersion": "apps/v1",
        "metadata": { "name": "orders", "namespace": "shop", "generation": 3 },
        "spec": { "replicas": desired },
        "status": {
            "observedGeneration": 3, "replicas": desired, "updatedReplicas": desired, "readyReplicas": desired,
            "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
        },
    })
}

/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
fn failure(status: u16, reason: &str) -> Reply {
    let message = "canary message";
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": status });
    Reply::new(status, body.to_string()).header("content-type", "application/json")
}

fn reply(scene: Scene, request: &Request) -> Reply {
    assert_eq!(request.headers.get("authorization").map(String::as_str), Some("Bearer canary-token"));
    let answer = |body: Value| Reply::new(200, body.to_string()).header("content-type", "application/json");
    if request.path.contains("horizontalpodautoscalers") {
        return answer(json!({ "kind": "HorizontalPodAutoscalerList", "metadata": {}, "items": [] }));
    }
    let changed = |key: &str, value: Value| {
        let mut it = deployment(5);
        *it.pointer_mut(key).expect("it is there") = value;
        answer(it)
    };
    match scene {
        Scene::Amount(desired) | Scene::Other(desired) if request.path.contains("/scale") => {
            assert_eq!(request.headers.get("content-type").map(String::as_str), Some("application/merge-patch+json"));
            // Go leaves a count of 0 out.
            let spec = if desired == 0 { json!({}) } else { json!({ "replicas": desired }) };
            answer(
                json!({ "kind": "Scale", "apiVersion": "autoscaling/v1", "spec": spec, "status": { "replicas": 1 } }),
            )
        }
        Scene::Amount(desired) | Scene::Other(desired) => answer(deployment(desired)),
        Scene::RollingOut => changed("/status/conditions/0/reason", json!("ReplicaSetUpdated")),
        // Only ReplicaSets that a Deployment owns are so: see the tests of `status`.
        Scene::Unscalable => Reply::none(),
        Scene::Draining => {
            changed("/metadata", json!({ "name": "orders", "deletionTimestamp": "2026-11-22T06:00:00Z" }))
        }
        Scene::Locked => failure(409, "Conflict"),
        Scene::Denied => failure(403, "Forbidden"),
        Scene::NotFound => failure(404, "NotFound"),
        Scene::Throttled => failure(429, "TooManyRequests").header("retry-after", "1"),
        Scene::Malformed => Reply::new(200, "[]"),
        Scene::Missing => changed("/spec", json!({})),
        other => panic!("{other:?} is not a scene of a target"),
    }
}

/// A target at a server of its own.
async fn played(reply: fn(Scene, &Request) -> Reply, more: Value) -> (Wire, Box<dyn Target>) {
    let wire = Wire::play(Scene::Amount(5), reply).await;
    let mut settings = json!({ "url": wire.endpoint, "namespace": "shop", "name": "orders", "token": "canary-token" });
    for (key, value) in more.as_object().into_iter().flatten() {
        settings[key] = value.clone();
    }
    settings.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    let target = super::build(&settings, &Shared::for_wire("http://127.0.0.1:9")).expect("settings are valid");
    (wire, target)
}

async fn status(target: &dyn Target) -> Result<TargetStatus> {
    target.statuses(&["orders".to_owned()]).await.pop().expect("one answer for each")
}

fn answer(body: Value) -> Reply {
    Reply::new(200, body.to_string()).header("content-type", "application/json")
}

/// A HorizontalPodAutoscaler of KEDA's for this.
fn scaler(api_version: &str, kind: &str, name: &str) -> Value {
    let most = if api_version == "apps/v1beta1" { 9 } else { 8 };
    json!({
        "metadata": { "name": "keda-hpa-it", "ownerReferences": [{ "kind": "ScaledObject", "name": "it" }] },
        "spec": { "maxReplicas": most, "scaleTargetRef": { "apiVersion": api_version, "kind": kind, "name": name } },
    })
}

#[tokio::test]
async fn a_horizontal_pod_autoscaler_on_any_page_is_another_scaler_unless_it_is_allowed() {
    fn scaled(scene: Scene, request: &Request) -> Reply {
        let items = match &*request.path {
            "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers?limit=100" => json!([
                scaler("apps/v1", "StatefulSet", "orders"),
                scaler("apps/v1", "Deployment", "bills"),
                scaler("example.com/v1", "Deployment", "orders"),
            ]),
            "/apis/autoscaling/v2/namespaces/shop/horizontalpodautoscalers?limit=100&continue=more" => {
                json!([scaler("apps/v1beta1", "Deployment", "orders")])
            }
            _ => return reply(scene, request),
        };
        let token = if request.path.ends_with("=more") { "" } else { "more" };
        answer(json!({ "kind": "HorizontalPodAutoscalerList", "metadata": { "continue": token }, "items": items }))
    }
    let (_wire, target) = played(scaled, json!({})).await;
    let found = status(target.as_ref()).await.expect("readable");
    assert_eq!(found.other_scaler.as_deref(), Some("KEDA's ScaledObject \"it\" (min 1, max 9)"));
    let (wire, target) = played(scaled, json!({ "allow_other_scaler": true })).await;
    let found = status(target.as_ref()).await.expect("readable");
    assert_eq!((found.other_scaler, found.warnings.len(), wire.requests().len()), (None, 0, 1));
}

#[tokio::test]
async fn whether_another_scales_it_cannot_be_found_out_is_a_warning_and_no_error() {
    fn denied(scene: Scene, request: &Request) -> Reply {
        match request.path.contains("autoscaling") {
            true => failure(403, "Forbidden"),
            false => reply(scene, request),
        }
    }
    fn nonsense(scene: Scene, request: &Request) -> Reply {
        match request.path.contains("autoscaling") {
            true => answer(json!({ "kind": "HorizontalPodAutoscalerList", "items": [{ "spec": {} }] })),
            false => reply(scene, request),
        }
    }
    for reply in [denied, nonsense] {
        let (_wire, target) = played(reply, json!({})).await;
        let status = status(target.as_ref()).await.expect("readable");
        assert_eq!((status.desired, status.other_scaler, status.warnings.len()), (5, None, 1));
        assert!(status.warnings[0].contains("horizontalpodautoscalers"), "{:?}", status.warnings);
    }
}

#[tokio::test]
async fn what_a_pattern_finds_is_complete_sorted_and_on_all_pages() {
    fn listed(_: Scene, request: &Request) -> Reply {
        assert!(request.headers["accept"].contains("as=PartialObjectMetadataList"));
        let named = |name: &str| json!({ "metadata": { "name": name } });
        let items = match &*request.path {
            "/apis/apps/v1/namespaces/shop/deployments?labelSelector=app%3Dorders&limit=100" => {
                json!([named("orders-b"), named("other"), named("my-orders-c")])
            }
            "/apis/apps/v1/namespaces/shop/deployments?labelSelector=app%3Dorders&limit=100&continue=a%2Fb" => {
                let going = json!({ "metadata": { "name": "orders-d", "deletionTimestamp": "2026-11-22T06:00:00Z" } });
                json!([named("orders-a"), going])
            }
            other => panic!("{other}"),
        };
        let token = if request.path.contains("continue") { "" } else { "a/b" };
        answer(json!({ "kind": "DeploymentList", "metadata": { "continue": token }, "items": items }))
    }
    let (wire, target) = played(listed, json!({ "name": "orders-*", "selector": "app=orders" })).await;
    let found = target.discover().await.expect("it can be listed");
    let one = |name: &str| json!({ "url": wire.endpoint, "namespace": "shop", "name": name, "token": "canary-token" });
    assert_eq!(found, [one("orders-a"), one("orders-b")]);
}

#[tokio::test]
async fn a_list_that_changed_while_it_was_read_is_tried_another_time() {
    fn gone(_: Scene, _: &Request) -> Reply {
        failure(410, "Expired")
    }
    let (_wire, target) = played(gone, json!({ "name": "*" })).await;
    assert_eq!(target.discover().await.expect_err("it is gone").kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn many_names_are_asked_for_one_by_one_and_answered_in_their_order() {
    fn each(scene: Scene, request: &Request) -> Reply {
        match request.path.rsplit_once("/deployments/").map(|(_, name)| name) {
            Some("it-7") => failure(404, "NotFound"),
            Some(name) => {
                let mut it = deployment(5);
                it["spec"]["replicas"] = name.trim_start_matches("it-").parse::<u64>().expect("a number").into();
                answer(it)
            }
            None => reply(scene, request),
        }
    }
    let (wire, target) = played(each, json!({})).await;
    let names: Vec<_> = (0..30).map(|number| format!("it-{number}")).collect();
    for (number, status) in target.statuses(&names).await.into_iter().enumerate() {
        match (number, status) {
            (7, status) => assert_eq!(status.expect_err("it is not there").kind(), ErrorKind::NotFound),
            (number, status) => assert_eq!(status.expect("readable").desired as usize, number),
        }
    }
    assert_eq!(wire.requests().len(), 31, "and one list of autoscalers");
}

#[tokio::test]
async fn a_count_that_kubernetes_cannot_take_is_refused_before_it_is_sent() {
    let (wire, target) = played(reply, json!({})).await;
    let refused = target.set_desired("orders", 1 << 31).await.expect_err("it is too large");
    assert_eq!((refused.kind(), wire.requests().len()), (ErrorKind::Refused, 0), "{refused}");
}

#[tokio::test]
async fn errors_say_what_the_role_lacks_and_nothing_of_the_answer() {
    fn denied(_: Scene, request: &Request) -> Reply {
        match request.path.contains("autoscaling") {
            true => answer(json!({ "kind": "HorizontalPodAutoscalerList", "items": null })),
            false => failure(403, "Forbidden"),
        }
    }
    let (_wire, target) = played(denied, json!({})).await;
    let error = status(target.as_ref()).await.expect_err("denied").to_string();
    assert!(error.contains("get on deployments of group \"apps\" in namespace \"shop\""), "{error}");
    let error = target.set_desired("orders", 3).await.expect_err("denied").to_string();
    assert!(error.contains("patch on deployments/scale") && error.contains("\"orders\""), "{error}");
    assert!(!error.contains("canary"), "{error}");
}

#[tokio::test]
async fn an_eks_cluster_is_asked_with_a_token_of_its_own() {
    fn asked(scene: Scene, request: &Request) -> Reply {
        let token = request.headers["authorization"].strip_prefix("Bearer k8s-aws-v1.").expect("a token of EKS");
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token).expect("base64")).expect("text");
        assert!(url.starts_with("https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&"), "{url}");
        let mut request = request.clone();
        request.headers.insert("authorization".to_owned(), "Bearer canary-token".to_owned());
        reply(scene, &request)
    }
    let eks = json!({ "token": null, "eks_cluster": "shop", "region": "eu-west-1" });
    let (wire, target) = played(asked, eks).await;
    assert_eq!(status(target.as_ref()).await.expect("readable").desired, 5);
    assert_eq!(wire.requests().len(), 2);
}

#[tokio::test]
async fn no_token_of_aws_leaves_for_what_is_no_api_server_of_eks() {
    let shared = Shared::for_wire("http://127.0.0.1:9");
    for local_addresses in [false, true] {
        for host in ["attacker.example.com", "10.0.0.1", "localhost.example.com", "0.0.0.0"] {
            let settings = json!({ "url": format!("https://{host}"), "name": "orders", "eks_cluster": "shop" });
            let mut api = super::Api::new(&parse(&settings).expect("valid"), &shared).expect("valid");
            api.permit_only(&Network { local_addresses, ..Network::default() });
            let error = api.session().await.map(drop).expect_err("not of EKS");
            assert!(error.to_string().contains("no API server of EKS"), "{host}: {error}");
        }
    }
}

#[tokio::test]
async fn what_the_deployment_does_not_permit_is_not_connected_to() {
    for (url, more, says) in [
        ("http://k8s.example.com", json!({}), "ALLOW_PLAIN_HTTP"),
        ("https://127.0.0.1:6443", json!({}), "ALLOW_LOCAL_ADDRESSES"),
        ("https://169.254.169.254", json!({}), ""),
        ("https://k8s.example.com", json!({ "insecure_tls": true }), "ALLOW_INSECURE_TLS"),
    ] {
        let mut settings = json!({ "url": url, "name": "orders" });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        let shared = Shared::for_wire("http://127.0.0.1:9");
        let mut api = super::Api::new(&parse(&settings).expect("valid"), &shared).expect("valid");
        api.permit_only(&Network::default());
        let error = api.session().await.map(drop).expect_err("not permitted");
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn without_a_url_it_is_the_cluster_around_it_and_its_service_account() {
    let settings = json!({ "url": null, "token": null });
    let (_wire, target) = played(reply, settings).await;
    let error = status(target.as_ref()).await.expect_err("there is no cluster around this");
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("file that ca names"), "{error}");
}
