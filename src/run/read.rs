//! The first half of a tick: state, status and readings of every service, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Tick, asked};
use crate::adapter::Identity;
use crate::call::together;
use crate::config::{NamedSource, Service};
use crate::core::{Answer, Reading, Sample, TargetStatus, Unreadable};
use crate::error::{Error, ErrorKind, Result};
use crate::sources::Measurement;
use crate::stores::document::{self, Loaded};
use crate::stores::{Lease, Store};
use crate::targets::Target;

/// The services that share a state document, with everything that was read of them.
pub(super) struct Group {
    /// The document's key in the store.
    pub key: String,
    /// The store, if it could be built.
    pub store: Option<Arc<dyn Store>>,
    /// The document as it was found.
    pub loaded: Result<Loaded, Unreadable>,
    /// Another loop's lease, under which this one leaves the services alone.
    pub on_standby: Option<Lease>,
    /// The services.
    pub members: Vec<Member>,
}

/// One service, with everything that was read of it.
pub(super) struct Member {
    /// The place in the configuration.
    pub position: usize,
    /// The service.
    pub service: Service,
    /// What names it in the state document.
    pub id: String,
    /// What runs its tasks, if it could be built.
    pub target: Option<Arc<dyn Target>>,
    /// What the target said.
    pub status: Result<TargetStatus, Unreadable>,
    /// What the sources said.
    pub samples: Vec<Sample>,
    /// What they warned of.
    pub warnings: Vec<String>,
}

impl Member {
    /// What names the service in this process's memory, whether or not the account could be asked for.
    pub(super) fn name(&self) -> String {
        self.service.identity.to_string()
    }
}

/// Reads everything of every service: one round trip of latency, whatever the number of services.
///
/// A loop that was on standby reads the documents first, and then only what it has to decide.
pub(super) async fn everything(tick: &Tick<'_>) -> Vec<Group> {
    let all = (0..tick.config.services.len()).collect();
    let (mut groups, mut seen) = match tick.memory.was_on_standby() {
        false => futures_util::join!(documents(tick), readings(tick, all)),
        true => {
            let groups = documents(tick).await;
            let awake = groups.iter().filter(|(group, _)| group.on_standby.is_none());
            let awake = awake.flat_map(|(_, ids)| ids.keys().copied()).collect();
            (groups, readings(tick, awake).await)
        }
    };
    for (position, service) in tick.config.services.iter().enumerate() {
        let (id, group) = place(&mut groups, position);
        let (target, status, (samples, warnings)) = seen.remove(&position).unwrap_or_else(unread);
        let mut service = service.clone();
        let status = match &service.unknown {
            Some(why) => Err(why.clone()),
            None => asked::follow(&mut service, status),
        };
        group.members.push(Member { position, service, id, target, status, samples, warnings });
    }
    let groups: Vec<_> = groups.into_iter().map(|(group, _)| group).collect();
    if tick.term.is_some() {
        let on_standby = groups.iter().filter(|group| group.on_standby.is_some());
        tick.memory.note_standby(on_standby.map(|group| group.key.clone()));
    }
    groups
}

type Seen = (Option<Arc<dyn Target>>, Status, Sampled);

/// What the sources of a service said, and what they warned of.
type Sampled = (Vec<Sample>, Vec<String>);

/// Asks targets and sources of the services at these places in the configuration.
async fn readings(tick: &Tick<'_>, mut positions: Vec<usize>) -> BTreeMap<usize, Seen> {
    positions.retain(|&position| tick.config.services[position].unknown.is_none());
    let services = || positions.iter().map(|&position| &tick.config.services[position]);
    let targets: Vec<_> = services().map(|service| service.target.build(tick.shared).map(Arc::from)).collect();
    let (statuses, samples) = futures_util::join!(
        ask_for_statuses(
            tick,
            services().map(|service| &service.identity).zip(targets.iter().map(Result::as_ref)).collect()
        ),
        together(services().map(|service| samples(tick, service))),
    );
    let seen = targets.into_iter().zip(statuses).zip(samples);
    let seen = seen.map(|((target, status), samples)| (target.ok(), status, samples));
    positions.into_iter().zip(seen).collect()
}

/// What is seen of a service on standby: nothing.
fn unread() -> Seen {
    let detail = "reading status: the service is on standby and was not asked for".to_owned();
    (None, Err(Unreadable { kind: ErrorKind::Bug, detail }), (Vec::new(), Vec::new()))
}

type WithIds = (Group, BTreeMap<usize, String>);

/// The group that holds a service, and the service's id in it.
fn place(groups: &mut [WithIds], position: usize) -> (String, &mut Group) {
    let found = groups.iter_mut().find_map(|(group, ids)| Some((ids.remove(&position)?, group)));
    found.expect("every service was put into a group")
}

/// Loads the state documents: one for each target, or one for the fleet.
async fn documents(tick: &Tick<'_>) -> Vec<WithIds> {
    let account = tick.call.run("asking for the account", account(tick)).await.map_err(|error| unreadable(&error));
    let mut keys: BTreeMap<String, BTreeMap<usize, String>> = BTreeMap::new();
    for (position, service) in tick.config.services.iter().enumerate() {
        let identity = service.identity.clone().or_account(account.as_deref().unwrap_or("-"));
        let key = match &tick.config.fleet {
            Some(fleet) => format!("v1/fleets/{}.json", escaped(fleet)),
            None => key_of(&identity),
        };
        keys.entry(key).or_default().insert(position, identity.to_string());
    }
    let store = tick.memory.store(&tick.config.state, tick.shared).map_err(|error| unreadable(&error));
    let group = |(key, ids): (String, BTreeMap<usize, String>)| {
        // A service that states its account does not fail with the question for it.
        let is_stated = ids.keys().all(|&position| tick.config.services[position].identity.account.is_some());
        let account = if is_stated { Ok(()) } else { account.clone().map(drop) };
        let store = store.clone();
        async move {
            let loaded = match (&store, &account) {
                (_, Err(why)) | (Err(why), _) => Err(why.clone()),
                (Ok(store), Ok(())) => load(tick, store.as_ref(), &key).await.map_err(|error| unreadable(&error)),
            };
            let on_standby = loaded.as_ref().ok().and_then(|loaded| tick.on_standby(loaded));
            (Group { key, store: store.ok(), loaded, on_standby, members: Vec::new() }, ids)
        }
    };
    together(keys.into_iter().map(group)).await
}

/// Loads a document; a loop asks whether it is still the one that it has.
async fn load(tick: &Tick<'_>, store: &dyn Store, key: &str) -> Result<Loaded> {
    let last = tick.term.and_then(|_| tick.memory.document(key));
    let loaded = document::load_since(store, key, last.as_ref());
    let loaded = tick.call.run(&format!("reading state {key:?}"), loaded).await?;
    if tick.term.is_some() {
        tick.memory.keep_document(key, &loaded);
    }
    Ok(loaded)
}

/// The account, asked for only where a service does not state its own.
async fn account(tick: &Tick<'_>) -> Result<String> {
    match tick.config.services.iter().all(|service| service.identity.account.is_some()) {
        true => Ok("-".to_owned()),
        false => tick.shared.account().await,
    }
}

/// The key of a target's own document: another one for each provider, account, region and path of names.
fn key_of(identity: &Identity) -> String {
    let Identity { provider, region, account, path } = identity;
    let path: Vec<_> = path.iter().map(|part| escaped(part)).collect();
    let account = escaped(account.as_deref().unwrap_or("-"));
    format!("v1/{provider}/{account}/{}/{}.json", escaped(region), path.join("/"))
}

/// Keeps names from meaning folders: everything but letters, digits, `-` and `_` becomes its code.
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// Asks for the status of services, once for all that share a scope and are asked for alike; answers in the order asked.
pub(super) async fn ask_for_statuses(tick: &Tick<'_>, services: Vec<(&Identity, Built<'_>)>) -> Vec<Status> {
    let ask = async |target: &dyn Target, first: &Identity, names: &[String]| {
        tick.memory.pace.note_read(first, names.len());
        target.statuses(names).await
    };
    ask_together(tick, services, "status", ask).await
}

/// Asks how many tasks of services must not be stopped, in the same way.
pub(super) async fn ask_for_protected(
    tick: &Tick<'_>,
    services: Vec<(&Identity, Built<'_>)>,
) -> Vec<Result<Option<u32>, Unreadable>> {
    let ask = async |target: &dyn Target, _: &Identity, names: &[String]| target.protected(names).await;
    ask_together(tick, services, "protected tasks", ask).await
}

async fn ask_together<T>(
    tick: &Tick<'_>,
    services: Vec<(&Identity, Built<'_>)>,
    what: &str,
    ask: impl AsyncFn(&dyn Target, &Identity, &[String]) -> Vec<Result<T>>,
) -> Vec<Result<T, Unreadable>> {
    let mut scopes: BTreeMap<(String, &str), Vec<usize>> = BTreeMap::new();
    for (position, (identity, target)) in services.iter().enumerate() {
        let alike = target.map_or("", |target| target.asked_with());
        scopes.entry((identity.scope(), alike)).or_default().push(position);
    }
    let ask_scope = |positions: Vec<usize>| {
        let (services, tick, ask) = (&services, tick, &ask);
        async move {
            let names: Vec<_> = positions.iter().map(|&position| services[position].0.leaf().to_owned()).collect();
            let target = match services[positions[0]].1 {
                Ok(target) => target,
                Err(error) => return each(&positions, || Err(unreadable(error))),
            };
            let during = format!("reading {what} of {}", names.join(", "));
            let first = services[positions[0]].0;
            match tick.call.run(&during, async { Ok(ask(target.as_ref(), first, &names).await) }).await {
                Ok(answers) => {
                    let answers = answers.into_iter().map(|answer| answer.map_err(|error| unreadable(&error)));
                    positions.into_iter().zip(answers).collect()
                }
                Err(error) => each(&positions, || Err(unreadable(&error))),
            }
        }
    };
    let mut found: BTreeMap<_, _> = together(scopes.into_values().map(ask_scope)).await.into_iter().flatten().collect();
    let silent = || {
        let detail = format!("reading {what}: the target left the service out of its answer");
        Err(Unreadable { kind: ErrorKind::Bug, detail })
    };
    (0..services.len()).map(|position| found.remove(&position).unwrap_or_else(silent)).collect()
}

pub(super) type Built<'a> = Result<&'a Arc<dyn Target>, &'a Error>;

pub(super) type Status = Result<TargetStatus, Unreadable>;

fn each<T>(positions: &[usize], answer: impl Fn() -> T) -> Vec<(usize, T)> {
    positions.iter().map(|&position| (position, answer())).collect()
}

/// Reads every source of a service.
async fn samples(tick: &Tick<'_>, service: &Service) -> Sampled {
    let read = |source: NamedSource| async move {
        let NamedSource { name, section } = source;
        let during = format!("reading source {name:?} of {:?}", service.name);
        let read = async { section.build(tick.shared)?.read().await };
        let (answer, warnings) = match tick.call.run(&during, read).await {
            Ok(Measurement { amount, taken_at, warnings }) => {
                (Answer::Reading(Reading { taken_at: taken_at.unwrap_or(tick.now), amount }), warnings)
            }
            Err(error) => (Answer::Unreadable(unreadable(&error)), Vec::new()),
        };
        let warnings: Vec<_> = warnings.into_iter().map(|warning| format!("source {name:?}: {warning}")).collect();
        (Sample { source: name, answer }, warnings)
    };
    let (samples, warnings): (_, Vec<_>) =
        together(service.sources.iter().cloned().map(read)).await.into_iter().unzip();
    (samples, warnings.concat())
}

/// What the core is told of an error.
pub(super) fn unreadable(error: &Error) -> Unreadable {
    Unreadable { kind: error.kind(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_key() {
        assert_eq!(escaped("orders-v2_a"), "orders-v2_a");
        assert_eq!(escaped("../other"), "%2E%2E%2Fother");
        assert_ne!(escaped("a/b"), escaped("a_b"));
    }

    /// Names that look alike, contain what separates names, or could climb out of a folder.
    fn name() -> impl Strategy<Value = String> {
        let likely = ["orders", "Orders", "prod", "prod/orders", "orders.json", "..", "-", "%2F", "/", "123456789012"];
        prop_oneof![prop::sample::select(likely.to_vec()).prop_map(str::to_owned), "[a-z/.%-]{1,4}"]
    }

    fn identity() -> impl Strategy<Value = Identity> {
        let provider = prop::sample::select(vec!["ecs", "fleets"]);
        (provider, name(), prop::option::of(name()), prop::collection::vec(name(), 1..3))
            .prop_map(|(provider, region, account, path)| Identity { provider, region, account, path })
    }

    /// The same text, taken apart at every separator: what an identity with separators in its names would be mistaken for.
    fn taken_apart(one: &Identity) -> Identity {
        let account = one.account.clone().unwrap_or_else(|| "-".to_owned());
        let text = [vec![account, one.region.clone()], one.path.clone()].concat().join("/");
        let mut parts = text.split('/').map(str::to_owned);
        let (account, region) = (parts.next(), parts.next().unwrap_or_default());
        Identity { provider: one.provider, region, account, path: parts.collect() }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn two_targets_never_share_a_key(one in identity(), other in identity()) {
            for other in [other, taken_apart(&one)] {
                let is_same = one.clone().or_account("-") == other.clone().or_account("-");
                prop_assert_eq!(key_of(&one) == key_of(&other), is_same, "{:?} {:?}", one, other);
            }
        }

        #[test]
        fn equal_names_elsewhere_have_keys_of_their_own(one in identity(), other in name()) {
            let cluster = || Identity { path: [vec![other.clone()], one.path[1..].to_vec()].concat(), ..one.clone() };
            let region = || Identity { region: other.clone(), ..one.clone() };
            let account = || Identity { account: Some(other.clone()), ..one.clone() };
            for elsewhere in [cluster(), region(), account()] {
                let is_elsewhere = elsewhere.clone().or_account("-") != one.clone().or_account("-");
                prop_assert!(!is_elsewhere || key_of(&elsewhere) != key_of(&one), "{one:?} {elsewhere:?}");
            }
        }
    }
}
