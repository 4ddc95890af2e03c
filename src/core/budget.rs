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

/// Takes tasks from lower priorities, the lowest first. As in the original, one that gave tasks already then counts anew, so that it
/// may end with more than it had left, and all together with more than there is until the next tick.
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
