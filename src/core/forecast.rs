//! What demand comes back: a profile of each season, learned from the service's own history and believed only while it earns it.
//!
//! A forecast raises the least count before the demand comes, and does nothing else. It is scored at each slot of its season
//! against persistence (the demand stays what it is), by the mean error over about a season and by the root of the mean square: by the
//! latter a batch a day weighs more than the quiet minutes around it.
//! `docs/policies/forecast.md` has the formulas and what they were measured to do.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Raises the least count before demand that comes back with the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Forecast {
    /// `forecast_and_scale` raises the least count, `forecast_only` says in the record to what it would.
    pub mode: ForecastMode,
    /// How long before the demand the tasks are asked for, in seconds, 0 to 900: how long they take to start, and a tick.
    #[schemars(range(max = 900))]
    pub lead_secs: u32,
    /// After how many minutes demand may come back, each 5 to 10,080, at most 4 of them: a quarter of an hour, an hour and a day by default.
    #[schemars(length(min = 1, max = 4), extend("uniqueItems" = true), inner(range(min = 5, max = 10_080)))]
    pub periods_mins: Vec<u32>,
    /// By which part the mean error, or its root mean square, has to be below that of persistence before a forecast counts, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub min_skill: f64,
}

impl Default for Forecast {
    fn default() -> Self {
        Self {
            mode: ForecastMode::default(),
            lead_secs: 90,
            periods_mins: vec![15, 60, 1440],
            // Noise has a skill of up to 0.3, since persistence is wrong by the chance of two moments; an hour of bursts reached 0.5.
            min_skill: 0.5,
        }
    }
}

/// What a forecast does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Forecast::mode`; docs here would split the schema's list of values")]
pub enum ForecastMode {
    #[default]
    ForecastAndScale,
    ForecastOnly,
}

/// What a forecast has learned. Under 3 kB of JSON with the default periods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// When the demand was seen last.
    pub at: Timestamp,
    /// The messages that waited or were in flight then, where it is messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<f64>,
    /// Of this minute: how many seconds were seen, and how many task-seconds they asked for.
    pub minute: (f64, f64),
    /// Each period's profile.
    pub seasons: Vec<Season>,
}

/// The profile of one period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Season {
    /// The period, in minutes.
    pub period_mins: u32,
    /// The expected demand in tasks, slot by slot, at most 288; nothing where none was seen.
    pub tasks: Vec<Option<f64>>,
    /// Of this slot: how many minutes were seen, and the demand of the largest.
    pub slot: (u32, f64),
    /// The demand of the slots before, the newest last, as many as the lead is long.
    pub recent: Vec<Option<f64>>,
    /// How many slots were scored, counted up to the slots of a period.
    pub scored: u32,
    /// The mean error of the forecast, in tasks.
    pub error: f64,
    /// The mean error of persistence over the same slots, in tasks.
    pub persistence_error: f64,
    /// The root mean square errors of both, in tasks.
    #[serde(default)]
    pub rms_errors: (f64, f64),
    /// The means of the demand, each no further from the profile than a trend goes, and of the profile over the same slots, in tasks:
    /// their ratio is the trend.
    pub trend: (f64, f64),
}

/// What asks for tasks, as a tick sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Demand {
    /// Messages that wait or are in flight, how many task-seconds each takes, and how many tasks are busy with them.
    Work { messages: f64, task_secs: f64, busy: f64 },
    /// So many tasks.
    Tasks(f64),
}

/// What is expected, and how far that can be believed. Tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expected {
    pub period_mins: u32,
    pub tasks: f64,
    pub score: Score,
    pub is_trusted: bool,
}

/// How far a forecast was from what came, and persistence, in tasks, over about a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    pub error: f64,
    pub persistence_error: f64,
    pub is_rms: bool,
}

impl Score {
    /// By which part the error is below that of persistence; 0 where that has none.
    fn skill(self) -> f64 {
        match self.persistence_error {
            none if none <= 0.0 => 0.0,
            error => 1.0 - self.error / error,
        }
    }
}

/// What configurations are held to is held to here as well, so that a decision ends whatever the rules are.
const LONGEST_LEAD: u32 = 900;
const PERIODS: std::ops::RangeInclusive<u32> = 5..=10_080;
const MOST_PERIODS: usize = 4;
/// The most slots of a profile, so that the state stays small; a slot is a minute or longer.
const SLOTS: u32 = 288;
/// The longest time between two readings, in seconds, over which what was between them counts as seen.
const GAP: f64 = 150.0;
/// How many seconds of a minute have to be seen.
const SEEN: f64 = 30.0;
/// How far a trend goes: what is more is no trend, and comes with the next season anyway.
const TREND: (f64, f64) = (0.5, 2.0);
/// What is more counts as this, so that whatever is added stays finite.
const LARGEST: f64 = 1e9;

impl Forecast {
    /// How many slots the lead is long, at least one: what persistence knows is that old.
    fn slots_ahead(&self, slot_mins: u32) -> usize {
        self.lead_secs().div_ceil(60 * slot_mins).max(1) as usize
    }

    fn lead_secs(&self) -> u32 {
        self.lead_secs.min(LONGEST_LEAD)
    }
}

impl History {
    pub(super) fn begin(now: Timestamp) -> Self {
        Self { at: now, messages: None, minute: (0.0, 0.0), seasons: Vec::new() }
    }

    /// Has a profile for each period of the rules, and no other; numbers that somebody else put there are none.
    pub(super) fn fit(&mut self, rules: &Forecast) {
        let mut known = std::mem::take(&mut self.seasons);
        known.retain(Season::is_sound);
        let of_period = |period_mins: &u32| {
            let period_mins = (*period_mins).clamp(*PERIODS.start(), *PERIODS.end());
            let place = known.iter().position(|season| season.period_mins == period_mins);
            place.map_or_else(|| Season::new(period_mins), |place| known.swap_remove(place))
        };
        self.seasons = rules.periods_mins.iter().take(MOST_PERIODS).map(of_period).collect();
        let is_amount = |number: &f64| (-LARGEST * 1e4..=LARGEST * 1e4).contains(number);
        let (secs, work) = self.minute;
        self.minute = if is_amount(&secs) && is_amount(&work) { self.minute } else { (0.0, 0.0) };
        self.messages = self.messages.filter(|messages| messages.is_finite());
    }

    /// Takes in what is asked for now. What was not seen, because readings failed or were far apart, is not made up.
    pub(super) fn note(&mut self, demand: Demand, rules: &Forecast, now: Timestamp) {
        let secs = now.duration_since(self.at).as_secs_f64();
        if secs <= 0.0 {
            return self.meet_the_same_time(now);
        }
        let before = self.messages.take();
        let work = match demand {
            Demand::Tasks(tasks) => Some(tasks * secs),
            Demand::Work { messages, task_secs, busy } => {
                self.messages = Some(messages);
                // What arrived is what there is more of now, and what was done meanwhile.
                before.map(|before| (messages - before) * task_secs + busy * secs)
            }
        };
        if let Some(work) = work.filter(|work| secs <= GAP && work.is_finite()) {
            let (seen, sum) = self.minute;
            self.minute = (tenths(seen + secs), tenths(sum + work.clamp(-LARGEST, LARGEST)));
        }
        let (then, minute) = (minutes(self.at), minutes(now));
        self.at = now;
        if then != minute {
            self.end_minute((then, minute), rules);
        }
    }

    /// A time that was moved back to now belongs to another slot than what was seen; the same tick again brings nothing.
    fn meet_the_same_time(&mut self, now: Timestamp) {
        if self.at == now {
            self.minute = (0.0, 0.0);
            self.seasons.iter_mut().for_each(|season| season.slot = (0, 0.0));
        }
    }

    fn end_minute(&mut self, (ended, begun): (i64, i64), rules: &Forecast) {
        let (seen, work) = std::mem::take(&mut self.minute);
        let demand = (SEEN <= seen).then(|| tenths((work / seen).clamp(0.0, LARGEST)));
        for season in &mut self.seasons {
            if let Some(demand) = demand {
                season.slot = (season.slot.0.saturating_add(1), season.slot.1.max(demand));
            }
            let slots = begun.div_euclid(season.slot_mins()) - ended.div_euclid(season.slot_mins());
            if 0 < slots {
                season.end_slot(ended, slots, rules.slots_ahead(season.slot_mins() as u32));
            }
        }
    }

    /// What is expected from now until the end of the lead by the profile with the most skill, once one was scored for most of its period.
    pub(super) fn expected(&self, rules: &Forecast, now: Timestamp) -> Option<Expected> {
        let scored = self.seasons.iter().filter(|season| season.is_scored());
        let best = scored.max_by(|one, other| one.best_score().skill().total_cmp(&other.best_score().skill()))?;
        let until = now.saturating_add(SignedDuration::from_secs(i64::from(rules.lead_secs()))).unwrap_or(now);
        let slots = minutes(now).div_euclid(best.slot_mins())..=minutes(until).div_euclid(best.slot_mins());
        let tasks = slots.filter_map(|slot| best.tasks.get(best.place(slot * best.slot_mins())).copied().flatten());
        let score = best.best_score();
        Some(Expected {
            period_mins: best.period_mins,
            tasks: tenths(tasks.fold(0.0, f64::max) * best.trend()),
            score,
            is_trusted: rules.min_skill <= score.skill() && score.error < score.persistence_error,
        })
    }
}

impl Season {
    fn new(period_mins: u32) -> Self {
        let mut season = Self {
            period_mins,
            tasks: Vec::new(),
            slot: (0, 0.0),
            recent: Vec::new(),
            scored: 0,
            error: 0.0,
            persistence_error: 0.0,
            rms_errors: (0.0, 0.0),
            trend: (0.0, 0.0),
        };
        season.tasks = vec![None; season.slots()];
        season
    }

    fn is_sound(&self) -> bool {
        let fits = |number: f64| (0.0..=2.0 * LARGEST).contains(&number);
        let lists = self.tasks.iter().chain(&self.recent).flatten();
        PERIODS.contains(&self.period_mins)
            && self.tasks.len() == self.slots()
            && lists.copied().all(fits)
            && [self.slot.1, self.error, self.persistence_error, self.trend.0, self.trend.1].into_iter().all(fits)
            && <[f64; 2]>::from(self.rms_errors).into_iter().all(fits)
    }

    fn slot_mins(&self) -> i64 {
        i64::from(self.period_mins.div_ceil(SLOTS).max(1))
    }

    fn slots(&self) -> usize {
        self.period_mins.div_ceil(self.period_mins.div_ceil(SLOTS).max(1)) as usize
    }

    /// The slot of a minute since 1970.
    fn place(&self, minute: i64) -> usize {
        (minute.rem_euclid(i64::from(self.period_mins).max(1)) / self.slot_mins()) as usize
    }

    /// Scores what was expected, then learns what came. Of a slot half of the minutes have to be seen.
    fn end_slot(&mut self, ended: i64, slots: i64, ahead: usize) {
        let (seen, most) = std::mem::take(&mut self.slot);
        let demand = (self.slot_mins() <= 2 * i64::from(seen)).then_some(most);
        let persisted = self.recent.len().checked_sub(ahead).and_then(|place| self.recent[place]);
        let (place, trend) = (self.place(ended), self.trend());
        if let Some(demand) = demand {
            let known = self.tasks[place];
            if let (Some(profile), Some(persisted)) = (known, persisted) {
                self.score(demand, profile, (profile * trend, persisted));
            }
            self.tasks[place] = Some(known.map_or(demand, |known| tenths((known + demand) / 2.0)));
        }
        self.recent.push(demand);
        let unseen = usize::try_from(slots - 1).unwrap_or(usize::MAX).min(ahead);
        self.recent.extend(std::iter::repeat_n(None, unseen));
        self.recent.drain(..self.recent.len().saturating_sub(ahead));
    }

    fn score(&mut self, demand: f64, profile: f64, (forecast, persisted): (f64, f64)) {
        self.scored = self.scored.saturating_add(1).min(self.tasks.len() as u32);
        let weight = 1.0 / f64::from(self.scored);
        let towards = |mean: f64, number: f64| thousandths(mean + weight * (number - mean));
        let (error, persistence_error) = ((forecast - demand).abs(), (persisted - demand).abs());
        self.error = towards(self.error, error);
        self.persistence_error = towards(self.persistence_error, persistence_error);
        let towards_rms =
            |mean: f64, number: f64| thousandths((mean.powi(2) * (1.0 - weight) + number.powi(2) * weight).sqrt());
        self.rms_errors = (towards_rms(self.rms_errors.0, error), towards_rms(self.rms_errors.1, persistence_error));
        // A single burst is no trend.
        let usual = demand.clamp(TREND.0 * profile, TREND.1 * profile);
        self.trend = (towards(self.trend.0, usual), towards(self.trend.1, profile));
    }

    /// Whether four fifths of a period were scored: one that ends with the next demand is known before that.
    fn is_scored(&self) -> bool {
        4 * self.tasks.len() <= 5 * self.scored as usize
    }

    /// Its mean error or its root mean square, whichever has more skill.
    fn best_score(&self) -> Score {
        let (error, persistence_error) = self.rms_errors;
        let rms = Score { error, persistence_error, is_rms: true };
        let mean = Score { error: self.error, persistence_error: self.persistence_error, is_rms: false };
        if mean.skill() < rms.skill() { rms } else { mean }
    }

    /// By how much more was asked for lately than the profile says, which is of several periods.
    fn trend(&self) -> f64 {
        match self.trend {
            (demand, profile) if self.is_scored() && 0.0 < profile => (demand / profile).clamp(TREND.0, TREND.1),
            _ => 1.0,
        }
    }
}

fn minutes(at: Timestamp) -> i64 {
    at.as_second().div_euclid(60)
}

/// As much as is known of it, and no more than the state needs to hold.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests;
