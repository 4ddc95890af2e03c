//! The most concurrent invocations that an event source mapping of an SQS queue makes.
//!
//! [GetEventSourceMapping](https://docs.aws.amazon.com/lambda/latest/api/API_GetEventSourceMapping.html) and
//! [UpdateEventSourceMapping](https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html) with
//! `ScalingConfig` alone: <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>.

use std::ops::RangeInclusive;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::types::ScalingConfig;

use super::{counted, failed, is_answered, limited, once};
use crate::aws::failure;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::targets::Applied;

/// What a mapping takes: <https://docs.aws.amazon.com/lambda/latest/api/API_ScalingConfig.html>.
pub(super) const RANGE: RangeInclusive<u32> = 2..=1000;

/// Reads the limit. What runs is not told, only what may.
pub(super) async fn status(client: &Client, uuid: &str, unset_is: Option<u32>) -> Result<TargetStatus> {
    let during = || format!("reading maximum concurrency of event source mapping {uuid}");
    let refuse = |cause: String| Err(Error::new(ErrorKind::Refused, during(), cause));
    let answer = client.get_event_source_mapping().uuid(uuid).send().await;
    let answer = answer.map_err(|error| failure("lambda:GetEventSourceMapping", during(), error))?;
    let rolling_out = match answer.state() {
        Some("Enabled") => false,
        Some("Creating" | "Enabling" | "Updating") => true,
        Some(state) => return refuse(format!("its state is {state}, in which it polls nothing; enable it first")),
        None => return Err(Error::new(ErrorKind::Malformed, during(), "the answer has no State")),
    };
    if answer.event_source_arn().and_then(|arn| arn.split(':').nth(2)) != Some("sqs") {
        return refuse("its source is no SQS queue, and no other has a maximum concurrency".to_owned());
    }
    if answer.provisioned_poller_config().is_some() {
        return refuse("it is in provisioned mode, which excludes a maximum concurrency".to_owned());
    }
    let set = answer.scaling_config().and_then(ScalingConfig::maximum_concurrency);
    let set = set.map(|set| counted(set, "MaximumConcurrency", &during())).transpose()?;
    Ok(TargetStatus { rolling_out, ..limited(set, unset_is, &during())? })
}

/// Sets the limit.
pub(super) async fn set(client: &Client, uuid: &str, desired: u32) -> Result<Applied> {
    let during = format!("setting maximum concurrency of event source mapping {uuid} to {desired}");
    if !RANGE.contains(&desired) {
        let cause = "an event source takes 2 to 1000; keep the bounds within that, and disable the mapping to stop it";
        return Err(Error::new(ErrorKind::Refused, during, cause));
    }
    let count = i32::try_from(desired).expect("it is at most 1000");
    let scaling = ScalingConfig::builder().maximum_concurrency(count).build();
    let request = client.update_event_source_mapping().uuid(uuid).scaling_config(scaling);
    let answer = request.customize().config_override(once()).send().await;
    let answer = answer.map_err(|error| failed("lambda:UpdateEventSourceMapping", &during, error))?;
    is_answered(answer.scaling_config().and_then(ScalingConfig::maximum_concurrency), count, during)
}
