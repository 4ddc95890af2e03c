//! That the pages of `docs/policies` are true: each policy has one, with all its settings as the schema has them, and what its
//! examples decide is what it says. `TIDEGATE_WRITE_DOCS=1` writes what they decide into the pages.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Environment, Vars, load_rules, parse_document, schema};
use crate::adapter::schema_of;
use crate::cli::play;
use crate::core::{POLICIES, Rules, VARIABLES};
use crate::expression;
use crate::simulator::Contender;

/// The page about what comes after the policies.
const BEHAVIOR: &str = "behavior";

/// Settings of the rules that it explains.
const EXPLAINED: &[&str] = &[
    "combine",
    "combine_policies",
    "behavior",
    "wait_until_settled",
    "settle_timeout_secs",
    "scale_out_cooldown_secs",
    "scale_in_cooldown_secs",
    "priority_override",
    "scaling_step_count",
    "min_remaining_fraction",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies")
}

fn page(name: &str) -> String {
    let path = folder().join(format!("{name}.md"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A fenced block: what stands after the fence, its lines, and where these are.
struct Block<'a> {
    info: &'a str,
    text: &'a str,
    at: Range<usize>,
}

fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut found, mut begun, mut at) = (Vec::new(), None, 0);
    for line in page.split_inclusive('\n') {
        let end = at + line.len();
        match (line.strip_prefix("```"), begun) {
            (Some(info), None) => begun = Some((info.trim(), end)),
            (Some(_), Some((info, from))) => {
                found.push(Block { info, text: &page[from..at], at: from..at });
                begun = None;
            }
            (None, _) => {}
        }
        at = end;
    }
    found
}

/// What `try` and `follow` of the README decide: a scenario with the count, the load, the minute and the state.
fn decided(config: &Value, count: &Value, load: f64, minute: i64, state: &Value) -> (String, Value) {
    let noon: Timestamp = "2026-11-22T12:00:00Z".parse().expect("it is a time");
    let now = (noon + SignedDuration::from_mins(minute)).to_string();
    let scenario = json!({
        "config": config,
        "observation": {
            "samples": [{ "source": "queue", "reading": { "taken_at": now, "value": load } }],
            "status": { "desired": count, "running": count, "pending": 0, "rolling_out": false },
        },
        "state": state,
        "now": now,
    });
    let answer = play(&scenario, "a page").unwrap_or_else(|error| panic!("{config}: {error}"));
    (format!("{load}: {}", line(&answer)), answer)
}

fn line(answer: &Value) -> String {
    let decision = &answer["decision"];
    let why = answer["why"].as_str().unwrap_or_default();
    format!("{} -> {}: {why}\n", decision["current"], decision["desired"])
}

/// What a line of a shell prints, where it is one of the README's.
fn printed(command: &str, config: &Value) -> String {
    let words: Vec<_> = command.split_whitespace().collect();
    let (verb, numbers) = match words.as_slice() {
        [verb @ ("try" | "follow"), _, numbers @ ..] => (*verb, numbers),
        _ => return String::new(),
    };
    let mut numbers = numbers.iter().map(|number| number.parse::<f64>().expect("a count or a load"));
    let mut count = json!(numbers.next().expect("a count") as u32);
    let mut state = json!({ "since": "2026-11-01T00:00:00Z" });
    let mut lines = String::new();
    for (load, minute) in numbers.zip(0..) {
        let (line, answer) = decided(config, &count, load, if verb == "follow" { minute } else { 0 }, &state);
        lines.push_str(&line);
        if verb == "follow" {
            (count, state) = (answer["decision"]["desired"].clone(), answer["state"].clone());
        }
    }
    lines
}

/// The page with what its examples decide, and what is wrong with those that are to be refused.
fn with_what_is_decided(page: &str) -> String {
    let (mut text, mut config, mut answer) = (String::new(), Value::Null, String::new());
    let mut copied = 0;
    for block in blocks(page) {
        let read = || parse_document("page.yaml", block.text).expect("it can be read");
        match block.info {
            "yaml" => {
                config = read();
                let rules = load_rules(&config, "page.yaml");
                rules.unwrap_or_else(|problems| panic!("{}: {problems:?}", block.text));
            }
            "yaml wrong" => {
                let problems = load_rules(&read(), "page.yaml").expect_err(block.text);
                answer = problems.0.iter().map(|problem| format!("{problem}\n")).collect();
            }
            "json" => answer = line(&play(&read(), "page.json").expect(block.text)),
            "sh" => answer = block.text.lines().map(|command| printed(command, &config)).collect(),
            "text" if !answer.is_empty() => {
                text.push_str(&page[copied..block.at.start]);
                text.push_str(&std::mem::take(&mut answer));
                copied = block.at.end;
            }
            _ => {}
        }
    }
    assert!(answer.is_empty(), "nothing says what comes of it: {answer}");
    text + &page[copied..]
}

#[test]
fn what_the_pages_say_is_what_is_decided() {
    for entry in fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        let page = fs::read_to_string(&path).expect("it can be read");
        let expected = with_what_is_decided(&page);
        if Environment.get("TIDEGATE_WRITE_DOCS").is_some() {
            fs::write(&path, expected).expect("it can be written");
            continue;
        }
        assert!(page == expected, "{}: run this test with TIDEGATE_WRITE_DOCS=1", path.display());
    }
}

#[test]
fn policies_that_pages_compare_are_there() {
    for name in POLICIES {
        let page = page(name);
        let compared = page.lines().filter_map(|line| line.strip_prefix("tidegate compare --policy "));
        for policy in compared.flat_map(|rest| rest.split_whitespace().next()).flat_map(|names| names.split(',')) {
            let is_known = policy.contains('.') || Contender::names().any(|known| known == policy);
            assert!(is_known, "{name}: {policy}");
        }
    }
}

#[test]
fn every_policy_has_a_page_with_all_its_settings() {
    let index = page("README");
    for name in POLICIES {
        let page = page(name);
        assert!(page.starts_with(&format!("# `{name}`: ")), "{name}");
        assert!(index.contains(&format!("]({name}.md)")), "README.md has no link to {name}.md");
        let schema = schema::policy(name).expect("it has a schema");
        for (path, about) in settings_of(&schema, "") {
            row_is_true(&page, &path, &about);
        }
    }
}

#[test]
fn the_page_of_expressions_has_all_their_functions() {
    let refused = expression::check("something()").expect_err("it is no function");
    let (_, functions) = refused.split_once("may call only ").expect("it says which are");
    let page = page("expression");
    for name in functions.split(", ").chain(VARIABLES.iter().copied()) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn the_page_of_behavior_has_its_settings() {
    let (page, rules) = (page(BEHAVIOR), schema_of::<Rules>());
    for (path, about) in settings_of(&rules, "") {
        let first = path.split(['.', '[']).next().unwrap_or_default();
        if EXPLAINED.contains(&first) {
            row_is_true(&page, &path, &about);
        }
    }
}

/// The settings in a schema, those within others too, each with its schema, where `required` says whether it must be given.
fn settings_of(schema: &Value, before: &str) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, about) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{before}{name}");
        let is_required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
        if about["properties"].is_object() {
            all.extend(settings_of(about, &format!("{path}.")));
        } else if about["const"].is_null() {
            all.extend(settings_of(&about["items"], &format!("{path}[].")));
            let mut about = about.clone();
            about["required"] = is_required.into();
            all.push((path, about));
        }
    }
    all
}

/// Asserts that a page's table has a setting with its range and its default.
fn row_is_true(page: &str, path: &str, about: &Value) {
    // Both directions have the same settings, which pages explain once.
    let path =
        ["behavior.", "scale_out.", "scale_in."].iter().fold(path.to_owned(), |path, before| path.replace(before, ""));
    let quoted = format!("`{path}`");
    let rows = page.lines().map(|line| line.split(" | ").collect::<Vec<_>>());
    let mut rows = rows.filter(|cells| cells[0].starts_with('|') && cells[0].contains(&quoted));
    let row = rows.next().unwrap_or_else(|| panic!("no row for {path}"));
    let (range, default) = (row[1], row[2].trim_matches('`'));
    let limits = ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"];
    for limit in limits.iter().filter_map(|limit| about[limit].as_f64()) {
        let words: Vec<_> = range.split([' ', ';']).collect();
        assert!(words.contains(&grouped(limit).as_str()), "{path}: {range} without {}", grouped(limit));
    }
    for value in about["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(range.contains(&format!("`{value}`")), "{path}: {range} without {value}");
    }
    let expected = match (&about["default"], &about["required"]) {
        (_, Value::Bool(true)) => "required".to_owned(),
        (Value::Number(number), _) => grouped(number.as_f64().expect("a finite number")),
        (Value::Bool(flag), _) => flag.to_string(),
        (Value::String(word), _) => word.clone(),
        _ => return assert!(!default.is_empty() && default != "required", "{path}: {default:?} is its default"),
    };
    assert_eq!(default, expected, "{path}");
}

/// A number with a comma for each three digits.
fn grouped(number: f64) -> String {
    let plain = number.to_string();
    let (sign, digits) = plain.strip_prefix('-').map_or(("", plain.as_str()), |digits| ("-", digits));
    let (whole, part) =
        digits.split_once('.').map_or((digits, String::new()), |(whole, part)| (whole, format!(".{part}")));
    let places = whole.chars().zip((0..whole.len()).rev());
    let grouped: String =
        places.flat_map(|(digit, left)| [Some(digit), (left % 3 == 0 && left != 0).then_some(',')]).flatten().collect();
    format!("{sign}{grouped}{part}")
}
