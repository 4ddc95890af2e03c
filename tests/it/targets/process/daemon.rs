//! The real daemon with real workers on a real queue, killed and started again.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::FOREVER;
use super::kit::{Folder, daemon, eventually, is_there};
use crate::support::servers::Server;

const WORKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/targets/process/worker.py");

/// The most workers.
const MOST: usize = 50;

struct Redis(Server);

impl Redis {
    async fn start() -> Self {
        let server = Server::start(|folder, port| {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"]).arg(folder);
            command
        });
        Self(server.await)
    }

    fn run(&self, words: &[&str]) -> Vec<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.0.port.to_string()]).args(words);
        let done = command.output().expect("redis-cli comes with redis-server");
        String::from_utf8_lossy(&done.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn put(&self, jobs: std::ops::Range<usize>) {
        let jobs: Vec<_> = jobs.map(|job| job.to_string()).collect();
        self.run(&[&["RPUSH", "queue"][..], &jobs.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    }

    fn all(&self, list: &str) -> Vec<String> {
        let mut all = self.run(&["LRANGE", list, "0", "-1"]);
        all.sort_by_key(|text| (text.len(), text.clone()));
        all
    }
}

/// A service that keeps this many workers.
fn kept_at(target: Value, count: usize) -> Value {
    let source = json!({ "type": "command", "program": ["echo", "0"] });
    json!({ "target": target, "sources": [source], "bounds": { "min": 0, "max": 100 }, "pause": count, "policies": [{ "type": "threshold" }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_workers_drain_a_list_and_no_job_is_lost() {
    let (folder, redis) = (Folder::new(), Redis::start().await);
    let port = redis.0.port;
    let program = ["python3", "-I", "-S", WORKER, &port.to_string(), "0.25"];
    let service = json!({
        "target": folder.settings(&program, json!({ "grace_secs": 60, "log": "inherit" })),
        "sources": [{
            "type": "redis", "host": "127.0.0.1", "port": port, "use_ssl": false,
            "queue_key": "queue", "processing_key": "processing",
        }],
        "bounds": { "min": 0, "max": MOST },
        "policies": [{ "type": "threshold", "scale_out_threshold": 10, "scale_in_threshold": 5, "tasks_per_message": 0.5 }],
        "scale_out_cooldown_secs": 0, "scale_in_cooldown_secs": 1, "min_remaining_fraction": 0.5,
        "confirm_zero": { "readings": 2, "secs": 1 },
    });
    let daemon = daemon(&folder, service, &[]);
    redis.put(0..600);
    eventually("all of them", || (folder.processes().len() == MOST).then_some(())).await;
    // A little work goes on while they become fewer, so that a scale-in meets workers that work.
    let mut put = 600;
    eventually("fewer", || {
        redis.put(put..put + 2);
        put += 2;
        (folder.processes().len() <= MOST / 2).then_some(())
    })
    .await;
    folder.has(0).await;
    let jobs: Vec<_> = (0..put).map(|job| job.to_string()).collect();
    assert_eq!(redis.all("done"), jobs, "each job was done once");
    assert_eq!((redis.all("queue").len(), redis.all("processing").len()), (0, 0));
    let started = redis.all("started");
    assert!(MOST <= started.len(), "{} were started", started.len());
    assert_eq!(redis.all("ended"), started, "a worker was killed at work");
    for record in daemon.records() {
        assert_eq!(record["failures"], json!([]), "{record:#}");
        assert!(record["decision"]["desired"].as_u64().is_none_or(|desired| desired <= 50), "{record:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_killed_leaves_no_orphan_and_the_next_one_no_second_set() {
    for killed_at in [1, 9, 30, MOST] {
        let folder = Folder::new();
        let service = || kept_at(folder.settings(FOREVER, json!({})), MOST);
        let mut first = daemon(&folder, service(), &[]);
        let adopted = eventually("the first workers", || {
            let entered = folder.entered();
            (killed_at <= entered.len()).then_some(entered)
        });
        let adopted = adopted.await;
        first.signal("KILL").await;
        first.ended().await;
        // What was not entered before the death ends by itself.
        eventually("no orphan", || folder.processes().is_subset(&folder.entered()).then_some(())).await;
        // With a state of its own it need not wait until the lease of the first has run out.
        let other_state = Folder::new();
        let second = daemon(&other_state, service(), &[]);
        folder.has(MOST).await;
        eventually("a tick of the second daemon", || (1 < second.records().len()).then_some(())).await;
        let there = folder.processes();
        assert_eq!((there.len(), &folder.entered()), (MOST, &there));
        // The last that was entered may have died at its gate, with the daemon.
        let lost: BTreeSet<_> = adopted.difference(&there).collect();
        assert!(lost.len() <= 1, "killed at {killed_at}: {lost:?} were not adopted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_outlive_the_daemon_unless_it_leaves_zero() {
    let folder = Folder::new();
    // They end when the test says so, whatever they are told.
    let go = folder.path().join("go");
    let script = format!("trap '' TERM; while [ ! -e {} ]; do sleep 0.1; done", go.display());
    let settings = folder.shell(&script, json!({ "grace_secs": 86_400 }));
    let mut leaving = daemon(&folder, kept_at(settings.clone(), 3), &[]);
    let there = eventually("three workers", || {
        let entered = folder.entered();
        (entered.len() == 3).then_some(entered)
    })
    .await;
    leaving.signal("INT").await;
    assert!(leaving.ended().await.success(), "{}", leaving.stderr());
    assert_eq!(folder.entered(), there);
    assert!(there.iter().all(|&pid| is_there(pid)));
    let mut ending = daemon(&folder, kept_at(settings, 3), &["--on-exit", "zero"]);
    eventually("its first tick", || (!ending.records().is_empty()).then_some(())).await;
    assert_eq!(folder.entered(), there);
    ending.signal("TERM").await;
    assert!(ending.ended().await.success(), "{}", ending.stderr());
    assert!(folder.entered().is_empty(), "they were not told to stop");
    assert!(there.iter().all(|&pid| is_there(pid)), "they had no grace");
    std::fs::write(&go, "").expect("the folder is ours");
    folder.has(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_daemons_keep_one_set() {
    let folder = Folder::new();
    let other_state = Folder::new();
    let service = || kept_at(folder.settings(FOREVER, json!({})), 20);
    // Each with a state of its own, so that only the folder's lock is between them.
    let daemons = [daemon(&folder, service(), &[]), daemon(&other_state, service(), &[])];
    folder.has(20).await;
    for daemon in &daemons {
        eventually("some ticks", || (3 < daemon.records().len()).then_some(())).await;
    }
    assert_eq!((folder.processes().len(), folder.entered().len()), (20, 20));
}
