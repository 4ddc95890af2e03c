//! Where a document is that `CONFIG` names and that is neither inline nor a file.

use std::fmt;

use super::DEFAULT_REGION;
use super::env::Vars;
use super::reference::{Unfit, is_parameter, not_a_parameter};

/// A place outside the process where a document can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// `s3://BUCKET/KEY`: an object of Amazon S3.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
        /// The bucket's region: the environment's.
        region: String,
    },
    /// `ssm:NAME-or-ARN`: a parameter of AWS Systems Manager.
    Ssm {
        /// The name or ARN.
        name: String,
        /// The region: the ARN's, or the environment's.
        region: String,
    },
}

impl Location {
    /// The place that `CONFIG` names, if it names one as it should: what is wrong with it, [`load`](super::load) says.
    pub fn of(vars: &dyn Vars) -> Option<Self> {
        Self::read(&vars.get("CONFIG")?, vars)?.ok()
    }

    /// Reads the value of `CONFIG`; nothing if it names no such place.
    pub(super) fn read(config: &str, vars: &dyn Vars) -> Option<Result<Self, Unfit>> {
        let region = vars.get("AWS_REGION").unwrap_or_else(|| DEFAULT_REGION.to_owned());
        if let Some(rest) = config.strip_prefix("s3://") {
            return Some(match cfg!(feature = "s3") {
                true => object(rest, region),
                false => Err(Unfit::not_built("an object of Amazon S3", "s3")),
            });
        }
        let name = config.strip_prefix("ssm:")?;
        let region = name.split(':').nth(3).map_or(region, str::to_owned);
        Some(match (cfg!(feature = "ssm"), is_parameter(name)) {
            (true, true) => Ok(Self::Ssm { name: name.to_owned(), region }),
            (true, false) => Err(not_a_parameter()),
            (false, _) => Err(Unfit::not_built("a parameter of AWS Systems Manager", "ssm")),
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key, .. } => write!(f, "s3://{bucket}/{key}"),
            Self::Ssm { name, .. } => write!(f, "ssm:{name}"),
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>. Of a key, the characters that would mean
/// something else in a policy are refused.
fn object(text: &str, region: String) -> Result<Location, Unfit> {
    let is_of_bucket = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let is_of_key = |letter: char| !letter.is_control() && !"*?${}".contains(letter);
    match text.split_once('/') {
        Some((bucket, key))
            if (3..=63).contains(&bucket.len())
                && bucket.bytes().all(is_of_bucket)
                && (1..=1024).contains(&key.len())
                && key.chars().all(is_of_key) =>
        {
            Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned(), region })
        }
        _ => Err(Unfit::new("names no object of Amazon S3", "give s3://BUCKET/KEY, the key without any of * ? $ { }")),
    }
}

#[cfg(test)]
#[cfg(feature = "full")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(config: &str) -> Option<Result<Location, Unfit>> {
        Location::read(config, &BTreeMap::from([("AWS_REGION".to_owned(), "eu-central-1".to_owned())]))
    }

    #[cfg(feature = "full")]
    #[test]
    fn places_are_told_from_files_and_inline_documents() {
        for config in ["{}", "tidegate.yaml", "/etc/tidegate.json", "s3/tidegate.json"] {
            assert_eq!(read(config), None, "{config}");
        }
        for config in
            ["s3://state/a/b.yaml", "ssm:/tidegate/orders", "ssm:arn:aws:ssm:eu-west-1:123456789012:parameter/a"]
        {
            let location = read(config).and_then(Result::ok).expect(config);
            assert_eq!(location.to_string(), config);
        }
        for config in ["s3://state", "s3://state/", "s3:///key", "s3://State/key", "s3://state/*", "ssm:", "ssm:/a b"] {
            assert!(matches!(read(config), Some(Err(_))), "{config}");
        }
    }

    #[cfg(feature = "full")]
    #[test]
    fn an_arn_states_its_own_region() {
        let region = |config: &str| match read(config).and_then(Result::ok).expect(config) {
            Location::S3 { region, .. } | Location::Ssm { region, .. } => region,
        };
        assert_eq!(region("ssm:arn:aws:ssm:eu-west-1:123456789012:parameter/a"), "eu-west-1");
        assert_eq!((region("ssm:/a"), region("s3://state/a")), ("eu-central-1".to_owned(), "eu-central-1".to_owned()));
    }
}
