//! Networks as the configuration writes them, and whether an address is in one.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation (RFC 4632), or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address with a number of bits.
    #[error("is not a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"")]
    Form,
    /// The address has bits beyond the prefix: one of the two is not what was meant.
    #[error("has address bits beyond its prefix")]
    HostBits,
}

impl Cidr {
    /// Whether the network holds this address. An IPv4 address that came over an IPv6 socket is
    /// that IPv4 address (RFC 4291, section 2.5.5.2).
    pub fn contains(&self, address: IpAddr) -> bool {
        let (address, width) = bits(address.to_canonical());
        let (network, own) = bits(self.address);
        width == own && masked(address, self.prefix, width) == network
    }
}

/// The address as a number, and how many bits it has.
fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    }
}

/// The first `prefix` of `width` bits, the others zero.
fn masked(bits: u128, prefix: u8, width: u8) -> u128 {
    let host = u32::from(width - prefix);
    bits.checked_shr(host).and_then(|bits| bits.checked_shl(host)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        let (value, width) = bits(address);
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|n| *n <= width).ok_or(CidrError::Form)?
            }
            Some(_) => return Err(CidrError::Form),
        };
        // A mapped address would never be met: peers are looked up by their IPv4 address.
        if matches!(address, IpAddr::V6(v6) if Ipv6Addr::to_ipv4_mapped(&v6).is_some()) {
            return Err(CidrError::Form);
        }
        if masked(value, prefix, width) != value {
            return Err(CidrError::HostBits);
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Cidr>);

impl Networks {
    /// These networks.
    pub fn new(networks: Vec<Cidr>) -> Self {
        Self(networks)
    }

    /// Whether one of them holds this address.
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, inside: &[&str], outside: &[&str]) {
        let network: Cidr = network.parse().unwrap();
        for (addresses, expected) in [(inside, true), (outside, false)] {
            for address in addresses {
                assert_eq!(network.contains(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        check(
            "10.0.0.0/8",
            &["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            &["11.0.0.0", "::"],
        );
        check("192.0.2.7", &["192.0.2.7"], &["192.0.2.6", "192.0.2.8"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255"], &["::1"]);
        check("2001:db8::/33", &["2001:db8:7fff::"], &["2001:db8:8000::", "10.0.0.1"]);
        check("::/0", &["::1", "ffff::"], &["127.0.0.1"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let read = |text: &str| text.parse::<Cidr>().unwrap_err();
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "::/129", "host/8"]
        {
            assert_eq!(read(text), CidrError::Form, "{text}");
        }
        assert_eq!(read("::ffff:10.0.0.0/104"), CidrError::Form);
        assert_eq!(read("10.0.0.1/8"), CidrError::HostBits);
        assert_eq!("10.0.0.0/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
    }
}
