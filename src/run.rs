//! One tick: read everything at once, decide, announce, act, confirm. The one place that turns an error into a decision.
//!
//! The order of writes is what keeps overlapping and crashing invocations from stepping twice. The intent is saved
//! by compare-and-swap before the count is set, so that of any number of overlapping ticks one acts. A crash between the
//! two is recognised by the next tick in `core`. The confirmation afterwards saves that tick the question; nothing depends on it.

#[cfg(test)]
mod alerts;
mod asked;
mod draft;
mod lease;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod loops;
mod memory;
#[cfg(test)]
mod model;
mod read;
mod release;
mod settle;
#[cfg(test)]
mod toy;

use std::time::Instant;

use jiff::Timestamp;

use crate::call::{Call, together};
use crate::config::Config;
use crate::notifiers::Notifier;
use crate::record::Record;
use crate::shared::Shared;

pub use lease::Term;
pub use memory::Memory;
pub use release::release;

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
    /// The time that this tick was scheduled for, where a schedule says so.
    pub scheduled_for: Option<Timestamp>,
    /// The time on which everything is decided.
    pub now: Timestamp,
    /// What is left of the invocation's time.
    pub call: Call,
    /// The tick's name: the request id of the invocation.
    pub name: &'a str,
    /// On what terms to lease what is acted on. Only loops do, and only those that are no dry runs.
    pub term: Option<&'a Term>,
}

/// Ticks once for every service of the configuration, and returns what happened in the configuration's order.
///
/// Nothing fails the whole: what fails, fails its own service, and is in its record.
pub async fn run(tick: &Tick<'_>) -> Vec<Record> {
    let started = Instant::now();
    let groups = read::everything(tick).await;
    let mut groups = together(groups.into_iter().map(|group| settle::drafted(tick, group))).await;
    settle::ration(tick, &mut groups);
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
