//! The matrix of targets is whole, and the documentation has it as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tidegate::adapter::Entry;
use tidegate::cli::adapters_in_markdown;
use tidegate::targets::TABLE;

use crate::support::docs::{between, escaped};
use crate::tidy::names_of_tests;

/// What each target must show, and how the documentation calls it.
const CELLS: &[(&str, &str)] = &[
    ("status", "Status"),
    ("same", "Set to the same"),
    ("zero", "Set to zero"),
    ("above", "Set above"),
    ("unknown", "Unknown service"),
    ("denied", "Denied"),
    ("throttled", "Throttled"),
    ("rollout", "Rollout under way"),
    ("lost", "Reply lost, then repeated"),
    ("dry_run", "Dry run changes nothing"),
    ("shadow", "Shadow beside others changes nothing"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn matrix() -> BTreeMap<String, Value> {
    let built = TABLE.iter().filter_map(|entry| match entry {
        Entry::Built(kind) => Some(kind.name),
        Entry::NotBuilt { .. } => None,
    });
    let read = |name: &str| {
        let path = root().join(format!("tests/matrix/targets/{name}.json"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    built.map(|name| (name.to_owned(), read(name))).collect()
}

#[test]
fn every_cell_of_every_target_has_a_test_or_a_reason() {
    let known = names_of_tests();
    for (target, row) in matrix() {
        for text in ["evidence", "scale_in"] {
            assert!(row[text].as_str().is_some_and(|text| !text.is_empty()), "{target}: no {text}");
        }
        let cells = row["cells"].as_object().unwrap_or_else(|| panic!("{target}: no cells"));
        assert!(cells.keys().all(|key| CELLS.iter().any(|(cell, _)| cell == key)), "{target}: an unknown cell");
        for (cell, _) in CELLS {
            match (row["cells"][cell]["test"].as_str(), row["cells"][cell]["none"].as_str()) {
                (Some(test), None) => assert!(known.contains(test), "{target}, {cell}: {test} is no test"),
                (None, Some(why)) => assert!(10 < why.len(), "{target}, {cell}: no reason"),
                _ => panic!("{target}, {cell}: neither a test nor a reason"),
            }
        }
    }
}

#[test]
fn the_documentation_has_the_targets_as_they_are() {
    let path = root().join("docs/targets.md");
    let text = fs::read_to_string(&path).expect("docs/targets.md is there");
    let with_matrix = between(&text, "matrix", &table());
    let expected = between(&with_matrix, "settings", &adapters_in_markdown(TABLE));
    if std::env::var("TIDEGATE_WRITE_DOCS").is_ok() {
        fs::write(&path, &expected).expect("docs/targets.md can be written");
    }
    assert!(text == expected, "run: TIDEGATE_WRITE_DOCS=1 scripts/test the_documentation_has_the_targets_as_they_are");
}

fn table() -> String {
    let mut text = String::from("| Target | Stands on | Which tasks a scale-in takes |");
    CELLS.iter().for_each(|(_, title)| write!(text, " {title} |").expect("writing to text"));
    text.push_str("\n|---|---|---|");
    CELLS.iter().for_each(|_| text.push_str("---|"));
    for (target, row) in matrix() {
        write!(text, "\n| `{target}` | {} | {} |", escaped(&row["evidence"]), escaped(&row["scale_in"]))
            .expect("writing to text");
        for (cell, _) in CELLS {
            let cell = &row["cells"][cell];
            let shown = match (cell["test"].as_str(), cell["note"].is_string()) {
                (None, _) => format!("- ({})", escaped(&cell["none"])),
                (Some(test), true) => format!("{} (`{test}`)", escaped(&cell["note"])),
                (Some(test), false) => format!("`{test}`"),
            };
            write!(text, " {shown} |").expect("writing to text");
        }
    }
    text.push('\n');
    text
}
