//! Proving to an EKS cluster who asks, by AWS credentials.
//!
//! The token is a presigned URL of STS's GetCallerIdentity, which the cluster calls to see whose it is:
//! <https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>. It is signed for the name of one
//! cluster and made anew for each request, since it ages in a minute and costs no call.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use url::Url;

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// The header whose value keeps a token of one cluster from being used at another.
const CLUSTER_HEADER: &str = "x-k8s-aws-id";

/// How long a URL is good for, as `aws eks get-token` asks; EKS itself takes tokens for 15 minutes.
const EXPIRES: Duration = Duration::from_secs(60);

/// Makes tokens for one cluster.
pub(super) struct Eks {
    pub sdk: SdkConfig,
    pub cluster: String,
}

impl Eks {
    pub(super) async fn token(&self, now: Timestamp) -> Result<Secret<String>> {
        let failed = |cause: String| Error::new(ErrorKind::Denied, "making a token for EKS", cause);
        let provider =
            self.sdk.credentials_provider().ok_or_else(|| failed("there are no AWS credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await.map_err(|error| failed(error.to_string()))?;
        let region = self.sdk.region().map_or("", |region| region.as_ref());
        token(credentials, region, &self.cluster, now).map(Secret::new).map_err(failed)
    }
}

/// Whether a host is an API server of EKS's own making, so that nobody else's machine is given a token.
pub(super) fn is_endpoint(host: &str) -> bool {
    ["eks.amazonaws.com", "eks.amazonaws.com.cn"]
        .iter()
        .any(|domain| host.strip_suffix(domain).is_some_and(|name| name.ends_with('.') && 1 < name.len()))
}

fn token(credentials: Credentials, region: &str, cluster: &str, now: Timestamp) -> Result<String, String> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = format!("https://sts.{region}.{domain}/?Action=GetCallerIdentity&Version=2011-06-15");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let params = v4::SigningParams::builder().identity(&identity).region(region).name("sts").time(now.into());
    let params: SigningParams<'_> = params.settings(settings).build().map_err(|error| error.to_string())?.into();
    let headers = [(CLUSTER_HEADER, cluster)].into_iter();
    let request = SignableRequest::new("GET", &url, headers, SignableBody::Bytes(&[]));
    let signed = sign(request.map_err(|error| error.to_string())?, &params).map_err(|error| error.to_string())?;
    let (instructions, _) = signed.into_parts();
    let mut url = Url::parse(&url).map_err(|error| error.to_string())?;
    url.query_pairs_mut().extend_pairs(instructions.params());
    Ok(format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url.as_str())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What botocore 1.44.5 makes for `aws eks get-token` of the same credentials, cluster and time.
    #[test]
    fn the_token_is_what_aws_makes_of_it() {
        let now = "2026-11-22T06:00:00Z".parse().expect("a time");
        for (region, host, session, signature) in [
            (
                "eu-west-1",
                "sts.eu-west-1.amazonaws.com",
                None,
                "aa69288604e237efb85f7e9f7ee1ddc112df9fce329926450cd22adbd4a9565f",
            ),
            (
                "eu-west-1",
                "sts.eu-west-1.amazonaws.com",
                Some("a/session+token=="),
                "e03a65777e2f34b58bd59ebd69774107301203b263b8383b6e5be5398a13158b",
            ),
            (
                "cn-north-1",
                "sts.cn-north-1.amazonaws.com.cn",
                Some("a/session+token=="),
                "f99d10738891bf5aeb00cde576d60505cef1120079111a6bafc5ae462c039f05",
            ),
        ] {
            let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let credentials = Credentials::new("AKIDEXAMPLE", key, session.map(str::to_owned), None, "test");
            let token = token(credentials, region, "shop", now).expect("it can be signed");
            let url = token.strip_prefix("k8s-aws-v1.").expect("it says what it is");
            let url = URL_SAFE_NO_PAD.decode(url).expect("it is base64");
            let url = Url::parse(&String::from_utf8(url).expect("it is text")).expect("it is a URL");
            let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
            let said = |name: &str| query.get(name).map(String::as_str);
            assert_eq!((url.scheme(), url.host_str(), url.path()), ("https", Some(host), "/"));
            assert_eq!(said("X-Amz-Signature"), Some(signature), "{url}");
            assert_eq!(said("X-Amz-SignedHeaders"), Some("host;x-k8s-aws-id"));
            assert_eq!((said("X-Amz-Expires"), said("X-Amz-Date")), (Some("60"), Some("20261122T060000Z")));
            assert_eq!((said("Action"), said("Version")), (Some("GetCallerIdentity"), Some("2011-06-15")));
            assert_eq!(said("X-Amz-Credential"), Some(&*format!("AKIDEXAMPLE/20261122/{region}/sts/aws4_request")));
            assert_eq!(said("X-Amz-Security-Token"), session);
        }
    }

    #[test]
    fn only_api_servers_of_eks_are_given_a_token() {
        assert!(is_endpoint("0123456789ABCDEF.gr7.eu-west-1.eks.amazonaws.com"));
        assert!(is_endpoint("0123456789ABCDEF.yl4.cn-north-1.eks.amazonaws.com.cn"));
        for host in
            ["eks.amazonaws.com", ".eks.amazonaws.com.example.com", "xeks.amazonaws.com", "example.com", "10.0.0.1"]
        {
            assert!(!is_endpoint(host), "{host}");
        }
    }
}
