//! Amazon EC2 Auto Scaling groups, by their desired capacity.
//!
//! Reads [DescribeAutoScalingGroups](https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html),
//! ten groups a call, and sets
//! [SetDesiredCapacity](https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html), which does not
//! wait for the group's cooldown, and nothing else. `MinSize` and `MaxSize` stay as they are, which Docker Swarm's `aws-scale`
//! job rewrote with each step, and a count outside them is refused before it is asked for; with `follow_labels` they are the
//! bounds, where Buildkite's scaler ran into an error (buildkite-agent-scaler#34).
//!
//! Running are healthy instances in service, pending those on their way there, lifecycle hooks included. Which instance goes at a
//! scale-in is the choice of the group's termination policy; its lifecycle hooks give it time, and instances with scale-in
//! protection are counted and stay. The group's own tag `tidegate:pause` pauses it: `in`, `out`, `both` or a number.

mod activity;
mod answer;
mod group;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::Builder;
use aws_sdk_autoscaling::config::retry::RetryConfig;
use aws_sdk_autoscaling::error::ProvideErrorMetadata;
use aws_sdk_autoscaling::operation::describe_auto_scaling_groups::builders::DescribeAutoScalingGroupsFluentBuilder;
use aws_sdk_autoscaling::types::{AutoScalingGroup, Filter};
use futures_util::future::join_all;
use serde_json::Value;

use self::activity::Activities;
use self::answer::AllIsThere;
use self::group::Group;
use self::settings::{Settings, check, identities, permissions};
use super::{Applied, Target};
use crate::adapter::{Kind, parse, schema_of};
use crate::aws::{AnswerLimit, failure};
use crate::config::matches_pattern;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

/// DescribeAutoScalingGroups takes fifty names. An instance is some 700 bytes of its answer, so that ten groups may have
/// 150 instances each before the answer is too long to be read.
const GROUPS_PER_CALL: usize = 10;

/// Most pages that are read, of at least one group each.
const PAGES: usize = 50;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "ec2_asg",
    aliases: &[],
    about: "Amazon EC2 Auto Scaling: the desired capacity of a group.",
    renamed: &[("asg", "group"), ("asg_name", "group"), ("auto_scaling_group", "group")],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let given = settings.clone();
    let settings = parse::<Settings>(settings)?;
    let location = settings.locate(&shared.region);
    let sdk = shared.aws.sdk(&location.region);
    let config = || Builder::from(&sdk).interceptor(AnswerLimit).interceptor(AllIsThere);
    let activities = Activities {
        client: Client::from_conf(config().retry_config(RetryConfig::disabled()).build()),
        known: shared.aws.scaled_alone().clone(),
        place: format!("ec2_asg:{}", location.region),
        allow_policies: settings.allow_scaling_policies,
    };
    Ok(Box::new(Ec2Asg {
        client: Client::from_conf(config().build()),
        activities,
        account: location.account,
        asked_with: format!("{} {}", settings.allow_scaling_policies, settings.follow_labels),
        settings,
        given,
    }))
}

#[derive(Debug)]
struct Ec2Asg {
    client: Client,
    activities: Activities,
    /// The account that the settings state.
    account: Option<String>,
    asked_with: String,
    settings: Settings,
    /// The settings as they were given, of which discovery makes others.
    given: Value,
}

#[async_trait]
impl Target for Ec2Asg {
    async fn statuses(&self, names: &[String]) -> Vec<Result<TargetStatus>> {
        let (groups, activities) = futures_util::join!(self.groups(names), self.activities.find(names));
        let status = |((group, activity), name): ((Result<Group>, activity::Activity), &String)| {
            let group = group?;
            let status = group.status(self.settings.follow_labels, &reading(name))?;
            Ok(activity.add_to(status, !group.suspends("AlarmNotification")))
        };
        groups.into_iter().zip(activities).zip(names).map(status).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn protected(&self, names: &[String]) -> Vec<Result<Option<u32>>> {
        let groups = self.groups(names).await;
        groups.into_iter().map(|group| group.map(|group| Some(group.protected))).collect()
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let request = self.client.describe_auto_scaling_groups().include_instances(false);
        let request = match self.settings.tag() {
            Some((key, value)) => request.filters(Filter::builder().name(format!("tag:{key}")).values(value).build()),
            None => request,
        };
        let during = || format!("looking for Auto Scaling groups {:?}", self.settings.group);
        let found = self.pages(request).await.map_err(|error| {
            let cause = error.to_string();
            Error::new(error.kind(), during(), cause).caused_by(error)
        })?;
        let names = found.iter().filter_map(AutoScalingGroup::auto_scaling_group_name);
        let mut names: Vec<_> = names.filter(|name| matches_pattern(&self.settings.group, name)).collect();
        names.sort_unstable();
        names.dedup();
        let settings = |name: &str| {
            let mut settings = self.given.clone();
            if let Some(settings) = settings.as_object_mut() {
                settings.remove("tag");
                settings.insert("group".to_owned(), name.into());
            }
            settings
        };
        Ok(names.into_iter().map(settings).collect())
    }

    async fn set_desired(&self, name: &str, desired: u32) -> Result<Applied> {
        let during = || format!("setting desired capacity of Auto Scaling group {name:?} to {desired}");
        let fail = |kind, cause: String| Error::new(kind, during(), cause);
        let group = self.groups(&[name.to_owned()]).await.pop();
        let group = group.unwrap_or_else(|| Err(fail(ErrorKind::Bug, "no answer".to_owned())))?;
        if group.desired == desired {
            return Ok(Applied::AlreadyThere);
        }
        if let Some(why) = group.refuses(desired) {
            return Err(fail(ErrorKind::Refused, why));
        }
        let count =
            i32::try_from(desired).map_err(|_| fail(ErrorKind::Refused, "it takes at most 2147483647".into()))?;
        let request = self.client.set_desired_capacity().auto_scaling_group_name(group.name()).desired_capacity(count);
        // Not repeated by the SDK, as with `ecs`: the next tick repeats it, if it is still right.
        let once = Builder::new().retry_config(RetryConfig::disabled());
        match request.honor_cooldown(false).customize().config_override(once).send().await {
            Ok(_) => Ok(Applied::Set),
            Err(error) => {
                // Both say that an activity is under way, and that nothing was changed.
                let is_locked = matches!(error.code(), Some("ScalingActivityInProgress" | "ResourceContention"));
                let error = failure("autoscaling:SetDesiredCapacity", during(), error);
                match is_locked {
                    true => Err(Error::new(ErrorKind::Locked, "", error.to_string()).caused_by(error)),
                    false => Err(error),
                }
            }
        }
    }
}

impl Ec2Asg {
    /// The groups of these names, in the order asked.
    async fn groups(&self, names: &[String]) -> Vec<Result<Group>> {
        join_all(names.chunks(GROUPS_PER_CALL).map(|chunk| self.describe(chunk))).await.into_iter().flatten().collect()
    }

    async fn describe(&self, names: &[String]) -> Vec<Result<Group>> {
        let request = self.client.describe_auto_scaling_groups().set_auto_scaling_group_names(Some(names.to_vec()));
        let found = match self.pages(request).await {
            Ok(found) => found,
            Err(error) => {
                // One call, one error: each of its groups carries it.
                let error = Arc::new(error);
                let each =
                    |name: &String| Error::new(error.kind(), reading(name), error.to_string()).caused_by(error.clone());
                return names.iter().map(|name| Err(each(name))).collect();
            }
        };
        let group = |name: &String| {
            let group = found.iter().find(|group| group.auto_scaling_group_name() == Some(name));
            let missing = || {
                let cause = "there is no such group in this account and region (autoscaling:DescribeAutoScalingGroups)";
                Error::new(ErrorKind::NotFound, reading(name), cause)
            };
            Group::read(group.ok_or_else(missing)?, self.account.as_deref(), &reading(name))
        };
        names.iter().map(group).collect()
    }

    /// Every page of an answer. A page may have fewer groups than were asked for although there are more.
    async fn pages(&self, request: DescribeAutoScalingGroupsFluentBuilder) -> Result<Vec<AutoScalingGroup>> {
        let (mut groups, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let answer = request.clone().set_next_token(next).send().await;
            let answer =
                answer.map_err(|error| failure("autoscaling:DescribeAutoScalingGroups", String::new(), error))?;
            groups.extend(answer.auto_scaling_groups.unwrap_or_default());
            next = answer.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                return Ok(groups);
            }
        }
        Err(Error::new(ErrorKind::Refused, "", format!("the answer has more than {PAGES} pages")))
    }
}

fn reading(name: &str) -> String {
    format!("reading status of Auto Scaling group {name:?}")
}

#[cfg(test)]
mod tests;
