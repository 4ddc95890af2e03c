//! What the AWS adapters share: settings of the clients, the account, and what AWS's errors mean.

mod account;
#[cfg(any(feature = "sqs", feature = "ecs", feature = "ec2_asg"))]
mod known;
#[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
pub(crate) mod metrics;
#[cfg(any(feature = "activemq", feature = "rabbitmq"))]
pub(crate) mod mq;
#[cfg(feature = "secretsmanager")]
pub(crate) mod secretsmanager;
#[cfg(feature = "ssm")]
pub(crate) mod ssm;

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeDeserializationInterceptorContextMut;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::{DispatchFailure, SdkError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use http_body_util::Limited;
use tokio::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result};
pub(crate) use account::Account;
#[cfg(feature = "sqs")]
pub(crate) use known::Known;
#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
pub(crate) use known::ScaledAlone;

/// How AWS is to be reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// The region of what states none.
    pub region: &'a str,
    /// The profile of the shared AWS configuration.
    pub profile: Option<&'a str>,
    /// Where all of AWS is, if it is not AWS itself.
    pub endpoint: Option<&'a str>,
}

/// Clients' settings, the account, and what was looked up once.
#[derive(Debug)]
pub(crate) struct Aws {
    sdk: SdkConfig,
    pub(crate) profile: Option<String>,
    account: Account,
    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    metrics: metrics::Metrics,
    #[cfg(feature = "sqs")]
    queue_urls: Known<String>,
    #[cfg(all(feature = "sqs", feature = "cloudwatch"))]
    deleted: Known<(i64, f64)>,
    #[cfg(any(feature = "ecs", feature = "ec2_asg"))]
    scaled_alone: ScaledAlone,
}

impl Aws {
    pub(crate) async fn new(access: Access<'_>, function_arn: Option<&str>) -> Self {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(access.region.to_owned()))
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(100)))
            .timeout_config(timeouts());
        if let Some(profile) = access.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = access.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let account = function_arn.and_then(account_of).map(str::to_owned);
        let sdk = loader.load().await;
        Self {
            #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
            metrics: metrics::Metrics::new(sdk.clone()),
            profile: access.profile.map(str::to_owned),
            account: Account { sdk: sdk.clone(), known: Arc::new(OnceCell::new_with(account)) },
            sdk,
            #[cfg(feature = "sqs")]
            queue_urls: Known::default(),
            #[cfg(all(feature = "sqs", feature = "cloudwatch"))]
            deleted: Known::default(),
            #[cfg(any(feature = "ecs", feature = "ec2_asg"))]
            scaled_alone: ScaledAlone::default(),
        }
    }

    /// The settings for clients of a region.
    pub(crate) fn sdk(&self, region: &str) -> SdkConfig {
        in_region(&self.sdk, region)
    }

    /// A client of Amazon S3 in a region. An endpoint of the user's own serves buckets by path.
    #[cfg(feature = "s3")]
    pub(crate) fn s3(&self, region: &str) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::config::Builder::from(&self.sdk(region))
            .force_path_style(self.sdk.endpoint_url().is_some())
            .interceptor(AnswerLimit)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }

    /// Metrics of CloudWatch, in calls that readings share.
    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    pub(crate) fn metrics(&self) -> &metrics::Metrics {
        &self.metrics
    }

    /// URLs of queues by name.
    #[cfg(feature = "sqs")]
    pub(crate) fn queue_urls(&self) -> &Known<String> {
        &self.queue_urls
    }

    /// How many messages were deleted of queues, and up to when, in seconds since 1970.
    #[cfg(all(feature = "sqs", feature = "cloudwatch"))]
    pub(crate) fn deleted(&self) -> &Known<(i64, f64)> {
        &self.deleted
    }

    #[cfg(any(feature = "ecs", feature = "ec2_asg"))]
    pub(crate) fn scaled_alone(&self) -> &ScaledAlone {
        &self.scaled_alone
    }

    /// The account of the credentials.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_wire(endpoint: &str) -> Self {
        use aws_sdk_sts::config::{Credentials, SharedCredentialsProvider};

        let credentials = Credentials::new("AKIDEXAMPLE", "canary-secret-key", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts())
            .build();
        Self {
            #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
            metrics: metrics::Metrics::new(sdk.clone()),
            profile: None,
            account: Account { sdk: sdk.clone(), known: Arc::default() },
            sdk,
            #[cfg(feature = "sqs")]
            queue_urls: Known::default(),
            #[cfg(all(feature = "sqs", feature = "cloudwatch"))]
            deleted: Known::default(),
            #[cfg(any(feature = "ecs", feature = "ec2_asg"))]
            scaled_alone: ScaledAlone::default(),
        }
    }

    /// The same with a client that never reaches the network.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn with_client(mut self, client: SharedHttpClient) -> Self {
        self.sdk = self.sdk.into_builder().http_client(client).build();
        self.account.sdk = self.sdk.clone();
        #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
        {
            self.metrics = metrics::Metrics::new(self.sdk.clone());
        }
        self
    }
}

/// The same settings for clients of another region.
pub(crate) fn in_region(sdk: &SdkConfig, region: &str) -> SdkConfig {
    sdk.clone().into_builder().region(Region::new(region.to_owned())).build()
}

/// One pool of connections for all clients of the process. Without it every client would have its own, and every tick
/// would begin with a TLS handshake for each of them.
fn http_client() -> SharedHttpClient {
    let tls = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc);
    aws_smithy_http_client::Builder::new().tls_provider(tls).build_https()
}

/// A connection within one second, an attempt within two: AWS answers these calls in tens of milliseconds, and the
/// whole operation has its own limit in `call`.
fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(2))
        .build()
}

/// Refuses answers of more than one MiB, so that a broken endpoint cannot fill the memory. The largest answer that is
/// read here, ten ECS services, is below 200 KiB.
#[derive(Debug)]
pub(crate) struct AnswerLimit;

const LONGEST_ANSWER: usize = 1 << 20;

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for AnswerLimit {
    fn name(&self) -> &'static str {
        "AnswerLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response_mut().body_mut();
        let unlimited = std::mem::replace(body, SdkBody::taken());
        *body = SdkBody::from_body_1_x(Limited::new(unlimited, LONGEST_ANSWER));
        Ok(())
    }
}

/// Says what AWS's error means for the operator. The message names the action, since that is what a policy must allow.
pub(crate) fn failure<E>(action: &'static str, during: String, error: SdkError<E, HttpResponse>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let (kind, cause) = match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            let (code, message) = (answer.err().code().unwrap_or(""), answer.err().message());
            explain(action, status, code, message)
        }
        SdkError::TimeoutError(_) => (ErrorKind::Timeout, format!("no answer to {action} in time")),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            (ErrorKind::Timeout, format!("no answer to {action} in time"))
        }
        SdkError::DispatchFailure(failure) if is_connection(failure) => (ErrorKind::Unavailable, innermost(&error)),
        // What is left is about credentials.
        SdkError::DispatchFailure(_) => {
            (ErrorKind::Denied, format!("{action} could not be sent: {}", innermost(&error)))
        }
        // A load balancer's error page instead of the service's own error, or a redirection, which nobody follows.
        SdkError::ResponseError(answer) if 300 <= answer.raw().status().as_u16() => {
            explain(action, answer.raw().status().as_u16(), "", None)
        }
        SdkError::ResponseError(_) => {
            (ErrorKind::Malformed, format!("the answer to {action} cannot be read: {}", innermost(&error)))
        }
        _ => (ErrorKind::Config, innermost(&error)),
    };
    Error::new(kind, during, cause).caused_by(error)
}

/// The same for what has a secret in its answer: nothing of the answer is kept, and a denial may be the key's.
#[cfg(any(feature = "secretsmanager", feature = "ssm"))]
pub(crate) fn failure_of_secret<E>(action: &'static str, error: SdkError<E, HttpResponse>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let error = failure(action, String::new(), error);
    let hint = match error.kind() {
        ErrorKind::Denied => "; a key of the customer's own needs kms:Decrypt too",
        _ => "",
    };
    Error::new(error.kind(), "", format!("{error}{hint}"))
}

/// Whether a request failed on its way: no connection, or one that was cut.
fn is_connection(failure: &DispatchFailure) -> bool {
    let Some(error) = failure.as_connector_error() else { return failure.is_io() };
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    // What hyper cannot read came from a server that speaks no HTTP, such as one that wants TLS.
    failure.is_io() || error.as_other().is_some() || causes.into_iter().any(|cause| cause.is::<hyper::Error>())
}

fn explain(action: &str, status: u16, code: &str, message: Option<&str>) -> (ErrorKind, String) {
    let has = |needles: &[&str]| needles.iter().any(|needle| code.contains(needle));
    let kind = match status {
        _ if has(&["Throttl", "TooManyRequests", "LimitExceeded", "SlowDown", "ThroughputExceeded"]) => {
            ErrorKind::Throttled
        }
        _ if has(&[
            "AccessDenied",
            "UnrecognizedClient",
            "InvalidClientTokenId",
            "Signature",
            "ExpiredToken",
            "InvalidToken",
            "NotAuthorized",
            "InvalidAccessKeyId",
            "AuthFailure",
            // The key of a secret, of Secrets Manager and of Systems Manager.
            "DecryptionFailure",
            "InvalidKeyId",
        ]) =>
        {
            ErrorKind::Denied
        }
        _ if has(&["NotFound", "NonExistentQueue", "QueueDoesNotExist", "NoSuchBucket", "NoSuchKey"]) => {
            ErrorKind::NotFound
        }
        _ if has(&["PreconditionFailed", "ConditionalRequestConflict", "ConditionalCheckFailed"]) => {
            ErrorKind::Conflict
        }
        // S3 answers so for a bucket of another region.
        301 | 302 | 307 | 308 => ErrorKind::Config,
        401 | 403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 | 412 => ErrorKind::Conflict,
        429 => ErrorKind::Throttled,
        500.. => ErrorKind::Unavailable,
        400..500 if code.is_empty() => ErrorKind::Malformed,
        400..500 => ErrorKind::Refused,
        _ => ErrorKind::Malformed,
    };
    // AWS repeats the whole signed request, session token included, when a signature does not match.
    let message = message.filter(|_| !code.contains("Signature")).map(excerpt);
    let cause = match (kind, message) {
        (ErrorKind::Denied, message) => format!("access denied ({action}{}){}", with_code(code), after(message)),
        (_, message) => format!("{action} answered {status}{}{}", with_code(code), after(message)),
    };
    (kind, cause)
}

fn with_code(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!(", {code}") }
}

fn after(message: Option<String>) -> String {
    message.map_or_else(String::new, |message| format!(": {message}"))
}

fn excerpt(message: &str) -> String {
    let first: String = message.chars().filter(|letter| !letter.is_control()).take(300).collect();
    first.trim().to_owned()
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut here = error;
    while let Some(source) = here.source() {
        here = source;
    }
    excerpt(&here.to_string())
}

/// The account in an ARN, `arn:partition:service:region:account:…`.
pub(crate) fn account_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(3).filter(|account| !account.is_empty())
}

/// The region in an ARN.
#[cfg_attr(not(feature = "full"), allow(dead_code, reason = "not every adapter needs it"))]
pub(crate) fn region_of(arn: &str) -> Option<&str> {
    arn.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mismatched_signature_is_not_quoted() {
        let (kind, cause) =
            explain("sqs:GetQueueAttributes", 403, "SignatureDoesNotMatch", Some("x-amz-security-token:canary"));
        assert_eq!(kind, ErrorKind::Denied);
        assert!(!cause.contains("canary"), "{cause}");
    }

    #[test]
    fn codes_say_more_than_statuses() {
        assert_eq!(explain("a:B", 400, "ThrottlingException", None).0, ErrorKind::Throttled);
        assert_eq!(explain("a:B", 400, "AccessDeniedException", None).0, ErrorKind::Denied);
        assert_eq!(explain("a:B", 400, "AWS.SimpleQueueService.NonExistentQueue", None).0, ErrorKind::NotFound);
        assert_eq!(explain("a:B", 400, "InvalidParameterException", None).0, ErrorKind::Refused);
        assert_eq!(explain("a:B", 503, "SlowDown", None).0, ErrorKind::Throttled);
        assert_eq!(explain("a:B", 400, "ProvisionedThroughputExceededException", None).0, ErrorKind::Throttled);
        assert_eq!(explain("a:B", 400, "ConditionalCheckFailedException", None).0, ErrorKind::Conflict);
        assert_eq!(explain("a:B", 503, "", None).0, ErrorKind::Unavailable);
        assert_eq!(explain("a:B", 412, "", None).0, ErrorKind::Conflict);
    }

    #[cfg(feature = "ecs")]
    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_about_again_after_five_minutes() {
        let known = ScaledAlone::default();
        assert_eq!(known.get("prod/orders"), None);
        known.put("prod/orders".to_owned(), vec!["unknown".to_owned()]);
        tokio::time::advance(Duration::from_secs(299)).await;
        assert_eq!(known.get("prod/orders"), Some(vec!["unknown".to_owned()]));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(known.get("prod/orders"), None);
    }

    #[test]
    fn arns_give_region_and_account() {
        let arn = "arn:aws-cn:sqs:cn-north-1:123456789012:orders";
        assert_eq!((region_of(arn), account_of(arn)), (Some("cn-north-1"), Some("123456789012")));
        assert_eq!(account_of("orders"), None);
    }
}
