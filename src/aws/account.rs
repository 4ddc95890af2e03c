//! The account of the credentials.

use std::sync::Arc;

use aws_config::SdkConfig;
use tokio::sync::OnceCell;

use super::{AnswerLimit, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::is_account;

/// The account of the credentials, which is asked for once in the life of the process. A clone shares it.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(super) sdk: SdkConfig,
    pub(super) known: Arc<OnceCell<String>>,
}

impl Account {
    pub(crate) async fn id(&self) -> Result<String> {
        let ask = async || {
            let config = aws_sdk_sts::config::Builder::from(&self.sdk).interceptor(AnswerLimit).build();
            let client = aws_sdk_sts::Client::from_conf(config);
            let during = "asking for the account of the credentials";
            let answer = client.get_caller_identity().send().await;
            let answer = answer.map_err(|error| failure("sts:GetCallerIdentity", during.to_owned(), error))?;
            let account = answer.account().filter(|account| is_account(account)).map(str::to_owned);
            account.ok_or_else(|| Error::new(ErrorKind::Malformed, during, "the answer has no account"))
        };
        self.known.get_or_try_init(ask).await.cloned()
    }

    /// An account, where it is another one. Who monitors no others is not known to be allowed to name itself to CloudWatch.
    #[cfg(any(feature = "cloudwatch", feature = "kinesis"))]
    pub(crate) async fn other(&self, account: Option<&str>) -> Result<Option<String>> {
        let Some(account) = account else { return Ok(None) };
        let is_ours = self.id().await? == account;
        Ok((!is_ours).then(|| account.to_owned()))
    }
}
