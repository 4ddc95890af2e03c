//! Fly Machines: how many machines of an app's process group run, or how many there are.
//!
//! Reads the [list of machines](https://fly.io/docs/machines/api/machines-resource/#list-machines), and starts, stops, suspends,
//! creates and destroys them one by one. The count is, by `mode`, of the machines that run (`start_stop`, `suspend`) or of
//! those that are there (`create_destroy`). Two services, one of each, may scale both of one process group: their identities differ.
//!
//! A scale-in stops machines that are still starting first, then those that run, by their id. It destroys stopped machines first,
//! then those never started, suspended ones, and last those that run, in the order of the API. With `order: newest` those that
//! run go newest first. A machine that stops has its own time for that; one that runs is asked to stop before it is destroyed,
//! unless `kill` is set, and is destroyed once it has stopped: for one that takes longer than two seconds the tick fails, and a later
//! one destroys it. The last machine is not destroyed unless `destroy_last` is set: of none, none can be copied.
//!
//! As [fly-autoscaler](https://github.com/superfly/fly-autoscaler) does it, and what differs:
//! - Machines on hosts that Fly does not reach, and those of other process groups, count for nothing. Machines that are
//!   being destroyed do not count either.
//! - A machine that cannot be started or stopped is left out, and the next one is taken. Not where nothing is known of the
//!   machine afterwards, so that no reply that was lost makes one too many.
//! - With `create_destroy` a machine that is off counts as asked for, and a warning says so. A scale-out starts it before it creates
//!   others, unless new ones are not started either (`initial_state`); fly-autoscaler creates others beside it.
//! - A machine that cannot be created ends the tick; fly-autoscaler tries it without end. Fly takes three a second at first, then one.
//! - New machines go where the fewest are; fly-autoscaler goes round the regions and forgets where it was.
//! - Suspended machines and those never started are started, too.
//! - Whether a release is under way, fly-autoscaler asks Fly's GraphQL API, which Fly calls internal. Here it is seen in the
//!   machines: a deployment has leases on all that it changes, and puts them through `updating` or `replacing`. A release that
//!   has not come to this process group yet, or runs its release command, is not seen.

mod api;
mod machine;
mod scale;
mod settings;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use self::api::Api;
use self::machine::{Machine, Phase, State};
use self::settings::{Mode, Settings, check, identities};
use super::{Applied, Target, fingerprint};
use crate::adapter::{Kind, parse, schema_of};
use crate::config::matches_pattern;
use crate::core::TargetStatus;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

pub(super) static KIND: Kind<dyn Target> = Kind {
    name: "fly",
    aliases: &[],
    about: "Fly Machines: how many of a process group run, or how many there are.",
    renamed: &[
        ("app-name", "app"),
        ("process-group", "process_group"),
        ("initial-machine-state", "initial_state"),
        ("api-token", "token"),
    ],
    env: &[],
    schema: schema_of::<Settings>,
    check,
    identities,
    permissions: |_, _| Ok(Vec::new()),
    build,
    #[cfg(test)]
    contract: tests::CONTRACT,
};

fn build(settings: &Value, shared: &Shared) -> Result<Box<dyn Target>> {
    let given = settings.clone();
    let settings = parse::<Settings>(settings)?;
    let api = Api::new(&settings, shared)?;
    let asked_with = fingerprint(&given, &["process_group"]);
    Ok(Box::new(Fly { api, settings, given, asked_with }))
}

struct Fly {
    api: Api,
    settings: Settings,
    /// The settings as they were given, for those of the apps that are discovered.
    given: Value,
    asked_with: String,
}

impl fmt::Debug for Fly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fly({:?}, {:?})", self.settings.app, self.api)
    }
}

#[async_trait]
impl Target for Fly {
    async fn statuses(&self, groups: &[String]) -> Vec<Result<TargetStatus>> {
        let machines = self.machines().await.map_err(Arc::new);
        let status = |group: &String| match &machines {
            Ok(machines) => self.status(machines, group),
            // One call, one error: each of its services carries it.
            Err(error) => Err(Error::new(error.kind(), "", error.to_string()).caused_by(error.clone())),
        };
        let told = |group: &String| status(group).map_err(|error| self.about("reading status", group, error));
        groups.iter().map(told).collect()
    }

    fn asked_with(&self) -> &str {
        &self.asked_with
    }

    async fn discover(&self) -> Result<Vec<Value>> {
        let during = || format!("looking for apps {:?}", self.settings.app);
        let Some(org) = self.settings.org.as_ref().filter(|_| self.settings.is_wildcard()) else {
            return Err(Error::new(
                ErrorKind::Refused,
                during(),
                "that is one app; put a * into its name, and add org",
            ));
        };
        let apps = self.api.apps(org).await;
        let mut apps = apps.map_err(|error| Error::new(error.kind(), during(), error.to_string()).caused_by(error))?;
        apps.retain(|app| matches_pattern(&self.settings.app, app));
        apps.sort();
        let settings = |app: String| {
            let mut settings = self.given.clone();
            if let Some(settings) = settings.as_object_mut() {
                settings.insert("app".to_owned(), app.into());
                settings.remove("org");
            }
            settings
        };
        Ok(apps.into_iter().map(settings).collect())
    }

    async fn set_desired(&self, group: &str, desired: u32) -> Result<Applied> {
        let told = |error| self.about(&format!("setting {desired} machines"), group, error);
        let machines = self.machines().await.map_err(told)?;
        let (machines, _) = self.of_group(&machines, group).map_err(told)?;
        let (there, wanted) = (self.count(&machines), desired as usize);
        let changed = match self.settings.mode {
            _ if there == wanted => return Ok(Applied::AlreadyThere),
            Mode::CreateDestroy if there < wanted => self.create(&machines, wanted - there).await,
            Mode::CreateDestroy => self.destroy(&machines, wanted).await,
            Mode::StartStop | Mode::Suspend if there < wanted => self.start(&machines, wanted - there).await,
            Mode::StartStop | Mode::Suspend => self.stop(&machines, there - wanted).await,
        };
        changed.map(|()| Applied::Set).map_err(told)
    }
}

impl Fly {
    fn about(&self, what: &str, group: &str, error: Error) -> Error {
        let during = format!("{what} of process group {group:?} of app {:?}", self.settings.app);
        Error::new(error.kind(), during, error.to_string()).caused_by(error)
    }

    async fn machines(&self) -> Result<Vec<Machine>> {
        if self.settings.is_wildcard() {
            let cause = "a name with * stands for several apps, each of which is a target of its own";
            return Err(Error::new(ErrorKind::Config, "", cause));
        }
        self.api.machines(&self.settings.app).await
    }

    /// The machines of a process group that are there, in the order of the API, and how many more may be there, on hosts
    /// that Fly does not reach.
    fn of_group<'a>(&self, machines: &'a [Machine], group: &str) -> Result<(Vec<&'a Machine>, usize)> {
        let there = machines.iter().filter(|machine| machine.phase() != Phase::Gone);
        let (reachable, others): (Vec<_>, Vec<_>) = there.partition(|machine| machine.is_reachable());
        let others = others.iter().filter(|machine| machine.process_group().is_ok_and(|of| of == group)).count();
        let mut found = Vec::new();
        for machine in reachable {
            let of = machine.process_group().map_err(|cause| Error::new(ErrorKind::Malformed, "", cause))?;
            if of == group {
                found.push(machine);
            }
        }
        match (found.is_empty(), others) {
            (true, 0) if !self.settings.destroy_last => {
                let cause = "it has no machines; `fly deploy` makes the first";
                Err(Error::new(ErrorKind::NotFound, "", cause))
            }
            (true, 1..) => {
                let cause = "Fly does not reach any of the hosts that its machines are on";
                Err(Error::new(ErrorKind::Unavailable, "", cause))
            }
            _ => Ok((found, others)),
        }
    }

    fn status(&self, machines: &[Machine], group: &str) -> Result<TargetStatus> {
        let (machines, unreachable) = self.of_group(machines, group)?;
        let count = |is_one: &dyn Fn(&Machine) -> bool| machines.iter().filter(|machine| is_one(machine)).count();
        let launches = self.settings.launches();
        let is_pending = |machine: &Machine| {
            matches!(machine.phase(), Phase::Rising | Phase::Changing) || (launches && machine.state == State::Created)
        };
        let failed = count(&|machine| machine.state == State::Failed);
        let idle = if launches { count(&|machine| machine.is_idle()) } else { 0 };
        let warnings = [
            (idle, "that are off, and count as asked for; a scale-out starts them first"),
            (unreachable, "on hosts that Fly does not reach, which are not counted"),
            (failed, "that failed; `fly machine restart` or `fly machine destroy` mends it"),
        ];
        let warning = |(number, what): (usize, &str)| (0 < number).then(|| format!("{number} machines {what}"));
        Ok(TargetStatus {
            desired: tasks(self.count(&machines)),
            running: tasks(count(&|machine| machine.phase() == Phase::On)),
            pending: tasks(count(&is_pending)),
            rolling_out: machines.iter().any(|machine| machine.is_held()),
            warnings: warnings.into_iter().filter_map(warning).collect(),
            ..TargetStatus::default()
        })
    }

    /// How many were asked for: the machines that are there, or those of them that run or are about to.
    fn count(&self, machines: &[&Machine]) -> usize {
        match self.settings.mode {
            Mode::CreateDestroy => machines.len(),
            Mode::StartStop | Mode::Suspend => machines.iter().filter(|machine| machine.is_meant_to_run()).count(),
        }
    }
}

fn tasks(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
