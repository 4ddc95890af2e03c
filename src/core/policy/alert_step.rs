//! Some tasks more or fewer for each alert: what Docker Swarm's self-adapting set-ups do with an Alertmanager webhook.
//!
//! Equal to docker-scaler's steps within bounds (<https://github.com/thomasjpfan/docker-scaler>), and with `refuse_outside` to the
//! Jenkins job of <https://technologyconversations.com/2017/08/29>, which refuses what would leave them. What differs: an alert
//! that is delivered again does not step again.

use jiff::SignedDuration;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Answered, Because, Memory, Proposal, Situation};
use crate::core::decision::Direction;
use crate::core::observation::Alert;

/// How many alerts are remembered as answered.
const REMEMBERED: usize = 16;

/// Some tasks more or fewer for each alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertStep {
    /// How many tasks an alert adds that does not say how many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub by_out: u32,
    /// How many tasks an alert removes that does not say how many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub by_in: u32,
    /// Whether a step that would leave the bounds is refused, in place of going as far as they allow.
    #[serde(default)]
    pub refuse_outside: bool,
    /// After how many seconds an alert that still fires, and is delivered again, counts again; never where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64", range(min = 1, max = 604_800))]
    pub repeat_after_secs: Option<u64>,
}

fn one() -> u32 {
    1
}

impl AlertStep {
    /// Whether an alert was answered already. One whose answer was announced and not made is not.
    pub(in crate::core) fn has_answered(
        &self,
        alert: &Alert,
        memory: Option<&Memory>,
        unfinished: Option<Timestamp>,
        now: Timestamp,
    ) -> bool {
        let Some(Memory::Alerts(answered)) = memory else { return false };
        let repeats = |at: Timestamp| {
            let after = self.repeat_after_secs.and_then(|secs| i64::try_from(secs).ok());
            after.is_some_and(|secs| SignedDuration::from_secs(secs) <= now.duration_since(at))
        };
        answered.iter().any(|it| it.alert == alert.id && Some(it.at) != unfinished && !repeats(it.at))
    }

    /// Remembers that an alert is answered.
    pub(in crate::core) fn answer(alert: &Alert, memory: Option<Memory>, now: Timestamp) -> Memory {
        let mut answered = match memory {
            Some(Memory::Alerts(answered)) => answered,
            _ => Vec::new(),
        };
        answered.retain(|it| it.alert != alert.id);
        answered.push(Answered { alert: alert.id.clone(), at: now });
        let surplus = answered.len().saturating_sub(REMEMBERED);
        answered.drain(..surplus);
        Memory::Alerts(answered)
    }

    /// Returns the wanted count for an alert.
    pub(in crate::core) fn propose(&self, alert: &Alert, situation: Situation) -> Proposal {
        let Situation { current, base, bounds, .. } = situation;
        let (direction, given) = (alert.direction, alert.by);
        let (by, wants) = match direction {
            Direction::Out => {
                let by = given.unwrap_or(self.by_out);
                (by, base.saturating_add(by).max(current))
            }
            Direction::In => {
                let by = given.unwrap_or(self.by_in);
                (by, current.saturating_sub(by))
            }
        };
        match self.refuse_outside && bounds.clamp(wants) != wants {
            true => Proposal { wants: current, because: Because::RefusedOutside { refused: wants } },
            false => Proposal { wants, because: Because::Alert { direction, by } },
        }
    }
}
