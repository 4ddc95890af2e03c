//! Everything that is tested through the library's public face and through the real binaries: one binary, one link.
#![allow(
    clippy::disallowed_methods,
    reason = "tests read the environment that scripts/test prepares, and the time of day"
)]

mod behavior;
mod budget;
mod config;
mod e2e;
mod faults;
mod http;
mod parity;
mod properties;
mod safety;
mod scenarios;
mod schedule;
mod several;
mod soak;
mod sources;
mod support;
mod targets;
mod tidy;
mod vectors;
