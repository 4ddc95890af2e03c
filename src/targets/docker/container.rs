//! Containers: which are ours, what they are at, and what is to become of them.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// The label whose value is the service.
pub(super) const SERVICE_LABEL: &str = "tidegate.service";

/// The label with what comes after the service in the name of a container that we made.
pub(super) const ID_LABEL: &str = "tidegate.id";

/// How long one that was made and is not started yet may be about to start, in seconds: longer than a call takes.
const BEING_STARTED: i64 = 10;

/// What a container is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Made just now.
    Starting,
    Running,
    Restarting,
    Paused,
    /// Made and never started, or ended.
    Left,
    /// Being removed.
    Removing,
}

/// How far we have come with one that is to stop. An engine's labels cannot be changed, so that it is in the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// It was chosen, and is not told yet.
    Leaving,
    /// It runs this program before it is told.
    Draining(String),
    /// It was told, and is killed after this second since 1970.
    Stopping(i64),
}

/// A container of ours.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub id: String,
    pub name: String,
    /// What the name begins with.
    base: String,
    pub phase: Phase,
    pub mark: Option<Mark>,
    /// Seconds since 1970.
    pub created: i64,
}

impl Container {
    pub fn is_meant_to_run(&self) -> bool {
        self.mark.is_none() && !matches!(self.phase, Phase::Left | Phase::Removing)
    }

    /// Whether it is to stop and still there.
    pub fn is_unfinished(&self) -> bool {
        self.mark.is_some() && self.phase != Phase::Removing
    }

    /// Its name with this mark, or as one that is meant to run again. No other container ever has it: the first name may be
    /// somebody else's by then.
    pub fn named(&self, mark: Option<&Mark>) -> String {
        let own = format!("{}-{}", self.base, short(&self.id));
        match mark {
            None => own,
            Some(Mark::Leaving) => format!("{own}-leaving"),
            Some(Mark::Draining(program)) => format!("{own}-draining-{program}"),
            Some(Mark::Stopping(until)) => format!("{own}-stopping-{until}"),
        }
    }

    fn read(listed: &Value, service: &str, now: i64) -> Result<Option<Self>> {
        let malformed = |what: &str| {
            Error::new(ErrorKind::Malformed, "reading the list of containers", format!("a container has {what}"))
        };
        let label = listed["Labels"][ID_LABEL].as_str().filter(|label| !label.is_empty());
        let id = listed["Id"].as_str().ok_or_else(|| malformed("no Id"))?;
        let base = format!("{service}-{}", label.unwrap_or_default());
        let found = names(listed).find_map(|name| Some((name, marked(name.strip_prefix(&base)?, id)?)));
        let Some((name, mark)) = found.filter(|_| label.is_some()) else { return Ok(None) };
        let created = listed["Created"].as_i64().ok_or_else(|| malformed("no time of creation"))?;
        // <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerList>
        let phase = match listed["State"].as_str() {
            Some("running") => Phase::Running,
            Some("restarting") => Phase::Restarting,
            Some("paused") => Phase::Paused,
            Some("created") if now.abs_diff(created) < BEING_STARTED.unsigned_abs() => Phase::Starting,
            Some("created" | "exited" | "dead") => Phase::Left,
            Some("removing") => Phase::Removing,
            Some(other) => return Err(malformed(&format!("the state {other:?}, which is not known"))),
            None => return Err(malformed("no state")),
        };
        Ok(Some(Self { id: id.to_owned(), name: name.to_owned(), base, phase, mark, created }))
    }
}

/// The names of a listed container.
pub(super) fn names(listed: &Value) -> impl Iterator<Item = &str> {
    let names = listed["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
    names.map(|name| name.trim_start_matches('/'))
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The mark in the end of a name; `None` of an end that we did not give to the container with this ID.
fn marked(end: &str, id: &str) -> Option<Option<Mark>> {
    let own = match end {
        "" => return Some(None),
        end => end.strip_prefix('-')?.strip_prefix(short(id))?,
    };
    match own.split('-').collect::<Vec<_>>()[..] {
        [""] => Some(None),
        ["", "leaving"] => Some(Some(Mark::Leaving)),
        ["", "draining", program] => Some(Some(Mark::Draining(program.to_owned()))),
        ["", "stopping", until] => Some(Some(Mark::Stopping(until.parse().ok()?))),
        _ => None,
    }
}

/// The containers of a service that we made, and the names of those that only have its label. `now` is in seconds since 1970.
pub(super) fn ours(listed: &[Value], service: &str, now: i64) -> Result<(Vec<Container>, Vec<String>)> {
    let (mut made, mut strangers) = (Vec::new(), Vec::new());
    for listed in listed.iter().filter(|listed| listed["Labels"][SERVICE_LABEL] == service) {
        match Container::read(listed, service, now)? {
            Some(container) => made.push(container),
            None => strangers.push(names(listed).next().unwrap_or_default().to_owned()),
        }
    }
    Ok((made, strangers))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef";

    fn listed(name: &str, id: Option<&str>, state: &str) -> Value {
        let mut labels = json!({ SERVICE_LABEL: "orders" });
        if let Some(id) = id {
            labels[ID_LABEL] = json!(id);
        }
        json!({ "Id": ID, "Names": [format!("/{name}")], "State": state, "Created": 100, "Labels": labels })
    }

    fn read(name: &str, state: &str, now: i64) -> Result<Container> {
        ours(&[listed(name, Some("1"), state)], "orders", now).map(|(mut made, _)| made.remove(0))
    }

    #[test]
    fn a_container_is_ours_by_its_labels_and_its_name() {
        let all = [
            listed("orders-1", Some("1"), "running"),
            listed("committed", Some("1"), "running"),
            listed("orders-", None, "running"),
            listed("orders-2", None, "running"),
            listed("orders-12", Some("1"), "running"),
            listed("orders-1-ba9876543210-leaving", Some("1"), "running"),
            listed("orders-1-0123456789ab-resting", Some("1"), "running"),
        ];
        let (made, strangers) = ours(&all, "orders", 100).expect("they can be read");
        assert_eq!(made.len(), 1);
        assert_eq!(strangers.len(), 6, "{strangers:?}");
        assert_eq!(ours(&all, "bills", 100).expect("they can be read").0.len(), 0);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let container = read("orders-1", "running", 100).expect("it can be read");
        let all =
            [None, Some(Mark::Leaving), Some(Mark::Draining("a1b2".to_owned())), Some(Mark::Stopping(1_700_000_000))];
        for mark in all {
            let again = read(&container.named(mark.as_ref()), "running", 100).expect("it can be read");
            assert_eq!((again.is_meant_to_run(), again.is_unfinished()), (mark.is_none(), mark.is_some()));
            assert_eq!(again.mark, mark);
            assert_eq!(again.named(None), container.named(None), "it does not become longer");
        }
    }

    #[test]
    fn what_has_ended_or_was_never_started_is_not_counted() {
        for (state, now, expected) in [
            ("running", 100, true),
            ("paused", 100, true),
            ("restarting", 100, true),
            ("created", 109, true),
            ("created", 110, false),
            ("exited", 100, false),
            ("dead", 100, false),
            ("removing", 100, false),
        ] {
            let container = read("orders-1", state, now).expect("it is known");
            assert_eq!(container.is_meant_to_run(), expected, "{state} at {now}");
        }
        let error = read("orders-1", "dreaming", 100).expect_err("it is not known");
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
