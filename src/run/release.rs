//! The clean end of a loop: its leases are given back, so that another need not wait until they run out.

use super::Tick;
use crate::error::{Error, ErrorKind, Result};
use crate::stores::document;

/// How often a release is tried against others that write. Somebody who writes without a rest writes a lease of their own.
const ATTEMPTS: usize = 4;

/// Gives back what this loop leased, and returns what could not be given back and therefore has to run out.
pub async fn release(tick: &Tick<'_>) -> Vec<Error> {
    let holder = tick.term.map_or("", |term| &term.holder);
    let mut failed = Vec::new();
    for key in tick.memory.leased_to(holder) {
        let during = format!("giving back the lease of {key:?}");
        if let Err(error) = tick.call.run(&during, give_back(tick, holder, &key)).await {
            failed.push(error);
        }
    }
    failed
}

async fn give_back(tick: &Tick<'_>, holder: &str, key: &str) -> Result<()> {
    let store = tick.memory.store(&tick.config.state, tick.shared)?;
    let mut last = tick.memory.document(key);
    for _ in 0..ATTEMPTS {
        let mut found = match last.take() {
            Some(last) => last,
            None => document::load(store.as_ref(), key).await?,
        };
        let is_ours = found.lease.take().is_some_and(|lease| lease.holder == holder);
        if !is_ours {
            return Ok(());
        }
        match document::save(store.as_ref(), key, &found, [], tick.name, tick.now).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => return Err(error),
            Ok(saved) => {
                tick.memory.keep_document(key, &saved);
                return Ok(());
            }
        }
    }
    Err(Error::new(ErrorKind::Conflict, "", "others wrote at the same time"))
}
