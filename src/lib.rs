//! Tidegate keeps the number of workers equal to the work.
//!
//! ```text
//! event ─┐                        ┌─ sources ─┐
//! env   ─┼─► config ─► run (tick) ┼─ targets ─┼─► Observation ─► core::decide ─► Decision
//! file  ─┘                        └─ stores  ─┘      (pure)                         │
//!                    notifiers ◄── Record ◄── target.set_desired ◄── store: intent ◄┘
//! ```
//!
//! Read in this order: [`core`] decides, [`run`](mod@run) ticks, [`config`] says what to do, [`adapter`] is how
//! [`sources`], [`targets`], [`stores`] and [`notifiers`] are known, [`handler`] is one invocation.
#![warn(missing_docs)]

pub mod adapter;
#[cfg(any(test, fuzzing))]
mod any;
#[cfg(feature = "aws")]
#[cfg_attr(not(feature = "full"), allow(dead_code, reason = "not every adapter needs everything"))]
mod aws;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
mod daemon;
mod discover;
pub mod error;
#[cfg_attr(not(feature = "full"), allow(dead_code, reason = "not every adapter needs it"))]
mod expression;
pub mod formula;
#[cfg(all(any(test, fuzzing), feature = "sqs", feature = "ecs", feature = "s3"))]
pub mod fuzzing;
pub mod handler;
pub mod iam;
pub mod logging;
mod looping;
#[cfg(any(feature = "http", feature = "tcp"))]
mod net;
pub mod notifiers;
pub mod pace;
#[cfg(test)]
mod properties;
pub mod record;
#[cfg_attr(
    not(all(feature = "s3", feature = "ssm")),
    allow(
        dead_code,
        unused_variables,
        reason = "a place that is not built in leaves its part of the common form unused"
    )
)]
pub mod remote;
pub mod run;
pub mod secrets;
pub mod shared;
pub mod simulator;
pub mod sources;
pub mod stores;
pub mod targets;
#[cfg(test)]
mod wire;
