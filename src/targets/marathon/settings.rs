//! What a `marathon` target is told, and what is wrong with it.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::KIND;
use crate::adapter::{Identity, parse};
use crate::config::{Reference, Secret};
use crate::net::{self, Credential};

/// The settings of a `marathon` target.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// The URL of Marathon, without `/v2`, such as `https://marathon.internal:8443` or, behind DC/OS, `https://dcos.internal/service/marathon`.
    #[schemars(length(min = 1, max = 2048))]
    pub(super) url: String,
    /// The application's id with its groups, such as `/shop/orders`. A `*` in it stands for any text, groups too: all applications that match.
    #[schemars(length(min = 1, max = 512))]
    pub(super) app: String,
    /// Which labels the applications must have that a `*` stands for, as a label selector of Marathon's: `team==shop,tier!=test`. Default: any.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1024))]
    pub(super) label: Option<String>,
    /// Whether the application's own labels, such as `tidegate.min` or `com.microscaling.max-containers`, take the place of the configured bounds,
    /// within the deployment's hard bounds, and may pause it.
    #[serde(default)]
    pub(super) follow_labels: bool,
    /// The user to be.
    #[serde(default)]
    #[schemars(with = "Basic")]
    basic: Option<Basic>,
    /// The token to send as `Authorization: Bearer`, for a gateway; a reference such as `env:NAME` or `file:PATH`, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    bearer_token: Option<Reference>,
    /// The token to send as `Authorization: token=…`, as DC/OS takes it; a reference, or the token itself.
    #[serde(default)]
    #[schemars(with = "Secret<String>")]
    dcos_token: Option<Reference>,
    /// A CA that is trusted beside the system's: PEM, or the path of a file of it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    pub(super) ca: Option<String>,
    /// Whether not to verify certificates. Takes `ALLOW_INSECURE_TLS=true`, and each tick warns.
    #[serde(default)]
    pub(super) insecure_tls: bool,
}

/// A user's name and password, sent as `Authorization: Basic`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Basic {
    /// The user's name.
    #[schemars(length(min = 1))]
    user: String,
    /// The password; a reference such as `env:NAME` or `file:PATH`, or the password itself.
    password: Reference,
}

type Login<'a> = Box<dyn Fn(Secret<String>) -> Credential + Send + Sync + 'a>;

impl Settings {
    /// The id from the root, `/shop/orders`.
    pub(super) fn id(&self) -> String {
        format!("/{}", self.app.trim_start_matches('/'))
    }

    /// The id of an application of the same group.
    pub(super) fn id_of(&self, name: &str) -> String {
        let id = self.id();
        let group = id.rsplit_once('/').map_or("", |(group, _)| group);
        format!("{group}/{name}")
    }

    /// The secret, and what it makes of a request.
    pub(super) fn login(&self) -> Option<(&Reference, Login<'_>)> {
        match (&self.basic, &self.bearer_token, &self.dcos_token) {
            (Some(Basic { user, password }), ..) => {
                let login = |password| Credential::Basic { user: user.clone(), password };
                Some((password, Box::new(login)))
            }
            (None, Some(token), _) => Some((token, Box::new(Credential::Bearer))),
            (None, None, Some(token)) => {
                let login = |token: Secret<String>| Credential::Raw(Secret::new(format!("token={}", token.expose())));
                Some((token, Box::new(login)))
            }
            (None, None, None) => None,
        }
    }
}

pub(super) fn check(settings: &Value) -> Vec<(String, String)> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let mut problems: Vec<_> = net::parse(&settings.url).err().into_iter().collect();
    let mut add = |problem: &str, remedy: &str| problems.push((problem.to_owned(), remedy.to_owned()));
    if !settings.id()[1..].split('/').all(is_segment) {
        add("has an app that is no id", "give it as Marathon shows it, such as /shop/orders");
    }
    if settings.label.is_some() && !settings.app.contains('*') {
        add("has a label and an app without a *", "take out the label, or let the app be a pattern such as /shop/*");
    }
    let logins = [settings.basic.is_some(), settings.bearer_token.is_some(), settings.dcos_token.is_some()];
    if 1 < logins.iter().filter(|is_there| **is_there).count() {
        add("has more than one of basic, bearer_token and dcos_token", "keep one of them");
    }
    problems
}

/// Lower-case letters, digits, hyphens and dots, the first and the last neither hyphen nor dot: an id's own segments
/// (<https://mesosphere.github.io/marathon/docs/application-groups.html>), and those of a pattern.
fn is_segment(segment: &str) -> bool {
    let is_inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'*');
    let is_outer = |byte: Option<u8>| byte.is_some_and(|byte| !matches!(byte, b'-' | b'.'));
    segment.bytes().all(is_inner) && is_outer(segment.bytes().next()) && is_outer(segment.bytes().last())
}

/// Several Marathons may stand behind one host.
pub(super) fn identities(settings: &Value, _region: &str) -> Vec<Identity> {
    let Ok(settings) = parse::<Settings>(settings) else { return Vec::new() };
    let Ok(url) = net::parse(&settings.url) else { return Vec::new() };
    let id = settings.app.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    vec![Identity {
        provider: KIND.name,
        region: net::host_and_port(&url),
        account: Some("-".to_owned()),
        path: [net::names_of_path(&url), id].concat(),
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(app: &str, more: Value) -> Value {
        let mut settings = json!({ "url": "https://dcos.internal/service/marathon", "app": app });
        settings.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        settings
    }

    #[test]
    fn an_application_is_itself_and_its_neighbours_with_or_without_a_slash() {
        for app in ["/shop/eu/orders", "shop/eu/orders"] {
            let settings: Settings = parse(&with(app, json!({}))).expect("valid settings");
            assert_eq!((settings.id(), settings.id_of("mail")), ("/shop/eu/orders".into(), "/shop/eu/mail".into()));
            let identity = identities(&with(app, json!({})), "-").pop().expect("one");
            assert_eq!(identity.to_string(), "marathon:dcos.internal:443/-/service/marathon/shop/eu/orders");
        }
        let settings: Settings = parse(&with("orders", json!({}))).expect("valid settings");
        assert_eq!((settings.id(), settings.id_of("mail")), ("/orders".into(), "/mail".into()));
    }

    #[test]
    fn settings_that_marathon_cannot_have_are_refused_all_at_once() {
        for app in ["/", "/shop//orders", "/shop/../orders", "/shop/.", "/Shop", "/shop/-a", "/shop/a b", "/shop/"] {
            assert_eq!(check(&with(app, json!({}))).len(), 1, "{app}");
        }
        for app in ["orders", "/shop/orders.v2", "/shop/*", "/*/orders-*"] {
            assert!(check(&with(app, json!({}))).is_empty(), "{app}");
        }
        let wrong = json!({ "url": "marathon", "label": "a", "bearer_token": "canary", "dcos_token": "canary" });
        let problems = check(&with("/A", wrong));
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(!format!("{problems:?}").contains("canary"));
    }
}
