//! The document that a store keeps: the states of one or more services, with what makes every write unique.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Expect, Found, LONGEST_DOCUMENT, Store, Version};
use crate::core::State;
use crate::error::{Error, ErrorKind, Result};

/// The form of the document. A document of a later form is not read, so that a rolled-back version destroys nothing.
const SCHEMA_VERSION: u32 = 1;

/// A state that nothing has happened to for this long is dropped from a document that is written anyway, so that a fleet's
/// document does not grow with every service that ever was. A service that lives is then seen for the first time again, which
/// costs it one scale-in cooldown; the longest is a week.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The states of the services that share a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    schema_version: u32,
    /// Grows by one with every write, so that people can tell the order.
    pub seq: u64,
    /// Who wrote this, unique to the write: no two documents are equal, so that a version that was read once never comes
    /// back, and our own write can be told from another's when the reply was lost.
    pub writer: String,
    /// When.
    pub saved_at: Timestamp,
    /// Which loop acts on the services, if one does. Forms before it know nothing of it and drop it when they write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// The states by the targets' identities.
    pub services: BTreeMap<String, State>,
}

/// Which loop acts on the services of a document, and until when.
///
/// It spares several loops the same work. Nothing that must hold depends on it: compare-and-swap is what keeps two writers from
/// stepping twice, with a lease, without one, and where two clocks differ on whether one has run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The loop, unique to its process.
    pub holder: String,
    /// When it runs out, unless it is renewed.
    pub until: Timestamp,
}

/// A document as it was found.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Its content; empty where none was saved yet.
    pub document: Option<Document>,
    /// What a save has to expect.
    pub expect: Expect,
    /// The lease as it was found. A save writes what is here then.
    pub lease: Option<Lease>,
}

impl Loaded {
    fn found(document: Document, version: Version) -> Self {
        Self { lease: document.lease.clone(), document: Some(document), expect: Expect::At(version) }
    }

    /// The state of a service, if one was saved.
    pub fn state(&self, service: &str) -> Option<&State> {
        self.document.as_ref()?.services.get(service)
    }
}

/// Loads the document under a key.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Malformed`] for a document that is not one of ours or of a later version.
pub async fn load(store: &dyn Store, key: &str) -> Result<Loaded> {
    load_since(store, key, None).await
}

/// The same where this process has loaded it before: the storage is asked whether that is still what it has.
///
/// # Errors
/// Those of [`load`].
pub async fn load_since(store: &dyn Store, key: &str, last: Option<&Loaded>) -> Result<Loaded> {
    let at = last.and_then(|last| match &last.expect {
        Expect::At(version) => Some((version, last)),
        Expect::Absent => None,
    });
    match (store.load(key, at.map(|(version, _)| version)).await?, at) {
        (Found::Document(bytes, version), _) => Ok(Loaded::found(parse(key, &bytes)?, version)),
        (Found::Unchanged, Some((_, last))) => Ok(last.clone()),
        (Found::Absent | Found::Unchanged, _) => Ok(Loaded { document: None, expect: Expect::Absent, lease: None }),
    }
}

/// Saves states over what was loaded, and returns the document as it is now.
///
/// # Errors
/// Those of the store; [`ErrorKind::Conflict`] if somebody else has written since.
pub async fn save(
    store: &dyn Store,
    key: &str,
    over: &Loaded,
    changed: impl IntoIterator<Item = (String, State)>,
    tick: &str,
    now: Timestamp,
) -> Result<Loaded> {
    let (seq, mut services) = match &over.document {
        Some(document) => (document.seq + 1, document.services.clone()),
        None => (1, BTreeMap::new()),
    };
    let cutoff = now.saturating_sub(FORGOTTEN_AFTER).unwrap_or(Timestamp::MIN);
    services.retain(|_, state| cutoff < state.quiet_since());
    services.extend(changed);
    let writer = unique(tick);
    let lease = over.lease.clone();
    let document = Document { schema_version: SCHEMA_VERSION, seq, writer, saved_at: now, lease, services };
    let during = || format!("saving state {key:?}");
    let bytes =
        serde_json::to_vec(&document).map_err(|error| Error::new(ErrorKind::Bug, during(), error.to_string()))?;
    if LONGEST_DOCUMENT < bytes.len() {
        let cause = format!("it would be longer than {LONGEST_DOCUMENT} bytes; use several fleets");
        return Err(Error::new(ErrorKind::Config, during(), cause));
    }
    let lost = match store.save(key, bytes, &over.expect).await {
        Ok(version) => return Ok(Loaded::found(document, version)),
        Err(error) => error,
    };
    if !may_have_succeeded(lost.kind()) {
        return Err(lost);
    }
    // The reply to a write that succeeded may be lost; what stands there now tells whose it is.
    let Ok(found) = load(store, key).await else { return Err(lost) };
    match found.document.as_ref().is_some_and(|found| found.writer == document.writer) {
        true => Ok(found),
        // Nobody has written since: the write failed, and that is what there is to say.
        false if found.expect == over.expect => Err(lost),
        false => Err(Error::new(ErrorKind::Conflict, during(), "another invocation has written it since it was read")),
    }
}

fn may_have_succeeded(kind: ErrorKind) -> bool {
    // A conflict, too: the SDK repeats a write whose reply was lost, and then meets its own success.
    matches!(kind, ErrorKind::Conflict | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Malformed)
}

/// The name and a random number: an event that is delivered twice has one name and two writers.
pub fn unique(tick: &str) -> String {
    format!("{tick}/{:016x}", RandomState::new().build_hasher().finish())
}

fn parse(key: &str, bytes: &[u8]) -> Result<Document> {
    let malformed = |cause: String| Error::new(ErrorKind::Malformed, format!("reading state {key:?}"), cause);
    #[derive(Deserialize)]
    struct Form {
        schema_version: u32,
    }
    if LONGEST_DOCUMENT < bytes.len() {
        return Err(malformed(format!("it is longer than {LONGEST_DOCUMENT} bytes")));
    }
    let form: Form = serde_json::from_slice(bytes).map_err(|error| malformed(format!("it is no state: {error}")))?;
    if form.schema_version != SCHEMA_VERSION {
        let cause = format!("it is of form {}, and this version reads form {SCHEMA_VERSION}", form.schema_version);
        return Err(malformed(format!("{cause}; run the version that wrote it, or move the object away")));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("it is no state: {error}")))
}

/// The version of a document that a store itself numbers by its content.
pub(super) fn fingerprint(bytes: &[u8]) -> Version {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
        writer: String,
    }
    match serde_json::from_slice::<Numbered>(bytes) {
        Ok(Numbered { seq, writer }) => Version(format!("{seq}/{writer}")),
        Err(_) => Version(format!("{}/{:?}", bytes.len(), bytes.iter().rev().take(16).collect::<Vec<_>>())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_without_a_lease_is_what_it_was_before_there_were_leases() {
        let old = r#"{"schema_version":1,"seq":1,"writer":"a","saved_at":"2026-01-01T00:00:00Z","services":{}}"#;
        let read = parse("key", old.as_bytes()).expect("it is of this form");
        assert_eq!(read.lease, None);
        assert_eq!(serde_json::to_string(&read).expect("it serializes"), old);
    }
}
