//! How runs are shown.

use std::fmt::Write;

use serde::Serialize;
use serde_json::json;

use crate::cli::pretty;
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::{Moment, Outcome, PRESETS, RIVALS, Row, Spread, TRIALS};

/// About how many lines of a timeline are shown.
pub(super) const LINES: f64 = 40.0;

/// The widest bar of a timeline, in characters.
const WIDEST: f64 = 40.0;

type Number = fn(&Outcome) -> f64;

/// The columns of a comparison: heading, decimals and number.
const COLUMNS: &[(&str, usize, Number)] = &[
    ("late %", 2, |run| run.late_percent),
    ("cost x", 2, |run| run.cost_ratio),
    ("p50 s", 1, |run| run.wait_p50_secs),
    ("p95 s", 1, |run| run.wait_p95_secs),
    ("p99 s", 1, |run| run.wait_p99_secs),
    ("task-h", 1, |run| run.task_hours),
    ("acts/h", 1, |run| run.actions_per_hour),
    ("turns/h", 1, |run| run.reversals_per_hour),
    ("killed", 0, |run| run.killed as f64),
    ("peak", 0, |run| f64::from(run.peak_tasks)),
];

/// How many of them are shown with their standard deviation.
const WITH_SPREAD: usize = 2;

/// Whose the real workloads are, which their licences ask to be said wherever they go.
const ATTRIBUTION: &str = "azure_code and azure_conv are counts of Azure LLM inference traces by Microsoft (Patel et al., Splitwise, ISCA 2024), \
     CC BY 4.0; mooncake of Mooncake's conversation trace by kvcache-ai (FAST 2025), Apache-2.0; twitter_amzn is of the Numenta Anomaly \
     Benchmark, Copyright 2014-2024 Numenta Inc., MIT.";

/// The built-in policies and workloads, for the help.
pub(super) fn built_in() -> String {
    let policies = RIVALS.iter().map(|rival| (rival.name, rival.about)).chain([
        ("static_mean", "one count: the mean load at seven tenths of what tasks can do"),
        ("static_peak", "one count: the minute with the highest load"),
        ("clairvoyant", "knows what will arrive"),
    ]);
    let workloads = PRESETS.iter().map(|preset| (preset.name, preset.about));
    let list = |all: Vec<(&str, &str)>| {
        let lines = all.into_iter().map(|(name, about)| format!("  {name:25} {about}\n"));
        lines.collect::<String>()
    };
    let (policies, workloads) = (list(policies.collect()), list(workloads.collect()));
    format!("Built-in policies:\n{policies}\nBuilt-in workloads:\n{workloads}\n{ATTRIBUTION}")
}

/// A timeline with what came of it.
pub(super) fn timeline(policy: &str, workload: &str, moments: &[Moment], outcome: &Outcome) -> String {
    let mut text = format!("{policy} on {workload}\n\n    time  arrived  waiting  in flight  tasks  running  late\n");
    let most = moments.iter().map(|moment| moment.desired).max().unwrap_or(1).max(1);
    for Moment { at_secs, arrived, waiting, in_flight, desired, running, late } in moments {
        let bar = "#".repeat((WIDEST * f64::from(*desired) / f64::from(most)).round() as usize);
        let line = format!("{arrived:7}  {waiting:7}  {in_flight:9}  {desired:5}  {running:7}  {late:4}  {bar}");
        let _ = writeln!(text, "{:>8}  {}", clock(*at_secs), line.trim_end());
    }
    let _ = write!(
        text,
        "\n{:.2} % late; waits p50 {:.1} s, p95 {:.1} s, p99 {:.1} s; {:.1} task-hours, {:.2} x the least; {:.1} changes and {:.1} turns an \
         hour; {} messages killed at work; {} arrived, {} done",
        outcome.late_percent,
        outcome.wait_p50_secs,
        outcome.wait_p95_secs,
        outcome.wait_p99_secs,
        outcome.task_hours,
        outcome.cost_ratio,
        outcome.actions_per_hour,
        outcome.reversals_per_hour,
        outcome.killed,
        outcome.arrived,
        outcome.done,
    );
    text
}

fn clock(secs: f64) -> String {
    let minutes = (secs / 60.0) as u64;
    format!("{}:{:02}:{:02}", minutes / 60, minutes % 60, secs as u64 % 60)
}

/// One table for each workload, in their order.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for part in rows.chunk_by(|one, other| one.workload == other.workload) {
        let seeds = part[0].runs.len();
        let widest = part.iter().map(|row| row.policy.len()).max().unwrap_or(0);
        let _ = write!(text, "{} ({seeds} seeds)\n{:widest$}", part[0].workload, "");
        for (place, (heading, ..)) in COLUMNS.iter().enumerate() {
            let width = if place < WITH_SPREAD { 14 } else { 9 };
            let _ = write!(text, "{heading:>width$}");
        }
        text.push('\n');
        for row in part {
            let _ = write!(text, "{:widest$}", row.policy);
            for (place, (_, decimals, number)) in COLUMNS.iter().enumerate() {
                let Spread { mean, sd } = row.spread(number);
                let _ = match place < WITH_SPREAD {
                    true => write!(text, "{mean:>8.decimals$} ±{sd:>4.decimals$}"),
                    false => write!(text, "{mean:>9.decimals$}"),
                };
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// One table for all trials, a line each: late percent, cost and the most tasks of each policy, and how often those were the upper bound.
pub(super) fn trials(rows: &[Row]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for part in rows.chunk_by(|one, other| one.workload == other.workload) {
        if lines.is_empty() {
            let policies: String = part.iter().map(|row| format!(" {} |", row.policy)).collect();
            lines.push(format!("| late % / cost x / peak |{policies}"));
            lines.push(format!("|---|{}", "--:|".repeat(part.len())));
        }
        let about = TRIALS.iter().find(|trial| trial.name == part[0].workload).map_or("", |trial| trial.about);
        let results: String = part.iter().map(|row| format!(" {} |", result(row))).collect();
        lines.push(format!("| {}: {about} |{results}", part[0].workload));
    }
    lines.join("\n")
}

fn result(row: &Row) -> String {
    let mean = |number: Number| row.spread(number).mean;
    let (late, cost) = (mean(|run| run.late_percent), mean(|run| run.cost_ratio));
    let peak = row.runs.iter().map(|run| run.peak_tasks).max().unwrap_or(0);
    let needless: u64 = row.runs.iter().map(|run| run.needless_runs_to_max).sum();
    let word = match needless {
        0 => String::new(),
        times => format!(", {times} needless"),
    };
    format!("{late:.1} / {cost:.2} / {peak}{word}")
}

/// Means and standard deviations of all numbers.
pub(super) fn table_as_csv(rows: &[Row]) -> Result<String> {
    let headings = COLUMNS.iter().flat_map(|(heading, ..)| [(*heading).to_owned(), format!("{heading} sd")]);
    let mut lines = vec![["workload", "policy"].map(str::to_owned).into_iter().chain(headings).collect::<Vec<_>>()];
    for row in rows {
        let spreads = COLUMNS.iter().map(|(_, _, number)| row.spread(number));
        let numbers = spreads.flat_map(|Spread { mean, sd }| [mean.to_string(), sd.to_string()]);
        lines.push([row.workload.clone(), row.policy.clone()].into_iter().chain(numbers).collect());
    }
    csv(&lines)
}

/// Every run, with means.
pub(super) fn rows_as_json(rows: &[Row]) -> Result<String> {
    let rows = rows.iter().map(|row| {
        let (late, cost) = (row.spread(|run| run.late_percent), row.spread(|run| run.cost_ratio));
        json!({ "workload": row.workload, "policy": row.policy, "late_percent": late, "cost_ratio": cost, "runs": row.runs })
    });
    pretty(&rows.collect())
}

pub(super) fn run_as_json(moments: &[Moment], outcome: &Outcome) -> Result<String> {
    pretty(&json!({ "outcome": outcome, "timeline": moments }))
}

/// Values by lines, with the names of their fields where they have some.
pub(super) fn csv<T: Serialize>(lines: &[T]) -> Result<String> {
    let failed = |error: String| Error::new(ErrorKind::Bug, "printing", error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        writer.serialize(line).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}
