//! What survives a tick.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::observation::Unreadable;

/// What one service remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// When the service was first seen. The scale-in cooldown runs from here, since what happened before is unknown.
    pub since: Timestamp,
    /// The last scale-out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_out: Option<Action>,
    /// The last scale-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_in: Option<Action>,
    /// A change that was announced and not yet seen to be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Intent>,
}

/// One change of the desired count. Counts in tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// When it was decided.
    pub at: Timestamp,
    /// The desired count before.
    pub from: u32,
    /// The desired count after.
    pub to: u32,
    /// Where a further step counts from while this one's cooldown runs: the desired count before the first of the
    /// scale-outs that follow each other within a cooldown.
    pub base: u32,
}

/// A change that was announced before it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// When it was decided.
    pub at: Timestamp,
    /// The desired count it was decided on.
    pub from: u32,
    /// The desired count to set.
    pub to: u32,
}

/// What is known of earlier ticks.
#[derive(Debug, Clone, PartialEq)]
pub enum Past {
    /// Nothing was ever saved.
    Absent,
    /// The saved state.
    Known(State),
    /// There may be a state, but it could not be read.
    Unreadable {
        /// Why.
        why: Unreadable,
        /// The last state that this process saw, if it lived long enough to see one.
        remembered: Option<State>,
    },
}

impl State {
    /// The state of a service that is seen for the first time.
    pub fn new(since: Timestamp) -> Self {
        Self { since, last_out: None, last_in: None, pending: None }
    }

    /// Records that the announced change was made.
    pub fn confirm(&mut self) {
        self.pending = None;
    }

    /// Since when the scale-in cooldown runs: the latest of first sight, the last scale-in and the last scale-out.
    pub fn quiet_since(&self) -> Timestamp {
        [&self.last_out, &self.last_in].into_iter().flatten().map(|action| action.at).fold(self.since, Timestamp::max)
    }

    /// Moves times that lie after `now` by more than `tolerance` back to `now`, and returns by how much the farthest one was
    /// ahead, if any was.
    ///
    /// A cooldown then runs from first sight of the impossible time instead of until that time.
    pub(super) fn pull_back_to(&mut self, now: Timestamp, tolerance: SignedDuration) -> Option<SignedDuration> {
        let actions = [&mut self.last_out, &mut self.last_in].into_iter().flatten().map(|action| &mut action.at);
        let intents = self.pending.iter_mut().map(|intent| &mut intent.at);
        let mut farthest = None;
        for at in actions.chain(intents).chain([&mut self.since]) {
            let ahead = at.duration_since(now);
            if tolerance < ahead {
                farthest = farthest.max(Some(ahead));
                *at = now;
            }
        }
        farthest
    }
}
