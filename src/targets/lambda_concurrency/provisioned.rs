//! The provisioned concurrency of an alias or version.
//!
//! [GetProvisionedConcurrencyConfig](https://docs.aws.amazon.com/lambda/latest/api/API_GetProvisionedConcurrencyConfig.html),
//! [Put](https://docs.aws.amazon.com/lambda/latest/api/API_PutProvisionedConcurrencyConfig.html) and, for none,
//! [Delete](https://docs.aws.amazon.com/lambda/latest/api/API_DeleteProvisionedConcurrencyConfig.html).

use aws_sdk_lambda::Client;
use aws_sdk_lambda::operation::get_provisioned_concurrency_config::{
    GetProvisionedConcurrencyConfigError, GetProvisionedConcurrencyConfigOutput,
};
use aws_sdk_lambda::types::ProvisionedConcurrencyStatusEnum as Allocation;

use super::{counted, failed, is_answered, once};
use crate::aws::failure;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::targets::Applied;

/// Reads what was asked for and what is available.
pub(super) async fn status(client: &Client, function: &str, qualifier: &str) -> Result<TargetStatus> {
    let during = || format!("reading provisioned concurrency of {function}:{qualifier}");
    let request = client.get_provisioned_concurrency_config().function_name(function).qualifier(qualifier);
    let answer = match request.send().await {
        Ok(answer) => answer,
        // Unlike a function or alias that is absent: this one has none.
        Err(error)
            if error.as_service_error().is_some_and(
                GetProvisionedConcurrencyConfigError::is_provisioned_concurrency_config_not_found_exception,
            ) =>
        {
            return Ok(TargetStatus::default());
        }
        Err(error) => return Err(failure("lambda:GetProvisionedConcurrencyConfig", during(), error)),
    };
    status_of(&answer, &during())
}

fn status_of(answer: &GetProvisionedConcurrencyConfigOutput, during: &str) -> Result<TargetStatus> {
    let malformed = |cause: String| Error::new(ErrorKind::Malformed, during.to_owned(), cause);
    let count = |number: Option<i32>, what: &str| match number {
        Some(number) => counted(number, what, during),
        None => Err(malformed(format!("the answer has no {what}"))),
    };
    let requested = answer.requested_provisioned_concurrent_executions();
    let available = answer.available_provisioned_concurrent_executions();
    let desired = count(requested, "RequestedProvisionedConcurrentExecutions")?;
    let running = count(available, "AvailableProvisionedConcurrentExecutions")?;
    let (rolling_out, warning) = match answer.status() {
        Some(Allocation::Ready) => (false, None),
        Some(Allocation::Failed) => {
            let reason = answer.status_reason().unwrap_or("no reason is given");
            (false, Some(format!("provisioned concurrency could not be allocated: {reason}")))
        }
        // A new version is allocated for in the same way, so that nothing is removed meanwhile.
        Some(_) => (true, None),
        None => return Err(malformed("the answer has no Status".to_owned())),
    };
    let pending = if rolling_out { desired.saturating_sub(running) } else { 0 };
    Ok(TargetStatus {
        desired,
        running,
        pending,
        rolling_out,
        warnings: warning.into_iter().collect(),
        ..TargetStatus::default()
    })
}

/// Asks for this many, or for none at all.
pub(super) async fn set(client: &Client, function: &str, qualifier: &str, desired: u32) -> Result<Applied> {
    let during = format!("setting provisioned concurrency of {function}:{qualifier} to {desired}");
    if desired == 0 {
        let request = client.delete_provisioned_concurrency_config().function_name(function).qualifier(qualifier);
        let answer = request.customize().config_override(once()).send().await;
        let answer = answer.map_err(|error| failed("lambda:DeleteProvisionedConcurrencyConfig", &during, error));
        return answer.map(|_| Applied::Set);
    }
    let refused = |_| Error::new(ErrorKind::Refused, during.clone(), "Lambda takes at most 2147483647");
    let count = i32::try_from(desired).map_err(refused)?;
    let request = client.put_provisioned_concurrency_config().function_name(function).qualifier(qualifier);
    let request = request.provisioned_concurrent_executions(count);
    let answer = request.customize().config_override(once()).send().await;
    let answer = answer.map_err(|error| failed("lambda:PutProvisionedConcurrencyConfig", &during, error))?;
    is_answered(answer.requested_provisioned_concurrent_executions(), count, during)
}
