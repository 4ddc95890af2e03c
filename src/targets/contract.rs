//! What every target must do, played for each line of the table.

use std::time::Duration;

use super::{Applied, TABLE, Target};
use crate::adapter::{Entry, Kind};
use crate::call::Call;
use crate::core::TargetStatus;
use crate::error::{ErrorKind, Result};
use crate::shared::Shared;
use crate::wire::{Contract, Request, Scene, Wire};

/// Targets on the network. Those of this machine, which have no wire, have tests of their own in `tests/it/targets`.
fn built() -> impl Iterator<Item = &'static Kind<dyn Target>> {
    let kinds = TABLE.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some(*kind),
        Entry::NotBuilt { .. } => None,
    });
    kinds.filter(|kind| matches!(kind.contract, Contract::Wire { .. }))
}

struct Played {
    target: Box<dyn Target>,
    service: String,
    call: Call,
    wire: Wire,
}

async fn play(kind: &Kind<dyn Target>, scene: Scene) -> Played {
    let Contract::Wire { settings, reply } = kind.contract else {
        panic!("{}: a target without a wire needs a suite of its own", kind.name);
    };
    let wire = Wire::play(scene, reply).await;
    let settings = settings(&wire.endpoint);
    let target = (kind.build)(&settings, &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
    let identity = (kind.identities)(&settings, "us-east-1").pop().expect("a target names what it scales");
    let call = Call::within(Duration::from_millis(if scene == Scene::Silent { 800 } else { 20_000 }));
    Played { target, service: identity.leaf().to_owned(), call, wire }
}

impl Played {
    async fn status(&self) -> Result<TargetStatus> {
        let services = [self.service.clone()];
        let ask = async { self.target.statuses(&services).await.pop().expect("one answer for each service") };
        self.call.run("reading status", ask).await
    }

    async fn set(&self, desired: u32) -> Result<Applied> {
        self.call.run("setting", self.target.set_desired(&self.service, desired)).await
    }

    async fn protected(&self) -> Result<Option<u32>> {
        let services = [self.service.clone()];
        let ask = async { self.target.protected(&services).await.pop().expect("one answer for each service") };
        self.call.run("counting protected tasks", ask).await
    }

    fn mutations(&self) -> Vec<Request> {
        let requests = self.wire.requests();
        let is_read = |action: &str| [".Describe", ".List", ".Get"].iter().any(|read| action.contains(read));
        // AWS's query protocol names the action in the form.
        let is_query = |request: &Request| request.body.starts_with(b"Action=Describe");
        let is_plain = |request: &Request| ["GET", "HEAD"].contains(&request.method.as_str());
        let reads = |request: &Request| is_plain(request) || is_read(request.action()) || is_query(request);
        requests.into_iter().filter(|request| !reads(request)).collect()
    }
}

#[tokio::test]
async fn status_tells_what_is_and_changes_nothing() {
    for kind in built() {
        let played = play(kind, Scene::Amount(0)).await;
        assert_eq!(played.status().await.expect("it is there").desired, 0, "{}", kind.name);
        let played = play(kind, Scene::Amount(7)).await;
        let status = played.status().await.expect("it is there");
        assert_eq!((status.desired, status.rolling_out), (7, false), "{}", kind.name);
        assert!(played.mutations().is_empty(), "{}: reading changed something", kind.name);
        let played = play(kind, Scene::RollingOut).await;
        let status = played.status().await;
        assert!(played.wire.cannot_happen() || status.expect("it is there").rolling_out, "{}", kind.name);
    }
}

#[tokio::test]
async fn a_status_that_cannot_be_read_is_an_error_and_never_zero() {
    for kind in built() {
        for (scene, expected) in failures().chain([
            (Scene::Malformed, &[ErrorKind::Malformed][..]),
            (Scene::Missing, &[ErrorKind::Malformed]),
            (Scene::Unscalable, &[ErrorKind::Refused]),
            (Scene::Draining, &[ErrorKind::Refused]),
        ]) {
            let played = play(kind, scene).await;
            let status = played.status().await;
            if played.wire.cannot_happen() {
                continue;
            }
            let error = status.expect_err("there is no status");
            assert!(expected.contains(&error.kind()), "{} at {scene:?}: {:?}: {error}", kind.name, error.kind());
        }
    }
}

#[tokio::test]
async fn setting_is_absolute_and_can_be_repeated() {
    for kind in built() {
        for desired in [0, 5] {
            let played = play(kind, Scene::Amount(desired)).await;
            let desired = u32::try_from(desired).expect("a small number");
            played.set(desired).await.expect("it can be set");
            played.set(desired).await.expect("it can be set again");
            let sent: Vec<_> = played.mutations().into_iter().map(|request| request.body).collect();
            assert!(sent.windows(2).all(|pair| pair[0] == pair[1]), "{}: a repeated set differs", kind.name);
        }
    }
}

#[tokio::test]
async fn setting_that_fails_is_an_error_of_its_kind() {
    for kind in built() {
        for (scene, expected) in failures().chain([(Scene::Locked, &[ErrorKind::Locked][..])]) {
            let played = play(kind, scene).await;
            let set = played.set(5).await;
            if played.wire.cannot_happen() {
                continue;
            }
            let error = set.expect_err("it cannot be set");
            assert!(expected.contains(&error.kind()), "{} at {scene:?}: {:?}: {error}", kind.name, error.kind());
        }
        // The provider answers that it set something else.
        let played = play(kind, Scene::Other(4)).await;
        let set = played.set(5).await;
        assert!(played.wire.cannot_happen() || set.is_err(), "{}: 4 was taken for 5", kind.name);
    }
}

#[tokio::test]
async fn protected_tasks_are_counted_exactly_over_all_pages() {
    for kind in built() {
        for number in [0, 3, 250] {
            let played = play(kind, Scene::Protected(number)).await;
            match played.protected().await.expect("it can be read") {
                Some(counted) => assert_eq!(u64::from(counted), number, "{}", kind.name),
                None => assert!(played.wire.requests().is_empty(), "{}: asked, and not told", kind.name),
            }
            assert!(played.mutations().is_empty(), "{}: counting changed something", kind.name);
        }
    }
}

#[tokio::test]
async fn protection_that_cannot_be_read_is_an_error_and_never_a_number() {
    for kind in built() {
        if play(kind, Scene::Protected(1)).await.protected().await.expect("it can be read").is_none() {
            continue;
        }
        for (scene, expected) in failures()
            .chain([(Scene::Malformed, &[ErrorKind::Malformed][..]), (Scene::Missing, &[ErrorKind::Malformed])])
        {
            let error = play(kind, scene).await.protected().await.expect_err("there is no number");
            assert!(expected.contains(&error.kind()), "{} at {scene:?}: {:?}: {error}", kind.name, error.kind());
        }
    }
}

/// A target that tells only what it must.
#[derive(Debug)]
struct Plain;

#[async_trait::async_trait]
impl Target for Plain {
    async fn statuses(&self, _: &[String]) -> Vec<Result<TargetStatus>> {
        Vec::new()
    }

    async fn set_desired(&self, _: &str, _: u32) -> Result<Applied> {
        Ok(Applied::Set)
    }
}

#[tokio::test]
async fn a_target_that_cannot_tell_of_protection_says_so_of_each_service() {
    let answers = Plain.protected(&["a".to_owned(), "b".to_owned()]).await;
    assert!(matches!(answers[..], [Ok(None), Ok(None)]));
}

fn failures() -> impl Iterator<Item = (Scene, &'static [ErrorKind])> {
    [
        (Scene::Denied, &[ErrorKind::Denied][..]),
        (Scene::NotFound, &[ErrorKind::NotFound]),
        (Scene::Throttled, &[ErrorKind::Throttled]),
        (Scene::Broken, &[ErrorKind::Unavailable]),
        (Scene::Cut, &[ErrorKind::Unavailable]),
        (Scene::Silent, &[ErrorKind::Timeout]),
        (Scene::Endless, &[ErrorKind::Malformed, ErrorKind::Unavailable, ErrorKind::Timeout]),
    ]
    .into_iter()
}
