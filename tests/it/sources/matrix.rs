//! The matrix of sources is whole, and the documentation has it as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate::adapter::Entry;
use tidegate::cli::adapters_in_markdown;
use tidegate::sources::TABLE;

use crate::support::docs::{between, escaped};
use crate::tidy::names_of_tests;

/// What each source must show, and how the documentation calls it.
const CELLS: &[(&str, &str)] = &[
    ("counts", "N put, M taken"),
    ("empty", "Empty"),
    ("missing", "Missing queue"),
    ("password", "Wrong password"),
    ("port", "Wrong port"),
    ("tls", "TLS mismatch"),
    ("killed", "Killed mid-read"),
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
        let path: PathBuf = root().join(format!("tests/matrix/{name}.json"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    built.map(|name| (name.to_owned(), read(name))).collect()
}

#[test]
fn every_cell_of_every_source_has_a_test_or_a_reason() {
    let known = names_of_tests();
    for (source, row) in matrix() {
        assert!(row["evidence"].as_str().is_some_and(|text| !text.is_empty()), "{source}: no evidence");
        let cells = row["cells"].as_object().unwrap_or_else(|| panic!("{source}: no cells"));
        assert!(cells.keys().all(|key| CELLS.iter().any(|(cell, _)| cell == key)), "{source}: an unknown cell");
        for (cell, _) in CELLS {
            let cell_of = &row["cells"][cell];
            match (cell_of["test"].as_str(), cell_of["none"].as_str()) {
                (Some(test), None) => {
                    assert!(known.contains(test), "{source}, {cell}: {test} is no test");
                    let is_failure = !["counts", "empty"].contains(cell);
                    let says = cell_of["kind"].is_string() && cell_of["says"].is_string();
                    assert!(!is_failure || says, "{source}, {cell}: no kind and says");
                }
                (None, Some(why)) => assert!(10 < why.len(), "{source}, {cell}: no reason"),
                _ => panic!("{source}, {cell}: neither a test nor a reason"),
            }
        }
    }
}

#[test]
fn the_documentation_has_the_sources_as_they_are() {
    let path = root().join("docs/sources.md");
    let text = fs::read_to_string(&path).expect("docs/sources.md is there");
    let with_matrix = between(&text, "matrix", &table());
    let expected = between(&with_matrix, "settings", &adapters_in_markdown(TABLE));
    if std::env::var("TIDEGATE_WRITE_DOCS").is_ok() {
        fs::write(&path, &expected).expect("docs/sources.md can be written");
    }
    assert!(text == expected, "run: TIDEGATE_WRITE_DOCS=1 scripts/test the_documentation_has_the_sources_as_they_are");
}

fn table() -> String {
    let mut text = String::from("| Source | Stands on |");
    CELLS.iter().for_each(|(_, title)| write!(text, " {title} |").expect("writing to text"));
    text.push_str("\n|---|---|");
    CELLS.iter().for_each(|_| text.push_str("---|"));
    for (source, row) in matrix() {
        write!(text, "\n| `{source}` | {} |", escaped(&row["evidence"])).expect("writing to text");
        for (cell, _) in CELLS {
            let cell = &row["cells"][cell];
            let shown = match (cell["test"].as_str(), cell["kind"].as_str()) {
                (None, _) => format!("- ({})", escaped(&cell["none"])),
                (Some(test), None) => match cell["note"].is_string() {
                    true => format!("{} (`{test}`)", escaped(&cell["note"])),
                    false => format!("`{test}`"),
                },
                (Some(test), Some(kind)) => format!("`{kind}`: {} (`{test}`)", escaped(&cell["says"])),
            };
            write!(text, " {shown} |").expect("writing to text");
        }
    }
    text.push('\n');
    text
}
