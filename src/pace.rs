//! How many calls a target's interface takes, so that a tick asks for no more: what it would refuse, it does not announce.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::Identity;

/// What an interface takes at once, and each second from then on.
#[derive(Debug, Clone, Copy)]
struct Limit {
    burst: f64,
    per_sec: f64,
}

/// The limits of a provider, for each account and region, such as
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html>.
#[derive(Debug, Clone, Copy)]
struct Limits {
    provider: &'static str,
    /// Such as `UpdateService`, which deployments share.
    changes: Limit,
    /// Such as `DescribeServices`.
    reads: Limit,
    /// How many services one read asks for.
    services_per_read: usize,
}

const LIMITS: &[Limits] = &[
    Limits {
        provider: "ecs",
        changes: Limit { burst: 50.0, per_sec: 5.0 },
        reads: Limit { burst: 100.0, per_sec: 20.0 },
        services_per_read: 10,
    },
    // Fifteen a second for all of Lambda's control plane together, of which reads have two thirds:
    // <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html#api-requests>.
    Limits {
        provider: "lambda_concurrency",
        changes: Limit { burst: 5.0, per_sec: 5.0 },
        reads: Limit { burst: 10.0, per_sec: 10.0 },
        services_per_read: 1,
    },
];

/// A token bucket. It may be overdrawn, and is then the longer in filling.
#[derive(Debug)]
struct Bucket {
    limit: Limit,
    tokens: f64,
    at: Instant,
    /// What was taken since the last [`Pace::until_ready`].
    taken: f64,
}

impl Bucket {
    fn new(limit: Limit) -> Self {
        Self { limit, tokens: limit.burst, at: Instant::now(), taken: 0.0 }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * self.limit.per_sec).min(self.limit.burst);
        self.at = now;
    }

    fn take(&mut self, tokens: f64) {
        self.tokens -= tokens;
        self.taken += tokens;
    }
}

/// The token buckets of a process. What other processes of the account call, they do not know.
#[derive(Debug, Default)]
pub struct Pace {
    changes: Mutex<BTreeMap<String, Bucket>>,
    reads: Mutex<BTreeMap<String, Bucket>>,
}

impl Pace {
    /// Takes a token for a change of this service's count. Without one the change waits for the next tick.
    pub fn allows_change(&self, service: &Identity) -> bool {
        let Some(limits) = limits(service) else { return true };
        let mut buckets = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(place(service)).or_insert_with(|| Bucket::new(limits.changes));
        bucket.refill();
        let allows = 1.0 <= bucket.tokens;
        if allows {
            bucket.take(1.0);
        }
        allows
    }

    /// Notes that so many services were asked for. A tick reads what it needs; a loop then waits for [`Pace::until_ready`].
    pub fn note_read(&self, service: &Identity, services: usize) {
        let Some(limits) = limits(service) else { return };
        let mut buckets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(place(service)).or_insert_with(|| Bucket::new(limits.reads));
        bucket.refill();
        bucket.take(services.div_ceil(limits.services_per_read) as f64);
    }

    /// How long until another tick like the last one may read as much.
    pub fn until_ready(&self) -> Duration {
        let mut buckets = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |bucket: &mut Bucket| {
            bucket.refill();
            let needed = std::mem::take(&mut bucket.taken).min(bucket.limit.burst);
            Duration::from_secs_f64(((needed - bucket.tokens) / bucket.limit.per_sec).max(0.0))
        };
        buckets.values_mut().map(wait).max().unwrap_or_default()
    }
}

fn limits(service: &Identity) -> Option<&'static Limits> {
    LIMITS.iter().find(|limits| limits.provider == service.provider)
}

/// What shares a limit: an account's region.
fn place(service: &Identity) -> String {
    format!("{}:{}/{}", service.provider, service.region, service.account.as_deref().unwrap_or("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(provider: &'static str, region: &str, cluster: &str) -> Identity {
        let path = vec![cluster.to_owned(), "orders".to_owned()];
        Identity { provider, region: region.to_owned(), account: None, path }
    }

    fn changes(pace: &Pace, service: &Identity) -> usize {
        (0..1_000).take_while(|_| pace.allows_change(service)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_fifty_at_once_and_five_each_second() {
        let (pace, one) = (Pace::default(), service("ecs", "eu-west-1", "one"));
        assert_eq!(changes(&pace, &one), 50);
        assert_eq!(changes(&pace, &service("ecs", "eu-west-1", "other")), 0, "clusters share the account's limit");
        assert_eq!(changes(&pace, &service("ecs", "us-east-1", "one")), 50, "regions do not");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(changes(&pace, &one), 15);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(changes(&pace, &one), 50);
        assert_eq!(changes(&pace, &service("webhook", "eu-west-1", "one")), 1_000, "it has no limit that is known");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_waits_until_it_may_read_as_much_as_the_last() {
        let (pace, one) = (Pace::default(), service("ecs", "eu-west-1", "one"));
        assert_eq!(pace.until_ready(), Duration::ZERO);
        pace.note_read(&one, 500);
        assert_eq!(pace.until_ready(), Duration::ZERO, "50 of 100 are left for another 50");
        pace.note_read(&one, 1_000);
        assert_eq!(pace.until_ready(), Duration::from_millis(7_500), "50 overdrawn, 100 needed, 20 a second");
        tokio::time::advance(Duration::from_millis(7_500)).await;
        assert_eq!(pace.until_ready(), Duration::ZERO);
    }
}
