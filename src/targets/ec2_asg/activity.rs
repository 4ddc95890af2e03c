//! Who else changes a group: an instance refresh, which is a rollout, and scaling policies of its own.
//!
//! Both are asked for each group by itself, in one attempt: what cannot be found out is a warning. A refresh that may be under
//! way counts as one that is, so that nothing is removed meanwhile and a scale-out goes on.

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{InstanceRefreshStatus, PredictiveScalingMode, ScalingPolicy};
use futures_util::future::join_all;

use crate::aws::{ScaledAlone, failure};
use crate::core::TargetStatus;

/// What is known of one group.
#[derive(Debug, Default)]
pub(super) struct Activity {
    rolling_out: bool,
    other_scaler: Option<String>,
    warnings: Vec<String>,
}

impl Activity {
    /// Adds it to a status. Policies act on alarms, so that those of a group that suspends AlarmNotification do not act.
    pub(super) fn add_to(self, mut status: TargetStatus, policies_act: bool) -> TargetStatus {
        status.rolling_out |= self.rolling_out;
        status.warnings.extend(self.warnings);
        match (self.other_scaler, policies_act) {
            (Some(scaler), false) => {
                status.warnings.push(format!("{scaler} do not act: AlarmNotification is suspended"))
            }
            (scaler, _) => status.other_scaler = scaler,
        }
        status
    }
}

/// Asks about groups of one region.
#[derive(Debug)]
pub(super) struct Activities {
    /// Of one attempt a call.
    pub(super) client: Client,
    pub(super) known: ScaledAlone,
    /// What makes a group's name unique in this process.
    pub(super) place: String,
    pub(super) allow_policies: bool,
}

impl Activities {
    /// Returns what is known of each group, in the order asked.
    pub(super) async fn find(&self, groups: &[String]) -> Vec<Activity> {
        join_all(groups.iter().map(|group| self.of(group))).await
    }

    async fn of(&self, group: &str) -> Activity {
        let (refresh, policies) = futures_util::join!(self.refresh(group), self.policies(group));
        let warnings = [refresh.warnings, policies.warnings].concat();
        Activity { rolling_out: refresh.rolling_out, other_scaler: policies.other_scaler, warnings }
    }

    /// Whether the newest refresh is over: a group has one at a time, and the newest comes first.
    /// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeInstanceRefreshes.html>
    async fn refresh(&self, group: &str) -> Activity {
        use InstanceRefreshStatus::{Cancelled, Failed, RollbackFailed, RollbackSuccessful, Successful};

        let action = "autoscaling:DescribeInstanceRefreshes";
        let request = self.client.describe_instance_refreshes().auto_scaling_group_name(group).max_records(1);
        match request.send().await {
            Ok(answer) => {
                let newest = answer.instance_refreshes().first().map(|refresh| refresh.status());
                let is_over = matches!(
                    newest,
                    None | Some(Some(Cancelled | Failed | RollbackFailed | RollbackSuccessful | Successful))
                );
                Activity { rolling_out: !is_over, ..Activity::default() }
            }
            Err(error) => {
                let error = failure(action, String::new(), error);
                let warning = format!(
                    "{action} does not tell whether an instance refresh is under way, so that nothing is removed: {error}"
                );
                Activity { rolling_out: true, warnings: vec![warning], ..Activity::default() }
            }
        }
    }

    /// Scaling policies that were found are asked for each time, so that removing them takes effect at once.
    async fn policies(&self, group: &str) -> Activity {
        let key = format!("{}/{group}", self.place);
        if let Some(warnings) = self.known.get(&key) {
            return Activity { warnings, ..Activity::default() };
        }
        // A group has at most 50.
        let request = self.client.describe_policies().auto_scaling_group_name(group).max_records(100);
        let warnings = match request.send().await {
            Ok(answer) => {
                let acting = answer.scaling_policies().iter().filter(|policy| acts(policy));
                let acting: Vec<_> = acting.map(|policy| policy.policy_name().unwrap_or_default()).collect();
                if !acting.is_empty() {
                    return scaled_by(&acting, self.allow_policies);
                }
                Vec::new()
            }
            Err(error) => {
                let action = "autoscaling:DescribePolicies";
                let error = failure(action, String::new(), error);
                vec![format!("{action} does not tell whether another autoscaler sets the count: {error}")]
            }
        };
        self.known.put(key, warnings.clone());
        Activity { warnings, ..Activity::default() }
    }
}

fn scaled_by(policies: &[&str], allowed: bool) -> Activity {
    let scaler = format!("the group's scaling policies ({})", policies.join(", "));
    match allowed {
        true => {
            let warning = format!("{scaler} scale it too, which allow_scaling_policies allows");
            Activity { warnings: vec![warning], ..Activity::default() }
        }
        false => Activity { other_scaler: Some(scaler), ..Activity::default() },
    }
}

/// Whether a policy changes the count: one that is disabled or only forecasts does not.
fn acts(policy: &ScalingPolicy) -> bool {
    let forecasts = policy.predictive_scaling_configuration().and_then(|predictive| predictive.mode());
    let only_forecasts = policy.predictive_scaling_configuration().is_some()
        && forecasts != Some(&PredictiveScalingMode::ForecastAndScale);
    policy.enabled() != Some(false) && !only_forecasts
}
