//! The lease table of the Kinesis Client Library, of its versions 1 to 3: which shards an application has begun, and where its
//! checkpoints are.
//!
//! <https://docs.aws.amazon.com/streams/latest/dev/kcl-dynamoDB.html>, and the attributes in `DynamoDBLeaseSerializer.java` of
//! <https://github.com/awslabs/amazon-kinesis-client>. Since 3.5 items of other kinds may be in it, which have no checkpoint:
//! <https://docs.aws.amazon.com/streams/latest/dev/kcl-single-table-format.html>.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;

use super::Stream;
use crate::aws::failure;
use crate::error::{Error, ErrorKind, Result};

/// How far an application has come in a shard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Checkpoint {
    /// It begins with the oldest record.
    Oldest,
    /// It begins with what comes after it has begun.
    Newest,
    /// It begins at a time that only its own configuration has.
    AtTime,
    /// After this sequence number.
    After(String),
    /// At the end of a closed shard.
    End,
}

impl Checkpoint {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "TRIM_HORIZON" => Some(Self::Oldest),
            "LATEST" => Some(Self::Newest),
            "AT_TIMESTAMP" => Some(Self::AtTime),
            "SHARD_END" => Some(Self::End),
            number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Self::After(number.to_owned()))
            }
            _ => None,
        }
    }
}

/// How many pages of 1 MiB a table may have: tens of thousands of leases.
const PAGES: usize = 32;

/// The checkpoints of a stream's shards, by shard.
pub(super) async fn leases(client: &Client, table: &str, stream: &Stream) -> Result<BTreeMap<String, Checkpoint>> {
    let during = || format!("reading lease table {table:?}");
    let mut found = BTreeMap::new();
    let mut last = None;
    for _ in 0..PAGES {
        let request = client.scan().table_name(table).projection_expression("leaseKey, checkpoint, entityType");
        let page = request.set_exclusive_start_key(last).send().await;
        let page = page.map_err(|error| failure("dynamodb:Scan", during(), error))?;
        for item in page.items() {
            found.extend(lease(item, stream).map_err(|cause| Error::new(ErrorKind::Malformed, during(), cause))?);
        }
        last = page.last_evaluated_key.filter(|key| !key.is_empty());
        if last.is_none() {
            return Ok(found);
        }
    }
    Err(Error::new(ErrorKind::Malformed, during(), format!("the table has more than {PAGES} pages")))
}

/// The shard and its checkpoint, or `None` for an item of another kind or another stream.
fn lease(item: &HashMap<String, AttributeValue>, stream: &Stream) -> Result<Option<(String, Checkpoint)>, String> {
    let text = |name: &str| item.get(name).and_then(|value| value.as_s().ok());
    let (Some(key), Some(checkpoint)) = (text("leaseKey"), text("checkpoint")) else {
        return match item.contains_key("entityType") {
            true => Ok(None),
            false => {
                Err("an item has no leaseKey and checkpoint; name a lease table of the Kinesis Client Library".into())
            }
        };
    };
    let Some(shard) = shard_of(key, stream) else { return Ok(None) };
    let checkpoint = Checkpoint::parse(checkpoint);
    let checkpoint = checkpoint.ok_or_else(|| format!("the checkpoint of {shard:?} is none that is known"))?;
    Ok(Some((shard.to_owned(), checkpoint)))
}

/// The shard of a lease's key, which is that, or `ACCOUNT:STREAM:CREATED:SHARD` where an application reads several streams.
fn shard_of<'a>(key: &'a str, stream: &Stream) -> Option<&'a str> {
    match key.split(':').collect::<Vec<_>>()[..] {
        [account, name, _, shard] => {
            let is_account = stream.arn.as_ref().is_none_or(|(_, ours)| ours == account);
            (is_account && name == stream.name).then_some(shard)
        }
        _ => Some(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, checkpoint: &str) -> Result<Option<(String, Checkpoint)>, String> {
        let stream = Stream { region: "us-east-1".to_owned(), arn: None, name: "orders".to_owned() };
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = [("leaseKey", text(key)), ("checkpoint", text(checkpoint))];
        lease(&item.map(|(name, value)| (name.to_owned(), value)).into(), &stream)
    }

    #[test]
    fn checkpoints_are_numbers_or_one_of_four_words() {
        let after = Checkpoint::After("49590338271490256608559692538361571095921575989136588898".to_owned());
        for (text, expected) in [
            ("49590338271490256608559692538361571095921575989136588898", after),
            ("TRIM_HORIZON", Checkpoint::Oldest),
            ("LATEST", Checkpoint::Newest),
            ("AT_TIMESTAMP", Checkpoint::AtTime),
            ("SHARD_END", Checkpoint::End),
        ] {
            assert_eq!(read("shardId-0", text), Ok(Some(("shardId-0".to_owned(), expected))));
        }
        for text in ["", "latest", "-1", "12a"] {
            assert!(read("shardId-0", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_application_of_several_streams_has_their_names_in_its_keys() {
        let ours = read("123456789012:orders:1700000000:shardId-0", "SHARD_END");
        assert_eq!(ours, Ok(Some(("shardId-0".to_owned(), Checkpoint::End))));
        assert_eq!(read("123456789012:others:1700000000:shardId-0", "SHARD_END"), Ok(None));
    }
}
