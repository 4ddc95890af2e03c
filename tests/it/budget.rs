//! A fair share of a budget: floors, priorities, equality, and no second step.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::core::budget::{Claim, Wants, fair};

fn claim(priority: u32, min: u32, max: u32, wants: Wants) -> Claim {
    Claim { weight: 1, priority, requested: min, running: min, min, max, max_delta: u32::MAX, is_scalable: true, wants }
}

#[test]
fn what_there_is_is_shared_equally_within_a_priority() {
    let tasks = |tasks| claim(1, 0, 100, Wants::Tasks(tasks));
    assert_eq!(fair(30, &[tasks(50), tasks(4), tasks(50)]), [13, 4, 13]);
    assert_eq!(fair(31, &[tasks(50), tasks(4), tasks(50)]), [14, 4, 13]);
    assert_eq!(fair(200, &[tasks(50), tasks(4), tasks(50)]), [50, 4, 50]);
}

#[test]
fn floors_come_first_then_priorities_then_the_remainder() {
    let high = claim(1, 1, 100, Wants::Tasks(8));
    let low = claim(2, 3, 100, Wants::Tasks(8));
    let rest = claim(1, 2, 10, Wants::Remainder);
    assert_eq!(fair(12, &[low.clone(), high.clone(), rest.clone()]), [3, 7, 2]);
    assert_eq!(fair(16, &[low.clone(), high.clone(), rest.clone()]), [6, 8, 2]);
    assert_eq!(fair(20, &[low.clone(), high.clone(), rest.clone()]), [8, 8, 4]);
    assert_eq!(fair(2, &[low, high, rest]), [3, 1, 2]);
}

#[test]
fn heavy_tasks_take_as_much_together_as_light_ones() {
    let heavy = |tasks| Claim { weight: 4, ..claim(1, 0, 100, Wants::Tasks(tasks)) };
    let light = |tasks| claim(1, 0, 100, Wants::Tasks(tasks));
    assert_eq!(fair(40, &[heavy(50), light(50)]), [5, 20]);
    // Where no heavy task fits any more, light ones take what is left.
    assert_eq!(fair(43, &[heavy(50), light(50)]), [5, 23]);
    assert_eq!(fair(43, &[light(10), heavy(50)]), [10, 8]);
    assert_eq!(fair(3, &[heavy(1), light(1)]), [0, 1]);
}

prop_compose! {
    fn any_claim()(
        weight in prop::sample::select(vec![1_u64, 1, 1, 2, 3, 7]),
        priority in 1..4_u32,
        (min, span, max_delta) in (0..20_u32, 0..40_u32, 0..30_u32),
        (requested, running) in (0..60_u32, 0..60_u32),
        is_settled in prop::bool::weighted(0.7),
        is_scalable in prop::bool::weighted(0.8),
        wants in prop::option::weighted(0.8, 0..80_u32),
    ) -> Claim {
        let running = if is_settled { requested } else { running };
        let wants = wants.map_or(Wants::Remainder, Wants::Tasks);
        Claim { weight, priority, requested, running, min, max: min + span, max_delta, is_scalable, wants }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fair_share_is_within_bounds_and_budget_and_final(total in 0..200_u64, claims in vec(any_claim(), 0..8)) {
        let counts = fair(total, &claims);
        let takes = |(it, &count): (&Claim, &u32)| it.weight * u64::from(count);
        let least: u64 = claims.iter().map(|it| it.weight * u64::from(if it.is_scalable { it.min } else { it.requested })).sum();
        let given: u64 = claims.iter().zip(&counts).map(takes).sum();
        prop_assert!(given <= least.max(total), "{counts:?}");
        for (claim, &count) in claims.iter().zip(&counts) {
            let is_fixed = !claim.is_scalable && count == claim.requested;
            prop_assert!(is_fixed || (claim.min..=most(claim)).contains(&count), "{claim:?}: {count}");
        }
        // Nothing is left over that somebody wants.
        let is_short = |it: &Claim, count: u32| it.is_scalable && count < most(it);
        let fits = claims.iter().zip(&counts).any(|(it, &count)| is_short(it, count) && given + it.weight <= total);
        prop_assert!(!fits, "{counts:?}");
        // Of one kind and priority nobody takes more by two tasks than another who wants more and could have it.
        for (one, &a) in claims.iter().zip(&counts) {
            for (other, &b) in claims.iter().zip(&counts) {
                let kind = |it: &Claim| (it.priority, it.wants == Wants::Remainder);
                let is_behind = kind(one) == kind(other) && is_short(one, a) && other.is_scalable && one.weight <= other.weight;
                let most_fair = (other.weight * (u64::from(other.min))).max(one.weight * u64::from(a) + one.weight + other.weight);
                prop_assert!(!is_behind || other.weight * u64::from(b) <= most_fair, "{counts:?}");
            }
        }
        let next: Vec<_> = claims.iter().zip(&counts).map(|(it, &count)| Claim { requested: count, running: count, ..it.clone() }).collect();
        prop_assert_eq!(fair(total, &next), counts);
    }
}

fn most(claim: &Claim) -> u32 {
    let wanted = match claim.wants {
        Wants::Tasks(tasks) => tasks,
        Wants::Remainder => u32::MAX,
    };
    wanted.max(claim.min).min(claim.max)
}
