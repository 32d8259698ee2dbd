//! Replies: what clients are sent, answers and pushes alike.
//!
//! Protobuf leaves out what is zero, and the Python SDK fails of it where it looks without asking: a message
//! or reason is never to be empty, and a `ttl` at least 1 where `expires` is set.

use super::command::encode;
use super::field::Reading;
use super::message::{choice, messages};
use super::push::{ClientInfo, Event, Publication};
use super::{DecodeError, EncodeError, Encoding, Limits, Map, Payload, Push, Text, json, protobuf};

messages! {
    /// One message to a client.
    Reply<'a> {
        /// The id of the command that it answers; 0 in a push and a ping.
        1 id: u32;
        .. body: Body<'a>;
    }
}

choice! {
    /// What a reply says.
    Body<'a> {
        /// Nothing: a ping.
        none Ping;
        /// The command failed.
        2 "error" Error(Error<'a>);
        /// Something that was not asked for.
        4 "push" Push(Push<'a>);
        /// It is connected.
        5 "connect" Connect(ConnectResult<'a>);
        /// It is subscribed.
        6 "subscribe" Subscribe(SubscribeResult<'a>);
        /// It no longer is.
        7 "unsubscribe" Unsubscribe(UnsubscribeResult);
        /// It is published.
        8 "publish" Publish(PublishResult);
        /// Who is there.
        9 "presence" Presence(PresenceResult<'a>);
        /// How many are there.
        10 "presence_stats" PresenceStats(PresenceStatsResult);
        /// What was published.
        11 "history" History(HistoryResult<'a>);
        /// The answer to a client's own ping, which no server sends.
        12 "ping" Pong(PingResult);
        /// The backend's answer.
        13 "rpc" Rpc(RpcResult<'a>);
        /// The connection's new time.
        14 "refresh" Refresh(RefreshResult<'a>);
        /// The subscription's new time.
        15 "sub_refresh" SubRefresh(SubRefreshResult<'a>);
    }
}

messages! {
    /// Why a command failed.
    Error<'a> {
        /// An [`super::codes::ErrorCode`], or an application's 400 to 1999.
        1 code: u32, always;
        /// Its text.
        2 message: Text<'a>, always;
        /// Whether the client may try again.
        3 temporary: bool;
    }

    /// What a connection is told of itself.
    ConnectResult<'a> {
        /// Its id, a UUID.
        1 client: Text<'a>, always;
        /// The server's version.
        2 version: Text<'a>;
        /// Whether it ends unless it is refreshed.
        3 expires: bool;
        /// Seconds until then.
        4 ttl: u32, with expires;
        /// From the backend or the token.
        5 data: Payload<'a>;
        /// Server-side subscriptions.
        6 subs: Map<'a, SubscribeResult<'a>>;
        /// Seconds between pings; 0 when none come.
        7 ping: u32;
        /// Whether pings want to be answered.
        8 pong: bool;
        /// Names the session to `/emulation`.
        9 session: Text<'a>;
        /// Names the node to `/emulation`.
        10 node: Text<'a>;
        /// The server's time in milliseconds since 1970.
        11 time: i64;
        /// Bits of what the server understands.
        12 flag: i64;
    }

    /// What a subscription is like.
    SubscribeResult<'a> {
        /// Whether it ends unless it is refreshed.
        1 expires: bool;
        /// Seconds until then.
        2 ttl: u32, with expires;
        /// Whether it can be recovered.
        3 recoverable: bool;
        /// The stream's epoch.
        6 epoch: Text<'a>;
        /// What the client has missed, the oldest first.
        7 publications: Vec<Publication<'a>>;
        /// Whether that is all of it.
        8 recovered: bool;
        /// The offset that the client is at before these publications, or the newest when they are
        /// not all.
        9 offset: u64;
        /// Whether holes are told.
        10 positioned: bool;
        /// From the backend or the token.
        11 data: Payload<'a>;
        /// Whether recovery was tried.
        12 was_recovering: bool;
        /// Whether publications may be patches.
        13 delta: bool;
        /// A number that pushes have in place of the channel's name.
        14 id: i64;
        /// Of experimental types.
        15 kind as "type": i32;
        /// Of experimental types.
        16 phase: i32;
        /// Of experimental types.
        17 cursor: Text<'a>;
        /// Of experimental types.
        18 state: Vec<Publication<'a>>;
        /// Of experimental types, in milliseconds.
        19 publish_debounce: u32;
    }

    /// A subscription has ended.
    UnsubscribeResult {}

    /// A publication was taken.
    PublishResult {}

    /// Who is there.
    PresenceResult<'a> {
        /// By the connection's id.
        1 presence: Map<'a, ClientInfo<'a>>, always;
    }

    /// How many are there.
    PresenceStatsResult {
        /// Connections.
        1 num_clients: u32, always;
        /// Users.
        2 num_users: u32, always;
    }

    /// What was published.
    HistoryResult<'a> {
        /// In the order that was asked for.
        1 publications: Vec<Publication<'a>>, always;
        /// The stream's epoch.
        2 epoch: Text<'a>, always;
        /// The offset of its newest publication.
        3 offset: u64, always;
    }

    /// The answer to a client's own ping.
    PingResult {}

    /// The backend's answer.
    RpcResult<'a> {
        /// The answer.
        1 data: Payload<'a>;
    }

    /// The connection's new time.
    RefreshResult<'a> {
        /// Its id.
        1 client: Text<'a>;
        /// The server's version.
        2 version: Text<'a>;
        /// Whether it ends unless it is refreshed again.
        3 expires: bool;
        /// Seconds until then.
        4 ttl: u32, with expires;
    }

    /// A subscription's new time.
    SubRefreshResult<'a> {
        /// Whether it ends unless it is refreshed again.
        1 expires: bool;
        /// Seconds until then.
        2 ttl: u32, with expires;
        /// Of experimental types.
        3 items: Vec<Publication<'a>>;
    }
}

impl<'a> Reply<'a> {
    /// The ping: a reply with nothing in it.
    pub const PING: Reply<'static> = Reply { id: 0, body: Body::Ping };

    /// A command's failure.
    pub fn error(id: u32, error: impl Into<Error<'a>>) -> Self {
        Self { id, body: Body::Error(error.into()) }
    }

    /// Something that was not asked for.
    pub fn push(push: Push<'a>) -> Self {
        Self { id: 0, body: Body::Push(push) }
    }

    /// Appends the reply as it stands in a frame: a JSON object without a line ending, or Protobuf
    /// behind its length.
    ///
    /// # Errors
    ///
    /// See [`EncodeError`]; nothing is appended then.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        if let Body::Push(Push { event: Event::Nothing, .. }) = self.body {
            return Err(EncodeError::EmptyPush);
        }
        encode(self, encoding, out)
    }

    /// Reads one reply, as a client would: a JSON object, or Protobuf without its length.
    ///
    /// # Errors
    ///
    /// As [`super::Command::decode`], but that no field is missed.
    pub fn decode(
        encoding: Encoding,
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let reading = Reading::new("reply", limits.elements_max);
        match encoding {
            Encoding::Json => json::read(bytes, &reading),
            Encoding::Protobuf => protobuf::read_message(bytes, &reading),
        }
    }
}
