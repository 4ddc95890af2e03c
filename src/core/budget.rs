//! How a budget of tasks is shared by services that want more than there is.
//!
//! [`microscaling`] is Microscaling Engine's allocation, number for number
//! (<https://github.com/microscaling/microscaling/blob/master/engine/localEngine/localEngine.go>): it takes tasks from lower
//! priorities first, gives to higher ones first, and needs several ticks where room has to be made. [`fair`] gives everybody the
//! least that they must have, then serves one priority after the other, equally within one, and needs one.

/// What one service claims of the budget. All counts in tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// 1 comes first.
    pub priority: u32,
    /// The desired count now.
    pub requested: u32,
    /// How many run.
    pub running: u32,
    /// The least that it must have.
    pub min: u32,
    /// The most that it may have; at least `min`.
    pub max: u32,
    /// The most tasks to add or remove at once.
    pub max_delta: u32,
    /// Whether the count may be changed at all.
    pub is_scalable: bool,
    /// What it wants.
    pub wants: Wants,
}

/// What a service wants of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// So many tasks.
    Tasks(u32),
    /// What nobody else wants.
    Remainder,
}

/// What [`microscaling`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// What was free before, which is below 0 where more is asked for than there is.
    pub available: i64,
    /// The counts, in the order of the claims.
    pub counts: Vec<u32>,
}

impl Claim {
    fn bounded(&self, delta: i64) -> i64 {
        let requested = i64::from(self.requested);
        (requested + delta).max(i64::from(self.min)).min(i64::from(self.max)) - requested
    }

    /// How far it is from what it wants; the remainder wants everything.
    fn distance(&self) -> i64 {
        match self.wants {
            Wants::Tasks(tasks) => i64::from(tasks) - i64::from(self.requested),
            Wants::Remainder => i64::from(u32::MAX),
        }
    }

    /// How many tasks to remove, at least 0.
    pub fn to_remove(&self) -> u32 {
        let delta = self.bounded(self.distance().min(0)).max(-i64::from(self.max_delta));
        u32::try_from(-delta).unwrap_or(0)
    }

    /// How many tasks to add, at least 0.
    pub fn to_add(&self) -> u32 {
        let delta = self.bounded(self.distance().max(0)).min(i64::from(self.max_delta));
        u32::try_from(delta).unwrap_or(0)
    }

    /// How many tasks could be taken from it.
    pub fn to_spare(&self) -> u32 {
        if self.is_scalable { self.requested.saturating_sub(self.min) } else { 0 }
    }

    fn is_settled(&self) -> bool {
        self.is_scalable && self.running == self.requested
    }
}

/// Shares `total` tasks as Microscaling Engine does. Claims of one priority are served in the order in which they are given.
pub fn microscaling(total: u32, claims: &[Claim]) -> Allocation {
    let mut counts: Vec<_> = claims.iter().map(|claim| claim.requested).collect();
    let mut order: Vec<_> = (0..claims.len()).collect();
    order.sort_by_key(|&at| claims[at].priority);
    let available = i64::from(total) - counts.iter().map(|&count| i64::from(count)).sum::<i64>();
    let mut free = available;
    for &at in order.iter().rev() {
        let claim = &claims[at];
        if claim.is_settled() && claim.requested != claim.min {
            counts[at] = claim.running - claim.to_remove().min(claim.running);
            free += i64::from(claim.to_remove());
        }
    }
    for (place, &at) in order.iter().enumerate() {
        let claim = &claims[at];
        let mut tasks = i64::from(claim.to_add());
        if !claim.is_settled() || tasks == 0 {
            continue;
        }
        if free < tasks {
            if claim.wants != Wants::Remainder {
                steal(tasks - free, claim.priority, &order[place + 1..], claims, &mut counts);
            }
            // Only what is free now: what is made free is there once those tasks have stopped.
            tasks = free.max(0);
        }
        if 0 < tasks {
            free -= tasks;
            let raised = claim.running.saturating_add(u32::try_from(tasks).unwrap_or(u32::MAX));
            counts[at] = if claim.max <= counts[at] { claim.max } else { raised };
        }
    }
    Allocation { available, counts }
}

/// Takes tasks from lower priorities, the lowest first.
fn steal(tasks: i64, priority: u32, order: &[usize], claims: &[Claim], counts: &mut [u32]) {
    let mut missing = tasks;
    for &at in order.iter().rev().filter(|&&at| priority < claims[at].priority) {
        let taken = i64::from(claims[at].to_spare()).min(missing).max(0);
        if 0 < taken {
            counts[at] = claims[at].running.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
            missing -= taken;
        }
    }
}

/// Shares `total` tasks fairly, and returns the counts in the order of the claims: everybody's least first, even where that is
/// more than the total, then what each priority wants, equally within it, and the remainder last in the same way. What cannot
/// be shared equally goes to those that come first. Counts do not depend on what runs, so that they are final at once.
pub fn fair(total: u32, claims: &[Claim]) -> Vec<u32> {
    let least = |claim: &Claim| if claim.is_scalable { claim.min } else { claim.requested };
    let mut counts: Vec<_> = claims.iter().map(least).collect();
    let given: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    let mut free = u64::from(total).saturating_sub(given);
    let mut order: Vec<_> = (0..claims.len()).filter(|&at| claims[at].is_scalable).collect();
    let rank = |at: usize| (claims[at].wants == Wants::Remainder, claims[at].priority);
    order.sort_by_key(|&at| rank(at));
    for equals in order.chunk_by(|&one, &other| rank(one) == rank(other)) {
        let most: Vec<_> = equals.iter().map(|&at| most(&claims[at])).collect();
        fill(equals, &most, &mut counts, &mut free);
    }
    counts
}

fn most(claim: &Claim) -> u32 {
    let wanted = match claim.wants {
        Wants::Tasks(tasks) => tasks,
        Wants::Remainder => u32::MAX,
    };
    wanted.max(claim.min).min(claim.max)
}

/// Raises the lowest counts to one level as far as what is free allows, none above its most.
fn fill(equals: &[usize], most: &[u32], counts: &mut [u32], free: &mut u64) {
    let cost = |level: u32, counts: &[u32]| -> u64 {
        let raised = equals.iter().zip(most).map(|(&at, &most)| most.min(level).saturating_sub(counts[at]));
        raised.map(u64::from).sum()
    };
    // The highest level that is affordable, by bisection.
    let (mut level, mut too_high) = (0_u32, most.iter().copied().max().unwrap_or(0).saturating_add(1));
    while 1 < too_high - level {
        let middle = level + (too_high - level) / 2;
        if cost(middle, counts) <= *free { level = middle } else { too_high = middle }
    }
    *free -= cost(level, counts);
    for (&at, &most) in equals.iter().zip(most) {
        counts[at] = counts[at].max(most.min(level));
    }
    for (&at, &most) in equals.iter().zip(most) {
        // What is above the level already is not raised further before the others are.
        if 0 < *free && counts[at] == level && level < most {
            counts[at] += 1;
            *free -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

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

        #[test]
        fn microscaling_never_adds_more_than_is_free(total in 0..200_u32, claims in vec(any_claim(), 0..8)) {
            let allocation = microscaling(total, &claims);
            let pairs = || claims.iter().zip(&allocation.counts);
            let added: i64 = pairs().map(|(it, &count)| i64::from(count.saturating_sub(it.requested.max(it.running)))).sum();
            let removed: i64 = pairs().map(|(it, &count)| i64::from(it.requested.saturating_sub(count))).sum();
            prop_assert!(added <= (allocation.available.max(0) + removed), "{allocation:?}");
        }
    }
}
