//! Which addresses outgoing calls may reach: those of the public Internet, and the networks that
//! the operator allows. `outbound` asks it about every address before a connection is made, so that
//! an app's configuration cannot be used to reach what only this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// What is not the public Internet: IANA's registry of special-purpose addresses, and one more.
const NOT_PUBLIC_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this host, unspecified
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // between a provider and its customers (CGNAT)
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // a cloud's agent on each of its hosts
    v4(169, 254, 0, 0, 16),   // link-local, where clouds keep their metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // former 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarks
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// All that IPv6 has of public unicast addresses.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What of it is not the public Internet.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 23),     // protocol assignments, Teredo, benchmarks
    v6(0x2001, 0xdb8, 0, 32), // documentation
    v6(0x2002, 0, 0, 16),     // 6to4; judged by the IPv4 address inside
    v6(0x3fff, 0, 0, 20),     // documentation
];

/// Networks whose addresses stand for the IPv4 address inside, and the octet at which it begins.
const EMBEDDING: [(Ipv6Net, usize); 2] = [
    (v6(0x64, 0xff9b, 0, 96), 12), // NAT64
    (v6(0x2002, 0, 0, 16), 2),     // 6to4
];

/// The networks that an operator allows beside the public Internet.
#[derive(Debug, Clone, Default)]
pub struct Allowed(Vec<IpNet>);

impl Allowed {
    /// These networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Allowed {
        Allowed(networks)
    }

    /// Whether a call may go to an address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        // An IPv4 address may be written as an IPv6 one.
        let address = address.to_canonical();
        let inner = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address),
        };
        let named = |address: IpAddr| self.0.iter().any(|network| network.contains(&address));
        named(address)
            || match (address, inner) {
                (IpAddr::V4(address), _) | (IpAddr::V6(_), Some(address)) => {
                    named(address.into()) || !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address))
                }
                (IpAddr::V6(address), None) => {
                    PUBLIC_V6.contains(&address)
                        && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
                }
            }
    }
}

/// The IPv4 address that an IPv6 address leads to.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (_, at) = EMBEDDING.iter().find(|(network, _)| network.contains(&address))?;
    let octets = address.octets();
    let inner: [u8; 4] = octets.get(*at..at + 4)?.try_into().ok()?;
    Some(inner.into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn permitted(allowed: &[&str], address: &str) -> bool {
        let networks = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Allowed::new(networks).permits(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_permitted() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
        ] {
            assert!(permitted(&[], address), "{address}");
        }
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:0.0.0.0",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "3fff:fff:ffff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!permitted(&[], address), "{address}");
        }
    }

    #[test]
    fn a_network_that_the_operator_allows_is_permitted_however_it_is_written() {
        let allowed = ["10.1.0.0/16", "fd00::/8", "127.0.0.1/32"];
        for address in [
            "10.1.0.0",
            "10.1.255.255",
            "::ffff:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:a01:203::1",
            "fd12::1",
            "127.0.0.1",
            "8.8.8.8",
        ] {
            assert!(permitted(&allowed, address), "{address}");
        }
        for address in ["10.0.255.255", "10.2.0.0", "::ffff:10.2.0.0", "127.0.0.2", "::1", "fe80::"]
        {
            assert!(!permitted(&allowed, address), "{address}");
        }
    }

    #[test]
    fn all_of_ipv6_or_ipv4_can_be_allowed() {
        for (network, address) in [("0.0.0.0/0", "10.0.0.1"), ("::/0", "::1")] {
            assert!(permitted(&[network], address), "{address}");
        }
        assert!(!permitted(&["0.0.0.0/0"], "::1"));
        assert!(!permitted(&["::/0"], "10.0.0.1"));
    }
}
