//! What URLs and hosts of a configuration may be connected to.
//!
//! A host may come from a payload, which may come from anybody who may invoke the function. Therefore no address of this
//! machine, of its link or of the cloud's own services is connected to, unless the deployment permits it; checked on the
//! addresses themselves, after DNS. Private networks may be named: brokers live there.
#![cfg_attr(not(feature = "full"), allow(dead_code, unused_imports, reason = "not every adapter needs everything"))]

mod guard;
#[cfg(feature = "http")]
mod http;
mod pem;
#[cfg(feature = "tcp")]
mod tcp;
#[cfg(any(feature = "docker", feature = "kafka", feature = "redis", feature = "swarm"))]
pub(crate) mod tls;

#[cfg(feature = "http")]
pub(crate) use http::{Answer, Ask, Credential, Endpoint, Http, Tls, host_and_port, names_of_path, parse};
pub(crate) use pem::pem;
#[cfg(feature = "tcp")]
pub(crate) use tcp::Tcp;
