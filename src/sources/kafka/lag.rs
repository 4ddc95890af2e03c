//! From offsets to lag.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// What counts in a partition for which the group has committed no offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum NoCommittedOffset {
    /// Nothing can be said, unless the partition holds no records.
    #[default]
    Error,
    /// All records that it holds, as for a group whose `auto.offset.reset` is `earliest`.
    Earliest,
    /// None, as for a group whose `auto.offset.reset` is `latest`: what comes before the group's first commit is not seen.
    Latest,
}

/// A partition's offsets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offsets {
    pub topic: String,
    pub partition: i32,
    /// The next record that the group will read.
    pub committed: Option<i64>,
    /// The first record that is kept.
    pub earliest: i64,
    /// Behind the last record.
    pub latest: i64,
}

impl Offsets {
    /// The records that wait; none where no offset was committed and that is not decided.
    ///
    /// A committed offset before the first record that is kept means that all of them wait: what was deleted unread does not.
    fn lag(&self, policy: NoCommittedOffset) -> Result<Option<u64>> {
        let Self { topic, partition, committed, earliest, latest } = self;
        let wrong = |cause: String| {
            let during = format!("reading the lag of partition {partition} of topic {topic:?}");
            Err(Error::new(ErrorKind::Malformed, during, cause))
        };
        if *earliest < 0 || latest < earliest || committed.is_some_and(|committed| committed < 0) {
            return wrong(format!("its offsets cannot be: {earliest} to {latest}, committed {committed:?}"));
        }
        let from = match (committed, policy) {
            (Some(committed), _) if latest < committed => {
                return wrong(format!(
                    "the group has committed offset {committed}, behind the end at {latest}; was the topic made anew? \
                     reset the group's offsets"
                ));
            }
            (Some(committed), _) => committed.max(earliest),
            (None, NoCommittedOffset::Error) if earliest < latest => return Ok(None),
            (None, NoCommittedOffset::Latest) => latest,
            (None, NoCommittedOffset::Error | NoCommittedOffset::Earliest) => earliest,
        };
        Ok(Some(latest.abs_diff(*from)))
    }
}

/// The records that wait in all partitions. One that cannot be told is an error of the whole.
pub(super) fn total(group: &str, all: &[Offsets], policy: NoCommittedOffset) -> Result<u64> {
    let (mut sum, mut undecided) = (0_u64, Vec::new());
    for offsets in all {
        match offsets.lag(policy)? {
            Some(lag) => sum = sum.saturating_add(lag),
            None => undecided.push(offsets),
        }
    }
    let Some(first) = undecided.first() else { return Ok(sum) };
    let during = format!("reading what group {group:?} has committed for topic {:?}", first.topic);
    let has_committed = |offsets: &Offsets| offsets.topic == first.topic && offsets.committed.is_some();
    Err(match all.iter().any(has_committed) {
        false => {
            let cause = "nothing, or there is no such group; check consumer_group, or set no_committed_offset to what the \
                         group's auto.offset.reset is";
            Error::new(ErrorKind::NotFound, during, cause)
        }
        true => {
            let partitions: Vec<_> = undecided.iter().map(|offsets| offsets.partition.to_string()).take(20).collect();
            let cause = format!(
                "nothing for partitions with records: {}; set no_committed_offset to what the group's \
                 auto.offset.reset is",
                partitions.join(", ")
            );
            Error::new(ErrorKind::Missing, during, cause)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(partition: i32, committed: Option<i64>, earliest: i64, latest: i64) -> Offsets {
        Offsets { topic: "orders".to_owned(), partition, committed, earliest, latest }
    }

    fn lag(all: &[Offsets], policy: NoCommittedOffset) -> Result<u64> {
        total("billing", all, policy)
    }

    #[test]
    fn lag_is_what_is_kept_and_not_yet_committed() {
        for (committed, earliest, latest, expected) in
            [(0, 0, 0, 0), (7, 0, 10, 3), (10, 0, 10, 0), (7, 8, 10, 2), (0, 10, 10, 0), (0, 0, i64::MAX, i64::MAX)]
        {
            let all = [offsets(0, Some(committed), earliest, latest)];
            let expected = u64::try_from(expected).expect("it is positive");
            assert_eq!(lag(&all, NoCommittedOffset::Error).expect("it is a lag"), expected);
        }
        let two = [offsets(0, Some(1), 0, 5), offsets(1, Some(2), 0, 5)];
        assert_eq!(lag(&two, NoCommittedOffset::Error).expect("it is a lag"), 7);
    }

    #[test]
    fn a_committed_offset_behind_the_end_is_an_error_and_never_zero() {
        for policy in [NoCommittedOffset::Error, NoCommittedOffset::Latest, NoCommittedOffset::Earliest] {
            let error =
                lag(&[offsets(0, Some(1), 0, 5), offsets(3, Some(12), 0, 5)], policy).expect_err("it cannot be");
            assert_eq!(error.kind(), ErrorKind::Malformed);
            for part in ["partition 3", "offset 12", "end at 5"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
        for (committed, earliest, latest) in [(None, -1, 5), (None, 5, 4), (Some(-2), 0, 5), (None, i64::MIN, i64::MAX)]
        {
            let error =
                lag(&[offsets(0, committed, earliest, latest)], NoCommittedOffset::Latest).expect_err("it cannot be");
            assert_eq!(error.kind(), ErrorKind::Malformed);
        }
    }

    #[test]
    fn a_partition_without_a_commit_is_decided_by_the_setting_and_never_left_out() {
        let all = [offsets(0, Some(4), 0, 5), offsets(1, None, 2, 10), offsets(2, None, 3, 3)];
        assert_eq!(lag(&all, NoCommittedOffset::Latest).expect("decided"), 1);
        assert_eq!(lag(&all, NoCommittedOffset::Earliest).expect("decided"), 9);
        let error = lag(&all, NoCommittedOffset::Error).expect_err("it is not decided");
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.to_string().contains("with records: 1;"), "{error}");
        let nothing = lag(&all[1..], NoCommittedOffset::Error).expect_err("nothing was committed");
        assert_eq!(nothing.kind(), ErrorKind::NotFound);
        // Where no records are kept, none wait, whatever the group will do.
        assert_eq!(lag(&all[2..], NoCommittedOffset::Error).expect("nothing is there"), 0);
    }
}
