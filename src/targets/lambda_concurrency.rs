//! AWS Lambda's concurrency: how many invocations an event source, an alias or a function may have at once.
//!
//! A task is one concurrent invocation. `event_source` sets the maximum concurrency of an event source mapping of an SQS queue,
//! `provisioned` the provisioned concurrency of an alias or version, `reserved` the reserved concurrency of a function.
//!
//! Lambda tells what is available of provisioned concurrency, and of the other two only the limit. That limit holds at once, so
//! that it is what counts as running; how many invocations there are is Lambda's business, and a scale-in ends none of them. A
//! mapping or function without any limit has no count: that is an error, unless `unset_is` says what to take it for.
//! Application Auto Scaling may set provisioned concurrency, too, which is not looked for here.

mod event_source;
mod provisioned;
mod reserved;
mod settings;

use async_trait::async_trait;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::Builder;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::error::ProvideErrorMetadata;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use futures_util::future::join_all;
use serde_json::Value;

use self::settings::{Mode, Settings, check, identities, permissions};
use super::{Applied, Target};
use crate::adapter::{Kind, parse, schema_of};
use crate::aws::{AnswerLimit, failure};
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "lambda_concurrency",
    aliases: &[],
    about: "AWS Lambda: an event source's maximum concurrency, or provisioned or reserved concurrency.",
    renamed: &[("function_name", "function"), ("uuid", "mapping"), ("alias", "qualifier"), ("version", "qualifier")],
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
    let settings = parse::<Settings>(settings)?;
    let sdk = shared.aws.sdk(settings.region(&shared.region));
    Ok(Box::new(LambdaConcurrency {
        client: Client::from_conf(Builder::from(&sdk).interceptor(AnswerLimit).build()),
        mode: settings.mode,
        before_name: settings.before_name(),
        function: settings.name().to_owned(),
        unset_is: settings.unset_is,
        asked_with: format!("{:?}", settings.unset_is),
    }))
}

#[derive(Debug)]
struct LambdaConcurrency {
    client: Client,
    mode: Mode,
    /// What stands before a function's name in calls.
    before_name: String,
    /// The function whose aliases and versions are asked about.
    function: String,
    unset_is: Option<u32>,
    asked_with: String,
}

#[async_trait]
impl Target for LambdaConcurrency {
    async fn statuses(&self, names: &[String]) -> Vec<Result<TargetStatus>> {
        join_all(names.iter().map(|name| self.status(name))).await
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn set_desired(&self, name: &str, desired: u32) -> Result<Applied> {
        match self.mode {
            Mode::EventSource => event_source::set(&self.client, name, desired).await,
            Mode::Provisioned => provisioned::set(&self.client, &self.called(&self.function), name, desired).await,
            Mode::Reserved => reserved::set(&self.client, &self.called(name), desired).await,
        }
    }
}

impl LambdaConcurrency {
    /// A mapping, an alias or version, or a function: the innermost name.
    async fn status(&self, name: &str) -> Result<TargetStatus> {
        match self.mode {
            Mode::EventSource => event_source::status(&self.client, name, self.unset_is).await,
            Mode::Provisioned => provisioned::status(&self.client, &self.called(&self.function), name).await,
            Mode::Reserved => reserved::status(&self.client, &self.called(name), self.unset_is).await,
        }
    }

    fn called(&self, function: &str) -> String {
        format!("{}{function}", self.before_name)
    }
}

/// Settings of a call that changes something, which the SDK does not repeat, as with `ecs`: the next tick does, if it is still
/// right.
fn once() -> Builder {
    Builder::new().retry_config(RetryConfig::disabled())
}

/// A limit that holds at once.
fn limited(set: Option<u32>, unset_is: Option<u32>, during: &str) -> Result<TargetStatus> {
    match set.or(unset_is) {
        Some(limit) => Ok(TargetStatus { desired: limit, running: limit, ..TargetStatus::default() }),
        None => {
            let cause =
                "there is no limit, which is no number; give it one, or set unset_is to the count to take it for";
            Err(Error::new(ErrorKind::Refused, during.to_owned(), cause))
        }
    }
}

fn counted(number: i32, what: &str, during: &str) -> Result<u32> {
    u32::try_from(number)
        .map_err(|_| Error::new(ErrorKind::Malformed, during.to_owned(), format!("{what} is {number}")))
}

/// Whether the answer to a change says what was asked for.
fn is_answered(answer: Option<i32>, asked: i32, during: String) -> Result<Applied> {
    match answer {
        Some(set) if set == asked => Ok(Applied::Set),
        Some(other) => Err(Error::new(ErrorKind::Malformed, during, format!("the answer says {other}"))),
        None => Err(Error::new(ErrorKind::Malformed, during, "the answer does not say what was set")),
    }
}

/// What a failed change means. Lambda takes one change of a resource at a time, and answers a second one with either of these:
/// <https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html#API_UpdateEventSourceMapping_Errors>.
fn failed<E>(action: &'static str, during: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let is_locked = matches!(error.code(), Some("ResourceInUseException" | "ResourceConflictException"));
    let error = failure(action, during.to_owned(), error);
    match is_locked {
        true => Error::new(ErrorKind::Locked, "", error.to_string()).caused_by(error),
        false => error,
    }
}

#[cfg(test)]
mod tests;
