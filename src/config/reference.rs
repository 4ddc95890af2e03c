//! Where a secret lives, written where the secret itself would be.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::secret::Secret;
use crate::error::ErrorKind;
use crate::iam::{is_account, is_region};

/// A secret setting: the secret itself, or where it lives. Prints as it is written, and a secret itself as `***`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// The secret itself.
    Text(Secret<String>),
    /// `env:NAME`: a variable of the process.
    Environment(String),
    /// `file:PATH`: a file's text without the newline at its end.
    File(String),
    /// `secretsmanager:NAME-or-ARN[#json.key][@stage]`: a secret of AWS Secrets Manager. A name that has an `@` itself is
    /// written with its stage behind it.
    SecretsManager {
        /// The name or ARN.
        id: String,
        /// The way to a text in a secret that is JSON, between dots; the whole secret where it is left out.
        key: Option<String>,
        /// The staging label; `AWSCURRENT` where it is left out.
        stage: Option<String>,
    },
    /// `ssm:NAME-or-ARN`: a parameter of AWS Systems Manager, decrypted if it is a `SecureString`.
    Ssm(String),
}

/// Why a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// What is wrong with it, without the text.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// `Config`, or `NotBuilt` where the text is right and this build cannot do it.
    pub kind: ErrorKind,
}

impl Unfit {
    pub(crate) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into(), kind: ErrorKind::Config }
    }

    pub(crate) fn not_built(what: &str, feature: &str) -> Self {
        let problem = format!("names {what}, which is not built in");
        let remedy = format!("build with `--features {feature}`, or keep it elsewhere");
        Self { problem, remedy, kind: ErrorKind::NotBuilt }
    }
}

impl Reference {
    /// Reads a setting. What has none of the four prefixes is the secret itself.
    pub(crate) fn read(text: &str) -> Result<Self, Unfit> {
        let built = [("secretsmanager", cfg!(feature = "secretsmanager")), ("ssm", cfg!(feature = "ssm"))];
        Self::read_with(text, |feature| built.contains(&(feature, true)))
    }

    fn read_with(text: &str, is_built: impl Fn(&str) -> bool) -> Result<Self, Unfit> {
        let Some((prefix, rest)) = text.split_once(':') else { return Ok(Self::Text(Secret::new(text.to_owned()))) };
        match prefix {
            "env" | "file" if rest.is_empty() => {
                Err(Unfit::new("is a reference to nothing", "give env:NAME or file:PATH"))
            }
            // An allow-list of folders would mean nothing.
            "file" if rest.split('/').any(|part| part == "..") => {
                Err(Unfit::new("is a path that leads upwards", "give the file's own path, without .."))
            }
            "env" => Ok(Self::Environment(rest.to_owned())),
            "file" => Ok(Self::File(rest.to_owned())),
            "secretsmanager" if !is_built(prefix) => Err(Unfit::not_built("a secret of AWS Secrets Manager", prefix)),
            "secretsmanager" => secret_of(rest).ok_or_else(|| {
                let remedy =
                    "give secretsmanager:NAME-or-ARN, with #json.key and @stage behind it where they are needed";
                Unfit::new("is no reference to a secret of AWS Secrets Manager", remedy)
            }),
            "ssm" if !is_built(prefix) => Err(Unfit::not_built("a parameter of AWS Systems Manager", prefix)),
            "ssm" if is_parameter(rest) => Ok(Self::Ssm(rest.to_owned())),
            "ssm" => Err(not_a_parameter()),
            _ => Ok(Self::Text(Secret::new(text.to_owned()))),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(secret) => write!(f, "{secret}"),
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Ssm(name) => write!(f, "ssm:{name}"),
            Self::SecretsManager { id, key, stage } => {
                write!(f, "secretsmanager:{id}")?;
                key.iter().try_for_each(|key| write!(f, "#{key}"))?;
                stage.iter().try_for_each(|stage| write!(f, "@{stage}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).map_err(|unfit| serde::de::Error::custom(unfit.problem))
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        Secret::<String>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Secret::<String>::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// The part of an ARN behind the account, if it is one of this service: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
fn resource<'a>(arn: &'a str, service: &str) -> Option<&'a str> {
    match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", partition, found, region, account, resource]
            if found == service && !partition.is_empty() && is_region(region) && is_account(account) =>
        {
            Some(resource)
        }
        _ => None,
    }
}

/// The name's letters: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html>.
fn secret_of(text: &str) -> Option<Reference> {
    let with_stage = |text: &str| match text.rsplit_once('@') {
        Some((before, stage)) => (before.to_owned(), Some(stage.to_owned())),
        None => (text.to_owned(), None),
    };
    let (id, key, stage) = match text.split_once('#') {
        Some((id, rest)) => {
            let (key, stage) = with_stage(rest);
            (id.to_owned(), Some(key), stage)
        }
        None => {
            let (id, stage) = with_stage(text);
            (id, None, stage)
        }
    };
    let name = match id.starts_with("arn:") {
        true => resource(&id, "secretsmanager")?.strip_prefix("secret:")?,
        false => id.as_str(),
    };
    let is_name = is_made_of(name, "/_+=.@-") && name.len() <= 512;
    let has_key = key.as_ref().is_none_or(|key| key.split('.').all(|part| !part.is_empty()));
    let has_stage = stage.as_ref().is_none_or(|stage| is_made_of(stage, "/_+=.-") && stage.len() <= 256);
    (is_name && has_key && has_stage).then_some(Reference::SecretsManager { id, key, stage })
}

/// Whether a text is a parameter's name or ARN, without a version or label:
/// <https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html>.
pub(super) fn is_parameter(text: &str) -> bool {
    let name = match text.starts_with("arn:") {
        true => resource(text, "ssm").and_then(|resource| resource.strip_prefix("parameter/")),
        false => Some(text),
    };
    name.is_some_and(|name| is_made_of(name, "/_.-") && name.len() <= 1011)
}

pub(super) fn not_a_parameter() -> Unfit {
    Unfit::new("is no name of a parameter of AWS Systems Manager", "give ssm:/path or ssm:ARN, without a version")
}

fn is_made_of(name: &str, others: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || others.contains(letter))
}

/// The settings that are marked as secret by their schema (`writeOnly`): pointer and text of each.
pub(crate) fn secrets_in<'a>(schema: &Value, settings: &'a Value) -> Vec<(String, &'a str)> {
    let mut found = Vec::new();
    collect(schema, settings, "", &mut found);
    found
}

fn collect<'a>(schema: &Value, value: &'a Value, at: &str, found: &mut Vec<(String, &'a str)>) {
    if let (Some(true), Some(text)) = (schema["writeOnly"].as_bool(), value.as_str()) {
        return found.push((at.to_owned(), text));
    }
    for alternative in ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema[key].as_array()).flatten() {
        collect(alternative, value, at, found);
    }
    for (key, below) in value.as_object().into_iter().flatten() {
        let known = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        collect(known, below, &format!("{at}/{key}"), found);
    }
    for (number, below) in value.as_array().into_iter().flatten().enumerate() {
        collect(&schema["items"], below, &format!("{at}/{number}"), found);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::adapter::schema_of;

    #[cfg(feature = "full")]
    fn secret(id: &str, key: Option<&str>, stage: Option<&str>) -> Reference {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Reference::SecretsManager { id: id.to_owned(), key: owned(key), stage: owned(stage) }
    }

    #[cfg(feature = "full")]
    #[test]
    fn each_form_is_read_and_printed_as_it_is_written() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders/db-AbCdEf";
        let parameter = "arn:aws:ssm:eu-west-1:123456789012:parameter/orders/db";
        for (text, expected) in [
            ("env:TOKEN".to_owned(), Reference::Environment("TOKEN".to_owned())),
            ("file:/run/token".to_owned(), Reference::File("/run/token".to_owned())),
            ("secretsmanager:orders/db".to_owned(), secret("orders/db", None, None)),
            ("secretsmanager:a@b@AWSCURRENT".to_owned(), secret("a@b", None, Some("AWSCURRENT"))),
            ("secretsmanager:a@b#users.admin@blue".to_owned(), secret("a@b", Some("users.admin"), Some("blue"))),
            (format!("secretsmanager:{arn}#password"), secret(arn, Some("password"), None)),
            (format!("secretsmanager:{arn}@AWSPREVIOUS"), secret(arn, None, Some("AWSPREVIOUS"))),
            ("ssm:/orders/db".to_owned(), Reference::Ssm("/orders/db".to_owned())),
            (format!("ssm:{parameter}"), Reference::Ssm(parameter.to_owned())),
        ] {
            assert_eq!(Reference::read(&text), Ok(expected.clone()), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        let plain = Reference::read("amqp://canary:canary@host").expect("what is no reference is the secret itself");
        assert_eq!(format!("{plain} {plain:?}"), "*** Text(***)");
    }

    #[cfg(feature = "full")]
    #[test]
    fn a_broken_reference_is_refused_without_being_shown() {
        for text in [
            "env:",
            "file:",
            "secretsmanager:",
            "secretsmanager:can ary",
            "secretsmanager:canary#",
            "secretsmanager:canary#a..b",
            "secretsmanager:canary@",
            "secretsmanager:arn:aws:ssm:eu-west-1:123456789012:parameter/canary",
            "secretsmanager:arn:aws:secretsmanager::123456789012:secret:canary",
            "ssm:",
            "ssm:/canary:3",
            "ssm:arn:aws:ssm:eu-west-1:123456789012:document/canary",
        ] {
            let unfit = Reference::read(text).expect_err(text);
            assert_eq!(unfit.kind, ErrorKind::Config);
            assert!(!format!("{unfit:?}").contains("canary"), "{unfit:?}");
        }
    }

    #[test]
    fn a_build_without_the_provider_says_how_to_get_it() {
        for (text, feature) in [("secretsmanager:a", "secretsmanager"), ("ssm:/a", "ssm")] {
            let unfit = Reference::read_with(text, |_| false).expect_err("it is not built in");
            assert_eq!(unfit.kind, ErrorKind::NotBuilt);
            assert!(unfit.remedy.contains(&format!("--features {feature}")), "{unfit:?}");
        }
        assert!(Reference::read_with("env:A", |_| false).is_ok());
    }

    #[test]
    fn secrets_are_found_wherever_a_schema_has_them() {
        #[derive(Deserialize, JsonSchema)]
        struct Basic {
            #[expect(dead_code, reason = "only its schema matters")]
            user: String,
            #[expect(dead_code, reason = "only its schema matters")]
            password: Option<Reference>,
        }
        #[derive(Deserialize, JsonSchema)]
        struct Settings {
            #[expect(dead_code, reason = "only its schema matters")]
            token: Reference,
            #[expect(dead_code, reason = "only its schema matters")]
            basic: Option<Basic>,
            #[expect(dead_code, reason = "only its schema matters")]
            headers: BTreeMap<String, Secret<String>>,
            #[expect(dead_code, reason = "only its schema matters")]
            more: Vec<Reference>,
        }
        let settings = json!({
            "token": "t", "basic": { "user": "u", "password": "p" }, "headers": { "x-key": "h" }, "more": ["m", "n"],
        });
        let found = secrets_in(&schema_of::<Settings>(), &settings);
        let expected =
            [("/token", "t"), ("/basic/password", "p"), ("/headers/x-key", "h"), ("/more/0", "m"), ("/more/1", "n")];
        assert_eq!(found, expected.map(|(at, text)| (at.to_owned(), text)));
    }
}
