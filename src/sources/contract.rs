//! What every source must do, played for each line of the table.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Measurement, Source, TABLE};
use crate::adapter::{Entry, Kind};
use crate::call::Call;
use crate::core::Amount;
use crate::error::{ErrorKind, Result};
use crate::iam::Place;
use crate::shared::Shared;
use crate::wire::{Contract, Request, Scene, Wire};

fn built() -> impl Iterator<Item = &'static Kind<dyn Source>> {
    TABLE.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some(*kind),
        Entry::NotBuilt { .. } => None,
    })
}

/// The sources whose answers are played here.
fn on_the_wire() -> impl Iterator<Item = &'static Kind<dyn Source>> {
    built().filter(|kind| matches!(kind.contract, Contract::Wire { .. }))
}

/// Those that ask somebody at all.
fn on_a_network() -> impl Iterator<Item = &'static Kind<dyn Source>> {
    built().filter(|kind| !matches!(kind.contract, Contract::Local { .. }))
}

async fn read(kind: &Kind<dyn Source>, scene: Scene) -> (Result<Measurement>, Vec<Request>) {
    let (wire, settings) = match kind.contract {
        Contract::Wire { settings, reply } => {
            let wire = Wire::play(scene, reply).await;
            let settings = settings(&wire.endpoint);
            (wire, settings)
        }
        Contract::Stream { settings } => {
            let wire = Wire::play_bytes(scene).await;
            let port = wire.endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it has a port");
            (wire, settings("127.0.0.1", port))
        }
        Contract::Local { .. } => panic!("{}: a source without a network is not played", kind.name),
    };
    let source = (kind.build)(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    let call = Call::within(Duration::from_millis(if scene == Scene::Silent { 800 } else { 20_000 }));
    let answer = call.run("reading", source.read()).await;
    assert!(!format!("{source:?}").contains("canary"), "{}: Debug shows a secret", kind.name);
    (answer, wire.requests())
}

fn load(measurement: Measurement) -> f64 {
    match measurement.amount {
        Amount::Queue(depth) => depth.backlog as f64,
        Amount::Gauge { value } => value.get(),
    }
}

#[test]
fn a_build_without_a_source_knows_its_other_names() {
    let table = include_str!("mod.rs");
    for kind in built() {
        let aliases: String = kind.aliases.iter().map(|alias| format!(", {alias:?}")).collect();
        let lines = [format!("entry!({}),", kind.name), format!("entry!({0}, {0:?}{aliases}),", kind.name)];
        assert!(lines.iter().any(|line| table.contains(line)), "{}: {lines:?}", kind.name);
    }
}

#[tokio::test]
async fn an_empty_source_is_zero_and_a_full_one_is_its_number() {
    for kind in on_the_wire() {
        for waiting in [0, 7, 5000] {
            let (answer, _) = read(kind, Scene::Amount(waiting)).await;
            let measurement = answer.unwrap_or_else(|error| panic!("{}: {waiting} waiting: {error}", kind.name));
            assert_eq!(load(measurement), waiting as f64, "{}", kind.name);
        }
    }
}

#[tokio::test]
async fn an_unreadable_source_is_an_error_of_its_kind_and_never_a_number() {
    for kind in on_the_wire() {
        for (scene, expected) in [
            (Scene::Denied, &[ErrorKind::Denied][..]),
            (Scene::NotFound, &[ErrorKind::NotFound]),
            (Scene::Throttled, &[ErrorKind::Throttled]),
            (Scene::Broken, &[ErrorKind::Unavailable]),
            (Scene::Malformed, &[ErrorKind::Malformed]),
            (Scene::Missing, &[ErrorKind::Missing]),
        ] {
            let (answer, _) = read(kind, scene).await;
            let error = answer.expect_err("an unreadable source has no number");
            assert!(expected.contains(&error.kind()), "{} at {scene:?}: {:?}: {error}", kind.name, error.kind());
            assert!(!error.to_string().contains("canary"), "{}: the error shows a secret", kind.name);
        }
    }
}

#[tokio::test]
async fn a_broken_connection_is_an_error_of_its_kind_and_never_a_number() {
    for kind in on_a_network() {
        for (scene, expected) in [
            (Scene::Cut, &[ErrorKind::Unavailable][..]),
            (Scene::Silent, &[ErrorKind::Timeout]),
            (Scene::Endless, &[ErrorKind::Malformed, ErrorKind::Unavailable, ErrorKind::Timeout]),
        ] {
            let (answer, _) = read(kind, scene).await;
            let error = answer.expect_err("an unreadable source has no number");
            assert!(expected.contains(&error.kind()), "{} at {scene:?}: {:?}: {error}", kind.name, error.kind());
            assert!(!error.to_string().contains("canary"), "{}: the error shows a secret", kind.name);
        }
    }
}

#[tokio::test]
async fn a_denial_names_an_action_that_the_policy_allows() {
    for kind in on_the_wire() {
        let actions = actions(kind);
        if actions.is_empty() {
            continue;
        }
        let error = read(kind, Scene::Denied).await.0.expect_err("it is denied").to_string();
        assert!(
            actions.iter().any(|action| error.contains(action)),
            "{}: {error} names none of {actions:?}",
            kind.name
        );
    }
}

#[tokio::test]
async fn a_read_calls_nothing_that_the_policy_does_not_allow() {
    for kind in on_the_wire() {
        let allowed: BTreeSet<_> = actions(kind).iter().filter_map(|action| action.split(':').nth(1)).collect();
        let (_, requests) = read(kind, Scene::Amount(1)).await;
        assert!(!requests.is_empty(), "{}: nothing was asked", kind.name);
        for operation in requests.iter().filter_map(Request::operation) {
            assert!(allowed.contains(operation), "{}: {operation} is not among {allowed:?}", kind.name);
        }
    }
}

fn actions(kind: &Kind<dyn Source>) -> Vec<&'static str> {
    let Contract::Wire { settings, .. } = kind.contract else { return Vec::new() };
    let place = Place::new("us-east-1", "123456789012");
    let statements = (kind.permissions)(&settings("http://127.0.0.1"), &place).expect("settings are valid");
    statements.into_iter().flat_map(|statement| statement.action).collect()
}
