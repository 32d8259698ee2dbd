//! What the simulation's own messages ask for: the language between its clients and its service.
//!
//! An order is its own expected reply, so that neither side needs to be told of the other.

use std::time::Duration;

use crate::rng::Rng;

/// What a message wants the service to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Give the message back at once.
    Echo,
    /// Give the message back after this long, from something asked for.
    Ask(Duration),
    /// Fail after this long; the reply is [`FAILED`].
    Fail(Duration),
    /// Ask for what never comes: this reply and those behind it stay owed.
    Never,
    /// Take the message and say nothing.
    Quiet,
    /// Close after the replies that are owed.
    Exit,
}

/// The reply to an order that failed.
pub const FAILED: &[u8] = b"failed";

impl Order {
    /// The message for this order: `<letter><milliseconds> <seq> <padding>`, in text or with
    /// bytes that are not UTF-8 in its padding.
    pub fn message(self, seq: usize, padding: usize, text: bool, rng: &mut Rng) -> Vec<u8> {
        let (letter, after) = match self {
            Self::Echo => ('e', Duration::ZERO),
            Self::Ask(after) => ('a', after),
            Self::Fail(after) => ('f', after),
            Self::Never => ('n', Duration::ZERO),
            Self::Quiet => ('q', Duration::ZERO),
            Self::Exit => return b"x".to_vec(),
        };
        let mut message = format!("{letter}{} {seq} ", after.as_millis()).into_bytes();
        while message.len() < padding {
            match rng.below(0..8) {
                0 if text => message.extend_from_slice("é→🦀".as_bytes()),
                0 => message.extend_from_slice(&[0xff, 0, 0xc3]),
                digit => message.push(b'0' + u8::try_from(digit).expect("a digit")),
            }
        }
        message
    }

    /// Reads a message's order.
    pub fn of(message: &[u8]) -> Option<Self> {
        let head = message.split(|byte| *byte == b' ').next()?;
        let (letter, digits) = head.split_first()?;
        let after = || {
            let millis = std::str::from_utf8(digits).ok()?.parse().ok()?;
            Some(Duration::from_millis(millis))
        };
        match letter {
            b'e' => Some(Self::Echo),
            b'a' => Some(Self::Ask(after()?)),
            b'f' => Some(Self::Fail(after()?)),
            b'n' => Some(Self::Never),
            b'q' => Some(Self::Quiet),
            b'x' => Some(Self::Exit),
            _ => None,
        }
    }

    /// The reply that `message` is owed, `None` for none.
    pub fn reply(self, message: &[u8]) -> Option<&[u8]> {
        match self {
            Self::Echo | Self::Ask(_) => Some(message),
            Self::Fail(_) => Some(FAILED),
            Self::Never | Self::Quiet | Self::Exit => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let after = Duration::from_millis(1500);
        let orders = [Order::Echo, Order::Ask(after), Order::Fail(after), Order::Never];
        for order in orders.into_iter().chain([Order::Quiet, Order::Exit]) {
            for text in [true, false] {
                let message = order.message(3, 100, text, &mut Rng::new(1));
                assert_eq!(Order::of(&message).map(|read| read == order), Some(true), "{order:?}");
                assert!(!text || std::str::from_utf8(&message).is_ok());
                assert!(!message.contains(&b'\n'));
            }
        }
        assert_eq!(Order::of(b"something else"), None);
    }
}
