//! Workspaces of Amazon Managed Prometheus, and AWS's signature for them.
//!
//! <https://docs.aws.amazon.com/prometheus/latest/userguide/AMP-APIReference-Prometheus-Compatible-Apis.html>. The query is
//! sent as a form, so that nothing in it needs the canonical form of a query string.

use std::sync::Arc;
use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use reqwest::header::HeaderName;
use url::Url;

use super::ACTION;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, is_account, is_region};

/// The type of a body that is a form.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// One workspace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Workspace {
    pub region: String,
    pub account: Option<String>,
    id: String,
}

impl Workspace {
    /// `arn:PARTITION:aps:REGION:ACCOUNT:workspace/ID`
    pub(super) fn by_arn(arn: &str) -> Option<Self> {
        let ["arn", _, "aps", region, account, resource] = arn.split(':').collect::<Vec<_>>()[..] else { return None };
        let account = is_account(account).then(|| account.to_owned())?;
        Self::new(region, Some(account), resource.strip_prefix("workspace/")?)
    }

    /// `https://aps-workspaces.REGION.amazonaws.com/workspaces/ID`
    pub(super) fn by_url(url: &Url) -> Option<Self> {
        let region = url.host_str()?.strip_prefix("aps-workspaces.")?.strip_suffix(".amazonaws.com")?;
        let id = url.path().strip_prefix("/workspaces/")?;
        Self::new(region, None, id.trim_end_matches('/'))
    }

    /// An id is `ws-` and a UUID; an alias is none:
    /// <https://docs.aws.amazon.com/prometheus/latest/APIReference/API_WorkspaceDescription.html>.
    fn new(region: &str, account: Option<String>, id: &str) -> Option<Self> {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_id && is_region(region)).then(|| Self { region: region.to_owned(), account, id: id.to_owned() })
    }

    pub(super) fn path(&self) -> String {
        format!("/workspaces/{}", self.id)
    }

    pub(super) fn url(&self) -> String {
        format!("https://aps-workspaces.{}.amazonaws.com{}", self.region, self.path())
    }

    pub(super) fn arn(&self, place: &Place) -> String {
        let account = self.account.as_deref().unwrap_or(&place.account);
        let partition = Place::new(&self.region, account).partition;
        format!("arn:{partition}:aps:{}:{account}:workspace/{}", self.region, self.id)
    }
}

/// Signs with the credentials of a region's SDK settings.
pub(super) struct Signer {
    pub sdk: SdkConfig,
    pub clock: Arc<dyn Clock>,
}

impl Signer {
    /// The headers that sign a form for a URL.
    pub(super) async fn sign(&self, url: &Url, form: &str) -> Result<Vec<(HeaderName, String)>> {
        let failed = |cause: String| {
            let cause = format!("a request for {ACTION} could not be signed: {cause}");
            Error::new(ErrorKind::Denied, "signing for Amazon Managed Prometheus", cause)
        };
        let provider = self.sdk.credentials_provider().ok_or_else(|| failed("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| failed(innermost(&error)))?;
        let region = self.sdk.region().map_or("", |region| region.as_ref());
        let identity = Identity::from(credentials);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("aps")
            .time(SystemTime::from(self.clock.now()))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let headers = [("content-type", FORM)].into_iter();
        let request = SignableRequest::new("POST", url.as_str(), headers, SignableBody::Bytes(form.as_bytes()));
        let signed = request.and_then(|request| sign(request, &parameters.into()));
        let (instructions, _) = signed.map_err(|error| failed(innermost(&error)))?.into_parts();
        let header = |(name, value): (&str, &str)| Some((HeaderName::try_from(name).ok()?, value.to_owned()));
        Ok(instructions.headers().filter_map(header).collect())
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.last().map(ToString::to_string).unwrap_or_default()
}
