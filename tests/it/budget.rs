//! A fair share of a budget: floors, priorities, equality, and no second step.

use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::core::budget::{Claim, Wants, fair};

fn claim(priority: u32, min: u32, max: u32, wants: Wants) -> Claim {
    Claim { priority, requested: min, running: min, min, max, max_delta: u32::MAX, is_scalable: true, wants }
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

prop_compose! {
    fn any_claim()(
        priority in 1..4_u32,
        (min, span, max_delta) in (0..20_u32, 0..40_u32, 0..30_u32),
        (requested, running) in (0..60_u32, 0..60_u32),
        is_settled in prop::bool::weighted(0.7),
        is_scalable in prop::bool::weighted(0.8),
        wants in prop::option::weighted(0.8, 0..80_u32),
    ) -> Claim {
        let running = if is_settled { requested } else { running };
        let wants = wants.map_or(Wants::Remainder, Wants::Tasks);
        Claim { priority, requested, running, min, max: min + span, max_delta, is_scalable, wants }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_fair_share_is_within_bounds_and_budget_and_final(total in 0..200_u32, claims in vec(any_claim(), 0..8)) {
        let counts = fair(total, &claims);
        let least: u64 = claims.iter().map(|it| u64::from(if it.is_scalable { it.min } else { it.requested })).sum();
        let given: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        prop_assert!(given <= least.max(u64::from(total)), "{counts:?}");
        for (claim, &count) in claims.iter().zip(&counts) {
            let is_fixed = !claim.is_scalable && count == claim.requested;
            prop_assert!(is_fixed || (claim.min..=most(claim)).contains(&count), "{claim:?}: {count}");
        }
        // Nothing is left over that somebody wants.
        let is_short = claims.iter().zip(&counts).any(|(it, &count)| it.is_scalable && count < most(it));
        prop_assert!(!is_short || u64::from(total) <= given, "{counts:?}");
        // Of one kind and priority nobody has two more than another who wants more.
        for (one, &a) in claims.iter().zip(&counts) {
            for (other, &b) in claims.iter().zip(&counts) {
                let alike = (one.priority, one.wants == Wants::Remainder) == (other.priority, other.wants == Wants::Remainder);
                let is_short = one.is_scalable && other.is_scalable && a < most(one);
                prop_assert!(!(alike && is_short) || b <= (a + 1).max(other.min), "{counts:?}");
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
