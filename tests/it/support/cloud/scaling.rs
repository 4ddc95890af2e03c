//! Application Auto Scaling, JSON 1.1.

use serde_json::{Value, json};

use super::state::State;
use super::{Refusal, refuse};

/// DescribeScalableTargets takes at most fifty resources a call:
/// <https://docs.aws.amazon.com/autoscaling/application/APIReference/API_DescribeScalableTargets.html>.
const RESOURCES_PER_CALL: usize = 50;

/// DescribeScalableTargets.
pub fn answer(state: &State, action: &str, input: &Value) -> Result<Value, Refusal> {
    if action != "DescribeScalableTargets" {
        return refuse("UnknownOperationException", action);
    }
    let asked = input["ResourceIds"].as_array();
    if asked.is_some_and(|asked| RESOURCES_PER_CALL < asked.len()) {
        return refuse("ValidationException", "ResourceIds must have at most 50 members");
    }
    if input.get("ScalableDimension").is_some() && asked.is_none() {
        return refuse("ValidationException", "A scalable dimension needs resource ids");
    }
    let is_asked = |id: &&String| asked.is_none_or(|asked| asked.iter().any(|asked| asked == *id));
    let ids = state.scalable_targets.keys().filter(is_asked);
    let found: Vec<_> = ids.map(|id| state.scalable_targets[id].clone()).collect();
    Ok(json!({ "ScalableTargets": found }))
}
