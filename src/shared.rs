//! What adapters share: clients, the region and the account. Lives as long as the process, so that connections stay warm.

use crate::config::Config;
use crate::error::Result;

/// What adapters share.
#[derive(Debug)]
pub struct Shared {
    /// The region of what states none.
    pub region: String,
    #[cfg(feature = "aws")]
    pub(crate) aws: crate::aws::Aws,
}

impl Shared {
    /// Prepares what a configuration's adapters share. Makes no network call.
    pub async fn new(config: &Config, function_arn: Option<&str>) -> Self {
        let _ = (config, function_arn);
        Self {
            region: config.region.clone(),
            #[cfg(feature = "aws")]
            aws: crate::aws::Aws::new(config, function_arn).await,
        }
    }

    /// Whether this serves a configuration as well as a new one would.
    pub fn serves(&self, config: &Config) -> bool {
        #[cfg(feature = "aws")]
        let same_profile = self.aws.profile == config.profile;
        #[cfg(not(feature = "aws"))]
        let same_profile = true;
        self.region == config.region && same_profile
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
    #[cfg(any(test, fuzzing))]
    pub fn for_wire(endpoint: &str) -> Self {
        let _ = endpoint;
        Self {
            region: "us-east-1".to_owned(),
            #[cfg(feature = "aws")]
            aws: crate::aws::Aws::for_wire(endpoint),
        }
    }

    /// The same for a client that never reaches the network.
    #[cfg(all(any(test, fuzzing), feature = "aws"))]
    pub(crate) fn for_client(client: aws_smithy_runtime_api::client::http::SharedHttpClient) -> Self {
        let mut shared = Self::for_wire("http://127.0.0.1:9");
        shared.aws = shared.aws.with_client(client);
        shared
    }
}
