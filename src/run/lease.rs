//! Which of several loops acts on a document's services. Single ticks neither take a lease nor look at one: an operator's own
//! tick works at once, and compare-and-swap keeps it from stepping twice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Tick;
use crate::stores::{Lease, Loaded};

/// A lease that runs longer than this from now was written by a clock that is wrong; loops write at most nine minutes.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);

/// On what terms a loop leases what it acts on.
#[derive(Debug, Clone)]
pub struct Term {
    /// The loop, unique to its process.
    pub holder: String,
    /// For how long at a time.
    pub lasts: Duration,
    /// Until when at most: shortly after the loop ends by itself.
    pub latest: Timestamp,
}

impl Term {
    /// The lease that keeps this loop on standby: another's that has not run out.
    pub fn on_standby(&self, lease: Option<&Lease>, now: Timestamp) -> Option<Lease> {
        let holds = |lease: &&Lease| {
            lease.holder != self.holder && now < lease.until && lease.until.duration_since(now) <= LONGEST
        };
        lease.filter(holds).cloned()
    }

    /// Whether to write a lease although there is nothing else to write: it is not this loop's, or half of it is over.
    pub fn is_due(&self, lease: Option<&Lease>, now: Timestamp) -> bool {
        match lease {
            Some(Lease { holder, until }) if *holder == self.holder => {
                until.duration_since(now) < signed(self.lasts / 2) && *until < self.lease(now).until
            }
            _ => true,
        }
    }

    /// The lease from now on.
    pub fn lease(&self, now: Timestamp) -> Lease {
        let until = now.saturating_add(signed(self.lasts)).unwrap_or(Timestamp::MAX);
        Lease { holder: self.holder.clone(), until: until.min(self.latest) }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

impl Tick<'_> {
    /// The lease that keeps this tick from a document's services, if it is a loop's.
    pub(super) fn on_standby(&self, loaded: &Loaded) -> Option<Lease> {
        self.term?.on_standby(loaded.lease.as_ref(), self.now)
    }

    /// What a save writes as the lease: the loop's own, or what was found.
    pub(super) fn lease_over(&self, found: &Loaded) -> Option<Lease> {
        self.term.map_or_else(|| found.lease.clone(), |term| Some(term.lease(self.now)))
    }

    /// Whether a document is to be written for its lease alone.
    pub(super) fn lease_is_due(&self, found: &Loaded) -> bool {
        self.term.is_some_and(|term| term.is_due(found.lease.as_ref(), self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().expect("a valid time")
    }

    fn after(secs: i64) -> Timestamp {
        now() + SignedDuration::from_secs(secs)
    }

    fn lease(holder: &str, secs: i64) -> Option<Lease> {
        Some(Lease { holder: holder.to_owned(), until: after(secs) })
    }

    fn term(latest: i64) -> Term {
        Term { holder: "me".to_owned(), lasts: Duration::from_secs(30), latest: after(latest) }
    }

    #[test]
    fn only_anothers_unexpired_lease_means_standby() {
        let term = term(900);
        for (found, expected) in [
            (None, false),
            (lease("me", 20), false),
            (lease("other", 20), true),
            (lease("other", 0), false),
            (lease("other", -1), false),
            (lease("other", 600), true),
            (lease("other", 601), false),
        ] {
            assert_eq!(term.on_standby(found.as_ref(), now()).is_some(), expected, "{found:?}");
        }
    }

    #[test]
    fn a_lease_is_renewed_when_half_of_it_is_over() {
        let term = term(900);
        for (found, due) in [
            (None, true),
            (lease("me", 30), false),
            (lease("me", 15), false),
            (lease("me", 14), true),
            (lease("me", -1), true),
            (lease("other", -1), true),
        ] {
            assert_eq!(term.is_due(found.as_ref(), now()), due, "{found:?}");
        }
    }

    #[test]
    fn a_lease_ends_with_its_loop_and_is_not_renewed_in_vain() {
        let term = term(12);
        assert_eq!(term.lease(now()).until, after(12));
        assert!(!term.is_due(lease("me", 12).as_ref(), now()));
        assert!(term.is_due(lease("me", 11).as_ref(), now()));
    }
}
