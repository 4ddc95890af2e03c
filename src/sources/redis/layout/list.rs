//! Lists and sorted sets, with a key for what is being worked on.

use jiff::Timestamp;

use super::super::session::{Question, Session};
use super::super::{Scores, Settings};
use crate::core::QueueDepth;
use crate::error::{ErrorKind, Result};

/// The elements of lists. A list that is empty is not there, so that one that is not there is empty.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings) -> Result<QueueDepth> {
    let questions: Vec<_> = settings.queues().map(|key| Question::new(["LLEN", key])).collect();
    let backlog = session.counts(&questions).await?.into_iter().sum();
    let in_flight = in_flight(session, settings).await?;
    Ok(QueueDepth { backlog, in_flight, ..QueueDepth::default() })
}

/// The members of sorted sets; where scores are times, those whose time has come, and those whose has not.
pub(super) async fn sorted(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    let (backlog, delayed) = match settings.scores {
        None => {
            let questions: Vec<_> = settings.queues().map(|key| Question::new(["ZCARD", key])).collect();
            (session.counts(&questions).await?.into_iter().sum(), None)
        }
        Some(scores) => {
            let now = match scores {
                Scores::Seconds => now.as_millisecond() as f64 / 1000.0,
                Scores::Milliseconds => now.as_millisecond() as f64,
            };
            let questions: Vec<_> = settings.queues().flat_map(|key| around(key, now)).collect();
            let (delayed, due) = halves(&session.counts(&questions).await?);
            (due, Some(delayed))
        }
    };
    let in_flight = in_flight(session, settings).await?;
    Ok(QueueDepth { backlog, in_flight, delayed, ..QueueDepth::default() })
}

/// How many members come later, and how many are due.
pub(super) fn around(key: &str, now: f64) -> [Question; 2] {
    [
        Question::new(["ZCOUNT", key, &format!("({now}"), "+inf"]),
        Question::new(["ZCOUNT", key, "-inf", &now.to_string()]),
    ]
}

/// The sums of every first and every second count.
pub(super) fn halves(counts: &[u64]) -> (u64, u64) {
    counts
        .chunks(2)
        .fold((0, 0), |(first, second), pair| (first + pair[0], second + pair.get(1).copied().unwrap_or_default()))
}

async fn in_flight(session: &mut Session<'_>, settings: &Settings) -> Result<Option<u64>> {
    let Some(key) = &settings.processing_key else { return Ok(None) };
    let command = match session.kind_of(key).await?.as_str() {
        "none" => return Ok(Some(0)),
        "list" => "LLEN",
        "set" => "SCARD",
        "hash" => "HLEN",
        "zset" => "ZCARD",
        other => {
            let cause = format!("processing_key {key:?} is a {other}, and not a list, set, hash or sorted set");
            return Err(session.error(ErrorKind::Config, cause));
        }
    };
    Ok(session.counts(&[Question::new([command, key])]).await?.first().copied())
}
