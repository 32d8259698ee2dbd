//! The protocol's closed lists of codes, each with its number and fixed text. What an application makes up
//! (errors 400 to 1999, disconnects 4000 to 4999) is not among them.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::push;
use super::reply;

macro_rules! codes {
    (
        $(#[$list_doc:meta])*
        $list:ident { $($(#[$doc:meta])* $variant:ident, $name:literal, $number:literal, $text:literal;)+ }
    ) => {
        $(#[$list_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $list { $($(#[$doc])* $variant,)+ }

        impl $list {
            /// Every code, by number; `code as usize` is its index here.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The number on the wire.
            pub const fn number(self) -> u32 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The fixed text beside it.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $list {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} {}", self.number(), self.text())
            }
        }
    };
}

codes! {
    /// Why a command failed; the connection goes on.
    ErrorCode {
        /// Something failed here.
        Internal, "internal", 100, "internal server error";
        /// The connection may not be.
        Unauthorized, "unauthorized", 101, "unauthorized";
        /// The channel's namespace does not exist.
        UnknownChannel, "unknown_channel", 102, "unknown channel";
        /// Not allowed.
        PermissionDenied, "permission_denied", 103, "permission denied";
        /// Nobody answers this rpc.
        MethodNotFound, "method_not_found", 104, "method not found";
        /// Subscribed to that channel already.
        AlreadySubscribed, "already_subscribed", 105, "already subscribed";
        /// A limit is reached.
        LimitExceeded, "limit_exceeded", 106, "limit exceeded";
        /// A field makes no sense.
        BadRequest, "bad_request", 107, "bad request";
        /// The feature is off.
        NotAvailable, "not_available", 108, "not available";
        /// The token was good; the client fetches a new one and tries again.
        TokenExpired, "token_expired", 109, "token expired";
        /// Expired without a token.
        Expired, "expired", 110, "expired";
        /// A rate limit.
        TooManyRequests, "too_many_requests", 111, "too many requests";
        /// The stream no longer has what is asked for.
        UnrecoverablePosition, "unrecoverable_position", 112, "unrecoverable position";
        /// The state changed between two pages of it.
        ConcurrentPagination, "concurrent_pagination", 113, "concurrent pagination";
    }
}

impl ErrorCode {
    /// Whether the same command may succeed later: the client tries again by itself.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination)
    }
}

impl From<ErrorCode> for reply::Error<'_> {
    fn from(code: ErrorCode) -> Self {
        Self { code: code.number(), message: code.text().into(), temporary: code.is_temporary() }
    }
}

codes! {
    /// Why a connection ended. On a WebSocket number and text are the close frame's.
    DisconnectCode {
        /// The peer closed; never sent.
        ConnectionClosed, "connection_closed", 3000, "connection closed";
        /// weir is going.
        Shutdown, "shutdown", 3001, "shutdown";
        /// Something failed here.
        ServerError, "server_error", 3004, "internal server error";
        /// The connection's token or its time has run out.
        Expired, "expired", 3005, "connection expired";
        /// A subscription's token or its time has run out.
        SubscriptionExpired, "subscription_expired", 3006, "subscription expired";
        /// It reads too slowly.
        Slow, "slow", 3008, "slow";
        /// The socket failed while it was written to.
        WriteError, "write_error", 3009, "write error";
        /// A hole in a server-side subscription: come back and recover.
        InsufficientState, "insufficient_state", 3010, "insufficient state";
        /// Told to come back, by a backend.
        ForceReconnect, "force_reconnect", 3011, "force reconnect";
        /// A ping was not answered in time.
        NoPong, "no_pong", 3012, "no pong";
        /// A rate limit.
        TooManyRequests, "too_many_requests", 3013, "too many requests";
        /// Come back without token and positions.
        StateInvalidated, "state_invalidated", 3014, "state invalidated";
        /// The connection's token is not good.
        InvalidToken, "invalid_token", 3500, "invalid token";
        /// Not the protocol, or commands in the wrong order.
        BadRequest, "bad_request", 3501, "bad request";
        /// No connect came in time.
        Stale, "stale", 3502, "stale";
        /// Told to stay away, by a backend.
        ForceNoReconnect, "force_no_reconnect", 3503, "force disconnect";
        /// Too many connections of one user.
        ConnectionLimit, "connection_limit", 3504, "connection limit";
        /// Too many channels on one connection.
        ChannelLimit, "channel_limit", 3505, "channel limit";
        /// A payload that its encoding cannot carry.
        InappropriateProtocol, "inappropriate_protocol", 3506, "inappropriate protocol";
        /// Not allowed.
        PermissionDenied, "permission_denied", 3507, "permission denied";
        /// The feature is off.
        NotAvailable, "not_available", 3508, "not available";
        /// One error after the other.
        TooManyErrors, "too_many_errors", 3509, "too many errors";
    }
}

impl DisconnectCode {
    /// Whether clients come back by themselves.
    pub const fn reconnects(self) -> bool {
        reconnects(self.number())
    }
}

impl From<DisconnectCode> for push::Disconnect<'_> {
    fn from(code: DisconnectCode) -> Self {
        Self { code: code.number(), reason: code.text().into(), reconnect: code.reconnects() }
    }
}

/// Whether clients come back by themselves after an end with this number, be it of the protocol or of the
/// WebSocket (1009: a message that was too big would be again): the rule of every SDK.
pub const fn reconnects(number: u32) -> bool {
    !matches!(number, 1009 | 3500..=3999 | 4500..=4999)
}

codes! {
    /// Why a subscription ended.
    UnsubscribeCode {
        /// The client asked; never sent.
        Client, "client", 0, "client unsubscribed";
        /// The connection ended; never sent.
        Disconnect, "disconnect", 1, "client disconnected";
        /// A backend ended it.
        Server, "server", 2000, "server unsubscribe";
        /// A hole in the stream: subscribe again and recover.
        InsufficientState, "insufficient_state", 2500, "insufficient state";
        /// Its token or its time has run out.
        Expired, "expired", 2501, "subscription expired";
        /// Subscribe again without token and position.
        StateInvalidated, "state_invalidated", 2502, "state invalidated";
    }
}

impl UnsubscribeCode {
    /// Whether clients subscribe again by themselves.
    pub const fn resubscribes(self) -> bool {
        self.number() >= 2500
    }
}

impl From<UnsubscribeCode> for push::Unsubscribe<'_> {
    fn from(code: UnsubscribeCode) -> Self {
        Self { code: code.number(), reason: code.text().into() }
    }
}

/// Longest reason of a WebSocket close frame, in bytes: RFC 6455, section 5.5, less the code.
pub const REASON_BYTES_MAX: usize = 123;

/// Makes a reason that an application chose fit for a close frame: cut at a character to
/// [`REASON_BYTES_MAX`], and never JSON, which the JavaScript SDK would take for an older form of a
/// reason.
pub fn close_reason(reason: &str) -> Cow<'_, str> {
    let cut = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    if !is_json(cut) {
        return Cow::Borrowed(cut);
    }
    const MARK: &str = "reason: ";
    let rest = &cut[..cut.floor_char_boundary(REASON_BYTES_MAX - MARK.len())];
    Cow::Owned([MARK, rest].concat())
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_reason_fits_a_close_frame_and_is_no_json() {
        for code in DisconnectCode::ALL {
            assert_eq!(close_reason(code.text()), Cow::Borrowed(code.text()));
        }
    }

    #[test]
    fn a_chosen_reason_is_cut_at_a_character_and_made_no_json() {
        assert_eq!(close_reason("go away"), "go away");
        assert_eq!(close_reason(r#"{"reason":"x","reconnect":false}"#).as_bytes()[0], b'r');
        assert_eq!(close_reason("42"), "reason: 42");
        let long = "ż".repeat(100);
        assert_eq!(close_reason(&long), "ż".repeat(61));
        let digits = "7".repeat(200);
        let reason = close_reason(&digits);
        assert_eq!((reason.len(), is_json(&reason)), (REASON_BYTES_MAX, false));
    }

    #[test]
    fn lists_are_in_order_and_every_code_has_its_place() {
        fn check<T: Copy + PartialEq>(
            all: &[T],
            number: impl Fn(T) -> u32,
            index: impl Fn(T) -> usize,
        ) {
            assert!(all.windows(2).all(|pair| number(pair[0]) < number(pair[1])));
            assert!(all.iter().enumerate().all(|(at, code)| index(*code) == at));
        }
        check(ErrorCode::ALL, ErrorCode::number, |code| code as usize);
        check(DisconnectCode::ALL, DisconnectCode::number, |code| code as usize);
        check(UnsubscribeCode::ALL, UnsubscribeCode::number, |code| code as usize);
    }

    #[test]
    fn clients_come_back_by_number() {
        for (number, back) in [
            (1001, true),
            (1009, false),
            (2999, true),
            (3000, true),
            (3499, true),
            (3500, false),
            (3999, false),
            (4000, true),
            (4499, true),
            (4500, false),
            (4999, false),
            (5000, true),
        ] {
            assert_eq!(reconnects(number), back, "{number}");
        }
        let terminal = DisconnectCode::ALL.iter().filter(|code| !code.reconnects()).count();
        assert_eq!(terminal, 10);
        let again = UnsubscribeCode::ALL.iter().filter(|code| code.resubscribes());
        assert_eq!(again.map(|code| code.number()).collect::<Vec<_>>(), [2500, 2501, 2502]);
    }

    #[test]
    fn errors_that_may_pass_are_marked_temporary() {
        let temporary = ErrorCode::ALL.iter().filter(|code| code.is_temporary());
        assert_eq!(temporary.map(|code| code.number()).collect::<Vec<_>>(), [100, 111, 113]);
    }
}
