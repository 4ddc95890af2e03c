//! The document that a store keeps: the states of one or more services, with what makes every write unique.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher, RandomState};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Expect, Found, LONGEST_DOCUMENT, Store, Version};
use crate::core::State;
use crate::error::{Error, ErrorKind, Result};

/// The form of the document. A document of a later form is neither read nor written, so that a rolled-back version destroys
/// nothing. The same holds for one of this form with a field that is not known here: `deny_unknown_fields` on everything in it
/// makes a field that a later version added an error, where ignoring it would lose it at the next write.
const SCHEMA_VERSION: u32 = 1;

/// A state that nothing has happened to for this long is dropped from a document that is written anyway, so that a fleet's
/// document does not grow with every service that ever was. A service that lives is then seen for the first time again, which
/// costs it one scale-in cooldown; the longest is a week.
const FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The states of the services that share a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Its content; empty where none was saved yet, or what was found is corrupt.
    pub document: Option<Document>,
    /// What a save has to expect.
    pub expect: Expect,
    /// The lease as it was found. A save writes what is here then.
    pub lease: Option<Lease>,
    /// What was found in a document's place, if it is no document. A save replaces it.
    pub corrupt: Option<Corrupt>,
}

/// What stands in a document's place and is none: empty, half of one, or something else.
///
/// It counts as nothing known, so that scale-in waits for its cooldown from first sight on.
#[derive(Debug, Clone)]
pub struct Corrupt {
    /// What was being read, and why it is no document.
    pub why: String,
    bytes: Vec<u8>,
}

impl Loaded {
    fn found(document: Document, version: Version) -> Self {
        let lease = document.lease.clone();
        Self { document: Some(document), expect: Expect::At(version), lease, corrupt: None }
    }

    /// The state of a service, if one was saved.
    pub fn state(&self, service: &str) -> Option<&State> {
        self.document.as_ref()?.services.get(service)
    }
}

/// Loads the document under a key.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Malformed`] for a document of a later version and for what is too long to be one. Both
/// are left as they are: the first is whole, and the second was never written by this program and cannot be kept before it is
/// replaced, so that somebody has to look at it.
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
    let (bytes, version) = match (store.load(key, at.map(|(version, _)| version)).await?, at) {
        (Found::Document(bytes, version), _) => (bytes, version),
        (Found::Unchanged, Some((_, last))) => return Ok(last.clone()),
        (Found::Absent | Found::Unchanged, _) => {
            return Ok(Loaded { document: None, expect: Expect::Absent, lease: None, corrupt: None });
        }
    };
    let during = format!("reading state {key:?}");
    match parse(&bytes) {
        Ok(document) => Ok(Loaded::found(document, version)),
        Err(Unparsed::LeftAlone(cause)) => Err(Error::new(ErrorKind::Malformed, during, cause)),
        Err(Unparsed::Corrupt(cause)) => {
            let why = format!("{during}: it is no state and counts as absent: {cause}");
            let corrupt = Some(Corrupt { why, bytes });
            Ok(Loaded { document: None, expect: Expect::At(version), lease: None, corrupt })
        }
    }
}

/// Keeps a copy of what the next save replaces, below `corrupt/` by its content, and returns the copy's key.
///
/// # Errors
/// Those of the store.
pub async fn set_aside(store: &dyn Store, key: &str, corrupt: &Corrupt) -> Result<String> {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&corrupt.bytes);
    let copy = format!("corrupt/{key}/{hash:016x}");
    match store.save(&copy, corrupt.bytes.clone(), &Expect::Absent).await {
        // The same bytes were kept before, by another invocation or an earlier tick.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(copy),
        Err(error) => Err(error),
        Ok(_) => Ok(copy),
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
        Some(document) => (document.seq.saturating_add(1), document.services.clone()),
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

/// Why bytes are no document that can be read, and whether they may be replaced.
enum Unparsed {
    LeftAlone(String),
    Corrupt(String),
}

fn parse(bytes: &[u8]) -> Result<Document, Unparsed> {
    #[derive(Deserialize)]
    struct Form {
        schema_version: u64,
    }
    if let Some(cause) = too_long(bytes.len() as u64) {
        return Err(Unparsed::LeftAlone(cause));
    }
    let form: Form = serde_json::from_slice(bytes).map_err(|error| Unparsed::Corrupt(excerpt(&error)))?;
    let read = format!("and this version reads form {SCHEMA_VERSION}");
    match form.schema_version {
        later if u64::from(SCHEMA_VERSION) < later => {
            let remedy = "run the version that wrote it, or move the object away";
            Err(Unparsed::LeftAlone(format!("it is of form {later}, {read}; {remedy}")))
        }
        earlier if earlier < u64::from(SCHEMA_VERSION) => {
            Err(Unparsed::Corrupt(format!("it is of form {earlier}, {read}")))
        }
        _ => serde_json::from_slice(bytes).map_err(|error| match excerpt(&error) {
            // Serde has no other way to tell these apart; a test holds it to its words.
            cause if cause.starts_with("unknown ") => Unparsed::LeftAlone(format!(
                "a later version wrote it ({cause}); run that version, or move the object away"
            )),
            cause => Unparsed::Corrupt(cause),
        }),
    }
}

/// The beginning of an error, which may quote all of what it is about.
fn excerpt(error: &serde_json::Error) -> String {
    error.to_string().chars().take(200).collect()
}

/// What is wrong with something of this length, in bytes, in a document's place, if it is too long to be one.
pub(super) fn too_long(length: u64) -> Option<String> {
    let cause =
        || format!("it is {length} bytes long, and a state has at most {LONGEST_DOCUMENT}; move the object away");
    ((LONGEST_DOCUMENT as u64) < length).then(cause)
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
    use std::sync::Mutex;

    use async_trait::async_trait;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::memory;
    use super::*;
    use crate::core::{Action, BrakeLoad, Failing, Intent, LastLoad, Shortfall, Zero};
    use crate::shared::Shared;

    const GOLDEN: &str = include_str!("../../tests/it/vectors/state-v1.json");

    fn store() -> Box<dyn Store> {
        (memory::KIND.build)(&json!({}), &Shared::for_wire("http://127.0.0.1:9")).expect("settings are valid")
    }

    async fn loaded(body: impl Into<Vec<u8>>) -> Result<Loaded> {
        let store = store();
        store.save("key", body.into(), &Expect::Absent).await.expect("nothing was there");
        load(store.as_ref(), "key").await
    }

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a valid time")
    }

    /// This file is never changed: a later version reads it as this one does, or it forgets what it had done.
    #[tokio::test]
    async fn a_document_of_form_1_is_read_with_all_its_fields_for_ever() {
        let document = loaded(GOLDEN).await.expect("it can be read").document.expect("it is a state");
        assert_eq!((document.seq, document.writer.as_str()), (42, "c0ffee/0123456789abcdef"));
        assert_eq!(document.saved_at, time("2026-11-22T12:00:00.123456789Z"));
        let action = |at: &str, from, to, base| Some(Action { at: time(at), from, to, base, tick: None });
        let everything = State {
            last_out: action("2026-11-22T12:00:00.123456789Z", 60, 110, 10),
            last_in: action("2026-11-22T11:00:00Z", 11, 10, 11),
            pending: Some(Intent { at: time("2026-11-22T12:00:00.123456789Z"), from: 60, to: 110 }),
            ..State::new(time("2026-11-01T00:00:00Z"))
        };
        let busy = State {
            last_out: Some(Action {
                tick: Some(time("2026-11-22T10:59:58Z")),
                ..action("2026-11-22T11:00:00Z", 5, 9, 5).expect("an action")
            }),
            count: Some(9),
            zeros: [("orders".to_owned(), Zero { since: time("2026-11-22T11:58:00Z"), seen: 2, last: None })].into(),
            failing: Some(Failing { since: time("2026-11-22T11:50:00Z"), ticks: 3 }),
            last_loads: [("orders".to_owned(), LastLoad { load: 12.5, at: time("2026-11-22T11:49:00Z") })].into(),
            shortfall: Some(Shortfall {
                since: time("2026-11-22T11:40:00Z"),
                running: 7,
                probed: Some(time("2026-11-22T11:55:00Z")),
            }),
            brake_loads: [("dead".to_owned(), BrakeLoad { load: 3.0, grown: Some(time("2026-11-22T11:30:00Z")) })]
                .into(),
            ..State::new(time("2026-11-01T00:00:00Z"))
        };
        let expected = [
            ("ecs:us-east-1/123456789012/prod/busy".to_owned(), busy),
            ("ecs:us-east-1/123456789012/prod/new".to_owned(), State::new(time("2026-11-22T12:00:00Z"))),
            ("ecs:us-east-1/123456789012/prod/orders".to_owned(), everything),
        ];
        assert_eq!(document.services, BTreeMap::from(expected));
    }

    #[tokio::test]
    async fn what_another_version_wrote_is_neither_read_nor_counted_as_absent() {
        let golden: Value = serde_json::from_str(GOLDEN).expect("it is JSON");
        for (pointer, value) in [
            ("/schema_version", json!(2)),
            ("/schema_version", json!(u64::MAX)),
            ("/later", json!(true)),
            ("/services/ecs:us-east-1~1123456789012~1prod~1new/later", json!(1)),
            ("/services/ecs:us-east-1~1123456789012~1prod~1orders/last_in/later", json!(1)),
            ("/services/ecs:us-east-1~1123456789012~1prod~1orders/pending/later", json!({})),
        ] {
            let mut later = golden.clone();
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            later.pointer_mut(parent).expect("it is there")[name] = value;
            let error = loaded(later.to_string()).await.expect_err("it is of a later version");
            assert_eq!(error.kind(), ErrorKind::Malformed);
            assert!(error.to_string().contains("move the object away"), "{pointer}: {error}");
        }
        let error = loaded(vec![b' '; LONGEST_DOCUMENT + 1]).await.expect_err("it is too long");
        assert!(error.to_string().contains("it is 1048577 bytes long"), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_document_counts_as_absent_at_its_version() {
        let half = &GOLDEN[..GOLDEN.len() / 2];
        let with_mark = format!("\u{feff}{GOLDEN}");
        let nested = "[".repeat(100_000);
        for body in ["", " ", "null", "[]", "{}", "not a state", half, &with_mark, &nested]
            .map(|text| text.as_bytes().to_vec())
            .into_iter()
            .chain([vec![0; 4096], vec![0xff; 16], vec![b' '; LONGEST_DOCUMENT]])
            .chain(wrong_types())
        {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            let Loaded { document, expect, corrupt, .. } =
                loaded(body).await.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(document, None, "{shown}");
            assert!(matches!(expect, Expect::At(_)), "{shown}");
            let why = corrupt.expect("it is corrupt").why;
            assert!(why.starts_with("reading state \"key\": it is no state and counts as absent: "), "{why}");
            assert!(why.len() < 400, "{why}");
        }
    }

    fn wrong_types() -> impl Iterator<Item = Vec<u8>> {
        let wrong = [
            ("/schema_version", json!("1")),
            ("/schema_version", json!(0)),
            ("/schema_version", json!(-1)),
            ("/seq", json!("42")),
            ("/seq", json!(-1)),
            ("/writer", json!(null)),
            ("/saved_at", json!("yesterday")),
            ("/services", json!([])),
            ("/services/a", json!("x".repeat(10_000))),
            ("/services/a", json!({ "since": 5 })),
            ("/services/a", json!({ "since": "+999999-01-01T00:00:00Z" })),
            ("/services/a", json!({ "since": "2026-11-22T12:00:00Z", "pending": { "at": "2026-11-22T12:00:00Z" } })),
        ];
        wrong.into_iter().map(|(pointer, value)| {
            let mut document: Value = serde_json::from_str(GOLDEN).expect("it is JSON");
            let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
            document.pointer_mut(parent).expect("it is there")[name] = value;
            document.to_string().into_bytes()
        })
    }

    #[tokio::test]
    async fn the_last_number_of_a_document_can_be_written_over() {
        let mut document: Value = serde_json::from_str(GOLDEN).expect("it is JSON");
        document["seq"] = json!(u64::MAX);
        let store = store();
        store.save("key", document.to_string().into_bytes(), &Expect::Absent).await.expect("nothing was there");
        let now = time("2026-11-22T12:01:00Z");
        let read = load(store.as_ref(), "key").await.expect("it can be read");
        let saved = save(store.as_ref(), "key", &read, [], "tick", now).await.expect("it can be saved");
        assert_eq!(saved.document.expect("it was saved").seq, u64::MAX);
    }

    /// Keeps everything that it is asked to save.
    #[derive(Debug)]
    struct Recording {
        store: Box<dyn Store>,
        saved: Mutex<Vec<Vec<u8>>>,
    }

    #[async_trait]
    impl Store for Recording {
        async fn load(&self, key: &str, unless: Option<&Version>) -> Result<Found> {
            self.store.load(key, unless).await
        }

        async fn save(&self, key: &str, document: Vec<u8>, expect: &Expect) -> Result<Version> {
            self.saved.lock().expect("no test panics while it holds it").push(document.clone());
            self.store.save(key, document, expect).await
        }
    }

    /// Saves the same state over and over, each time over one of the documents that were there, and returns all that was written.
    async fn written(steps: &[(prop::sample::Index, usize)]) -> Vec<Vec<u8>> {
        let store = Recording { store: store(), saved: Mutex::default() };
        let now = time("2026-11-22T12:00:00Z");
        let mut seen = vec![load(&store, "key").await.expect("an empty store can be read")];
        for (over, tick) in steps {
            let state = [("orders".to_owned(), State::new(now))];
            // One name for two writes is an event that was delivered twice.
            let saved = save(&store, "key", over.get(&seen), state, ["one", "two"][*tick], now).await;
            match saved {
                Ok(saved) => seen.push(saved),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        store.saved.into_inner().expect("no test panics while it holds it")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_two_documents_are_equal(steps in prop::collection::vec((any::<prop::sample::Index>(), 0..2_usize), 2..20)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let written = runtime.block_on(written(&steps));
            prop_assert_eq!(written.len(), steps.len());
            let versions: std::collections::BTreeSet<_> = written.iter().map(|bytes| fingerprint(bytes).0).collect();
            prop_assert_eq!(versions.len(), steps.len(), "a version came back");
            let distinct: std::collections::BTreeSet<_> = written.into_iter().collect();
            prop_assert_eq!(distinct.len(), steps.len(), "two documents are equal");
        }
    }

    #[test]
    fn a_document_without_a_lease_is_what_it_was_before_there_were_leases() {
        let old = r#"{"schema_version":1,"seq":1,"writer":"a","saved_at":"2026-01-01T00:00:00Z","services":{}}"#;
        let Ok(read) = parse(old.as_bytes()) else { panic!("it is of this form") };
        assert_eq!(read.lease, None);
        assert_eq!(serde_json::to_string(&read).expect("it serializes"), old);
    }
}
