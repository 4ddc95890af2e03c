//! Parameters of AWS Systems Manager: <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html>.

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Builder;

use super::{AnswerLimit, failure_of_secret};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const ACTION: &str = "ssm:GetParameter";

/// The text of a parameter, decrypted.
pub(crate) async fn parameter(sdk: &SdkConfig, name: &str) -> Result<Secret<String>> {
    let client = Client::from_conf(Builder::from(sdk).interceptor(AnswerLimit).build());
    let answer = client.get_parameter().name(name).with_decryption(true).send().await;
    let answer = answer.map_err(|error| failure_of_secret(ACTION, error))?;
    let value = answer.parameter.and_then(|parameter| parameter.value).map(Secret::new);
    value.ok_or_else(|| Error::new(ErrorKind::Malformed, "", format!("the answer to {ACTION} has no value")))
}
