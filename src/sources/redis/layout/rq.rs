//! RQ's queues: <https://github.com/rq/rq/blob/v2.6.0/rq/registry.py>.

use jiff::Timestamp;
use redis::Value;

use super::super::Settings;
use super::super::session::{Question, Session};
use super::list::around;
use super::{age, oldest, text, texts};
use crate::core::QueueDepth;
use crate::error::Result;

/// Scheduled jobs whose time has come count as waiting: only a worker moves them to the queue, and there may be none. A started
/// job whose time is over does not count, since its worker is gone.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    let prefix = settings.key_prefix();
    let seconds = now.as_millisecond() as f64 / 1000.0;
    let (mut total, mut ages) =
        (QueueDepth { in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() }, Vec::new());
    for queue in settings.queues() {
        let key = |registry: &str| format!("{prefix}{registry}:{queue}");
        let list = key("queue");
        let questions = [
            [Question::new(["ZCARD", &key("deferred")]), Question::new(["ZCARD", &key("ready")])],
            around(&key("scheduled"), seconds),
            [Question::new(["LLEN", &list]), Question::new(["LLEN", &format!("{list}:intermediate")])],
            [
                Question::new(["ZCOUNT", &key("wip"), &format!("({seconds}"), "+inf"]),
                Question::new(["SISMEMBER", &format!("{prefix}queues"), &list]),
            ],
        ]
        .concat();
        let counts = session.counts(&questions).await?;
        let [deferred, ready, later, due, waiting, taken, started, is_known] = counts[..] else {
            return Err(session.malformed("the counts"));
        };
        if counts.iter().all(|&count| count == 0) && is_known == 0 {
            return Err(unknown(session, queue, prefix).await?);
        }
        if 0 < waiting {
            ages.push(age_of_first(session, &list, prefix, now).await?);
        }
        total.backlog += waiting + due + ready;
        total.in_flight = total.in_flight.map(|sum| sum + started + taken);
        total.delayed = total.delayed.map(|sum| sum + deferred + later);
    }
    total.oldest_age_secs = oldest(ages);
    Ok(total)
}

async fn unknown(session: &mut Session<'_>, queue: &str, prefix: &str) -> Result<crate::error::Error> {
    let answers = session.ask(&[Question::new(["SRANDMEMBER", &format!("{prefix}queues"), "5"])]).await?;
    let known = texts(&answers[0]).unwrap_or_default();
    let names: Vec<_> = known.iter().filter_map(|key| key.strip_prefix(&format!("{prefix}queue:"))).collect();
    Ok(session.unknown_queue(queue, &names.into_iter().map(str::to_owned).collect::<Vec<_>>()))
}

/// The job that is taken next was put there first; its hash says when.
async fn age_of_first(session: &mut Session<'_>, list: &str, prefix: &str, now: Timestamp) -> Result<Option<u64>> {
    let first = session.ask(&[Question::new(["LINDEX", list, "0"])]).await?;
    let Some(id) = text(&first[0]) else { return Ok(None) };
    let answers = session.ask(&[Question::new(["HGET", &format!("{prefix}job:{id}"), "enqueued_at"])]).await?;
    let at = match &answers[0] {
        Value::Nil => None,
        answer => text(answer).and_then(|at| at.parse::<Timestamp>().ok()),
    };
    Ok(at.and_then(|at| age(now, at.as_millisecond())))
}
