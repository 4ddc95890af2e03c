//! The stores of S3 and DynamoDB against both emulators: what the contract suite asks of every store.

use std::sync::Arc;

use tidegate::core::State;
use tidegate::error::ErrorKind;
use tidegate::stores::{Expect, Found, Store, document};

use crate::support::emulator::{World, loaded};
use crate::support::noon;

async fn dynamodb(world: World) -> Arc<dyn Store> {
    world.store_of(&world.env_with_table(&world.url(), &[]).await).await
}

async fn replaces_exactly_what_it_expects(store: Arc<dyn Store>) {
    assert_eq!(store.load("a/b", None).await.expect("a missing object is no error"), Found::Absent);
    let first = store.save("a/b", b"{\"seq\":1}".to_vec(), &Expect::Absent).await.expect("nothing was there");
    let second =
        store.save("a/b", b"{\"seq\":2}".to_vec(), &Expect::At(first.clone())).await.expect("the first was there");
    for expect in [Expect::Absent, Expect::At(first)] {
        let error = store.save("a/b", b"{\"seq\":3}".to_vec(), &expect).await.expect_err("the second is there");
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    let found = store.load("a/b", None).await.expect("it can be read");
    assert_eq!(found, Found::Document(b"{\"seq\":2}".to_vec(), second.clone()));
    assert_eq!(store.load("a/b", Some(&second)).await.expect("it can be read"), Found::Unchanged);
    // A state that was deleted since it was read is not written again as if nothing had happened.
    let gone = Expect::At(tidegate::stores::Version("\"d41d8cd98f00b204e9800998ecf8427e\"".to_owned()));
    let error = store.save("never/written", b"{}".to_vec(), &gone).await.expect_err("it is not there");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

async fn no_increment_is_lost(store: Arc<dyn Store>) {
    let worker = |worker: u32| {
        let store = store.clone();
        async move {
            for _ in 0..10 {
                loop {
                    let loaded = document::load(store.as_ref(), "counter").await.expect("it can be read");
                    let changed = [(format!("worker-{worker}"), State::new(noon()))];
                    match document::save(store.as_ref(), "counter", &loaded, changed, "tick", noon()).await {
                        Ok(_) => break,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            }
        }
    };
    let workers: Vec<_> = (0..5).map(|number| tokio::spawn(worker(number))).collect();
    for worker in workers {
        worker.await.expect("no worker panics");
    }
    assert_eq!(loaded(store.as_ref(), "counter").await.expect("it is there").seq, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_replaces_exactly_what_it_expects() {
    replaces_exactly_what_it_expects(World::ministack(1).await.store().await).await;
    replaces_exactly_what_it_expects(World::moto(1).await.store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_loses_no_increment_of_five_workers() {
    no_increment_is_lost(World::ministack(1).await.store().await).await;
    no_increment_is_lost(World::moto(1).await.store().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_replaces_exactly_what_it_expects() {
    replaces_exactly_what_it_expects(dynamodb(World::ministack(1).await).await).await;
    replaces_exactly_what_it_expects(dynamodb(World::moto(1).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_loses_no_increment_of_five_workers() {
    no_increment_is_lost(dynamodb(World::ministack(1).await).await).await;
    no_increment_is_lost(dynamodb(World::moto(1).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_is_not_found_and_never_an_absent_state() {
    for world in [World::ministack(1).await, World::moto(1).await] {
        let mut env = world.env(&world.url(), &[("CONFIG", r#"{"state": {"type": "dynamodb", "table": "nowhere"}}"#)]);
        env.retain(|(name, _)| name != "S3_CONFIG_BUCKET");
        let store = world.store_of(&env).await;
        let error = store.load("a", None).await.expect_err("the table is missing");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let error = store.save("a", b"{}".to_vec(), &Expect::Absent).await.expect_err("the table is missing");
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
}
