//! What a `kubernetes` target is told, and what is wrong with it.

use kube::core::{ApiResource, GroupVersionKind};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::iam::is_region;
use crate::net;

/// The settings of a `kubernetes` target. They have no `Debug`, since a token may be among them.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The resource's name. With a `*` in it, which stands for any text, every one that fits is found (`discover`).
    #[schemars(length(min = 1, max = 253))]
    pub(super) name: String,
    /// The namespace.
    #[serde(default = "default_namespace")]
    #[schemars(length(min = 1, max = 63))]
    pub(super) namespace: String,
    /// The kind: `Deployment`, `StatefulSet`, `ReplicaSet`, or any other that has a scale subresource.
    #[serde(default = "deployment")]
    #[schemars(length(min = 1, max = 63))]
    pub(super) kind: String,
    /// The kind's group and version, or the version alone for what is in no group.
    #[serde(default = "apps")]
    #[schemars(length(min = 1, max = 253))]
    pub(super) api_version: String,
    /// What the kind is called in URLs; its plural in lower case where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 63))]
    resource: Option<String>,
    /// A label selector, such as `app=orders,tier!=test`, that what a `*` finds must fit too.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub(super) selector: Option<String>,
    /// Whether Tidegate scales what a HorizontalPodAutoscaler scales too, KEDA's among them. The two undo each other's work.
    /// Where it is allowed, none is looked for, and `list` on `horizontalpodautoscalers` is not needed.
    #[serde(default)]
    pub(super) allow_other_scaler: bool,
    /// Whether the annotations `tidegate/min` and `tidegate/max` take the place of the configured bounds, within the
    /// deployment's hard bounds.
    #[serde(default)]
    pub(super) follow_labels: bool,
    /// The API server, https. Where neither this nor `kubeconfig` is given, it is that of the cluster that Tidegate runs in,
    /// and the token and CA are those of its service account.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 2048))]
    pub(super) url: Option<String>,
    /// The cluster's CA, which then alone is trusted: PEM, the path of a file of it, or PEM in base64 as EKS gives it. The
    /// system's CAs are trusted where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub(super) insecure_tls: bool,
    /// The token to send as `Authorization: Bearer`; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    pub(super) token: Option<Reference>,
    /// The name of the EKS cluster at `url`, to which the function's or the command's own AWS credentials prove who asks, in
    /// place of a token.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 100))]
    pub(super) eks_cluster: Option<String>,
    /// The region of the EKS cluster.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) region: Option<String>,
    /// The path of a kubeconfig, in place of `url`. It may name a program that gives the credential, so that it is not for
    /// a payload. `KUBECONFIG` is not looked at.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) kubeconfig: Option<String>,
    /// The context of the kubeconfig; its current one where it is left out.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) context: Option<String>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn deployment() -> String {
    "Deployment".to_owned()
}

fn apps() -> String {
    "apps/v1".to_owned()
}

impl Settings {
    /// The group, empty for that of pods and services, and the version.
    pub(super) fn group_and_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }

    /// What the kind is called in URLs: as given, or by the rules of English that kube-rs has.
    pub(super) fn plural(&self) -> String {
        self.resource.clone().unwrap_or_else(|| self.usual_plural())
    }

    fn usual_plural(&self) -> String {
        let (group, version) = self.group_and_version();
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &self.kind)).plural
    }

    /// The kind, and one of Kubernetes' own as Kubernetes writes it: what is asked for is told by group and plural alone.
    pub(super) fn kind(&self) -> &str {
        self.own_kind().unwrap_or(&self.kind)
    }

    fn own_kind(&self) -> Option<&'static str> {
        match (self.group_and_version().0, self.plural().as_str()) {
            ("apps", "deployments") => Some("Deployment"),
            ("apps", "statefulsets") => Some("StatefulSet"),
            ("apps", "replicasets") => Some("ReplicaSet"),
            _ => None,
        }
    }

    /// The resource as `kubectl` names it: `deployments.apps`.
    pub(super) fn resource(&self) -> String {
        match self.group_and_version() {
            ("", _) => self.plural(),
            (group, _) => format!("{}.{group}", self.plural()),
        }
    }

    /// Whether it is one of Kubernetes' own, whose count stands in `spec.replicas`: the one object tells everything.
    pub(super) fn is_built_in(&self) -> bool {
        self.own_kind().is_some()
    }

    /// Which cluster, as far as the settings tell: where it is, and what of the path there tells it from others behind one host.
    fn cluster(&self) -> (String, Vec<String>) {
        let url = self.url.as_deref().and_then(|url| Url::parse(url).ok());
        match (url, &self.kubeconfig, &self.context) {
            (Some(url), ..) => (net::host_and_port(&url), net::names_of_path(&url)),
            (None, Some(path), Some(context)) => (format!("{path}#{context}"), Vec::new()),
            (None, Some(path), None) => (path.clone(), Vec::new()),
            (None, None, _) => ("in-cluster".to_owned(), Vec::new()),
        }
    }

    /// The cluster in one word, `gateway.internal:443/clusters/a`.
    pub(super) fn name_of_cluster(&self) -> String {
        let (place, names) = self.cluster();
        [vec![place], names].concat().join("/")
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut wrong = |is_wrong: bool, problem: &str, remedy: &str| {
        if is_wrong {
            problems.push((problem.to_owned(), remedy.to_owned()));
        }
    };
    let (group, version) = settings.group_and_version();
    let is_known = is_word(version) && (group.is_empty() || is_name(group));
    wrong(!is_known, "has an api_version that is none", "give one such as apps/v1");
    let has_kind = settings.kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
    wrong(!has_kind, "has a kind that is none", "give one such as Deployment");
    let remedy = "scale the nodes, or use a Deployment";
    wrong(
        settings.kind.eq_ignore_ascii_case("DaemonSet"),
        "is a DaemonSet, which runs one pod on every node and has no count",
        remedy,
    );
    wrong(
        !settings.resource.as_deref().is_none_or(is_word),
        "has a resource that is none",
        "give one such as deployments",
    );
    let is_of_kind =
        settings.resource.as_ref().is_none_or(|resource| group != "apps" || *resource == settings.usual_plural());
    wrong(!is_of_kind, "has a resource of another kind", "leave resource out: kind says it");
    wrong(!is_word(&settings.namespace), "has a namespace that is none", "give its name");
    wrong(!is_name(&settings.name.replace('*', "x")), "has a name that no resource can have", "give its name");
    let is_pattern = settings.name.contains('*');
    wrong(
        settings.selector.is_some() && !is_pattern,
        "has a selector and one name",
        "give name as * or leave selector out",
    );
    problems.extend(settings.problems_of_access());
    problems
}

impl Settings {
    /// What is wrong with how the cluster is reached.
    fn problems_of_access(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut wrong = |is_wrong: bool, problem: &str, remedy: &str| {
            if is_wrong {
                problems.push((problem.to_owned(), remedy.to_owned()));
            }
        };
        let (by_url, by_file) = (self.url.is_some(), self.kubeconfig.is_some());
        let of_url = self.ca.is_some() || self.token.is_some() || self.insecure_tls || self.eks_cluster.is_some();
        wrong(by_url && by_file, "has both url and kubeconfig", "keep one of them");
        wrong(
            of_url && !by_url,
            "has ca, token, insecure_tls or eks_cluster without url",
            "give the API server as url",
        );
        wrong(
            self.context.is_some() && !by_file,
            "has a context without kubeconfig",
            "give the path of the kubeconfig",
        );
        let is_eks = self.eks_cluster.is_some();
        wrong(is_eks && self.token.is_some(), "has both token and eks_cluster", "keep one of them");
        wrong(self.region.is_some() && !is_eks, "has a region without eks_cluster", "leave it out");
        wrong(!self.region.as_deref().is_none_or(is_region), "has a region that is none", "give one such as eu-west-1");
        let is_cluster = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        wrong(!self.eks_cluster.as_deref().is_none_or(is_cluster), "has an eks_cluster that is none", "give its name");
        if let Some(url) = &self.url {
            let read = Url::parse(url).ok();
            let is_plain = read.as_ref().is_some_and(|url| {
                matches!(url.scheme(), "https" | "http")
                    && url.has_host()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            wrong(!is_plain || url.contains(char::is_whitespace), "is no URL of https", "give https://HOST:PORT");
            let has_user = read.is_some_and(|url| !url.username().is_empty() || url.password().is_some());
            wrong(has_user, "has a credential in its URL", "take it out, and give a token");
        }
        problems
    }
}

/// A DNS label, or a version: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(plain)
}

/// Labels with dots between them.
fn is_name(text: &str) -> bool {
    text.split('.').all(is_word)
}

pub(super) fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let (region, names) = settings.cluster();
    let path = [names, vec![settings.namespace.clone(), settings.resource(), settings.name]].concat();
    vec![Identity { provider: KIND.name, region, account: Some("-".to_owned()), path }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(more: Value) -> Value {
        let mut settings = json!({ "name": "orders" });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        settings
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let url = "https://k8s.internal:6443";
        for settings in [
            json!({ "url": url, "kubeconfig": "/etc/kubeconfig" }),
            json!({ "token": "env:TOKEN" }),
            json!({ "ca": "/etc/ca.pem" }),
            json!({ "insecure_tls": true }),
            json!({ "eks_cluster": "shop" }),
            json!({ "context": "shop" }),
            json!({ "url": url, "token": "env:TOKEN", "eks_cluster": "shop" }),
            json!({ "url": url, "region": "eu-west-1" }),
            json!({ "url": url, "eks_cluster": "shop", "region": "example.com/" }),
            json!({ "url": url, "eks_cluster": "shop\r\nx: y" }),
            json!({ "url": "ftp://k8s.internal" }),
            json!({ "url": "https://k8s.internal/?token=canary" }),
            json!({ "url": "https://user:canary@k8s.internal" }),
            json!({ "api_version": "apps/v1/x" }),
            json!({ "kind": "Deploy/ment" }),
            json!({ "kind": "DaemonSet" }),
            json!({ "api_version": "example.com/v1", "resource": "a/b" }),
            json!({ "resource": "statefulsets" }),
            json!({ "kind": "Proxy", "resource": "deployments" }),
            json!({ "kind": "daemonset" }),
            json!({ "namespace": "a/b" }),
            json!({ "name": "../orders" }),
            json!({ "selector": "app=orders" }),
        ] {
            let problems = check(&with(settings.clone()));
            assert_eq!(problems.len(), 1, "{settings}: {problems:?}");
            assert!(!format!("{problems:?}").contains("canary"));
        }
        for settings in [
            json!({}),
            json!({ "url": url, "token": "env:TOKEN", "ca": "/etc/ca.pem" }),
            json!({ "url": url, "eks_cluster": "shop", "region": "eu-west-1" }),
            json!({ "kubeconfig": "/etc/kubeconfig", "context": "shop" }),
            json!({ "name": "orders-*", "selector": "app=orders" }),
            json!({ "api_version": "v1", "kind": "ReplicationController" }),
        ] {
            assert_eq!(check(&with(settings.clone())), [], "{settings}");
        }
    }

    #[test]
    fn what_is_asked_for_together_is_of_one_cluster_namespace_and_kind() {
        let identity = |more: Value| identities(&with(more), "").pop().expect("it has one").to_string();
        assert_eq!(identity(json!({})), "kubernetes:in-cluster/-/default/deployments.apps/orders");
        let rollout = json!({
            "url": "https://k8s.internal", "namespace": "shop", "api_version": "argoproj.io/v1alpha1", "kind": "Rollout",
        });
        assert_eq!(identity(rollout), "kubernetes:k8s.internal:443/-/shop/rollouts.argoproj.io/orders");
        let file =
            json!({ "kubeconfig": "/etc/k", "context": "a", "api_version": "v1", "kind": "ReplicationController" });
        assert_eq!(identity(file), "kubernetes:/etc/k#a/-/default/replicationcontrollers/orders");
        let behind =
            |cluster: &str| identity(json!({ "url": format!("https://rancher.internal/k8s/clusters/{cluster}") }));
        assert_eq!(behind("a/"), "kubernetes:rancher.internal:443/-/k8s/clusters/a/default/deployments.apps/orders");
        assert_ne!(behind("a"), behind("b"));
        let odd = json!({ "kind": "Mouse", "resource": "mice", "api_version": "example.com/v1" });
        assert_eq!(identity(odd), "kubernetes:in-cluster/-/default/mice.example.com/orders");
    }
    #[test]
    fn a_kind_of_kubernetes_own_is_itself_however_it_is_written() {
        for (kind, known) in
            [("deployment", "Deployment"), ("STATEFULSET", "StatefulSet"), ("replicaSet", "ReplicaSet")]
        {
            let settings: Settings = parse(&with(json!({ "kind": kind, "api_version": "apps/v1" }))).expect("valid");
            assert_eq!((settings.kind(), settings.is_built_in()), (known, true));
        }
        let other: Settings =
            parse(&with(json!({ "kind": "Deployment", "api_version": "example.com/v1" }))).expect("valid");
        assert_eq!((other.kind(), other.is_built_in()), ("Deployment", false), "it is of another group");
    }
}
