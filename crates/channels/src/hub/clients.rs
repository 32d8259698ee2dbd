//! Who is connected to one worker, by user and by the id that clients know themselves by.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use std::collections::{HashMap, HashSet};
use weir_core::context::ConnId;
use weir_core::local::Address;

/// The id of a client: a UUID of version 4 (RFC 9562, section 5.4), made of the connection's id and of
/// what only this process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uid(u128);

impl Uid {
    /// The id of this connection, in a process with this secret.
    pub fn new(conn: ConnId, secret: u64) -> Self {
        let mut hasher = SipHasher13::new_with_keys(secret, !secret);
        hasher.write_u64(conn.raw());
        let high = hasher.finish() & !0xf000 | 0x4000;
        let low = conn.raw() & (u64::MAX >> 2) | 1 << 63;
        Self(u128::from(high) << 64 | u128::from(low))
    }

    /// The id that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        let uid = Self(u128::from_str_radix(&digits, 16).ok()?);
        (uid.to_string() == text).then_some(uid)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:032x}", self.0);
        let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
        f.write_str(&parts.join("-"))
    }
}

/// The clients of one worker. As many as there are connections, which admission bounds.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    by_uid: HashMap<Uid, Address>,
    /// Those of users with a name.
    by_user: HashMap<Arc<str>, HashSet<Address>>,
}

impl Clients {
    pub(crate) fn enter(&mut self, uid: Uid, user: &Arc<str>, address: Address) {
        self.by_uid.insert(uid, address);
        if !user.is_empty() {
            self.by_user.entry(Arc::clone(user)).or_default().insert(address);
        }
    }

    pub(crate) fn leave(&mut self, uid: Uid, user: &Arc<str>, address: Address) {
        self.by_uid.remove(&uid);
        if let Some(addresses) = self.by_user.get_mut(user) {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.by_user.remove(user);
            }
        }
    }

    /// The connection of a client.
    pub(super) fn client(&self, uid: Uid) -> Option<Address> {
        self.by_uid.get(&uid).copied()
    }

    /// The connections of a user.
    pub(super) fn user(&self, user: &str) -> impl Iterator<Item = Address> {
        self.by_user.get(user).into_iter().flatten().copied()
    }

    /// How many are connected.
    pub(super) fn len(&self) -> usize {
        self.by_uid.len()
    }

    /// How many users with a name.
    pub(super) fn users(&self) -> usize {
        self.by_user.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_4_that_reads_back() {
        let uid = Uid::new(ConnId::from_raw(0xfedc_ba98_7654_3210), 7);
        let text = uid.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]), "{text}");
        assert_eq!(Uid::parse(&text), Some(uid));
        assert_eq!(Uid::parse(&text[1..]), None);
        assert_eq!(Uid::parse("not-a-uuid"), None);
    }

    #[test]
    fn ids_differ_by_connection_and_by_process() {
        let id = |raw, secret| Uid::new(ConnId::from_raw(raw), secret);
        assert_ne!(id(1, 7), id(2, 7));
        assert_ne!(id(1, 7), id(1, 8));
    }
}
