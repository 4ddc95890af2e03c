//! `tidegate simulate` and `tidegate compare`: what policies would do, in simulated time.

mod output;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::read_json;
use crate::error::{Error, ErrorKind, Result};
use crate::simulator::{
    Contender, Game, Model, PRESETS, Plan, Service, Shape, Strategy, TRACES, Workload, compare, play,
};

/// The service time of a workload from a file, in seconds, where nothing is said.
const SERVICE_SECS: f64 = 5.0;

/// One policy on one workload.
#[derive(Debug, Args)]
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
    /// Instead of a table: every tick as CSV, or everything as JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Policies against each other.
#[derive(Debug, Args)]
pub(super) struct Compare {
    /// The policies: names of built-in ones, and configuration files. All that are built in where it is left out.
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// The workloads: names of built-in ones, `traces`, `shapes`, and CSV files. The four real ones where it is left out.
    #[arg(long, value_delimiter = ',', default_value = "traces")]
    workload: Vec<String>,
    /// How many seeds, of which the table has means and standard deviations.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    #[command(flatten)]
    world: World,
    /// A table, the same as CSV, or every run as JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Csv,
    Json,
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
        let mut moments = Vec::new();
        let outcome = play(&contender, &workload, &model, self.seed, |moment| moments.push(moment));
        match self.format {
            Format::Table => Ok(output::timeline(&contender.name, &workload.name, &moments, &outcome)),
            Format::Csv => output::csv(&moments),
            Format::Json => output::run_as_json(&moments, &outcome),
        }
    }
}

impl Compare {
    pub fn run(self) -> Result<String> {
        let mut games = Vec::new();
        for name in workloads(&self.workload) {
            let workload = workload(&name, &self.world)?;
            let model = self.world.model(&workload)?;
            let names = match self.policy.is_empty() {
                true => Contender::names().map(str::to_owned).collect(),
                false => self.policy.clone(),
            };
            let contenders = names.iter().map(|name| self.world.contender(name, &model)).collect::<Result<_>>()?;
            games.push(Game { workload, model, contenders });
        }
        let plan = Plan { games, seeds: (1..=self.seeds).collect() };
        // Hidden where standard error is no terminal.
        let bar = ProgressBar::new(plan.runs() as u64);
        let style = ProgressStyle::with_template("{pos}/{len} runs {bar:40} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let rows = compare(&plan, || bar.inc(1));
        bar.finish_and_clear();
        match self.format {
            Format::Table => Ok(output::table(&rows)),
            Format::Csv => output::table_as_csv(&rows),
            Format::Json => output::rows_as_json(&rows),
        }
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
            None => Contender::from_config(name, &read_json(&name.into())?)?,
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
    let names = |are_traces: bool| {
        let all = PRESETS.iter().map(|preset| preset.name);
        all.filter(|name| TRACES.contains(name) == are_traces).map(str::to_owned).collect()
    };
    let each = given.iter().map(|name| match name.as_str() {
        "traces" => names(true),
        "shapes" => names(false),
        _ => vec![name.clone()],
    });
    each.collect::<Vec<_>>().concat()
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
