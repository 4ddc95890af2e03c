//! The document that `CONFIG` names in Amazon S3 or AWS Systems Manager.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::call::Call;
use crate::config::{Location, Secret, Vars};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::secrets::parameter_arn;

/// How long a document is used before it is asked for again: a change takes effect with the next tick after that.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// The longest document, in bytes, as long as the longest answer that is read of anybody.
#[cfg(feature = "s3")]
const LONGEST_DOCUMENT: i64 = 1 << 20;

/// Fetches the document, and keeps it for a minute. After that it is never used unseen: where it cannot be fetched, the
/// invocation fails and nothing is scaled, since an old document may be the mistake that somebody has just corrected.
#[derive(Debug, Default)]
pub struct Remote {
    kept: Mutex<Option<Kept>>,
    #[cfg(any(feature = "s3", feature = "ssm"))]
    aws: tokio::sync::OnceCell<crate::aws::Aws>,
}

#[derive(Debug)]
struct Kept {
    location: Location,
    /// The document may have secrets in it.
    text: Secret<Arc<str>>,
    /// What tells an object of S3 from an earlier one.
    etag: Option<String>,
    at: Timestamp,
}

impl Remote {
    /// Returns the text of the document that `CONFIG` names, where it names one that is neither inline nor a file.
    ///
    /// # Errors
    /// `NotFound`, `Denied` with the action that is missing, `Config` for a text that is too long or no text, or what else
    /// fails on the way.
    pub async fn document(&self, vars: &dyn Vars, call: Call, now: Timestamp) -> Result<Option<Secret<Arc<str>>>> {
        let Some(location) = Location::of(vars) else { return Ok(None) };
        let mut kept = self.kept.lock().await;
        let old = kept.take().filter(|kept| kept.location == location);
        let is_fresh = |kept: &Kept| (SignedDuration::ZERO..KEPT).contains(&now.duration_since(kept.at));
        let new = match old {
            Some(old) if is_fresh(&old) => old,
            old => {
                let during = format!("reading CONFIG {location}, without which nothing is scaled");
                let fetched = call.run("", self.fetch(location, vars, old, now)).await;
                // The source is left out: it may quote the document.
                fetched.map_err(|error| Error::new(error.kind(), during, error.to_string()))?
            }
        };
        Ok(Some(kept.insert(new).text.clone()))
    }

    async fn fetch(&self, location: Location, vars: &dyn Vars, old: Option<Kept>, now: Timestamp) -> Result<Kept> {
        let (text, etag) = match &location {
            #[cfg(feature = "s3")]
            Location::S3 { bucket, key, region } => {
                let client = self.aws(vars).await.s3(region);
                object(&client, bucket, key, old).await?
            }
            #[cfg(feature = "ssm")]
            Location::Ssm { name, region } => {
                let value = crate::aws::ssm::parameter(&self.aws(vars).await.sdk(region), name).await?;
                (Secret::new(value.expose().as_str().into()), None)
            }
            #[cfg(not(all(feature = "s3", feature = "ssm")))]
            _ => Err(Error::new(ErrorKind::NotBuilt, "", "this build cannot fetch it"))?,
        };
        Ok(Kept { location, text, etag, at: now })
    }

    #[cfg(any(feature = "s3", feature = "ssm"))]
    async fn aws(&self, vars: &dyn Vars) -> &crate::aws::Aws {
        let [region, profile, endpoint] = ["AWS_REGION", "SSO_PROFILE", "AWS_ENDPOINT_URL"].map(|name| vars.get(name));
        let connect = async || {
            let access = crate::aws::Access {
                region: region.as_deref().unwrap_or(crate::config::DEFAULT_REGION),
                profile: profile.as_deref(),
                endpoint: endpoint.as_deref(),
            };
            crate::aws::Aws::new(access, None).await
        };
        self.aws.get_or_init(connect).await
    }
}

/// Asks for an object, or where there is an old one, whether it is still the same.
#[cfg(feature = "s3")]
async fn object(
    client: &aws_sdk_s3::Client,
    bucket: &str,
    key: &str,
    old: Option<Kept>,
) -> Result<(Secret<Arc<str>>, Option<String>)> {
    const ACTION: &str = "s3:GetObject";
    let request = client.get_object().bucket(bucket).key(key);
    let etag = old.as_ref().and_then(|old| old.etag.clone());
    let answer = match request.set_if_none_match(etag).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let unchanged = error.raw_response().is_some_and(|answer| answer.status().as_u16() == 304);
            return match old.filter(|_| unchanged) {
                Some(old) => Ok((old.text, old.etag)),
                None => Err(explained(crate::aws::failure(ACTION, String::new(), error))),
            };
        }
    };
    if let Some(length) = answer.content_length().filter(|length| LONGEST_DOCUMENT < *length) {
        let cause = format!("the document has {length} bytes, and {LONGEST_DOCUMENT} is the most");
        return Err(Error::new(ErrorKind::Config, "", cause));
    }
    let etag = answer.e_tag().map(str::to_owned);
    let body = answer.body.collect().await;
    let body = body.map_err(|error| Error::new(ErrorKind::Unavailable, "", error.to_string()))?.to_vec();
    let text = String::from_utf8(body).map_err(|_| Error::new(ErrorKind::Config, "", "the document is not UTF-8"))?;
    Ok((Secret::new(text.into()), etag))
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
#[cfg(feature = "s3")]
fn explained(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Denied => {
            let hint = "without s3:ListBucket, S3 answers so for a missing object too";
            Error::new(ErrorKind::Denied, "", format!("{error}; {hint}"))
        }
        _ => error,
    }
}

/// The IAM statement that fetching the document needs.
pub(crate) fn permissions(document: &Location, place: &Place) -> Statement {
    match document {
        Location::S3 { bucket, key, region } => {
            let partition = Place::new(region, &place.account).partition;
            let object = format!("arn:{partition}:s3:::{bucket}/{key}");
            Statement::allow("ReadConfiguration", &["s3:GetObject"], vec![object])
        }
        Location::Ssm { name, region } => {
            let arn = parameter_arn(name, &Place::new(region, &place.account));
            Statement::allow("ReadConfiguration", &["ssm:GetParameter"], vec![arn])
        }
    }
}
