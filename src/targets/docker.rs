//! Containers on a Docker Engine, started and stopped one by one.
//!
//! The API is <https://docs.docker.com/reference/api/engine/>. A container is ours if it has the label `tidegate.service=NAME`
//! and a name that begins with `NAME-SLOT`, where SLOT is its label `tidegate.id`. Both are given to it when it is created, and a
//! container that somebody else runs from a commit of ours inherits the labels, but not the name. No other container is touched.
//! A slot is the smallest number that is free, so that of two who start the same container the engine lets one.
//!
//! What is asked for is what is there and meant to run: our containers that run, are paused, are being restarted or were made
//! just now. Those that were created and never started, and those that have ended, are leftovers. They count nowhere, and are
//! removed when the count is next set. Those that are to stop have it in their names (`container::Mark`), count nowhere either, and are
//! led out tick by tick (`leave.rs`).
//!
//! A scale-in takes containers that are being restarted first, then the newest. With `busy_file` those that work are not taken
//! at all: where that leaves too few to stop, the rest waits for a later tick. The container's own stop signal comes first, and
//! the first tick after `stop_grace_secs` kills what has not ended.
//!
//! Unlike Microscaling a container gets the variables that are listed, and never the engine's own environment with all of its
//! secrets; it is not in the host's network unless `network` says so; one that is stopped has ten seconds instead of one; and
//! which one that is, is no accident.

mod container;
mod leave;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use hyper::Method;
use serde_json::{Value, json};

use self::container::{Container, ID_LABEL, Phase, SERVICE_LABEL, names, ours};
use self::settings::{Pull, Settings, check, identities};
use super::engine::{Engine, query, segment};
use super::labels::Labels;
use super::{Applied, Target};
use crate::adapter::{Kind, parse, schema_of};
use crate::clock::Clock;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::secrets::Secrets;
use crate::shared::Shared;

/// How many containers are started, stopped, or looked into, at the same time: an engine's disk is the limit, and fifty starts must fit
/// into a call.
const AT_ONCE: usize = 10;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "docker",
    aliases: &[],
    about: "Containers on a Docker Engine, of one image, started and stopped one by one.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let mut alike = settings.clone();
    if let Some(alike) = alike.as_object_mut() {
        alike.remove("service");
    }
    let settings: Settings = parse(settings)?;
    let engine = Engine::new(&settings.host, settings.ca.clone(), settings.client(), shared)?;
    let (secrets, clock) = (shared.secrets().clone(), shared.clock.clone());
    Ok(Box::new(Docker { engine, settings, secrets, clock, asked_with: alike.to_string() }))
}

struct Docker {
    engine: Engine,
    settings: Settings,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    asked_with: String,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Docker({:?})", self.settings)
    }
}

#[async_trait]
impl Target for Docker {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        let labels = async {
            match self.settings.follow_labels {
                true => Some(self.labels().await),
                false => None,
            }
        };
        let (listed, labels) = futures_util::join!(self.list(), labels);
        let status = |service: &String| {
            let during = || format!("reading status of service {service:?}");
            let again = |error: &Error| Error::new(error.kind(), during(), error.to_string());
            let listed = listed.as_ref().map_err(again)?;
            let labels = labels.as_ref().map(Result::as_ref).transpose().map_err(again)?;
            let status = status_of(listed, service, self.now()).map_err(|error| again(&error))?;
            Ok(TargetStatus {
                pause: labels.and_then(|labels| labels.pause),
                asked: labels.map(|labels| labels.asked),
                ..status
            })
        };
        services.iter().map(status).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn protected(&self, services: &[String]) -> Vec<Result<Option<u32>>> {
        let Some(file) = &self.settings.busy_file else { return services.iter().map(|_| Ok(None)).collect() };
        let listed = self.list().await;
        let count = async |service: &String| {
            let during = || format!("counting containers of service {service:?} that work");
            let again = |error: Error| Error::new(error.kind(), during(), error.to_string());
            let listed = listed.as_ref().map_err(|error| Error::new(error.kind(), during(), error.to_string()))?;
            let running =
                ours(listed, service, self.now()).map_err(again)?.0.into_iter().filter(Container::is_meant_to_run);
            let mut busy = 0;
            for some in running.collect::<Vec<_>>().chunks(AT_ONCE) {
                for is_busy in join_all(some.iter().map(|container| self.is_busy(container, file))).await {
                    busy += u32::from(is_busy.map_err(again)?);
                }
            }
            Ok(Some(busy))
        };
        join_all(services.iter().map(count)).await
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting count of service {service:?} to {desired}");
        let again = |error: Error| Error::new(error.kind(), during(), error.to_string());
        let listed = self.list_named(service).await.map_err(again)?;
        let (there, _) = ours(&listed, service, self.now()).map_err(again)?;
        let (up, left): (Vec<_>, Vec<_>) = there.into_iter().partition(Container::is_meant_to_run);
        let wanted = usize::try_from(desired).unwrap_or(usize::MAX);
        if up.len() == wanted {
            return Ok(Applied::AlreadyThere);
        }
        self.clean(left.iter().filter(|container| container.phase == Phase::Left && container.mark.is_none())).await;
        match up.len() < wanted {
            true => self.start(service, wanted - up.len(), &listed).await.map_err(again)?,
            false => self.stop(&up, up.len() - wanted).await.map_err(again)?,
        }
        Ok(Applied::Set)
    }

    async fn go_on(&self, service: &str) -> Result<()> {
        let during = || format!("stopping containers of service {service:?}");
        let again = |error: Error| Error::new(error.kind(), during(), error.to_string());
        let listed = self.list().await.map_err(again)?;
        let (mut leaving, _) = ours(&listed, service, self.now()).map_err(again)?;
        leaving.retain(Container::is_unfinished);
        self.lead_all_out(&mut leaving).await.map_err(again)
    }
}

/// What the containers of a service say of it. One without containers has none: the engine's list is whole.
fn status_of(listed: &[Value], service: &str, now: i64) -> Result<TargetStatus> {
    let (there, strangers) = ours(listed, service, now)?;
    let number = |what: fn(&Container) -> bool| {
        let number = there.iter().filter(|container| what(container)).count();
        u32::try_from(number).map_err(|_| Error::new(ErrorKind::Malformed, "", "the engine lists too many containers"))
    };
    let stranger = |name: String| {
        format!("container {name:?} has the label {SERVICE_LABEL} and was not made by Tidegate, which leaves it alone")
    };
    Ok(TargetStatus {
        desired: number(Container::is_meant_to_run)?,
        running: number(|container| container.is_meant_to_run() && container.phase == Phase::Running)?,
        pending: number(|container| {
            container.is_meant_to_run() && matches!(container.phase, Phase::Starting | Phase::Restarting)
        })?,
        unfinished: there.iter().any(Container::is_unfinished),
        warnings: strangers.into_iter().map(stranger).collect(),
        ..TargetStatus::default()
    })
}

impl Docker {
    /// All containers that have our label, of all services.
    async fn list(&self) -> Result<Vec<Value>> {
        self.listed(&json!({ "label": [SERVICE_LABEL] })).await
    }

    /// All containers with names such as those of this service, whoever made them.
    async fn list_named(&self, service: &str) -> Result<Vec<Value>> {
        let beginning = format!("^/?{}-", service.replace('.', "\\."));
        self.listed(&json!({ "name": [beginning] })).await
    }

    async fn listed(&self, filters: &Value) -> Result<Vec<Value>> {
        let path = format!("/containers/json{}", query(&[("all", "true"), ("filters", &filters.to_string())]));
        match self.engine.document(Method::GET, &path, None).await? {
            Value::Array(listed) => Ok(listed),
            _ => Err(self.engine.error(ErrorKind::Malformed, "the answer is no list of containers")),
        }
    }

    /// The labels that a container of this image has if it is made now.
    async fn labels(&self) -> Result<Labels> {
        let Settings { image, labels, .. } = &self.settings;
        let about = self.engine.document(Method::GET, &image_path(image), None).await;
        let about = about.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let remedy = "its labels are to be followed, so pull it, or set follow_labels to false";
                Error::new(ErrorKind::NotFound, "", format!("{error}; {remedy}"))
            }
            _ => error,
        })?;
        let Some(config) = about.get("Config").and_then(Value::as_object) else {
            return Err(self.engine.error(ErrorKind::Malformed, format!("image {image:?} has no Config")));
        };
        // An image without labels has null there.
        let of_image = config.get("Labels").and_then(Value::as_object).into_iter().flatten();
        let of_image = of_image.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let mut all: BTreeMap<_, _> = of_image.collect();
        all.extend(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Labels::read(all.into_iter()).map_err(|problem| {
            Error::new(ErrorKind::Config, format!("reading labels of image {image:?} and the settings"), problem)
        })
    }

    /// Whether a container has the file that says that it works. Paused ones are looked into as others are.
    async fn is_busy(&self, container: &Container, file: &str) -> Result<bool> {
        let path = format!("/containers/{}/archive{}", segment(&container.id), query(&[("path", file)]));
        let answer = self.engine.ask(Method::HEAD, &path, None).await?;
        match answer.status {
            200 => Ok(true),
            // No such file, or no such container any more, which the next step finds.
            404 if answer.is_engines => Ok(false),
            404 => {
                let cause = "404 comes from something before it, which does not let GET /containers/ID/archive through";
                Err(self.engine.error(ErrorKind::Malformed, cause))
            }
            _ => Err(self.engine.refusal(&answer)),
        }
    }

    /// Removes leftovers. One that cannot be removed counts nowhere, and is tried again when the count is next set.
    async fn clean(&self, left: impl Iterator<Item = &Container>) {
        for some in left.collect::<Vec<_>>().chunks(AT_ONCE) {
            join_all(some.iter().map(|container| self.remove(&container.id))).await;
        }
    }

    /// Not by force: one that runs after all stays.
    async fn remove(&self, id: &str) -> Result<()> {
        let path = format!("/containers/{}?v=true", segment(id));
        self.engine.success(Method::DELETE, &path, None).await.map(drop)
    }

    /// Starts so many more. What somebody else made since the containers were listed has the name of one of these.
    async fn start(&self, service: &str, missing: usize, listed: &[Value]) -> Result<()> {
        self.pull().await?;
        let environment = self.environment().await?;
        let taken: BTreeSet<_> = listed.iter().flat_map(names).collect();
        let slots = (1_u32..).filter(|slot| !taken.contains(format!("{service}-{slot}").as_str()));
        let slots: Vec<_> = slots.take(missing).map(|slot| slot.to_string()).collect();
        let mut done = 0;
        for some in slots.chunks(AT_ONCE) {
            let started = join_all(some.iter().map(|slot| self.start_one(service, slot, &environment))).await;
            done = all_done(started, done, missing, "started")?;
        }
        Ok(())
    }

    async fn environment(&self) -> Result<Vec<String>> {
        let each = self.settings.env.iter().map(async |(name, value)| {
            let value = self.secrets.get(value).await?;
            match value.expose().contains('\0') {
                true => Err(Error::new(ErrorKind::Config, format!("setting variable {name}"), "it has a NUL in it")),
                false => Ok(format!("{name}={}", value.expose())),
            }
        });
        join_all(each).await.into_iter().collect()
    }

    /// Makes a container and starts it. One that the engine does not start is removed.
    async fn start_one(&self, service: &str, slot: &str, environment: &[String]) -> Result<bool> {
        let Settings { image, command, network, labels, .. } = &self.settings;
        let mut labels = labels.clone();
        labels.extend([(SERVICE_LABEL.to_owned(), service.to_owned()), (ID_LABEL.to_owned(), slot.to_owned())]);
        let mut wanted = json!({ "Image": image, "Env": environment, "Labels": labels });
        if !command.is_empty() {
            wanted["Cmd"] = json!(command);
        }
        if let Some(network) = network {
            wanted["HostConfig"] = json!({ "NetworkMode": network });
        }
        let name = format!("{service}-{slot}");
        let path = format!("/containers/create{}", query(&[("name", &name)]));
        let made = self.engine.document(Method::POST, &path, Some(&wanted)).await?;
        let Some(id) = made["Id"].as_str() else {
            return Err(self.engine.error(ErrorKind::Malformed, "a container was made, and the answer has no Id"));
        };
        let answer = self.engine.ask(Method::POST, &format!("/containers/{}/start", segment(id)), None).await?;
        match answer.status {
            204 | 304 => Ok(true),
            _ => {
                let refusal = self.engine.refusal(&answer);
                match self.remove(id).await {
                    Ok(()) => Err(refusal),
                    Err(error) => Err(Error::new(refusal.kind(), "", format!("{refusal}; then {error}"))),
                }
            }
        }
    }

    /// Sees to it that the image is there, as `pull` says.
    async fn pull(&self) -> Result<()> {
        let Settings { image, pull, .. } = &self.settings;
        match pull {
            Pull::Never => return Ok(()),
            Pull::Missing => match self.engine.success(Method::GET, &image_path(image), None).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                found => return found.map(drop),
            },
            Pull::Always => {}
        }
        // Without a tag the engine would pull all of them.
        let has_tag = image.rsplit('/').next().is_some_and(|name| name.contains([':', '@']));
        let tag = if has_tag { "" } else { "latest" };
        let path = format!("/images/create{}", query(&[("fromImage", image), ("tag", tag)]));
        let answer = self
            .engine
            .success(Method::POST, &path, None)
            .await
            .map_err(|error| Error::new(error.kind(), format!("pulling image {image:?}"), error.to_string()))?;
        // The answer begins before it is known how the pull ends.
        let mut lines = answer.body.split(|byte| *byte == b'\n');
        match lines.find_map(|line| serde_json::from_slice::<Value>(line).ok()?["error"].as_str().map(str::to_owned)) {
            Some(error) => Err(self.engine.error(ErrorKind::Unavailable, format!("pulling image {image:?}: {error}"))),
            None => Ok(()),
        }
    }

    /// In seconds since 1970.
    fn now(&self) -> i64 {
        self.clock.now().as_second()
    }
}

fn image_path(image: &str) -> String {
    format!("/images/{}/json", segment(image))
}

/// Adds up what was done, and says how far it came where something was not.
fn all_done(results: Vec<Result<bool>>, before: usize, of: usize, what: &str) -> Result<usize> {
    let done = before + results.iter().filter(|result| matches!(result, Ok(true))).count();
    match results.into_iter().find_map(Result::err) {
        Some(error) => Err(Error::new(error.kind(), format!("{done} of {of} {what}"), error.to_string())),
        None => Ok(done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "host": endpoint, "service": "orders", "image": "worker:1", "busy_file": "/tmp/busy" })
    }

    fn container(number: u64) -> Value {
        json!({
            "Id": format!("c{number}"), "Names": [format!("/orders-{number}")], "State": "running", "Created": number,
            "Labels": { SERVICE_LABEL: "orders", ID_LABEL: number.to_string() },
        })
    }

    /// The answers' form: <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerList>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let list = |number| Reply::new(200, json!((0..number).map(container).collect::<Vec<_>>()).to_string());
        let failure = |status, text: &str| Reply::new(status, json!({ "message": text }).to_string());
        let is_list = request.path.starts_with("/containers/json");
        match scene {
            Scene::Amount(number) if is_list => list(number),
            Scene::Protected(number) if is_list => list(number + 2),
            Scene::Protected(number) => {
                let asked = request.path.trim_start_matches("/containers/c").split('/').next();
                let asked: u64 = asked.and_then(|id| id.parse().ok()).expect("it asks for a container");
                Reply::new(if asked < number { 200 } else { 404 }, "").header("api-version", "1.43")
            }
            Scene::Malformed => Reply::new(200, r#"{"message":"a list, no longer"}"#),
            Scene::Missing => {
                let mut one = container(1);
                one.as_object_mut().expect("an object").remove("State");
                Reply::new(200, json!([one]).to_string())
            }
            Scene::Denied => failure(403, "authorization denied by plugin"),
            Scene::NotFound => failure(404, "page not found"),
            // An engine has no such answer, but what stands before one may.
            Scene::Throttled => failure(429, "slow down"),
            // Containers have no versions and no locks, are not scalable or otherwise, and what was set is what is there.
            Scene::RollingOut | Scene::Unscalable | Scene::Draining | Scene::Locked | Scene::Other(_) => Reply::none(),
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    #[test]
    fn what_was_done_is_said_where_something_was_not() {
        let failed = || Err(Error::new(ErrorKind::Unavailable, "", "the disk is full"));
        let error = all_done(vec![Ok(true), failed(), Ok(true)], 10, 50, "started").expect_err("one failed");
        assert_eq!(error.to_string(), "12 of 50 started: the disk is full");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(all_done(vec![Ok(true), Ok(false)], 10, 50, "stopped").expect("all went well"), 11);
    }
}
