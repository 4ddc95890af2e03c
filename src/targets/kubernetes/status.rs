//! What an object, and where it is not one of Kubernetes' own its scale, say of a count.
//!
//! The API leaves out numbers that are 0 (`omitempty` in its Go types,
//! <https://github.com/kubernetes/api/blob/master/apps/v1/types.go>), except `spec.replicas` of Kubernetes' own kinds, where
//! 0 is written: only there does a missing number mean that the answer is not what it should be.

use serde::Deserialize;
use serde_json::Value;

use super::super::labels::Pausing;
use crate::core::TargetStatus;
use crate::error::ErrorKind;

/// Why an object gives no status.
pub(super) type Refusal = (ErrorKind, String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    generation: i64,
    deletion_timestamp: Option<String>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    replicas: Option<i64>,
    paused: Option<bool>,
    update_strategy: Option<Strategy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Strategy {
    #[serde(rename = "type")]
    name: Option<String>,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Deserialize)]
struct RollingUpdate {
    partition: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    observed_generation: Option<Value>,
    #[serde(default)]
    replicas: i64,
    ready_replicas: Option<i64>,
    #[serde(default)]
    updated_replicas: i64,
    current_revision: Option<String>,
    update_revision: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    name: String,
    status: Option<String>,
    reason: Option<String>,
}

/// What there is to read.
pub(super) struct Found<'a> {
    pub kind: &'a str,
    pub object: Value,
    /// The scale, of a kind that is not Kubernetes' own.
    pub scale: Option<Value>,
    pub follow_labels: bool,
}

/// The desired count that a scale has. 0 is left out of it.
pub(super) fn desired_of(scale: &Value) -> Result<u32, Refusal> {
    let spec = scale.get("spec").filter(|spec| spec.is_object() && scale["kind"] == "Scale");
    let spec = spec.ok_or_else(|| malformed("the answer is no scale"))?;
    match spec.get("replicas") {
        None => Ok(0),
        Some(replicas) => count(replicas.as_i64(), "spec.replicas"),
    }
}

/// Who controls an object, if somebody does: the kind and the name.
pub(super) fn controller_of(metadata: &Value) -> Option<(String, String)> {
    let owners = Vec::<Owner>::deserialize(metadata.get("ownerReferences")?).ok()?;
    owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| (owner.kind, owner.name))
}

/// Reads the status.
///
/// # Errors
/// `Refused` for what is being deleted or has its count from its owner, `Malformed`, and `Config` for annotations that cannot
/// be read.
pub(super) fn read(found: Found<'_>) -> Result<TargetStatus, Refusal> {
    let object = Object::deserialize(&found.object).map_err(|_| malformed("the answer is no object with counts"))?;
    let owner = object.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    if object.metadata.deletion_timestamp.is_some() {
        return Err((ErrorKind::Refused, "it is being deleted".to_owned()));
    }
    if let (Some(owner), "ReplicaSet") = (owner, found.kind) {
        let cause = format!("its count is set by {} {:?}, which controls it; scale that", owner.kind, owner.name);
        return Err((ErrorKind::Refused, cause));
    }
    let status = object.status.as_ref();
    let (desired, running) = match &found.scale {
        Some(scale) => (desired_of(scale)?, count(scale["status"]["replicas"].as_i64(), "status.replicas")?),
        None => {
            let replicas = object.spec.as_ref().and_then(|spec| spec.replicas);
            let ready = status.ok_or_else(|| malformed("the answer has no status"))?.ready_replicas;
            (count(replicas, "spec.replicas")?, count(Some(ready.unwrap_or_default()), "status.readyReplicas")?)
        }
    };
    let annotations = object.metadata.annotations.iter().flatten();
    let annotations: Vec<_> = annotations.map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let read = Pausing::read(&annotations, found.follow_labels);
    let Pausing { pause, asked, warning } = read.map_err(|problem| (ErrorKind::Config, problem))?;
    let mut warnings: Vec<_> = warning.into_iter().chain(oddities(&object)).collect();
    warnings.extend(owner.map(|owner| format!("{} {:?} controls it, and may set its count", owner.kind, owner.name)));
    Ok(TargetStatus {
        desired,
        running,
        pending: desired.saturating_sub(running),
        rolling_out: is_rolling_out(&found, &object),
        unfinished: false,
        pause,
        asked,
        other_scaler: None,
        warnings,
    })
}

fn malformed(cause: &str) -> Refusal {
    (ErrorKind::Malformed, cause.to_owned())
}

fn count(number: Option<i64>, what: &str) -> Result<u32, Refusal> {
    let number = number.ok_or_else(|| malformed(&format!("the answer has no {what}")))?;
    u32::try_from(number).map_err(|_| malformed(&format!("{what} is {number}")))
}

/// Whether a new version is being rolled out, as `kubectl rollout status` sees it
/// (<https://github.com/kubernetes/kubectl/blob/master/pkg/polymorphichelpers/rollout_status.go>), without what a mere change of the
/// count looks like too.
fn is_rolling_out(found: &Found<'_>, object: &Object) -> bool {
    let Some(status) = &object.status else { return false };
    // Argo Rollouts writes it as text.
    let observed = status.observed_generation.as_ref();
    let observed = observed.and_then(|number| number.as_i64().or_else(|| number.as_str()?.parse().ok()));
    let is_unseen = match observed {
        Some(observed) => observed < object.metadata.generation,
        // Of Kubernetes' own kinds nobody has looked at it yet; others may count no generations.
        None => found.scale.is_none(),
    };
    is_unseen || is_deploying(found.kind, status) || is_updating(object, status)
}

/// A Deployment whose newest ReplicaSet is not all there is. The reason stays at NewReplicaSetAvailable while only the count
/// changes, also of kinds that follow the same convention.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status>
fn is_deploying(kind: &str, status: &Status) -> bool {
    let progressing = status.conditions.iter().flatten().find(|condition| condition.name == "Progressing");
    let reason = progressing.and_then(|condition| condition.reason.as_deref());
    let is_open = match progressing {
        Some(condition) if kind != "Deployment" => condition.status.as_deref() == Some("True"),
        Some(_) => reason != Some("DeploymentPaused"),
        None => false,
    };
    let has_old = kind == "Deployment" && status.updated_replicas < status.replicas;
    has_old || (is_open && reason != Some("NewReplicaSetAvailable"))
}

/// A StatefulSet whose pods are not all of the newest revision, but for those that a partition keeps back. With OnDelete the
/// current revision never becomes the newest one, so that only the counts tell.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#update-strategies>
fn is_updating(object: &Object, status: &Status) -> bool {
    let (Some(current), Some(newest)) = (&status.current_revision, &status.update_revision) else { return false };
    let strategy = object.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let is_by_hand = strategy.is_some_and(|strategy| strategy.name.as_deref() == Some("OnDelete"));
    let partition = partition_of(object);
    let are_updated = status.replicas.saturating_sub(partition) <= status.updated_replicas;
    !are_updated || (current != newest && partition == 0 && !is_by_hand)
}

fn partition_of(object: &Object) -> i64 {
    let strategy = object.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or_default()
}

fn oddities(object: &Object) -> impl Iterator<Item = String> {
    let is_paused = object.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let has_failed =
        conditions.into_iter().any(|condition| condition.reason.as_deref() == Some("ProgressDeadlineExceeded"));
    let is_parted = 0 < partition_of(object);
    [
        (is_paused, "its rollout is paused, so that new versions wait; its count is set all the same"),
        (has_failed, "a rollout has not come to its end in time, which holds scale-in until one has"),
        (is_parted, "its update is partitioned, so that two versions run; a scale-in takes the newest pods"),
    ]
    .into_iter()
    .filter(|(is_so, _)| *is_so)
    .map(|(_, text)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::core::{Asked, Held, Pause};

    /// A Deployment of three, all ready, with this merged into it.
    fn deployment(change: Value) -> Value {
        let mut it = json!({
            "metadata": { "name": "orders", "generation": 4 },
            "spec": { "replicas": 3 },
            "status": {
                "observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "availableReplicas": 3,
                "conditions": [
                    { "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable" },
                    { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" },
                ],
            },
        });
        merge(&mut it, change);
        it
    }

    fn stateful_set(change: Value) -> Value {
        let mut it = json!({
            "metadata": { "name": "orders", "generation": 4 },
            "spec": { "replicas": 3, "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } } },
            "status": {
                "observedGeneration": 4, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
                "currentRevision": "orders-a", "updateRevision": "orders-a",
            },
        });
        merge(&mut it, change);
        it
    }

    /// Sets what is named, and leaves the rest.
    fn merge(it: &mut Value, change: Value) {
        match change {
            Value::Object(change) => {
                for (key, value) in change {
                    merge(&mut it[key], value);
                }
            }
            other => *it = other,
        }
    }

    fn status(kind: &str, object: Value) -> Result<TargetStatus, Refusal> {
        read(Found { kind, object, scale: None, follow_labels: false })
    }

    fn reason(reason: &str) -> Value {
        json!({ "status": { "conditions": [{ "type": "Progressing", "status": "True", "reason": reason }] } })
    }

    #[test]
    fn a_changed_count_is_no_rollout_and_a_new_version_is_one() {
        let is_rolling_out = |change| status("Deployment", deployment(change)).expect("readable").rolling_out;
        assert!(!is_rolling_out(json!({})));
        // Three more were asked for, and are being made by the same ReplicaSet.
        assert!(!is_rolling_out(
            json!({ "spec": { "replicas": 6 }, "status": { "replicas": 6, "updatedReplicas": 6 } })
        ));
        assert!(!is_rolling_out(reason("DeploymentPaused")));
        assert!(is_rolling_out(json!({ "metadata": { "generation": 5 } })), "not seen by the controller");
        assert!(is_rolling_out(json!({ "status": { "observedGeneration": null } })), "never seen by the controller");
        assert!(is_rolling_out(json!({ "status": { "updatedReplicas": 1 } })), "two pods are of the old version");
        assert!(
            is_rolling_out(json!({ "status": { "updatedReplicas": 0, "conditions": null } })),
            "without a deadline"
        );
        for open in ["NewReplicaSetCreated", "ReplicaSetUpdated", "ProgressDeadlineExceeded", "AReasonOf2030"] {
            assert!(is_rolling_out(reason(open)), "{open}");
        }
    }

    #[test]
    fn a_stateful_set_rolls_out_until_all_but_the_partition_are_new() {
        let is_rolling_out = |change| status("StatefulSet", stateful_set(change)).expect("readable").rolling_out;
        let new = |updated: u32, partition: u32| {
            json!({
                "spec": { "updateStrategy": { "rollingUpdate": { "partition": partition } } },
                "status": { "updateRevision": "orders-b", "updatedReplicas": updated },
            })
        };
        assert!(!is_rolling_out(json!({})));
        assert!(is_rolling_out(new(1, 0)));
        assert!(is_rolling_out(new(3, 0)), "the revision is not the current one yet");
        assert!(is_rolling_out(new(0, 2)));
        assert!(!is_rolling_out(new(1, 2)), "what the partition lets through is new");
        assert!(!is_rolling_out(new(0, 5)), "the partition is above the count");
        let by_hand = |updated: u32| {
            json!({
                "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } },
                "status": { "updateRevision": "orders-b", "updatedReplicas": updated },
            })
        };
        assert!(is_rolling_out(by_hand(2)));
        assert!(!is_rolling_out(by_hand(3)), "with OnDelete the current revision stays");
    }

    #[test]
    fn numbers_that_go_leaves_out_are_zero_and_others_are_missing() {
        let counts = |change| {
            let status = status("Deployment", deployment(change)).map_err(|(kind, _)| kind)?;
            Ok((status.desired, status.running, status.pending))
        };
        assert_eq!(counts(json!({})), Ok((3, 3, 0)));
        assert_eq!(counts(json!({ "spec": { "replicas": 5 } })), Ok((5, 3, 2)));
        assert_eq!(counts(json!({ "spec": { "replicas": 1 } })), Ok((1, 3, 0)));
        assert_eq!(counts(json!({ "status": { "readyReplicas": null } })), Ok((3, 0, 3)));
        for change in [
            json!({ "spec": { "replicas": null } }),
            json!({ "spec": { "replicas": -1 } }),
            json!({ "spec": { "replicas": "3" } }),
            json!({ "status": null }),
            json!({ "status": { "readyReplicas": -1 } }),
            json!({ "metadata": null }),
        ] {
            assert_eq!(counts(change.clone()), Err(ErrorKind::Malformed), "{change}");
        }
        let scale = |spec: Value| desired_of(&json!({ "kind": "Scale", "spec": spec })).map_err(|(kind, _)| kind);
        assert_eq!(scale(json!({})), Ok(0));
        assert_eq!(scale(json!({ "replicas": 7 })), Ok(7));
        assert_eq!(scale(json!({ "replicas": -7 })), Err(ErrorKind::Malformed));
        assert_eq!(scale(json!({ "replicas": null })), Err(ErrorKind::Malformed));
        assert_eq!(scale(Value::Null), Err(ErrorKind::Malformed));
        assert_eq!(desired_of(&deployment(json!({}))).map_err(|(kind, _)| kind), Err(ErrorKind::Malformed));
    }

    #[test]
    fn another_kind_has_its_count_in_its_scale() {
        let object = json!({
            "metadata": { "generation": 2 },
            "status": { "observedGeneration": "1", "conditions": [{ "type": "Progressing", "status": "False", "reason": "AsExpected" }] },
        });
        let scale = json!({ "kind": "Scale", "spec": { "replicas": 4 }, "status": { "replicas": 3 } });
        let found = |object: Value| Found { kind: "Rollout", object, scale: Some(scale.clone()), follow_labels: false };
        let status = read(found(object)).expect("readable");
        assert_eq!((status.desired, status.running, status.pending, status.rolling_out), (4, 3, 1, true));
        let status = read(found(json!({ "metadata": {}, "status": { "readyReplicas": 2 } }))).expect("readable");
        assert_eq!((status.running, status.rolling_out), (3, false), "what it calls ready may be anything");
        let status = read(found(json!({ "metadata": {}, "spec": { "replicas": 99 } }))).expect("readable");
        assert_eq!((status.desired, status.running), (4, 3));
        let scale = json!({ "kind": "Scale", "spec": { "replicas": 4 }, "status": {} });
        let unsaid =
            Found { kind: "Rollout", object: json!({ "metadata": {} }), scale: Some(scale), follow_labels: false };
        assert_eq!(read(unsaid).expect_err("it does not say how many there are").0, ErrorKind::Malformed);
    }

    #[test]
    fn what_is_going_or_has_its_count_from_its_owner_is_not_scaled() {
        let owned = json!({ "metadata": { "ownerReferences": [
            { "kind": "Other", "name": "a", "uid": "1" },
            { "kind": "Deployment", "name": "orders", "uid": "2", "controller": true },
        ] } });
        let going = json!({ "metadata": { "deletionTimestamp": "2026-11-22T06:00:00Z" } });
        for (kind, change) in [("ReplicaSet", owned.clone()), ("Deployment", going)] {
            let refused = status(kind, deployment(change)).expect_err("not to be scaled");
            assert_eq!(refused.0, ErrorKind::Refused, "{}", refused.1);
        }
        let warned = status("Deployment", deployment(owned)).expect("an operator may leave the count alone");
        assert!(warned.warnings[0].contains("controls it"), "{:?}", warned.warnings);
    }

    #[test]
    fn what_is_odd_is_a_warning() {
        for (change, says) in [
            (json!({ "spec": { "paused": true } }), "paused"),
            (reason("ProgressDeadlineExceeded"), "in time"),
            (json!({ "spec": { "updateStrategy": { "rollingUpdate": { "partition": 1 } } } }), "partitioned"),
        ] {
            let status = status("Deployment", deployment(change)).expect("readable");
            assert!(status.warnings.len() == 1 && status.warnings[0].contains(says), "{:?}", status.warnings);
        }
    }

    #[test]
    fn annotations_pause_always_and_bound_where_they_are_followed() {
        let annotated = |annotations: Value, follow_labels| {
            let object = deployment(json!({ "metadata": { "annotations": annotations } }));
            read(Found { kind: "Deployment", object, scale: None, follow_labels })
        };
        let all = json!({ "tidegate/pause": "out", "tidegate/min": "2", "tidegate/max": "9", "other": "x" });
        let status = annotated(all.clone(), false).expect("readable");
        assert_eq!((status.pause, status.asked), (Some(Pause::Hold(Held::Out)), None));
        let status = annotated(all, true).expect("readable");
        assert_eq!(status.asked, Some(Asked { min: Some(2), max: Some(9) }));
        let status = annotated(json!({ "tidegate/pause": "whenever" }), true).expect("readable");
        assert_eq!((status.pause, status.warnings.len()), (Some(Pause::Hold(Held::Both)), 1));
        let status = annotated(json!({ "com.microscaling.is-scalable": "false", "tidegate_pause": "3" }), true);
        assert_eq!(status.expect("readable").pause, Some(Pause::At(3)));
        let status = annotated(json!({ "com.microscaling.is-scalable": "false" }), true).expect("readable");
        assert_eq!(status.pause, Some(Pause::Hold(Held::Both)));
        let (kind, problem) = annotated(json!({ "tidegate/max": "many" }), true).expect_err("no number");
        assert!(kind == ErrorKind::Config && problem.contains("tidegate/max"), "{problem}");
    }
}
