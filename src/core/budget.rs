//! How a budget of tasks is shared by services that want more than there is.
//!
//! [`microscaling`] is Microscaling Engine's allocation, number for number
//! (<https://github.com/microscaling/microscaling/blob/master/engine/localEngine/localEngine.go>): it takes tasks from lower
//! priorities first, gives to higher ones first, and needs several ticks where room has to be made. [`fair`] gives everybody the
//! least that they must have, then serves one priority after the other, equally within one, and needs one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service's part in a budget that several services of one configuration share. Each of them gives the budget's `name` and `total`,
/// most simply in `defaults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Which budget, where there are several.
    #[serde(default = "all")]
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// The most that its services may have together, in the unit of `weight`: tasks, where no weight is given; above 0. Every
    /// service has at least its lower bound all the same.
    #[schemars(extend("exclusiveMinimum" = 0.0), range(max = 1_000_000_000.0))]
    pub total: f64,
    /// What one task takes of it: 1 for a task, or its vCPU, memory or price in the unit of `total`; from 0.001, and in thousandths.
    #[serde(default = "one_unit")]
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    pub weight: f64,
    /// Who is served first: 1 before 2. Equals share equally.
    #[serde(default = "first")]
    #[schemars(range(min = 1, max = 1_000))]
    pub priority: u32,
    /// Whether the service takes what the others leave, up to its upper bound and whatever its own policies want.
    #[serde(default)]
    pub fill: bool,
    /// How the budget is shared: `fair` gives everybody the least, then serves one priority after the other, equally within one;
    /// `microscaling` as Microscaling Engine does, in tasks alone, in the order of the configuration within one priority.
    #[serde(default)]
    pub sharing: Sharing,
}

/// How a budget is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "explained at `Budget::sharing`; docs here would split the schema's list of values")]
pub enum Sharing {
    #[default]
    Fair,
    Microscaling,
}

fn all() -> String {
    "all".to_owned()
}

fn one_unit() -> f64 {
    1.0
}

fn first() -> u32 {
    1
}

/// An amount in the thousandths in which budgets are counted. Total: what is no number is nothing.
pub fn thousandths(amount: f64) -> u64 {
    (amount * 1e3).round() as u64
}

/// What one service claims of the budget. All counts in tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What one task takes of the budget, at least 1.
    pub weight: u64,
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

/// Shares `total` fairly, in the unit of the weights, and returns the counts in the order of the claims: everybody's least first,
/// even where that is more than the total, then what each priority wants, equally within it, and the remainder last in the same way.
/// Equal is what tasks take together. What cannot be shared equally goes to those that come first. Counts do not depend on what
/// runs, so that they are final at once.
pub fn fair(total: u64, claims: &[Claim]) -> Vec<u32> {
    let least = |claim: &Claim| if claim.is_scalable { claim.min } else { claim.requested };
    let mut counts: Vec<_> = claims.iter().map(least).collect();
    let given: u64 = claims.iter().zip(&counts).map(|(claim, &count)| claim.takes(count)).fold(0, u64::saturating_add);
    let mut free = total.saturating_sub(given);
    let mut order: Vec<_> = (0..claims.len()).filter(|&at| claims[at].is_scalable).collect();
    let rank = |at: usize| (claims[at].wants == Wants::Remainder, claims[at].priority);
    order.sort_by_key(|&at| rank(at));
    for equals in order.chunk_by(|&one, &other| rank(one) == rank(other)) {
        fill(equals, claims, &mut counts, &mut free);
    }
    counts
}

impl Claim {
    fn takes(&self, tasks: u32) -> u64 {
        self.weight.saturating_mul(u64::from(tasks))
    }

    fn most(&self) -> u32 {
        let wanted = match self.wants {
            Wants::Tasks(tasks) => tasks,
            Wants::Remainder => u32::MAX,
        };
        wanted.max(self.min).min(self.max)
    }

    /// How many tasks it has where nobody has tasks that take more than `level` together.
    fn at_level(&self, level: u64) -> u32 {
        u32::try_from(level / self.weight.max(1)).unwrap_or(u32::MAX).min(self.most())
    }
}

/// Raises those that have least to one level as far as what is free allows, none above its most, until no further task fits.
fn fill(equals: &[usize], claims: &[Claim], counts: &mut [u32], free: &mut u64) {
    let is_open = |at: usize, counts: &[u32], free: u64| counts[at] < claims[at].most() && claims[at].weight <= free;
    let has = |at: usize, counts: &[u32]| claims[at].takes(counts[at]);
    loop {
        let open: Vec<_> = equals.iter().copied().filter(|&at| is_open(at, counts, *free)).collect();
        let level = highest_level(&open, claims, counts, *free);
        for &at in &open {
            let raised = claims[at].at_level(level).max(counts[at]);
            *free -= claims[at].takes(raised - counts[at]);
            counts[at] = raised;
        }
        // Then a task each, of those alone that have least: what is above the level already waits until the others are there.
        let open: Vec<_> = open.into_iter().filter(|&at| is_open(at, counts, *free)).collect();
        let Some(lowest) = open.iter().map(|&at| has(at, counts)).min() else { return };
        for &at in &open {
            if is_open(at, counts, *free) && has(at, counts) <= lowest.max(level) {
                counts[at] += 1;
                *free -= claims[at].weight;
            }
        }
    }
}

/// The highest level that is affordable, by bisection.
fn highest_level(open: &[usize], claims: &[Claim], counts: &[u32], free: u64) -> u64 {
    let cost = |level: u64| {
        let of = |&at: &usize| claims[at].takes(claims[at].at_level(level).saturating_sub(counts[at]));
        open.iter().map(of).fold(0, u64::saturating_add)
    };
    let highest = open.iter().map(|&at| claims[at].takes(claims[at].most())).max().unwrap_or(0);
    let (mut level, mut too_high) = (0, highest.saturating_add(1));
    while 1 < too_high - level {
        let middle = level + (too_high - level) / 2;
        if cost(middle) <= free { level = middle } else { too_high = middle }
    }
    level
}
