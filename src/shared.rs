//! What adapters share: clients, the region and the account. Lives as long as the process, so that connections stay warm.

use crate::config::Config;
#[cfg(feature = "http_json")]
use crate::config::{Environment, Secret};
use crate::error::Result;

/// What adapters share.
#[derive(Debug)]
pub struct Shared {
    /// The region of what states none.
    pub region: String,
    #[cfg(feature = "aws")]
    pub(crate) aws: crate::aws::Aws,
    #[cfg(feature = "http_json")]
    pub(crate) http: std::sync::Arc<crate::net::Http>,
}

impl Shared {
    /// Prepares what a configuration's adapters share. Makes no network call.
    pub async fn new(config: &Config, function_arn: Option<&str>) -> Self {
        let _ = (config, function_arn);
        Self {
            region: config.region.clone(),
            #[cfg(feature = "aws")]
            aws: crate::aws::Aws::new(config, function_arn).await,
            #[cfg(feature = "http_json")]
            http: crate::net::Http::new(&config.network).into(),
        }
    }

    /// Whether this serves a configuration as well as a new one would.
    pub fn serves(&self, config: &Config) -> bool {
        #[cfg(feature = "aws")]
        let same_profile = self.aws.profile == config.profile;
        #[cfg(not(feature = "aws"))]
        let same_profile = true;
        #[cfg(feature = "http_json")]
        let same_network = *self.http.network() == config.network;
        #[cfg(not(feature = "http_json"))]
        let same_network = true;
        self.region == config.region && same_profile && same_network
    }

    /// The account of the credentials: from the function's own ARN, or asked for once.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn account(&self) -> Result<String> {
        #[cfg(feature = "aws")]
        return self.aws.account().await;
        #[cfg(not(feature = "aws"))]
        return Ok("-".to_owned());
    }

    /// Shares for a test: everything AWS goes to this endpoint, once, with made-up credentials.
    #[cfg(test)]
    pub fn for_wire(endpoint: &str) -> Self {
        let _ = endpoint;
        Self {
            region: "us-east-1".to_owned(),
            #[cfg(feature = "aws")]
            aws: crate::aws::Aws::for_wire(endpoint),
            #[cfg(feature = "http_json")]
            http: {
                let network = crate::config::Network { local_addresses: true, plain_http: true, ..Default::default() };
                crate::net::Http::new(&network).into()
            },
        }
    }
}

/// Returns the secret that a setting gives or refers to, anew each time, so that one that was rotated is found.
///
/// # Errors
/// [`Config`](crate::error::ErrorKind::Config), naming the reference and never the secret.
#[cfg(feature = "http_json")]
pub(crate) async fn secret(given: &Secret<String>) -> Result<Secret<String>> {
    given.resolve(&Environment)
}
