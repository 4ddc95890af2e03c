//! One tick: read everything at once, decide, announce, act, confirm. The one place that turns an error into a decision.
//!
//! The order of writes is what keeps overlapping and crashing invocations from stepping twice. The intent is saved
//! by compare-and-swap before the count is set, so that of any number of overlapping ticks one acts. A crash between the
//! two is recognised by the next tick in `core`. The confirmation afterwards saves that tick the question; nothing depends on it.

mod read;
mod settle;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

use crate::call::{Call, together};
use crate::config::Config;
use crate::core::State;
use crate::notifiers::Notifier;
use crate::record::Record;
use crate::shared::Shared;

/// One tick's circumstances.
#[derive(Debug)]
pub struct Tick<'a> {
    /// What to do.
    pub config: &'a Config,
    /// What adapters share.
    pub shared: &'a Shared,
    /// What this process remembers of earlier ticks.
    pub memory: &'a Memory,
    /// Who is told.
    pub notifiers: &'a [Box<dyn Notifier>],
    /// The time on which everything is decided.
    pub now: Timestamp,
    /// What is left of the invocation's time.
    pub call: Call,
    /// The tick's name: the request id of the invocation.
    pub name: &'a str,
}

/// The last state that this process saw of each service. Used only where `allow_scale_out_without_state` asks for it.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, State>>);

impl Memory {
    fn recall(&self, service: &str) -> Option<State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(service).cloned()
    }

    fn keep(&self, service: &str, state: &State) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(service.to_owned(), state.clone());
    }
}

/// Ticks once for every service of the configuration, and returns what happened in the configuration's order.
///
/// Nothing fails the whole: what fails, fails its own service, and is in its record.
pub async fn run(tick: &Tick<'_>) -> Vec<Record> {
    let started = Instant::now();
    let groups = read::everything(tick).await;
    let settled = together(groups.into_iter().map(|group| settle::group(tick, group, started))).await;
    let mut records: Vec<_> = settled.into_iter().flatten().collect();
    records.sort_by_key(|(position, _)| *position);
    let mut records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    for record in &mut records {
        warn_of_insecure_tls(tick.config, record);
        notify(tick, record).await;
    }
    records
}

/// A source whose certificates are not verified believes whoever answers. That is said at each tick.
fn warn_of_insecure_tls(config: &Config, record: &mut Record) {
    let service = config.services.iter().find(|service| service.name == record.service);
    for source in service.iter().flat_map(|service| &service.sources) {
        if source.section.settings["insecure_tls"] == true {
            let warning =
                format!("source {:?} does not verify certificates, and believes whoever answers", source.name);
            tracing::warn!(service = record.service, "{warning}");
            record.warnings.push(warning);
        }
    }
}

async fn notify(tick: &Tick<'_>, record: &mut Record) {
    for notifier in tick.notifiers {
        if let Err(error) = tick.call.run("passing the record on", notifier.notify(record)).await {
            tracing::warn!(service = record.service, %error, "a notifier failed");
            record.warnings.push(error.to_string());
        }
    }
}
