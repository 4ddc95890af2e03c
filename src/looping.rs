//! Ticks one after another: inside one invocation until its time is over, or as a daemon until it is told to end.

mod cadence;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::call::{Call, RESERVE, TIME_TO_ANNOUNCE};
use crate::config::{Config, Intervals};
use crate::handler::{Answer, Failed, Plan};
use crate::record::Record;
use crate::run::Term;
use cadence::{Cadence, Seen};

/// The most that one tick of a loop may take: several operations of the longest kind one after another.
pub(crate) const LONGEST_TICK: Duration = Duration::from_secs(30);

/// A lease lasts for three waits, so that a tick that fails does not lose it, and at least this long.
const SHORTEST_LEASE: Duration = Duration::from_secs(30);

/// How long after its deadline an invocation may still hold a lease: nothing of it is under way by then.
const LEASE_AFTER_DEADLINE: SignedDuration = SignedDuration::from_secs(5);

/// What is kept for the first tick, whose connections are not warm, before its start is put off.
const FIRST_TICK: Duration = Duration::from_secs(10);

/// How many different failures an invocation reports. The log has them all.
const MOST_FAILURES: usize = 20;

/// Waits. The one place that does: between ticks, never within one.
#[expect(clippy::disallowed_methods, reason = "a loop waits for its next tick")]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// When a loop ends by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    /// No tick is begun that may not end before.
    deadline: Option<Instant>,
    /// No lease is taken for longer.
    latest: Timestamp,
}

impl End {
    /// After this time.
    pub fn after(budget: Duration, now: Timestamp) -> Self {
        let latest = SignedDuration::try_from(budget).map(|budget| budget + LEASE_AFTER_DEADLINE);
        let latest = latest.ok().and_then(|budget| now.saturating_add(budget).ok());
        Self { deadline: Some(Instant::now() + budget), latest: latest.unwrap_or(Timestamp::MAX) }
    }

    /// Only when it is told to.
    pub fn never() -> Self {
        Self { deadline: None, latest: Timestamp::MAX }
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

/// Ticks one after another. `T` ticks once.
#[derive(Debug)]
pub(crate) struct Loop<T> {
    tick: T,
    name: String,
    holder: String,
    end: End,
    cadence: Cadence,
    began: Instant,
    longest: Duration,
    ticks: u32,
    failures: Failures,
}

impl<T: AsyncFn(Plan) -> Result<Answer, Failed>> Loop<T> {
    pub fn new(name: &str, holder: &str, intervals: Intervals, end: End, tick: T) -> Self {
        Self {
            tick,
            name: name.to_owned(),
            holder: holder.to_owned(),
            end,
            cadence: Cadence::new(intervals),
            began: Instant::now(),
            longest: Duration::ZERO,
            ticks: 0,
            failures: Failures::default(),
        }
    }

    /// How long to put off the first tick, so that loops that are started at the same second do not call at the same
    /// second. Always the same for the same services; nothing where little time is left.
    pub fn first_wait(&self, config: &Config) -> Duration {
        let spread = spread(config, self.cadence.interval());
        if spread + FIRST_TICK <= self.end.left() { spread } else { Duration::ZERO }
    }

    /// Ticks once.
    pub async fn tick(&mut self) -> Result<Answer, Failed> {
        self.began = Instant::now();
        self.ticks += 1;
        let call = self.call(LONGEST_TICK);
        let name = format!("{}#{}", self.name, self.ticks);
        let done = (self.tick)(Plan { name, call, scheduled_for: None, term: Some(self.term()), on_exit: None }).await;
        self.longest = self.longest.max(self.began.elapsed());
        self.cadence.note(Seen::of(&done));
        self.failures.note(&done);
        done
    }

    /// A call that may take so long, and ends before the loop has to.
    pub fn call(&self, most: Duration) -> Call {
        Call::within(self.end.left().min(most))
    }

    /// How long to wait for the next tick, at least until `ready`; none if it might not end before the deadline.
    pub fn next_wait(&self, ready: Duration) -> Option<Duration> {
        let wait = self.cadence.interval().saturating_sub(self.began.elapsed()).max(ready);
        let wait = wait + self.cadence.backoff(random());
        // Half as long again as the longest tick so far, and time to announce a change at its end.
        let reserve = self.longest + self.longest / 2 + TIME_TO_ANNOUNCE + RESERVE;
        (wait + reserve <= self.end.left()).then_some(wait)
    }

    /// On what terms the loop leases what it acts on.
    pub fn term(&self) -> Term {
        let lasts = (self.cadence.next_longest() * 3).max(SHORTEST_LEASE);
        Term { holder: self.holder.clone(), lasts, latest: self.end.latest }
    }

    /// The answer of the whole loop: the last tick's, and every failure of any tick.
    pub fn conclude(self, last: Result<Answer, Failed>) -> Result<Answer, Failed> {
        let answer = match last {
            Ok(answer) => Some(answer),
            Err(failed) => failed.answer.map(|answer| *answer),
        };
        let answer = answer.map(|answer| Answer { tick: self.name, ticks: self.ticks, ..answer });
        self.failures.conclude(self.ticks, answer)
    }
}

/// What happened to each service in a tick.
pub(crate) fn records(tick: &Result<Answer, Failed>) -> &[Record] {
    let answer = match tick {
        Ok(answer) => Some(answer),
        Err(failed) => failed.answer.as_deref(),
    };
    answer.map_or(&[], |answer| &answer.records)
}

/// The different failures of a loop, in the order in which they came up.
#[derive(Debug, Default)]
struct Failures {
    seen: Vec<(String, String)>,
    kinds: Vec<String>,
    more: usize,
}

impl Failures {
    fn note(&mut self, tick: &Result<Answer, Failed>) {
        let Err(failed) = tick else { return };
        if failed.answer.is_none() {
            tracing::error!(error = failed.message, "a tick failed before it looked at any service");
            self.add("configuration", &failed.error_type, &failed.message);
        }
        for record in records(tick) {
            for failure in &record.failures {
                self.add(&record.service, failure.kind.name(), &failure.message);
            }
        }
    }

    fn add(&mut self, service: &str, kind: &str, message: &str) {
        if !self.kinds.iter().any(|known| known == kind) {
            self.kinds.push(kind.to_owned());
        }
        let failure = (service.to_owned(), message.to_owned());
        match self.seen.contains(&failure) {
            true => {}
            false if self.seen.len() < MOST_FAILURES => self.seen.push(failure),
            false => self.more += 1,
        }
    }

    fn conclude(self, ticks: u32, answer: Option<Answer>) -> Result<Answer, Failed> {
        let error_type = match (&self.kinds[..], answer) {
            ([], Some(answer)) => return Ok(answer),
            ([], None) => return Err(Failed::bug("a loop without a tick")),
            ([kind], answer) => (kind.clone(), answer),
            (_, answer) => ("PartialFailure".to_owned(), answer),
        };
        let (error_type, answer) = error_type;
        let lines: Vec<_> = self.seen.iter().map(|(service, message)| format!("{service}: {message}")).collect();
        let more = if 0 < self.more { format!(" | and {} more in the log", self.more) } else { String::new() };
        let message = format!("in {ticks} ticks: {}{more}", lines.join(" | "));
        Err(Failed { error_type, message, is_config: false, answer: answer.map(Box::new) })
    }
}

/// A share of the interval that is always the same for the same services.
fn spread(config: &Config, interval: Duration) -> Duration {
    let identities = || config.services.iter().map(|service| service.identity.to_string()).collect::<Vec<_>>();
    let name = config.fleet.clone().unwrap_or_else(|| identities().join(" "));
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(fnv1a(name.as_bytes()) % millis)
}

/// FNV-1a of 64 bits, which is the same in every process: <https://www.rfc-editor.org/rfc/rfc9923.html>.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A random number from 0 to 1.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::record::{Failure, tests::a_record};

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn every(secs: u64) -> Intervals {
        Intervals { fastest: Duration::from_secs(secs), slowest: Duration::from_secs(secs) }
    }

    fn answer(plan: &Plan) -> Answer {
        Answer::of(plan.name.clone(), false, vec![a_record()])
    }

    /// Runs a loop whose ticks take so long, and returns when each began.
    async fn begins(budget: Duration, interval: u64, took: impl Fn(u32) -> Duration) -> Vec<f64> {
        let (start, begins) = (Instant::now(), Cell::new(Vec::new()));
        let tick = async |plan: Plan| {
            let mut so_far = begins.take();
            so_far.push(start.elapsed().as_secs_f64());
            let number = so_far.len() as u32;
            begins.set(so_far);
            pause(took(number)).await;
            Ok(answer(&plan))
        };
        let mut looped = Loop::new("a", "me", every(interval), End::after(budget, Timestamp::UNIX_EPOCH), tick);
        looped.tick().await.expect("it succeeds");
        while let Some(wait) = looped.next_wait(Duration::ZERO) {
            pause(wait).await;
            looped.tick().await.expect("it succeeds");
        }
        assert!(start.elapsed() < budget, "it ended after its deadline: {:?}", start.elapsed());
        begins.take()
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_ends_before_its_deadline() {
        assert_eq!(begins(secs(50), 10, |_| secs(1)).await, [0.0, 10.0, 20.0, 30.0, 40.0]);
        // The longest tick so far counts, wherever it was.
        let second_is_long = |number| if number == 2 { secs(5) } else { secs(1) };
        assert_eq!(begins(secs(50), 10, second_is_long).await, [0.0, 10.0, 20.0, 30.0]);
        // A tick that takes longer than the interval is followed by the next at once.
        assert_eq!(begins(secs(50), 10, |_| secs(14)).await, [0.0, 14.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_tick_always_runs() {
        assert_eq!(begins(Duration::from_millis(100), 10, |_| Duration::ZERO).await, [0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_may_take_its_share_and_no_more_than_is_left() {
        let left = Cell::new(Duration::ZERO);
        let tick = async |plan: Plan| {
            let asked = Instant::now();
            let nothing = std::future::pending::<crate::error::Result<()>>();
            plan.call.run("waiting", nothing).await.expect_err("it never answers");
            left.set(asked.elapsed());
            Ok(answer(&plan))
        };
        let mut looped = Loop::new("a", "me", every(1), End::after(secs(5), Timestamp::UNIX_EPOCH), tick);
        looped.tick().await.expect("it succeeds");
        assert_eq!(left.get(), secs(5) - RESERVE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_ends_soon_after_its_loop() {
        let tick = async |plan: Plan| Ok(answer(&plan));
        let looped = Loop::new("a", "me", every(10), End::after(secs(50), Timestamp::UNIX_EPOCH), tick);
        assert_eq!(looped.term().latest, Timestamp::from_second(55).expect("a valid time"));
        assert_eq!(looped.term().lasts, secs(30));
        let slow = Intervals { fastest: secs(60), slowest: secs(180) };
        let looped = Loop::new("a", "me", slow, End::never(), tick);
        assert_eq!((looped.term().lasts, looped.term().latest), (secs(360), Timestamp::MAX));
    }

    fn failed(plan: &Plan, message: String) -> Failed {
        let mut answer = answer(plan);
        answer.records[0].failures = vec![Failure { kind: ErrorKind::NotFound, message: message.clone() }];
        Failed { error_type: "NotFound".to_owned(), message, is_config: false, answer: Some(answer.into()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_of_any_tick_fails_the_invocation_at_its_end() {
        let ticks = Cell::new(0);
        let tick = async |plan: Plan| match ticks.replace(ticks.get() + 1) {
            1 | 2 => Err(failed(&plan, "no such queue".to_owned())),
            _ => Ok(answer(&plan)),
        };
        let mut looped = Loop::new("a", "me", every(1), End::never(), tick);
        for _ in 0..3 {
            let _ = looped.tick().await;
        }
        let last = looped.tick().await;
        let failed = looped.conclude(last).expect_err("two ticks failed");
        assert_eq!(
            (failed.error_type.as_str(), failed.message.as_str()),
            ("NotFound", "in 4 ticks: orders: no such queue")
        );
        let answer = failed.answer.expect("the last tick has one");
        assert_eq!((answer.tick.as_str(), answer.ticks, answer.records.len()), ("a", 4, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_configuration_that_becomes_wrong_fails_its_tick_and_the_loop_goes_on() {
        let ticks = Cell::new(0);
        let tick = async |plan: Plan| match ticks.replace(ticks.get() + 1) {
            1 => Err(Error::new(ErrorKind::Config, "", "MIN_TASKS is wrong").into()),
            _ => Ok(answer(&plan)),
        };
        let mut looped = Loop::new("a", "me", every(1), End::never(), tick);
        looped.tick().await.expect("it is right");
        looped.tick().await.expect_err("it is wrong");
        assert!(looped.next_wait(Duration::ZERO).is_some());
        let last = looped.tick().await;
        let failed = looped.conclude(last).expect_err("a tick failed");
        assert_eq!(failed.message, "in 3 ticks: configuration: MIN_TASKS is wrong");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_without_end_are_reported_in_a_few_lines() {
        let ticks = Cell::new(0);
        let tick = async |plan: Plan| Err(failed(&plan, format!("number {}", ticks.replace(ticks.get() + 1))));
        let mut looped = Loop::new("a", "me", every(1), End::never(), tick);
        for _ in 0..29 {
            let _ = looped.tick().await;
        }
        let last = looped.tick().await;
        let message = looped.conclude(last).expect_err("all failed").message;
        assert_eq!(message.matches("orders: number").count(), MOST_FAILURES, "{message}");
        assert!(message.ends_with("and 10 more in the log"), "{message}");
    }

    #[test]
    fn the_first_wait_is_the_same_in_every_process() {
        // Test vectors of the algorithm's authors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
