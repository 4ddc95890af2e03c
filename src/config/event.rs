//! Sources and the event: what they take from it, and what it may not ask of them.

use jiff::Timestamp;
use serde_json::Value;

use super::origin::{Layer, Origin, Problems, Tree};
use super::{Config, Input, alert};
use crate::adapter::{Section, find};
use crate::sources::{self, Source};

/// Whether a source of this type, by any of its names, looks into events. Events may then have any shape.
pub(super) fn is_read_by(source_type: &str) -> bool {
    find(sources::TABLE, source_type).is_ok_and(|kind| sources::reads_event(kind.name))
}

/// Whether any of these services has such a source, or steps by alerts.
pub(super) fn is_read_by_any(services: &Value) -> bool {
    let services = || services.as_array().into_iter().flatten();
    let mut sources = services().flat_map(|service| service["sources"].as_array().into_iter().flatten());
    sources.any(|source| source["type"].as_str().is_some_and(is_read_by)) || services().any(steps_by_alerts)
}

/// Whether a service, or what is given for all of them, steps by alerts.
pub(super) fn steps_by_alerts(service: &Value) -> bool {
    let mut policies = service["policies"].as_array().into_iter().flatten();
    policies.any(|policy| policy["type"] == "alert_step")
}

/// Lets a source take what it reads of the event, and refuses what is not for where it is configured or run.
pub(super) fn prepare(
    section: &mut Section<dyn Source>,
    tree: &Tree,
    pointer: &str,
    input: Input<'_>,
    problems: &mut Problems,
) {
    let keys = tree.value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let origins: Vec<_> = keys.map(|(key, _)| (key, tree.origin(&format!("{pointer}/{key}")))).collect();
    match section.kind.name {
        "command" => refuse_program(tree, pointer, input, problems),
        "payload" => {
            let is_number = |key: &str| ["value", "backlog"].contains(&key);
            if let Some((_, at)) = origins.iter().find(|(key, at)| is_number(key) && at.layer != Layer::Event) {
                let remedy = "give it in the payload, or pointer, which finds it in each event; schedule has constants";
                problems.add(at, "is a number that would never change", remedy);
            }
        }
        _ => {}
    }
    take(section, input.event, &tree.origin(pointer), problems);
}

/// Refuses what runs a program of this machine where a payload says so, and in a function.
pub(super) fn refuse_program(tree: &Tree, pointer: &str, input: Input<'_>, problems: &mut Problems) {
    let keys = tree.value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let origins = keys.map(|(key, _)| tree.origin(&format!("{pointer}/{key}")));
    if let Some(at) = origins.into_iter().find(|at| at.layer == Layer::Event) {
        problems.add(&at, "runs a program, which is not for a payload", "configure it in the deployment");
    }
    if input.in_lambda {
        let remedy = "run Tidegate as a command or daemon, or use another type";
        problems.add(&tree.origin(pointer), "runs a program, which is not for a function", remedy);
    }
}

/// Refuses targets that are not for where they are configured or run: what runs programs or opens this machine's own socket.
pub(super) fn refuse_target(kind: &str, tree: &Tree, input: Input<'_>, problems: &mut Problems) {
    if kind == "process" {
        return refuse_program(tree, "/target", input, problems);
    }
    // An engine runs any image with any mount, and a kubeconfig may name a program that gives the credential.
    for key in ["host", "image", "command", "drain", "kubeconfig"] {
        let at = tree.origin(&format!("/target/{key}"));
        let is_given = tree.value["target"].get(key).is_some();
        if is_given && at.layer == Layer::Event && ["docker", "swarm", "kubernetes"].contains(&kind) {
            problems.add(&at, "is not for a payload", "configure the target in the deployment");
        }
    }
}

/// Lets a source take what it reads of the event.
pub(super) fn take(section: &mut Section<dyn Source>, event: &Value, at: &Origin, problems: &mut Problems) {
    if let Err(error) = sources::take_from_event(section, event) {
        problems.add(at, error.to_string(), "report this: it is a fault of Tidegate's");
    }
}

/// Says when the event came, for readings in it that do not say when they were taken. A loop reads it again and again, and
/// it does not get any younger. `invocation` is the one that brought it.
pub(crate) fn received(config: &mut Config, at: Timestamp, invocation: &str) {
    for source in config.services.iter_mut().flat_map(|service| &mut service.sources) {
        sources::note_received(&mut source.section, at);
    }
    alert::received(config, invocation);
}

#[cfg(all(test, feature = "full"))]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::config::load;
    use crate::shared::Shared;

    #[tokio::test]
    async fn a_number_without_a_time_is_as_old_as_its_event() {
        let vars = [("ECS_CLUSTER", "prod"), ("SERVICE_NAME", "orders"), ("S3_CONFIG_BUCKET", "state")];
        let vars: BTreeMap<_, _> = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let taken_at = async |event: Value| {
            let input = Input { vars: &vars, event: &event, in_lambda: true, remote: None };
            let mut config = load(input).expect("it is valid");
            received(&mut config, "2026-11-22T12:00:00Z".parse().expect("a time"), "request-1");
            let source = &config.services[0].sources[0].section;
            let source = source.build(&Shared::for_wire("http://127.0.0.1:9")).expect("it can be built");
            source.read().await.expect("the number is there").taken_at.expect("it has a time").to_string()
        };
        let config = json!({ "queue_type": "payload", "queue_config": { "value": 5 } });
        assert_eq!(taken_at(json!({ "config": config })).await, "2026-11-22T12:00:00Z");
        let scheduled = json!({ "config": config, "scheduled_time": "2026-11-22T11:59:00Z" });
        assert_eq!(taken_at(scheduled).await, "2026-11-22T11:59:00Z");
    }
}
