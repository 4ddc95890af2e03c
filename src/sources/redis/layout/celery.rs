//! Celery's queues, as kombu 5.7 lays them out:
//! <https://github.com/celery/kombu/blob/v5.7.0/kombu/transport/redis.py>.
//!
//! A queue is a list for each step of priority: `celery`, `celery\x06\x163` and so on. A worker takes four tasks for each of its
//! processes in advance (and tasks with an ETA without end), which then are in the hash `unacked` of all queues together, with
//! the exchange and the routing key that brought each. Which queue that was is said by the bindings.
//!
//! Celery acknowledges a task when it begins, and a task that runs is then nowhere in Redis; with `task_acks_late` it is in flight
//! until it ends.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;
use serde::Deserialize;

use super::super::Settings;
use super::super::session::{Question, Session};
use super::{MOST_SHARED, texts};
use crate::core::QueueDepth;
use crate::error::Result;

/// Most bytes of unacknowledged tasks that are read to tell whose they are: 8 MiB.
const LONGEST_UNACKED: u64 = 8 << 20;

/// What kombu puts between the parts of a name.
pub(in super::super) const SEPARATOR: &str = "\x06\x16";

pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings) -> Result<QueueDepth> {
    let prefix = settings.key_prefix();
    let separator = settings.separator.as_deref().unwrap_or(SEPARATOR);
    let steps = settings.priority_steps.as_deref().unwrap_or(&[3, 6, 9]);
    let mut questions = Vec::new();
    for queue in settings.queues() {
        questions.push(Question::new(["LLEN", &format!("{prefix}{queue}")]));
        for step in steps.iter().filter(|&&step| step != 0) {
            questions.push(Question::new(["LLEN", &format!("{prefix}{queue}{separator}{step}")]));
        }
    }
    let unacked = format!("{prefix}unacked");
    questions.push(Question::new(["HLEN", &unacked]));
    let mut counts = session.counts(&questions).await?;
    let in_flight = match counts.pop().expect("HLEN was the last question") {
        0 => Some(0),
        few if few <= MOST_SHARED => of_wanted(session, settings, &unacked).await?,
        _ => None,
    };
    Ok(QueueDepth { backlog: counts.into_iter().sum(), in_flight, ..QueueDepth::default() })
}

/// An unacknowledged task: the message, its exchange and its routing key.
#[derive(Deserialize)]
struct Unacked(serde::de::IgnoredAny, String, String);

/// How many unacknowledged tasks are of the wanted queues, if that can be told.
async fn of_wanted(session: &mut Session<'_>, settings: &Settings, unacked: &str) -> Result<Option<u64>> {
    let size = session.ask(&[Question::new(["MEMORY", "USAGE", unacked, "SAMPLES", "0"])]).await?;
    match &size[0] {
        Value::Nil => return Ok(Some(0)),
        Value::Int(size) if u64::try_from(*size).is_ok_and(|size| size <= LONGEST_UNACKED) => {}
        _ => return Ok(None),
    }
    let answers = session.ask(&[Question::new(["HVALS", unacked])]).await?;
    let tasks = texts(&answers[0]).ok_or_else(|| session.malformed("HVALS of \"unacked\""))?;
    let tasks: Result<Vec<Unacked>, _> = tasks.iter().map(|task| serde_json::from_str(task)).collect();
    let tasks = tasks.map_err(|_| session.malformed("HVALS of \"unacked\""))?;
    let bindings = bindings(session, settings, &tasks).await?;
    let wanted: BTreeSet<&str> = settings.queues().collect();
    let mut count = 0;
    for Unacked(_, exchange, key) in &tasks {
        let is_wanted = match exchange.as_str() {
            "" => wanted.contains(key.as_str()),
            exchange => {
                let bound = bindings.get(exchange).into_iter().flatten().filter(|(its, _)| its == key);
                let mut queues = bound.map(|(_, queue)| wanted.contains(queue.as_str())).peekable();
                if queues.peek().is_none() {
                    return Ok(None);
                }
                queues.any(|is_wanted| is_wanted)
            }
        };
        count += u64::from(is_wanted);
    }
    Ok(Some(count))
}

/// The routing keys and queues that are bound to each exchange of these tasks.
async fn bindings(
    session: &mut Session<'_>,
    settings: &Settings,
    tasks: &[Unacked],
) -> Result<BTreeMap<String, Vec<(String, String)>>> {
    let exchanges: BTreeSet<&String> = tasks.iter().map(|Unacked(_, exchange, _)| exchange).collect();
    let exchanges: Vec<_> = exchanges.into_iter().filter(|exchange| !exchange.is_empty()).collect();
    let (prefix, separator) = (settings.key_prefix(), settings.separator.as_deref().unwrap_or(SEPARATOR));
    let key = |exchange: &&String| format!("{prefix}_kombu.binding.{exchange}");
    let questions: Vec<_> = exchanges.iter().map(|exchange| Question::new(["SMEMBERS", &key(exchange)])).collect();
    if questions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let answers = session.ask(&questions).await?;
    let bound = |answer: &Value| {
        let members = texts(answer).unwrap_or_default();
        let parts = |member: &String| {
            let mut parts = member.split(separator);
            Some((parts.next()?.to_owned(), parts.nth(1)?.to_owned()))
        };
        members.iter().filter_map(parts).collect()
    };
    Ok(exchanges.into_iter().zip(&answers).map(|(exchange, answer)| (exchange.clone(), bound(answer))).collect())
}
