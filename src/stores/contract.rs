//! What every store must do, races included, played for each line of the table.

use std::sync::Arc;
use std::time::Duration;

use super::document::{self, Document, Lease};
use super::{Expect, Found, Store, TABLE};
use crate::adapter::{Entry, Kind};
use crate::call::Call;
use crate::core::State;
use crate::error::ErrorKind;
use crate::shared::Shared;
use crate::wire::{Contract, Scene, Wire};

fn built() -> impl Iterator<Item = &'static Kind<dyn Store>> {
    TABLE.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some(*kind),
        Entry::NotBuilt { .. } => None,
    })
}

/// Stores that need no server; those that do are played with canned answers here, and against the real thing in `tests/it`.
fn local() -> impl Iterator<Item = (&'static str, Arc<dyn Store>, tempfile::TempDir)> {
    built().filter_map(|kind| {
        let Contract::Local { settings } = kind.contract else { return None };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = (kind.build)(&settings(folder.path()), &Shared::for_wire("http://127.0.0.1:9"))
            .expect("settings are valid");
        Some((kind.name, Arc::from(store), folder))
    })
}

#[tokio::test]
async fn a_save_replaces_exactly_what_it_expects() {
    for (name, store, _folder) in local() {
        assert_eq!(store.load("a/b", None).await.expect("an empty store can be read"), Found::Absent, "{name}");
        let save = |text: &'static str, expect: Expect| {
            let store = store.clone();
            async move { store.save("a/b", text.into(), &expect).await }
        };
        let first = save(r#"{"seq": 1, "writer": "a"}"#, Expect::Absent).await.expect("nothing was there");
        let second =
            save(r#"{"seq": 2, "writer": "a"}"#, Expect::At(first.clone())).await.expect("the first was there");
        assert_ne!(first, second, "{name}");
        for expect in [Expect::Absent, Expect::At(first.clone())] {
            let error = save(r#"{"seq": 3, "writer": "b"}"#, expect).await.expect_err("the second is there");
            assert_eq!(error.kind(), ErrorKind::Conflict, "{name}");
        }
        let expected = Found::Document(br#"{"seq": 2, "writer": "a"}"#.to_vec(), second.clone());
        assert_eq!(store.load("a/b", None).await.expect("it can be read"), expected, "{name}");
        assert_eq!(store.load("a/b", Some(&first)).await.expect("it can be read"), expected, "{name}");
        let unchanged = store.load("a/b", Some(&second)).await.expect("it can be read");
        assert_eq!(unchanged, Found::Unchanged, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_saves_that_expect_the_same_version_one_succeeds() {
    for (name, store, _folder) in local() {
        let workers = (0..5).map(|worker| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    while !increment(store.as_ref(), worker).await {}
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no worker panics");
        }
        let loaded = document::load(store.as_ref(), "counter").await.expect("it can be read");
        assert_eq!(loaded.document.expect("it is there").seq, 50, "{name}: an increment was lost");
    }
}

#[tokio::test]
async fn what_another_has_written_since_is_seen() {
    for (name, store, _folder) in local() {
        let (store, now) = (store.as_ref(), jiff::Timestamp::UNIX_EPOCH);
        let empty = document::load_since(store, "key", None).await.expect("it can be read");
        let first = document::save(store, "key", &empty, [], "a", now).await.expect("nothing was there");
        let same = document::load_since(store, "key", Some(&first)).await.expect("it can be read");
        assert_eq!(same.document, first.document, "{name}");
        let mut leased = same.clone();
        leased.lease = Some(Lease { holder: "loop".to_owned(), until: now });
        let second = document::save(store, "key", &leased, [], "b", now).await.expect("the first was there");
        let seen = document::load_since(store, "key", Some(&first)).await.expect("it can be read");
        assert_eq!((&seen.document, &seen.lease), (&second.document, &leased.lease), "{name}");
        // A writer that knows nothing of leases leaves one as it is.
        let third = document::save(store, "key", &seen, [], "c", now).await.expect("the second was there");
        assert_eq!(third.document.expect("it was saved").lease, leased.lease, "{name}");
    }
}

async fn increment(store: &dyn Store, worker: u32) -> bool {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let loaded = document::load(store, "counter").await.expect("it can be read");
    let changed = [(format!("worker-{worker}"), State::new(now))];
    match document::save(store, "counter", &loaded, changed, "tick", now).await {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::Conflict => false,
        Err(error) => panic!("saving failed: {error}"),
    }
}

#[tokio::test]
async fn failures_of_a_store_are_errors_of_their_kind() {
    for kind in built() {
        let Contract::Wire { settings, reply } = kind.contract else { continue };
        for (scene, on_load, on_save) in [
            (Scene::Denied, ErrorKind::Denied, ErrorKind::Denied),
            (Scene::NotFound, ErrorKind::NotFound, ErrorKind::NotFound),
            (Scene::Throttled, ErrorKind::Throttled, ErrorKind::Throttled),
            (Scene::Broken, ErrorKind::Unavailable, ErrorKind::Unavailable),
            (Scene::Cut, ErrorKind::Unavailable, ErrorKind::Unavailable),
            (Scene::Silent, ErrorKind::Timeout, ErrorKind::Timeout),
            (Scene::Endless, ErrorKind::Unavailable, ErrorKind::Unavailable),
            (Scene::Conflict, ErrorKind::Conflict, ErrorKind::Conflict),
            (Scene::Malformed, ErrorKind::Malformed, ErrorKind::Malformed),
            (Scene::Stored(r#"{"schema_version": 99}"#), ErrorKind::Malformed, ErrorKind::Malformed),
        ] {
            let wire = Wire::play(scene, reply).await;
            let build = || {
                (kind.build)(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid")
            };
            let store = build();
            let call = || Call::within(Duration::from_millis(if scene == Scene::Silent { 800 } else { 20_000 }));
            let loaded = call().run("loading", document::load(store.as_ref(), "key")).await;
            let error = loaded.expect_err("it cannot be read");
            let endless_or = |expected| if scene == Scene::Endless { error.kind() } else { expected };
            assert_eq!(error.kind(), endless_or(on_load), "{} at {scene:?}: {error}", kind.name);
            // What cannot be a state is not overwritten either.
            if matches!(scene, Scene::Malformed | Scene::Stored(_)) {
                continue;
            }
            let saved = call().run("saving", store.save("key", b"{}".to_vec(), &Expect::Absent)).await;
            if scene != Scene::Endless {
                let error = saved.expect_err("it cannot be saved");
                assert_eq!(error.kind(), on_save, "{} at {scene:?}: {error}", kind.name);
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_document_is_replaced_at_its_version_and_kept_beside() {
    for (name, store, _folder) in local() {
        let (key, now) = ("v1/ecs/1/r/c/s.json", jiff::Timestamp::UNIX_EPOCH);
        let half = b"{\"schema_version\": 1, \"se".to_vec();
        store.save(key, half.clone(), &Expect::Absent).await.expect("nothing was there");
        let loaded = document::load(store.as_ref(), key).await.expect("it is no error");
        let corrupt = loaded.corrupt.as_ref().expect("it is no document");
        let copy = document::set_aside(store.as_ref(), key, corrupt).await.expect("it can be kept");
        let again = document::set_aside(store.as_ref(), key, corrupt).await.expect("it is kept already");
        assert_eq!(copy, again, "{name}");
        assert!(copy.starts_with("corrupt/v1/ecs/1/r/c/s.json/"), "{name}: {copy}");
        let Ok(Found::Document(kept, _)) = store.load(&copy, None).await else { panic!("{name}: there is no copy") };
        assert_eq!(kept, half, "{name}");
        let save = || document::save(store.as_ref(), key, &loaded, [], "tick", now);
        let saved = save().await.expect("what is corrupt can be replaced");
        assert_eq!(saved.document.map(|document| document.seq), Some(1), "{name}");
        let error = save().await.expect_err("it was replaced before");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{name}: {error}");
    }
}

#[tokio::test]
async fn an_empty_document_is_no_document_over_the_wire_too() {
    for kind in built() {
        let Contract::Wire { settings, reply } = kind.contract else { continue };
        let wire = Wire::play(Scene::Stored(""), reply).await;
        let store =
            (kind.build)(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        let loaded = document::load(store.as_ref(), "key").await.expect("it is no error");
        assert!(loaded.corrupt.is_some() && loaded.document.is_none(), "{}", kind.name);
        assert!(matches!(loaded.expect, Expect::At(_)), "{}", kind.name);
    }
}

#[tokio::test]
async fn a_missing_document_is_none_over_the_wire_too() {
    for kind in built() {
        let Contract::Wire { settings, reply } = kind.contract else { continue };
        let wire = Wire::play(Scene::Absent, reply).await;
        let store =
            (kind.build)(&settings(&wire.endpoint), &Shared::for_wire(&wire.endpoint)).expect("settings are valid");
        let loaded = document::load(store.as_ref(), "key").await.expect("an absent document is no error");
        assert_eq!((loaded.document, loaded.expect), (None::<Document>, Expect::Absent), "{}", kind.name);
    }
}
