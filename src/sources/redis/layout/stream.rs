//! Streams: <https://redis.io/docs/latest/commands/xinfo-groups/>.

use std::collections::BTreeMap;

use jiff::Timestamp;
use redis::Value;

use super::super::Settings;
use super::super::session::{Question, Session};
use super::{MOST_READ, age, oldest, text};
use crate::core::QueueDepth;
use crate::error::{ErrorKind, Result};

/// Entries that are read at once where they must be counted one by one.
const PAGE: usize = 250;

/// What the group has not been given yet, and what it has not acknowledged. Without a group, the entries that there are.
pub(super) async fn depth(session: &mut Session<'_>, settings: &Settings, now: Timestamp) -> Result<QueueDepth> {
    let (mut total, mut ages) = (QueueDepth::default(), Vec::new());
    let mut completed = settings.consumer_group.as_ref().map(|_| 0_u64);
    for key in settings.queues() {
        let Some(group) = &settings.consumer_group else {
            // Streams do not vanish when they are empty, as lists do: one that is not there is an error here.
            let answers = session.ask(&[Question::new(["XINFO", "STREAM", key])]).await?;
            let length = fields(&answers[0]).and_then(|found| number(found.get("length")?));
            let length = length.ok_or_else(|| session.malformed("XINFO STREAM"))?;
            total.backlog += length;
            if 0 < length {
                ages.push(age_after(session, key, "0", now).await?);
            }
            continue;
        };
        let group = read_group(session, key, group).await?;
        let waiting = match group.lag {
            // A lag above the length counts what was trimmed since: <https://github.com/redis/redis/pull/13958>. One of 0 may
            // come from a group that was made with a wrong ENTRIESREAD, and costs little to make sure of.
            Some(lag) if 0 < lag && lag <= group.length => lag,
            _ if group.length == 0 => 0,
            _ => count_after(session, key, &group.last).await?,
        };
        if 0 < waiting {
            ages.push(age_after(session, key, &group.last, now).await?);
        }
        total.backlog += waiting;
        total.in_flight = Some(total.in_flight.unwrap_or_default() + group.pending);
        completed = completed.zip(group.acknowledged).map(|(sum, count)| sum.saturating_add(count));
    }
    total.completed = completed;
    total.oldest_age_secs = oldest(ages);
    Ok(total)
}

struct Group {
    /// Entries in the stream.
    length: u64,
    pending: u64,
    /// The last entry that the group was given.
    last: String,
    /// Since Redis 7; null where entries between were deleted.
    lag: Option<u64>,
    /// What it was given and is not pending. Since Redis 7, unless it cannot tell how much it was given.
    acknowledged: Option<u64>,
}

async fn read_group(session: &mut Session<'_>, key: &str, name: &str) -> Result<Group> {
    let questions = [Question::new(["XINFO", "GROUPS", key]), Question::new(["XLEN", key])];
    let answers = session.ask(&questions).await?;
    let length = session.count(&questions[1], &answers[1])?;
    let Value::Array(groups) = &answers[0] else { return Err(session.malformed("XINFO GROUPS")) };
    let groups: Option<Vec<_>> = groups.iter().map(fields).collect();
    let groups = groups.ok_or_else(|| session.malformed("XINFO GROUPS"))?;
    let name_of = |group: &BTreeMap<String, &Value>| group.get("name").and_then(|name| text(name));
    let Some(found) = groups.iter().find(|group| name_of(group).as_deref() == Some(name)) else {
        let others: Vec<_> = groups.iter().filter_map(name_of).take(5).collect();
        let there = match others.is_empty() {
            true => "the stream has none".to_owned(),
            false => format!("the stream has {}", others.join(", ")),
        };
        let cause = format!("stream {key:?} has no consumer group {name:?}; {there}");
        return Err(session.error(ErrorKind::NotFound, cause));
    };
    let missing = |field: &str| session.error(ErrorKind::Missing, format!("XINFO GROUPS of {key:?} has no {field}"));
    let pending = found.get("pending").and_then(|it| number(it)).ok_or_else(|| missing("pending"))?;
    let given = found.get("entries-read").and_then(|it| number(it));
    Ok(Group {
        length,
        pending,
        acknowledged: given.and_then(|given| given.checked_sub(pending)),
        last: found.get("last-delivered-id").and_then(|it| text(it)).ok_or_else(|| missing("last-delivered-id"))?,
        lag: found.get("lag").and_then(|it| number(it)),
    })
}

/// Counts entries one by one, where the server does not know how many there are.
async fn count_after(session: &mut Session<'_>, key: &str, last: &str) -> Result<u64> {
    let (mut seen, mut after) = (0, last.to_owned());
    while seen <= MOST_READ {
        let ids = ids_after(session, key, &after, PAGE).await?;
        seen += ids.len();
        match ids.into_iter().next_back() {
            Some(id) if seen % PAGE == 0 => after = id,
            _ => return Ok(seen as u64),
        }
    }
    let cause = format!(
        "Redis does not know how many entries of {key:?} wait (no lag, or a wrong one: it is older than 7, entries were \
         deleted, or the group was made with another ENTRIESREAD), and more than {MOST_READ} do, which are too many to \
         count; XGROUP SETID with ENTRIESREAD gives it the lag"
    );
    Err(session.error(ErrorKind::Missing, cause))
}

/// The age of the first entry after an id. An entry's id begins with the time unless who adds it gives another.
async fn age_after(session: &mut Session<'_>, key: &str, after: &str, now: Timestamp) -> Result<Option<u64>> {
    let ids = ids_after(session, key, after, 1).await?;
    let millis = ids.first().and_then(|id| id.split('-').next()?.parse().ok());
    Ok(millis.and_then(|millis| age(now, millis)))
}

/// The ids of the first entries after one. Before Redis 6.2 a range cannot leave out where it begins.
async fn ids_after(session: &mut Session<'_>, key: &str, after: &str, count: usize) -> Result<Vec<String>> {
    let question = Question::new(["XRANGE", key, after, "+", "COUNT", &(count + 1).to_string()]);
    let answers = session.ask(&[question]).await?;
    let id = |entry: &Value| match entry {
        Value::Array(parts) => parts.first().and_then(text),
        _ => None,
    };
    let ids: Option<Vec<_>> = match &answers[0] {
        Value::Array(entries) => entries.iter().map(id).collect(),
        _ => None,
    };
    let ids = ids.ok_or_else(|| session.malformed("XRANGE"))?;
    Ok(ids.into_iter().filter(|id| id != after).take(count).collect())
}

/// A reply that is a list of names and values.
fn fields(value: &Value) -> Option<BTreeMap<String, &Value>> {
    let Value::Array(parts) = value else { return None };
    parts.chunks_exact(2).map(|pair| Some((text(&pair[0])?, &pair[1]))).collect()
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
