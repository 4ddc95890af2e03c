//! The places where secrets live.

use std::sync::Arc;

use async_trait::async_trait;

use super::Fetch;
use crate::config::{Reference, Secret, Vars};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};

/// All places, as this process reaches them.
pub(crate) struct Places {
    pub vars: Arc<dyn Vars>,
    /// Clients' settings, for the region of what states none.
    #[cfg(any(feature = "secretsmanager", feature = "ssm"))]
    pub sdk: aws_config::SdkConfig,
}

#[async_trait]
impl Fetch for Places {
    async fn fetch(&self, reference: &Reference) -> Result<Secret<String>> {
        match reference {
            Reference::Text(secret) => Ok(secret.clone()),
            Reference::Environment(name) => {
                let missing = || Error::new(ErrorKind::Config, "", "the variable is not set");
                self.vars.raw(name).map(Secret::new).ok_or_else(missing)
            }
            Reference::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| Error::new(ErrorKind::Config, "", error.to_string()))?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            #[cfg(feature = "secretsmanager")]
            Reference::SecretsManager { id, key, stage } => {
                let secret = crate::aws::secretsmanager::secret(&self.sdk_of(id), id, stage.as_deref()).await?;
                key.as_deref().map_or(Ok(secret.clone()), |key| part(&secret, key))
            }
            #[cfg(feature = "ssm")]
            Reference::Ssm(name) => crate::aws::ssm::parameter(&self.sdk_of(name), name).await,
            #[cfg(not(all(feature = "secretsmanager", feature = "ssm")))]
            _ => Err(Error::new(ErrorKind::NotBuilt, "", "this build cannot fetch it")),
        }
    }
}

impl Places {
    /// The settings for the region that an ARN names.
    #[cfg(any(feature = "secretsmanager", feature = "ssm"))]
    fn sdk_of(&self, id: &str) -> aws_config::SdkConfig {
        match crate::aws::region_of(id) {
            Some(region) => crate::aws::in_region(&self.sdk, region),
            None => self.sdk.clone(),
        }
    }
}

/// The text at a key of a secret that is JSON.
#[cfg(feature = "secretsmanager")]
fn part(secret: &Secret<String>, key: &str) -> Result<Secret<String>> {
    let absent = || Error::new(ErrorKind::NotFound, "", "the secret is not JSON with a text under that key");
    let document: serde_json::Value = serde_json::from_str(secret.expose()).map_err(|_| absent())?;
    let found = key.split('.').try_fold(&document, |here, key| here.get(key)).and_then(serde_json::Value::as_str);
    found.map(|text| Secret::new(text.to_owned())).ok_or_else(absent)
}

/// The IAM statement that fetching a secret needs, if it needs one.
///
/// `kms:Decrypt` is not in it: only a key of the customer's own needs it, and which key it is, no reference says.
pub fn permissions(reference: &Reference, place: &Place) -> Option<Statement> {
    match reference {
        Reference::Text(_) | Reference::Environment(_) | Reference::File(_) => None,
        Reference::SecretsManager { id, .. } => {
            Some(Statement::allow("ReadSecret", &["secretsmanager:GetSecretValue"], secret_arns(id, place)))
        }
        Reference::Ssm(name) => {
            Some(Statement::allow("ReadParameter", &["ssm:GetParameter"], vec![parameter_arn(name, place)]))
        }
    }
}

/// Secrets Manager ends each secret's ARN with a hyphen and six characters of its own:
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html>.
fn secret_arns(id: &str, Place { partition, region, account }: &Place) -> Vec<String> {
    let may_be_whole = id.rsplit_once('-').is_some_and(|(_, end)| end.len() == 6);
    match id.starts_with("arn:") {
        // Six letters at the end may also be part of the name.
        true if may_be_whole => vec![id.to_owned(), format!("{id}-??????")],
        true => vec![format!("{id}-??????")],
        false => vec![format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{id}-??????")],
    }
}

/// The ARN of a parameter, in which its name has one slash in front whether or not it begins with one.
pub(crate) fn parameter_arn(name: &str, Place { partition, region, account }: &Place) -> String {
    match name.starts_with("arn:") {
        true => name.to_owned(),
        false => format!("arn:{partition}:ssm:{region}:{account}:parameter/{}", name.trim_start_matches('/')),
    }
}
