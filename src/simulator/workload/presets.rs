//! Workloads that are built in: four real ones, nine shapes and a year.

use super::{Window, Workload};

/// A built-in workload.
pub struct Preset {
    /// The name, as the command takes it.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    make: fn(Workload) -> Workload,
}

impl Preset {
    /// The workload.
    pub fn workload(&self) -> Workload {
        (self.make)(Workload { name: self.name.to_owned(), bin_secs: 1.0, service_secs: 2.0, ..Workload::default() })
    }
}

/// The names of the real ones.
pub const TRACES: &[&str] = &["azure_code", "azure_conv", "mooncake", "twitter_amzn"];

/// The names of the shapes.
pub const SHAPES: &[&str] =
    &["step", "ramp", "flash", "on_off", "cron", "poison", "outage", "unreadable", "slow_consumers"];

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "azure_code",
        about: "Azure LLM inference, code completion, one hour in bursts",
        make: |it| trace(it, include_str!("../traces/azure_llm_code_2023_1s.csv"), 5.0),
    },
    Preset {
        name: "azure_conv",
        about: "Azure LLM inference, conversation, one hour",
        make: |it| trace(it, include_str!("../traces/azure_llm_conv_2023_1s.csv"), 5.0),
    },
    Preset {
        name: "mooncake",
        about: "Moonshot AI's Kimi, conversation, one hour",
        make: |it| trace(it, include_str!("../traces/mooncake_conv_1h_1s.csv"), 5.0),
    },
    Preset {
        name: "twitter_amzn",
        about: "Tweets about Amazon, two weeks",
        make: |it| trace(it, include_str!("../traces/nab_twitter_amzn_14d_5min.csv"), 30.0),
    },
    Preset { name: "step", about: "2 messages a second, from the second hour on 20", make: |it| shaped(it, step) },
    Preset {
        name: "ramp",
        about: "2 messages a second to 28 and back, in four hours",
        make: |it| shaped(it, |at| 2.0 + 26.0 * (1.0 - (at / HALF - 1.0).abs())),
    },
    Preset {
        name: "flash",
        about: "2 messages a second, and 60 for five minutes",
        make: |it| shaped(it, |at| if FLASH.contains(at) { 60.0 } else { 2.0 }),
    },
    Preset {
        name: "on_off",
        about: "15 messages a second for ten minutes, then none for ten",
        make: |it| shaped(it, |at| if at % 1200.0 < 600.0 { 15.0 } else { 0.0 }),
    },
    Preset {
        name: "cron",
        about: "1,800 messages within 30 s every 15 minutes",
        make: |it| shaped(it, |at| if at % 900.0 < 30.0 { 60.0 } else { 0.0 }),
    },
    Preset {
        name: "poison",
        about: "10 messages a second, and 200 that no task gets done",
        make: |it| Workload { poison: vec![(3600.0, 200)], ..shaped(it, |_| 10.0) },
    },
    Preset {
        name: "outage",
        about: "10 messages a second, and none for half an hour",
        make: |it| shaped(it, |at| if OUTAGE.contains(at) { 0.0 } else { 10.0 }),
    },
    Preset {
        name: "unreadable",
        about: "the step, with metrics that cannot be read for 20 minutes around it",
        make: |it| Workload { unreadable: vec![Window { from: 3000.0, to: 4200.0 }], ..shaped(it, step) },
    },
    Preset {
        name: "slow_consumers",
        about: "10 messages a second, and tasks that take three times as long for an hour",
        make: |it| Workload { slow: vec![(Window { from: 3600.0, to: 7200.0 }, 3.0)], ..shaped(it, |_| 10.0) },
    },
    Preset {
        name: "year",
        about: "a year of days and weeks, 0.4 messages a second and 12 busy tasks on average",
        make: |it| Workload { bin_secs: 300.0, bins: year(), service_secs: 30.0, ..it },
    },
];

/// How long the shapes last, in seconds: four hours.
const DURATION: usize = 14_400;

const HALF: f64 = DURATION as f64 / 2.0;

const FLASH: Window = Window { from: 3600.0, to: 3900.0 };

const OUTAGE: Window = Window { from: 5400.0, to: 7200.0 };

/// Messages in each five minutes: most at noon, a fifth of that at midnight, and half of it at weekends.
fn year() -> Vec<f64> {
    let rate = |bin: u64| {
        let (day, hour) = (bin / 288, (bin % 288) as f64 / 12.0);
        let share = if day % 7 < 5 { 1.0 } else { 0.5 };
        share * (0.6 - 0.4 * (std::f64::consts::TAU * hour / 24.0).cos())
    };
    (0..365 * 288).map(|bin| 0.8 * 300.0 * rate(bin)).collect()
}

fn step(at: f64) -> f64 {
    if at < 3600.0 { 2.0 } else { 20.0 }
}

fn shaped(workload: Workload, rate: impl Fn(f64) -> f64) -> Workload {
    Workload { bins: (0..DURATION).map(|at| rate(at as f64)).collect(), ..workload }
}

fn trace(workload: Workload, text: &str, service_secs: f64) -> Workload {
    Workload::from_csv(&workload.name, text, service_secs).expect("what is built in can be read")
}
