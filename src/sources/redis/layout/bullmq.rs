//! BullMQ's queues, and Bull's: <https://github.com/taskforcesh/bullmq/blob/v5.34.0/src/commands/getCounts-1.lua>.

use jiff::Timestamp;
use redis::Value;

use super::super::Settings;
use super::super::session::{Question, Session};
use super::list::around;
use super::{age, oldest, text};
use crate::core::QueueDepth;
use crate::error::Result;

/// The score of a delayed job is its time in milliseconds with a counter of twelve bits behind it.
const COUNTER: f64 = 4096.0;

/// Delayed jobs whose time has come count as waiting: only a worker moves them on, and there may be none. Those of a paused
/// queue, and those that wait for others, cannot be taken and count as delayed.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    let prefix = settings.key_prefix();
    let score = (now.as_millisecond() as f64).mul_add(COUNTER, COUNTER - 1.0);
    let (mut total, mut ages) =
        (QueueDepth { in_flight: Some(0), delayed: Some(0), ..QueueDepth::default() }, Vec::new());
    for queue in settings.queues() {
        let (before, questions) = ask(&format!("{prefix}{queue}:"), score);
        let last = session.ask(&before).await?;
        let is_paused = session.count(&before[2], &last[2])? != 0;
        let counts = session.counts(&questions).await?;
        let [children, aside, later, due, waiting, prioritized, active, is_known] = counts[..] else {
            return Err(session.malformed("the counts"));
        };
        if counts.iter().all(|&count| count == 0) && is_known == 0 {
            return Err(session.unknown_queue(queue, &[]));
        }
        let waiting = waiting.saturating_sub(marker(&last[0]));
        if 0 < waiting + prioritized && !is_paused {
            // Jobs with priorities lie in the order of these.
            let first = (prioritized == 0).then(|| text(&last[0])).flatten();
            ages.push(age_of(session, first, &format!("{prefix}{queue}:"), now).await?);
        }
        let ready = waiting + prioritized + due;
        let held = later + children + aside.saturating_sub(marker(&last[1]));
        // Older versions put a paused queue's jobs under a key of their own.
        let (ready, held) = if is_paused { (0, ready + held) } else { (ready, held) };
        total.backlog += ready;
        total.in_flight = total.in_flight.map(|sum| sum + active);
        total.delayed = total.delayed.map(|sum| sum + held);
    }
    total.oldest_age_secs = oldest(ages);
    Ok(total)
}

/// What is read of a queue: the ends of its lists and whether it is paused, and then the counts.
fn ask(queue: &str, score: f64) -> ([Question; 3], Vec<Question>) {
    let key = |state: &str| format!("{queue}{state}");
    let [wait, paused, meta] = [key("wait"), key("paused"), key("meta")];
    let before = [
        Question::new(["LINDEX", &wait, "-1"]),
        Question::new(["LINDEX", &paused, "-1"]),
        Question::new(["HEXISTS", &meta, "paused"]),
    ];
    let counts = [
        [Question::new(["ZCARD", &key("waiting-children")]), Question::new(["LLEN", &paused])],
        around(&key("delayed"), score),
        [Question::new(["LLEN", &wait]), Question::new(["ZCARD", &key("prioritized")])],
        [Question::new(["LLEN", &key("active")]), Question::new(["EXISTS", &meta])],
    ];
    (before, counts.concat())
}

/// Version 4 puts a marker, which is no job, among those that wait.
fn marker(last: &Value) -> u64 {
    u64::from(text(last).is_some_and(|id| id.starts_with("0:")))
}

async fn age_of(session: &mut Session<'_>, id: Option<String>, jobs: &str, now: Timestamp) -> Result<Option<u64>> {
    let Some(id) = id.filter(|id| !id.starts_with("0:")) else { return Ok(None) };
    let answers = session.ask(&[Question::new(["HGET", &format!("{jobs}{id}"), "timestamp"])]).await?;
    Ok(text(&answers[0]).and_then(|millis| age(now, millis.parse().ok()?)))
}
