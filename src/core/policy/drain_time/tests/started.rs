//! How many tasks are started: none that would find nothing to do.

use super::*;

#[test]
fn nothing_is_added_where_less_waits_than_is_done_in_the_age_of_the_counts() {
    let mut dice = Dice(1);
    let mut added = 0;
    for _ in 0..3_000 {
        let wait = dice.of(&[1, 20, 60, 3_600]);
        let policy = policy(&format!(r#"{{"target_wait_secs": {wait}, "service_secs": 5}}"#));
        let (secs, memory) = course(&mut dice, &policy);
        let tasks = dice.below(60) as u32;
        let in_flight = [None, Some(dice.below(1_000) as f64)];
        // Up to 15 s, and a quarter of the promise; a message takes 10 s at most, twice of what was said.
        let done = (f64::from(wait) / 4.0).clamp(1.0, 15.0) * f64::from(tasks) / 10.0;
        let waiting = dice.of(&[0.0, done, done + f64::from(tasks) * 15.0 / 10.0 + 1.0]);
        // Also where tasks are to stop that still run.
        let asked_for = tasks - dice.below(2).min(u64::from(tasks)) as u32;
        let seen = work(waiting, dice.of(&in_flight), at(secs + 15));
        let (proposal, _) = ask(&policy, seen, (tasks, asked_for), Some(memory));
        assert!(done < waiting || proposal.wants <= asked_for, "{seen:?} with {tasks}: {proposal:?}");
        added += u32::from(asked_for < proposal.wants);
    }
    assert!(100 < added, "{added} were answered where more waits");
}

#[test]
fn no_more_tasks_start_than_messages_wait_and_half_as_many_by_a_guess() {
    for (told, each) in [(r#", "service_secs": 15"#, 1), ("", 2)] {
        let mut dice = Dice(8);
        let mut many = 0;
        for _ in 0..3_000 {
            let concurrency = dice.of(&[1, 4]);
            let policy = policy(&format!(r#"{{"target_wait_secs": 60, "concurrency": {concurrency}{told}}}"#));
            let (secs, memory) = course(&mut dice, &policy);
            let (running, coming, waiting) = (dice.of(&[0, 1, 40]), dice.of(&[0, 3]), dice.below(200));
            let seen = work(waiting as f64, Some(3.0), at(secs + 15));
            let (proposal, _) = ask(&policy, seen, (running, running + coming), Some(memory));
            let start = proposal.wants.saturating_sub(running);
            let receive = waiting.div_ceil(each * concurrency) as u32;
            assert!(start <= receive.max(coming), "{waiting} wait, {running} run: {proposal:?}");
            many += u32::from(start == receive && coming < start);
            match proposal.because {
                Because::Drain { needs, most: Some(most), .. } => {
                    assert!(most < needs && proposal.wants <= most, "{proposal:?}");
                    let said = said(proposal);
                    assert!(said.contains(&format!("of which {most} would find work, which wants")), "{said}");
                }
                Because::Drain { needs, .. } => assert!(needs <= running + receive.max(coming), "{proposal:?}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(100 < many, "{many} came up to it");
    }
}
