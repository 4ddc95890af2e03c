//! Budgets that services share: what each may have is known once all are decided, and then those for which it is less are decided again.

use std::collections::BTreeMap;

use super::Tick;
use super::draft::{self, Draft};
use super::settle::Drafted;
use crate::core::budget::{Budget, Claim, Sharing, Wants, fair, microscaling, thousandths};
use crate::core::{Direction, Share};

/// Shares every budget among its services.
///
/// Shares do not depend on what runs. What one service gives up is another's once its tasks have stopped: until then a
/// scale-out gets no more than what is free.
pub(super) async fn share(tick: &Tick<'_>, groups: &mut [Drafted]) {
    let mut budgets: BTreeMap<String, Vec<&mut Draft>> = BTreeMap::new();
    let mut drafts: Vec<_> = groups.iter_mut().flat_map(Drafted::drafts).collect();
    drafts.sort_by_key(|draft| draft.member.position);
    for draft in drafts {
        if let Some(budget) = &draft.member.service.rules.budget {
            budgets.entry(budget.name.clone()).or_default().push(draft);
        }
    }
    for mut drafts in budgets.into_values() {
        keep_to_shares(tick, &mut drafts).await;
        keep_to_what_is_free(tick, &mut drafts);
    }
}

fn budget(draft: &Draft) -> &Budget {
    draft.member.service.rules.budget.as_ref().expect("services without a budget share none")
}

/// Decides again for those that are to have another count than they want, or more than before.
async fn keep_to_shares(tick: &Tick<'_>, drafts: &mut [&mut Draft]) {
    let claims: Vec<_> = drafts.iter().map(|draft| claim(draft)).collect();
    let Some(first) = drafts.first().map(|draft| budget(draft)) else { return };
    let counts = match first.sharing {
        Sharing::Fair => fair(thousandths(first.total), &claims),
        // In whole tasks, as the configuration has made sure.
        Sharing::Microscaling => microscaling(first.total as u32, &claims).counts,
    };
    let mut scaling_in = Vec::new();
    for (draft, tasks) in drafts.iter_mut().zip(counts) {
        let Some((_, desired)) = draft.counts() else { continue };
        let fill = budget(draft).fill;
        if tasks < desired || (fill && tasks != desired) {
            let was = draft.direction();
            draft.decide_again(tick, Share { tasks, fill });
            if draft.direction() == Some(Direction::In) && was != Some(Direction::In) {
                scaling_in.push(&mut **draft);
            }
        }
    }
    draft::spare_the_protected(tick, scaling_in).await;
}

/// What a service claims. One whose count is not known, or must not be lowered, keeps it.
fn claim(draft: &Draft) -> Claim {
    let (budget, bounds) = (budget(draft), draft.member.service.rules.bounds);
    let current = draft.known_count();
    let desired = draft.counts().map_or(current, |(_, desired)| desired);
    let wants = if budget.fill { Wants::Remainder } else { Wants::Tasks(desired) };
    let min = if draft.may_be_taken_from() { bounds.min } else { bounds.min.max(current) };
    Claim {
        weight: thousandths(budget.weight).max(1),
        priority: budget.priority,
        requested: current,
        running: draft.member.status.as_ref().map_or(current, |status| status.running),
        min,
        max: bounds.max.max(min),
        max_delta: u32::MAX,
        is_scalable: draft.counts().is_some(),
        wants,
    }
}

/// Limits scale-outs to what is free now, the first priority and then the most urgent first. Up to the lower bound nothing is limited.
fn keep_to_what_is_free(tick: &Tick<'_>, drafts: &mut [&mut Draft]) {
    let weight = |draft: &Draft| thousandths(budget(draft).weight).max(1);
    let taken = |draft: &&mut Draft| weight(draft).saturating_mul(u64::from(draft.occupied()));
    let Some(total) = drafts.first().map(|draft| thousandths(budget(draft).total)) else { return };
    let mut free = total.saturating_sub(drafts.iter().map(taken).fold(0, u64::saturating_add));
    let mut growing: Vec<_> = drafts.iter_mut().filter(|draft| draft.direction() == Some(Direction::Out)).collect();
    growing.sort_by(|one, other| {
        let rank = |draft: &Draft| (budget(draft).fill, budget(draft).priority);
        rank(one).cmp(&rank(other)).then(other.urgency().total_cmp(&one.urgency()))
    });
    for draft in growing {
        let Some((_, desired)) = draft.counts() else { continue };
        let room = u32::try_from(free / weight(draft)).unwrap_or(u32::MAX);
        let announced = draft.announced_count();
        let allowed = announced.saturating_add(room).max(draft.member.service.rules.bounds.min);
        if allowed < desired {
            let fill = budget(draft).fill;
            draft.decide_again(tick, Share { tasks: allowed, fill });
        }
        let granted = draft.counts().map_or(0, |(_, desired)| desired.saturating_sub(announced));
        free = free.saturating_sub(weight(draft).saturating_mul(u64::from(granted)));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::record::Record;
    use crate::run::Memory;
    use crate::run::toy::World;

    /// A world in which each message wants a task, with a budget for all.
    fn config(world: &World, total: f64, priorities: &[(&str, u32)]) -> Config {
        let mut config = world.config();
        for service in &mut config.services {
            let priority =
                priorities.iter().find(|(name, _)| *name == service.name).map_or(1, |(_, priority)| *priority);
            let policy = serde_json::json!({ "type": "target", "metric_type": "average_value", "target": 1 });
            service.rules.policies = vec![serde_json::from_value(policy).expect("valid")];
            service.rules.min_remaining_fraction = 0.0;
            (service.rules.scale_in_cooldown_secs, service.rules.scale_out_cooldown_secs) = (0, 0);
            let (name, sharing) = ("all".to_owned(), Sharing::Fair);
            service.rules.budget = Some(Budget { name, total, weight: 1.0, priority, fill: false, sharing });
        }
        config
    }

    fn wait(world: &World, backlogs: &[(&str, u64)]) {
        world.inner().backlogs.extend(backlogs.iter().map(|(name, backlog)| ((*name).to_owned(), *backlog)));
    }

    async fn tick(world: &Arc<World>, config: &Config) -> (BTreeMap<String, u32>, Vec<Record>) {
        tokio::time::advance(Duration::from_secs(15)).await;
        let records = world.tick_as(config, &Memory::default(), None).await;
        (world.inner().desired.clone(), records)
    }

    fn counts(desired: &BTreeMap<String, u32>) -> Vec<u32> {
        desired.values().copied().collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_all_want_is_shared_and_never_more() {
        let world = World::new("shared-budget", &[("a", 1), ("b", 1), ("c", 1)]);
        world.rest().await;
        let config = config(&world, 12.0, &[]);
        wait(&world, &[("a", 100), ("b", 2), ("c", 100)]);
        let (desired, records) = tick(&world, &config).await;
        assert_eq!(counts(&desired), [5, 2, 5]);
        let said = records[0].message();
        assert!(said.contains(r#"budget "all" leaves 5 tasks to the service, which wants 100"#), "{said}");
    }

    #[tokio::test(start_paused = true)]
    async fn microscaling_serves_one_after_the_other_and_takes_of_lower_priorities() {
        let as_microscaling = |mut config: Config| {
            let budgets = config.services.iter_mut().filter_map(|service| service.rules.budget.as_mut());
            budgets.for_each(|budget| budget.sharing = Sharing::Microscaling);
            config
        };
        let world = World::new("microscaling-budget", &[("a", 1), ("b", 1), ("c", 1)]);
        world.rest().await;
        wait(&world, &[("a", 100), ("b", 2), ("c", 100)]);
        let config_of_all = as_microscaling(config(&world, 12.0, &[]));
        // All that is free is the first one's, where a fair share would be 5, 2 and 5.
        assert_eq!(counts(&tick(&world, &config_of_all).await.0), [10, 1, 1]);
        assert_eq!(counts(&tick(&world, &config_of_all).await.0), [10, 1, 1]);
        let world = World::new("microscaling-priorities", &[("high", 2), ("low", 10)]);
        world.rest().await;
        wait(&world, &[("high", 9), ("low", 10)]);
        let config_of_both = as_microscaling(config(&world, 12.0, &[("low", 2)]));
        assert_eq!(counts(&tick(&world, &config_of_both).await.0), [2, 3]);
        assert_eq!(counts(&tick(&world, &config_of_both).await.0), [9, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_higher_priority_gets_what_a_lower_one_has_given_up_and_no_sooner() {
        let world = World::new("stolen-budget", &[("high", 2), ("low", 10)]);
        world.rest().await;
        let config = config(&world, 12.0, &[("low", 2)]);
        wait(&world, &[("high", 9), ("low", 10)]);
        let (desired, records) = tick(&world, &config).await;
        assert_eq!(counts(&desired), [2, 3]);
        assert!(records[0].message().contains("leaves 2 tasks"), "{}", records[0].message());
        let (desired, _) = tick(&world, &config).await;
        assert_eq!(counts(&desired), [9, 3]);
        let (desired, _) = tick(&world, &config).await;
        assert_eq!(counts(&desired), [9, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_invocation_has_announced_is_no_longer_free() {
        let world = World::new("announced-budget", &[("a", 1), ("b", 1)]);
        world.rest().await;
        let config = config(&world, 12.0, &[("b", 2)]);
        wait(&world, &[("a", 10)]);
        // Announced, and then the target lets nobody change anything.
        world.inner().locked = 100;
        assert_eq!(counts(&tick(&world, &config).await.0), [1, 1]);
        world.inner().locked = 0;
        wait(&world, &[("a", 1), ("b", 11)]);
        assert_eq!(counts(&tick(&world, &config).await.0), [1, 2]);
        assert_eq!(counts(&tick(&world, &config).await.0), [1, 11]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_taken_from_a_service_that_cannot_be_read() {
        let world = World::new("unread-budget", &[("high", 2), ("low", 10)]);
        world.rest().await;
        let config = config(&world, 12.0, &[("low", 2)]);
        wait(&world, &[("high", 9), ("low", 10)]);
        world.inner().unreadable.insert("low".to_owned());
        for _ in 0..3 {
            let (desired, records) = tick(&world, &config).await;
            assert_eq!(counts(&desired), [2, 10]);
            assert!(!records[1].message().contains("budget"), "{}", records[1].message());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_others_leave_is_filled_and_given_back() {
        let world = World::new("filled-budget", &[("filler", 1), ("work", 1)]);
        world.rest().await;
        let mut config = config(&world, 12.0, &[]);
        config.services[0].rules.budget.as_mut().expect("it has one").fill = true;
        wait(&world, &[("filler", 1), ("work", 3)]);
        assert_eq!(counts(&tick(&world, &config).await.0), [9, 3]);
        wait(&world, &[("work", 8)]);
        assert_eq!(counts(&tick(&world, &config).await.0), [4, 3]);
        assert_eq!(counts(&tick(&world, &config).await.0), [4, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_course_of_events_asks_for_more_than_the_budget() {
        let world = World::new("kept-budget", &[("a", 2), ("b", 2), ("c", 2), ("d", 2)]);
        world.rest().await;
        let mut config = config(&world, 20.0, &[("a", 1), ("b", 1), ("c", 2), ("d", 3)]);
        config.services[3].rules.budget.as_mut().expect("it has one").fill = true;
        // A course that is as good as random, and the same each time.
        let mut number = 7_u64;
        let mut next = |below: u64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) % below
        };
        for _ in 0..300 {
            for name in ["a", "b", "c", "d"] {
                wait(&world, &[(name, next(30))]);
                let is_unreadable = next(5) == 0;
                let mut inner = world.inner();
                match is_unreadable {
                    true => drop(inner.unreadable.insert(name.to_owned())),
                    false => drop(inner.unreadable.remove(name)),
                }
            }
            let (desired, _) = tick(&world, &config).await;
            assert!(desired.values().sum::<u32>() <= 20, "{desired:?}");
        }
    }
}
