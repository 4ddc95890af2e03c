//! `tidegate simulate` and `tidegate compare`: what policies would do, in simulated time.

mod output;

use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::read_json;
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::{
    Contender, Game, Metrics, Model, Moment, PRESETS, Plan, SHAPES, Service, Shape, Strategy, TRACES, TRIALS, Trial,
    Workload, compare, play,
};

/// The service time of a workload from a file, in seconds, where nothing is said.
const SERVICE_SECS: f64 = 5.0;

/// The policies that are tried on what goes otherwise than expected, where none is named.
const ON_TRIAL: &[&str] = &["drain_time", "drain_time_told", "drain_time_counted", "keda", "stepscale"];

/// One policy on one workload.
#[derive(Debug, Args)]
#[command(after_help = output::built_in())]
pub(super) struct Simulate {
    /// The policy: the name of a built-in one, or a configuration file, of which target and source may be left out.
    #[arg(long)]
    policy: String,
    /// The workload: the name of a built-in one, or a CSV file of `time,arrivals` or of arrivals in each second.
    #[arg(long)]
    workload: String,
    /// The seed: the same one gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    world: World,
    /// Print every tick, as CSV, instead of a timeline.
    #[arg(long)]
    csv: bool,
    /// Print every tick and what came of it, as JSON, instead of a timeline.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// Policies against each other.
#[derive(Debug, Args)]
#[command(after_help = output::built_in())]
pub(super) struct Compare {
    /// The policies: names of built-in ones, and configuration files. All that are built in where it is left out.
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// The workloads: names of built-in ones, `traces`, `shapes`, and CSV files. The four real ones where it is left out.
    #[arg(long, value_delimiter = ',', default_value = "traces")]
    workload: Vec<String>,
    /// Play what goes otherwise than expected, in place of workloads: slow starts, wrong or missing counts, slow work, poison, bursts. Of
    /// built-in policies the two of `drain_time`, `keda` and `stepscale` where none is named.
    #[arg(long, conflicts_with = "workload")]
    robustness: bool,
    /// How many seeds, of which the table has means and standard deviations.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    #[command(flatten)]
    world: World,
    /// Print the table as CSV, with a standard deviation for each number.
    #[arg(long)]
    csv: bool,
    /// Print every run as JSON.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

/// What the simulated world is like.
#[derive(Debug, Args)]
struct World {
    /// How often to decide, in seconds. Each built-in policy's own where it is left out, or 15.
    #[arg(long, value_parser = between(0.5, 86_400.0))]
    interval: Option<f64>,
    /// How long a message may wait before it counts as late, in seconds.
    #[arg(long, default_value_t = 60.0, value_parser = between(0.1, 1e6))]
    promise_secs: f64,
    /// How long a task works on a message on average, in seconds. The workload's own where it is left out.
    #[arg(long, value_parser = between(0.001, 1e6))]
    service_secs: Option<f64>,
    /// How single messages differ from that: standard deviation by mean, lognormal.
    #[arg(long, default_value_t = 0.5, value_parser = between(0.0, 10.0))]
    service_cv: f64,
    /// How many messages a task works on at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    per_task: u32,
    /// The least that a task takes to start, in seconds.
    #[arg(long, default_value_t = 30.0, value_parser = between(0.0, 1e5))]
    startup_min_secs: f64,
    /// The most that a task takes to start, in seconds.
    #[arg(long, default_value_t = 90.0, value_parser = between(0.0, 1e5))]
    startup_max_secs: f64,
    /// How old counts of the queue may be, in seconds.
    #[arg(long, default_value_t = 30.0, value_parser = between(0.0, 3600.0))]
    metric_age_secs: f64,
    /// Whether tasks at work are protected from scale-in.
    #[arg(long)]
    protected: bool,
    /// Whether configurations see how many messages were finished as well, as of a queue that counts them.
    #[arg(long)]
    counted: bool,
    /// The least tasks, in place of each policy's own.
    #[arg(long)]
    min: Option<u32>,
    /// The most tasks, in place of each policy's own.
    #[arg(long)]
    max: Option<u32>,
}

fn between(least: f64, most: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!("not a number from {least} to {most}")),
    }
}

impl Simulate {
    pub fn run(self) -> Result<String> {
        let workload = workload(&self.workload, &self.world)?;
        let model = self.world.model(&workload)?;
        let contender = self.world.contender(&self.policy, &model)?;
        let ticks = workload.duration() / contender.interval_secs;
        let together = if self.csv || self.json { 1 } else { (ticks / output::LINES).ceil() as u64 };
        let (mut moments, mut seen): (Vec<Moment>, u64) = (Vec::new(), 0);
        let outcome = play(&contender, &workload, &model, self.seed, |moment| {
            match moments.last_mut() {
                Some(last) if !seen.is_multiple_of(together) => *last = last.until(moment),
                _ => moments.push(moment),
            }
            seen += 1;
        });
        match (self.csv, self.json) {
            (true, _) => output::csv(&moments),
            (_, true) => output::run_as_json(&moments, &outcome),
            _ => Ok(output::timeline(&contender.name, &workload.name, &moments, &outcome)),
        }
    }
}

impl Compare {
    pub fn run(self) -> Result<String> {
        let games = if self.robustness { self.trials()? } else { self.games()? };
        let plan = Plan { games, seeds: (1..=self.seeds).collect() };
        // Hidden where standard error is no terminal.
        let bar = ProgressBar::new(plan.runs() as u64);
        let style = ProgressStyle::with_template("{pos}/{len} runs {bar:40} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let rows = compare(&plan, || bar.inc(1));
        bar.finish_and_clear();
        match (self.csv, self.json) {
            (true, _) => output::table_as_csv(&rows),
            (_, true) => output::rows_as_json(&rows),
            _ if self.robustness => Ok(output::trials(&rows)),
            _ => Ok(output::table(&rows)),
        }
    }

    fn games(&self) -> Result<Vec<Game>> {
        let all: Vec<_> = Contender::names().collect();
        let game = |name: String| {
            let workload = workload(&name, &self.world)?;
            let model = self.world.model(&workload)?;
            let contenders = self.contenders(&all, &model)?;
            Ok(Game { workload, model, contenders })
        };
        workloads(&self.workload).into_iter().map(game).collect()
    }

    fn trials(&self) -> Result<Vec<Game>> {
        let game = |trial: &Trial| {
            let model = self.world.model(&trial.workload())?;
            trial.game(model, |told| self.contenders(ON_TRIAL, told))
        };
        TRIALS.iter().map(game).collect()
    }

    fn contenders(&self, built_in: &[&str], model: &Model) -> Result<Vec<Contender>> {
        let named = self.policy.iter().map(String::as_str);
        let names: Vec<_> = if self.policy.is_empty() { built_in.to_vec() } else { named.collect() };
        names.into_iter().map(|name| self.world.contender(name, model)).collect()
    }
}

impl World {
    fn model(&self, workload: &Workload) -> Result<Model> {
        let wrong = |what: &str, cause: &str| Error::new(ErrorKind::Config, what.to_owned(), cause.to_owned());
        let (min, max) = (self.min.unwrap_or(1), self.max.unwrap_or(300));
        if max < min {
            return Err(wrong("--min", "is above --max, which is 300 where it is left out; lower it or raise --max"));
        }
        if self.startup_max_secs < self.startup_min_secs {
            return Err(wrong("--startup-min-secs", "is above --startup-max-secs; exchange the two"));
        }
        let mean_secs = self.service_secs.unwrap_or(workload.service_secs);
        Ok(Model {
            service: Service { mean_secs, shape: Shape::Lognormal { cv: self.service_cv } },
            per_task: self.per_task,
            startup_secs: (self.startup_min_secs, self.startup_max_secs),
            is_protected: self.protected,
            metric_age_secs: self.metric_age_secs,
            promise_secs: self.promise_secs,
            bounds: (min, max),
            ..Model::default()
        })
    }

    fn contender(&self, name: &str, model: &Model) -> Result<Contender> {
        let mut contender = match Contender::built_in(name, model) {
            Some(contender) => contender,
            None if !PathBuf::from(name).exists() => {
                let known = Contender::names().collect::<Vec<_>>().join(", ");
                let cause = format!("is neither a file nor one of {known}");
                return Err(Error::new(ErrorKind::Config, format!("policy {name:?}"), cause));
            }
            None => {
                let metrics = if self.counted { Metrics::Counted } else { Metrics::Direct };
                Contender { metrics, ..Contender::from_config(name, &read_json(&name.into())?)? }
            }
        };
        contender.interval_secs = self.interval.unwrap_or(contender.interval_secs);
        if let Strategy::Rules(rules) = &mut contender.strategy {
            rules.bounds.min = self.min.unwrap_or(rules.bounds.min);
            rules.bounds.max = self.max.unwrap_or(rules.bounds.max).max(rules.bounds.min);
        }
        Ok(contender)
    }
}

fn workloads(given: &[String]) -> Vec<String> {
    let each = given.iter().flat_map(|name| match name.as_str() {
        "traces" => TRACES.to_vec(),
        "shapes" => SHAPES.to_vec(),
        name => vec![name],
    });
    each.map(str::to_owned).collect()
}

fn workload(name: &str, world: &World) -> Result<Workload> {
    if let Some(preset) = PRESETS.iter().find(|preset| preset.name == name) {
        return Ok(preset.workload());
    }
    let failed = |cause: String| Error::new(ErrorKind::Config, format!("workload {name:?}"), cause);
    let text = std::fs::read_to_string(name).map_err(|error| {
        let known = PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", ");
        failed(format!("is neither one of {known} nor a file that can be read: {error}"))
    })?;
    Workload::from_csv(name, &text, world.service_secs.unwrap_or(SERVICE_SECS))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    enum Line {
        Simulate(Simulate),
        Compare(Compare),
    }

    fn run(line: &str) -> Result<String> {
        match Line::try_parse_from(line.split_whitespace()).expect("the line can be read") {
            Line::Simulate(it) => it.run(),
            Line::Compare(it) => it.run(),
        }
    }

    #[test]
    fn a_configuration_of_ones_own_takes_part_with_a_workload_of_ones_own() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("it can be written");
            path.display().to_string()
        };
        let rules = file("rules.yaml", "policies: [{type: threshold}]\nbounds: {min: 2, max: 20}\n");
        let short = file("short.json", r#"{"min_tasks": 3, "max_tasks": 30}"#);
        let work = file("work.csv", &"20\n".repeat(1200));
        let answer = run(&format!("x compare --policy {rules},{short},keda --workload {work} --seeds 2 --json"));
        let rows: serde_json::Value = serde_json::from_str(&answer.expect("it can be compared")).expect("JSON");
        let peaks: Vec<_> = (0..3).map(|row| rows[row]["runs"][1]["peak_tasks"].as_u64()).collect();
        assert_eq!(rows[0]["policy"], rules);
        assert_eq!(&peaks[..2], [Some(20), Some(30)], "each keeps its own bounds: {rows}");
        let answer = run(&format!("x simulate --policy {rules} --workload {work} --max 4 --csv")).expect("it runs");
        let counts: Vec<_> = answer.lines().skip(1).filter_map(|line| line.split(',').nth(4)).collect();
        assert_eq!((counts.len(), counts.last()), (80, Some(&"4")), "{answer}");
    }

    #[test]
    fn a_table_has_a_line_for_each_policy_and_a_timeline_about_forty() {
        let table =
            run("x compare --policy keda,fly --workload step,azure_code --seeds 1").expect("it can be compared");
        assert_eq!(table.lines().filter(|line| line.starts_with("keda") || line.starts_with("fly")).count(), 4);
        assert!(table.contains("azure_code (1 seeds)"), "{table}");
        let timeline = run("x simulate --policy keda --workload step").expect("it can be simulated");
        let lines = timeline.lines().filter(|line| line.contains('#')).count();
        assert!((35..=41).contains(&lines), "{timeline}");
    }

    #[test]
    fn the_help_names_all_that_is_built_in_and_whose_the_traces_are() {
        let help = output::built_in();
        let workloads = PRESETS.iter().map(|preset| preset.name);
        for name in Contender::names().chain(workloads).chain(["Microsoft", "kvcache-ai", "Numenta"]) {
            assert!(help.contains(name), "{name} is missing: {help}");
        }
    }

    #[test]
    fn what_is_neither_built_in_nor_a_file_is_answered_with_what_is() {
        for (line, name, known) in [
            ("x simulate --policy keta --workload step", "keta", "microscaling_queue"),
            ("x simulate --policy keda --workload stepp", "stepp", "azure_conv"),
            ("x compare --policy keda --min 5 --max 4", "--min", "--max"),
        ] {
            let error = run(line).expect_err(line);
            let text = error.to_string();
            assert!(error.kind() == ErrorKind::Config && text.contains(name) && text.contains(known), "{text}");
        }
    }
}
