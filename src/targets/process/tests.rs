use std::path::Path;

use serde_json::json;

use super::*;
use crate::wire::Contract;

pub(super) const CONTRACT: Contract = Contract::Local {
    settings: |dir| json!({ "service": name(dir), "program": ["tail", "-f", "/dev/null"], "dir": dir, "grace_secs": 1 }),
};

/// A service that no other test has, since a machine has one service of a name.
fn name(dir: &Path) -> String {
    format!("it{}", dir.file_name().expect("it has a name").to_string_lossy().replace('.', "-"))
}

/// Waits for the end of a worker.
async fn ended(pid: i32) {
    let is_there = || procfs::stat(pid).expect("it can be read").is_some_and(|stat| !stat.is_over);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while is_there() {
        assert!(std::time::Instant::now() < patience, "{pid} does not end");
        tokio::task::yield_now().await;
    }
}

#[test]
fn settings_that_start_nothing_are_refused() {
    for settings in [
        json!({ "service": "a", "program": [""] }),
        json!({ "service": "a", "program": ["a\0b"] }),
        json!({ "service": "a", "program": ["a"], "dir": "workers" }),
        json!({ "service": "a", "program": ["a"], "env": { "A.B": "c" } }),
        json!({ "service": "a", "program": ["a"], "env": { "1A": "c" } }),
        json!({ "service": "a", "program": ["a"], "env": { "TIDEGATE_WORKER": "1" } }),
    ] {
        assert_eq!(check(&settings).len(), 1, "{settings}");
    }
    assert_eq!(check(&json!({ "service": "a", "program": ["a", "b c"], "env": { "A_1": "env:B" } })), []);
}

async fn built(dir: &tempfile::TempDir, program: &[&str]) -> Box<dyn Target> {
    let service = name(dir.path());
    let settings = json!({ "service": service, "program": program, "dir": dir.path(), "grace_secs": 0, "log": "null" });
    build(&settings, &Shared::for_wire("http://127.0.0.1:9")).expect("settings are valid")
}

#[tokio::test]
async fn setting_is_absolute_and_repeating_it_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = built(&dir, &["tail", "-f", "/dev/null"]).await;
    let service = name(dir.path());
    let set = async |desired| target.set_desired(&service, desired).await.expect("it can be set");
    assert_eq!(set(0).await, Applied::AlreadyThere);
    let mut workers = Vec::new();
    for desired in [3, 1, 0] {
        assert_eq!(set(desired).await, Applied::Set);
        assert_eq!(set(desired).await, Applied::AlreadyThere);
        workers.extend(Registry::of(dir.path(), &service).workers().expect("they can be read"));
    }
    for worker in workers {
        ended(worker.entry.pid).await;
    }
}

#[tokio::test]
async fn workers_that_began_to_work_after_the_decision_are_not_stopped() {
    let dir = tempfile::tempdir().expect("a folder");
    let (target, service) = (built(&dir, &["tail", "-f", "/dev/null"]).await, name(dir.path()));
    target.set_desired(&service, 3).await.expect("it can be set");
    let asked = [service.clone()];
    let protected = async || target.protected(&asked).await.pop().expect("one answer").expect("it can be read");
    assert_eq!(protected().await, Some(0));
    let workers = Registry::of(dir.path(), &service).workers().expect("they can be read");
    for worker in &workers[..2] {
        std::fs::write(registry::busy_file(&worker.home), "").expect("it begins to work");
    }
    let error = target.set_desired(&service, 0).await.expect_err("two work, of which nobody knew");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("1 of 3 told to stop"), "{error}");
    assert_eq!(protected().await, Some(2));
    assert_eq!(target.set_desired(&service, 0).await.expect("it was decided"), Applied::Set);
    for worker in workers {
        ended(worker.entry.pid).await;
    }
}

#[tokio::test]
async fn where_nobody_can_wait_for_the_grace_nobody_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (target, service) = (built(&dir, &["tail", "-f", "/dev/null"]).await, name(dir.path()));
    target.set_desired(&service, 1).await.expect("it can be set");
    let registry = Registry::of(dir.path(), &service);
    let worker = registry.workers().expect("they can be read").remove(0);
    let registry::Entry { pid, started, token, .. } = &worker.entry;
    std::fs::create_dir(registry.stopping().join("1")).expect("it is ours");
    let mut stopper = tokio::process::Command::new("/bin/sh");
    stopper.args(["-c", include_str!("stop.sh"), "stop", "CONT", "3600"]).arg(registry.stopping());
    stopper.arg(format!("1:{pid}:{started}:{token}")).env("PATH", "/nowhere").stdin(std::process::Stdio::null());
    let status = stopper.stderr(std::process::Stdio::null()).status().await.expect("every system has it");
    assert!(!status.success(), "there is nothing to wait with");
    assert!(registry.workers().expect("they can be read")[0].is_alive, "it had no grace");
    target.set_desired(&service, 0).await.expect("it can be set");
    ended(*pid).await;
}

#[tokio::test]
async fn a_worker_that_began_to_work_after_it_was_chosen_is_spared() {
    let dir = tempfile::tempdir().expect("a folder");
    let target = built(&dir, &["tail", "-f", "/dev/null"]).await;
    let service = name(dir.path());
    target.set_desired(&service, 1).await.expect("it can be set");
    let registry = Registry::of(dir.path(), &service);
    let chosen = registry.workers().expect("they can be read").remove(0);
    assert!(!chosen.is_busy);
    let busy = registry::busy_file(&chosen.home);
    std::fs::write(&busy, "").expect("it begins to work");
    let deadline = 0;
    assert!(!registry.retire(&chosen, deadline).expect("it is there"));
    assert!(registry.workers().expect("they can be read").remove(0).is_busy, "it is where it was");
    std::fs::remove_file(&busy).expect("it is idle again");
    assert!(registry.retire(&chosen, deadline).expect("it is there"));
    let refused = std::fs::write(&busy, "").expect_err("from now on it cannot take work");
    assert_eq!(refused.kind(), Io::NotFound);
    // Its end was prevented: nobody told it. The next change kills it.
    target.set_desired(&service, 0).await.expect("it can be set");
    ended(chosen.entry.pid).await;
}

#[tokio::test]
async fn a_worker_without_an_entry_ends_with_the_one_who_started_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let proof = dir.path().join("began");
    let settings = json!({ "service": name(dir.path()), "program": ["touch", &proof], "dir": dir.path() });
    let settings = parse::<Settings>(&settings).expect("settings are valid");
    let program = group::program(&settings, group::PATH).expect("every system has it");
    let registry = Registry::of(dir.path(), &settings.service);
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
