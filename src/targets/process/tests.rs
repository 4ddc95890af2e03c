use serde_json::json;

use super::*;
use crate::wire::Contract;

pub(super) const CONTRACT: Contract = Contract::Local {
    settings: |dir| json!({ "service": "it", "program": ["tail", "-f", "/dev/null"], "dir": dir, "grace_secs": 1 }),
};

#[test]
fn settings_that_start_nothing_are_refused() {
    for settings in [
        json!({ "service": "a", "program": [""] }),
        json!({ "service": "a", "program": ["a\0b"] }),
        json!({ "service": "a", "program": ["a"], "env": { "A.B": "c" } }),
        json!({ "service": "a", "program": ["a"], "env": { "1A": "c" } }),
        json!({ "service": "a", "program": ["a"], "env": { "TIDEGATE_WORKER": "1" } }),
    ] {
        assert_eq!(check(&settings).len(), 1, "{settings}");
    }
    assert_eq!(check(&json!({ "service": "a", "program": ["a", "b c"], "env": { "A_1": "env:B" } })), []);
}

async fn built(dir: &tempfile::TempDir, program: &[&str]) -> Box<dyn Target> {
    let settings = json!({ "service": "it", "program": program, "dir": dir.path(), "grace_secs": 0, "log": "null" });
    build(&settings, &Shared::for_wire("http://127.0.0.1:9")).expect("settings are valid")
}

#[tokio::test]
async fn setting_is_absolute_and_repeating_it_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = built(&dir, &["tail", "-f", "/dev/null"]).await;
    let set = async |desired| target.set_desired("it", desired).await.expect("it can be set");
    assert_eq!(set(0).await, Applied::AlreadyThere);
    for desired in [3, 1, 0] {
        assert_eq!(set(desired).await, Applied::Set);
        assert_eq!(set(desired).await, Applied::AlreadyThere);
    }
}

#[tokio::test]
async fn a_worker_that_began_to_work_after_it_was_chosen_is_spared() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = built(&dir, &["tail", "-f", "/dev/null"]).await;
    target.set_desired("it", 1).await.expect("it can be set");
    let registry = Registry::of(dir.path(), "it").expect("a folder");
    let chosen = registry.workers().expect("they can be read").remove(0);
    assert!(!chosen.is_busy);
    let busy = registry::busy_file(&chosen.home);
    std::fs::write(&busy, "").expect("it begins to work");
    let deadline = jiff::Timestamp::UNIX_EPOCH;
    assert!(!registry.retire(&chosen, deadline).expect("it is there"));
    assert!(registry.workers().expect("they can be read").remove(0).is_busy, "it is where it was");
    std::fs::remove_file(&busy).expect("it is idle again");
    assert!(registry.retire(&chosen, deadline).expect("it is there"));
    let refused = std::fs::write(&busy, "").expect_err("from now on it cannot take work");
    assert_eq!(refused.kind(), Io::NotFound);
    // Its end was prevented: nobody told it. The next change kills it.
    target.set_desired("it", 0).await.expect("it can be set");
    let pid = chosen.entry.pid;
    let is_there = || procfs::stat(pid).expect("it can be read").is_some_and(|stat| !stat.is_over);
    while is_there() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_worker_without_an_entry_ends_with_the_one_who_started_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let proof = dir.path().join("began");
    let settings = json!({ "service": "it", "program": ["touch", &proof], "dir": dir.path() });
    let settings = parse::<Settings>(&settings).expect("settings are valid");
    let program = group::program(&settings, group::PATH).expect("every system has it");
    let registry = Registry::of(dir.path(), "it").expect("a folder");
    let starter = Starter { settings: &settings, program: &program, env: &BTreeMap::new(), registry: &registry };
    let prepare = || starter.prepare(&registry.home(1), 1, "token").expect("the shell can be started");
    let (mut worker, gate) = prepare();
    drop(gate);
    assert!(!worker.wait().await.expect("it is ours").success());
    assert!(!proof.exists(), "it began without an entry");
    let (mut worker, gate) = prepare();
    group::open(gate).expect("it waits");
    assert!(worker.wait().await.expect("it is ours").success());
    assert!(proof.exists());
}
