//! What is learned of a load from tick to tick: how much arrives, how unevenly, and how long a message takes.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Look;

/// What `drain_time` has learned. Less than 300 bytes of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Messages that arrive in a second.
    pub rate: f32,
    /// The variance of that.
    pub variance: f32,
    /// How long a task works on one message, in seconds.
    pub service_secs: f32,
    /// The last looks, at most 6, the newest last: how many seconds before the newest, what waited or was in flight, and what was
    /// in flight.
    pub looks: Vec<(f32, f32, f32)>,
    /// The wanted counts that are still to be kept, at most 6, the newest last: how many seconds ago, and the count.
    #[serde(default)]
    pub wants: Vec<(f32, u32)>,
    /// When the newest look was.
    pub last: Timestamp,
}

/// Over how long arrivals are counted, in seconds.
const WINDOW: f64 = 60.0;
/// After so long without a look, what was seen before says nothing of the arrivals since.
const GAP: f64 = 300.0;
/// How long the mean and the variance of the arrivals remember, in seconds.
const MEAN_OVER: f64 = 240.0;
const VARIANCE_OVER: f64 = 600.0;
/// How many looks are kept, and how many parts of the time to hold.
const LOOKS: usize = 6;
const PARTS: f64 = 4.0;

impl Estimate {
    /// Begins to learn. Nothing is known of before, so that the count as it is is kept at first.
    pub(super) fn begin(look: &Look, service_secs: f64, current: u32, at: Timestamp) -> Self {
        let rate = look.in_flight / service_secs;
        Self {
            rate: rate as f32,
            variance: (rate / WINDOW) as f32,
            service_secs: service_secs as f32,
            looks: vec![looked(look)],
            wants: vec![(0.0, current)],
            last: at,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        f64::from(self.rate)
    }

    pub(super) fn service_secs(&self) -> f64 {
        f64::from(self.service_secs).clamp(0.001, 86_400.0)
    }

    /// The standard deviation of what arrives in a second: that which was seen, and no less than chance makes it.
    pub(super) fn deviation(&self) -> f64 {
        f64::from(self.variance).max(self.rate() / WINDOW).sqrt()
    }

    /// Takes in one more look; none where it is not newer.
    pub(super) fn follow(mut self, look: &Look, current: u32, at: Timestamp) -> Self {
        let secs = at.duration_since(self.last).as_secs_f64();
        if secs <= 0.0 {
            return self;
        }
        if GAP < secs {
            return Self::begin(look, self.service_secs(), current, at);
        }
        self.looks.iter_mut().for_each(|(ago, ..)| *ago += secs as f32);
        self.wants.iter_mut().for_each(|(ago, _)| *ago += secs as f32);
        self.last = at;
        self.take_in(look);
        self.learn_arrivals(secs);
        self
    }

    /// Of looks in quick succession the later ones are left out, and of old ones the first that reaches back over the window stays.
    fn take_in(&mut self, look: &Look) {
        let ago = |looks: &[(f32, f32, f32)], place: usize| f64::from(looks[place].0);
        let count = self.looks.len();
        if 2 <= count && ago(&self.looks, count - 2) - ago(&self.looks, count - 1) < WINDOW / (LOOKS as f64 - 2.0) {
            self.looks.pop();
        }
        self.looks.push(looked(look));
        let surplus = self.looks.len().saturating_sub(LOOKS);
        self.looks.drain(..surplus);
        while 2 < self.looks.len() && WINDOW <= ago(&self.looks, 1) {
            self.looks.remove(0);
        }
    }

    fn learn_arrivals(&mut self, secs: f64) {
        let Some(arrivals) = self.arrivals() else { return };
        let (rate, deviation) = (self.rate(), self.deviation());
        let error = arrivals - rate;
        let surprise = error.abs().min(6.0 * deviation).powi(2);
        let variance = f64::from(self.variance);
        self.variance = (variance + forgets(secs, VARIANCE_OVER) * (surprise - variance)) as f32;
        self.rate = match 3.0 * deviation < error {
            true => arrivals,
            false => rate + forgets(secs, MEAN_OVER) * error,
        } as f32;
    }

    /// Messages that arrived in a second: what is more than before, and what was done meanwhile.
    fn arrivals(&self) -> Option<f64> {
        let (&(since, before, _), &(until, after, _)) = (self.looks.first()?, self.looks.last()?);
        let span = f64::from(since - until);
        if span <= 0.0 {
            return None;
        }
        let of_pair =
            |pair: &[(f32, f32, f32)]| f64::from(pair[0].0 - pair[1].0) * f64::from(pair[0].2 + pair[1].2) / 2.0;
        let busy = self.looks.windows(2).map(of_pair).sum::<f64>() / span;
        Some((f64::from(after - before) / span + busy / self.service_secs()).max(0.0))
    }

    /// Notes what is wanted, and returns the most that was wanted over the time to hold.
    pub(super) fn hold(&mut self, needs: u32, hold_secs: u32) -> u32 {
        let part = (f64::from(hold_secs) / PARTS) as f32;
        self.wants.retain(|(ago, _)| *ago < hold_secs as f32 + part);
        match self.wants.last_mut() {
            Some((ago, most)) if *ago < part || *ago <= 0.0 => *most = needs.max(*most),
            _ => self.wants.push((0.0, needs)),
        }
        self.wants.iter().map(|(_, most)| *most).max().unwrap_or(needs)
    }
}

fn looked(look: &Look) -> (f32, f32, f32) {
    (0.0, (look.waiting + look.in_flight) as f32, look.in_flight as f32)
}

/// The share of what is remembered that is forgotten in so long.
fn forgets(secs: f64, over: f64) -> f64 {
    1.0 - (-secs / over).exp()
}
