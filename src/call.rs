//! The one place that limits how long an operation may take.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout};

use crate::error::{Error, ErrorKind, Result};

/// Kept free at the end of an invocation to answer and to write the record.
pub(crate) const RESERVE: Duration = Duration::from_millis(500);

/// Most that one operation may take, retries of the SDK included. Providers answer within a second; three attempts of
/// two seconds each (see `shared`) fit.
const LONGEST_OPERATION: Duration = Duration::from_secs(8);

/// Least that must be left to announce a change: the intent, another look, the change and its confirmation.
pub const TIME_TO_ANNOUNCE: Duration = Duration::from_secs(4);

/// Least that must be left to make an announced change, which is one attempt of at most two seconds (see `aws`).
pub const TIME_TO_ACT: Duration = Duration::from_secs(2);

/// How many operations are under way at once. A Lambda function has 1,024 file descriptors.
const AT_ONCE: usize = 64;

/// Runs operations side by side, and returns their results in the order given.
pub async fn together<T>(operations: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures_util::stream::iter(operations).buffered(AT_ONCE).collect().await
}

/// What is left of an invocation's time.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    deadline: Instant,
}

impl Call {
    /// An invocation that may take this long from now on.
    pub fn within(budget: Duration) -> Self {
        Self { deadline: Instant::now() + budget.saturating_sub(RESERVE) }
    }

    /// Runs an operation within its share of what is left. It is dropped when the time is over, and a panic in it is
    /// an error, so that one broken adapter fails its own service alone.
    ///
    /// # Errors
    /// The operation's own, [`ErrorKind::Timeout`] or [`ErrorKind::Bug`].
    pub async fn run<T>(&self, during: &str, operation: impl Future<Output = Result<T>>) -> Result<T> {
        let share = self.left().min(LONGEST_OPERATION);
        match timeout(share, AssertUnwindSafe(operation).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => {
                Err(Error::new(ErrorKind::Bug, during.to_owned(), "it panicked; standard error has the place"))
            }
            Err(_) => {
                let cause = format!("no answer within {} ms", share.as_millis());
                Err(Error::new(ErrorKind::Timeout, during.to_owned(), cause))
            }
        }
    }

    /// Refuses to begin what could not be finished.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if less is left than that takes.
    pub fn has_time(&self, takes: Duration) -> Result<()> {
        match self.left() < takes {
            true => {
                let cause = format!(
                    "only {} ms of the invocation are left; the next tick decides anew",
                    self.left().as_millis()
                );
                Err(Error::new(ErrorKind::Timeout, "changing the desired count", cause))
            }
            false => Ok(()),
        }
    }

    /// Waits before something is tried again, unless there is no time left for it.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] at once if less is left afterwards than acting takes.
    #[expect(clippy::disallowed_methods, reason = "a target that is locked is tried again, and nothing else is")]
    pub async fn pause(&self, length: Duration) -> Result<()> {
        self.has_time(length + TIME_TO_ACT)?;
        tokio::time::sleep(length).await;
        Ok(())
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operation_ends_with_the_deadline() {
        let call = Call::within(Duration::from_secs(2));
        let error = call.run("reading", std::future::pending::<Result<()>>()).await.expect_err("it never answers");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.to_string(), "reading: no answer within 1500 ms");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_not_the_end() {
        let panics = async { panic!("expected in this test") };
        let error = Call::within(Duration::from_secs(5)).run::<()>("reading", panics).await.expect_err("it panics");
        assert_eq!(error.kind(), ErrorKind::Bug);
    }

    #[tokio::test(start_paused = true)]
    async fn no_change_is_begun_near_the_deadline() {
        assert!(Call::within(Duration::from_secs(5)).has_time(TIME_TO_ANNOUNCE).is_ok());
        assert!(Call::within(Duration::from_secs(4)).has_time(TIME_TO_ANNOUNCE).is_err());
    }
}
