//! `tidegate read` and `tidegate status`: one reading of one source or target, with what it took.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::permissions::statements_of;
use super::read_json;
use crate::call::Call;
use crate::clock::{Clock, System, budget};
use crate::config::{self, Vars};
use crate::core::{Amount, TargetStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::Place;
use crate::shared::Shared;

/// One reading of one source.
#[derive(Debug, Clone, Serialize)]
pub struct SourceReading {
    /// The source's name.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What its settings name.
    pub reads: Vec<String>,
    /// When the provider took the number, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// The number or numbers. What the provider cannot tell is absent.
    #[serde(flatten)]
    pub amount: Amount,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The IAM actions that these settings need.
    pub permissions: BTreeSet<&'static str>,
    /// What stood in the way of something that is not the amount.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Reads one source once.
///
/// # Errors
/// [`ErrorKind::Config`] for settings that are wrong, or the source's own.
pub async fn read_source(settings: Value, from: &str, vars: Arc<dyn Vars>) -> Result<SourceReading> {
    let (config, source) = config::load_source(settings, from, vars.as_ref()).map_err(Error::from)?;
    let kind = source.section.kind;
    let place = Place::new(&config.region, "123456789012");
    let permissions = statements_of(&source.section, &place)?;
    let reads = (kind.identities)(&source.section.settings, &config.region);
    let shared = Shared::new(&config, vars, None).await;
    let began = Instant::now();
    let call = Call::within(budget(None, System.now()));
    let during = format!("reading source {:?}", source.name);
    let found = call.run(&during, async { source.section.build(&shared)?.read().await }).await?;
    Ok(SourceReading {
        source: source.name,
        kind: kind.name,
        reads: reads.iter().map(ToString::to_string).collect(),
        taken_at: found.taken_at,
        amount: found.amount,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        permissions: permissions.into_iter().flat_map(|statement| statement.action).collect(),
        warnings: found.warnings,
    })
}

/// The status of one target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReading {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What its settings name.
    pub target: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub status: TargetStatus,
    /// How many tasks it says must not be stopped now, where it can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<u32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The IAM actions that these settings need.
    pub permissions: BTreeSet<&'static str>,
}

/// What a name with a `*` stands for now.
#[derive(Debug, Clone, Serialize)]
pub struct TargetsFound {
    /// The target's type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What its settings name, with the `*`.
    pub target: String,
    /// What was found, as it is named without a `*`.
    pub stands_for: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The IAM actions that these settings need.
    pub permissions: BTreeSet<&'static str>,
}

/// Lists what a target stands for whose name has a `*`; nothing of one whose name has none.
///
/// # Errors
/// [`ErrorKind::Config`] for settings that are wrong, or the target's own.
pub async fn find_targets(settings: Value, from: &str, vars: Arc<dyn Vars>) -> Result<Option<TargetsFound>> {
    let (config, section, identity) = config::load_target(settings, from, vars.as_ref()).map_err(Error::from)?;
    if !identity.is_pattern() {
        return Ok(None);
    }
    let permissions = statements_of(&section, &Place::new(&config.region, "123456789012"))?;
    let shared = Shared::new(&config, vars, None).await;
    let began = Instant::now();
    let call = Call::within(budget(None, System.now()));
    let found = call.run("looking for services", async { section.build(&shared)?.discover().await }).await?;
    let stands_for = found.iter().flat_map(|settings| (section.kind.identities)(settings, &config.region));
    Ok(Some(TargetsFound {
        kind: section.kind.name,
        target: identity.to_string(),
        stands_for: stands_for.map(|identity| identity.to_string()).collect(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        permissions: permissions.into_iter().flat_map(|statement| statement.action).collect(),
    }))
}

/// Reads the status of one target once.
///
/// # Errors
/// [`ErrorKind::Config`] for settings that are wrong, or the target's own.
pub async fn read_target(settings: Value, from: &str, vars: Arc<dyn Vars>) -> Result<TargetReading> {
    let (config, section, identity) = config::load_target(settings, from, vars.as_ref()).map_err(Error::from)?;
    let permissions = statements_of(&section, &Place::new(&config.region, "123456789012"))?;
    let shared = Shared::new(&config, vars, None).await;
    let began = Instant::now();
    let call = Call::within(budget(None, System.now()));
    let target = section.build(&shared)?;
    let services = [identity.leaf().to_owned()];
    let missing = || Error::new(ErrorKind::Bug, "reading status", "the target left the service out of its answer");
    let status = async { target.statuses(&services).await.pop().unwrap_or_else(|| Err(missing())) };
    let status = call.run("reading status", status).await?;
    let protected = async { target.protected(&services).await.pop().unwrap_or_else(|| Err(missing())) };
    let protected = call.run("counting protected tasks", protected).await?;
    Ok(TargetReading {
        kind: section.kind.name,
        target: identity.to_string(),
        status,
        protected,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        permissions: permissions.into_iter().flat_map(|statement| statement.action).collect(),
    })
}

/// The settings that a command line gives: a file or `-`, a JSON object, or `type=redis queue_key=orders …`, in which a
/// value that is JSON is that.
pub(super) fn settings(given: &[String]) -> Result<(Value, String)> {
    match given {
        [one] if one.trim_start().starts_with('{') => {
            let document = config::parse_document("the command line", one);
            let document =
                document.map_err(|cause| Error::new(ErrorKind::Config, "reading the command line", cause))?;
            Ok((document, "the command line".to_owned()))
        }
        [one] if !one.contains('=') => Ok((read_json(&one.into())?, one.clone())),
        pairs => {
            let mut object = Map::new();
            for pair in pairs {
                let Some((key, text)) = pair.split_once('=') else {
                    let cause = "give a file, a JSON object, or KEY=VALUE for each setting, such as type=sqs";
                    return Err(Error::new(ErrorKind::Config, format!("reading {:?}", pair), cause));
                };
                let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
                object.insert(key.to_owned(), value);
            }
            Ok((Value::Object(object), "the command line".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_come_as_pairs_or_as_a_document() {
        let read = |given: &[&str]| settings(&given.iter().map(|&one| one.to_owned()).collect::<Vec<_>>());
        let expected = json!({ "type": "redis", "port": 6380, "use_ssl": false, "queue_key": "a=b" });
        let pairs = ["type=redis", "port=6380", "use_ssl=false", "queue_key=a=b"];
        assert_eq!(read(&pairs).expect("pairs").0, expected);
        assert_eq!(read(&[&expected.to_string()]).expect("a document").0, expected);
        for wrong in [&["type=redis", "port"][..], &["no-such-file"], &["{"]] {
            assert_eq!(read(wrong).expect_err("it is wrong").kind(), ErrorKind::Config, "{wrong:?}");
        }
    }
}
