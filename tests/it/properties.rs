//! What holds for every decision, tried on random ones. `tests/mutations/` shows each of them able to fail.

use jiff::SignedDuration;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::core::{
    Action, AdjustmentType, Alarm, Alert, AlertStep, Amount, Answer, Answered, Band, Bounds, Breaker, Combine,
    CombinePolicies, Computed, ConfirmZero, Course, Decision, Direction, DrainTime, Expression, Finite, Held, Intent,
    Level, Load, Loads, Memory, MetricType, Observation, OneByOne, Past, Pause, Pid, Policy, PriorityOverride, Reading,
    Rules, Run, Sample, ScaleToZero, Shortfall, State, Step, StepScaling, Streak, Target, Threshold, Unreadable, Zero,
    decide,
};
use tidegate::error::ErrorKind;

use crate::behavior::any_behavior;
use crate::support::{decide_at, noon, noon_plus, rules, seen, unreadable, waiting};

fn thresholds() -> impl Strategy<Value = Threshold> {
    (0.0..2000.0_f64, 0.0..1.0_f64, 0.0..2.0_f64).prop_map(|(out, part, tasks_per_message)| Threshold {
        scale_out_threshold: out,
        scale_in_threshold: out * part,
        tasks_per_message,
    })
}

fn any_alarm(is_out: bool) -> impl Strategy<Value = Alarm> {
    (0.0..2000.0_f64, 0.0..500.0_f64, 0..60_i32, 0..60_i32).prop_map(move |(threshold, width, near, far)| {
        let sign = if is_out { 1 } else { -1 };
        let bound = f64::from(sign) * width;
        let step = |lower_bound, upper_bound, tasks: i32| Step { lower_bound, upper_bound, adjustment: sign * tasks };
        let steps = match is_out {
            true => vec![step(Some(0.0), Some(bound + 1.0), near), step(Some(bound + 1.0), None, far)],
            false => vec![step(Some(bound - 1.0), Some(0.0), near), step(None, Some(bound - 1.0), far)],
        };
        Alarm { threshold, steps }
    })
}

fn any_steps() -> impl Strategy<Value = StepScaling> {
    let least = prop::option::of(1..20_u32);
    (any::<bool>(), least, any_alarm(true), any_alarm(false)).prop_map(|(is_percent, least, out, mut inward)| {
        inward.threshold = inward.threshold.min(out.threshold);
        let adjustment_type =
            if is_percent { AdjustmentType::PercentChangeInCapacity } else { AdjustmentType::ChangeInCapacity };
        StepScaling { adjustment_type, min_adjustment_magnitude: least, scale_out: Some(out), scale_in: Some(inward) }
    })
}

prop_compose! {
    fn any_streak()(
        high in 0.0..2000.0_f64,
        part in 0.0..1.0_f64,
        (samples_out, samples_in, increment) in (1..5_u32, 1..5_u32, 1..9_u32),
        average_of in prop::option::of(1..5_u32),
    ) -> Streak {
        Streak { high, low: high * part, samples_out, samples_in, average_of, increment }
    }
}

prop_compose! {
    fn any_pid()(
        target_load in 0..2000_u32,
        (k_p, k_d) in (0.0..2.0_f64, 0.0..2.0_f64),
        velocity_samples in 1..5_u32,
        max_delta in prop::option::of(1..50_u32),
        wait_until_settled in any::<bool>(),
    ) -> Pid {
        Pid { target_load, k_p, k_i: 0.0, k_d, velocity_samples, max_delta, wait_until_settled }
    }
}

fn any_target() -> impl Strategy<Value = Target> {
    (0.001..2000.0_f64, any::<bool>(), 0.0..=1.0_f64, 0.0..=1.0_f64).prop_map(|(target, is_value, out, inward)| {
        Target {
            target,
            metric_type: if is_value { MetricType::Value } else { MetricType::AverageValue },
            scale_out_tolerance: out,
            scale_in_tolerance: inward,
        }
    })
}

prop_compose! {
    fn any_promise()(
        (target_wait_secs, lead_secs, hold_secs) in (1..2_000_u32, 0..300_u32, 0..300_u32),
        service_secs in prop::option::of(0.001..100.0_f64),
        concurrency in prop::option::of(1..20_u32),
        headroom in 0.0..10.0_f64,
    ) -> DrainTime {
        DrainTime { target_wait_secs, service_secs, concurrency, lead_secs, headroom, hold_secs }
    }
}

/// Whether every policy answers one load always with one count; `drain_time` goes by what the load was before, too.
fn looks_at_now_alone(rules: &Rules) -> bool {
    !rules.policies.iter().any(|policy| matches!(policy, Policy::DrainTime(_)))
}

pub fn any_policy() -> impl Strategy<Value = Policy> {
    let band = Band { min: Some("least".to_owned()), max: Some("most".to_owned()), count: None };
    let alerts = (1..9_u32, 1..9_u32, any::<bool>(), prop::option::of(1..400_u64));
    let alerts = alerts.prop_map(|(by_out, by_in, refuse_outside, repeat_after_secs)| AlertStep {
        by_out,
        by_in,
        refuse_outside,
        repeat_after_secs,
    });
    let one_by_one = (0..2000_u32, any::<bool>());
    let one_by_one =
        one_by_one.prop_map(|(target_load, wait_until_settled)| OneByOne { target_load, wait_until_settled });
    prop_oneof![
        4 => thresholds().prop_map(Policy::Threshold),
        1 => any_steps().prop_map(Policy::Step),
        1 => any_target().prop_map(Policy::Target),
        1 => any_streak().prop_map(Policy::Streak),
        1 => any_pid().prop_map(Policy::Pid),
        1 => one_by_one.prop_map(Policy::OneByOne),
        1 => Just(Policy::Band(band)),
        1 => Just(Policy::Expression(Expression { desired: "least".to_owned() })),
        1 => alerts.prop_map(Policy::AlertStep),
        1 => any_promise().prop_map(Policy::DrainTime),
    ]
}

prop_compose! {
    pub fn any_rules()(
        policies in prop_oneof![
            3 => any_policy().prop_map(|policy| vec![policy]),
            1 => vec(any_policy(), 2..4),
        ],
        min in 0..50_u32,
        span in 0..500_u32,
        out_secs in 0..400_u64,
        in_secs in 0..400_u64,
        which in 0..3_usize,
        steps in 1..40_u32,
        fraction in 0.0..=1.0_f64,
        combined in any::<bool>(),
        without_state in any::<bool>(),
        (readings, zero_secs) in (1..4_u32, 0..100_u64),
        (per_task, drain_first) in (1..12_u32, prop::bool::weighted(0.2)),
        (wake_above, sleep_part) in (0.0..50.0_f64, 0.0..=1.0_f64),
        (stuck_secs, probe_secs) in (0..900_u64, 1..400_u64),
        first_in_secs in 0..200_u64,
        behavior in prop_oneof![3 => Just(Default::default()), 1 => any_behavior()],
        (wait_until_settled, how) in (prop::bool::weighted(0.1), 0..6_usize),
    ) -> Rules {
        // An alert counts in one tick alone, so that a least with it is refused.
        let least = how == 0 && !policies.iter().any(|policy| matches!(policy, Policy::AlertStep(_)));
        Rules {
            confirm_zero: ConfirmZero { readings, secs: zero_secs },
            in_flight_per_task: per_task,
            drain_first,
            scale_to_zero: ScaleToZero { wake_above, sleep_at: wake_above * sleep_part },
            breaker: Breaker { stuck_secs, probe_secs },
            first_scale_in_after_secs: first_in_secs,
            behavior,
            wait_until_settled,
            combine_policies: if least { CombinePolicies::Min } else { CombinePolicies::Max },
            scale_out_cooldown_secs: out_secs,
            scale_in_cooldown_secs: in_secs,
            priority_override: [PriorityOverride::Step, PriorityOverride::Always, PriorityOverride::Never][which],
            scaling_step_count: steps,
            min_remaining_fraction: fraction,
            load: if combined { Load::Combined } else { Load::Backlog },
            allow_scale_out_without_state: without_state,
            policies,
            ..rules(min, min + span)
        }
    }
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let kinds = prop::sample::select(vec![ErrorKind::Denied, ErrorKind::Timeout, ErrorKind::Malformed]);
    prop_oneof![
        // Near empty is where scale-in is at stake.
        4 => (0..100_u64).prop_map(|backlog| waiting("queue", backlog)),
        3 => (0..20_000_u64).prop_map(|backlog| waiting("queue", backlog)),
        1 => any::<u64>().prop_map(|backlog| waiting("queue", backlog)),
        1 => kinds.prop_map(|kind| unreadable("queue", kind)),
    ]
}

fn any_computed() -> impl Strategy<Value = Computed> {
    let why = Unreadable { kind: ErrorKind::Malformed, detail: "its result is NaN".to_owned() };
    let value = |value: f64| Computed::Value(Finite::try_from(value).expect("it is finite"));
    prop_oneof![
        9 => (0.0..600.0_f64).prop_map(value),
        1 => (0.0..f64::MAX).prop_map(value),
        1 => Just(Computed::Unreadable(why)),
    ]
}

fn any_alert() -> impl Strategy<Value = Alert> {
    ("[a-c]", any::<bool>(), prop::option::of(0..50_u32)).prop_map(|(id, is_out, by)| Alert {
        id,
        direction: if is_out { Direction::Out } else { Direction::In },
        by,
    })
}

fn any_memory() -> impl Strategy<Value = Memory> {
    let last = || (0.0..2000.0_f64).prop_map(|ago| noon_plus(-ago));
    let load = || prop_oneof![0.0..3000.0_f64, 0.0..1e15_f64];
    prop_oneof![
        (any::<bool>(), 0..6_u32, last()).prop_map(|(is_high, seen, last)| {
            Memory::Run(Run { level: if is_high { Level::High } else { Level::Low }, seen, last })
        }),
        (vec(load(), 0..80), last()).prop_map(|(loads, last)| Memory::Loads(Loads { loads, last })),
        (load(), vec(-3000.0..3000.0_f64, 0..80), 0..9_u32, last()).prop_map(|(load, velocities, ticks, last)| {
            Memory::Course(Course { load, velocities, ticks, has_crossed: true, sum: 0.0, last })
        }),
        ("[a-c]", last()).prop_map(|(alert, at)| Memory::Alerts(vec![Answered { alert, at }])),
    ]
}

prop_compose! {
    pub fn any_seen()(
        desired in 0..600_u32,
        samples in vec(any_sample(), 0..4),
        rolling_out in any::<bool>(),
        formulas in vec(any_computed(), 2),
        alert in prop::option::weighted(0.7, any_alert()),
    ) -> Observation {
        let mut seen = seen(desired, samples);
        seen.status.rolling_out = rolling_out;
        seen.policy_formulas = ["least", "most"].map(str::to_owned).into_iter().zip(formulas).collect();
        seen.alert = alert;
        seen
    }
}

prop_compose! {
    fn any_action()(ago in -100.0..2000.0_f64, from in 0..600_u32, to in 0..600_u32, less in 0..100_u32) -> Action {
        Action { at: noon_plus(-ago), from, to, base: from.saturating_sub(less), tick: None }
    }
}

prop_compose! {
    pub fn any_state()(
        since in -100.0..5000.0_f64,
        last_out in prop::option::of(any_action()),
        last_in in prop::option::of(any_action()),
        pending in prop::option::of(any_action()),
        count in prop::option::weighted(0.2, 0..600_u32),
        zero in prop::option::of((0.0..300.0_f64, 0..4_u32)),
        shortfall in prop::option::of((0.0..2000.0_f64, 0..600_u32, prop::option::of(0.0..2000.0_f64))),
        policies in prop::collection::btree_map("[0-2]/(queue|alert)", any_memory(), 0..3),
    ) -> State {
        let pending = pending.map(|Action { at, from, to, .. }| Intent { at, from, to });
        let zero = zero.map(|(ago, seen)| ("queue".to_owned(), Zero { since: noon_plus(-ago), seen, last: None }));
        let shortfall = shortfall.map(|(ago, running, probed)| Shortfall {
            since: noon_plus(-ago),
            running,
            probed: probed.map(|ago| noon_plus(-ago)),
        });
        let zeros = zero.into_iter().collect();
        State { last_out, last_in, pending, count, zeros, shortfall, policies, ..State::new(noon_plus(-since)) }
    }
}

pub fn any_past() -> impl Strategy<Value = Past> {
    let why = Unreadable { kind: ErrorKind::Denied, detail: "it could not be read".to_owned() };
    prop_oneof![
        1 => Just(Past::Absent),
        6 => any_state().prop_map(Past::Known),
        1 => prop::option::of(any_state()).prop_map(move |remembered| Past::Unreadable { why: why.clone(), remembered }),
    ]
}

/// What is seen once a decision was carried out.
pub fn carried_out(seen: &Observation, decision: &Decision) -> Observation {
    let mut after = seen.clone();
    after.status.desired = decision.desired;
    after
}

pub fn confirmed(mut state: State) -> State {
    state.confirm();
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_set_is_within_bounds(rules in any_rules(), seen in any_seen(), past in any_past()) {
        let (decision, _) = decide(&rules, &seen, &past, noon());
        let moved = decision.desired != decision.current;
        prop_assert!(!moved || (rules.bounds.min..=rules.bounds.max).contains(&decision.desired), "{decision:?}");
        prop_assert!(!decision.reasons.is_empty());
        let readable = !matches!(past, Past::Unreadable { .. });
        let inside = rules.bounds.clamp(decision.current) == decision.current;
        prop_assert!(moved || inside || !readable, "stayed outside the bounds: {decision:?}");
    }

    #[test]
    fn an_unreadable_source_never_scales_in(
        rules in any_rules(),
        mut seen in any_seen(),
        past in any_past(),
        at in any::<prop::sample::Index>(),
    ) {
        // A zero is believed at once here: were a gap taken for one, it must show.
        let rules = Rules { confirm_zero: ConfirmZero { readings: 1, secs: 0 }, ..rules };
        seen.samples.insert(at.index(seen.samples.len() + 1), unreadable("broken", ErrorKind::Denied));
        let (decision, _) = decide(&rules, &seen, &past, noon());
        // Above the upper bound the count moves to it, which needs no reading.
        prop_assert!(decision.current.min(rules.bounds.max) <= decision.desired, "{decision:?}");
    }

    #[test]
    fn without_a_readable_source_nothing_moves_within_bounds(rules in any_rules(), mut seen in any_seen(), past in any_past()) {
        seen.samples = vec![unreadable("broken", ErrorKind::Timeout)];
        // Formulas have no value then, and an alert is a reading of its own.
        (seen.policy_formulas, seen.alert) = (Default::default(), None);
        let (decision, _) = decide(&rules, &seen, &past, noon());
        let inside = rules.bounds.clamp(decision.current) == decision.current;
        prop_assert!(!inside || decision.desired == decision.current, "{decision:?}");
    }

    #[test]
    fn unreadable_state_never_scales_in(rules in any_rules(), seen in any_seen(), remembered in prop::option::of(any_state())) {
        let why = Unreadable { kind: ErrorKind::Denied, detail: "it could not be read".to_owned() };
        let (decision, _) = decide(&rules, &seen, &Past::Unreadable { why, remembered }, noon());
        prop_assert!(decision.current <= decision.desired, "{decision:?}");
        prop_assert!(rules.allow_scale_out_without_state || decision.current == decision.desired, "{decision:?}");
    }

    #[test]
    fn a_deployment_under_way_never_scales_in(rules in any_rules(), mut seen in any_seen(), past in any_past()) {
        seen.status.rolling_out = true;
        let (decision, _) = decide(&rules, &seen, &past, noon());
        prop_assert!(decision.current.min(rules.bounds.max) <= decision.desired, "{decision:?}");
    }

    #[test]
    fn more_load_never_means_fewer_tasks(
        rules in any_rules(),
        current in 0..600_u32,
        less in 0..20_000_u64,
        more in 0..20_000_u64,
        past in any_past(),
    ) {
        let Policy::Threshold(threshold) = &rules.policies[0] else { return Ok(()) };
        prop_assume!(threshold.scale_in_threshold * threshold.tasks_per_message <= f64::from(current));
        // A zero that is not believed yet holds the count.
        let rules = Rules { policies: vec![rules.policies[0].clone()], confirm_zero: ConfirmZero { readings: 1, secs: 0 }, ..rules.clone() };
        let desired = |backlog| decide(&rules, &seen(current, vec![waiting("queue", backlog)]), &past, noon()).0.desired;
        prop_assert!(desired(less.min(more)) <= desired(less.max(more)));
    }

    #[test]
    fn the_same_tick_again_changes_nothing(rules in any_rules(), seen in any_seen(), past in any_past()) {
        prop_assume!(rules.priority_override != PriorityOverride::Always);
        prop_assume!(!matches!(past, Past::Unreadable { .. }));
        let (first, state) = decide(&rules, &seen, &past, noon());
        // Announced and done, but not confirmed; and confirmed.
        for state in [state.clone(), confirmed(state)] {
            let (second, _) = decide(&rules, &carried_out(&seen, &first), &Past::Known(state), noon());
            prop_assert_eq!(first.desired, second.desired, "{:?} then {:?}", first, second);
        }
    }

    #[test]
    fn the_same_facts_within_the_cooldown_change_nothing(
        rules in any_rules(),
        seen in any_seen(),
        state in any_state(),
        later in 0.0..400.0_f64,
    ) {
        prop_assume!(rules.priority_override != PriorityOverride::Always && looks_at_now_alone(&rules));
        // Rates and windows answer one load in several changes.
        let rules = Rules { behavior: Default::default(), ..rules };
        let (first, state) = decide(&rules, &seen, &Past::Known(state), noon());
        let cooldown = match first.direction() {
            Some(_) => rules.scale_out_cooldown_secs.min(rules.scale_in_cooldown_secs),
            None => return Ok(()),
        };
        prop_assume!(later <= cooldown as f64);
        let now = noon() + SignedDuration::from_secs_f64(later);
        let (second, _) = decide_at(&rules, &carried_out(&seen, &first), &Past::Known(confirmed(state)), now);
        prop_assert_eq!(first.desired, second.desired, "{:?} then {:?}", first, second);
    }

    #[test]
    fn one_scale_in_step_per_cooldown(
        mut rules in any_rules(),
        seen in any_seen(),
        state in any_state(),
        ticks in vec((0.0..400.0_f64, any_sample()), 1..30),
    ) {
        // Bounds that never pull, so that every scale-in is a step.
        rules.bounds.max = u32::MAX;
        let (mut seen, mut past, mut last_in) = (seen, Past::Known(state), None::<f64>);
        let mut times: Vec<_> = ticks;
        times.sort_by(|one, other| one.0.total_cmp(&other.0));
        for (at, sample) in times {
            seen.samples = vec![sample];
            let (decision, state) = decide_at(&rules, &seen, &past, noon_plus(at));
            if decision.desired < decision.current {
                let quiet = last_in.is_none_or(|last| (rules.scale_in_cooldown_secs as f64) < at - last);
                prop_assert!(quiet, "a second step {:?} s after the first at {:?}", at, last_in);
                last_in = Some(at);
            }
            seen = carried_out(&seen, &decision);
            past = Past::Known(confirmed(state));
        }
    }

    #[test]
    fn an_unfinished_scale_out_is_finished_to_the_same_count(
        rules in any_rules(),
        current in 0..100_u32,
        backlog in 0..20_000_u64,
        later in 0.0..400.0_f64,
    ) {
        prop_assume!(later <= rules.scale_out_cooldown_secs as f64);
        let seen = seen(current, vec![waiting("queue", backlog)]);
        let past = Past::Known(State::new(noon_plus(-86_400.0)));
        let (first, announced) = decide(&rules, &seen, &past, noon());
        prop_assume!(current < first.desired);
        // The crash: announced, never set.
        let (again, _) = decide_at(&rules, &seen, &Past::Known(announced), noon_plus(later));
        prop_assert_eq!(first.desired, again.desired, "{:?} then {:?}", first, again);
    }

    #[test]
    fn an_unfinished_scale_in_waits_for_the_cooldown(
        rules in any_rules(),
        current in 0..300_u32,
        later in 0.0..400.0_f64,
    ) {
        let rules = Rules { confirm_zero: ConfirmZero { readings: 1, secs: 0 }, ..rules };
        prop_assume!(later <= rules.scale_in_cooldown_secs as f64);
        let seen = seen(current, vec![waiting("queue", 0)]);
        let past = Past::Known(State::new(noon_plus(-86_400.0)));
        let (first, announced) = decide(&rules, &seen, &past, noon());
        prop_assume!(first.desired < current && current <= rules.bounds.max);
        let (again, _) = decide_at(&rules, &seen, &Past::Known(announced), noon_plus(later));
        prop_assert_eq!(again.desired, current, "{:?} then {:?}", first, again);
    }

    #[test]
    fn no_number_stops_a_policy(
        rules in any_rules(),
        mut seen in any_seen(),
        past in any_past(),
        load in prop_oneof![0.0..f64::MAX, Just(f64::MAX), Just(f64::MIN_POSITIVE)],
        (desired, running) in (any::<u32>(), any::<u32>()),
        k_i in 0.0..1000.0_f64,
    ) {
        let mut rules = rules;
        for policy in &mut rules.policies {
            if let Policy::Pid(pid) = policy {
                pid.k_i = k_i;
            }
        }
        let amount = Amount::Gauge { value: Finite::try_from(load).expect("it is finite") };
        let answer = Answer::Reading(Reading { taken_at: noon(), amount });
        seen.samples.push(Sample { source: "queue".to_owned(), answer });
        (seen.status.desired, seen.status.running) = (desired, running);
        let (decision, state) = decide(&rules, &seen, &past, noon());
        let moved = decision.desired != decision.current;
        prop_assert!(!moved || (rules.bounds.min..=rules.bounds.max).contains(&decision.desired), "{decision:?}");
        // What JSON cannot hold comes back as something else.
        for written in [serde_json::to_value(&state), serde_json::to_value(&decision)] {
            let written = written.expect("it can be written");
            prop_assert!(!has_null(&written), "{written}");
        }
        let text = serde_json::to_string(&state).expect("it can be written");
        prop_assert!(serde_json::from_str::<State>(&text).is_ok());
    }

    #[test]
    fn more_load_never_means_fewer_tasks_by_target_or_one_by_one(
        rules in any_rules(),
        target in any_target(),
        length in 0..2000_u32,
        current in 1..600_u32,
        (less, more) in (0..20_000_u64, 0..20_000_u64),
        past in any_past(),
    ) {
        let one_by_one = OneByOne { target_load: length, wait_until_settled: true };
        for policy in [Policy::Target(target), Policy::OneByOne(one_by_one)] {
            let confirm_zero = ConfirmZero { readings: 1, secs: 0 };
            let rules = Rules { policies: vec![policy], confirm_zero, ..rules.clone() };
            let desired = |backlog| decide(&rules, &seen(current, vec![waiting("queue", backlog)]), &past, noon()).0.desired;
            prop_assert!(desired(less.min(more)) <= desired(less.max(more)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_load_leads_to_one_count(rules in any_rules(), mut seen in any_seen(), backlog in 0..3000_u64) {
        prop_assume!(looks_at_now_alone(&rules));
        // Small bounds, no cooldown, no window and no rate, so that every policy gets there; no alert, which asks again and again.
        let mut rules = Rules { scale_out_cooldown_secs: 0, scale_in_cooldown_secs: 0, first_scale_in_after_secs: 0, drain_first: false, behavior: Default::default(), ..rules };
        rules.bounds.max = rules.bounds.min + 30;
        (seen.samples, seen.alert, seen.status.rolling_out) = (vec![waiting("queue", backlog)], None, false);
        seen.status.running = seen.status.desired;
        let mut past = Past::Known(State::new(noon_plus(-86_400.0)));
        let mut counts = Vec::new();
        for tick in 0..250 {
            let (decision, state) = decide_at(&rules, &seen, &past, noon_plus(60.0 * f64::from(tick)));
            (seen.status.desired, seen.status.running) = (decision.desired, decision.desired);
            past = Past::Known(confirmed(state));
            counts.push(decision.desired);
        }
        prop_assert!(counts[230..].iter().all(|count| *count == counts[249]), "{:?}", counts);
    }
}

/// Policies that remember what they read.
fn any_remembering() -> impl Strategy<Value = Policy> {
    let with_integral = (any_pid(), prop_oneof![Just(0.0), 0.0..0.5_f64]).prop_map(|(pid, k_i)| Pid { k_i, ..pid });
    prop_oneof![any_streak().prop_map(Policy::Streak), with_integral.prop_map(Policy::Pid), any_policy()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_source_that_fails_brings_no_scale_in(
        rules in any_rules(),
        policies in vec(any_remembering(), 1..3),
        (combine, current) in (prop::sample::select(vec![Combine::Sum, Combine::Mean]), 1..30_u32),
        ticks in vec((0..1500_u64, 0..1500_u64, prop::option::of(0..3_usize)), 2..16),
    ) {
        // Nothing but the readings stands in the way of a scale-in, and nothing scales out.
        let confirm_zero = ConfirmZero { readings: 1, secs: 0 };
        let mut rules = Rules { policies, combine, confirm_zero, drain_first: false, min_remaining_fraction: 0.0, ..rules };
        rules.pause = Some(Pause::Hold(Held::Out));
        // A window is of the ticks that there are, and has tests of its own.
        rules.behavior = Default::default();
        (rules.bounds, rules.first_scale_in_after_secs) = (Bounds { min: 0, max: 100 }, 0);
        (rules.scale_out_cooldown_secs, rules.scale_in_cooldown_secs) = (0, 0);
        // The first tick that scales in, with the ticks that fail or without them.
        let first = |with_failures: bool| {
            let mut past = Past::Known(State::new(noon_plus(-86_400.0)));
            ticks.iter().enumerate().position(|(tick, &(one, other, fails))| {
                let mut samples = vec![waiting("a", one), waiting("b", other)];
                match fails {
                    Some(_) if !with_failures => return false,
                    Some(2) => samples = vec![unreadable("a", ErrorKind::Denied), unreadable("b", ErrorKind::Denied)],
                    Some(which) => samples[which] = unreadable(["a", "b"][which], ErrorKind::Timeout),
                    None => {}
                }
                let (decision, state) =
                    decide_at(&rules, &seen(current, samples), &past, noon_plus(60.0 * tick as f64));
                past = Past::Known(state);
                decision.desired < current
            })
        };
        if let Some(failing) = first(true) {
            prop_assert!(first(false).is_some_and(|without| without <= failing), "at {}, and without at {:?}", failing, first(false));
        }
    }
}

fn has_null(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => true,
        serde_json::Value::Array(list) => list.iter().any(has_null),
        serde_json::Value::Object(object) => object.values().any(has_null),
        _ => false,
    }
}
