//! Whether a HorizontalPodAutoscaler sets the same count.
//!
//! KEDA and the like make one for what they scale, so that this finds them too; a ScaledObject that is paused has none.
//! <https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v2/>

use serde::Deserialize;
use serde_json::Value;

use super::api::{Ask, Session};
use super::settings::Settings;
use super::{JSON, pages};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};

/// One of a namespace.
#[derive(Deserialize)]
struct Scaler {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    scale_target_ref: Reference,
    min_replicas: Option<u32>,
    max_replicas: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    api_version: Option<String>,
    kind: String,
    name: String,
}

/// What is known of a namespace.
pub(super) struct Scalers(Result<Vec<Scaler>>);

/// Asks about a namespace, unless nobody wants to know.
pub(super) async fn find(session: &Session<'_>, settings: &Settings) -> Scalers {
    if settings.allow_other_scaler {
        return Scalers(Ok(Vec::new()));
    }
    let namespace = settings.namespace.as_str();
    let ask = Ask {
        verb: "list",
        resource: "horizontalpodautoscalers",
        group: "autoscaling",
        namespace,
        path: &["apis", "autoscaling", "v2", "namespaces", namespace, "horizontalpodautoscalers"],
        query: &[],
        accept: JSON,
        patch: None,
    };
    Scalers(pages(session, ask).await.and_then(|found| found.into_iter().map(|item| read(item, &ask)).collect()))
}

fn read(item: Value, ask: &Ask<'_>) -> Result<Scaler> {
    let malformed = |_| ask.error(ErrorKind::Malformed, "one of them is no HorizontalPodAutoscaler");
    serde_json::from_value(item).map_err(malformed)
}

impl Scalers {
    /// Adds what is known of one resource to its status. What could not be found out is a warning, since most have none and
    /// the count can be read without it.
    pub(super) fn add_to(&self, status: TargetStatus, settings: &Settings, name: &str) -> TargetStatus {
        let unknown = |error: &Error| format!("whether another autoscaler sets the count is not known: {error}");
        match &self.0 {
            Ok(scalers) => {
                let other = scalers.iter().find(|scaler| scaler.scales(settings, name));
                TargetStatus { other_scaler: other.map(Scaler::describe), ..status }
            }
            Err(error) => {
                let warnings = status.warnings.into_iter().chain([unknown(error)]).collect();
                TargetStatus { warnings, ..status }
            }
        }
    }
}

impl Scaler {
    /// Whether it scales this, in whatever version of the group.
    fn scales(&self, settings: &Settings, name: &str) -> bool {
        let Reference { api_version, kind, name: scaled } = &self.spec.scale_target_ref;
        let group = api_version.as_deref().unwrap_or_default().split_once('/').map_or("", |(group, _)| group);
        // A kind that was configured in other letters is found all the same.
        group == settings.group_and_version().0 && kind.eq_ignore_ascii_case(settings.kind()) && scaled == name
    }

    fn describe(&self) -> String {
        let Spec { min_replicas, max_replicas, .. } = &self.spec;
        // Absent, it is 1.
        let bounds = format!("(min {}, max {max_replicas})", min_replicas.unwrap_or(1));
        let keda = self.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "ScaledObject");
        match keda {
            Some(owner) => format!("KEDA's ScaledObject {:?} {bounds}", owner.name),
            None => format!("HorizontalPodAutoscaler {:?} {bounds}", self.metadata.name),
        }
    }
}
