//! Amazon ECS, JSON 1.1.

use serde_json::{Value, json};

use super::state::{Place, Service, State};
use super::{Caller, Refusal, refuse};

/// What one call may name: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeServices.html>.
const SERVICES_PER_CALL: usize = 10;
/// The same of tasks, in a page of ListTasks and in a call of GetTaskProtection.
const TASKS_PER_CALL: usize = 100;

/// DescribeServices, UpdateService, ListTasks and GetTaskProtection.
pub fn answer(state: &mut State, caller: &Caller, action: &str, input: &Value) -> Result<Value, Refusal> {
    if action == "UpdateService" {
        take_token(state)?;
    }
    let place = place(caller, input);
    let Some(cluster) = state.clusters.get_mut(&place) else {
        return refuse("ClusterNotFoundException", "Cluster not found.");
    };
    match action {
        "DescribeServices" => {
            let asked = texts(&input["services"]);
            if asked.is_empty() || SERVICES_PER_CALL < asked.len() {
                return refuse("InvalidParameterException", "Services must name 1 to 10 services.");
            }
            let (found, missing): (Vec<_>, Vec<_>) = asked.into_iter().partition(|name| cluster.contains_key(name));
            let include = texts(&input["include"]);
            let found: Vec<_> = found.iter().map(|name| shown(&place, name, &cluster[name], &include)).collect();
            let missing: Vec<_> = missing
                .iter()
                .map(|name| json!({ "arn": arn(&place, "service", name), "reason": "MISSING" }))
                .collect();
            Ok(json!({ "services": found, "failures": missing }))
        }
        "UpdateService" => {
            let name = leaf(&input["service"]);
            match cluster.get_mut(&name) {
                Some(service) => {
                    update(service, input).map(|()| json!({ "service": shown(&place, &name, service, &[]) }))
                }
                None => refuse("ServiceNotFoundException", "Service not found."),
            }
        }
        "ListTasks" => match cluster.get(&leaf(&input["serviceName"])) {
            Some(service) => list_tasks(&place, service, input),
            None => refuse("ServiceNotFoundException", "Service not found."),
        },
        "GetTaskProtection" => protection(&place, cluster.values(), input),
        _ => refuse("UnknownOperationException", action),
    }
}

/// UpdateService may be called 50 times at once and then 5 times a second.
fn take_token(state: &mut State) -> Result<(), Refusal> {
    match state.updates_left.as_mut() {
        Some(0) => refuse("ThrottlingException", "Rate exceeded"),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

fn update(service: &mut Service, input: &Value) -> Result<(), Refusal> {
    let desired = input["desiredCount"].as_i64();
    match (service.status, service.strategy, desired) {
        ("INACTIVE" | "DRAINING", ..) => refuse("ServiceNotActiveException", "Service was not ACTIVE."),
        (_, "DAEMON", Some(_)) => refuse(
            "InvalidParameterException",
            "The daemon scheduling strategy does not support a desired count for services.",
        ),
        (.., Some(count)) if !(0..=i64::from(i32::MAX)).contains(&count) => {
            refuse("InvalidParameterException", "desiredCount must be at least 0.")
        }
        (.., None) => refuse("InvalidParameterException", "Nothing is to be changed."),
        (.., Some(count)) => {
            service.desired = count;
            service.pending = 0.max(count - service.running);
            Ok(())
        }
    }
}

fn shown(place: &Place, name: &str, service: &Service, include: &[String]) -> Value {
    let deployment = |(number, rollout): (usize, &Option<&str>)| {
        let status = if number == 0 { "PRIMARY" } else { "ACTIVE" };
        let mut deployment = json!({
            "id": format!("ecs-svc/{number:019}"), "status": status, "taskDefinition": arn(place, "task-definition", "worker:1"),
            "desiredCount": if number == 0 { service.desired } else { 0 }, "pendingCount": 0, "runningCount": 0,
            "failedTasks": 0, "createdAt": 1_767_225_600.0, "updatedAt": 1_767_225_600.0, "launchType": "EC2",
        });
        if let Some(state) = rollout {
            deployment["rolloutState"] = (*state).into();
        }
        deployment
    };
    let deployments: Vec<_> = service.deployments.iter().enumerate().map(deployment).collect();
    let mut shown = json!({
        "serviceArn": arn(place, "service", name), "serviceName": name, "clusterArn": cluster_arn(place),
        "loadBalancers": [], "serviceRegistries": [], "status": service.status, "desiredCount": service.desired,
        "runningCount": service.running, "pendingCount": service.pending, "launchType": "EC2",
        "taskDefinition": arn(place, "task-definition", "worker:1"), "deployments": deployments, "events": [],
        "createdAt": 1_767_225_600.0, "placementConstraints": [], "placementStrategy": [],
        "schedulingStrategy": service.strategy, "deploymentController": { "type": "ECS" },
        "enableECSManagedTags": false, "propagateTags": "NONE", "enableExecuteCommand": false,
    });
    if include.iter().any(|field| field == "TAGS") {
        shown["tags"] = service.tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    }
    shown
}

fn list_tasks(place: &Place, service: &Service, input: &Value) -> Result<Value, Refusal> {
    let most = input["maxResults"].as_u64().unwrap_or(100);
    let from: usize = input["nextToken"].as_str().map_or(Ok(0), str::parse).unwrap_or(usize::MAX);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if !(1..=TASKS_PER_CALL).contains(&most) || service.tasks.len() < from {
        return refuse("InvalidParameterException", "The token or the length of a page is invalid.");
    }
    let ids = service.tasks[from..].iter().take(most);
    let mut page = json!({ "taskArns": ids.map(|(id, _)| arn(place, "task", id)).collect::<Vec<_>>() });
    if from + most < service.tasks.len() {
        page["nextToken"] = (from + most).to_string().into();
    }
    Ok(page)
}

fn protection<'a>(place: &Place, services: impl Iterator<Item = &'a Service>, input: &Value) -> Result<Value, Refusal> {
    let asked = texts(&input["tasks"]);
    if TASKS_PER_CALL < asked.len() {
        return refuse("InvalidParameterException", "Tasks must name at most 100 tasks.");
    }
    let known: Vec<_> = services.flat_map(|service| &service.tasks).collect();
    let (mut protected, mut failures) = (Vec::new(), Vec::new());
    for id in asked {
        let arn = arn(place, "task", &id);
        match known.iter().find(|(known, _)| *known == id) {
            Some((_, false)) => protected.push(json!({ "taskArn": arn, "protectionEnabled": false })),
            Some((_, true)) => {
                let until = 4_102_444_800.0;
                protected.push(json!({ "taskArn": arn, "protectionEnabled": true, "expirationDate": until }));
            }
            None => failures.push(json!({ "arn": arn, "reason": "MISSING" })),
        }
    }
    Ok(json!({ "protectedTasks": protected, "failures": failures }))
}

/// The cluster that a call names, by name or ARN.
fn place(caller: &Caller, input: &Value) -> Place {
    let cluster = input["cluster"].as_str().unwrap_or("default");
    match cluster.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "ecs", region, account, _] => (region.to_owned(), account.to_owned(), leaf(&input["cluster"])),
        _ => (caller.region.clone(), super::ACCOUNT.to_owned(), cluster.to_owned()),
    }
}

fn cluster_arn((region, account, cluster): &Place) -> String {
    format!("arn:aws:ecs:{region}:{account}:cluster/{cluster}")
}

fn arn((region, account, cluster): &Place, kind: &str, name: &str) -> String {
    let cluster = if kind == "task-definition" { String::new() } else { format!("{cluster}/") };
    format!("arn:aws:ecs:{region}:{account}:{kind}/{cluster}{name}")
}

fn leaf(name_or_arn: &Value) -> String {
    name_or_arn.as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned()
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(leaf).collect()
}
