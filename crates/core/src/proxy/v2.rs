//! Version 2: binary (section 2.2 of the specification).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ProxyError, Step, V2_BYTES_MAX};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, length of the rest.
const FIXED_BYTES: usize = 16;

const MALFORMED: ProxyError = ProxyError::MalformedV2;

/// Looks at bytes that begin like version 2.
pub(super) fn step(bytes: &[u8]) -> Result<Step, ProxyError> {
    let Some(fixed) = bytes.get(..FIXED_BYTES) else {
        // The version is judged as soon as it is there.
        return match bytes.get(SIGNATURE.len()) {
            Some(version) if version >> 4 != 2 => Err(MALFORMED),
            _ => Ok(Step::More),
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(MALFORMED),
    };
    let size = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if size > V2_BYTES_MAX {
        return Err(ProxyError::TooBig { size, max: V2_BYTES_MAX });
    }
    let Some(rest) = bytes.get(FIXED_BYTES..size) else { return Ok(Step::More) };
    // What a proxy says of itself is skipped whole, whatever the family (section 2.2).
    let source = if local { None } else { source(family, rest)? };
    Ok(Step::Header { taken: size, source })
}

/// The source address of a proxied connection; `None` for families that have none of ours.
fn source(family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match family {
        // Unspecified: the socket's own is all there is.
        0x00 => Ok(None),
        0x11 => {
            let (addresses, extensions) = rest.split_first_chunk::<12>().ok_or(MALFORMED)?;
            check_extensions(extensions)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            Ok(Some((Ipv4Addr::new(a, b, c, d), port).into()))
        }
        0x21 => {
            let (addresses, extensions) = rest.split_first_chunk::<36>().ok_or(MALFORMED)?;
            check_extensions(extensions)?;
            let mut octets = [0; 16];
            octets.copy_from_slice(&addresses[..16]);
            let port = u16::from_be_bytes([addresses[32], addresses[33]]);
            Ok(Some((Ipv6Addr::from(octets), port).into()))
        }
        // A local socket between client and proxy.
        0x31 => {
            let (_, extensions) = rest.split_first_chunk::<216>().ok_or(MALFORMED)?;
            check_extensions(extensions)?;
            Ok(None)
        }
        // Datagrams do not come over TCP, and the rest is not assigned.
        _ => Err(MALFORMED),
    }
}

/// Extensions are a type, a length and a value each, and fill what is left (section 2.2.1). None of
/// them is used; that they fit says that the addresses before them are what they seem.
fn check_extensions(mut rest: &[u8]) -> Result<(), ProxyError> {
    while let Some(([_, high, low], behind)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = behind.get(length..).ok_or(MALFORMED)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(MALFORMED) }
}
