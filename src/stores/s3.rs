//! Amazon S3, with conditional writes as compare-and-swap:
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>.

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::document::too_long;
use super::{Expect, Found, Store, Version};
use crate::adapter::{Identity, Kind, parse, schema_of};
use crate::aws::failure;
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement, is_region};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Store> = Kind {
    name: "s3",
    aliases: &[],
    about: "Amazon S3: one object for each target, or for each fleet.",
    renamed: &[],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions,
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

/// The settings of an `s3` store.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The bucket.
    #[schemars(length(min = 1))]
    bucket: String,
    /// What the keys of all objects begin with.
    #[serde(default = "tidegate")]
    prefix: String,
    /// The bucket's region; the configuration's where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    region: Option<String>,
}

fn tidegate() -> String {
    "tidegate/".to_owned()
}

fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    match settings.region.as_deref().is_none_or(is_region) {
        true => Vec::new(),
        false => vec![("has a region that is none".to_owned(), "give one such as eu-west-1".to_owned())],
    }
}

fn identities(settings: &Value, region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let region = settings.region.unwrap_or_else(|| region.to_owned());
    vec![Identity { provider: KIND.name, region, account: None, path: vec![settings.bucket] }]
}

fn permissions(settings: &Value, place: &Place) -> Result<Vec<Statement>> {
    let Settings { bucket, prefix, region } = parse(settings)?;
    let partition = Place::new(region.as_deref().unwrap_or(&place.region), &place.account).partition;
    let bucket = format!("arn:{partition}:s3:::{bucket}");
    let objects = vec![format!("{bucket}/{prefix}*")];
    // Without ListBucket a missing object is answered with 403 and cannot be told from a denied one:
    // https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    let mut list = Statement::allow("FindState", &["s3:ListBucket"], vec![bucket]);
    list.condition = Some(json!({ "StringLike": { "s3:prefix": format!("{prefix}*") } }));
    Ok(vec![Statement::allow("KeepState", &["s3:GetObject", "s3:PutObject"], objects), list])
}

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Store>> {
    let Settings { bucket, prefix, region } = parse(settings)?;
    let client = shared.aws.s3(region.as_deref().unwrap_or(&shared.region));
    Ok(Box::new(S3 { client, bucket, prefix }))
}

#[derive(Debug)]
struct S3 {
    client: Client,
    bucket: String,
    prefix: String,
}

#[async_trait]
impl Store for S3 {
    async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found> {
        let during = || format!("reading state {key:?} of bucket {:?}", self.bucket);
        let request = self.client.get_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        let request = request.set_if_none_match(unless.map(|Version(etag)| etag.clone()));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(SdkError::ServiceError(error)) if matches!(error.err(), GetObjectError::NoSuchKey(_)) => {
                return Ok(Found::Absent);
            }
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 304) => {
                return Ok(Found::Unchanged);
            }
            Err(error) => return Err(failure("s3:GetObject", during(), error)),
        };
        let malformed = |cause: &str| Error::new(ErrorKind::Malformed, during(), cause);
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        if let Some(cause) = length.and_then(too_long) {
            return Err(malformed(&cause));
        }
        let version = Version(answer.e_tag().ok_or_else(|| malformed("the answer has no ETag"))?.to_owned());
        let body = answer.body.collect().await;
        let body =
            body.map_err(|error| Error::new(ErrorKind::Unavailable, during(), error.to_string()).caused_by(error))?;
        Ok(Found::Document(body.to_vec(), version))
    }

    async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
        let during = || format!("saving state {key:?} in bucket {:?}", self.bucket);
        let request = self.client.put_object().bucket(&self.bucket).key(format!("{}{key}", self.prefix));
        let request = match expect {
            Expect::Absent => request.if_none_match("*"),
            Expect::At(Version(etag)) => request.if_match(etag),
        };
        let answer = request.content_type("application/json").body(document.into()).send().await;
        let answer = answer.map_err(|error| {
            let gone = matches!(expect, Expect::At(_))
                && error.as_service_error().and_then(|error| error.meta().code()) == Some("NoSuchKey");
            match gone {
                // The object was deleted since it was read.
                true => Error::new(ErrorKind::Conflict, during(), "the state was deleted since it was read"),
                false => failure("s3:PutObject", during(), error),
            }
        })?;
        let etag =
            answer.e_tag().ok_or_else(|| Error::new(ErrorKind::Malformed, during(), "the answer has no ETag"))?;
        Ok(Version(etag.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Contract, Reply, Request, Scene};

    pub(super) const CONTRACT: Contract = Contract::Wire { settings, reply };

    fn settings(_endpoint: &str) -> Value {
        json!({ "bucket": "state" })
    }

    /// The answers' form: <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>.
    fn reply(scene: Scene, _: &Request) -> Reply {
        match scene {
            Scene::Stored(document) => Reply::new(200, document).header("etag", "\"v1\""),
            Scene::Absent => Reply::aws_xml_error(404, "NoSuchKey", "The specified key does not exist."),
            Scene::Denied => Reply::aws_xml_error(403, "AccessDenied", "Access Denied"),
            Scene::NotFound => Reply::aws_xml_error(404, "NoSuchBucket", "The specified bucket does not exist"),
            Scene::Throttled => Reply::aws_xml_error(503, "SlowDown", "Please reduce your request rate."),
            Scene::Conflict => Reply::aws_xml_error(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            ),
            Scene::Malformed => Reply::new(200, "not a state"),
            other => panic!("{other:?} is not a scene of a store"),
        }
    }

    #[test]
    fn a_missing_object_can_be_told_from_a_denied_one() {
        let place = Place::new("us-gov-west-1", "123456789012");
        let statements = permissions(&json!({ "bucket": "state", "prefix": "a/" }), &place).expect("valid settings");
        assert_eq!(statements[0].resource, ["arn:aws-us-gov:s3:::state/a/*"]);
        assert_eq!(statements[1].action, ["s3:ListBucket"]);
        assert_eq!(statements[1].condition, Some(json!({ "StringLike": { "s3:prefix": "a/*" } })));
    }
}
