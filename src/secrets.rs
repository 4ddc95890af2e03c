//! Secrets from where they live, each kept for five minutes and asked for anew when a provider refuses it.

mod places;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::{Reference, Secret};
use crate::error::{Error, ErrorKind, Result};

pub use places::permissions;
pub(crate) use places::{Places, parameter_arn};

/// How long a secret is kept, as by AWS's own extension for functions
/// (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/retrieving-secrets_lambda.html>). A rotation is noticed
/// before that by its refusal.
const KEPT: Duration = Duration::from_secs(300);

/// Fetches a secret from where it lives, each time anew.
#[async_trait]
pub(crate) trait Fetch: Send + Sync {
    async fn fetch(&self, reference: &Reference) -> Result<Secret<String>>;
}

/// The secrets of the process. Cloning shares them.
#[derive(Clone)]
pub struct Secrets(Arc<Kept>);

struct Kept {
    places: Box<dyn Fetch>,
    slots: Mutex<HashMap<Reference, Arc<Slot>>>,
}

/// One secret. Whoever holds `latest` asks for it, and the others wait for the answer.
#[derive(Default)]
struct Slot {
    asked: AtomicU64,
    latest: tokio::sync::Mutex<Option<Answer>>,
}

struct Answer {
    /// Which question of this slot brought it, counted from 1.
    number: u64,
    at: Instant,
    found: Result<Secret<String>, (ErrorKind, String)>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

impl Secrets {
    pub(crate) fn new(places: impl Fetch + 'static) -> Self {
        Self(Arc::new(Kept { places: Box::new(places), slots: Mutex::default() }))
    }

    /// Returns the secret, at most five minutes old. Whoever asks at the same time shares one question and its answer.
    ///
    /// # Errors
    /// `Config` for a variable or file that is not there, `NotFound` for a secret, `Denied` with the action that is missing,
    /// or what else fails on the way. No text has the secret in it.
    pub async fn get(&self, reference: &Reference) -> Result<Secret<String>> {
        Ok(self.look(reference, None).await?.0)
    }

    /// Drops what is kept of a secret, so that it is asked for anew.
    pub fn forget(&self, reference: &Reference) {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(reference);
    }

    /// Runs what needs a secret. Where the provider refuses the secret (`Denied`) it may have been rotated: it is asked for
    /// anew, and if it is another one, that is tried as well. A provider thus sees at most two logins.
    ///
    /// The stage `AWSPREVIOUS` is not tried unless the reference names it: a login that works only with the previous secret
    /// is a rotation that failed, which would stay unseen until the next one, and each wrong login counts towards a lock.
    ///
    /// # Errors
    /// Those of [`Secrets::get`] and of `run`.
    pub async fn with<T, Running>(&self, reference: &Reference, run: impl Fn(Secret<String>) -> Running) -> Result<T>
    where
        Running: Future<Output = Result<T>>,
    {
        let (secret, number) = self.look(reference, None).await?;
        let refused = match run(secret.clone()).await {
            Err(error) if error.kind() == ErrorKind::Denied => error,
            result => return result,
        };
        match self.look(reference, Some(number)).await {
            Ok((fresh, _)) if fresh == secret => Err(refused),
            Ok((fresh, _)) => run(fresh).await,
            Err(error) => Err(Error::new(error.kind(), "", format!("{refused}; then {error}"))),
        }
    }

    /// The secret and the number of the question that brought it, which is above `refused` where that is given.
    async fn look(&self, reference: &Reference, refused: Option<u64>) -> Result<(Secret<String>, u64)> {
        if let Reference::Text(secret) = reference {
            return Ok((secret.clone(), 0));
        }
        let slot = self.slot(reference);
        let before = slot.asked.load(Ordering::Relaxed);
        let mut latest = slot.latest.lock().await;
        let asked = slot.asked.load(Ordering::Relaxed);
        let usable = latest.take().filter(|answer| {
            let came_while_waiting = before < answer.number;
            let is_fresh = answer.at.elapsed() < KEPT && refused.is_none_or(|refused| refused < answer.number);
            came_while_waiting || (is_fresh && answer.found.is_ok())
        });
        let answer = match usable {
            Some(answer) => answer,
            None => {
                let found = self.0.places.fetch(reference).await;
                let found = found.map_err(|error| (error.kind(), format!("fetching secret {reference}: {error}")));
                Answer { number: asked + 1, at: Instant::now(), found }
            }
        };
        slot.asked.store(answer.number, Ordering::Relaxed);
        let Answer { number, found, .. } = latest.insert(answer);
        found.clone().map(|secret| (secret, *number)).map_err(|(kind, text)| Error::new(kind, "", text))
    }

    fn slot(&self, reference: &Reference) -> Arc<Slot> {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(reference.clone()).or_default().clone()
    }
}

#[cfg(all(test, feature = "secretsmanager", feature = "ssm"))]
pub(crate) mod tests;
