//! What a tally of finished messages teaches that comes minutes after them.

use super::*;

fn tally(messages: f64, since: i64, until: i64) -> WorkTally {
    WorkTally { messages, since: at(since), until: at(until) }
}

/// A queue whose messages take five seconds, of which many arrive in some minutes and none in others, looked at by forty tasks.
struct Gusts {
    /// Seconds after `at(0)`, which is 20 s after the beginning of a minute.
    secs: i64,
    memory: Option<Memory>,
    policy: DrainTime,
}

impl Gusts {
    fn new() -> Self {
        Self { secs: 0, memory: None, policy: policy(r#"{"target_wait_secs": 60}"#) }
    }

    /// In flight at a time: thirty for two minutes of five.
    fn in_flight(secs: i64) -> f64 {
        if (secs + 20).rem_euclid(300) < 120 { 30.0 } else { 0.0 }
    }

    /// What was finished between two times.
    fn finished(since: i64, until: i64) -> f64 {
        (since..until).map(|secs| Self::in_flight(secs) / 5.0).sum()
    }

    /// The end of the newest minute that was over two minutes ago.
    fn until(&self) -> i64 {
        (self.secs - 120 + 20).div_euclid(60) * 60 - 20
    }

    /// Looks at it so often, with what is tallied.
    fn look(&mut self, every: i64, times: u32, tallied: impl Fn(&Self) -> Option<WorkTally>) {
        for _ in 0..times {
            self.secs += every;
            let seen = work(0.0, Some(Self::in_flight(self.secs)), at(self.secs));
            let seen = Work { tally: tallied(self), ..seen };
            let memory = ask(&self.policy, seen, (40, 40), self.memory.take()).1;
            let json = serde_json::to_string(&memory).expect("a memory");
            assert!(json.len() <= 520, "{} bytes: {json}", json.len());
            self.memory = Some(serde_json::from_str(&json).expect("what was written can be read"));
        }
    }

    fn service_secs(&self) -> f64 {
        estimate(self.memory.as_ref().expect("a memory")).service_secs()
    }

    fn learned_from(&self) -> Option<f64> {
        estimate(self.memory.as_ref().expect("a memory")).learned_from()
    }
}

/// Since the last beginning of an hour, as a source counts that asks for no more.
fn of_the_hour(gusts: &Gusts) -> Option<WorkTally> {
    let (since, until) = ((gusts.until() + 20).div_euclid(3_600) * 3_600 - 20, gusts.until());
    Some(tally(Gusts::finished(since, until), since, until))
}

#[test]
fn what_is_told_minutes_later_is_compared_with_what_was_in_flight_then() {
    for every in [10, 15, 60] {
        let mut gusts = Gusts::new();
        gusts.look(every, (7_200 / every) as u32, of_the_hour);
        let learned = gusts.service_secs();
        assert!((4.5..=5.7).contains(&learned), "{learned} s, looked at every {every} s");
        assert!(gusts.learned_from().is_some_and(|messages| 50.0 < messages));
    }
}

#[test]
fn a_tally_is_waited_for_and_begins_anew_after_a_quarter_of_an_hour() {
    let mut gusts = Gusts::new();
    gusts.look(15, 240, of_the_hour);
    let before = gusts.learned_from();
    // CloudWatch is silent for ten minutes: what was in flight is kept, and compared then.
    gusts.look(15, 40, |_| None);
    assert_eq!(gusts.learned_from(), before);
    gusts.look(15, 1, |gusts| Some(tally(Gusts::finished(-20, gusts.until()), -20, gusts.until())));
    let learned = gusts.service_secs();
    assert!(gusts.learned_from() != before && (4.5..=5.7).contains(&learned), "{learned} s");
    // For twenty: it is not known any more what was in flight when.
    let before = gusts.learned_from();
    gusts.look(15, 80, |_| None);
    gusts.look(15, 1, |gusts| Some(tally(Gusts::finished(-20, gusts.until()), -20, gusts.until())));
    assert_eq!(gusts.learned_from(), before);
}

#[test]
fn a_tally_that_is_not_that_of_before_and_some_minutes_more_teaches_nothing() {
    type Odd = fn(&Gusts) -> Option<WorkTally>;
    let odd: [(&str, Odd); 4] = [
        ("the same again", |_| of_the_hour(&Gusts { secs: 3_000, ..Gusts::new() })),
        ("counted anew", |gusts| Some(tally(9_000.0, gusts.until() - 59, gusts.until()))),
        ("fewer", |gusts| Some(tally(3.0, -20, gusts.until()))),
        ("of what is not over", |gusts| Some(tally(90_000.0, -20, gusts.secs + 60))),
    ];
    for (name, odd) in odd {
        let mut gusts = Gusts::new();
        gusts.look(15, 200, of_the_hour);
        assert_eq!(gusts.secs, 3_000);
        let (secs, messages) = (gusts.service_secs(), gusts.learned_from());
        gusts.look(15, 8, odd);
        assert_eq!((gusts.service_secs(), gusts.learned_from()), (secs, messages), "{name}");
    }
}

#[test]
fn a_counter_in_place_of_a_tally_is_counted_from_then_on() {
    let mut gusts = Gusts::new();
    gusts.look(15, 100, of_the_hour);
    let learned = gusts.learned_from();
    // Another source: ten in flight all the time, two seconds each, of which a counter goes on from another number.
    for look in 0..80_u32 {
        gusts.secs += 15;
        let completed = Some(f64::from(100 + 75 * look));
        let seen = Work { completed, ..work(0.0, Some(10.0), at(gusts.secs)) };
        gusts.memory = Some(ask(&gusts.policy, seen, (40, 40), gusts.memory.take()).1);
        let finished = estimate(gusts.memory.as_ref().expect("a memory")).finished.clone().expect("it is counted");
        assert_eq!((finished.count, finished.until, finished.minutes.len()), (completed, None, 0));
    }
    assert!((1.8..2.3).contains(&gusts.service_secs()), "{} s", gusts.service_secs());
    assert_ne!(gusts.learned_from(), learned);
    // And nothing more is kept of a tally that comes no more.
    let mut gusts = Gusts::new();
    gusts.look(15, 100, of_the_hour);
    gusts.look(15, 70, |_| None);
    let finished = estimate(gusts.memory.as_ref().expect("a memory")).finished.clone().expect("it was tallied");
    assert_eq!((finished.until, finished.minutes), (None, Vec::new()));
}

#[test]
fn any_tallies_give_a_count_and_a_memory_that_can_be_read() {
    let mut dice = Dice(9);
    let numbers = [0.0, 1.0, 700.0, 1e15, f64::MAX];
    let times = [Timestamp::MIN, at(0), at(40), at(100), at(3_000), Timestamp::MAX];
    for _ in 0..5_000 {
        let policy = sixty();
        let (mut secs, memory) = course(&mut dice, &policy);
        let mut memory = Some(memory);
        for _ in 0..20 {
            secs += dice.of(&[0, 1, 15, 60, 290, 400]);
            let (since, other, messages, look) = (dice.of(&times), dice.of(&times), dice.of(&numbers), dice.of(&times));
            let until = dice.of(&[at(secs), at(secs - 100), other]);
            let tally = dice.of(&[None, Some(WorkTally { messages, since, until })]);
            let time = dice.of(&[at(secs), at(secs), at(secs), look]);
            let (waiting, in_flight) = (dice.of(&numbers), dice.of(&numbers));
            let seen = Work { tally, ..work(waiting, Some(in_flight), time) };
            let tasks = dice.below(50) as u32;
            memory = Some(ask(&policy, seen, (tasks, tasks), memory).1);
            let estimate = estimate(memory.as_ref().expect("a memory"));
            assert!(estimate.is_sound() && estimate.service_secs() <= 80.0, "{estimate:?}");
        }
    }
}
