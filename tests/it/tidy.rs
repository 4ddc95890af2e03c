//! House rules that no compiler knows: what may use what, and that what is written down is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::adapter::Entry;
use tidegate::config::{Input, docs, load, schema};
use tidegate::{notifiers, sources, stores, targets};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files_below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be listed").path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|found| found == ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

#[test]
fn the_core_is_pure() {
    let allowed = [
        "std::fmt",
        "std::cmp",
        "std::str::FromStr",
        "std::collections::BTreeMap",
        "croner::",
        "jiff::",
        "schemars::",
        "serde::",
        "super::",
        "crate::core::",
        "crate::error::ErrorKind",
        "case::Case",
    ];
    for file in files_below("src/core", "rs") {
        let text = fs::read_to_string(&file).expect("it can be read");
        let production = text.split("\nmod tests {").next().expect("a first part");
        let inside = |line: &&str| !line.starts_with("//");
        for line in production.lines().map(str::trim).filter(inside) {
            if let Some(used) = line.strip_prefix("use ").or_else(|| line.strip_prefix("pub use ")) {
                let own = [
                    "behavior::",
                    "case::",
                    "combine::",
                    "decision::",
                    "forecast::",
                    "history::",
                    "observation::",
                    "policy::",
                    "reason::",
                    "rules::",
                    "safety::",
                    "schedule::",
                    "self::cron::",
                    "state::",
                    "alert_step::",
                    "band::",
                    "because::",
                    "drain_time::",
                    "estimate::",
                    "expression::",
                    "finished::",
                    "memory::",
                    "pid::",
                    "step::",
                    "streak::",
                    "target::",
                    "threshold::",
                ];
                let fine = allowed.iter().chain(&own).any(|prefix| used.starts_with(prefix));
                assert!(fine, "{}: the core uses {used}", file.display());
            }
            for word in ["async ", ".await", "cfg(feature", "tracing::", "std::env", "now()", "std::fs", "println!"] {
                assert!(!line.contains(word), "{}: {line}", file.display());
            }
        }
    }
}

#[test]
fn adapters_neither_sleep_nor_log_nor_retry() {
    for family in ["sources", "targets", "stores", "notifiers"] {
        for file in files_below(&format!("src/{family}"), "rs") {
            let text = fs::read_to_string(&file).expect("it can be read");
            let production = text.split("\nmod tests {").next().expect("a first part");
            for word in ["sleep", "tracing::", "println!", "unwrap_or(0)", "unwrap_or_default() as", ".retry("] {
                let named = file.file_name().is_some_and(|name| name == "contract.rs");
                assert!(named || !code(production).contains(word), "{}: {word}", file.display());
            }
        }
    }
}

/// Text without its comments.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_adapter_has_a_file_and_every_file_a_line() {
    fn names<P: ?Sized>(table: &[Entry<P>]) -> BTreeSet<String> {
        table.iter().map(|entry| entry.name().to_owned()).collect()
    }
    for (family, table) in [
        ("sources", names(sources::TABLE)),
        ("targets", names(targets::TABLE)),
        ("stores", names(stores::TABLE)),
        ("notifiers", names(notifiers::TABLE)),
    ] {
        let helpers = ["mod", "contract", "document", "engine", "labels", "refusal", "sql"];
        // What is below an adapter's own folder is part of it.
        let folder = format!("src/{family}");
        let files: BTreeSet<_> = files_below(&folder, "rs")
            .iter()
            .filter(|file| file.parent() == Some(&root().join(&folder)))
            .filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()))
            .filter(|name| !helpers.contains(&name.as_str()))
            .collect();
        assert_eq!(table, files, "{family}");
    }
}

#[test]
fn files_stay_short_enough_to_read() {
    for file in files_below("src", "rs") {
        let text = fs::read_to_string(&file).expect("it can be read");
        let lines = text.split("\nmod tests {").next().map_or(0, |text| text.lines().count());
        assert!(lines <= 400, "{} has {lines} lines before its tests", file.display());
    }
}

#[test]
fn nothing_is_left_open_or_ignored() {
    for file in files_below("src", "rs").into_iter().chain(files_below("tests", "rs")) {
        if file.ends_with("tidy.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("it can be read");
        for word in ["todo!(", "unimplemented!(", "FIXME", "#[ignore"] {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
        for line in text.lines().filter(|line| line.contains("TODO")) {
            assert!(line.contains("TODO(#"), "{}: a TODO without the number of an issue: {line}", file.display());
        }
    }
}

#[test]
fn the_published_schema_is_the_types() {
    let published: Value = serde_json::from_str(&read("infra/config.schema.json")).expect("it is JSON");
    let outdated = "run: cargo run --features full --bin tidegate -- schema > infra/config.schema.json";
    assert!(published == schema::document(), "{outdated}");
}

#[test]
fn the_schema_accepts_what_is_accepted() {
    let validator = jsonschema::validator_for(&schema::document()).expect("it is a schema");
    for name in ["services", "stepscale_flat", "dry_run"] {
        let event: Value = serde_json::from_str(&read(format!("events/{name}.json"))).expect("it is JSON");
        let errors: Vec<_> = validator.iter_errors(&event["config"]).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let mut wrong: Value = serde_json::from_str(&read("events/services.json")).expect("it is JSON");
    wrong["config"]["services"][0]["policies"][0]["type"] = "nonsense".into();
    assert!(!validator.is_valid(&wrong["config"]));
}

#[test]
fn the_readmes_settings_are_the_tables() {
    let readme = read("README.md");
    let begin = "<!-- settings: printed by `tidegate settings` -->\n";
    let table = readme.split(begin).nth(1).and_then(|rest| rest.split("<!-- end of settings -->").next());
    let table = table.expect("the README has the table between its two marks");
    assert!(table == docs::table(), "run: cargo run --features full --bin tidegate -- settings, and paste it in");
}

#[test]
fn the_readmes_promises_name_tests_that_exist() {
    let readme = read("README.md");
    let section =
        readme.split("## Promises").nth(1).expect("the README has promises").split("\n## ").next().expect("a section");
    let tests = names_of_tests();
    let mut named = 0;
    for name in
        section.split('`').skip(1).step_by(2).filter(|name| name.contains('_') && !name.contains(['.', '/', ' ']))
    {
        if name.chars().any(char::is_uppercase) {
            continue;
        }
        assert!(tests.contains(name), "the README names {name}, which is no test");
        named += 1;
    }
    assert!(10 <= named, "only {named} tests are named");
}

pub fn names_of_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for file in files_below("src", "rs").into_iter().chain(files_below("tests", "rs")) {
        let text = fs::read_to_string(&file).expect("it can be read");
        let names = text.lines().filter_map(|line| line.trim().trim_start_matches("async ").strip_prefix("fn "));
        tests.extend(names.filter_map(|rest| rest.split('(').next()).map(str::to_owned));
    }
    tests
}

#[test]
fn every_fault_has_a_test_that_exists() {
    let list = |name: &Path| -> Vec<Value> {
        let text = fs::read_to_string(name).expect("it can be read");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", name.display()))
    };
    let known = names_of_tests();
    let mut shown: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for file in files_below("tests/faults", "json").iter().filter(|file| !file.ends_with("rows.json")) {
        for entry in list(file) {
            for test in entry["tests"].as_array().expect("a list of tests") {
                let test = test.as_str().expect("a name").to_owned();
                assert!(known.contains(&test), "{}: {test} is no test", file.display());
                shown.entry(entry["row"].as_u64().expect("a number")).or_default().insert(test);
            }
        }
    }
    let rows = list(&root().join("tests/faults/rows.json"));
    assert_eq!(rows.len(), 80);
    let mut without = Vec::new();
    for row in rows {
        let (number, fault, then) = (row["row"].as_u64().expect("a number"), &row["fault"], &row["then"]);
        let tests = shown.get(&number);
        let later = row["comes_with"].as_str();
        if tests.is_none() && later.is_none() {
            without.push(format!("{number}, {fault}: {then}"));
        }
        let named = tests.map(|tests| tests.iter().cloned().collect::<Vec<_>>().join(", "));
        println!("{number:2} {fault}: {then}: {}", named.unwrap_or_else(|| format!("with {}", later.unwrap_or("-"))));
    }
    assert!(without.is_empty(), "no test for: {without:#?}");
}

#[test]
fn every_mutation_breaks_code_that_is_there() {
    let known = names_of_tests();
    let mut names = BTreeSet::new();
    for file in files_below("tests/mutations", "json") {
        let text = fs::read_to_string(&file).expect("it can be read");
        let list: Vec<BTreeMap<String, String>> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for mutation in list {
            let name = &mutation["name"];
            assert!(names.insert(name.clone()), "{name} is the name of two mutations");
            let found = read(&mutation["file"]).matches(mutation["find"].as_str()).count();
            assert_eq!(found, 1, "{name}: {} has its text {found} times, not once", mutation["file"]);
            let test = mutation["test"].rsplit("::").next().unwrap_or_default();
            assert!(known.contains(test), "{name}: {test} is no test");
        }
    }
}

#[test]
fn every_example_event_is_a_valid_configuration() {
    let env = [
        ("ECS_CLUSTER", "prod"),
        ("SERVICE_NAME", "orders"),
        ("SQS_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/orders"),
        ("S3_CONFIG_BUCKET", "tidegate-state-123456789012"),
        ("ALLOWED_SECRETS", "secretsmanager:prod/*"),
        ("ALLOWED_SOURCES", "*"),
        ("ALLOWED_TARGETS", "*"),
    ];
    let full: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let bucket_only: BTreeMap<_, _> = full
        .iter()
        .filter(|(name, _)| *name == "S3_CONFIG_BUCKET" || name.starts_with("ALLOWED_"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let events = files_below("events", "json");
    assert!(6 <= events.len());
    for file in events {
        let event: Value =
            serde_json::from_str(&fs::read_to_string(&file).expect("it can be read")).expect("it is JSON");
        let vars = if event["config"]["services"].is_array() { &bucket_only } else { &full };
        let config = load(Input { vars, event: &event, in_lambda: true, remote: None });
        assert!(config.is_ok(), "{}: {:?}", file.display(), config.err());
    }
}
