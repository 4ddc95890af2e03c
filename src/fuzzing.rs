//! What must hold for any bytes at all: one function for each fuzz target. `scripts/fuzz` feeds them with made-up input,
//! and the test below with what is worth keeping of it, in `fuzz/corpus/`.
//!
//! A function that returns found nothing wrong; one that panics did.

mod answers;
mod decisions;
mod names;
mod replies;
mod settings;

pub use answers::{http, kafka};
pub use decisions::{decide, scenario, state};
pub use names::{names, patterns};
pub use replies::{ecs, s3, sqs, sts};
pub use settings::{config, event};

/// Runs what waits for the network or the clock, of which most fuzz targets have neither.
fn wait_for<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime needs nothing else");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A target's name, its function, and what it is fed with beside its own corpus.
    type Target = (&'static str, fn(&[u8]), &'static [&'static str]);

    const TARGETS: &[Target] = &[
        ("event", event, &["events"]),
        ("config", config, &["events"]),
        ("scenario", scenario, &["tests/it/scenarios"]),
        ("decide", decide, &[]),
        ("state", state, &[]),
        ("sqs", sqs, &[]),
        ("ecs", ecs, &[]),
        ("s3", s3, &[]),
        ("sts", sts, &[]),
        ("http", http, &[]),
        ("kafka", kafka, &[]),
        ("names", names, &[]),
        ("patterns", patterns, &[]),
    ];

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("it can be listed").file_name().into_string().expect("names are plain"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_fuzzing_found_worth_keeping_still_holds() {
        let mut failed = Vec::new();
        for (target, check, more) in TARGETS {
            let own = format!("fuzz/corpus/{target}");
            for folder in [own.as_str()].iter().chain(*more) {
                let inputs = names_in(&root().join(folder));
                assert!(!inputs.is_empty(), "{folder} is empty");
                for name in inputs {
                    let bytes = fs::read(root().join(folder).join(&name)).expect("it can be read");
                    if std::panic::catch_unwind(|| check(&bytes)).is_err() {
                        failed.push(format!("{target}: {folder}/{name}"));
                    }
                }
            }
        }
        assert!(failed.is_empty(), "targets and inputs that fail, each with its message above: {failed:#?}");
    }

    #[test]
    fn every_fuzz_target_is_fed() {
        let mut listed: Vec<_> = TARGETS.iter().map(|(target, ..)| format!("{target}.rs")).collect();
        listed.sort();
        assert_eq!(names_in(&root().join("fuzz/fuzz_targets")), listed);
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).expect("it can be read");
        for (target, ..) in TARGETS {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "fuzz/Cargo.toml has no {target}");
        }
    }
}
