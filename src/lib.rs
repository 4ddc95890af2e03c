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
#[cfg(feature = "aws")]
mod aws;
pub mod call;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
mod daemon;
pub mod error;
pub mod handler;
pub mod iam;
pub mod logging;
mod looping;
pub mod notifiers;
pub mod pace;
pub mod record;
pub mod run;
pub mod shared;
pub mod sources;
pub mod stores;
pub mod targets;
#[cfg(test)]
mod wire;
