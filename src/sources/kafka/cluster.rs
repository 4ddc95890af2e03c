//! What a cluster tells of topics and of a group's offsets.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use super::connection::{Connection, Dialer};
use super::lag::Offsets;
use super::protocol::{Broker, End, Metadata, Offset, Request, Topic, committed, coordinator, listed, meaning};
use crate::error::{Error, ErrorKind, Result};

/// A topic and a number of a partition.
type Key = (String, i32);

/// A cluster as the first broker that answered describes it.
pub(super) struct Cluster<'a> {
    dialer: &'a Dialer,
    brokers: Vec<Broker>,
    /// Each partition with its leader.
    leaders: BTreeMap<Key, i32>,
    /// Connections that can be asked more, so that each broker is connected to once.
    idle: Vec<Connection>,
}

impl<'a> Cluster<'a> {
    /// Asks the servers in turn, until one answers. Partitions are those in `only`, or all where it is empty.
    ///
    /// # Errors
    /// The first server's where none can be reached; else those of the first that can.
    pub async fn find(
        dialer: &'a Dialer,
        servers: &[(String, u16)],
        topics: &[&str],
        only: &BTreeSet<i32>,
    ) -> Result<Self> {
        let mut first = None;
        for (host, port) in servers {
            let described = async {
                let mut connection = dialer.connect(host, *port).await?;
                let metadata = connection.ask(&Request::metadata(topics), Metadata::read).await?;
                Ok::<_, Error>((connection, metadata))
            };
            match described.await {
                Ok((connection, Metadata { brokers, topics: described })) => {
                    let leaders = leaders(topics, &described, only)?;
                    return Ok(Self { dialer, brokers, leaders, idle: vec![connection] });
                }
                Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| Error::new(ErrorKind::Missing, "looking for a broker", "the cluster names none")))
    }

    /// The offsets of every partition. What is committed is asked before where partitions end, since both move on.
    ///
    /// # Errors
    /// Those of the brokers; one partition that cannot be told is an error of the whole.
    pub async fn offsets(mut self, group: &str) -> Result<Vec<Offsets>> {
        let committed = self.committed(group).await?;
        let mut by_leader = BTreeMap::<i32, Vec<Key>>::new();
        for (key, leader) in &self.leaders {
            by_leader.entry(*leader).or_default().push(key.clone());
        }
        let mut asked = Vec::new();
        for (leader, keys) in by_leader {
            let broker = self.brokers.iter().find(|broker| broker.id == leader).cloned();
            let unknown = || {
                let cause = format!("broker {leader} leads it, and the cluster does not say where that is");
                Error::new(ErrorKind::Unavailable, of(&keys[0]), cause)
            };
            let broker = broker.ok_or_else(unknown)?;
            let known = self.known(&broker.host, broker.port);
            asked.push(ends(self.dialer, known, broker, keys));
        }
        let ends: BTreeMap<_, _> = try_join_all(asked).await?.into_iter().flatten().collect();
        let offsets = |(key, committed): (Key, i64)| {
            let (earliest, latest) = ends.get(&key).copied().ok_or_else(|| missing(&key))?;
            let (topic, partition) = key;
            let committed = Some(committed).filter(|committed| *committed != -1);
            Ok(Offsets { topic, partition, committed, earliest, latest })
        };
        committed.into_iter().map(offsets).collect()
    }

    async fn committed(&mut self, group: &str) -> Result<BTreeMap<Key, i64>> {
        let during = || format!("reading what group {group:?} has committed");
        let refused = |code: i16| {
            let (kind, cause) = meaning(code);
            Error::new(kind, during(), cause)
        };
        let mut connection = self.idle.pop().expect("find leaves one");
        let (error, keeper) = connection.ask(&Request::find_coordinator(group), coordinator).await?;
        if error != 0 {
            return Err(refused(error));
        }
        self.idle.push(connection);
        let mut connection = match self.known(&keeper.host, keeper.port) {
            Some(known) => known,
            None => self.dialer.connect(&keeper.host, keeper.port).await?,
        };
        let keys: Vec<_> = self.leaders.keys().cloned().collect();
        let request = Request::offset_fetch(group, &by_topic(&keys));
        let (error, offsets) = connection.ask(&request, committed).await?;
        if error != 0 {
            return Err(refused(error));
        }
        self.idle.push(connection);
        each(&keys, offsets)
    }

    fn known(&mut self, host: &str, port: u16) -> Option<Connection> {
        let at = self.idle.iter().position(|connection| connection.leads_to(host, port))?;
        Some(self.idle.swap_remove(at))
    }
}

/// The leader of each partition that is asked for.
fn leaders(asked: &[&str], described: &[Topic], only: &BTreeSet<i32>) -> Result<BTreeMap<Key, i32>> {
    let mut leaders = BTreeMap::new();
    for name in asked {
        let wrong = |kind: ErrorKind, cause: String| Error::new(kind, format!("describing topic {name:?}"), cause);
        let topic = described.iter().find(|topic| topic.name == *name);
        let topic = topic.ok_or_else(|| wrong(ErrorKind::Missing, "the answer has no such topic".to_owned()))?;
        if topic.error != 0 {
            let (kind, cause) = meaning(topic.error);
            return Err(wrong(kind, cause));
        }
        let exists = |index: &i32| topic.partitions.iter().any(|partition| partition.index == *index);
        if let Some(index) = only.iter().find(|index| !exists(index)) {
            let cause = format!("it has no partition {index}, which limit_to_partitions names");
            return Err(wrong(ErrorKind::NotFound, cause));
        }
        if topic.partitions.is_empty() {
            return Err(wrong(ErrorKind::Missing, "it has no partitions".to_owned()));
        }
        for partition in topic.partitions.iter().filter(|it| only.is_empty() || only.contains(&it.index)) {
            let key = ((*name).to_owned(), partition.index);
            // 9 says that a replica is missing, which the leader is not.
            let (kind, cause) = match (partition.error, partition.leader) {
                (0 | 9, 0..) => {
                    leaders.insert(key, partition.leader);
                    continue;
                }
                (0 | 9, _) => meaning(5),
                (code, _) => meaning(code),
            };
            return Err(Error::new(kind, of(&key), cause));
        }
    }
    Ok(leaders)
}

/// Where partitions of one leader begin and end. The beginning is asked first, since it only ever moves towards the end.
async fn ends(
    dialer: &Dialer,
    known: Option<Connection>,
    leader: Broker,
    keys: Vec<Key>,
) -> Result<Vec<(Key, (i64, i64))>> {
    let mut connection = match known {
        Some(known) => known,
        None => dialer.connect(&leader.host, leader.port).await?,
    };
    let topics = by_topic(&keys);
    let earliest = connection.ask(&Request::list_offsets(End::Earliest, &topics), listed).await?;
    let latest = connection.ask(&Request::list_offsets(End::Latest, &topics), listed).await?;
    let (earliest, latest) = (each(&keys, earliest)?, each(&keys, latest)?);
    Ok(earliest.into_iter().zip(latest).map(|((key, earliest), (_, latest))| (key, (earliest, latest))).collect())
}

/// The answer for every partition that was asked for.
fn each(keys: &[Key], answers: Vec<Offset>) -> Result<BTreeMap<Key, i64>> {
    let mut found = BTreeMap::new();
    for Offset { topic, partition, error, offset } in answers {
        let key = (topic, partition);
        if error != 0 {
            let (kind, cause) = meaning(error);
            return Err(Error::new(kind, of(&key), cause));
        }
        found.insert(key, offset);
    }
    let offset = |key: &Key| found.get(key).map(|offset| (key.clone(), *offset)).ok_or_else(|| missing(key));
    keys.iter().map(offset).collect()
}

fn by_topic(keys: &[Key]) -> Vec<(&str, Vec<i32>)> {
    let mut topics = BTreeMap::<&str, Vec<i32>>::new();
    for (topic, partition) in keys {
        topics.entry(topic).or_default().push(*partition);
    }
    topics.into_iter().collect()
}

fn of((topic, partition): &Key) -> String {
    format!("reading partition {partition} of topic {topic:?}")
}

fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::Missing, of(key), "the answer does not have it")
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Partition;
    use super::*;

    fn found(error: i16, partitions: &[(i16, i32, i32)], only: &[i32]) -> Result<BTreeMap<Key, i32>> {
        let partitions = partitions.iter().map(|&(error, index, leader)| Partition { error, index, leader }).collect();
        let topic = Topic { error, name: "orders".to_owned(), partitions };
        leaders(&["orders"], &[topic], &only.iter().copied().collect())
    }

    #[test]
    fn one_partition_that_cannot_be_told_is_an_error_of_the_whole() {
        let both = found(0, &[(0, 0, 1), (9, 1, 2)], &[]).expect("both have a leader");
        assert_eq!(both.into_values().collect::<Vec<_>>(), [1, 2]);
        for (error, partitions, only, kind, says) in [
            (0, &[(0, 0, 1), (5, 1, -1)][..], &[][..], ErrorKind::Unavailable, "partition 1"),
            (0, &[(0, 0, 1), (0, 1, -1)], &[], ErrorKind::Unavailable, "no leader"),
            (0, &[(0, 0, 1)], &[0, 4], ErrorKind::NotFound, "no partition 4"),
            (0, &[], &[], ErrorKind::Missing, "no partitions"),
            (3, &[], &[], ErrorKind::NotFound, "does not exist"),
            (29, &[], &[], ErrorKind::Denied, "kafka-cluster:DescribeTopic"),
            (5, &[], &[], ErrorKind::Unavailable, "leader"),
        ] {
            let error = found(error, partitions, only).expect_err("it cannot be told");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert_eq!(leaders(&["orders"], &[], &BTreeSet::new()).expect_err("not there").kind(), ErrorKind::Missing);
        let limited = found(0, &[(0, 0, 1), (5, 1, -1)], &[0]).expect("the other is not asked for");
        assert_eq!(limited.len(), 1);
    }

    #[test]
    fn a_partition_that_is_not_in_the_answer_is_missing_and_never_left_out() {
        let keys: Vec<Key> = (0..2).map(|partition| ("orders".to_owned(), partition)).collect();
        let answer = |partition: i32, error: i16| Offset { topic: "orders".to_owned(), partition, error, offset: 7 };
        assert_eq!(each(&keys, vec![answer(0, 0), answer(1, 0)]).expect("both are there").len(), 2);
        assert_eq!(each(&keys, vec![answer(0, 0)]).expect_err("one is not").kind(), ErrorKind::Missing);
        assert_eq!(each(&keys, vec![answer(0, 0), answer(1, 6)]).expect_err("moved").kind(), ErrorKind::Unavailable);
    }
}
