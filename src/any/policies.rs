//! Any policy, and any `behavior`, as a configuration may have it.

use serde_json::json;

use super::{FORMULAS, Numbers, made_of};
use crate::core::{
    AdjustmentType, Alarm, AlertStep, Band, DrainTime, Expression, MetricType, OneByOne, POLICIES, Pid, Policy,
    RatePolicy, RateType, ScalingBehavior, ScalingRules, SelectPolicy, Step, StepScaling, Streak, Target, Threshold,
};

/// Any policy.
pub(super) fn policy(input: &mut Numbers<'_>) -> Policy {
    let name = input.one_of(POLICIES);
    policy_of(input, name)
}

/// Any policy of this name.
pub(crate) fn policy_of(input: &mut Numbers<'_>, name: &str) -> Policy {
    match name {
        "threshold" => Policy::Threshold(threshold(input)),
        "step" => Policy::Step(steps(input)),
        "target" => Policy::Target(Target {
            target: input.size().clamp(0.001, 1e15),
            metric_type: input.one_of(&[MetricType::AverageValue, MetricType::Value]),
            scale_out_tolerance: input.part(),
            scale_in_tolerance: input.part(),
        }),
        "streak" => Policy::Streak(streak(input)),
        "pid" => Policy::Pid(pid(input)),
        "one_by_one" => {
            let target_load = input.up_to(1_000_000_000) as u32;
            Policy::OneByOne(OneByOne { target_load, wait_until_settled: input.flag() })
        }
        "band" => Policy::Band(band(input)),
        "alert_step" => Policy::AlertStep(AlertStep {
            by_out: input.tasks().max(1),
            by_in: input.tasks().max(1),
            refuse_outside: input.flag(),
            repeat_after_secs: input.flag().then(|| 1 + input.up_to(604_799)),
        }),
        "drain_time" => Policy::DrainTime(drain_time(input)),
        "expression" => Policy::Expression(Expression { desired: FORMULAS[0].to_owned() }),
        other => panic!("{other} is no policy that is made here"),
    }
}

fn threshold(input: &mut Numbers<'_>) -> Threshold {
    let high = input.size().abs();
    Threshold {
        scale_out_threshold: high,
        scale_in_threshold: high * input.part(),
        tasks_per_message: input.size().abs(),
    }
}

fn steps(input: &mut Numbers<'_>) -> StepScaling {
    let types =
        [AdjustmentType::ChangeInCapacity, AdjustmentType::ExactCapacity, AdjustmentType::PercentChangeInCapacity];
    let adjustment_type = input.one_of(&types);
    let high = f64::from(input.tasks());
    let low = high * input.part();
    let is_count = adjustment_type == AdjustmentType::ExactCapacity;
    let scale_out = alarm(input, high, 1.0, 1);
    let scale_in = alarm(input, low, -1.0, if is_count { 1 } else { -1 });
    StepScaling {
        adjustment_type,
        min_adjustment_magnitude: input.flag().then(|| input.tasks().max(1)),
        scale_out: Some(scale_out),
        scale_in: input.flag().then_some(scale_in),
    }
}

/// One to three steps from a threshold on, towards more or towards less.
fn alarm(input: &mut Numbers<'_>, threshold: f64, side: f64, sign: i32) -> Alarm {
    let (count, mut from, mut steps) = (input.byte() % 3, 0.0, Vec::new());
    for number in 0..=count {
        let to = from + side * (1.0 + f64::from(input.tasks()));
        let (near, far) = (Some(from), (number < count).then_some(to));
        let adjustment = sign * i32::try_from(input.up_to(2_147_483_647)).unwrap_or(0);
        let (lower_bound, upper_bound) = if 0.0 < side { (near, far) } else { (far, near) };
        steps.push(Step { lower_bound, upper_bound, adjustment });
        from = to;
    }
    Alarm { threshold, steps }
}

fn streak(input: &mut Numbers<'_>) -> Streak {
    let high = input.size().abs();
    Streak {
        high,
        low: high * input.part(),
        samples_out: 1 + input.up_to(999) as u32,
        samples_in: 1 + input.up_to(999) as u32,
        average_of: input.flag().then(|| 1 + u32::from(input.byte() % 60)),
        increment: input.tasks().max(1),
    }
}

fn pid(input: &mut Numbers<'_>) -> Pid {
    Pid {
        target_load: input.up_to(1_000_000_000) as u32,
        k_p: input.size().abs().min(1000.0),
        k_i: if input.rarely() { input.size().abs().min(1000.0) } else { 0.0 },
        k_d: input.size().abs().min(1000.0),
        velocity_samples: 1 + u32::from(input.byte() % 60),
        max_delta: input.flag().then(|| input.tasks().max(1)),
        wait_until_settled: input.flag(),
    }
}

fn band(input: &mut Numbers<'_>) -> Band {
    let [min, max] = FORMULAS.map(|formula| Some(formula.to_owned()));
    match input.flag() {
        true => Band { min, max, count: None },
        false => Band { min: None, max: None, count: max },
    }
}

fn drain_time(input: &mut Numbers<'_>) -> DrainTime {
    let mut settings = json!({
        "target_wait_secs": 1 + input.up_to(86_399), "lead_secs": input.up_to(3_600), "hold_secs": input.up_to(3_600),
        "headroom": input.size().abs().min(10.0),
    });
    if input.flag() {
        settings["service_secs"] = json!(input.size().clamp(0.001, 86_400.0));
    }
    if input.flag() {
        settings["concurrency"] = json!(1 + input.up_to(999_999));
    }
    made_of(settings)
}

/// Any windows, rates and tolerances.
pub(super) fn behavior(input: &mut Numbers<'_>) -> ScalingBehavior {
    ScalingBehavior { scale_out: scaling_rules(input), scale_in: scaling_rules(input) }
}

fn scaling_rules(input: &mut Numbers<'_>) -> ScalingRules {
    ScalingRules {
        stabilization_window_secs: input.up_to(3_600),
        policies: (0..input.byte() % 4).map(|_| rate(input)).collect(),
        select: match input.byte() % 8 {
            0..=3 => SelectPolicy::Max,
            7 => SelectPolicy::Disabled,
            _ => SelectPolicy::Min,
        },
        tolerance: if input.rarely() { input.part() } else { 0.0 },
    }
}

fn rate(input: &mut Numbers<'_>) -> RatePolicy {
    let of = input.one_of(&[RateType::Tasks, RateType::Percent]);
    RatePolicy { of, value: input.tasks().max(1), period_secs: 1 + input.up_to(1_799) }
}
