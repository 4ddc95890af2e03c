//! Behaviour as data: each file is what `tidegate decide` takes, with what it must answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tidegate::cli::play;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios");
    let files = fs::read_dir(folder).expect("the folder is there").map(|file| file.expect("it can be listed").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|ending| ending == "json")).collect();
    files.sort();
    assert!(10 <= files.len(), "only {} scenarios", files.len());
    files
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("it can be read");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[test]
fn every_scenario_is_decided_as_it_says() {
    for file in scenarios() {
        let name = file.display();
        let scenario = read(&file);
        let answer = play(&scenario, "scenario");
        let expect = &scenario["expect"];
        if let Some(problem) = expect["problem"].as_str() {
            let error = answer.expect_err("the configuration is refused").to_string();
            assert!(error.contains(problem), "{name}: {error}");
            continue;
        }
        let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer["decision"]["desired"], expect["desired"], "{name}: {}", answer["why"]);
        if let Some(pending) = expect.get("pending") {
            assert_eq!(&answer["state"]["pending"]["to"], pending, "{name}");
        }
        let reasons = answer["decision"]["reasons"].as_array().expect("a list");
        let codes: Vec<_> = reasons.iter().map(|reason| &reason["code"]).collect();
        assert_eq!(Value::from_iter(codes.into_iter().cloned()), expect["codes"], "{name}: {}", answer["why"]);
        assert!(scenario["about"].as_str().is_some_and(|about| 20 < about.len()), "{name} does not say what it shows");
    }
}

#[test]
fn the_command_decides_the_same_files() {
    let file = scenarios().into_iter().find(|file| file.ends_with("defaults_5000_waiting.json")).expect("it is there");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("decide").arg(&file).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(answer, play(&read(&file), "scenario").expect("it is decided"));
    assert_eq!(answer["decision"]["desired"], 60);
}
