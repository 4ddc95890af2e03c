//! Connections to a host and a port, for adapters with a protocol of their own.

use std::net::SocketAddr;

use url::Host;

use super::guard::Guard;
use crate::config::Network;
use crate::error::{Error, ErrorKind, Result};

/// What adapters with a protocol of their own may connect to.
#[derive(Debug, Clone)]
pub(crate) struct Tcp {
    network: Network,
}

impl Tcp {
    pub(crate) fn new(network: &Network) -> Self {
        Self { network: network.clone() }
    }

    /// What the deployment permits.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The addresses of a host that may be connected to, at least one. An adapter connects to these, and gives TLS the
    /// host's name. Where its library resolves names itself, this is asked first, and an answer of DNS that changes
    /// in between is not seen.
    ///
    /// # Errors
    /// `Config` for an address that may not be connected to, `Unavailable` for a name that has none.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        let during = || format!("connecting to {host}:{port}");
        let guard = Guard::of(&self.network, Some(port));
        let literal = Host::parse(host).ok().and_then(|host| guard.refusal_of_literal(&host));
        if let Some(why) = literal {
            return Err(Error::new(ErrorKind::Config, during(), why));
        }
        let bare = host.trim_matches(['[', ']']);
        let found = guard.addresses(bare, port).await.map_err(|error| {
            Error::new(ErrorKind::Unavailable, during(), format!("the name has no address: {error}"))
        })?;
        let addresses = found.map_err(|why| Error::new(ErrorKind::Config, during(), why.to_string()))?;
        match addresses.is_empty() {
            true => Err(Error::new(ErrorKind::Unavailable, during(), "the name has no address")),
            false => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_host_leads_to_this_machine_or_to_the_clouds_own_services_without_a_permit() {
        let refused = Tcp::new(&Network::default());
        let permitted = Tcp::new(&Network { local_addresses: true, ..Network::default() });
        for host in ["127.0.0.1", "localhost", "::1", "[::1]", "2130706433", "0x7f.1"] {
            let error = refused.addresses(host, 6379).await.expect_err(host);
            assert_eq!(error.kind(), ErrorKind::Config, "{host}: {error}");
            assert!(error.to_string().contains("ALLOW_LOCAL_ADDRESSES"), "{host}: {error}");
        }
        assert_eq!(permitted.addresses("127.0.0.1", 6379).await.expect("permitted").len(), 1);
        for host in ["169.254.169.254", "2852039166", "fd00:ec2::254", "0.0.0.0"] {
            assert_eq!(permitted.addresses(host, 80).await.expect_err(host).kind(), ErrorKind::Config, "{host}");
        }
    }
}
