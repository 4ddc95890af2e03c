//! Which addresses may be connected to.

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(feature = "http")]
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Host;

use crate::config::Network;

/// Which addresses may be connected to. It is the resolver of the clients, so that what it checked is what is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Guard {
    /// Whether this machine itself may be.
    pub loopback: bool,
    /// An address that is the Runtime API's.
    pub never: Option<IpAddr>,
}

/// Why a name was not connected to, as reqwest hands it through.
#[derive(Debug)]
pub(super) struct NotPermitted(pub String);

impl fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NotPermitted {}

#[cfg(feature = "http")]
impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let permitted = guard.addresses(name.as_str(), 0).await??;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

impl Guard {
    /// What the deployment permits on a port. The Runtime API is on this machine: on its port nothing of this machine may
    /// be asked, whatever is permitted.
    pub fn of(network: &Network, port: Option<u16>) -> Self {
        let runtime_api = network.runtime_api.as_deref().and_then(|address| address.rsplit_once(':'));
        let here = runtime_api.filter(|(_, its)| its.parse().ok() == port);
        match here {
            Some((host, _)) => Self { loopback: false, never: host.trim_matches(['[', ']']).parse().ok() },
            None => Self { loopback: network.local_addresses, never: None },
        }
    }

    /// The addresses of a host that may be connected to.
    pub async fn addresses(self, host: &str, port: u16) -> std::io::Result<Result<Vec<SocketAddr>, NotPermitted>> {
        let (mut permitted, mut refused) = (Vec::new(), None);
        for address in tokio::net::lookup_host((host, port)).await? {
            match self.refusal(address.ip()) {
                Some(why) => refused = Some(why),
                None => permitted.push(address),
            }
        }
        Ok(match refused.filter(|_| permitted.is_empty()) {
            Some(why) => Err(NotPermitted(why)),
            None => Ok(permitted),
        })
    }

    /// Why a host that is an address is not to be connected to, if it is not.
    pub fn refusal_of_literal<S>(self, host: &Host<S>) -> Option<String> {
        match host {
            Host::Ipv4(address) => self.refusal(IpAddr::V4(*address)),
            Host::Ipv6(address) => self.refusal(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        }
    }

    /// Why an address is not to be connected to, if it is not.
    pub fn refusal(self, address: IpAddr) -> Option<String> {
        if self.never.is_some_and(|never| never.to_canonical() == address.to_canonical()) {
            return Some(format!("{address} is the Runtime API, which is never asked"));
        }
        match Place::of(address) {
            Place::Loopback if self.loopback => None,
            Place::Elsewhere => None,
            Place::Loopback => {
                Some(format!("{address} is this machine; permit it with ALLOW_LOCAL_ADDRESSES=true in the environment"))
            }
            Place::LinkLocal => Some(format!("{address} is link-local, where clouds keep credentials; never asked")),
            Place::Metadata => Some(format!("{address} is a service of the cloud for its machines; never asked")),
            Place::Nobody => Some(format!("{address} is no single machine's address")),
        }
    }
}

/// What an address is, as far as it matters here.
enum Place {
    Loopback,
    LinkLocal,
    Metadata,
    /// Unspecified, multicast, broadcast or reserved.
    Nobody,
    Elsewhere,
}

impl Place {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) if address.is_loopback() => Self::Loopback,
            IpAddr::V6(address) if address.is_unspecified() || address.is_multicast() => Self::Nobody,
            IpAddr::V6(address) if address.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(address) if is_metadata(address) => Self::Metadata,
            IpAddr::V6(address) => embedded(address).map_or(Self::Elsewhere, Self::of_v4),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            // Alibaba Cloud's, Azure's and Oracle Cloud's.
            [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => Self::Metadata,
            // 0/8 is this network, 224/4 multicast, 240/4 reserved: <https://www.iana.org/assignments/iana-ipv4-special-registry>.
            [0 | 224.., ..] => Self::Nobody,
            _ => Self::Elsewhere,
        }
    }
}

/// AWS keeps what is 169.254 in IPv4 below `fd00:ec2::` (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>),
/// Google Cloud at `fd20:ce::254`.
fn is_metadata(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254])
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, by NAT64 or by 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0 | 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}
