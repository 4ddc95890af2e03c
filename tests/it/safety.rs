//! The guards against what goes wrong, tried on random worlds. `tests/mutations/` shows each of them able to fail.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::core::{
    Amount, Answer, Behavior, Breaker, ConfirmZero, Fallback, Held, Observation, Past, Pause, Policy, PriorityOverride,
    Protected, QueueDepth, Reading, Reason, Rules, Sample, State, decide,
};
use tidegate::error::ErrorKind;

use crate::properties::{any_past, any_rules, any_seen, any_state, carried_out, confirmed};
use crate::support::{decide_at, noon, noon_plus, seen, unreadable, waiting};

/// A queue with messages waiting and in flight.
fn queue(backlog: u64, in_flight: u64) -> Sample {
    let depth = QueueDepth { backlog, in_flight: Some(in_flight), ..QueueDepth::default() };
    let answer = Answer::Reading(Reading { taken_at: noon(), amount: Amount::Queue(depth) });
    Sample { source: "queue".to_owned(), answer }
}

/// Rules whose fallback, if any, orders no scale-in.
fn any_rules_with_fallback() -> impl Strategy<Value = Rules> {
    let behavior = prop::sample::select(vec![Behavior::Hold, Behavior::AtLeast, Behavior::LastKnown]);
    let fallback = (1..4_u32, behavior, 0..600_u32, 1..900_u64)
        .prop_map(|(after, behavior, count, for_secs)| Fallback { after, behavior, count: Some(count), for_secs });
    (any_rules(), prop::option::of(fallback)).prop_map(|(rules, fallback)| Rules { fallback, ..rules })
}

/// One tick of a service's life: what waits, what is in flight, what is protected, and how long after the tick before.
fn any_tick() -> impl Strategy<Value = (f64, Sample, Option<u32>)> {
    let sample = prop_oneof![
        6 => (0..300_u64, 0..900_u64).prop_map(|(backlog, in_flight)| queue(backlog, in_flight)),
        2 => (0..900_u64).prop_map(|in_flight| queue(0, in_flight)),
        1 => Just(unreadable("queue", ErrorKind::Timeout)),
    ];
    (1.0..200.0_f64, sample, prop::option::of(0..400_u32))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn busy_or_protected_tasks_are_never_removed(
        rules in any_rules_with_fallback(),
        first in any_seen(),
        past in any_past(),
        schedule in vec(any_tick(), 1..20),
    ) {
        let (mut world, mut past, mut at) = (first, past, 0.0);
        for (after, sample, protected) in schedule {
            at += after;
            let in_flight = match &sample.answer {
                Answer::Reading(Reading { amount: Amount::Queue(depth), .. }) => depth.in_flight.expect("it is given"),
                _ => 0,
            };
            world.samples = vec![sample];
            world.protected = protected.map(Protected::Tasks);
            let (decision, state) = decide_at(&rules, &world, &past, noon_plus(at));
            let by_work = u32::try_from(in_flight.div_ceil(u64::from(rules.in_flight_per_task))).expect("few");
            let busy = by_work.max(protected.unwrap_or(0)).min(decision.current).min(rules.bounds.max);
            prop_assert!(busy <= decision.desired, "{busy} are busy: {decision:?}");
            world = carried_out(&world, &decision);
            past = Past::Known(confirmed(state));
        }
    }

    #[test]
    fn unreadable_protection_never_removes_a_task(rules in any_rules(), mut seen in any_seen(), past in any_past()) {
        let why = tidegate::core::Unreadable { kind: ErrorKind::Denied, detail: "it could not be read".to_owned() };
        seen.protected = Some(Protected::Unreadable(why));
        let (decision, _) = decide(&rules, &seen, &past, noon());
        prop_assert!(decision.current.min(rules.bounds.max) <= decision.desired, "{decision:?}");
    }

    #[test]
    fn one_zero_between_two_full_readings_removes_nothing(
        rules in any_rules(),
        current in 1..300_u32,
        backlog in 5_000..20_000_u64,
        state in any_state(),
        pause in 1.0..300.0_f64,
    ) {
        let rules = Rules { confirm_zero: ConfirmZero { readings: rules.confirm_zero.readings.max(2), secs: 0 }, ..rules };
        let (mut world, mut past) = (seen(current, Vec::new()), Past::Known(state));
        for (number, backlog) in [backlog, 0, backlog, 0, backlog].into_iter().enumerate() {
            world.samples = vec![waiting("queue", backlog)];
            let (decision, state) = decide_at(&rules, &world, &past, noon_plus(number as f64 * pause));
            if backlog == 0 {
                let floor = decision.current.min(rules.bounds.max);
                prop_assert!(floor <= decision.desired, "one zero was believed: {decision:?}");
            }
            world = carried_out(&world, &decision);
            past = Past::Known(confirmed(state));
        }
    }

    #[test]
    fn a_zero_is_believed_after_so_many_ticks_and_seconds_and_not_before(
        readings in 1..5_u32,
        secs in 0..200_u64,
        pace in 1..60_u64,
    ) {
        let rules = Rules {
            confirm_zero: ConfirmZero { readings, secs },
            scale_in_cooldown_secs: 0,
            ..crate::support::rules(1, 300)
        };
        let (world, mut past) = (seen(100, vec![waiting("queue", 0)]), crate::support::rested());
        for number in 0..400_u64 {
            let (decision, state) = decide_at(&rules, &world, &past, noon_plus((number * pace) as f64));
            let believed = u64::from(readings) <= number + 1 && secs <= number * pace;
            prop_assert_eq!(decision.desired < 100, believed, "tick {}: {:?}", number, decision);
            if believed {
                return Ok(());
            }
            past = Past::Known(confirmed(state));
        }
        prop_assert!(false, "never believed");
    }

    #[test]
    fn the_first_message_always_wakes_a_task(rules in any_rules(), state in any_state(), backlog in 0..200_u64) {
        let mut rules = Rules {
            bounds: tidegate::core::Bounds { min: 0, max: rules.bounds.max.max(1) },
            load: tidegate::core::Load::Backlog,
            ..rules
        };
        // No window and no rate stands in the way; a scale-out that is switched off does.
        rules.behavior.scale_out.select = Default::default();
        let state = State { pending: None, ..state };
        let (decision, _) = decide(&rules, &seen(0, vec![waiting("queue", backlog)]), &Past::Known(state), noon());
        let wakes = rules.scale_to_zero.wake_above < backlog as f64;
        prop_assert_eq!(0 < decision.desired, wakes, "{:?}", decision);
    }

    #[test]
    fn scale_to_zero_goes_by_way_of_one(rules in any_rules(), current in 2..300_u32) {
        // Nothing else stands in the way.
        let rules = Rules {
            bounds: tidegate::core::Bounds { min: 0, max: 500 },
            min_remaining_fraction: 0.0,
            confirm_zero: ConfirmZero { readings: 1, secs: 0 },
            behavior: Default::default(),
            ..rules
        };
        let mut world = seen(current, vec![queue(0, 0)]);
        let (first, state) = decide(&rules, &world, &crate::support::rested(), noon());
        prop_assert!(0 < first.desired, "{first:?}");
        if first.desired == 1 {
            world = carried_out(&world, &first);
            // A policy may wait until it has settled.
            world.status.running = first.desired;
            let later = noon_plus(86_400.0);
            let (second, _) = decide_at(&rules, &world, &Past::Known(confirmed(state)), later);
            prop_assert_eq!(second.desired, 0);
        }
    }

    #[test]
    fn tasks_that_do_not_arrive_are_not_asked_for_again_and_again(
        rules in any_rules(),
        stuck_secs in 60..900_u64,
        probe_secs in 60..600_u64,
        running in 0..100_u32,
        paces in vec(5.0..120.0_f64, 40..120),
    ) {
        // Quick messages need few tasks, so that drain_time may give up those that do not arrive and ask for others later.
        prop_assume!(!rules.policies.iter().any(|policy| matches!(policy, Policy::DrainTime(_))));
        let rules = Rules { breaker: Breaker { stuck_secs, probe_secs }, priority_override: PriorityOverride::Always, ..rules };
        let rules = Rules { bounds: tidegate::core::Bounds { min: 0, max: u32::MAX }, ..rules };
        let (mut world, mut past, mut at) = (seen(2 * running + 10, vec![waiting("queue", 100_000)]), crate::support::rested(), 0.0);
        world.status.running = running;
        let mut raises = Vec::new();
        for pace in paces {
            at += pace;
            let (decision, state) = decide_at(&rules, &world, &past, noon_plus(at));
            if decision.current < decision.desired {
                raises.push((at, decision.desired - decision.current));
            }
            world = carried_out(&world, &decision);
            past = Past::Known(confirmed(state));
        }
        // The first tick begins the shortfall; after `stuck_secs` there are probes alone, one task and `probe_secs` apart.
        let late: Vec<_> = raises.iter().filter(|(at, _)| (stuck_secs + 121) as f64 <= *at).collect();
        prop_assert!(late.iter().all(|(_, tasks)| *tasks == 1), "{raises:?}");
        prop_assert!(late.windows(2).all(|pair| probe_secs as f64 <= pair[1].0 - pair[0].0), "{raises:?}");
    }

    #[test]
    fn a_paused_direction_never_changes(rules in any_rules_with_fallback(), mut seen in any_seen(), past in any_past(), which in 0..3_usize, by_tag in any::<bool>()) {
        let held = [Held::In, Held::Out, Held::Both][which];
        let mut rules = rules;
        match by_tag {
            true => seen.status.pause = Some(Pause::Hold(held)),
            false => rules.pause = Some(Pause::Hold(held)),
        }
        let (decision, _) = decide(&rules, &seen, &past, noon());
        prop_assert!(held == Held::Out || decision.current <= decision.desired, "{decision:?}");
        prop_assert!(held == Held::In || decision.desired <= decision.current, "{decision:?}");
    }

    #[test]
    fn a_pause_at_a_count_keeps_it_within_bounds(mut rules in any_rules(), seen in any_seen(), state in any_state(), count in 0..1000_u32) {
        rules.pause = Some(Pause::At(count));
        let (decision, _) = decide(&rules, &seen, &Past::Known(state), noon());
        prop_assert_eq!(decision.desired, rules.bounds.clamp(count));
    }

    #[test]
    fn another_autoscalers_service_is_never_changed(rules in any_rules_with_fallback(), mut seen in any_seen(), past in any_past()) {
        seen.status.other_scaler = Some("Application Auto Scaling".to_owned());
        let (decision, _) = decide(&rules, &seen, &past, noon());
        prop_assert_eq!(decision.desired, decision.current);
        let said = decision.reasons.iter().any(|reason| matches!(reason, Reason::ManagedByAnother { .. }));
        prop_assert!(said, "{decision:?}");
    }

    #[test]
    fn somebody_elses_change_is_not_undone_within_the_cooldown(
        rules in any_rules(),
        mut world in any_seen(),
        mut state in any_state(),
        left in 0..600_u32,
        later in 0.0..400.0_f64,
    ) {
        prop_assume!(left < world.status.desired && world.status.desired <= rules.bounds.max);
        prop_assume!(later <= rules.scale_in_cooldown_secs as f64);
        state.pending = None;
        state.count = Some(left);
        let raised = world.status.desired;
        let (first, state) = decide(&rules, &world, &Past::Known(state), noon());
        prop_assert!(raised <= first.desired, "{first:?}");
        world = carried_out(&world, &first);
        let (second, _) = decide_at(&rules, &world, &Past::Known(confirmed(state)), noon_plus(later));
        prop_assert!(raised <= second.desired, "{first:?} then {second:?}");
    }

    #[test]
    fn a_scheduled_time_is_acted_on_once(
        rules in any_rules(),
        world in any_seen(),
        state in any_state(),
        later in 0.0..3600.0_f64,
        backlog in 0..20_000_u64,
    ) {
        let mut world = Observation { scheduled_for: Some(noon_plus(-1.0)), ..world };
        let (first, state) = decide(&rules, &world, &Past::Known(state), noon());
        prop_assume!(first.desired != first.current);
        world = carried_out(&world, &first);
        world.samples = vec![waiting("queue", backlog)];
        // The same tick again, late, on other facts.
        let (second, _) = decide_at(&rules, &world, &Past::Known(confirmed(state)), noon_plus(later));
        prop_assert_eq!(second.desired, first.desired, "{:?} then {:?}", first, second);
    }

    #[test]
    fn a_fallback_is_announced_once_and_cleared_once(
        rules in any_rules(),
        after in 1..5_u32,
        outages in vec((0..8_u32, 1..4_u32), 1..5),
        count in 0..300_u32,
    ) {
        let fallback = Fallback { after, behavior: Behavior::AtLeast, count: Some(count), for_secs: 600 };
        let rules = Rules { fallback: Some(fallback), ..rules };
        let (mut world, mut past, mut at) = (seen(50, Vec::new()), crate::support::rested(), 0.0);
        let (mut begun, mut cleared, mut expected) = (0, 0, 0);
        for (broken, sound) in outages {
            expected += u32::from(after <= broken);
            let samples = (0..broken).map(|_| unreadable("queue", ErrorKind::Timeout));
            for sample in samples.chain((0..sound).map(|_| waiting("queue", 100))) {
                at += 60.0;
                world.samples = vec![sample];
                let (decision, state) = decide_at(&rules, &world, &past, noon_plus(at));
                begun += count_of(&decision.reasons, |reason| matches!(reason, Reason::FallbackActivated { .. }));
                cleared += count_of(&decision.reasons, |reason| matches!(reason, Reason::FallbackCleared { .. }));
                world = carried_out(&world, &decision);
                past = Past::Known(confirmed(state));
            }
        }
        prop_assert_eq!((begun, cleared), (expected, expected));
    }

    #[test]
    fn what_is_remembered_can_be_read_back(rules in any_rules_with_fallback(), seen in any_seen(), past in any_past()) {
        let (_, state) = decide(&rules, &seen, &past, noon());
        let text = serde_json::to_string(&state).expect("a state serializes");
        prop_assert_eq!(serde_json::from_str::<State>(&text).expect("and is read"), state);
    }
}

#[test]
fn a_swinging_load_changes_the_count_a_bounded_number_of_times() {
    // Around the thresholds, which the defaults put one message apart, every ten seconds for an hour.
    let rules = crate::support::rules(1, 300);
    let (mut world, mut past, mut changes) = (seen(50, Vec::new()), crate::support::rested(), 0);
    for number in 0..360_u32 {
        let backlog = if number % 2 == 0 { 98 } else { 101 };
        world.samples = vec![waiting("queue", backlog)];
        let (decision, state) = decide_at(&rules, &world, &past, noon_plus(f64::from(number) * 10.0));
        changes += u32::from(decision.desired != decision.current);
        world = carried_out(&world, &decision);
        past = Past::Known(confirmed(state));
    }
    // At most one step out in a cooldown of 120 s, and one step in after the quiet that follows it.
    assert!(changes <= 2 * 3600 / 120, "{changes} changes in an hour");
}

fn count_of(reasons: &[Reason], is_it: impl Fn(&Reason) -> bool) -> u32 {
    u32::try_from(reasons.iter().filter(|reason| is_it(reason)).count()).expect("few")
}
