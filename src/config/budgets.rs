//! Services that share a budget agree on what it is.

use super::Service;
use super::origin::{Problems, Tree};
use crate::core::budget::{Budget, Sharing};

/// Adds what services say about their budgets that cannot all be true.
pub(super) fn agree(services: &[(Option<Service>, Tree)], problems: &mut Problems) {
    let mut seen: Vec<(&Budget, &Tree)> = Vec::new();
    for (service, tree) in services {
        let Some(budget) = service.as_ref().and_then(|service| service.rules.budget.as_ref()) else { continue };
        if budget.sharing == Sharing::Microscaling {
            counts_tasks(budget, tree, problems);
        }
        let Some((first, given)) = seen.iter().find(|(first, _)| first.name == budget.name) else {
            seen.push((budget, tree));
            continue;
        };
        if first.total != budget.total {
            let (at, total) = (given.origin("/budget/total"), first.total);
            let problem = format!("is {}, and {total} for another service of the same budget ({at})", budget.total);
            problems.add(&tree.origin("/budget/total"), problem, "give it once, in defaults.budget");
        }
        if first.sharing != budget.sharing {
            let problem =
                format!("is not that of another service of the same budget ({})", given.origin("/budget/sharing"));
            problems.add(&tree.origin("/budget/sharing"), problem, "give it once, in defaults.budget");
        }
    }
}

/// Microscaling Engine knows no weights and no parts of tasks.
fn counts_tasks(budget: &Budget, tree: &Tree, problems: &mut Problems) {
    if budget.weight != 1.0 {
        let at = tree.origin("/budget/weight");
        problems.add(&at, format!("is {}, where tasks are shared", budget.weight), "remove it, or share fairly");
    }
    if budget.total.fract() != 0.0 {
        let at = tree.origin("/budget/total");
        problems.add(&at, format!("is {}, which is no number of tasks", budget.total), "give a whole number");
    }
}
