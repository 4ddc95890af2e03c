//! The bounds that a target itself asks for, in place of the configuration's.

use super::read::Status;
use crate::config::Service;
use crate::core::{Bounds, Unreadable};
use crate::error::ErrorKind;

/// Lets a service be decided within the bounds that its target asks for, and those within the deployment's hard bounds. Where
/// they do not fit the configuration's, the service is not scaled.
pub(super) fn follow(service: &mut Service, status: Status) -> Status {
    let mut status = status?;
    let Some(asked) = status.asked else { return Ok(status) };
    let ours = service.rules.bounds;
    let mut bounds = Bounds { min: asked.min.unwrap_or(ours.min), max: asked.max.unwrap_or(ours.max) };
    if bounds.max < bounds.min {
        let whose = |asked: Option<u32>| if asked.is_some() { "its labels" } else { "the configuration" };
        let detail = format!(
            "following the labels of {:?}: the least tasks are {} ({}), above the most, {} ({}); change one of them",
            service.name,
            bounds.min,
            whose(asked.min),
            bounds.max,
            whose(asked.max),
        );
        return Err(Unreadable { kind: ErrorKind::Config, detail });
    }
    let (lowest, highest) = (service.limits.min.unwrap_or(0), service.limits.max.unwrap_or(u32::MAX));
    for (what, count) in [("least", &mut bounds.min), ("most", &mut bounds.max)] {
        let within = (*count).max(lowest).min(highest);
        if within != *count {
            let warning = format!("the {what} tasks are {within}, a hard bound of the deployment, and not {count}");
            status.warnings.push(warning);
            *count = within;
        }
    }
    service.rules.bounds = bounds;
    Ok(status)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::core::{Asked, TargetStatus};
    use crate::run::toy::World;

    /// The bounds of a service of 0 to 10,000 tasks that asks for these, below these hard bounds.
    fn bounds(asked: [Option<u32>; 2], limits: [Option<u32>; 2]) -> Result<(u32, u32, usize), String> {
        static SERVICE: LazyLock<Service> =
            LazyLock::new(|| World::new("asked", &[("orders", 5)]).config().services.remove(0));
        let of = |[min, max]: [Option<u32>; 2]| Asked { min, max };
        let mut service = Service { limits: of(limits), ..SERVICE.clone() };
        let status = TargetStatus { asked: Some(of(asked)), ..TargetStatus::default() };
        let status = follow(&mut service, Ok(status)).map_err(|why| why.detail)?;
        Ok((service.rules.bounds.min, service.rules.bounds.max, status.warnings.len()))
    }

    #[test]
    fn a_service_is_decided_within_the_bounds_that_its_target_asks_for() {
        assert_eq!(bounds([Some(2), Some(6)], [None, None]), Ok((2, 6, 0)));
        assert_eq!(bounds([None, Some(6)], [None, None]), Ok((0, 6, 0)));
        assert_eq!(bounds([None, None], [None, None]), Ok((0, 10_000, 0)));
    }

    #[test]
    fn the_deployments_hard_bounds_stay_above_them() {
        assert_eq!(bounds([Some(0), Some(500)], [Some(1), Some(300)]), Ok((1, 300, 2)));
        assert_eq!(bounds([Some(400), Some(500)], [Some(1), Some(300)]), Ok((300, 300, 2)));
        assert_eq!(bounds([Some(2), Some(6)], [Some(1), Some(300)]), Ok((2, 6, 0)));
    }

    #[test]
    fn bounds_that_cross_those_of_the_configuration_scale_nothing() {
        let problem = bounds([Some(20_000), None], [None, None]).expect_err("they cross");
        assert!(problem.contains("20000 (its labels), above the most, 10000 (the configuration)"), "{problem}");
    }
}
