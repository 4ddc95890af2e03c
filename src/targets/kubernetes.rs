//! Kubernetes: the count of anything that has a scale subresource.
//!
//! Reads the [object](https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/), and of kinds that
//! are not Kubernetes' own its [scale](https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#scale-subresource)
//! too, each by its name, so that a role can say which; sets `spec.replicas` of the scale by a merge patch and nothing else, which
//! starts no rollout. Microscaling patched the Deployment itself, by a media type and an API group that are gone, and waited
//! until all that it had asked for was available.
//!
//! HPA and KEDA send the version of the scale that they saw, so that a change in between is a conflict. A pod that becomes ready
//! changes that version as well; the count sent here is absolute, and the runner has looked at the status just before, so that
//! this sends none. A conflict that the API server could not settle is tried again by the runner.
//!
//! The annotation `tidegate/pause` pauses it: `in`, `out`, `both` or a number of tasks.
//!
//! Which pods a scale-in takes is Kubernetes' to say. Of a Deployment or ReplicaSet: those that are on no node yet, then pending,
//! then not ready, then of the lowest `controller.kubernetes.io/pod-deletion-cost`, then those on nodes with more of them, then
//! those ready for the shortest time (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset>). Of a
//! StatefulSet: the highest number first. Each has its termination grace period; disruption budgets do not hold it up.

mod api;
mod eks;
mod role;
mod scalers;
mod settings;
mod status;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use self::api::{Api, Ask, Session};
use self::settings::{Settings, check, identities};
use self::status::{Found, controller_of, desired_of};
use super::{Applied, Target};
use crate::adapter::{Kind, parse, schema_of};
use crate::config::matches_pattern;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub use role::roles;

/// How many objects are asked for at once. The API server gives each client a share of its attention.
const AT_ONCE: usize = 8;

/// How many objects a page of a list has at most.
const PAGE: &str = "100";

/// How many pages are read at most: of 10 000 objects.
const MOST_PAGES: usize = 100;

const JSON: &str = "application/json";

/// A list without all but the objects' metadata, from servers that can leave it out, which is all since 1.15:
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches>.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json";

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "kubernetes",
    aliases: &[],
    about: "Kubernetes: the replicas of a Deployment, a StatefulSet, or anything with a scale subresource.",
    renamed: &[("deployment", "name"), ("server", "url"), ("bearer_token", "token")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    // The token for EKS is a signed question that anybody may ask; what may be done is the cluster's to say, see `roles`.
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(given: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings = parse::<Settings>(given)?;
    let mut others = given.clone();
    if let Some(others) = others.as_object_mut() {
        others.remove("name");
    }
    // It is kept in this process alone, and has no token in it.
    let mut hasher = DefaultHasher::new();
    others.to_string().hash(&mut hasher);
    Ok(Box::new(Kubernetes {
        api: Api::new(&settings, shared)?,
        plural: settings.plural(),
        asked_with: format!("{:x}", hasher.finish()),
        given: given.clone(),
        settings,
    }))
}

struct Kubernetes {
    api: Api,
    settings: Settings,
    plural: String,
    asked_with: String,
    given: Value,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubernetes({} in {})", self.settings.resource(), self.settings.namespace)
    }
}

#[async_trait]
impl Target for Kubernetes {
    async fn statuses(&self, names: &[String]) -> Vec<Result<TargetStatus>> {
        let session = match self.api.session().await {
            Ok(session) => session,
            Err(error) => return names.iter().map(|name| Err(about(name, &error))).collect(),
        };
        let each: Vec<_> = names.iter().map(|name| self.status(&session, name)).collect();
        let statuses = stream::iter(each).buffered(AT_ONCE).collect::<Vec<_>>();
        let (scalers, statuses) = futures_util::join!(scalers::find(&session, &self.settings), statuses);
        let add = |(name, status): (&String, Result<TargetStatus>)| Ok(scalers.add_to(status?, &self.settings, name));
        names.iter().zip(statuses).map(add).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let session = self.api.session().await?;
        let path = self.path();
        let selector = self.settings.selector.as_deref().map(|selector| ("labelSelector", selector));
        let query: Vec<_> = selector.into_iter().collect();
        let ask = Ask { query: &query, accept: METADATA, ..self.ask("list", &self.plural, &path) };
        let mut names = Vec::new();
        for found in pages(&session, ask).await? {
            let metadata = &found["metadata"];
            let name = metadata["name"].as_str();
            let name = name.ok_or_else(|| ask.error(ErrorKind::Malformed, "one of them has no name"))?;
            let is_another_s = self.settings.kind() == "ReplicaSet" && controller_of(metadata).is_some();
            let is_going = metadata["deletionTimestamp"].is_string();
            if matches_pattern(&self.settings.name, name) && !is_going && !is_another_s {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names.into_iter().map(|name| self.given_for(name)).collect())
    }

    async fn set_desired(&self, name: &str, desired: u32) -> Result<Applied> {
        let (scale, path) = (format!("{}/scale", self.plural), [self.path(), vec![name, "scale"]].concat());
        let patch = json!({ "spec": { "replicas": desired } });
        let query = [("fieldManager", "tidegate")];
        let ask = Ask { patch: Some(&patch), query: &query, ..self.ask("patch", &scale, &path) };
        if i32::try_from(desired).is_err() {
            return Err(ask.error(ErrorKind::Refused, format!("{desired} is more than Kubernetes takes, 2147483647")));
        }
        let answer = self.api.session().await.map_err(|error| about(name, &error))?.ask(ask).await?;
        match desired_of(&answer).map_err(|(kind, cause)| ask.error(kind, cause))? {
            set if set == desired => Ok(Applied::Set),
            other => {
                Err(ask.error(ErrorKind::Malformed, format!("{desired} was asked for, and the answer says {other}")))
            }
        }
    }
}

impl Kubernetes {
    async fn status(&self, session: &Session<'_>, name: &str) -> Result<TargetStatus> {
        let (scale, path) = (format!("{}/scale", self.plural), [self.path(), vec![name]].concat());
        let ask = self.ask("get", &self.plural, &path);
        let object = session.ask(ask);
        let (object, scale) = match self.settings.is_built_in() {
            true => (object.await?, None),
            false => {
                let path = [path.clone(), vec!["scale"]].concat();
                let (object, scale) = futures_util::join!(object, session.ask(self.ask("get", &scale, &path)));
                (object?, Some(scale?))
            }
        };
        let found = Found { kind: self.settings.kind(), object, scale, follow_labels: self.settings.follow_labels };
        let mut status = status::read(found).map_err(|(kind, cause)| ask.error(kind, cause))?;
        if session.is_unverified {
            status.warnings.push("the API server's certificate is not verified; better give its ca".to_owned());
        }
        Ok(status)
    }

    /// Where all objects of the kind are.
    fn path(&self) -> Vec<&str> {
        let of_group = match self.settings.group_and_version() {
            ("", version) => vec!["api", version],
            (group, version) => vec!["apis", group, version],
        };
        [of_group, vec!["namespaces", &self.settings.namespace, &self.plural]].concat()
    }

    fn ask<'a>(&'a self, verb: &'static str, resource: &'a str, path: &'a [&'a str]) -> Ask<'a> {
        let (group, namespace) = (self.settings.group_and_version().0, self.settings.namespace.as_str());
        Ask { verb, resource, group, namespace, path, query: &[], accept: JSON, patch: None }
    }

    /// The settings of one that was found.
    fn given_for(&self, name: String) -> Value {
        let mut settings = self.given.clone();
        if let Some(settings) = settings.as_object_mut() {
            settings.remove("selector");
            settings.insert("name".to_owned(), name.into());
        }
        settings
    }
}

/// All objects of a list, page by page.
async fn pages(session: &Session<'_>, ask: Ask<'_>) -> Result<Vec<Value>> {
    let (mut items, mut token) = (Vec::new(), String::new());
    for _ in 0..MOST_PAGES {
        let more = (!token.is_empty()).then_some(("continue", token.as_str()));
        let query: Vec<_> = ask.query.iter().copied().chain([("limit", PAGE)]).chain(more).collect();
        let mut page = session.ask(Ask { query: &query, ..ask }).await?;
        match page["items"].take() {
            Value::Array(found) => items.extend(found),
            // Go writes null for what is empty.
            Value::Null if page["kind"].is_string() => {}
            _ => return Err(ask.error(ErrorKind::Malformed, "the answer is no list")),
        }
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(next) => token = next.to_owned(),
            None => return Ok(items),
        }
    }
    Err(ask.error(ErrorKind::Refused, "there are more than 10000; narrow it with a selector"))
}

/// The error of a session, for one name.
fn about(name: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("asking about {name:?}"), error.to_string())
}
