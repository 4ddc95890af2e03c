//! Which services there are where a target's name has a `*`: asked at each tick, so that what appears later is scaled from then on.

use crate::call::{Call, together};
use crate::config::{Config, Found};
use crate::core::Unreadable;
use crate::shared::Shared;

/// Asks the targets what their patterns stand for, by the services' places in the configuration.
pub(crate) async fn discover(config: &Config, shared: &Shared, call: Call) -> Found {
    let patterns = config.services.iter().enumerate().filter(|(_, service)| service.identity.is_pattern());
    let ask = |place: usize| async move {
        let service = &config.services[place];
        let during = format!("looking for the services of {:?}", service.name);
        let found = call.run(&during, async { service.target.build(shared)?.discover().await }).await;
        match &found {
            Ok(all) if all.is_empty() => tracing::warn!(service = service.name, "it stands for no service now"),
            _ => {}
        }
        (place, found.map_err(|error| Unreadable { kind: error.kind(), detail: error.to_string() }))
    };
    together(patterns.map(|(place, _)| ask(place))).await.into_iter().collect()
}
