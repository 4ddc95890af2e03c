//! Secrets of AWS Secrets Manager: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>.

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;

use super::{AnswerLimit, failure_of_secret};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const ACTION: &str = "secretsmanager:GetSecretValue";

/// The text of a secret at a stage, `AWSCURRENT` where none is given.
pub(crate) async fn secret(sdk: &SdkConfig, id: &str, stage: Option<&str>) -> Result<Secret<String>> {
    let client = Client::from_conf(Builder::from(sdk).interceptor(AnswerLimit).build());
    let request = client.get_secret_value().secret_id(id).set_version_stage(stage.map(str::to_owned));
    let answer = request.send().await.map_err(|error| failure_of_secret(ACTION, error))?;
    let text = answer.secret_string.map(Secret::new);
    text.ok_or_else(|| Error::new(ErrorKind::NotFound, "", "the secret is binary and has no text"))
}
