//! Containers: which are ours, what they are at, and what can be run in them.

use hyper::Method;
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::targets::engine::{Engine, segment};

/// The label whose value is the service.
pub(super) const SERVICE_LABEL: &str = "tidegate.service";

/// The label with what comes after the service in the name of a container that we made.
pub(super) const ID_LABEL: &str = "tidegate.id";

/// What a container is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Restarting,
    Paused,
    /// Made and never started, or ended.
    Left,
    /// Being removed.
    Leaving,
}

/// A container of ours.
#[derive(Debug)]
pub(super) struct Container {
    pub id: String,
    pub phase: Phase,
    /// Seconds since 1970.
    pub created: i64,
}

impl Container {
    pub fn is_meant_to_run(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Restarting | Phase::Paused)
    }

    fn read(listed: &Value) -> Result<Self> {
        let malformed = |what: &str| {
            Error::new(ErrorKind::Malformed, "reading the list of containers", format!("a container has {what}"))
        };
        let id = listed["Id"].as_str().ok_or_else(|| malformed("no Id"))?.to_owned();
        let created = listed["Created"].as_i64().ok_or_else(|| malformed("no time of creation"))?;
        // <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerList>
        let phase = match listed["State"].as_str() {
            Some("running") => Phase::Running,
            Some("restarting") => Phase::Restarting,
            Some("paused") => Phase::Paused,
            Some("created" | "exited" | "dead") => Phase::Left,
            Some("removing") => Phase::Leaving,
            Some(other) => return Err(malformed(&format!("the state {other:?}, which is not known"))),
            None => return Err(malformed("no state")),
        };
        Ok(Self { id, phase, created })
    }
}

/// The containers of a service that we made, and the names of those that only have its label.
pub(super) fn ours(listed: &[Value], service: &str) -> Result<(Vec<Container>, Vec<String>)> {
    let (mut made, mut strangers) = (Vec::new(), Vec::new());
    for container in listed.iter().filter(|container| container["Labels"][SERVICE_LABEL] == service) {
        let id = container["Labels"][ID_LABEL].as_str().unwrap_or_default();
        let names = container["Names"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<_> = names.map(|name| name.trim_start_matches('/')).collect();
        match names.contains(&format!("{service}-{id}").as_str()) && !id.is_empty() {
            true => made.push(Container::read(container)?),
            false => strangers.push((*names.first().unwrap_or(&"")).to_owned()),
        }
    }
    Ok((made, strangers))
}

/// Runs a program in a container, and waits until it has ended well.
///
/// # Errors
/// `Refused` where it ends otherwise, and those of the engine.
pub(super) async fn run(engine: &Engine, container: &Container, program: &[String]) -> Result<()> {
    let wanted = json!({ "Cmd": program, "AttachStdout": true, "AttachStderr": true });
    let path = format!("/containers/{}/exec", segment(&container.id));
    let made = engine.document(Method::POST, &path, Some(&wanted)).await?;
    let id = made["Id"].as_str().ok_or_else(|| engine.error(ErrorKind::Malformed, "a program has no Id"))?;
    let path = |what| format!("/exec/{}/{what}", segment(id));
    // What it prints ends when it does.
    engine.success(Method::POST, &path("start"), Some(&json!({ "Detach": false, "Tty": false }))).await?;
    let ended = engine.document(Method::GET, &path("json"), None).await?;
    match (ended["Running"].as_bool(), ended["ExitCode"].as_i64()) {
        (Some(false), Some(0)) => Ok(()),
        (Some(false), Some(code)) => {
            let cause = format!("drain ended with {code}, so that the container is not stopped");
            Err(engine.error(ErrorKind::Refused, cause))
        }
        _ => Err(engine.error(ErrorKind::Malformed, "the answer does not say how drain ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, id: Option<&str>, state: &str) -> Value {
        let mut labels = json!({ SERVICE_LABEL: "orders" });
        if let Some(id) = id {
            labels[ID_LABEL] = json!(id);
        }
        json!({ "Id": "c", "Names": [format!("/{name}")], "State": state, "Created": 1, "Labels": labels })
    }

    #[test]
    fn a_container_is_ours_by_its_labels_and_its_name() {
        let all = [
            listed("orders-1a", Some("1a"), "running"),
            listed("committed", Some("1a"), "running"),
            listed("orders-", None, "running"),
            listed("orders-2b", None, "running"),
        ];
        let (made, strangers) = ours(&all, "orders").expect("they can be read");
        assert_eq!(made.len(), 1);
        assert_eq!(strangers, ["committed", "orders-", "orders-2b"]);
        assert_eq!(ours(&all, "bills").expect("they can be read").0.len(), 0);
    }

    #[test]
    fn what_has_ended_or_was_never_started_is_not_counted() {
        let is_meant_to_run = |state| {
            ours(&[listed("orders-1a", Some("1a"), state)], "orders").map(|(made, _)| made[0].is_meant_to_run())
        };
        for (state, expected) in [
            ("running", true),
            ("paused", true),
            ("restarting", true),
            ("created", false),
            ("exited", false),
            ("dead", false),
            ("removing", false),
        ] {
            assert_eq!(is_meant_to_run(state).expect("it is known"), expected, "{state}");
        }
        let error = is_meant_to_run("dreaming").expect_err("it is not known");
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
