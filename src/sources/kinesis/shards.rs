//! A stream's shards, what of them an application has before it, and how old the next record of each is.
//!
//! After resharding a stream has closed shards that are still to be read, and new ones whose records must wait for that:
//! <https://docs.aws.amazon.com/streams/latest/dev/kinesis-record-processor-scaling.html>.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use futures_util::future::try_join;
use jiff::Timestamp;

use super::leases::{Checkpoint, leases};
use super::{Kinesis, depth};
use crate::aws::failure;
use crate::call::together;
use crate::core::Amount;
use crate::error::{Error, ErrorKind, Result};
use crate::sources::Measurement;

/// How many pages of a stream's shards are read: as many as 16,000 shards, in pages of 1,000.
const PAGES: usize = 16;

/// What one shard has left.
struct Left {
    age_secs: f64,
    /// A record that was seen to wait.
    seen: bool,
}

impl Kinesis {
    /// What the shards have left, by one record of each where the application's checkpoint is.
    ///
    /// How many records that is follows from the mean arrivals of the stream, taken to be spread over its open shards.
    pub(super) async fn probed(&self, table: &str) -> Result<Measurement> {
        let (shards, leases) = try_join(self.shards(), leases(&self.tables, table, &self.stream)).await?;
        let open = shards.iter().filter(|shard| is_open(shard)).count();
        let begin = begin(&shards, &leases).map_err(|cause| self.wrong(ErrorKind::Missing, cause))?;
        let probes = begin.into_iter().map(|(shard, checkpoint)| self.probe(shard, checkpoint));
        let left = together(probes).await.into_iter().collect::<Result<Vec<_>>>()?;
        let oldest = left.iter().map(|left| left.age_secs).fold(0.0, f64::max);
        let seen = left.iter().filter(|left| left.seen).count() as f64;
        if oldest == 0.0 {
            return Ok(Measurement::from(Amount::Queue(depth(seen, Some(0.0)))));
        }
        let now = self.clock.now();
        let end = self.window(now, 1).end;
        let rate = match self.arrivals_per_sec(end, oldest).await {
            // What waits has arrived since the last minute whose metrics are complete, so that none need be known of it yet.
            Err(error)
                if error.kind() == ErrorKind::Missing && 0.0 < seen && oldest <= (now.as_second() - end) as f64 =>
            {
                0.0
            }
            rate => rate?,
        };
        let ages: f64 = left.iter().map(|left| left.age_secs).sum();
        let waiting = rate * ages / open.max(1) as f64;
        Ok(Measurement::from(Amount::Queue(depth(waiting.max(seen), Some(oldest)))))
    }

    async fn shards(&self) -> Result<Vec<Shard>> {
        let during = || format!("listing the shards of stream {:?}", self.stream.name);
        let (mut shards, mut token) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            // A token stands for the stream, which must not be named beside it.
            let request = self.client.list_shards().max_results(1_000);
            let request = match token {
                Some(token) => request.next_token(token),
                None => request.set_stream_name(self.stream.by_name()).set_stream_arn(self.stream.by_arn()),
            };
            let page = request.send().await.map_err(|error| failure("kinesis:ListShards", during(), error))?;
            shards.extend(page.shards.unwrap_or_default());
            token = page.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                return match shards.is_empty() {
                    true => Err(Error::new(ErrorKind::Malformed, during(), "the stream has no shard")),
                    false => Ok(shards),
                };
            }
        }
        Err(Error::new(ErrorKind::Malformed, during(), format!("the stream has more than {PAGES} pages of shards")))
    }

    /// Reads the next record of a shard.
    async fn probe(&self, shard: String, checkpoint: Checkpoint) -> Result<Left> {
        let during = || format!("probing shard {shard:?} of stream {:?}", self.stream.name);
        let (kind, number) = match checkpoint {
            Checkpoint::After(number) => (ShardIteratorType::AfterSequenceNumber, Some(number)),
            _ => (ShardIteratorType::TrimHorizon, None),
        };
        let request = self.client.get_shard_iterator().set_stream_name(self.stream.by_name());
        let request = request.set_stream_arn(self.stream.by_arn()).shard_id(&shard).shard_iterator_type(kind);
        let iterator = request.set_starting_sequence_number(number).send().await;
        let iterator = iterator.map_err(|error| failure("kinesis:GetShardIterator", during(), error))?.shard_iterator;
        let request = self.client.get_records().set_shard_iterator(iterator).limit(1);
        let answer = request.set_stream_arn(self.stream.by_arn()).send().await;
        let answer = answer.map_err(|error| failure("kinesis:GetRecords", during(), error))?;
        let arrived = answer.records().first().map(|record| record.approximate_arrival_timestamp());
        let age_ms = match (arrived, answer.millis_behind_latest) {
            (Some(Some(arrived)), _) => self.age_ms(arrived.as_nanos()),
            (_, Some(behind)) => behind as f64,
            (_, None) => {
                let cause = "the answer to kinesis:GetRecords has no MillisBehindLatest";
                return Err(Error::new(ErrorKind::Malformed, during(), cause));
            }
        };
        if age_ms < 0.0 {
            return Err(Error::new(ErrorKind::Malformed, during(), format!("MillisBehindLatest is {age_ms}")));
        }
        Ok(Left { age_secs: age_ms / 1000.0, seen: arrived.is_some() })
    }

    /// The age of what arrived at a time; what arrives by another clock in the future has just arrived.
    fn age_ms(&self, arrived_nanos: i128) -> f64 {
        let arrived = Timestamp::from_nanosecond(arrived_nanos).unwrap_or(Timestamp::UNIX_EPOCH);
        self.clock.now().duration_since(arrived).as_millis_f64().max(0.0)
    }
}

fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none())
}

fn parents(shard: &Shard) -> impl Iterator<Item = &str> {
    [shard.parent_shard_id(), shard.adjacent_parent_shard_id()].into_iter().flatten()
}

/// Where the application goes on, for each shard that has something left for it.
///
/// - A shard without a lease whose parents the application has begun is read from its beginning, after them.
/// - One whose children have leases was finished, and its lease cleaned up, or was closed before the application began.
/// - One with neither is nobody's, so that what waits in it is unknown.
/// - One whose lease says LATEST or AT_TIMESTAMP has no checkpoint yet. A worker may read it and be behind all the same:
///   <https://github.com/awslabs/amazon-kinesis-client>, `HierarchicalShardSyncer.java`, which makes such leases.
/// - One that is open cannot have been read to its end.
fn begin(shards: &[Shard], leases: &BTreeMap<String, Checkpoint>) -> Result<Vec<(String, Checkpoint)>, String> {
    let mut begun: BTreeSet<&str> = leases.keys().map(String::as_str).collect();
    let mut left_behind = BTreeSet::new();
    // Shards come in the order of their making, so that parents are before their children.
    for shard in shards {
        if parents(shard).any(|parent| begun.contains(parent)) {
            begun.insert(shard.shard_id());
        }
    }
    for shard in shards.iter().rev() {
        if leases.contains_key(shard.shard_id()) || left_behind.contains(shard.shard_id()) {
            left_behind.extend(parents(shard));
        }
    }
    let mut found = Vec::new();
    for shard in shards {
        let id = shard.shard_id();
        match leases.get(id) {
            Some(Checkpoint::End) if is_open(shard) => {
                return Err(format!(
                    "shard {id:?} is open, and its lease says that it ended; the table is of another stream, or of one of \
                     this name that was deleted"
                ));
            }
            Some(Checkpoint::End) => {}
            Some(Checkpoint::AtTime | Checkpoint::Newest) => {
                return Err(format!(
                    "shard {id:?} has no checkpoint yet, only where the application is configured to begin; how much is \
                     left is unknown until it has checkpointed once"
                ));
            }
            Some(checkpoint) => found.push((id.to_owned(), checkpoint.clone())),
            None if left_behind.contains(id) => {}
            None if begun.contains(id) => found.push((id.to_owned(), Checkpoint::Oldest)),
            None => {
                return Err(format!(
                    "shard {id:?} has no lease in the table, so that how much of it is left is unknown; is it the table of \
                     an application that reads this stream, and has it begun?"
                ));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::types::{HashKeyRange, SequenceNumberRange};

    use serde_json::json;

    use super::*;
    use crate::clock::{Clock, System};
    use crate::shared::Shared;
    use crate::wire::{Reply, Request, Scene, Wire};

    /// A shard that was never read, whose first record has arrived so many seconds ago, and no metrics.
    fn reply(scene: Scene, request: &Request) -> Reply {
        let Scene::Amount(ago) = scene else { panic!("{scene:?} is no time") };
        let document = match request.operation() {
            Some("ListShards") => json!({ "Shards": [{
                "ShardId": "0", "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "1" },
                "SequenceNumberRange": { "StartingSequenceNumber": "1" },
            }] }),
            Some("Scan") => json!({ "Items": [{ "leaseKey": { "S": "0" }, "checkpoint": { "S": "TRIM_HORIZON" } }] }),
            Some("GetShardIterator") => json!({ "ShardIterator": "there" }),
            Some("GetRecords") => json!({ "MillisBehindLatest": ago * 1000, "Records": [{
                "SequenceNumber": "2", "PartitionKey": "1", "Data": "d29yaw==",
                "ApproximateArrivalTimestamp": System.now().as_second() - ago as i64,
            }] }),
            _ => return Reply::metric("Complete", &[]),
        };
        Reply::aws_json(200, &document)
    }

    #[tokio::test]
    async fn arrivals_that_are_not_known_are_no_reason_to_see_nothing_unless_they_should_be() {
        let settings = json!({ "stream": "orders", "lease_table": "app", "probe": true });
        let read = async |ago| {
            let wire = Wire::play(Scene::Amount(ago), reply).await;
            let source =
                (super::super::KIND.build)(&settings, &Shared::for_wire(&wire.endpoint)).expect("valid settings");
            source.read().await
        };
        let found = read(5).await.expect("a record waits").amount;
        assert!(matches!(found, Amount::Queue(found) if found.backlog == 1), "{found:?}");
        let error = read(600).await.expect_err("what arrived ten minutes ago should be known");
        assert_eq!(error.kind(), ErrorKind::Missing, "{error}");
    }

    fn shard(id: &str, parents: &[&str], closed: bool) -> Shard {
        let keys = HashKeyRange::builder().starting_hash_key("0").ending_hash_key("1").build().expect("valid");
        let numbers = SequenceNumberRange::builder().starting_sequence_number("1");
        let numbers = numbers.set_ending_sequence_number(closed.then(|| "2".to_owned())).build().expect("valid");
        let parent = |at: usize| parents.get(at).map(|&parent| parent.to_owned());
        let shard = Shard::builder().shard_id(id).hash_key_range(keys).sequence_number_range(numbers);
        let shard = shard.set_parent_shard_id(parent(0)).set_adjacent_parent_shard_id(parent(1));
        shard.build().expect("valid")
    }

    /// One that was split in two, of which one was merged with another.
    fn resharded() -> Vec<Shard> {
        vec![
            shard("0", &[], true),
            shard("1", &[], true),
            shard("2", &["0"], false),
            shard("3", &["0"], true),
            shard("4", &["3", "1"], false),
        ]
    }

    fn left(leases: &[(&str, Checkpoint)]) -> Result<Vec<String>, String> {
        let leases = leases.iter().map(|(shard, checkpoint)| ((*shard).to_owned(), checkpoint.clone())).collect();
        let name = |(shard, checkpoint): (String, Checkpoint)| match checkpoint {
            Checkpoint::After(number) => format!("{shard} after {number}"),
            _ => shard,
        };
        begin(&resharded(), &leases).map(|found| found.into_iter().map(name).collect())
    }

    #[test]
    fn what_resharding_leaves_behind_is_counted_once() {
        let after = |number: &str| Checkpoint::After(number.to_owned());
        // Still in the oldest: everything after it is unread from its beginning.
        let expected = vec!["0 after 7", "1 after 8", "2", "3", "4"];
        assert_eq!(
            left(&[("0", after("7")), ("1", after("8"))]),
            Ok(expected.into_iter().map(str::to_owned).collect())
        );
        // The oldest are done, one child is begun.
        let expected = vec!["2", "3 after 9", "4"].into_iter().map(str::to_owned).collect();
        assert_eq!(left(&[("0", Checkpoint::End), ("1", Checkpoint::End), ("3", after("9"))]), Ok(expected));
        // Leases of what is done are cleaned up.
        let expected = vec!["2 after 5", "4 after 6"].into_iter().map(str::to_owned).collect();
        assert_eq!(left(&[("2", after("5")), ("4", after("6"))]), Ok(expected));
    }

    #[test]
    fn a_shard_without_a_checkpoint_yet_is_unknown_and_never_nothing() {
        let after = Checkpoint::After("5".to_owned());
        for begins in [Checkpoint::Newest, Checkpoint::AtTime] {
            let error = left(&[("2", after.clone()), ("4", begins)]).expect_err("a worker may be behind there");
            assert!(error.contains("no checkpoint yet"), "{error}");
        }
    }

    #[test]
    fn an_open_shard_that_is_said_to_have_ended_is_unknown_and_never_nothing() {
        let error = left(&[("2", Checkpoint::End), ("4", Checkpoint::End)]).expect_err("both are open");
        assert!(error.contains("is open"), "{error}");
    }

    #[test]
    fn a_shard_that_nobody_has_begun_is_unknown_and_never_nothing() {
        for leases in [&[][..], &[("2", Checkpoint::Oldest)], &[("4", Checkpoint::End)]] {
            assert!(left(leases).is_err(), "{leases:?}");
        }
    }
}
