//! What the description of an Auto Scaling group says of its count.
//!
//! Counts are capacity units: where a mixed instances policy gives weights, an instance counts its `WeightedCapacity`, and
//! desired capacity is in the same unit:
//! <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-mixed-instances-groups-instance-weighting.html>.

use aws_sdk_autoscaling::types::{AutoScalingGroup, Instance, LifecycleState};

use crate::aws::account_of;
use crate::core::{Asked, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::targets::labels::Pausing;

/// A group that may be scaled.
#[derive(Debug)]
pub(super) struct Group {
    name: String,
    pub(super) desired: u32,
    pub(super) min: u32,
    pub(super) max: u32,
    running: u32,
    pending: u32,
    /// Those that a scale-in must leave.
    pub(super) protected: u32,
    /// Whether an instance's root volume is being replaced.
    is_replacing: bool,
    suspended: Vec<String>,
    tags: Vec<(String, String)>,
}

/// Where an instance is in its life, as far as it counts:
/// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// In service.
    Serves,
    /// On its way into service, or waiting for a lifecycle hook there.
    Starts,
    /// Its root volume is being replaced.
    IsReplaced,
    /// Leaving, on standby, or in the warm pool: no part of the desired capacity.
    DoesNotCount,
}

impl Life {
    fn of(instance: &Instance) -> Self {
        match instance.lifecycle_state() {
            Some(LifecycleState::InService) => Self::Serves,
            Some(LifecycleState::Pending | LifecycleState::PendingWait | LifecycleState::PendingProceed) => {
                Self::Starts
            }
            Some(
                LifecycleState::ReplacingRootVolume
                | LifecycleState::ReplacingRootVolumeWait
                | LifecycleState::ReplacingRootVolumeProceed
                | LifecycleState::RootVolumeReplaced,
            ) => Self::IsReplaced,
            _ => Self::DoesNotCount,
        }
    }
}

impl Group {
    /// Reads a group that may be scaled.
    ///
    /// # Errors
    /// `Refused` for one that is being deleted or managed by another service, `Config` for one of another account, and
    /// `Malformed`.
    pub(super) fn read(group: &AutoScalingGroup, account: Option<&str>, during: &str) -> Result<Self> {
        let fail = |kind, cause: String| Error::new(kind, during.to_owned(), cause);
        if let Some((kind, cause)) = hindrance(group, account) {
            return Err(fail(kind, cause));
        }
        let count = |number: Option<i32>, what: &str| {
            let counted = number.and_then(|number| u32::try_from(number).ok());
            counted.ok_or_else(|| fail(ErrorKind::Malformed, format!("{what} is {number:?}")))
        };
        let weighed = |instance| Ok((instance, weight(instance).map_err(|cause| fail(ErrorKind::Malformed, cause))?));
        let instances = group.instances().iter().map(weighed).collect::<Result<Vec<(&Instance, u32)>>>()?;
        let sum = |counts: &dyn Fn(&Instance) -> bool| {
            instances.iter().filter(|(instance, _)| counts(instance)).map(|(_, weight)| *weight).sum()
        };
        Ok(Self {
            name: group.auto_scaling_group_name().unwrap_or_default().to_owned(),
            desired: count(group.desired_capacity(), "DesiredCapacity")?,
            min: count(group.min_size(), "MinSize")?,
            max: count(group.max_size(), "MaxSize")?,
            running: sum(&|instance| Life::of(instance) == Life::Serves && is_healthy(instance)),
            pending: sum(&|instance| [Life::Starts, Life::IsReplaced].contains(&Life::of(instance))),
            protected: sum(&|instance| {
                Life::of(instance) != Life::DoesNotCount && instance.protected_from_scale_in() == Some(true)
            }),
            is_replacing: instances.iter().any(|(instance, _)| Life::of(instance) == Life::IsReplaced),
            suspended: group
                .suspended_processes()
                .iter()
                .filter_map(|one| one.process_name())
                .map(str::to_owned)
                .collect(),
            tags: group
                .tags()
                .iter()
                .filter_map(|tag| Some((tag.key()?.to_owned(), tag.value()?.to_owned())))
                .collect(),
        })
    }

    /// Whether the group suspends one of its processes:
    /// <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>.
    pub(super) fn suspends(&self, process: &str) -> bool {
        self.suspended.iter().any(|suspended| suspended == process)
    }

    /// Says why this count cannot be set, where it cannot.
    pub(super) fn refuses(&self, desired: u32) -> Option<String> {
        let Self { min, max, .. } = self;
        if desired < *min || *max < desired {
            return Some(format!("the group takes {min} to {max} (its MinSize and MaxSize, which are not changed)"));
        }
        let (process, what) = match self.desired < desired {
            true => ("Launch", "no instance would start"),
            false => ("Terminate", "no instance would stop"),
        };
        self.suspends(process).then(|| format!("its process {process} is suspended: {what}; resume it first"))
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// `Config` for a tag that cannot be read.
    pub(super) fn status(&self, follow_labels: bool, during: &str) -> Result<TargetStatus> {
        let tags: Vec<_> = self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let unreadable = |problem| Error::new(ErrorKind::Config, during.to_owned(), problem);
        let Pausing { pause, asked, warning } = Pausing::read(&tags, follow_labels).map_err(unreadable)?;
        let asked = asked.map(|asked| self.within_sizes(asked)).transpose().map_err(unreadable)?;
        let held = [("Launch", "out"), ("Terminate", "in")].into_iter().filter(|(process, _)| self.suspends(process));
        let held =
            held.map(|(process, way)| format!("its process {process} is suspended, so that it cannot scale {way}"));
        Ok(TargetStatus {
            desired: self.desired,
            running: self.running,
            pending: self.pending,
            rolling_out: self.is_replacing,
            unfinished: false,
            pause,
            asked,
            other_scaler: None,
            warnings: warning.into_iter().chain(held).collect(),
        })
    }

    /// The bounds that the tags ask for, within the group's own sizes, which nothing here changes.
    fn within_sizes(&self, tagged: Asked) -> Result<Asked, String> {
        if self.max < self.min {
            return Err(format!("its MinSize is {} and its MaxSize {}", self.min, self.max));
        }
        let within = |tag: Option<u32>, own: u32| Some(tag.unwrap_or(own).clamp(self.min, self.max));
        Ok(Asked { min: within(tagged.min, self.min), max: within(tagged.max, self.max) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Why nothing may be changed about a group, if so.
fn hindrance(group: &AutoScalingGroup, account: Option<&str>) -> Option<(ErrorKind, String)> {
    if let (Some(stated), Some(found)) = (account, group.auto_scaling_group_arn().and_then(account_of))
        && stated != found
    {
        let cause = format!("the credentials are those of account {found}, and the ARN is of {stated}");
        return Some((ErrorKind::Config, cause));
    }
    if let Some(status) = group.status().filter(|status| !status.is_empty()) {
        return Some((ErrorKind::Refused, format!("it is being deleted: {status}")));
    }
    let principal = group.operator()?.principal().unwrap_or("another service");
    Some((ErrorKind::Refused, format!("{principal} manages it, and nobody else may change it")))
}

/// How many capacity units an instance counts.
fn weight(instance: &Instance) -> Result<u32, String> {
    let Some(weight) = instance.weighted_capacity() else { return Ok(1) };
    weight.parse().map_err(|_| format!("an instance's WeightedCapacity is {weight:?}"))
}

/// One that is not is about to be replaced.
fn is_healthy(instance: &Instance) -> bool {
    instance.health_status().is_some_and(|health| health.eq_ignore_ascii_case("Healthy"))
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::{Operator, SuspendedProcess, TagDescription};

    use super::*;
    use crate::core::{Held, Pause};

    fn instance(state: &str, protected: bool) -> Instance {
        Instance::builder()
            .lifecycle_state(state.into())
            .health_status("Healthy")
            .protected_from_scale_in(protected)
            .build()
    }

    fn group(instances: Vec<Instance>, suspended: &[&str], tags: &[(&str, &str)]) -> AutoScalingGroup {
        let process = |name: &&str| SuspendedProcess::builder().process_name(*name).build();
        let tag = |(key, value): &(&str, &str)| TagDescription::builder().key(*key).value(*value).build();
        AutoScalingGroup::builder()
            .auto_scaling_group_name("workers")
            .auto_scaling_group_arn(
                "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:1:autoScalingGroupName/workers",
            )
            .min_size(2)
            .max_size(10)
            .desired_capacity(5)
            .set_instances(Some(instances))
            .set_suspended_processes(Some(suspended.iter().map(process).collect()))
            .set_tags(Some(tags.iter().map(tag).collect()))
            .build()
    }

    fn read(group: &AutoScalingGroup) -> Group {
        Group::read(group, None, "reading").expect("it may be scaled")
    }

    #[test]
    fn only_instances_that_serve_run_and_only_those_on_their_way_are_pending() {
        for (state, running, pending) in [
            ("InService", 1, 0),
            ("Pending", 0, 1),
            ("Pending:Wait", 0, 1),
            ("Pending:Proceed", 0, 1),
            ("ReplacingRootVolume:Wait", 0, 1),
            ("Terminating", 0, 0),
            ("Terminating:Wait", 0, 0),
            ("Terminating:Retained", 0, 0),
            ("Detaching", 0, 0),
            ("EnteringStandby", 0, 0),
            ("Standby", 0, 0),
            ("Warmed:Stopped", 0, 0),
            ("AState:Of2030", 0, 0),
        ] {
            let group = read(&group(vec![instance(state, true)], &[], &[]));
            assert_eq!((group.running, group.pending), (running, pending), "{state}");
            assert_eq!(group.protected, running + pending, "{state}: what does not count is not kept by counting it");
        }
        let unhealthy =
            Instance::builder().lifecycle_state(LifecycleState::InService).health_status("Unhealthy").build();
        assert_eq!(read(&group(vec![unhealthy], &[], &[])).running, 0);
    }

    #[test]
    fn weights_are_counted_as_desired_capacity_is() {
        let heavy = |weight: &str| {
            let state = LifecycleState::InService;
            Instance::builder().lifecycle_state(state).health_status("Healthy").weighted_capacity(weight).build()
        };
        let weighed = read(&group(vec![heavy("4"), heavy("2"), instance("Pending", false)], &[], &[]));
        assert_eq!((weighed.running, weighed.pending), (6, 1));
        let error = Group::read(&group(vec![heavy("many")], &[], &[]), None, "reading").expect_err("no number");
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }

    #[test]
    fn a_count_outside_the_groups_sizes_or_against_a_suspended_process_is_refused_in_words() {
        let refuses = |suspended: &[&str], desired| read(&group(Vec::new(), suspended, &[])).refuses(desired);
        for desired in [0, 1, 11, u32::MAX] {
            assert!(refuses(&[], desired).is_some_and(|why| why.contains("2 to 10")), "{desired}");
        }
        assert_eq!((refuses(&[], 2), refuses(&[], 10)), (None, None));
        assert!(refuses(&["Launch"], 6).is_some_and(|why| why.contains("Launch is suspended")));
        assert_eq!(refuses(&["Launch"], 4), None);
        assert!(refuses(&["Terminate"], 4).is_some_and(|why| why.contains("Terminate is suspended")));
        assert_eq!(refuses(&["Terminate"], 6), None);
        let status = read(&group(Vec::new(), &["Launch", "AZRebalance"], &[])).status(false, "reading");
        assert_eq!(
            status.expect("readable").warnings,
            ["its process Launch is suspended, so that it cannot scale out"]
        );
    }

    #[test]
    fn what_goes_away_or_belongs_to_others_is_refused() {
        let kind = |change: fn(&mut AutoScalingGroup), account| {
            let mut group = group(Vec::new(), &[], &[]);
            change(&mut group);
            Group::read(&group, account, "reading").map_err(|error| error.kind()).map(|_| ())
        };
        assert_eq!(kind(|group| group.status = Some("Delete in progress".to_owned()), None), Err(ErrorKind::Refused));
        let managed =
            |group: &mut AutoScalingGroup| group.operator = Some(Operator::builder().principal("eks").build());
        assert_eq!(kind(managed, None), Err(ErrorKind::Refused));
        assert_eq!(kind(|_| {}, Some("999999999999")), Err(ErrorKind::Config));
        assert_eq!(kind(|_| {}, Some("123456789012")), Ok(()));
        assert_eq!(kind(|group| group.desired_capacity = Some(-1), None), Err(ErrorKind::Malformed));
    }

    #[test]
    fn tags_ask_for_bounds_within_the_groups_sizes_and_pause() {
        let status = |tags: &[(&str, &str)], follow| read(&group(Vec::new(), &[], tags)).status(follow, "reading");
        let asked = |tags: &[(&str, &str)]| status(tags, true).expect("readable").asked;
        assert_eq!(asked(&[]), Some(Asked { min: Some(2), max: Some(10) }), "the group's own sizes");
        assert_eq!(asked(&[("tidegate:min", "3")]), Some(Asked { min: Some(3), max: Some(10) }));
        assert_eq!(
            asked(&[("tidegate:min", "0"), ("tidegate:max", "99")]),
            Some(Asked { min: Some(2), max: Some(10) })
        );
        assert_eq!(status(&[("tidegate:max", "many")], false).expect("not followed").asked, None);
        assert_eq!(status(&[("tidegate:max", "many")], true).expect_err("unreadable").kind(), ErrorKind::Config);
        let pause = |tags: &[(&str, &str)], follow| {
            let status = status(tags, follow).expect("readable");
            (status.pause, status.warnings.len())
        };
        for follow in [true, false] {
            assert_eq!(pause(&[("tidegate:pause", "in")], follow), (Some(Pause::Hold(Held::In)), 0));
            assert_eq!(pause(&[("Tidegate/Pause", "7")], follow), (Some(Pause::At(7)), 0));
            assert_eq!(pause(&[("tidegate:pause", "whenever")], follow), (Some(Pause::Hold(Held::Both)), 1));
            let two = [("tidegate:pause", "in"), ("tidegate.pause", "out")];
            assert_eq!(pause(&two, follow), (Some(Pause::Hold(Held::Both)), 1), "which of them holds?");
        }
        let is_scalable = [("com.microscaling.is-scalable", "false")];
        assert_eq!(pause(&is_scalable, true), (Some(Pause::Hold(Held::Both)), 0));
        assert_eq!(pause(&is_scalable, false), (None, 0));
    }
}
