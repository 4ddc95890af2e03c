//! The reserved concurrency of a function, which is also the most that it may run.
//!
//! [GetFunctionConcurrency](https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConcurrency.html) and
//! [PutFunctionConcurrency](https://docs.aws.amazon.com/lambda/latest/api/API_PutFunctionConcurrency.html).

use aws_sdk_lambda::Client;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::{Map, Value};

use super::{counted, failed, is_answered, limited, once};
use crate::aws::failure;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::targets::Applied;

/// Refuses an answer that is no object: the SDK reads an empty one as a function that has nothing reserved.
#[derive(Debug)]
struct IsObject;

#[dyn_dispatch_hint]
impl Intercept for IsObject {
    fn name(&self) -> &'static str {
        "IsObject"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.output_or_error().is_ok() {
            let body = context.response().body().bytes().unwrap_or_default();
            serde_json::from_slice::<Map<String, Value>>(body)?;
        }
        Ok(())
    }
}

/// Reads what is reserved. What runs is not told, only what may.
pub(super) async fn status(client: &Client, function: &str, unset_is: Option<u32>) -> Result<TargetStatus> {
    let during = || format!("reading reserved concurrency of function {function}");
    let request = client.get_function_concurrency().function_name(function);
    let answer = request.customize().interceptor(IsObject).send().await;
    let answer = answer.map_err(|error| failure("lambda:GetFunctionConcurrency", during(), error))?;
    let set = answer.reserved_concurrent_executions();
    let set = set.map(|set| counted(set, "ReservedConcurrentExecutions", &during())).transpose()?;
    limited(set, unset_is, &during())
}

/// Reserves this many.
pub(super) async fn set(client: &Client, function: &str, desired: u32) -> Result<Applied> {
    let during = format!("setting reserved concurrency of function {function} to {desired}");
    let refused = |_| Error::new(ErrorKind::Refused, during.clone(), "Lambda takes at most 2147483647");
    let count = i32::try_from(desired).map_err(refused)?;
    let request = client.put_function_concurrency().function_name(function).reserved_concurrent_executions(count);
    let answer = request.customize().config_override(once()).send().await;
    let answer = answer.map_err(|error| failed("lambda:PutFunctionConcurrency", &during, error))?;
    is_answered(answer.reserved_concurrent_executions(), count, during)
}
