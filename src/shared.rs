//! What adapters share: clients, the region and the account. Lives as long as the process, so that connections stay warm.

use std::sync::Arc;

use crate::clock::{Clock, System};
use crate::config::{Config, Vars};
use crate::error::Result;
use crate::secrets::{Places, Secrets};

/// What adapters share.
#[derive(Debug)]
pub struct Shared {
    /// The region of what states none.
    pub region: String,
    /// The time, for what depends on it: a signature's date, a schedule. Readings that say when they were taken need no clock.
    #[cfg_attr(not(feature = "full"), allow(dead_code, reason = "not every adapter needs it"))]
    pub(crate) clock: Arc<dyn Clock>,
    secrets: Secrets,
    #[cfg(feature = "aws")]
    pub(crate) aws: crate::aws::Aws,
    #[cfg(feature = "http")]
    pub(crate) http: Arc<crate::net::Http>,
    #[cfg(feature = "tcp")]
    pub(crate) tcp: crate::net::Tcp,
}

impl Shared {
    /// Prepares what a configuration's adapters share. Makes no network call.
    pub async fn new(config: &Config, vars: Arc<dyn Vars>, function_arn: Option<&str>) -> Self {
        #[cfg(feature = "aws")]
        {
            let (profile, endpoint) = (config.profile.as_deref(), config.endpoint.as_deref());
            let access = crate::aws::Access { region: &config.region, profile, endpoint };
            Self::over(vars, crate::aws::Aws::new(access, function_arn).await, &config.region, &config.network)
        }
        #[cfg(not(feature = "aws"))]
        {
            let _ = function_arn;
            Self {
                region: config.region.clone(),
                clock: Arc::new(System),
                secrets: Secrets::new(Places { vars }),
                #[cfg(feature = "http")]
                http: crate::net::Http::new(&config.network).into(),
                #[cfg(feature = "tcp")]
                tcp: crate::net::Tcp::new(&config.network),
            }
        }
    }

    #[cfg(feature = "aws")]
    fn over(vars: Arc<dyn Vars>, aws: crate::aws::Aws, region: &str, network: &crate::config::Network) -> Self {
        let _ = network;
        let places = Places {
            vars,
            #[cfg(any(feature = "secretsmanager", feature = "ssm"))]
            sdk: aws.sdk(region),
        };
        Self {
            region: region.to_owned(),
            clock: Arc::new(System),
            secrets: Secrets::new(places),
            aws,
            #[cfg(feature = "http")]
            http: crate::net::Http::new(network).into(),
            #[cfg(feature = "tcp")]
            tcp: crate::net::Tcp::new(network),
        }
    }

    /// The same by another clock.
    #[must_use]
    pub(crate) fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The secrets that settings refer to. A clone shares them, for adapters to keep.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Whether this serves a configuration as well as a new one would.
    pub fn serves(&self, config: &Config) -> bool {
        #[cfg(feature = "aws")]
        let same_profile = self.aws.profile == config.profile;
        #[cfg(not(feature = "aws"))]
        let same_profile = true;
        #[cfg(feature = "http")]
        let same_network = *self.http.network() == config.network;
        #[cfg(all(feature = "tcp", not(feature = "http")))]
        let same_network = *self.tcp.network() == config.network;
        #[cfg(not(any(feature = "http", feature = "tcp")))]
        let same_network = true;
        self.region == config.region && same_profile && same_network
    }

    /// The account of the credentials: from the function's own ARN, or asked for once.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn account(&self) -> Result<String> {
        #[cfg(feature = "aws")]
        return self.aws.account().id().await;
        #[cfg(not(feature = "aws"))]
        return Ok("-".to_owned());
    }

    /// Shares for a test: everything AWS goes to this endpoint, once, with made-up credentials. There are no variables.
    #[cfg(any(test, fuzzing))]
    pub fn for_wire(endpoint: &str) -> Self {
        let vars = Arc::new(std::collections::BTreeMap::<String, String>::new());
        let network = crate::config::Network { local_addresses: true, plain_http: true, ..Default::default() };
        #[cfg(feature = "aws")]
        return Self::over(vars, crate::aws::Aws::for_wire(endpoint), "us-east-1", &network);
        #[cfg(not(feature = "aws"))]
        {
            let _ = (endpoint, &network);
            Self {
                region: "us-east-1".to_owned(),
                clock: Arc::new(System),
                secrets: Secrets::new(Places { vars }),
                #[cfg(feature = "http")]
                http: crate::net::Http::new(&network).into(),
                #[cfg(feature = "tcp")]
                tcp: crate::net::Tcp::new(&network),
            }
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
