//! Services of a Docker Swarm, by their replicas.
//!
//! Lists [services](https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Service/operation/ServiceList) with their
//! counts in one call, and sets one by
//! [updating](https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Service/operation/ServiceUpdate) it: its whole
//! specification goes back as it came, whatever is in it, with another number of replicas, for the version that was read, and
//! with the registry's credential of that specification. This starts no rollout, as `docker service scale` starts none.
//!
//! Swarm takes an update for what resumes a rollout that has failed and was paused, so that then no count is set. After a change
//! of the count Swarm's own `docker service rollback` undoes that, and no longer the rollout before it.
//!
//! Swarm chooses the tasks that a scale-in takes: those that do not run first, then those on the nodes with the most. Global
//! services and jobs have no count. docker-scaler and the Jenkins job before it let `com.df.scaleMin` and `com.df.scaleMax` pass
//! for 1 and 5, or for none, where they are missing; here what is missing is the configuration's.

use async_trait::async_trait;
use hyper::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::{self, Client, Engine, USUAL_HOST, query, segment};
use super::labels::Labels;
use super::{Applied, Target};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "swarm",
    aliases: &[],
    about: "Docker Swarm: the replicas of a service.",
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

/// The settings of a `swarm` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The engine of a manager: `unix:///PATH` (default `unix:///var/run/docker.sock`), or `https://HOST:2376`.
    #[serde(default = "usual_host")]
    #[schemars(length(min = 1, max = 2048))]
    host: String,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// The certificate of a client that the engine knows: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    cert: Option<String>,
    /// The key of the certificate in PEM; a reference such as `env:NAME` or `file:PATH`, or the key itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    key: Option<Reference>,
    /// The service, by its name. A `*` stands for any text, for all services that are there, also of later ones.
    #[schemars(length(min = 1, max = 255))]
    service: String,
    /// The label, `NAME` or `NAME=VALUE`, that services must have for which a `*` stands, such as `com.df.notify=true`.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    label: Option<String>,
    /// Whether the bounds and a pause come from the service's own labels, within the deployment's hard bounds.
    #[serde(default)]
    follow_labels: bool,
}

fn usual_host() -> String {
    USUAL_HOST.to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = engine::problems(&settings.host, settings.cert.as_deref(), settings.key.is_some());
    let mut problem = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    match settings.service.matches('*').count() {
        0 if settings.label.is_some() => problem("has a label and one service", "take label out, or give * as service"),
        0 | 1 => {}
        _ => problem("has more than one *", "keep one of them"),
    }
    problems
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let identity = |settings: Settings| Identity {
        provider: KIND.name,
        region: engine::region(&settings.host),
        account: Some("-".to_owned()),
        path: vec![settings.service],
    };
    parse(settings).ok().map(identity).into_iter().collect()
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let whole = settings.clone();
    let mut alike = settings.clone();
    if let Some(alike) = alike.as_object_mut() {
        alike.remove("service");
    }
    let settings: Settings = parse(settings)?;
    let client = settings.cert.clone().zip(settings.key.clone()).map(|(cert, key)| Client { cert, key });
    let engine = Engine::new(&settings.host, settings.ca.clone(), client, shared)?;
    Ok(Box::new(Swarm { engine, settings, whole, asked_with: alike.to_string() }))
}

struct Swarm {
    engine: Engine,
    settings: Settings,
    /// The settings as they were given, for those of services that are found.
    whole: Value,
    asked_with: String,
}

impl std::fmt::Debug for Swarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Swarm({:?})", self.settings)
    }
}

#[async_trait]
impl Target for Swarm {
    async fn statuses(&self, services: &[String]) -> Vec<Result<TargetStatus>> {
        // A name is a filter for names that begin with it.
        let listed = self.list(&json!({ "name": services })).await;
        let status = |name: &String| {
            let during = || format!("reading status of service {name:?}");
            let again = |error: &Error| Error::new(error.kind(), during(), error.to_string());
            let listed = listed.as_ref().map_err(again)?;
            let Some(service) = listed.iter().find(|service| service["Spec"]["Name"] == **name) else {
                return Err(Error::new(ErrorKind::NotFound, during(), "the Swarm has no service of this name"));
            };
            status_of(service, self.settings.follow_labels).map_err(|(kind, cause)| Error::new(kind, during(), cause))
        };
        services.iter().map(status).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let filters = match &self.settings.label {
            Some(label) => json!({ "label": [label] }),
            None => json!({}),
        };
        let listed = self.list(&filters).await?;
        // Global services and jobs have no count, whatever their labels.
        let scalable = listed.iter().filter(|service| !service["Spec"]["Mode"]["Replicated"].is_null());
        let named = scalable.map(|service| service["Spec"]["Name"].as_str());
        let names: Option<Vec<_>> = named.collect();
        let names = names.ok_or_else(|| self.engine.error(ErrorKind::Malformed, "a service has no name"))?;
        let (before, after) = self.settings.service.split_once('*').unwrap_or((&self.settings.service, ""));
        let is_wanted = |name: &&str| name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after));
        let mut names: Vec<_> = names.into_iter().filter(is_wanted).collect();
        names.sort_unstable();
        let settings = |name: &str| {
            let mut settings = self.whole.clone();
            settings["service"] = json!(name);
            settings.as_object_mut().map(|settings| settings.shift_remove("label"));
            settings
        };
        Ok(names.into_iter().map(settings).collect())
    }

    async fn set_desired(&self, service: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting replicas of service {service:?} to {desired}");
        let again = |error: Error| Error::new(error.kind(), during(), error.to_string());
        let path = format!("/services/{}", segment(service));
        let found = self.engine.document(Method::GET, &path, None).await.map_err(again)?;
        let (id, version, spec) = match (found["ID"].as_str(), found["Version"]["Index"].as_u64(), &found["Spec"]) {
            (Some(id), Some(version), Value::Object(spec)) => (id, version, spec),
            _ => {
                return Err(Error::new(
                    ErrorKind::Malformed,
                    during(),
                    "the answer has no ID, version or specification",
                ));
            }
        };
        // An engine also finds a service by the beginning of its ID.
        if spec.get("Name").and_then(Value::as_str) != Some(service) {
            return Err(Error::new(ErrorKind::NotFound, during(), "the Swarm has no service of this name"));
        }
        let replicas = replicas_of(&found).map_err(|(kind, cause)| Error::new(kind, during(), cause))?;
        if replicas == desired {
            return Ok(Applied::AlreadyThere);
        }
        if let Some(state) = found["UpdateStatus"]["State"].as_str().filter(|state| state.ends_with("paused")) {
            let cause = format!(
                "its update is {state}, and setting a count would resume it; roll it back, or update the service to what works"
            );
            return Err(Error::new(ErrorKind::Refused, during(), cause));
        }
        let mut spec = Value::Object(spec.clone());
        spec["Mode"]["Replicated"]["Replicas"] = json!(desired);
        let version = version.to_string();
        let update = query(&[("version", &version), ("registryAuthFrom", "spec")]);
        let path = format!("/services/{}/update{update}", segment(id));
        self.engine.success(Method::POST, &path, Some(&spec)).await.map_err(again)?;
        Ok(Applied::Set)
    }
}

impl Swarm {
    /// Services with how many of their tasks run.
    async fn list(&self, filters: &Value) -> Result<Vec<Value>> {
        let path = format!("/services{}", query(&[("status", "true"), ("filters", &filters.to_string())]));
        match self.engine.document(Method::GET, &path, None).await? {
            Value::Array(listed) => Ok(listed),
            _ => Err(self.engine.error(ErrorKind::Malformed, "the answer is no list of services")),
        }
    }
}

fn status_of(service: &Value, follow_labels: bool) -> Result<TargetStatus, (ErrorKind, String)> {
    let desired = replicas_of(service)?;
    let count = |what: &str| {
        let number = service["ServiceStatus"][what].as_u64().and_then(|number| u32::try_from(number).ok());
        let missing = format!("the answer has no {what}; it takes an engine of 20.10 or later");
        number.ok_or((ErrorKind::Malformed, missing))
    };
    let (running, meant) = (count("RunningTasks")?, count("DesiredTasks")?);
    let labels = service["Spec"]["Labels"].as_object().into_iter().flatten();
    let labels = match follow_labels {
        true => {
            let labels = labels.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
            Some(Labels::read(labels).map_err(|problem| (ErrorKind::Config, problem))?)
        }
        false => None,
    };
    let (rolling_out, warning) = rollout_of(service);
    Ok(TargetStatus {
        desired,
        running,
        pending: meant.saturating_sub(running),
        rolling_out,
        unfinished: false,
        pause: labels.as_ref().and_then(|labels| labels.pause),
        asked: labels.map(|labels| labels.asked),
        other_scaler: None,
        warnings: warning.into_iter().collect(),
    })
}

/// What is asked for. <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Service/operation/ServiceInspect> has the modes.
fn replicas_of(service: &Value) -> Result<u32, (ErrorKind, String)> {
    let mode = service["Spec"]["Mode"].as_object();
    let refused = |what: &str| Err((ErrorKind::Refused, format!("it is {what}, and has no count to set")));
    match mode.and_then(|mode| mode.iter().next()) {
        Some((mode, settings)) if mode == "Replicated" => {
            let count = settings["Replicas"].as_u64().and_then(|count| u32::try_from(count).ok());
            count.ok_or((ErrorKind::Malformed, "the answer has no number of replicas".to_owned()))
        }
        Some((mode, _)) if mode == "Global" => refused("a global service, which runs one task on every node"),
        Some((mode, _)) if mode == "ReplicatedJob" || mode == "GlobalJob" => {
            refused("a job, whose tasks end by themselves")
        }
        _ => Err((ErrorKind::Malformed, "the answer has no mode that is known".to_owned())),
    }
}

/// Whether a new version is being rolled out, and what is wrong with it. One that was paused by a failure is not over.
fn rollout_of(service: &Value) -> (bool, Option<String>) {
    match service["UpdateStatus"]["State"].as_str() {
        None | Some("completed" | "rollback_completed") => (false, None),
        Some(state @ ("paused" | "rollback_paused")) => {
            (true, Some(format!("its update is {state}, so that no count is set until it is mended or rolled back")))
        }
        Some(_) => (true, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Asked, Held, Pause};
    use crate::wire::{Contract, Reply, Request, Scene, Wire};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "host": endpoint, "service": "orders" })
    }

    fn service(replicas: u64) -> Value {
        json!({
            "ID": "9mnpnzenvg8p8tdbtq4wvbkcz", "Version": { "Index": 19 },
            "Spec": {
                "Name": "orders", "Labels": {}, "Mode": { "Replicated": { "Replicas": replicas } },
                "TaskTemplate": { "ForceUpdate": 0, "OfALaterEngine": { "Ratio": 0.1, "Nanos": 15_000_000_000_u64 } },
            },
            "ServiceStatus": { "RunningTasks": 1, "DesiredTasks": 3 },
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut service = service(5);
        *service.pointer_mut(pointer).expect("it is there") = value;
        service
    }

    /// The answers' form: <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Service>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let is_update = request.path.contains("/update?");
        let answer = |service: Value| match request.path.starts_with("/services?") {
            true => Reply::new(200, json!([service]).to_string()),
            false if is_update => Reply::new(200, r#"{"Warnings":null}"#),
            false => Reply::new(200, service.to_string()),
        };
        let failure = |status, text: &str| Reply::new(status, json!({ "message": text }).to_string());
        match scene {
            Scene::Amount(replicas) => answer(service(replicas)),
            Scene::RollingOut => {
                let mut service = service(5);
                service["UpdateStatus"] = json!({ "State": "updating" });
                answer(service)
            }
            Scene::Unscalable => answer(with("/Spec/Mode", json!({ "Global": {} }))),
            Scene::Locked if is_update => failure(500, "rpc error: code = Unknown desc = update out of sequence"),
            Scene::Locked => answer(service(4)),
            Scene::Denied => failure(403, "authorization denied by plugin"),
            Scene::NotFound if request.path.starts_with("/services?") => Reply::new(200, "[]"),
            Scene::NotFound => failure(404, "service orders not found"),
            // An engine has no such answer, but what stands before one may.
            Scene::Throttled => failure(429, "slow down"),
            Scene::Malformed => Reply::new(200, r#"[{"Spec":{"Name":"orders"}}]"#),
            Scene::Missing => answer(with("/Spec/Mode/Replicated", json!({}))),
            // Services are removed at once, and an answer to an update has no count.
            Scene::Draining | Scene::Other(_) => Reply::none(),
            // The scheduler cannot tell, and is not asked.
            Scene::Protected(_) => Reply::none(),
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    #[tokio::test]
    async fn an_update_sends_the_specification_back_as_it_came_but_for_the_count() {
        let wire = Wire::play(Scene::Amount(5), reply).await;
        let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        assert_eq!(target.set_desired("orders", 7).await.expect("it can be set"), Applied::Set);
        let requests = wire.requests();
        let [_, update] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!(update.path, "/services/9mnpnzenvg8p8tdbtq4wvbkcz/update?version=19&registryAuthFrom=spec");
        let sent = String::from_utf8(update.body.clone()).expect("it is text");
        assert_eq!(sent, service(7)["Spec"].to_string());
    }

    #[tokio::test]
    async fn a_service_that_an_engine_finds_by_the_beginning_of_an_id_is_not_set() {
        let wire = Wire::play(Scene::Amount(5), reply).await;
        let target = build(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        let error = target.set_desired("9mnp", 7).await.expect_err("it is no name");
        assert_eq!((error.kind(), wire.requests().len()), (ErrorKind::NotFound, 1), "{error}");
    }

    #[test]
    fn jobs_and_global_services_are_refused_and_a_mode_of_later_is_not_guessed() {
        for (mode, kind) in [
            (json!({ "Global": {} }), ErrorKind::Refused),
            (json!({ "ReplicatedJob": { "MaxConcurrent": 1, "TotalCompletions": 1 } }), ErrorKind::Refused),
            (json!({ "GlobalJob": {} }), ErrorKind::Refused),
            (json!({ "Sometimes": {} }), ErrorKind::Malformed),
            (json!({}), ErrorKind::Malformed),
            (json!({ "Replicated": { "Replicas": -1 } }), ErrorKind::Malformed),
        ] {
            let (found, _) = status_of(&with("/Spec/Mode", mode.clone()), false).expect_err("it has no count");
            assert_eq!(found, kind, "{mode}");
        }
        let error = status_of(&with("/ServiceStatus", Value::Null), false).expect_err("nothing is known to run");
        assert_eq!(error.0, ErrorKind::Malformed);
    }

    #[test]
    fn an_update_is_over_when_it_says_so() {
        let rollout = |state: &str| {
            let mut service = service(5);
            service["UpdateStatus"] = json!({ "State": state });
            let status = status_of(&service, false).expect("it can be read");
            (status.rolling_out, status.warnings.len())
        };
        for (state, expected) in [
            ("completed", (false, 0)),
            ("rollback_completed", (false, 0)),
            ("updating", (true, 0)),
            ("rollback_started", (true, 0)),
            ("paused", (true, 1)),
            ("rollback_paused", (true, 1)),
            ("a_state_of_2030", (true, 0)),
        ] {
            assert_eq!(rollout(state), expected, "{state}");
        }
    }

    #[test]
    fn labels_are_followed_where_the_settings_say_so() {
        let labelled = |labels: Value| with("/Spec/Labels", labels);
        let both = json!({ "com.df.scaleMin": "2", "com.df.scaleMax": "6", "tidegate.pause": "in" });
        let status = status_of(&labelled(both.clone()), true).expect("it can be read");
        assert_eq!(status.asked, Some(Asked { min: Some(2), max: Some(6) }));
        assert_eq!(status.pause, Some(Pause::Hold(Held::In)));
        let status = status_of(&labelled(both), false).expect("it can be read");
        assert_eq!((status.asked, status.pause), (None, None));
        let status = status_of(&labelled(json!({ "com.df.scaleMin": "1" })), true).expect("it can be read");
        assert_eq!(status.asked, Some(Asked { min: Some(1), max: None }), "a label that is missing is absent");
        let (kind, cause) = status_of(&labelled(json!({ "com.df.scaleMax": "many" })), true).expect_err("no number");
        assert!(kind == ErrorKind::Config && cause.contains("com.df.scaleMax"), "{cause}");
    }

    #[test]
    fn one_star_is_enough_and_a_label_takes_one() {
        let problems = |settings: Value| check(&settings).len();
        assert_eq!(problems(json!({ "service": "web-*", "label": "com.df.notify=true" })), 0);
        assert_eq!(problems(json!({ "service": "web", "label": "com.df.notify=true" })), 1);
        assert_eq!(problems(json!({ "service": "*web*" })), 1);
    }
}
