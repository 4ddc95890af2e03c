//! What arrives: a rate over time, and what goes wrong meanwhile.

mod csv;
mod presets;

use rand::RngExt;
use rand_distr::{Distribution, Poisson};
use rand_pcg::Pcg64;

use super::model::{Model, Services, Stream, stream};
pub use presets::{PRESETS, SHAPES, TRACES};

/// What arrives, and what goes wrong meanwhile. Times in seconds from the start.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// The name in tables.
    pub name: String,
    /// The length of a bin in seconds, above 0.
    pub bin_secs: f64,
    /// How many messages arrive in each bin on average; how many do is a Poisson number, spread evenly over the bin.
    pub bins: Vec<f64>,
    /// How long a message takes, on average, where nothing else is said.
    pub service_secs: f64,
    /// When no source can be read.
    pub unreadable: Vec<Window>,
    /// When tasks take longer for a message, and by which factor.
    pub slow: Vec<(Window, f64)>,
    /// Messages that no task gets done, by when they arrive.
    pub poison: Vec<(f64, u32)>,
}

/// A time from and until.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// The beginning, inclusive.
    pub from: f64,
    /// The end, exclusive.
    pub to: f64,
}

impl Window {
    /// Whether a moment is in it.
    pub fn contains(self, at: f64) -> bool {
        self.from <= at && at < self.to
    }
}

impl Workload {
    /// How long it lasts, in seconds.
    pub fn duration(&self) -> f64 {
        self.bin_secs * self.bins.len() as f64
    }

    /// By which factor tasks take longer at a moment.
    pub(super) fn slowness(&self, at: f64) -> f64 {
        self.slow.iter().filter(|(when, _)| when.contains(at)).map(|(_, factor)| factor).product()
    }

    /// How many tasks are busy on average in a span.
    pub(super) fn load(&self, span: Window, model: &Model) -> f64 {
        let bins = (span.from / self.bin_secs) as usize..(span.to / self.bin_secs).ceil() as usize;
        let bins = self.bins.get(bins.start..bins.end.min(self.bins.len())).unwrap_or_default();
        let secs = (bins.len() as f64 * self.bin_secs).max(1.0);
        bins.iter().sum::<f64>() * model.service.mean_secs / f64::from(model.per_task.max(1)) / secs
    }
}

/// A message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub arrived: f64,
    /// How long a task works on it at ordinary speed.
    pub service: f64,
    pub is_poison: bool,
}

/// The messages in order of arrival.
pub(super) struct Arrivals<'a> {
    workload: &'a Workload,
    times: Pcg64,
    work: Pcg64,
    services: Services,
    bin: usize,
    /// Those of the bins before `bin` that are still to come, the next one last.
    drawn: Vec<(f64, bool)>,
}

impl<'a> Arrivals<'a> {
    pub fn new(workload: &'a Workload, model: &Model, seed: u64) -> Self {
        let (times, work) = (stream(seed, Stream::Arrivals), stream(seed, Stream::Services));
        Self { workload, times, work, services: Services::new(model.service), bin: 0, drawn: Vec::new() }
    }

    fn draw_bin(&mut self, mean: f64) {
        let (secs, from) = (self.workload.bin_secs, self.workload.bin_secs * self.bin as f64);
        // A Poisson number has no mean of zero.
        let count = Poisson::new(mean).map_or(0.0, |all| all.sample(&mut self.times));
        for _ in 0..count as u64 {
            self.drawn.push((from + secs * self.times.random::<f64>(), false));
        }
        for &(at, poison) in &self.workload.poison {
            if from <= at && at < from + secs {
                self.drawn.extend(std::iter::repeat_n((at, true), poison as usize));
            }
        }
        self.drawn.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
    }
}

impl Iterator for Arrivals<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        while self.drawn.is_empty() {
            let mean = *self.workload.bins.get(self.bin)?;
            self.draw_bin(mean);
            self.bin += 1;
        }
        let (arrived, is_poison) = self.drawn.pop()?;
        Some(Message { arrived, service: self.services.draw(&mut self.work), is_poison })
    }
}
