//! Marathon: how many instances of an application were asked for.
//!
//! Reads [`GET /v2/apps`](https://mesosphere.github.io/marathon/api-console/index.html), one call for all applications of a group that are
//! asked for together and one for each of those that are in none, since its answer has the counts and the deployments without every task, and sets `instances` and nothing else by
//! `PUT /v2/apps/{id}` with `partialUpdate`, without which Marathon may take what is not in the request for gone.
//!
//! `instances` is what was asked for, also while not all of them run. Each change of it is a deployment, and an application takes one
//! deployment at a time: another change meanwhile is `Locked`, with the deployments that hold it, and changes nothing. A scale-out for
//! which Mesos has no room is a deployment that does not end. Nothing here cancels one (`force`): it may be a release.
//!
//! Which tasks a scale-in takes is the application's own setting
//! ([`killSelection`](https://mesosphere.github.io/marathon/docs/configure-task-handling.html): the youngest first unless it
//! says the oldest), after those that its constraints no longer allow, that are lost, or that do not run yet. They get SIGTERM, and SIGKILL after `taskKillGracePeriodSeconds`.
//!
//! Microscaling (<https://github.com/microscaling/microscaling>) took the first `/` alone off an id, and answered 409 by waiting 250 ms,
//! each time twice as long up to 5 s. Here the tick waits 250, 500 and 1000 ms and looks again each time; the next tick goes on.

mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use self::settings::{Settings, check, identities};
use super::labels::Labels;
use super::{Applied, Target, refusal};
use crate::adapter::{Kind, parse, schema_of};
use crate::config::{Secret, matches_pattern};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{Answer, Ask, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// How many applications are asked for at once.
const AT_ONCE: usize = 8;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "marathon",
    aliases: &[],
    about: "Marathon: the instances of an application.",
    renamed: &[("MSS_MARATHON_API", "url")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(given: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings = parse::<Settings>(given)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.url, tls)?.below(&["v2", "apps"]);
    let mut alike = given.clone();
    alike["app"].take();
    Ok(Box::new(Marathon {
        http: shared.http.clone(),
        secrets: shared.secrets().clone(),
        endpoint,
        settings,
        asked_with: alike.to_string(),
        given: given.clone(),
    }))
}

struct Marathon {
    http: Arc<Http>,
    secrets: Secrets,
    /// The applications.
    endpoint: Endpoint,
    settings: Settings,
    asked_with: String,
    given: Value,
}

impl fmt::Debug for Marathon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Marathon({:?}, {})", self.endpoint, self.settings.app)
    }
}

#[derive(Debug, Deserialize)]
struct Apps {
    apps: Vec<Value>,
}

/// An application with its counts, as the API calls them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct App {
    instances: u32,
    tasks_running: u32,
    tasks_staged: u32,
    tasks_unhealthy: u32,
    deployments: Vec<Value>,
    labels: Option<BTreeMap<String, String>>,
}

/// What a change that was accepted is.
#[derive(Debug, Deserialize)]
struct Deployment {
    #[serde(rename = "deploymentId")]
    _id: String,
}

#[async_trait]
impl Target for Marathon {
    async fn statuses(&self, names: &[String]) -> Vec<Result<TargetStatus>> {
        let ids: Vec<_> = names.iter().map(|name| self.settings.id_of(name)).collect();
        let reading = |id: &str| format!("reading status of application {id:?}");
        let found = match common_prefix(&ids) {
            // Every id has it: one would be told of all that the cluster has.
            "" | "/" => self.list_each(&ids).await,
            prefix => self.list(&[("id", prefix)]).await,
        };
        match found {
            Ok(apps) => {
                let status =
                    |id: &String| self.status(&apps, id).map_err(|(kind, cause)| Error::new(kind, reading(id), cause));
                ids.iter().map(status).collect()
            }
            Err(error) => {
                let error = Arc::new(error);
                let each = |id: &str| Error::new(error.kind(), reading(id), error.to_string()).caused_by(error.clone());
                ids.iter().map(|id| Err(each(id))).collect()
            }
        }
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let pattern = self.settings.id();
        let before = pattern.split('*').next().unwrap_or_default();
        let label = self.settings.label.as_deref().map(|label| ("label", label));
        let query: Vec<_> = [("id", before)].into_iter().chain(label).collect();
        let during = || format!("looking for applications {pattern:?}");
        let apps = self.list(&query).await;
        let apps = apps.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        let ids = apps.iter().map(|app| app["id"].as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
        let nameless = || Error::new(ErrorKind::Malformed, during(), "an application in the answer has no id");
        let mut ids = ids.ok_or_else(nameless)?;
        ids.retain(|id| matches_pattern(&pattern, id));
        ids.sort_unstable();
        let mut settings = self.given.clone();
        settings.as_object_mut().map(|settings| settings.remove("label"));
        let filled_in = |id| {
            let mut settings = settings.clone();
            settings["app"] = Value::String(id);
            settings
        };
        Ok(ids.into_iter().map(filled_in).collect())
    }

    async fn set_desired(&self, name: &str, desired: u32) -> Result<Applied> {
        let id = self.settings.id_of(name);
        let during = || format!("setting instances of application {id:?} to {desired}");
        if i32::try_from(desired).is_err() {
            return Err(Error::new(ErrorKind::Refused, during(), "Marathon takes at most 2147483647"));
        }
        let answer = self.put(&id, desired).await;
        let answer = answer.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        // The answer does not say the count. An application that was not there cannot be made of a count alone.
        match (answer.status, serde_json::from_slice::<Deployment>(&answer.body)) {
            (200, Ok(_)) => Ok(Applied::Set),
            (status, Ok(_)) => Err(Error::new(ErrorKind::Malformed, during(), format!("it answered {status}"))),
            (_, Err(error)) => {
                let cause = format!("the answer is no deployment: {error}");
                Err(Error::new(ErrorKind::Malformed, during(), cause))
            }
        }
    }
}

impl Marathon {
    /// The applications whose ids have one of these in them.
    async fn list_each(&self, ids: &[String]) -> Result<Vec<Value>> {
        let each: Vec<_> = ids.iter().map(|id| async move { self.list(&[("id", id.as_str())]).await }).collect();
        Ok(stream::iter(each).buffered(AT_ONCE).try_collect::<Vec<_>>().await?.concat())
    }

    /// The applications by these filters, of those that the user may see.
    async fn list(&self, query: &[(&str, &str)]) -> Result<Vec<Value>> {
        let embed = [("embed", "apps.counts"), ("embed", "apps.deployments")];
        let endpoint = self.endpoint.with_query(query).with_query(&embed);
        let answer = self.ask(&endpoint, Ask::default()).await?;
        let malformed = |error: serde_json::Error| {
            Error::new(ErrorKind::Malformed, answer.during(), format!("the answer is no list of applications: {error}"))
        };
        Ok(serde_json::from_slice::<Apps>(&answer.body).map_err(malformed)?.apps)
    }

    async fn put(&self, id: &str, instances: u32) -> Result<Answer> {
        let segments: Vec<_> = id.split('/').filter(|segment| !segment.is_empty()).collect();
        let endpoint = self.endpoint.below(&segments).with_query(&[("partialUpdate", "true")]);
        let body = Some(json!({ "instances": instances }).to_string());
        self.ask(&endpoint, Ask { body, method: Some(Method::PUT), ..Ask::default() }).await
    }

    async fn ask(&self, endpoint: &Endpoint, ask: Ask) -> Result<Answer> {
        let Some((secret, login)) = self.settings.login() else { return self.send(endpoint, ask, None).await };
        let login = &login;
        let send = |secret: Secret<String>| {
            let ask = Ask { credential: Some(login(secret.clone())), ..ask.clone() };
            async move { self.send(endpoint, ask, Some(&secret)).await }
        };
        self.secrets.with(secret, send).await
    }

    async fn send(&self, endpoint: &Endpoint, ask: Ask, secret: Option<&Secret<String>>) -> Result<Answer> {
        let answer = self.http.ask(endpoint, ask).await?;
        let (status, full) = (answer.status, is_at_its_limit(&answer));
        refusal::success(answer, secret, words).map_err(|error| {
            let (kind, hint) = match status {
                401 => (ErrorKind::Denied, "; give basic, bearer_token or dcos_token, and one that is valid"),
                403 if full => (ErrorKind::Throttled, ""),
                403 => (ErrorKind::Denied, "; the user takes the permission to see and to update the application"),
                409 => (ErrorKind::Locked, ""),
                _ => (error.kind(), ""),
            };
            Error::new(kind, "", format!("{error}{hint}"))
        })
    }

    fn status(&self, apps: &[Value], id: &str) -> Result<TargetStatus, (ErrorKind, String)> {
        let Some(app) = apps.iter().find(|app| app["id"] == id) else {
            let cause = "there is no such application, or the user may not see it".to_owned();
            return Err((ErrorKind::NotFound, cause));
        };
        let app = App::deserialize(app).map_err(|error| (ErrorKind::Malformed, format!("the answer's {error}")))?;
        let labels = self.labels(&app)?;
        let warning = || format!("{} of its {} running tasks are unhealthy", app.tasks_unhealthy, app.tasks_running);
        Ok(TargetStatus {
            desired: app.instances,
            running: app.tasks_running,
            pending: app.tasks_staged,
            rolling_out: !app.deployments.is_empty(),
            pause: labels.as_ref().and_then(|labels| labels.pause),
            asked: labels.map(|labels| labels.asked),
            warnings: (0 < app.tasks_unhealthy).then(warning).into_iter().collect(),
            ..TargetStatus::default()
        })
    }

    fn labels(&self, app: &App) -> Result<Option<Labels>, (ErrorKind, String)> {
        if !self.settings.follow_labels {
            return Ok(None);
        }
        let missing =
            || (ErrorKind::Malformed, "the answer has no labels, so that the bounds in them are unknown".to_owned());
        let labels = app.labels.as_ref().ok_or_else(missing)?;
        let labels = labels.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        Labels::read(labels).map(Some).map_err(|problem| (ErrorKind::Config, problem))
    }
}

/// What all ids begin with: the API's filter takes one text that ids contain.
fn common_prefix(ids: &[String]) -> &str {
    let Some(first) = ids.first() else { return "" };
    let alike = |other: &String| first.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count();
    let length = ids.iter().map(alike).min().unwrap_or_default();
    first.get(..length).unwrap_or_default()
}

/// Whether as many deployments are under way as Marathon permits, which it answers by 403:
/// <https://github.com/mesosphere/marathon/blob/master/src/main/scala/mesosphere/marathon/api/MarathonExceptionMapper.scala>.
fn is_at_its_limit(answer: &Answer) -> bool {
    let document = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    document["message"].as_str().is_some_and(|message| message.starts_with("Max number ("))
}

/// The message, what is wrong with which field, and the deployments that lock an application.
fn words(document: &Value) -> Option<String> {
    let mut words = document["message"].as_str()?.to_owned();
    for detail in document["details"].as_array().into_iter().flatten() {
        let errors = detail["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let errors: Vec<_> = errors.collect();
        words.push_str(&format!("; {}: {}", detail["path"].as_str().unwrap_or_default(), errors.join(", ")));
    }
    let ids =
        document["deployments"].as_array().into_iter().flatten().filter_map(|deployment| deployment["id"].as_str());
    let ids: Vec<_> = ids.collect();
    match ids.is_empty() {
        true => Some(words),
        // Marathon advises to cancel them, which is not for an autoscaler to do.
        false => Some(format!("locked by deployment {}", ids.join(", "))),
    }
}

#[cfg(test)]
mod tests;
