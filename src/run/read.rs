//! The first half of a tick: state, status and readings of every service, all at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tick;
use crate::adapter::Identity;
use crate::call::together;
use crate::config::{NamedSource, Service};
use crate::core::{Answer, Reading, Sample, TargetStatus, Unreadable};
use crate::error::{Error, ErrorKind, Result};
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
        let (target, status, samples) = seen.remove(&position).unwrap_or_else(unread);
        group.members.push(Member { position, service: service.clone(), id, target, status, samples });
    }
    let groups: Vec<_> = groups.into_iter().map(|(group, _)| group).collect();
    if tick.term.is_some() {
        let on_standby = groups.iter().filter(|group| group.on_standby.is_some());
        tick.memory.note_standby(on_standby.map(|group| group.key.clone()));
    }
    groups
}

type Seen = (Option<Arc<dyn Target>>, Status, Vec<Sample>);

/// Asks targets and sources of the services at these places in the configuration.
async fn readings(tick: &Tick<'_>, positions: Vec<usize>) -> BTreeMap<usize, Seen> {
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
    (None, Err(Unreadable { kind: ErrorKind::Bug, detail }), Vec::new())
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
            None => {
                let account = identity.account.as_deref().unwrap_or("-");
                let path: Vec<_> = identity.path.iter().map(|part| escaped(part)).collect();
                format!("v1/{}/{account}/{}/{}.json", identity.provider, escaped(&identity.region), path.join("/"))
            }
        };
        keys.entry(key).or_default().insert(position, identity.to_string());
    }
    let store = tick.memory.store(&tick.config.state, tick.shared).map_err(|error| unreadable(&error));
    let group = |(key, ids): (String, BTreeMap<usize, String>)| {
        let (store, account) = (store.clone(), account.clone());
        async move {
            let loaded = match (&store, &account) {
                (_, Err(why)) | (Err(why), _) => Err(why.clone()),
                (Ok(store), Ok(_)) => load(tick, store.as_ref(), &key).await.map_err(|error| unreadable(&error)),
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

/// Keeps names from meaning folders: everything but letters, digits, `-` and `_` becomes its code.
fn escaped(name: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// Asks for the status of services, once for all that share a scope; answers in the order asked.
pub(super) async fn ask_for_statuses(tick: &Tick<'_>, services: Vec<(&Identity, Built<'_>)>) -> Vec<Status> {
    let ask = async |target: &dyn Target, first: &Identity, names: &[String]| {
        tick.memory.pace.note_read(first, names.len());
        target.statuses(names).await
    };
    ask_together(tick, services, "status", ask).await
}

/// Asks how many tasks of services must not be stopped, once for all that share a scope; answers in the order asked.
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
    let mut scopes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (position, (identity, _)) in services.iter().enumerate() {
        scopes.entry(identity.scope()).or_default().push(position);
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
async fn samples(tick: &Tick<'_>, service: &Service) -> Vec<Sample> {
    let read = |source: NamedSource| async move {
        let NamedSource { name, section } = source;
        let during = format!("reading source {name:?} of {:?}", service.name);
        let read = async { section.build(tick.shared)?.read().await };
        let answer = match tick.call.run(&during, read).await {
            Ok(found) => {
                Answer::Reading(Reading { taken_at: found.taken_at.unwrap_or(tick.now), amount: found.amount })
            }
            Err(error) => Answer::Unreadable(unreadable(&error)),
        };
        Sample { source: name, answer }
    };
    together(service.sources.iter().cloned().map(read)).await
}

/// What the core is told of an error.
pub(super) fn unreadable(error: &Error) -> Unreadable {
    Unreadable { kind: error.kind(), detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_key() {
        assert_eq!(escaped("orders-v2_a"), "orders-v2_a");
        assert_eq!(escaped("../other"), "%2E%2E%2Fother");
        assert_ne!(escaped("a/b"), escaped("a_b"));
    }
}
