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

/// A Role and its RoleBinding for each namespace that these targets name, as one list that `kubectl apply -f -` takes. The role is
/// bound to the service account `tidegate` of the namespace or, where an EKS cluster is reached by IAM, to the group `tidegate`,
/// which its access entry names.
///
/// # Errors
/// Those of settings that the schema let through.
pub fn roles<'a>(targets: impl IntoIterator<Item = &'a Section<dyn Target>>) -> Result<Value> {
    let mut namespaces: BTreeMap<_, BTreeMap<Permission, BTreeSet<String>>> = BTreeMap::new();
    for target in targets.into_iter().filter(|target| target.kind.name == KIND.name) {
        let settings = parse::<Settings>(&target.settings)?;
        let is_eks = settings.eks_cluster.is_some();
        let granted = namespaces.entry((settings.namespace.clone(), is_eks)).or_default();
        for (permission, name) in needs(&settings) {
            granted.entry(permission).or_default().insert(name);
        }
    }
    let items = namespaces.into_iter().flat_map(|((namespace, is_eks), granted)| role(&namespace, is_eks, granted));
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>() }))
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
        false => json!({ "kind": "ServiceAccount", "name": "tidegate", "namespace": namespace }),
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
        let list = roles(&sections).expect("valid settings");
        let rules = |namespace: &str| {
            let items = list["items"].as_array().into_iter().flatten();
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
            rules("shop"),
            [json!([
                rule("apps", "deployments", "get", &["bills", "orders"]),
                rule("apps", "deployments/scale", "patch", &["bills", "orders"]),
                rule("autoscaling", "horizontalpodautoscalers", "list", &[]),
            ])]
        );
        assert_eq!(
            rules("default"),
            [json!([
                rule("argoproj.io", "rollouts", "get", &["it"]),
                rule("argoproj.io", "rollouts/scale", "get", &["it"]),
                rule("argoproj.io", "rollouts/scale", "patch", &["it"]),
            ])]
        );
        assert_eq!(
            rules("far"),
            [json!([
                rule("apps", "deployments", "get", &[]),
                rule("apps", "deployments", "list", &[]),
                rule("apps", "deployments/scale", "patch", &[]),
            ])]
        );
        let subjects: Vec<_> =
            list["items"].as_array().into_iter().flatten().map(|item| item["subjects"][0]["kind"].clone()).collect();
        let (none, account, group) = (Value::Null, json!("ServiceAccount"), json!("Group"));
        assert_eq!(subjects, [none.clone(), account.clone(), none.clone(), group, none, account]);
    }
}
