//! What is learned of the work from tick to tick: how much arrives, how unevenly, and how long a message takes.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Finished, Look};

/// What `drain_time` has learned. About 300 bytes of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// Messages that arrive in a second.
    pub rate: f32,
    /// The variance of that.
    pub variance: f32,
    /// The square of what the newest look differed by from what was expected, which counts from the next look on: a look that
    /// surprises by how little there is must not ask for more tasks.
    #[serde(default)]
    pub surprise: f32,
    /// How long a task works on one message, in seconds.
    pub service_secs: f32,
    /// The last looks, at most 5, the newest last: how many seconds before the newest, what waited or was in flight, and what was
    /// in flight.
    pub looks: Vec<(f32, f32, f32)>,
    /// The wanted counts that are still to be kept, at most 6, the newest last: how many seconds ago, and the count.
    #[serde(default)]
    pub wants: Vec<(f32, u32)>,
    /// How much faster work went when more was worked on, and how much more was worked on, added up over changes of the count.
    #[serde(default)]
    pub answers: (f32, f32),
    /// The window before: how many seconds ago it ended, the growth of the work in a second, the messages in flight, and the slots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<(f32, f32, f32, f32)>,
    /// What a counter of finished messages has taught of how long one takes, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finished>,
    /// When the newest look was.
    pub last: Timestamp,
}

/// Over how long arrivals are counted, in seconds: three ticks of 15 s.
const WINDOW: f64 = 45.0;
/// How many looks are kept, and how many parts of the time to hold.
const LOOKS: usize = 5;
const PARTS: f64 = 4.0;
/// After so long without a look, in seconds, what was seen before says nothing of the arrivals since.
const GAP: f64 = 300.0;
/// How much longer than later ones the count is kept that is found at first, in seconds: what it answered is not known.
const FIRST_KEPT: f64 = 240.0;
/// How long the mean of the arrivals remembers where more arrives and where less does, and how long their variance does, in
/// seconds. A mean that falls slowly is head-room for the next burst.
const RISES_OVER: f64 = 120.0;
const FALLS_OVER: f64 = 360.0;
const VARIANCE_OVER: f64 = 600.0;
/// From how many standard deviations on arrivals are a burst, which is believed at once.
const BURST: f64 = 4.0;
/// How long a change of the count is remembered for what it says of the service time, in seconds.
const SERVICE_OVER: f64 = 7_200.0;
/// By how many answered changes of a message's worth the service time counts that was said, and how many times as long a message may
/// be learned to take at most: a wrong lesson stays affordable. Where nothing was said there is more to learn.
const SAID_COUNTS: f64 = 60.0;
const LONGEST: f64 = 2.0;
const DOUBT: f64 = 2.0;

/// How long a message takes, before anything is learned of it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said {
    /// As the configuration says, in seconds.
    Given(f64),
    /// A guess, in seconds.
    Guessed(f64),
}

impl Said {
    pub(super) fn secs(self) -> f64 {
        match self {
            Self::Given(secs) | Self::Guessed(secs) => secs.clamp(0.001, 86_400.0),
        }
    }

    /// How long a message takes after what was learned, in seconds.
    fn corrected_by(self, done: f64, more: f64) -> f64 {
        let (secs, doubt) = (self.secs(), self.doubt());
        let weight = SAID_COUNTS / doubt * secs * secs;
        let of_one = (done + weight / secs) / (more + weight);
        (1.0 / of_one.max(1.0 / (LONGEST * doubt * secs))).max(secs)
    }

    fn doubt(self) -> f64 {
        match self {
            Self::Given(_) => 1.0,
            Self::Guessed(_) => DOUBT,
        }
    }
}

impl Estimate {
    /// Begins to learn. Nothing is known of before, so that the count as it is is kept at first.
    pub(super) fn begin(look: &Look, service_secs: f64) -> Self {
        let rate = look.in_flight / service_secs;
        Self {
            rate: short(rate),
            variance: short(rate / WINDOW),
            surprise: short(rate / WINDOW),
            service_secs: service_secs as f32,
            looks: vec![looked(look)],
            wants: vec![(-FIRST_KEPT as f32, look.current)],
            answers: (0.0, 0.0),
            window: None,
            finished: Finished::begin(look, None),
            last: look.at,
        }
    }

    /// Whether it is what this wrote: numbers that somebody else put there must not become counts.
    pub(super) fn is_sound(&self) -> bool {
        let fits = |number: f32| (-1e30..1e30).contains(&number);
        let (done, more) = self.answers;
        let of_window = self.window.into_iter().flat_map(|(ago, growth, busy, slots)| [ago, growth, busy, slots]);
        let of_looks = self.looks.iter().flat_map(|(ago, work, busy)| [*ago, *work, *busy]);
        let of_wants = self.wants.iter().map(|(ago, _)| *ago);
        self.finished.as_ref().is_none_or(Finished::is_sound)
            && 0.0 <= self.rate
            && 0.0 <= self.variance
            && 0.0 <= self.surprise
            && (1e-4..1e7).contains(&self.service_secs)
            && [self.rate, self.variance, self.surprise, done, more].into_iter().all(fits)
            && of_window.chain(of_looks).chain(of_wants).all(fits)
    }

    pub(super) fn rate(&self) -> f64 {
        f64::from(self.rate)
    }

    pub(super) fn service_secs(&self) -> f64 {
        f64::from(self.service_secs)
    }

    /// From how many finished messages the service time was learned, where a counter tells them.
    pub(super) fn learned_from(&self) -> Option<f64> {
        self.finished.as_ref().and_then(Finished::learned_from)
    }

    /// The standard deviation of what arrives in a second: that which was seen, and no less than chance makes it.
    pub(super) fn deviation(&self) -> f64 {
        f64::from(self.variance).max(self.rate() / WINDOW).sqrt()
    }

    /// Takes in one more look; none where it is not newer.
    pub(super) fn follow(mut self, look: &Look, said: Said) -> Self {
        let secs = look.at.duration_since(self.last).as_secs_f64();
        if secs <= 0.0 {
            return self;
        }
        if GAP < secs {
            let finished = Finished::begin(look, self.finished.take());
            return Self { answers: self.answers, finished, ..Self::begin(look, self.service_secs()) };
        }
        self.looks.iter_mut().for_each(|(ago, ..)| *ago += secs as f32);
        self.wants.iter_mut().for_each(|(ago, _)| *ago += secs as f32);
        self.window.iter_mut().for_each(|(ago, ..)| *ago += secs as f32);
        self.last = look.at;
        let variance = f64::from(self.variance);
        self.variance = short(variance + forgets(secs, VARIANCE_OVER) * (f64::from(self.surprise) - variance));
        let said = self.learn_of_finished(look, secs, said);
        match self.flow() {
            _ if look.tells_service() && self.learned_from().is_some() => {
                (self.answers, self.window) = ((0.0, 0.0), None);
            }
            // Of what was seen before too.
            Some((growth, busy)) => self.learn_service(growth, busy, look.slots, secs, said),
            None => {}
        }
        self.take_in(look);
        if let Some((growth, busy)) = self.flow() {
            self.learn_arrivals((growth + busy / self.service_secs()).max(0.0), secs);
        }
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

    /// By how much the work grew in a second, and how much of it was in flight, over the looks.
    fn flow(&self) -> Option<(f64, f64)> {
        let (&(since, before, _), &(until, after, _)) = (self.looks.first()?, self.looks.last()?);
        let span = f64::from(since - until);
        let of_pair =
            |pair: &[(f32, f32, f32)]| f64::from(pair[0].0 - pair[1].0) * f64::from(pair[0].2 + pair[1].2) / 2.0;
        let (growth, busy) = (f64::from(after - before) / span, self.looks.windows(2).map(of_pair).sum::<f64>() / span);
        (0.0 < span && growth.is_finite() && busy.is_finite()).then_some((growth, busy))
    }

    /// Learns of a counter of finished messages, and returns how long one takes for all that is known without the count's changes.
    fn learn_of_finished(&mut self, look: &Look, secs: f64, said: Said) -> Said {
        let before = self.looks.last().map_or(look.in_flight, |&(_, _, in_flight)| f64::from(in_flight));
        self.finished = match self.finished.take() {
            Some(finished) => Some(finished.follow(look, before, secs, said)),
            None => Finished::begin(look, None),
        };
        match self.finished.as_ref().filter(|finished| finished.learned_from().is_some()) {
            Some(finished) => {
                let service_secs = finished.service_secs(said);
                self.service_secs = short(service_secs);
                Said::Given(service_secs)
            }
            None => said,
        }
    }

    fn learn_arrivals(&mut self, arrivals: f64, secs: f64) {
        let (rate, deviation) = (self.rate(), self.deviation());
        let error = arrivals - rate;
        self.surprise = short(error.abs().min(6.0 * deviation).powi(2));
        self.rate = short(match error {
            _ if BURST * deviation < error => arrivals,
            _ if 0.0 < error => rate + forgets(secs, RISES_OVER) * error,
            _ => rate + forgets(secs, FALLS_OVER) * error,
        });
    }

    /// Arrivals are not seen, but the count is our own: by how much the work's growth changes when more of it is worked on, because
    /// more tasks run, is what those get done. It is believed where messages take longer than said, since too few tasks
    /// break the promise.
    fn learn_service(&mut self, growth: f64, busy: f64, slots: f64, secs: f64, said: Said) {
        let keep = 1.0 - forgets(secs, SERVICE_OVER);
        let (mut done, mut more) = (f64::from(self.answers.0) * keep, f64::from(self.answers.1) * keep);
        if self.window.is_none_or(|(ago, ..)| 60.0 <= ago) {
            if let Some((_, growth_then, busy_then, slots_then)) = self.window.filter(|(ago, ..)| *ago < 120.0) {
                let (by, change) = (busy - f64::from(busy_then), slots - f64::from(slots_then));
                let weight = change / (2.0 * self.deviation().powi(2) + 1e-3);
                if 0.0 < by * change {
                    // Bursts that come or go with the tasks would say far more than tasks can.
                    let as_said = (by / said.secs()).abs();
                    let slower = (f64::from(growth_then) - growth) * by.signum();
                    done += slower.clamp(-as_said, 3.0 * as_said) * by.signum() * weight;
                    more += by * weight;
                }
            }
            self.window = Some((0.0, short(growth), short(busy), short(slots)));
        }
        self.answers = (short(done), short(more));
        self.service_secs = short(said.corrected_by(done, more));
    }

    /// Notes what is wanted, and returns the most that was wanted over the time to hold, and over half of it.
    pub(super) fn hold(&mut self, needs: u32, hold_secs: u32) -> Held {
        let part = (f64::from(hold_secs) / PARTS) as f32;
        self.wants.retain(|(ago, _)| *ago < hold_secs as f32 + part);
        match self.wants.last_mut() {
            Some((ago, most)) if (0.0..part.max(f32::MIN_POSITIVE)).contains(ago) => *most = needs.max(*most),
            _ => self.wants.push((0.0, needs)),
        }
        let most_of = |secs: f32| {
            let recent = self.wants.iter().filter(|(ago, _)| *ago < secs);
            recent.map(|(_, most)| *most).fold(needs, u32::max)
        };
        Held { most: most_of(f32::INFINITY), lately: most_of(hold_secs as f32 / 2.0) }
    }
}

/// The most that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// Over the time to hold.
    pub most: u32,
    /// Over half of it.
    pub lately: u32,
}

fn looked(look: &Look) -> (f32, f32, f32) {
    (0.0, (look.waiting + look.in_flight) as f32, look.in_flight as f32)
}

/// The share of what is remembered that is forgotten in so long.
pub(super) fn forgets(secs: f64, over: f64) -> f64 {
    1.0 - (-secs / over).exp()
}

/// A number with four digits, which is more than is known of it, and no more than the state needs to hold.
pub(super) fn short(number: f64) -> f32 {
    match number.abs() {
        size if (1e-9..1e30).contains(&size) => {
            let unit = 10_f64.powi(3 - size.log10().floor() as i32);
            ((number * unit).round() / unit) as f32
        }
        _ => 0.0,
    }
}
