//! Several sources of one service: names, weights, formulas and templates.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate::config::{Config, Input, Problems, load};
use tidegate::error::Error;

fn load_with(env: &[(&str, &str)], service: Value, by_payload: bool) -> Result<Config, Problems> {
    let document = json!({ "services": [service] });
    let mut vars: BTreeMap<_, _> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut event = Value::Null;
    match by_payload {
        true => event = json!({ "config": document }),
        false => drop(vars.insert("CONFIG".to_owned(), document.to_string())),
    }
    load(Input { vars: &vars, event: &event, in_lambda: false, remote: None })
}

fn service(sources: Value, more: Value) -> Value {
    let mut service = json!({
        "name": "orders", "target": { "type": "ecs", "cluster": "prod", "service": "orders" },
        "sources": sources, "policies": [{ "type": "threshold" }],
    });
    service.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    service
}

fn queues() -> Value {
    json!([
        { "type": "sqs", "queue": "orders", "name": "orders" },
        { "type": "sqs", "queue": "refunds", "name": "refunds", "weight": 2.5 },
    ])
}

fn said(problems: Problems) -> String {
    Error::from(problems).to_string()
}

#[track_caller]
fn refused(service: Value) -> String {
    let problems = load_with(&[], service, false).map(|config| format!("{config:?}")).expect_err("it is refused");
    said(problems)
}

#[test]
fn a_sources_weight_is_a_rule_of_the_service() {
    let config = load_with(&[], service(queues(), json!({ "combine": "sum" })), false).expect("it is complete");
    let rules = &config.services[0].rules;
    assert_eq!((rules.weight("orders"), rules.weight("refunds")), (1.0, 2.5));
    for weight in [json!(0), json!(-1), json!(1e9), json!("2")] {
        let mut sources = queues();
        sources[1]["weight"] = weight.clone();
        let said = refused(service(sources, json!({})));
        assert!(said.contains("services[0].sources[1].weight"), "{weight}: {said}");
    }
    let said = refused(service(queues(), json!({ "weights": { "refund": 2.0 } })));
    assert!(said.contains("is the weight of none of the service's sources; did you mean refunds?"), "{said}");
}

#[test]
fn a_formula_that_does_not_fit_the_sources_is_refused() {
    let formula = |formula: &str| service(queues(), json!({ "combine": { "formula": formula } }));
    assert!(load_with(&[], formula("orders + 2 * max(refunds - 100, 0)"), false).is_ok());
    for (text, says) in [
        ("orders + refund", "has refund in it, which is none of the sources; did you mean refunds?"),
        ("orders + ", "cannot be read"),
        ("repeat(orders, 3)", "calls \"repeat\""),
        ("map(1..9, #)", "has .."),
        ("", "combine"),
    ] {
        let said = refused(formula(text));
        assert!(said.contains("services[0].combine") && said.contains(says), "{text}: {said}");
    }
    let mut sources = queues();
    sources[0]["name"] = "orders-v2".into();
    let said = refused(service(sources, json!({ "combine": { "formula": "refunds" } })));
    assert!(said.contains("cannot have \"orders-v2\" as a variable"), "{said}");
}

#[test]
fn templates_stand_for_the_services_own_names() {
    let source = json!([{ "type": "sqs", "queue": "${cluster}-${service}${env:SUFFIX}", "name": "q" }]);
    let env = [("SUFFIX", "-dlq")];
    let config = load_with(&env, service(source.clone(), json!({})), false).expect("it is complete");
    let section = &config.services[0].sources[0].section;
    assert_eq!(section.settings["queue"], "prod-orders-dlq");
    // What is read is judged by its name after that.
    let denied = [("SUFFIX", "-dlq"), ("ALLOWED_SOURCES", "sqs:*/orders")];
    assert!(load_with(&denied, service(source.clone(), json!({})), false).is_err());
    let said_by = load_with(&env, service(source, json!({})), true).expect_err("a payload names a variable");
    let said = said(said_by);
    assert!(said.contains("${env:…}") && said.contains("not for a payload"), "{said}");
}

#[test]
fn a_payload_sends_no_secret_of_the_deployment_without_tls() {
    let env = [
        ("ALLOWED_SECRETS", "env:CACHE_PASSWORD"),
        ("ALLOWED_SOURCES", "redis:*,rabbitmq:*"),
        ("ALLOW_PLAIN_HTTP", "true"),
        ("STATE_DIR", "state"),
    ];
    let redis = |place: Value| {
        let mut source = json!({ "type": "redis", "queue_key": "orders", "password": "env:CACHE_PASSWORD" });
        source.as_object_mut().expect("an object").extend(place.as_object().expect("an object").clone());
        load_with(&env, service(json!([source]), json!({})), true).map(|_| ())
    };
    assert!(redis(json!({ "url": "rediss://cache.internal:6380/0" })).is_ok());
    assert!(redis(json!({ "host": "cache.internal" })).is_ok());
    for place in [
        json!({ "url": "redis://cache.internal:6379/0" }),
        json!({ "url": " redis://cache.internal:6379/0" }),
        json!({ "url": "re\tdis://cache.internal:6379/0" }),
        json!({ "url": "REDIS://cache.internal:6379/0" }),
        json!({ "host": "cache.internal", "use_ssl": false }),
    ] {
        let said = said(redis(place.clone()).expect_err("it is not encrypted"));
        assert!(said.contains("without TLS"), "{place}: {said}");
    }
    let broker = json!([{
        "type": "rabbitmq", "protocol": "http", "host": "mq.internal", "username": "reader", "password": "text",
        "queue_regex": "orders-|.*",
    }]);
    let listed = [("ALLOWED_SOURCES", "rabbitmq:*/orders-*"), ("STATE_DIR", "state")];
    let said = said(load_with(&listed, service(broker, json!({})), true).map(|_| ()).expect_err("it is not listed"));
    assert!(said.contains("regex:orders-|.*"), "{said}");
}

fn sharing(budgets: &[Value]) -> Result<Config, Problems> {
    let services = budgets.iter().enumerate().map(|(number, budget)| {
        let name = format!("service-{number}");
        let mut service = service(json!([{ "type": "sqs", "queue": name }]), json!({ "budget": budget }));
        (service["name"], service["target"]["service"]) = (name.clone().into(), name.into());
        service
    });
    let services: Vec<_> = services.collect();
    let event = json!({ "config": { "services": services, "defaults": { "budget": { "total": 40 } } } });
    let vars = BTreeMap::<String, String>::new();
    load(Input { vars: &vars, event: &event, in_lambda: false, remote: None })
}

#[test]
fn a_budget_is_given_once_and_each_service_says_what_its_tasks_take() {
    let config = sharing(&[json!({}), json!({ "weight": 0.25, "priority": 2 })]).expect("it is valid");
    let budgets: Vec<_> = config.services.iter().filter_map(|it| it.rules.budget.as_ref()).collect();
    assert_eq!(
        budgets.iter().map(|it| (it.total, it.weight, it.priority)).collect::<Vec<_>>(),
        [(40.0, 1.0, 1), (40.0, 0.25, 2)]
    );
}

#[test]
fn services_that_disagree_about_their_budget_are_refused_all_at_once() {
    let refused = sharing(&[
        json!({}),
        json!({ "total": 50, "sharing": "microscaling", "weight": 2 }),
        json!({ "name": "other", "total": 1.5, "sharing": "microscaling" }),
        json!({ "total": 0 }),
    ]);
    let said = said(refused.map(|_| ()).expect_err("they disagree"));
    for part in [
        "config.services[1].budget.total (event) is 50, and 40 for another service of the same budget",
        "config.services[1].budget.sharing (event) is not that of another service of the same budget",
        "config.services[1].budget.weight (event) is 2, where tasks are shared",
        "config.services[2].budget.total (event) is 1.5, which is no number of tasks",
        "config.services[3].budget.total (event) is 0",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}

#[test]
fn a_policys_formula_is_checked_with_its_variables() {
    let with = |formula: &str| service(queues(), json!({ "policies": [{ "type": "expression", "desired": formula }] }));
    load_with(&[], with("max(orders / 10, current - 1, min) + (refunds ?? running) * max"), false)
        .expect("it is valid");
    for (formula, said) in [
        ("order / 10", "has order in it, which is none of the sources; did you mean orders?"),
        ("curent + 1", "did you mean current?"),
        ("orders +", "services[0].policies[0].desired"),
    ] {
        let refused = refused(with(formula));
        assert!(refused.contains(said), "{formula}: {refused}");
    }
    let mut sources = queues();
    sources[0]["name"] = json!("running");
    let mut named = with("refunds");
    named["sources"] = sources;
    let said = refused(named);
    assert!(
        said.contains(r#"cannot have "running" as the name of a source, since it has a meaning of its own"#),
        "{said}"
    );
}

#[test]
fn policies_that_want_what_is_there_are_not_added_up() {
    let with = |policy: Value, how: &str| {
        let expression = json!({ "type": "expression", "desired": "orders" });
        service(queues(), json!({ "policies": [expression, policy], "combine_policies": how }))
    };
    for how in ["sum", "mean"] {
        load_with(&[], with(json!({ "type": "expression", "desired": "refunds" }), how), false).expect("it is valid");
        let said = refused(with(json!({ "type": "threshold" }), how));
        let problem = "combine_policies (CONFIG) adds up policies that want what is there already";
        assert!(said.contains(problem), "{said}");
    }
    load_with(&[], with(json!({ "type": "threshold" }), "min"), false).expect("it is valid");
    let said = refused(with(json!({ "type": "alert_step" }), "min"));
    assert!(said.contains("combine_policies (CONFIG) is the least of what an alert and others want"), "{said}");
}
