//! Other autoscalers as configurations of ours, with their own defaults.

use serde_json::{Value, json};

use super::contender::{Begins, Contender, Metrics, Strategy};
use super::model::Model;
use crate::core::Rules;

/// Another autoscaler's way to decide.
pub struct Rival {
    /// The name, as the command takes it.
    pub name: &'static str,
    /// Whose way it is.
    pub about: &'static str,
    interval_secs: f64,
    metrics: Metrics,
    begins: Begins,
    rules: fn(&Model) -> Value,
}

/// All of them.
pub const RIVALS: &[Rival] = &[
    Rival {
        name: "drain_time",
        about: "our drain_time, told the promise and nothing else",
        interval_secs: 15.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |model| drain_time(model, None),
    },
    Rival {
        name: "drain_time_told",
        about: "our drain_time, told how long a message takes as well",
        interval_secs: 15.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |model| drain_time(model, Some(model.service.mean_secs)),
    },
    Rival {
        name: "drain_time_counted",
        about: "our drain_time, told the promise, of a queue that counts what was finished",
        interval_secs: 15.0,
        metrics: Metrics::Counted,
        begins: Begins::New,
        rules: |model| drain_time(model, None),
    },
    Rival {
        name: "drain_time_metered",
        about: "our drain_time, told the promise, of an SQS queue whose deleted messages CloudWatch counts",
        interval_secs: 15.0,
        metrics: Metrics::Metered,
        begins: Begins::New,
        rules: |model| drain_time(model, None),
    },
    Rival {
        name: "keda",
        about: "KEDA's aws-sqs-queue and Kubernetes' HPA with their defaults: 5 messages a task, those in flight counted",
        interval_secs: 15.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: keda,
    },
    Rival {
        name: "keda_cached",
        about: "the same with useCachedMetrics: two decisions of the HPA go by one reading",
        interval_secs: 15.0,
        metrics: Metrics::Polled,
        begins: Begins::New,
        rules: keda,
    },
    Rival {
        name: "keda_unseeded",
        about: "the same with a scale-in window that begins empty, where the HPA's begins with the count that it finds: as a reference has it",
        interval_secs: 15.0,
        metrics: Metrics::Polled,
        begins: Begins::AfterAnIdleHour,
        rules: keda,
    },
    Rival {
        name: "stepscale",
        about: "StepScale's fast-autoscaler with its defaults: at least 10 tasks, and every step at once",
        interval_secs: 60.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| {
            json!({
                "policies": [{ "type": "threshold" }],
                "bounds": { "min": 10, "max": 300 },
                "scale_in_cooldown_secs": 120,
                "min_remaining_fraction": 0.99,
            })
        },
    },
    Rival {
        name: "aws_step",
        about: "AWS step scaling: 10, 30 and 100 % more from 100, 500 and 1,000 messages, 10 % fewer up to 10",
        interval_secs: 60.0,
        metrics: Metrics::CloudWatch,
        begins: Begins::New,
        rules: |_| {
            json!({
                "policies": [{
                    "type": "step",
                    "adjustment_type": "percent_change_in_capacity",
                    "scale_out": { "threshold": 100, "steps": [
                        { "upper_bound": 400, "adjustment": 10 },
                        { "lower_bound": 400, "upper_bound": 900, "adjustment": 30 },
                        { "lower_bound": 900, "adjustment": 100 },
                    ] },
                    "scale_in": { "threshold": 10, "steps": [{ "upper_bound": 0, "adjustment": -10 }] },
                }],
                "scale_out_cooldown_secs": 60,
                "scale_in_cooldown_secs": 300,
                // Five points of a minute in a row.
                "behavior": { "scale_in": { "stabilization_window_secs": 240 } },
                // A larger step does not wait, and is credited with what the last one added.
                "priority_override": "step",
                "scaling_step_count": 1,
            })
        },
    },
    Rival {
        name: "aws_target_tracking",
        about: "AWS target tracking of the backlog per task that the promise allows",
        interval_secs: 60.0,
        metrics: Metrics::CloudWatch,
        begins: Begins::New,
        rules: |model| {
            let target = (model.promise_secs / model.service.mean_secs).max(0.001);
            json!({
                "policies": [{ "type": "target", "target": target, "scale_out_tolerance": 0 }],
                "scale_out_cooldown_secs": 300,
                "scale_in_cooldown_secs": 300,
                // The alarms that target tracking makes: 3 points of a minute in a row, and 15.
                "behavior": {
                    "scale_out": { "stabilization_window_secs": 120 },
                    "scale_in": { "stabilization_window_secs": 840 },
                },
                // A larger scale-out does not wait, here too.
                "priority_override": "step",
                "scaling_step_count": 1,
            })
        },
    },
    Rival {
        name: "fly",
        about: "fly-autoscaler: a machine for each 10 messages that wait",
        interval_secs: 15.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "band", "count": "ceil(queue / 10)" }] }),
    },
    Rival {
        name: "autoscalebot_average",
        about: "autoscalebot: one more above 20 messages on the average of three readings, one fewer at none",
        interval_secs: 30.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "streak", "high": 20, "low": 1, "average_of": 3 }] }),
    },
    Rival {
        name: "autoscalebot_consecutive",
        about: "autoscalebot: one more after three readings above 20 messages, one fewer after five of none",
        interval_secs: 30.0,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "streak", "high": 20, "low": 1 }] }),
    },
    Rival {
        name: "alert_step",
        about: "an alert for more than 100 messages adds two, one for fewer than 10 removes one, and again each minute",
        interval_secs: 15.0,
        metrics: Metrics::Alerted,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "alert_step", "by_out": 2, "repeat_after_secs": 60 }] }),
    },
    Rival {
        name: "microscaling_queue",
        about: "Microscaling Engine's Queue: a controller around 50 messages, each half second",
        interval_secs: 0.5,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "pid", "target_load": 50 }] }),
    },
    Rival {
        name: "microscaling_simple",
        about: "Microscaling Engine's SimpleQueue: one task more or fewer around 50 messages, each half second",
        interval_secs: 0.5,
        metrics: Metrics::Direct,
        begins: Begins::New,
        rules: |_| json!({ "policies": [{ "type": "one_by_one", "target_load": 50 }] }),
    },
];

fn drain_time(model: &Model, service_secs: Option<f64>) -> Value {
    let wait = model.promise_secs.round().max(1.0) as u32;
    json!({
        "policies": [{ "type": "drain_time", "target_wait_secs": wait, "service_secs": service_secs }],
        "in_flight_per_task": model.per_task,
        "confirm_zero": { "readings": 2, "secs": 45 },
    })
}

fn keda(_: &Model) -> Value {
    json!({
        "policies": [{ "type": "target", "target": 5 }],
        "load": "combined",
        "behavior": {
            "scale_out": { "policies": [
                { "type": "percent", "value": 100, "period_secs": 15 },
                { "type": "tasks", "value": 4, "period_secs": 15 },
            ] },
            "scale_in": {
                "stabilization_window_secs": 300,
                "policies": [{ "type": "percent", "value": 100, "period_secs": 15 }],
            },
        },
    })
}

impl Rival {
    /// It as a contender, without those of our guards that it has not.
    pub(super) fn contender(&self, model: &Model) -> Contender {
        let mut rules = json!({
            "bounds": { "min": 1, "max": 300 },
            "scale_out_cooldown_secs": 0,
            "scale_in_cooldown_secs": 0,
            "priority_override": "always",
            "min_remaining_fraction": 0.0,
            "in_flight_per_task": 1_000_000,
            "confirm_zero": { "readings": 1, "secs": 0 },
        });
        if let (Some(rules), Value::Object(own)) = (rules.as_object_mut(), (self.rules)(model)) {
            rules.extend(own);
        }
        let rules: Rules = serde_json::from_value(rules).expect("what is built in is valid");
        Contender {
            name: self.name.to_owned(),
            interval_secs: self.interval_secs,
            metrics: self.metrics,
            begins: self.begins,
            strategy: Strategy::Rules(Box::new(rules)),
        }
    }
}
