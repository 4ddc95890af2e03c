//! The least that the cluster must permit, as Roles: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::Target;
use super::KIND;
use super::settings::Settings;
use crate::adapter::{Section, parse};
use crate::error::Result;

/// Group, resource and verb.
type Permission = (String, String, &'static str);

/// The namespace of the service account that a role is bound to. It is that of Tidegate's own pods, which no setting tells; no namespace
/// can have this name, so that the binding lets nobody in until it is filled in.
const NAMESPACE: &str = "NAMESPACE_OF_TIDEGATE";

/// A Role and its RoleBinding for each namespace that these targets name, as one list that `kubectl apply -f -` takes, or where they
/// are of several clusters a list for each by its name. The role is bound to the service account `tidegate` of the namespace `NAMESPACE_OF_TIDEGATE` or, where
/// an EKS cluster is reached by IAM, to the group `tidegate`, which its access entry names.
///
/// # Errors
/// Those of settings that the schema let through.
pub fn roles<'a>(targets: impl IntoIterator<Item = &'a Section<dyn Target>>) -> Result<Value> {
    let mut clusters: BTreeMap<String, BTreeMap<_, BTreeMap<Permission, BTreeSet<String>>>> = BTreeMap::new();
    for target in targets.into_iter().filter(|target| target.kind.name == KIND.name) {
        let settings = parse::<Settings>(&target.settings)?;
        let is_eks = settings.eks_cluster.is_some();
        let cluster = clusters.entry(settings.name_of_cluster()).or_default();
        let granted = cluster.entry((settings.namespace.clone(), is_eks)).or_default();
        for (permission, name) in needs(&settings) {
            granted.entry(permission).or_default().insert(name);
        }
    }
    let list = |namespaces: BTreeMap<(String, bool), _>| {
        let items = namespaces.into_iter().flat_map(|((namespace, is_eks), granted)| role(&namespace, is_eks, granted));
        json!({ "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>() })
    };
    match clusters.len() {
        0 | 1 => Ok(list(clusters.into_values().next().unwrap_or_default())),
        _ => Ok(clusters.into_iter().map(|(cluster, namespaces)| (cluster, list(namespaces))).collect()),
    }
}

/// What one target needs, and on which object: any, where that is `*`.
fn needs(settings: &Settings) -> Vec<(Permission, String)> {
    let (group, plural) = (settings.group_and_version().0.to_owned(), settings.plural());
    let any = || "*".to_owned();
    // The names of what is found are not known, and a role takes no patterns.
    let name = || if settings.name.contains('*') { any() } else { settings.name.clone() };
    let scale = || format!("{plural}/scale");
    let mut needs = vec![((group.clone(), plural.clone(), "get"), name()), ((group.clone(), scale(), "patch"), name())];
    if !settings.is_built_in() {
        needs.push(((group.clone(), scale(), "get"), name()));
    }
    if settings.name.contains('*') {
        needs.push(((group, plural.clone(), "list"), any()));
    }
    if !settings.allow_other_scaler {
        // Who may list may list all.
        needs.push((("autoscaling".to_owned(), "horizontalpodautoscalers".to_owned(), "list"), any()));
    }
    needs
}

fn role(namespace: &str, is_eks: bool, granted: BTreeMap<Permission, BTreeSet<String>>) -> [Value; 2] {
    let rule = |((group, resource, verb), names): (Permission, BTreeSet<String>)| {
        let mut rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
        if !names.contains("*") {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    let rules: Vec<_> = granted.into_iter().map(rule).collect();
    let name = if is_eks { "tidegate-eks" } else { "tidegate" };
    let metadata = json!({ "name": name, "namespace": namespace });
    let subject = match is_eks {
        true => json!({ "kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "tidegate" }),
        false => json!({ "kind": "ServiceAccount", "name": "tidegate", "namespace": NAMESPACE }),
    };
    let api = "rbac.authorization.k8s.io/v1";
    [
        json!({ "apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules }),
        json!({
            "apiVersion": api, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name }, "subjects": [subject],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(settings: Value) -> Section<dyn Target> {
        Section { kind: &KIND, settings }
    }

    #[test]
    fn a_role_names_what_it_is_for_and_nothing_else() {
        let url = "https://0.gr7.eu-west-1.eks.amazonaws.com";
        let sections = [
            section(json!({ "name": "orders", "namespace": "shop" })),
            section(json!({ "name": "bills", "namespace": "shop" })),
            section(
                json!({ "name": "it", "kind": "Rollout", "api_version": "argoproj.io/v1alpha1", "allow_other_scaler": true }),
            ),
            section(
                json!({ "name": "*", "namespace": "far", "url": url, "eks_cluster": "shop", "allow_other_scaler": true }),
            ),
        ];
        let lists = roles(&sections).expect("valid settings");
        let [eks, own] = ["0.gr7.eu-west-1.eks.amazonaws.com:443", "in-cluster"];
        assert!(
            lists.get("kind").is_none() && lists.as_object().is_some_and(|lists| lists.keys().eq([eks, own])),
            "{lists}"
        );
        let rules = |cluster: &str, namespace: &str| {
            let items = lists[cluster]["items"].as_array().into_iter().flatten();
            let is_it = |item: &&Value| item["kind"] == "Role" && item["metadata"]["namespace"] == namespace;
            items.filter(is_it).map(|role| role["rules"].clone()).collect::<Vec<_>>()
        };
        let rule = |group: &str, resource: &str, verb: &str, names: &[&str]| {
            let rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb] });
            match names {
                [] => rule,
                names => {
                    json!({ "apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": names })
                }
            }
        };
        assert_eq!(
            rules(own, "shop"),
            [json!([
                rule("apps", "deployments", "get", &["bills", "orders"]),
                rule("apps", "deployments/scale", "patch", &["bills", "orders"]),
                rule("autoscaling", "horizontalpodautoscalers", "list", &[]),
            ])]
        );
        assert_eq!(
            rules(own, "default"),
            [json!([
                rule("argoproj.io", "rollouts", "get", &["it"]),
                rule("argoproj.io", "rollouts/scale", "get", &["it"]),
                rule("argoproj.io", "rollouts/scale", "patch", &["it"]),
            ])]
        );
        assert_eq!(
            rules(eks, "far"),
            [json!([
                rule("apps", "deployments", "get", &[]),
                rule("apps", "deployments", "list", &[]),
                rule("apps", "deployments/scale", "patch", &[]),
            ])]
        );
        let subject = |cluster: &str| lists[cluster]["items"][1]["subjects"][0].clone();
        assert_eq!(subject(eks)["kind"], "Group");
        let account = json!({ "kind": "ServiceAccount", "name": "tidegate", "namespace": NAMESPACE });
        assert_eq!(subject(own), account, "Tidegate does not live in the namespace of what it scales");
        let alone = roles(&sections[..3]).expect("valid settings");
        assert_eq!((&alone["kind"], alone["items"].as_array().map(Vec::len)), (&json!("List"), Some(4)));
    }
}
