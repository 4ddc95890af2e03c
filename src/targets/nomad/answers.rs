//! What Nomad answers, and what that means.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::core::{Asked, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Answer;
use crate::targets::labels::Labels;

/// Why there is no status.
type Problem = (ErrorKind, String);

/// A job, as far as it matters whether and between which bounds it can be scaled.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Job {
    #[serde(rename = "Type")]
    kind: Option<String>,
    periodic: Option<Value>,
    parameterized_job: Option<Value>,
    meta: Option<Meta>,
    task_groups: Option<Vec<Group>>,
}

type Meta = BTreeMap<String, Option<String>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Group {
    name: Option<String>,
    meta: Option<Meta>,
    scaling: Option<Scaling>,
}

/// A group's [`scaling` block](https://developer.hashicorp.com/nomad/docs/job-specification/scaling), to whose bounds Nomad
/// holds every request, also where its policy is not enabled.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Scaling {
    min: Option<u32>,
    max: Option<u32>,
}

/// The counts of a job's groups.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Scale {
    job_create_index: Option<u64>,
    job_stopped: Option<bool>,
    task_groups: Option<BTreeMap<String, Counts>>,
}

/// Counts of a group: allocations that were placed and have not ended, and those of them that run.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Counts {
    desired: Option<u32>,
    placed: Option<u32>,
    running: Option<u32>,
}

/// The latest deployment of a job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Deployment {
    job_create_index: Option<u64>,
    status: Option<String>,
}

/// The answer to a request for a count.
#[derive(Debug, Deserialize)]
pub(super) struct Registered {
    #[serde(rename = "EvalID")]
    pub(super) eval_id: Option<String>,
}

/// A job in the list of jobs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Type")]
    kind: Option<String>,
    stop: Option<bool>,
    periodic: Option<bool>,
    parameterized_job: Option<bool>,
    job_summary: Option<Summary>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Summary {
    summary: Option<BTreeMap<String, Value>>,
}

impl Listed {
    /// The job's ID and the groups that can be scaled.
    pub(super) fn scalable(self) -> Result<(String, Vec<String>), String> {
        let id = self.id.ok_or("a job has no ID")?;
        let is_of_runs = self.periodic == Some(true) || self.parameterized_job == Some(true);
        if self.stop == Some(true) || is_of_runs || !self.kind.as_deref().is_some_and(is_scalable) {
            return Ok((id, Vec::new()));
        }
        let groups =
            self.job_summary.and_then(|summary| summary.summary).ok_or("a job has no summary of its groups")?;
        Ok((id, groups.into_keys().collect()))
    }
}

/// Jobs of the other types run one allocation on every node that fits.
fn is_scalable(kind: &str) -> bool {
    matches!(kind, "service" | "batch")
}

/// What there is to know of a job.
pub(super) struct Found {
    pub(super) job: Job,
    pub(super) scale: Scale,
    pub(super) deployment: Option<Deployment>,
}

impl Found {
    pub(super) fn status(&self, group: &str, follow_labels: bool) -> Result<TargetStatus, Problem> {
        self.refusal()?;
        let malformed = |what: &str| (ErrorKind::Malformed, format!("the answer has no {what}"));
        let groups = self.scale.task_groups.as_ref().ok_or_else(|| malformed("TaskGroups"))?;
        let counts = groups.get(group).ok_or_else(|| (ErrorKind::NotFound, "the job has no such group".to_owned()))?;
        let desired = counts.desired.ok_or_else(|| malformed("Desired"))?;
        let running = counts.running.ok_or_else(|| malformed("Running"))?;
        let placed = counts.placed.ok_or_else(|| malformed("Placed"))?;
        let pending = placed.checked_sub(running);
        let pending = pending.ok_or((ErrorKind::Malformed, format!("{running} of {placed} allocations run")))?;
        let (rolling_out, warning) = self.rollout()?;
        let labels = match follow_labels {
            true => Some(self.labels(group)?),
            false => None,
        };
        Ok(TargetStatus {
            desired,
            running,
            pending,
            rolling_out,
            unfinished: false,
            pause: labels.as_ref().and_then(|labels| labels.pause),
            asked: labels.map(|labels| labels.asked),
            other_scaler: None,
            warnings: warning.into_iter().collect(),
        })
    }

    /// Why the job has no count to set.
    fn refusal(&self) -> Result<(), Problem> {
        let refused = |cause: String| Err((ErrorKind::Refused, cause));
        match &self.job.kind {
            None => return Err((ErrorKind::Malformed, "the answer has no Type".to_owned())),
            Some(kind) if !is_scalable(kind) => {
                return refused(format!("it is a {kind} job, which has no count to set"));
            }
            Some(_) => {}
        }
        if self.job.periodic.is_some() || self.job.parameterized_job.is_some() {
            return refused(
                "the job is periodic or parameterized, so that its count is that of runs to come".to_owned(),
            );
        }
        match self.scale.job_stopped {
            Some(false) => Ok(()),
            Some(true) => refused("the job is stopped".to_owned()),
            None => Err((ErrorKind::Malformed, "the answer has no JobStopped".to_owned())),
        }
    }

    /// Whether a deployment is under way, or has failed: a new count is a new version of the job, by which Nomad rolls out
    /// again what has failed. One of an earlier job of the same ID does not count, and Nomad itself passes over it.
    fn rollout(&self) -> Result<(bool, Option<String>), Problem> {
        let is_of_this_job = |deployment: &&Deployment| {
            let indexes = deployment.job_create_index.zip(self.scale.job_create_index);
            indexes.is_none_or(|(one, other)| one == other)
        };
        let Some(deployment) = self.deployment.as_ref().filter(is_of_this_job) else { return Ok((false, None)) };
        match deployment.status.as_deref() {
            None => Err((ErrorKind::Malformed, "the deployment has no Status".to_owned())),
            Some("successful" | "cancelled") => Ok((false, None)),
            Some("failed") => {
                let warning = "a deployment has failed, which holds scale-in until another one is complete";
                Ok((true, Some(warning.to_owned())))
            }
            Some(_) => Ok((true, None)),
        }
    }

    /// What the meta of group and job asks for. A group's goes before its job's, as Nomad hands them to tasks.
    fn labels(&self, group: &str) -> Result<Labels, Problem> {
        let groups = self.job.task_groups.iter().flatten();
        let group = groups.into_iter().find(|one| one.name.as_deref() == Some(group));
        let group = group.ok_or((ErrorKind::Malformed, "the job has no such group, and its scale has".to_owned()))?;
        let metas = self.job.meta.iter().chain(&group.meta).flatten();
        let merged: BTreeMap<_, _> = metas.filter_map(|(name, text)| Some((name.as_str(), text.as_deref()?))).collect();
        let config = |problem: String| (ErrorKind::Config, problem);
        let mut labels = Labels::read(merged.into_iter()).map_err(config)?;
        if let Some(Scaling { min, max }) = group.scaling {
            let Asked { min: least, max: most } = labels.asked;
            labels.asked = Asked { min: least.or(min), max: most.or(max) };
        }
        match labels.asked {
            Asked { min: Some(min), max: Some(max) } if max < min => Err(config(format!(
                "its meta and its scaling block ask for at least {min} tasks and at most {max}; \
                 keep the least at or below the most"
            ))),
            _ => Ok(labels),
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// `Malformed` for what is no such document.
pub(super) fn read<T: DeserializeOwned>(answer: &Answer) -> Result<T> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        let cause = format!("the answer is not as Nomad's are (line {}, column {})", error.line(), error.column());
        Error::new(ErrorKind::Malformed, answer.during(), cause)
    })
}

/// The answer of a request that succeeded. Nomad says in a text what is wrong, with 400 or 500:
/// <https://github.com/hashicorp/nomad/blob/v1.6.0/nomad/job_endpoint.go> (`Scale`). The text itself is not shown.
pub(super) fn success(answer: Answer) -> Result<Answer> {
    let fail = |kind, cause: &str| Err(Error::new(kind, answer.during(), cause.to_owned()));
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        400 | 500 => {}
        401 | 403 => {
            let cause = "access denied; the token needs read-job and scale-job in the namespace, and list-jobs to look for jobs";
            return fail(ErrorKind::Denied, cause);
        }
        404 => return fail(ErrorKind::NotFound, "there is no such job in the namespace"),
        _ => {
            drop(text);
            return answer.success();
        }
    }
    if text.contains("blocked due to active deployment") {
        return fail(ErrorKind::Locked, "a deployment of the job is under way, and until its end Nomad takes no count");
    }
    if text.contains("Enforcing job modify index") {
        return fail(ErrorKind::Locked, "somebody else changed the job at the same time");
    }
    for (words, bound) in
        [("less than scaling policy minimum", "least"), ("greater than scaling policy maximum", "most")]
    {
        if text.contains(words) {
            let number = text.rsplit(' ').next().and_then(|number| number.trim().parse::<i64>().ok());
            let number = number.map_or_else(String::new, |number| format!(", {number}"));
            let cause = format!("the group's scaling block has another {bound}{number}; set the bounds within it");
            return fail(ErrorKind::Refused, &cause);
        }
    }
    if text.contains("specified for scaling does not exist") {
        return fail(ErrorKind::NotFound, "the job has no such group");
    }
    if text.contains("cannot scale jobs of type") {
        return fail(ErrorKind::Refused, "it is a system job, which has no count to set");
    }
    if text.contains("No path to region") {
        return fail(ErrorKind::NotFound, "there is no such region");
    }
    drop(text);
    answer.success()
}
