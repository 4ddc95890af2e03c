//! The process target, with real processes.

mod daemon;
mod kit;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use serde_json::json;
use tidegate::config::{Input, load};
use tidegate::error::ErrorKind;

use self::kit::{Folder, desired, eventually, is_there, set, signal, stat, warnings, zombies};
use crate::support::target;

const FOREVER: &[&str] = &["tail", "-f", "/dev/null"];

#[tokio::test]
async fn processes_are_started_and_stopped_to_the_count() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    assert_eq!(desired(&settings).await, 0);
    set(&settings, 3).await;
    folder.has(3).await;
    assert_eq!(folder.entered(), folder.processes());
    let status = target::status(&[], settings.clone()).await.expect("it can be read");
    assert_eq!((status.status.running, status.status.pending, status.protected), (3, 0, Some(0)));
    // A group of its own each, which Ctrl-C does not reach.
    for pid in folder.processes() {
        assert_eq!(stat(pid).expect("it is there")[2], pid.to_string());
    }
    let record = set(&settings, 3).await;
    assert_eq!(record["outcome"], "held", "{record:#}");
    set(&settings, 5).await;
    folder.has(5).await;
    set(&settings, 1).await;
    folder.has(1).await;
    assert_eq!(folder.entered(), folder.processes());
    set(&settings, 0).await;
    folder.has(0).await;
}

#[tokio::test]
async fn no_zombie_stays() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 4).await;
    set(&settings, 0).await;
    folder.has(0).await;
    let ends = folder.shell("exit 0", json!({}));
    target::set(&[], ends.clone(), 2).await;
    let said = "1 (exited with 0), 2 (exited with 0)";
    crate::support::daemon::eventually(said, async || warnings(&ends).await.contains(said).then_some(())).await;
    eventually("no zombies", || zombies().is_empty().then_some(())).await;
}

#[tokio::test]
async fn idle_workers_go_first_and_of_them_the_newest() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    // One after another, so that each is newer than the one before, or of its age with a higher number.
    for count in 1..=4 {
        set(&settings, count).await;
    }
    let pids = [1, 2, 3, 4].map(|number| folder.pid_of(number));
    for busy in [2, 4] {
        fs::write(folder.service().join(format!("workers/{busy}/busy")), "").expect("a worker can say that it works");
    }
    let status = target::status(&[], settings.clone()).await.expect("it can be read");
    assert_eq!(status.protected, Some(2));
    for (count, left) in [(3, &[0, 1, 3][..]), (2, &[1, 3]), (1, &[1]), (0, &[])] {
        set(&settings, count).await;
        folder.has(left.len()).await;
        assert_eq!(folder.processes(), left.iter().map(|&place| pids[place]).collect());
    }
}

#[tokio::test]
async fn what_does_not_end_is_killed_with_its_group_after_its_grace() {
    let folder = Folder::new();
    let settings = folder.shell("trap '' TERM; tail -f /dev/null & wait; tail -f /dev/null", json!({}));
    set(&settings, 2).await;
    folder.has(4).await;
    let began = std::time::Instant::now();
    set(&settings, 0).await;
    assert_eq!(desired(&settings).await, 0, "what is told to stop does not count");
    folder.has(0).await;
    assert!(std::time::Duration::from_millis(900) < began.elapsed(), "it had no grace");
}

#[tokio::test]
async fn a_worker_may_finish_within_its_grace() {
    let folder = Folder::new();
    let done = folder.path().join("done");
    let script = format!("trap 'sleep 1; echo finished >> {}; exit' TERM; while :; do sleep 0.1; done", done.display());
    let settings = folder.shell(&script, json!({ "grace_secs": 60 }));
    set(&settings, 2).await;
    // The trap is set before the first sleep begins.
    folder.has(4).await;
    set(&settings, 0).await;
    folder.has(0).await;
    assert_eq!(fs::read_to_string(&done).expect("they wrote it"), "finished\nfinished\n");
}

#[tokio::test]
async fn a_reused_number_is_not_ours_and_is_not_killed() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 2).await;
    // What the entry of a worker would be if another process had its number by now.
    let mut other = tokio::process::Command::new("tail");
    other.args(["-f", "/dev/null"]).process_group(0).kill_on_drop(true);
    let mut other = other.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("tail");
    let pid = other.id().expect("it runs");
    let path = folder.service().join("workers/1/entry");
    let gone = folder.pid_of(1);
    let entry = fs::read_to_string(&path).expect("the entry");
    fs::write(&path, entry.replace(&format!("\"pid\":{gone}"), &format!("\"pid\":{pid}"))).expect("writing it");
    signal("KILL", gone);
    assert_eq!(desired(&settings).await, 1, "another process was counted");
    set(&settings, 0).await;
    folder.has(0).await;
    set(&settings, 1).await;
    set(&settings, 0).await;
    folder.has(0).await;
    assert!(is_there(pid), "another process was killed");
    other.kill().await.expect("it is ours");
}

#[tokio::test]
async fn entries_of_another_run_of_the_machine_name_nobody() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 1).await;
    let path = folder.service().join("workers/1/entry");
    let mut entry: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("the entry")).expect("JSON");
    entry["boot"] = "another".into();
    fs::write(&path, entry.to_string()).expect("writing it");
    assert_eq!(desired(&settings).await, 0);
}

#[tokio::test]
async fn workers_that_end_are_told_of_and_started_again() {
    let folder = Folder::new();
    let settings = folder.shell("exit 3", json!({}));
    let record = target::set(&[], settings.clone(), 2).await;
    assert_eq!(record["outcome"], "changed", "{record:#}");
    let said = "workers that ended though they were not told to: 2, by number: 1 (exited with 3), 2 (exited with 3)";
    crate::support::daemon::eventually(said, async || (warnings(&settings).await == said).then_some(())).await;
    let record = target::set(&[], settings.clone(), 1).await;
    assert_eq!((&record["outcome"], &record["decision"]["current"]), (&json!("changed"), &json!(0)), "{record:#}");
}

#[tokio::test]
async fn what_a_worker_leaves_behind_is_killed_by_the_next_change() {
    let folder = Folder::new();
    let settings = folder.shell("tail -f /dev/null & exit 1", json!({}));
    target::set(&[], settings.clone(), 1).await;
    eventually("its end", || (!is_there(folder.pid_of(1))).then_some(())).await;
    folder.has(1).await;
    set(&folder.settings(FOREVER, json!({})), 1).await;
    eventually("only the new one", || (folder.processes() == folder.entered()).then_some(())).await;
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_in_words_and_leaves_nothing() {
    let folder = Folder::new();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").expect("writing a file");
    let plain = plain.to_str().expect("text");
    for (program, more, says) in [
        ("no-such-program", json!({}), "no program \"no-such-program\" in "),
        ("/no/such/program", json!({}), "/no/such/program is no program that can be started"),
        (plain, json!({}), "is no program that can be started"),
        ("tail", json!({ "cwd": "/no/such/folder" }), "there is no folder /no/such/folder"),
        ("tail", json!({ "log": "/no/such/folder" }), "0 of 2 started: opening /no/such/folder/orders"),
        ("tail", json!({ "env": { "A": "env:NOT_THERE" } }), "NOT_THERE"),
    ] {
        let settings = folder.settings(&[program], more);
        let record = target::set(&[], settings.clone(), 2).await;
        assert_eq!(record["failures"][0]["kind"], "Config", "{record:#}");
        assert!(record["failures"][0]["message"].as_str().is_some_and(|text| text.contains(says)), "{record:#}");
        assert_eq!((desired(&settings).await, folder.processes().len(), folder.entered().len()), (0, 0, 0));
    }
    let left = fs::read_dir(folder.service().join("workers")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[tokio::test]
async fn zero_needs_neither_the_program_nor_its_secrets() {
    let folder = Folder::new();
    set(&folder.settings(FOREVER, json!({})), 2).await;
    set(&folder.settings(&["gone"], json!({ "env": { "A": "env:NOT_THERE" } })), 0).await;
    folder.has(0).await;
}

#[tokio::test]
async fn a_worker_has_the_variables_that_are_listed_and_no_others() {
    let folder = Folder::new();
    let out = folder.path().join("out");
    fs::create_dir(&out).expect("a folder");
    let log = json!({ "log": out, "cwd": folder.path(), "env": { "TOKEN": "env:CANARY" } });
    let settings = folder.shell("/usr/bin/env; echo told >&2; cat; exec tail -f /dev/null", log);
    let vars = [("CANARY", "canary-token"), ("OTHER", "x")];
    let record = target::set(&vars, settings, 1).await;
    assert_eq!(record["outcome"], "changed", "{record:#}");
    let file = out.join(format!("{}-1.log", folder.name()));
    let text = eventually("its output", || fs::read_to_string(&file).ok().filter(|text| text.contains("told"))).await;
    let names: std::collections::BTreeSet<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let shells = ["OLDPWD", "PWD", "SHLVL", "_"];
    let names: Vec<_> = names.into_iter().filter(|name| !shells.contains(name)).collect();
    let tidegates = ["TIDEGATE_BUSY_FILE", "TIDEGATE_SERVICE", "TIDEGATE_TOKEN", "TIDEGATE_WORKER"];
    assert_eq!(names, [&["PATH"][..], &tidegates, &["TOKEN"]].concat());
    assert!(text.contains("TIDEGATE_WORKER=1\n") && text.contains("TOKEN=canary-token\n"), "{text}");
    // Nothing of it is in the arguments, which every process of the machine can read.
    let pid = folder.pid_of(1);
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
    assert!(!String::from_utf8_lossy(&arguments).contains("canary"));
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 0).await;
    set(&settings, 1).await;
    let mode = |mode| fs::set_permissions(folder.service(), fs::Permissions::from_mode(mode)).expect("it is ours");
    assert_eq!(fs::metadata(folder.service()).expect("it is there").permissions().mode() & 0o777, 0o700);
    mode(0o770);
    let error = target::status(&[], settings.clone()).await.expect_err("somebody else may have written it");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    mode(0o700);
    fs::write(folder.service().join("workers/1/entry"), "{").expect("it is ours");
    let error = target::status(&[], settings.clone()).await.expect_err("it is no entry");
    assert!(error.kind() == ErrorKind::Malformed && error.to_string().contains("remove"), "{error}");
}

#[tokio::test]
async fn an_entry_that_a_power_cut_emptied_is_no_worker_and_is_removed() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 1).await;
    let home = folder.service().join("workers/2");
    fs::create_dir(&home).expect("it is ours");
    fs::write(home.join("entry"), "").expect("it is ours");
    assert_eq!(desired(&settings).await, 1);
    set(&settings, 2).await;
    folder.has(2).await;
    assert_eq!(folder.entered(), folder.processes());
}

#[tokio::test]
async fn workers_whose_folder_is_gone_are_not_started_a_second_time() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 2).await;
    let elsewhere = folder.settings(FOREVER, json!({ "dir": folder.path().join("elsewhere") }));
    let error = target::status(&[], elsewhere.clone()).await.expect_err("they are there");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("TIDEGATE_BUSY_FILE"), "{error}");
    target::set(&[], elsewhere.clone(), 2).await;
    assert_eq!(folder.processes().len(), 2);
    set(&settings, 0).await;
    folder.has(0).await;
    assert_eq!(desired(&elsewhere).await, 0, "nobody is there");
}

#[tokio::test]
async fn workers_of_another_namespace_are_neither_counted_as_gone_nor_forgotten() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 1).await;
    let path = folder.service().join("workers/1/entry");
    let entry = fs::read_to_string(&path).expect("the entry");
    let namespace = fs::read_link("/proc/self/ns/pid").expect("Linux has it");
    let namespace = namespace.to_str().expect("text");
    assert!(entry.contains(namespace), "{entry}");
    fs::write(&path, entry.replace(namespace, "pid:[1]")).expect("it is ours");
    let error = target::status(&[], settings.clone()).await.expect_err("it cannot be seen from here");
    assert!(error.kind() == ErrorKind::Refused && error.to_string().contains("pid:[1]"), "{error}");
    target::set(&[], settings.clone(), 2).await;
    assert!(path.exists());
    assert_eq!(folder.processes().len(), 1);
}

#[tokio::test]
async fn what_a_worker_started_is_killed_after_the_grace_though_the_worker_has_ended() {
    let folder = Folder::new();
    let settings = folder.shell("(trap '' TERM; exec tail -f /dev/null) & wait", json!({}));
    set(&settings, 1).await;
    folder.has(2).await;
    let worker = folder.pid_of(1);
    // The other is deaf once it is what it becomes.
    eventually("both have begun", || {
        let names: Vec<_> =
            folder.processes().iter().filter_map(|pid| fs::read(format!("/proc/{pid}/comm")).ok()).collect();
        names.iter().any(|name| name == b"tail\n").then_some(())
    })
    .await;
    set(&settings, 0).await;
    eventually("the worker's end", || (!is_there(worker)).then_some(())).await;
    folder.has(0).await;
}

#[tokio::test]
async fn somebody_else_who_changes_the_workers_is_waited_for() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    set(&settings, 1).await;
    let lock = fs::File::open(folder.service().join("lock")).expect("it is there");
    lock.lock().expect("nobody has it");
    let record = target::set(&[], settings.clone(), 2).await;
    assert_eq!(record["failures"][0]["kind"], "Locked", "{record:#}");
    assert_eq!((desired(&settings).await, folder.processes().len()), (1, 1));
    drop(lock);
    set(&settings, 2).await;
}

#[tokio::test]
async fn a_rehearsal_starts_nothing_and_stops_nothing() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    let record = target::rehearse(&[], settings.clone(), 3).await;
    assert_eq!(record["outcome"], "dry_run", "{record:#}");
    assert!(!folder.path().join("processes").exists(), "a dry run made something");
    assert!(folder.processes().is_empty());
    set(&settings, 2).await;
    let before = folder.left();
    target::rehearse(&[], settings.clone(), 0).await;
    assert_eq!(folder.left(), before);
}

#[tokio::test]
async fn a_rehearsal_beside_others_starts_nothing_and_stops_nothing() {
    let folder = Folder::new();
    let settings = folder.settings(FOREVER, json!({}));
    let left = RefCell::new(folder.left());
    let others = async |count: u32| {
        assert_eq!(folder.left(), *left.borrow(), "who looks on changed something");
        set(&settings, count).await;
        folder.has(count as usize).await;
        left.replace(folder.left());
    };
    target::look_on(&[], settings.clone(), others).await;
    assert_eq!(folder.left(), *left.borrow(), "who looks on changed something");
}

#[test]
fn workers_are_started_neither_for_a_payload_nor_in_a_function() {
    let source = json!({ "type": "sqs", "queue": "https://sqs.us-east-1.amazonaws.com/123456789012/orders" });
    let target = json!({ "type": "process", "service": "orders", "program": ["worker"] });
    let service =
        json!({ "name": "orders", "target": target, "sources": [source], "policies": [{ "type": "threshold" }] });
    let services = json!({ "services": [service] });
    let problems = |by_payload: bool, in_lambda: bool| {
        let mut vars = BTreeMap::new();
        let event = match by_payload {
            true => json!({ "config": services }),
            false => {
                vars.insert("CONFIG".to_owned(), services.to_string());
                json!({})
            }
        };
        let loaded = load(Input { vars: &vars, event: &event, in_lambda, remote: None });
        loaded.err().map_or(String::new(), |problems| format!("{problems:?}"))
    };
    let runs = "runs a program";
    assert!(!problems(false, false).contains(runs), "{}", problems(false, false));
    for (by_payload, in_lambda, says) in [(true, false, "for a payload"), (false, true, "for a function")] {
        let problems = problems(by_payload, in_lambda);
        assert!(problems.contains(runs) && problems.contains(says), "{problems}");
    }
}
