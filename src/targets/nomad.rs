//! Task groups of Nomad jobs, by their count.
//!
//! Reads the [job](https://developer.hashicorp.com/nomad/api-docs/jobs#read-job), its
//! [scale](https://developer.hashicorp.com/nomad/api-docs/jobs#read-job-scale-status) and its
//! [latest deployment](https://developer.hashicorp.com/nomad/api-docs/jobs#read-job-s-most-recent-deployment), once for all
//! groups of a job, and sets a [count](https://developer.hashicorp.com/nomad/api-docs/jobs#scale-task-group) and nothing else.
//! Nomad writes every such request down among the job's scaling events.
//!
//! Nomad chooses which allocations a scale-in takes: those with the highest index
//! (<https://github.com/hashicorp/nomad/issues/7876>). A new count is a new version of the job, so that where the job has an
//! `update` block a scale-out is itself a deployment, and while one is under way Nomad takes no other count.
//! Nomad Autoscaler counts tasks that run and takes a refusal for a deployment as done; here the count is the one that was asked
//! for, and the refusal is tried again.

mod answers;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join3;
use reqwest::header::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded;

use self::answers::{Deployment, Found, Job, Listed, Registered, Scale, read, success};
use super::{Applied, Target, fingerprint};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::config::{Reference, Secret, matches_pattern};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::net::{self, Answer, Ask, Endpoint, Http, Tls};
use crate::secrets::Secrets;
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "nomad",
    aliases: &["nomad-target"],
    about: "Nomad: the count of a task group of a job.",
    renamed: &[("Job", "job"), ("Group", "group"), ("Namespace", "namespace")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

const TOKEN: HeaderName = HeaderName::from_static("x-nomad-token");

/// Where the next page of a list begins: <https://developer.hashicorp.com/nomad/api-docs#pagination>.
const NEXT: &str = "x-nomad-nexttoken";

/// Jobs on one page. A job of many groups takes a few KiB, and an answer one MiB at most.
const JOBS_PER_PAGE: &str = "100";

/// The region of a server that is told no other: <https://developer.hashicorp.com/nomad/docs/configuration#region>.
const USUAL_REGION: &str = "global";

/// The settings of a `nomad` target.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The URL of a server or agent, `https://HOST:4646`.
    #[schemars(length(min = 1, max = 2048))]
    address: String,
    /// The job, by its ID. `*` stands for any text, for discovery: all jobs of the namespace that are not stopped and can be scaled.
    #[schemars(length(min = 1, max = 255))]
    job: String,
    /// The task group. `*` stands for any text, for discovery.
    #[schemars(length(min = 1, max = 255), pattern("^[^/:\\s]+$"))]
    group: String,
    /// The job's namespace.
    #[serde(default = "usual_namespace")]
    #[schemars(length(min = 1, max = 128), pattern("^[A-Za-z0-9-]+$"))]
    namespace: String,
    /// The region that answers. Without it that of the server, which is taken for `global`, Nomad's own default: name a region that is
    /// called otherwise.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 255))]
    region: Option<String>,
    /// The ACL token, which needs `read-job` and `scale-job` in the namespace, and `list-jobs` for discovery; a reference such
    /// as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    token: Option<Reference>,
    /// Whether the meta of the group, then that of the job, and where neither says it the group's `scaling` block, take the
    /// place of the configured bounds, within the deployment's hard bounds: `tidegate_min`, `tidegate_max` and `tidegate_pause`.
    #[serde(default)]
    follow_labels: bool,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    insecure_tls: bool,
}

fn usual_namespace() -> String {
    "default".to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    match net::parse(&settings.address) {
        Err(problem) => vec![problem],
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            vec![("has an address with a query".to_owned(), "give https://HOST:4646 alone".to_owned())]
        }
        Ok(_) => Vec::new(),
    }
}

fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Ok(url) = net::parse(&settings.address) else { return Vec::new() };
    // A job's ID may hold what parts the names of an identity from each other.
    let plain = |name: &str| form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
    let Settings { job, group, namespace, region, .. } = settings;
    let region = plain(region.as_deref().unwrap_or(USUAL_REGION));
    vec![Identity {
        provider: KIND.name,
        region: net::host_and_port(&url),
        account: Some("-".to_owned()),
        path: [net::names_of_path(&url), vec![region, namespace, plain(&job), group]].concat(),
    }]
}

fn build(given: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let settings: Settings = parse(given)?;
    let tls = Tls { ca: settings.ca.clone(), insecure: settings.insecure_tls };
    let endpoint = shared.http.endpoint(&settings.address, tls)?;
    let asked_with = fingerprint(given, &["group"]);
    let (http, secrets) = (shared.http.clone(), shared.secrets().clone());
    Ok(Box::new(Nomad { http, secrets, endpoint, settings, given: given.clone(), asked_with }))
}

struct Nomad {
    http: Arc<Http>,
    secrets: Secrets,
    endpoint: Endpoint,
    settings: Settings,
    given: Value,
    asked_with: String,
}

impl fmt::Debug for Nomad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nomad({:?}, {:?})", self.endpoint, self.settings.job)
    }
}

#[async_trait]
impl Target for Nomad {
    async fn statuses(&self, groups: &[String]) -> Vec<Result<TargetStatus>> {
        let reading = |group: &str| format!("reading status of group {group:?} of job {:?}", self.settings.job);
        match self.find().await {
            Ok(found) => {
                let status = |group: &String| {
                    let status = found.status(group, self.settings.follow_labels);
                    status.map_err(|(kind, cause)| Error::new(kind, reading(group), cause))
                };
                groups.iter().map(status).collect()
            }
            Err(error) => {
                // One job, one error: each of its groups carries it.
                let error = Arc::new(error);
                let each = |group: &String| {
                    Error::new(error.kind(), reading(group), error.to_string()).caused_by(error.clone())
                };
                groups.iter().map(|group| Err(each(group))).collect()
            }
        }
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let (prefix, _) = self.settings.job.split_once('*').unwrap_or((&self.settings.job, ""));
        let list = self.of_namespace(self.endpoint.below(&["v1", "jobs"]));
        let list = list.with_query(&[("prefix", prefix), ("per_page", JOBS_PER_PAGE)]);
        let (mut found, mut next) = (Vec::new(), None::<String>);
        loop {
            let page = next.iter().fold(list.clone(), |page, token| page.with_query(&[("next_token", token)]));
            let answer = self.ask(&page, None).await?;
            let following =
                answer.headers.get(NEXT).and_then(|token| token.to_str().ok()).filter(|token| !token.is_empty());
            let following = following.map(str::to_owned);
            found.extend(self.matches(read::<Vec<Listed>>(&answer)?)?);
            if following.is_none() {
                break;
            }
            if following == next {
                let cause = "a page of jobs leads to itself";
                return Err(Error::new(ErrorKind::Malformed, answer.during(), cause));
            }
            next = following;
        }
        found.sort();
        found.dedup();
        Ok(found.into_iter().map(|(job, group)| self.named(job, group)).collect())
    }

    async fn set_desired(&self, group: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting count of group {group:?} of job {:?} to {desired}", self.settings.job);
        let request = json!({ "Count": desired, "Target": { "Group": group }, "Message": "set by tidegate" });
        let set = async {
            let answer = self.ask(&self.of_job("scale"), Some(&request)).await?;
            read::<Registered>(&answer)
        };
        let set = set.await.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        match set.eval_id.is_some_and(|id| !id.is_empty()) {
            true => Ok(Applied::Set),
            false => Err(Error::new(ErrorKind::Malformed, during(), "the answer has no evaluation")),
        }
    }
}

impl Nomad {
    /// What Nomad says of the job. The three answers may be of different moments; what is decided is looked at again.
    async fn find(&self) -> Result<Found> {
        let job = self.get::<Job>("");
        let scale = self.get::<Scale>("scale");
        let deployment = self.get::<Option<Deployment>>("deployment");
        let (job, scale, deployment) = try_join3(job, scale, deployment).await?;
        Ok(Found { job, scale, deployment })
    }

    async fn get<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        read(&self.ask(&self.of_job(what), None).await?)
    }

    /// What a configuration with a `*` stands for on a page of jobs: a job and a group.
    fn matches(&self, jobs: Vec<Listed>) -> Result<Vec<(String, String)>> {
        let Settings { job: pattern, group, .. } = &self.settings;
        let mut found = Vec::new();
        for job in jobs {
            let (id, groups) = job
                .scalable()
                .map_err(|cause| Error::new(ErrorKind::Malformed, format!("listing jobs like {pattern:?}"), cause))?;
            if matches_pattern(pattern, &id) {
                let groups = groups.into_iter().filter(|name| matches_pattern(group, name));
                found.extend(groups.map(|name| (id.clone(), name)));
            }
        }
        Ok(found)
    }

    fn named(&self, job: String, group: String) -> Value {
        let mut settings = self.given.clone();
        settings["job"] = job.into();
        settings["group"] = group.into();
        settings
    }

    fn of_job(&self, what: &str) -> Endpoint {
        let job = self.endpoint.below(&["v1", "job", &self.settings.job]);
        self.of_namespace(if what.is_empty() { job } else { job.below(&[what]) })
    }

    fn of_namespace(&self, endpoint: Endpoint) -> Endpoint {
        let endpoint = endpoint.with_query(&[("namespace", &self.settings.namespace)]);
        self.settings.region.iter().fold(endpoint, |endpoint, region| endpoint.with_query(&[("region", region)]))
    }

    async fn ask(&self, endpoint: &Endpoint, body: Option<&Value>) -> Result<Answer> {
        let ask = async |token: Option<Secret<String>>| {
            let headers = token.iter().map(|token| (TOKEN, token.expose().clone())).collect();
            let ask = Ask { headers, body: body.map(Value::to_string), ..Ask::default() };
            success(self.http.ask(endpoint, ask).await?)
        };
        match &self.settings.token {
            Some(token) => self.secrets.with(token, |token| ask(Some(token))).await,
            None => ask(None).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Asked, Held, Pause};
    use crate::wire::{Contract, Reply, Request, Scene, Wire};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(endpoint: &str) -> Value {
        json!({ "address": endpoint, "job": "orders", "group": "workers", "token": "canary-token" })
    }

    fn json(body: &Value) -> Reply {
        Reply::new(200, body.to_string()).header("content-type", "application/json")
    }

    fn job() -> Value {
        json!({
            "ID": "orders", "Type": "service", "Stop": false, "Periodic": null, "ParameterizedJob": null, "Meta": null,
            "TaskGroups": [{ "Name": "workers", "Count": 5, "Meta": null, "Scaling": null }],
        })
    }

    fn scale(desired: u64) -> Value {
        let group =
            json!({ "Desired": desired, "Placed": 3, "Running": 1, "Healthy": 1, "Unhealthy": 0, "Events": null });
        json!({
            "JobID": "orders", "Namespace": "default", "JobCreateIndex": 10, "JobModifyIndex": 12, "JobStopped": false,
            "TaskGroups": { "workers": group },
        })
    }

    /// The answers' form: <https://developer.hashicorp.com/nomad/api-docs/jobs#read-job-scale-status>.
    fn reply(scene: Scene, request: &Request) -> Reply {
        assert_eq!(request.headers.get("x-nomad-token").map(String::as_str), Some("canary-token"));
        let path = request.path.split('?').next().unwrap_or_default();
        let answer = |job: Value, scale: Value, deployment: Value| match path.rsplit('/').next() {
            Some("scale") if request.method == "POST" => {
                json(&json!({ "EvalID": "6c1d", "EvalCreateIndex": 13, "JobModifyIndex": 13, "Warnings": "" }))
            }
            Some("scale") => json(&scale),
            Some("deployment") => json(&deployment),
            _ => json(&job),
        };
        match scene {
            Scene::Amount(desired) => answer(job(), scale(desired), Value::Null),
            // The answer tells no count.
            Scene::Other(_) => Reply::none(),
            Scene::RollingOut => {
                answer(job(), scale(5), json!({ "JobCreateIndex": 10, "Status": "running", "StatusDescription": "" }))
            }
            Scene::Unscalable => {
                let mut job = job();
                job["Type"] = json!("system");
                answer(job, scale(5), Value::Null)
            }
            Scene::Draining => {
                let mut scale = scale(5);
                scale["JobStopped"] = json!(true);
                answer(job(), scale, Value::Null)
            }
            Scene::Locked => Reply::new(400, "job scaling blocked due to active deployment"),
            Scene::Denied => Reply::new(403, "Permission denied"),
            Scene::NotFound => Reply::new(404, "job not found"),
            Scene::Throttled => Reply::new(429, "Too Many Requests"),
            Scene::Malformed => json(&json!([])),
            Scene::Missing => {
                let mut scale = scale(5);
                scale["TaskGroups"]["workers"]["Desired"] = Value::Null;
                answer(job(), scale, Value::Null)
            }
            other => panic!("{other:?} is not a scene of a target"),
        }
    }

    fn found(job: Value, scale: Value, deployment: Value) -> Found {
        let parse = "it is of the form";
        Found {
            job: serde_json::from_value(job).expect(parse),
            scale: serde_json::from_value(scale).expect(parse),
            deployment: serde_json::from_value(deployment).expect(parse),
        }
    }

    #[test]
    fn what_is_absent_is_an_error_and_never_a_number() {
        let kind = |job: Value, scale: Value, deployment: Value| {
            found(job, scale, deployment).status("workers", false).map(|_| ()).map_err(|(kind, _)| kind)
        };
        assert_eq!(kind(job(), scale(0), Value::Null), Ok(()));
        for absent in ["Desired", "Running", "Placed"] {
            let mut scale = scale(5);
            scale["TaskGroups"]["workers"].as_object_mut().expect("an object").remove(absent);
            assert_eq!(kind(job(), scale, Value::Null), Err(ErrorKind::Malformed), "{absent}");
        }
        for absent in ["JobStopped", "TaskGroups"] {
            let mut scale = scale(5);
            scale[absent] = Value::Null;
            assert_eq!(kind(job(), scale, Value::Null), Err(ErrorKind::Malformed), "{absent}");
        }
        let mut no_type = job();
        no_type["Type"] = Value::Null;
        assert_eq!(kind(no_type, scale(5), Value::Null), Err(ErrorKind::Malformed));
        assert_eq!(kind(job(), scale(5), json!({ "Status": null })), Err(ErrorKind::Malformed));
        let mut other = scale(5);
        other["TaskGroups"] = json!({ "web": { "Desired": 1, "Placed": 1, "Running": 1 } });
        assert_eq!(kind(job(), other, Value::Null), Err(ErrorKind::NotFound));
    }

    #[test]
    fn jobs_without_a_count_of_their_own_are_refused() {
        for (name, value) in [
            ("Type", json!("system")),
            ("Type", json!("sysbatch")),
            ("Periodic", json!({ "Enabled": true, "Spec": "@daily" })),
            ("ParameterizedJob", json!({ "Payload": "optional" })),
        ] {
            let mut job = job();
            job[name] = value.clone();
            let refused = found(job, scale(5), Value::Null).status("workers", false);
            assert!(matches!(refused, Err((ErrorKind::Refused, _))), "{name} {value}");
        }
        let mut job = job();
        job["Type"] = json!("batch");
        assert!(found(job, scale(5), Value::Null).status("workers", false).is_ok());
    }

    #[test]
    fn every_deployment_that_is_not_over_holds_scale_in() {
        let status = |index: u64, status: &str| {
            let deployment = json!({ "JobCreateIndex": index, "Status": status });
            let status = found(job(), scale(5), deployment).status("workers", false).expect("it can be read");
            (status.rolling_out, status.warnings.len())
        };
        for open in ["running", "paused", "blocked", "unblocking", "pending", "initializing", "a status of 2030"] {
            assert_eq!(status(10, open), (true, 0), "{open}");
        }
        assert_eq!(status(10, "failed"), (true, 1));
        assert_eq!(status(10, "successful"), (false, 0));
        assert_eq!(status(10, "cancelled"), (false, 0));
        assert_eq!(status(9, "running"), (false, 0), "it is of an earlier job of this name");
    }

    #[test]
    fn bounds_are_those_of_the_group_before_those_of_the_job() {
        let asked = |of_job: Value, of_group: Value, scaling: Value| {
            let mut job = job();
            job["Meta"] = of_job;
            job["TaskGroups"][0]["Meta"] = of_group;
            job["TaskGroups"][0]["Scaling"] = scaling;
            let status = found(job, scale(5), Value::Null).status("workers", true);
            status.map(|status| (status.asked.expect("labels are followed"), status.pause)).map_err(|(kind, _)| kind)
        };
        let (none, null) = (Asked::default(), Value::Null);
        assert_eq!(asked(null.clone(), null.clone(), null.clone()), Ok((none, None)));
        let of_job = json!({ "tidegate_min": "1", "tidegate_max": "9", "team": "in" });
        let both = asked(of_job.clone(), json!({ "tidegate_max": "7", "tidegate_pause": "in" }), null.clone());
        assert_eq!(both, Ok((Asked { min: Some(1), max: Some(7) }, Some(Pause::Hold(Held::In)))));
        let scaling = json!({ "Min": 2, "Max": 20, "Enabled": false });
        let meta_goes_before = asked(json!({ "tidegate_max": "6" }), null.clone(), scaling.clone());
        assert_eq!(meta_goes_before, Ok((Asked { min: Some(2), max: Some(6) }, None)));
        assert_eq!(asked(json!({ "tidegate_max": "1" }), null.clone(), scaling), Err(ErrorKind::Config));
        assert_eq!(asked(json!({ "tidegate_min": "few" }), null.clone(), null), Err(ErrorKind::Config));
    }

    #[test]
    fn a_job_is_one_name_in_its_identity() {
        let mut settings = settings("https://nomad.example.com:4646");
        settings["job"] = json!("team/orders:1");
        let identity = identities(&settings, "").pop().expect("it names something");
        assert_eq!(identity.to_string(), "nomad:nomad.example.com:4646/-/global/default/team%2Forders%3A1/workers");
    }

    #[test]
    fn nomads_behind_one_host_are_apart_and_the_usual_region_has_one_name() {
        let identity = |address: &str, region: Option<&str>| {
            let mut settings = settings(address);
            settings
                .as_object_mut()
                .expect("an object")
                .extend(region.map(|region| ("region".to_owned(), json!(region))));
            identities(&settings, "").pop().expect("it names something").to_string()
        };
        let one = identity("https://gateway.example.com/nomad-1", None);
        assert_eq!(one, "nomad:gateway.example.com:443/-/nomad-1/global/default/orders/workers");
        assert_eq!(one, identity("https://gateway.example.com/nomad-1/", Some("global")));
        assert_ne!(one, identity("https://gateway.example.com/nomad-2", None));
        assert_ne!(one, identity("https://gateway.example.com/nomad-1", Some("eu")));
    }

    #[tokio::test]
    async fn without_a_token_none_is_sent() {
        fn open(_: Scene, request: &Request) -> Reply {
            assert!(!request.headers.contains_key("x-nomad-token"));
            let mut with_token = request.clone();
            with_token.headers.insert("x-nomad-token".to_owned(), "canary-token".to_owned());
            reply(Scene::Amount(5), &with_token)
        }
        let wire = Wire::play(Scene::Amount(5), open).await;
        let mut settings = settings(&wire.endpoint);
        settings.as_object_mut().expect("an object").remove("token");
        let target = build(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        let status = target.statuses(&["workers".to_owned()]).await.pop().expect("one answer");
        assert_eq!(status.expect("it can be read").desired, 5);
        assert_eq!(target.set_desired("workers", 6).await.expect("it can be set"), Applied::Set);
    }
}
