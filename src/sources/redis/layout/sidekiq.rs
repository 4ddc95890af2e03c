//! Sidekiq's queues: <https://github.com/sidekiq/sidekiq/blob/v7.3.0/lib/sidekiq/api.rb>.
//!
//! A process pops a job and keeps it to itself; it reports how many it works on every ten seconds, for all its queues together.

use std::collections::BTreeSet;

use jiff::Timestamp;
use redis::Value;
use serde::Deserialize;

use super::super::Settings;
use super::super::session::{Question, Session};
use super::{MOST_SHARED, age, oldest, text, texts};
use crate::core::QueueDepth;
use crate::error::{ErrorKind, Result};

/// Jobs that are scheduled or to be tried again, and whose time has come, count as waiting: only a process moves them to their
/// queues, and there may be none.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    let prefix = settings.key_prefix();
    let queues: Vec<_> = settings.queues().collect();
    let (mut due, mut later) = (vec![0; queues.len()], Some(vec![0; queues.len()]));
    for set in ["schedule", "retry"] {
        let (now_due, then) = timed(session, &format!("{prefix}{set}"), &queues, now).await?;
        due = sums(&due, &now_due);
        later = later.zip(then).map(|(sum, more)| sums(&sum, &more));
    }
    let mut questions = Vec::new();
    for queue in &queues {
        questions.push(Question::new(["LLEN", &format!("{prefix}queue:{queue}")]));
        questions.push(Question::new(["SISMEMBER", &format!("{prefix}queues"), queue]));
    }
    let counts = session.counts(&questions).await?;
    let (mut waiting, mut ages) = (0, Vec::new());
    for (at, (queue, count)) in queues.iter().zip(counts.chunks(2)).enumerate() {
        match later.as_ref().map(|later| later[at]) {
            _ if count != [0, 0] || 0 < due[at] => {}
            Some(0) => return Err(unknown(session, queue, prefix).await?),
            Some(_) => {}
            None => return Err(untold(session, queue)),
        }
        if 0 < count[0] {
            ages.push(age_of_first(session, &format!("{prefix}queue:{queue}"), now).await?);
        }
        waiting += count[0];
    }
    let in_flight = in_flight(session, prefix, &queues).await?;
    let (backlog, delayed) = (waiting + due.iter().sum::<u64>(), later.map(|later| later.iter().sum()));
    Ok(QueueDepth { backlog, in_flight, delayed, oldest_age_secs: oldest(ages), ..QueueDepth::default() })
}

fn sums(some: &[u64], others: &[u64]) -> Vec<u64> {
    some.iter().zip(others).map(|(one, other)| one + other).collect()
}

/// A queue is registered when the first job is put into it, and one whose jobs are all for later is not yet.
fn untold(session: &Session<'_>, queue: &str) -> crate::error::Error {
    let cause = format!(
        "nothing was ever put into a queue {queue:?}, and whether some of it is for later cannot be told: more than \
         {MOST_SHARED} jobs of all queues are scheduled or to be tried again"
    );
    session.error(ErrorKind::Missing, cause)
}

async fn unknown(session: &mut Session<'_>, queue: &str, prefix: &str) -> Result<crate::error::Error> {
    let answers = session.ask(&[Question::new(["SRANDMEMBER", &format!("{prefix}queues"), "5"])]).await?;
    Ok(session.unknown_queue(queue, &texts(&answers[0]).unwrap_or_default()))
}

/// What is read of a job.
#[derive(Deserialize)]
struct Job {
    queue: Option<String>,
    enqueued_at: Option<f64>,
}

/// How many jobs of each of these queues in a set of all queues are due, and how many come later, if those can be told apart.
async fn timed(
    session: &mut Session<'_>,
    set: &str,
    queues: &[&str],
    now: Timestamp,
) -> Result<(Vec<u64>, Option<Vec<u64>>)> {
    let now = now.as_millisecond() as f64 / 1000.0;
    let most = MOST_SHARED.to_string();
    let range = |from: &str, to: &str| Question::new(["ZRANGEBYSCORE", set, from, to, "LIMIT", "0", &most]);
    let (after, now) = (format!("({now}"), now.to_string());
    let counts = session
        .counts(&[Question::new(["ZCOUNT", set, &after, "+inf"]), Question::new(["ZCOUNT", set, "-inf", &now])])
        .await?;
    let (later, due) = (counts[0], counts[1]);
    if MOST_SHARED < due {
        let cause = format!(
            "{due} jobs of all queues are due in {set:?}, too many to tell whose they are; no Sidekiq process moves them on"
        );
        return Err(session.error(ErrorKind::Missing, cause));
    }
    let due = match due {
        0 => vec![0; queues.len()],
        _ => of_queues(session, range("-inf", &now), queues).await?,
    };
    let later = match later {
        0 => Some(vec![0; queues.len()]),
        few if few <= MOST_SHARED => Some(of_queues(session, range(&after, "+inf"), queues).await?),
        _ => None,
    };
    Ok((due, later))
}

async fn of_queues(session: &mut Session<'_>, range: Question, queues: &[&str]) -> Result<Vec<u64>> {
    let shown = range.shown();
    let answers = session.ask(&[range]).await?;
    let malformed = || session.malformed(&shown);
    let jobs = texts(&answers[0]).ok_or_else(malformed)?;
    let mut counts = vec![0; queues.len()];
    for job in jobs {
        let job: Job = serde_json::from_str(&job).map_err(|_| malformed())?;
        let queue = job.queue.ok_or_else(malformed)?;
        counts.iter_mut().zip(queues).for_each(|(count, name)| *count += u64::from(*name == queue));
    }
    Ok(counts)
}

/// The job that is taken next was put there first. Version 8 tells times in milliseconds, older ones in seconds.
async fn age_of_first(session: &mut Session<'_>, list: &str, now: Timestamp) -> Result<Option<u64>> {
    let answers = session.ask(&[Question::new(["LINDEX", list, "-1"])]).await?;
    let job = text(&answers[0]).and_then(|job| serde_json::from_str::<Job>(&job).ok());
    Ok(job.and_then(|job| job.enqueued_at).and_then(|at| age(now, if at < 1e11 { at * 1000.0 } else { at } as i64)))
}

/// What a process says of itself.
#[derive(Deserialize)]
struct Process {
    queues: BTreeSet<String>,
}

/// How many jobs are worked on by processes that serve none but these queues, if none serves others as well.
async fn in_flight(session: &mut Session<'_>, prefix: &str, queues: &[&str]) -> Result<Option<u64>> {
    let answers = session.ask(&[Question::new(["SMEMBERS", &format!("{prefix}processes")])]).await?;
    let processes = texts(&answers[0]).ok_or_else(|| session.malformed("SMEMBERS of \"processes\""))?;
    let key = |process: &String| format!("{prefix}{process}");
    let questions: Vec<_> =
        processes.iter().map(|process| Question::new(["HMGET", &key(process), "info", "busy"])).collect();
    if questions.is_empty() {
        return Ok(Some(0));
    }
    let mut count = 0;
    for answer in session.ask(&questions).await? {
        let Value::Array(parts) = answer else { return Err(session.malformed("HMGET")) };
        // One that died keeps its name in the set for a while.
        let (Some(info), Some(busy)) = (parts.first().and_then(text), parts.get(1).and_then(text)) else { continue };
        let Ok(Process { queues: its }) = serde_json::from_str(&info) else { return Ok(None) };
        let busy: u64 = busy.parse().map_err(|_| session.malformed("HMGET"))?;
        let wanted = its.iter().filter(|queue| queues.contains(&queue.as_str())).count();
        match busy {
            0 => {}
            _ if wanted == its.len() => count += busy,
            _ if wanted == 0 => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(count))
}
