//! What is kept in the life of the process, so that it is not asked for at each tick.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
use std::time::Duration;

#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
use tokio::time::Instant;

/// What was asked for once in the life of the process.
#[cfg(feature = "sqs")]
#[derive(Debug, Clone)]
pub(crate) struct Known<T>(Arc<Mutex<HashMap<String, T>>>);

#[cfg(feature = "sqs")]
impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[cfg(feature = "sqs")]
impl<T: Clone> Known<T> {
    pub(crate) fn get(&self, key: &str) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    pub(crate) fn put(&self, key: String, what: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, what);
    }
}

/// Services that no other autoscaler was found for, or of which that could not be found out, with what there is to say of
/// it. Each is asked about once in [`ScaledAlone::HOLDS`], so that a tick of fifty services costs one call in that time.
#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
#[derive(Debug, Clone, Default)]
pub(crate) struct ScaledAlone(Arc<Mutex<HashMap<String, Asked>>>);

/// When a service was asked about, and what there is to say.
#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
type Asked = (Instant, Vec<String>);

#[cfg(any(feature = "ecs", feature = "ec2_asg"))]
impl ScaledAlone {
    /// How long an answer holds: 5 minutes, in which an autoscaler that is added is not seen.
    const HOLDS: Duration = Duration::from_secs(300);

    /// What there is to say of a service, if it was asked about lately.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<String>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(asked, _)| asked.elapsed() < Self::HOLDS).map(|(_, warnings)| warnings.clone())
    }

    pub(crate) fn put(&self, key: String, warnings: Vec<String>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (asked, _)| asked.elapsed() < Self::HOLDS);
        known.insert(key, (Instant::now(), warnings));
    }
}
