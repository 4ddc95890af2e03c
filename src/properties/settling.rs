//! What stays as it is leads to one count, which then stays.
//!
//! Of all policies but `drain_time`: the same reading again and again, with as many tasks running as are asked for, leads
//! to one count within the time that windows, rates, cooldowns and steps take; without alerts, which ask again each time. `drain_time` answers
//! what its own tasks do to the work, so that its reading cannot stay the same: there what arrives stays, and it is told how long a message takes.
//! Where it has to guess that, the count is as far from what is needed as the guess.

use super::{after, holds, noon};
use crate::any::{Numbers, PLAIN, observation, policy_of, rules};
use crate::core::{
    Amount, Answer, Bounds, Breaker, CombinePolicies, ConfirmZero, DrainTime, Observation, Past, Policy, QueueDepth,
    Reading, Rules, ScalingBehavior, State, decide,
};

/// How many ticks, a minute apart, it may take: for each of twelve tasks the longest window, and the longest cooldown or period; and an hour.
const SETTLES_IN: u32 = 12 * (11 + 11) + 60;

/// Everything that takes time takes little.
fn shorten(rules: &mut Rules) {
    rules.bounds.min = rules.bounds.min.min(2_000_000_000);
    rules.bounds.max = rules.bounds.max.min(rules.bounds.min + 12);
    rules.scale_out_cooldown_secs = rules.scale_out_cooldown_secs.min(600);
    rules.scale_in_cooldown_secs = rules.scale_in_cooldown_secs.min(600);
    rules.first_scale_in_after_secs = 0;
    rules.confirm_zero = ConfirmZero { readings: rules.confirm_zero.readings.min(3), secs: 60 };
    rules.breaker = Breaker { stuck_secs: 0, ..rules.breaker };
    rules.fallback = None;
    (rules.bounds_schedule, rules.bounds_by_time) = (Vec::new(), Default::default());
    let ScalingBehavior { scale_out, scale_in } = &mut rules.behavior;
    // A step at a time, each waits for a window of its own.
    for of_direction in [&mut *scale_out, &mut *scale_in] {
        of_direction.stabilization_window_secs = of_direction.stabilization_window_secs.min(600);
    }
    for rate in scale_out.policies.iter_mut().chain(&mut scale_in.policies) {
        rate.period_secs = rate.period_secs.min(600);
    }
    for policy in &mut rules.policies {
        if let Policy::Streak(streak) = policy {
            (streak.samples_out, streak.samples_in) = (streak.samples_out.min(5), streak.samples_in.min(5));
            streak.average_of = streak.average_of.map(|of| of.min(5));
        }
    }
}

fn look(seen: &mut Observation, at: jiff::Timestamp, count: u32) {
    (seen.status.desired, seen.status.running) = (count, count);
    for sample in &mut seen.samples {
        if let Answer::Reading(reading) = &mut sample.answer {
            reading.taken_at = at;
        }
    }
}

#[test]
fn the_same_again_and_again_leads_to_one_count() {
    holds("settling", 80, |input| {
        let start = noon();
        let (mut rules, mut seen) = (rules(input, start), observation(input, start));
        rules.policies.retain(|policy| !matches!(policy, Policy::DrainTime(_)));
        shorten(&mut rules);
        // Of policies that want the count that is there a sum or a mean does not come to an end, and is refused at load.
        let adds = matches!(rules.combine_policies, CombinePolicies::Sum | CombinePolicies::Mean);
        if adds && !rules.policies.iter().all(|policy| matches!(policy, Policy::Expression(_))) {
            rules.combine_policies = CombinePolicies::Max;
        }
        (seen.alert, seen.scheduled_for, seen.status.rolling_out) = (None, None, false);
        let (mut past, mut count) = (Past::Known(State::new(after(start, -86_400))), input.tasks());
        let mut counts = Vec::new();
        for tick in 0..SETTLES_IN + 40 {
            let now = after(start, 60 * i64::from(tick));
            look(&mut seen, now, count);
            let (decision, mut state) = decide(&rules, &seen, &past, now);
            state.confirm();
            (past, count) = (Past::Known(state), decision.desired);
            counts.push(count);
        }
        let (way, end) = counts.split_at(SETTLES_IN as usize);
        assert!(end.iter().all(|one| *one == end[0]), "{way:?} {end:?}\n{rules:?}\n{seen:?}");
    });
}

/// Tasks that work off what arrives evenly, each message in the same time.
struct Plant {
    arrivals: f64,
    service: f64,
    waiting: f64,
    running: u32,
    /// When tasks start that are asked for.
    coming: Vec<(u32, u32)>,
}

impl Plant {
    const TICK: u32 = 15;
    const START: u32 = 60;

    fn ask(&mut self, count: u32, now: u32) {
        let coming: u32 = self.coming.iter().map(|(_, tasks)| tasks).sum();
        match count.checked_sub(self.running + coming) {
            Some(more) => self.coming.push((now + Self::START, more)),
            None => {
                self.coming.clear();
                self.running = self.running.min(count);
                self.coming.push((now + Self::START, count - self.running));
            }
        }
    }

    fn run(&mut self, now: u32) {
        let arrived = |it: &(u32, u32)| it.0 <= now;
        self.running += self.coming.iter().filter(|it| arrived(it)).map(|(_, tasks)| tasks).sum::<u32>();
        self.coming.retain(|it| !arrived(it));
        let (secs, tasks) = (f64::from(Self::TICK), f64::from(self.running));
        self.waiting = (self.waiting + secs * (self.arrivals - tasks / self.service)).max(0.0);
    }

    fn depth(&self) -> QueueDepth {
        let (busy, slots) = (self.arrivals * self.service, f64::from(self.running));
        let in_flight = if 0.0 < self.waiting { slots } else { busy.min(slots) };
        let (backlog, in_flight) = (self.waiting.round() as u64, Some(in_flight.round() as u64));
        QueueDepth { backlog, in_flight, ..QueueDepth::default() }
    }
}

/// The counts of `drain_time` over some hours.
fn counts(drain: DrainTime, mut plant: Plant, first: u32, hours: u32) -> Vec<u32> {
    let rules =
        Rules { policies: vec![Policy::DrainTime(drain)], bounds: Bounds { min: 1, max: 5_000 }, ..PLAIN.clone() };
    let start = noon();
    let mut seen = observation(&mut Numbers(&[1]), start);
    let (mut past, mut count, mut counts) = (Past::Known(State::new(after(start, -86_400))), first, Vec::new());
    plant.running = first;
    for tick in 1..=hours * 240 {
        let secs = tick * Plant::TICK;
        plant.run(secs);
        let now = after(start, i64::from(secs));
        (seen.status.desired, seen.status.running) = (count, plant.running);
        let reading = Reading { taken_at: now, amount: Amount::Queue(plant.depth()) };
        seen.samples[0].answer = Answer::Reading(reading);
        let (decision, mut state) = decide(&rules, &seen, &past, now);
        state.confirm();
        (past, count) = (Past::Known(state), decision.desired);
        plant.ask(count, secs);
        counts.push(count);
    }
    counts
}

#[test]
fn drain_time_that_knows_a_messages_time_stays_near_what_steady_arrivals_need() {
    holds("drain_time settling", 5, |input| {
        let Policy::DrainTime(drain) = policy_of(&mut Numbers(&[]), "drain_time") else { return };
        let service = 0.5 + f64::from(input.byte()) / 8.0;
        let promise = 30 + 10 * u32::from(input.byte() % 60);
        let arrivals = (1.0 + input.count() as f64 % 4_000.0) / service / 10.0;
        let (target_wait_secs, service_secs) = (promise, Some(service));
        let drain = DrainTime { target_wait_secs, service_secs, lead_secs: 60, hold_secs: 60, headroom: 0.4, ..drain };
        let plant = Plant { arrivals, service, waiting: 0.0, running: 0, coming: Vec::new() };
        let needs = arrivals * service;
        let first = 1 + (needs * 2.0 * input.part()) as u32;
        let counts = counts(drain, plant, first, 6);
        let last = &counts[counts.len() - 240..];
        let (least, most) = (last.iter().min().copied().unwrap_or(0), last.iter().max().copied().unwrap_or(0));
        // Counts are whole numbers, so that part of a task may be missing now and then without anything waiting.
        let (floor, ceiling) = ((needs.floor() - 1.0).max(1.0), needs.ceil() + 4.0 + needs / 20.0);
        let is_near = floor <= f64::from(least) && f64::from(most) <= ceiling;
        assert!(is_near, "{least} to {most} of {needs:.1}, a message {service} s, promise {promise} s");
    });
}
