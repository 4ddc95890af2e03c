//! What a process remembers from tick to tick. Nothing that must hold depends on it: each tick may be the first of its process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::adapter::Section;
use crate::core::State;
use crate::error::Result;
use crate::pace::Pace;
use crate::shared::Shared;
use crate::stores::{Loaded, Store};

/// What a process remembers from tick to tick.
#[derive(Debug, Default)]
pub struct Memory {
    remembered: Mutex<Remembered>,
    /// What the targets' interfaces take.
    pub pace: Pace,
}

#[derive(Debug, Default)]
struct Remembered {
    /// The last state that was seen of each service, for `allow_scale_out_without_state`.
    states: BTreeMap<String, State>,
    /// A loop's documents by their keys, as they were found or written last.
    documents: BTreeMap<String, Loaded>,
    /// The keys of the documents that another loop's lease keeps this one from.
    on_standby: BTreeSet<String>,
    /// The desired count of each service when a loop of this process first saw it.
    first_counts: BTreeMap<String, u32>,
    store: Option<(&'static str, Value, Arc<dyn Store>)>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn recall(&self, service: &str) -> Option<State> {
        self.lock().states.get(service).cloned()
    }

    pub(super) fn keep(&self, service: &str, state: &State) {
        self.lock().states.insert(service.to_owned(), state.clone());
    }

    pub(super) fn document(&self, key: &str) -> Option<Loaded> {
        self.lock().documents.get(key).cloned()
    }

    pub(super) fn keep_document(&self, key: &str, loaded: &Loaded) {
        self.lock().documents.insert(key.to_owned(), loaded.clone());
    }

    /// The keys of the documents that are leased to this loop.
    pub(super) fn leased_to(&self, holder: &str) -> Vec<String> {
        let is_ours = |loaded: &Loaded| loaded.lease.as_ref().is_some_and(|lease| lease.holder == holder);
        let all = &self.lock().documents;
        all.iter().filter(|(_, loaded)| is_ours(loaded)).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn was_on_standby(&self) -> bool {
        !self.lock().on_standby.is_empty()
    }

    pub(super) fn note_standby(&self, keys: impl IntoIterator<Item = String>) {
        self.lock().on_standby = keys.into_iter().collect();
    }

    /// The desired count of a service when a loop of this process first saw it.
    pub fn first_count(&self, service: &str) -> Option<u32> {
        self.lock().first_counts.get(service).copied()
    }

    pub(super) fn note_count(&self, service: String, desired: u32) {
        self.lock().first_counts.entry(service).or_insert(desired);
    }

    /// The store of these settings, built once, since one that lives in this process would otherwise forget everything.
    pub(super) fn store(&self, section: &Section<dyn Store>, shared: &Shared) -> Result<Arc<dyn Store>> {
        let mut remembered = self.lock();
        let same =
            |(name, settings, _): &&(&str, Value, _)| *name == section.kind.name && *settings == section.settings;
        if let Some((_, _, store)) = remembered.store.as_ref().filter(same) {
            return Ok(store.clone());
        }
        let store = Arc::from(section.build(shared)?);
        remembered.store = Some((section.kind.name, section.settings.clone(), Arc::clone(&store)));
        Ok(store)
    }

    /// Forgets the store, whose clients were those of another profile or region.
    pub(crate) fn forget_store(&self) {
        self.lock().store = None;
    }
}
