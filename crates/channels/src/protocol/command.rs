//! Commands: what clients send. Lists the requests in the order in which the protocol looks for them.

use super::field::Reading;
use super::message::{choice, messages};
use super::{
    DecodeError, EncodeError, Encoding, Limits, Map, Payload, Text, json, protobuf, varint,
};

messages! {
    /// One command.
    Command<'a> {
        /// What the reply repeats: over 0 in every command but `send` and a pong.
        1 id: u32;
        .. request: Request<'a>;
    }
}

choice! {
    /// What a command asks for.
    Request<'a> {
        /// The answer to a ping: a command with nothing in it.
        none Pong;
        /// Connects; the first command of a connection, and once only.
        4 "connect" Connect(ConnectRequest<'a>);
        /// Subscribes to a channel.
        5 "subscribe" Subscribe(SubscribeRequest<'a>);
        /// Ends a subscription.
        6 "unsubscribe" Unsubscribe(UnsubscribeRequest<'a>);
        /// Publishes into a channel.
        7 "publish" Publish(PublishRequest<'a>);
        /// Asks who is there.
        8 "presence" Presence(PresenceRequest<'a>);
        /// Asks how many are there.
        9 "presence_stats" PresenceStats(PresenceStatsRequest<'a>);
        /// Asks for what was published.
        10 "history" History(HistoryRequest<'a>);
        /// Calls the backend.
        13 "rpc" Rpc(RpcRequest<'a>);
        /// Tells the backend; there is no reply, ever.
        12 "send" Send(SendRequest<'a>);
        /// Brings a new token for the connection.
        14 "refresh" Refresh(RefreshRequest<'a>);
        /// Brings a new token for a subscription.
        15 "sub_refresh" SubRefresh(SubRefreshRequest<'a>);
        /// A ping of the client's own, which no SDK sends and no server answers.
        11 "ping" Ping(PingRequest);
    }
}

messages! {
    /// Connects.
    ConnectRequest<'a> {
        /// A JWT; empty for nobody in particular.
        1 token: Text<'a>;
        /// For the backend.
        2 data: Payload<'a>;
        /// Server-side subscriptions of an earlier connection, to be recovered.
        3 subs: Map<'a, SubscribeRequest<'a>>;
        /// What the client calls itself.
        4 name: Text<'a>;
        /// Its version.
        5 version: Text<'a>;
        /// Headers that a browser cannot set; as untrusted as the client.
        6 headers: Map<'a, Text<'a>>;
        /// Bits of what it understands.
        7 flag: i64;
        /// A dictionary that it has; compression is not offered.
        8 dict: Text<'a>;
        /// A profile of dictionaries.
        9 profile: Text<'a>;
    }

    /// Subscribes.
    SubscribeRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
        /// A JWT for the channel.
        2 token: Text<'a>;
        /// Whether to recover from the position below.
        3 recover: bool;
        /// The epoch of the position; empty when it is not known.
        6 epoch: Text<'a>;
        /// The offset of the last publication that the client has.
        7 offset: u64;
        /// For the backend.
        8 data: Payload<'a>;
        /// Asks that holes be told.
        9 positioned: bool;
        /// Asks for recovery.
        10 recoverable: bool;
        /// Asks to be told who comes and goes.
        11 join_leave: bool;
        /// Asks for delta compression by this algorithm.
        12 delta: Text<'a>;
        /// Asks for some publications only, by their tags.
        13 tf: Option<FilterNode<'a>>;
        /// Bits: see [`SubscribeRequest::REJECT_UNRECOVERED`].
        14 flag: i64;
        /// 0: a stream. Others are experimental.
        15 kind as "type": i32;
        /// Of experimental types.
        16 phase: i32;
        /// Of experimental types.
        17 cursor: Text<'a>;
        /// Of experimental types.
        18 limit: i32;
        /// Of experimental types.
        19 asc: bool;
    }

    /// A filter by tags, or a part of one.
    FilterNode<'a> {
        /// `and`, `or`, `not`; empty in a leaf.
        1 op: Text<'a>;
        /// The tag that a leaf looks at.
        2 key: Text<'a>;
        /// How a leaf compares.
        3 cmp: Text<'a>;
        /// With what.
        4 val: Text<'a>;
        /// With what, where it is several.
        5 vals: Vec<Text<'a>>;
        /// What an operation is of.
        6 nodes: Vec<FilterNode<'a>>;
    }

    /// Ends a subscription.
    UnsubscribeRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
    }

    /// Publishes.
    PublishRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
        /// What is published.
        2 data: Payload<'a>;
        /// 0: into a stream. Others are experimental.
        3 kind as "type": i32;
        /// Of experimental types.
        4 key: Text<'a>;
        /// Of experimental types.
        5 removed: bool;
    }

    /// Asks who is there.
    PresenceRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
    }

    /// Asks how many are there.
    PresenceStatsRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
    }

    /// Asks for what was published.
    HistoryRequest<'a> {
        /// The channel's name.
        1 channel: Text<'a>;
        /// How many; 0 for the position only, -1 for as many as may be.
        7 limit: i32;
        /// Only what came after this, or before it in reverse.
        8 since: Option<StreamPosition<'a>>;
        /// The newest first.
        9 reverse: bool;
    }

    /// A place in a stream.
    StreamPosition<'a> {
        /// The offset of a publication, from 1.
        1 offset: u64;
        /// The epoch of the stream.
        2 epoch: Text<'a>;
    }

    /// Calls the backend.
    RpcRequest<'a> {
        /// For the backend.
        1 data: Payload<'a>;
        /// The method's name.
        2 method: Text<'a>;
    }

    /// Tells the backend.
    SendRequest<'a> {
        /// For the backend.
        1 data: Payload<'a>;
    }

    /// Brings a new token for the connection.
    RefreshRequest<'a> {
        /// A JWT.
        1 token: Text<'a>;
    }

    /// Brings a new token for a subscription.
    SubRefreshRequest<'a> {
        /// The channel's name; some SDKs leave it to the token.
        1 channel: Text<'a>;
        /// A JWT for the channel.
        2 token: Text<'a>;
        /// 0: a refresh. Others are experimental.
        3 kind as "type": i32;
        /// Of experimental types.
        4 track: Vec<TrackBatch<'a>>;
        /// Of experimental types.
        5 untrack: Vec<Text<'a>>;
    }

    /// Keys to track, of an experimental type.
    TrackBatch<'a> {
        /// That they may be.
        1 signature: Text<'a>;
        /// The keys.
        2 items: Vec<KeyedItem<'a>>;
    }

    /// A key and its version, of an experimental type.
    KeyedItem<'a> {
        /// The key.
        1 key: Text<'a>;
        /// The version that the client has.
        2 version: u64;
    }

    /// A ping of the client's own.
    PingRequest {}
}

impl SubscribeRequest<'_> {
    /// A bit of `flag`: the client understands numbers in place of channel names. Never answered.
    pub const CHANNEL_COMPACTION: i64 = 1;
    /// A bit of `flag`: rather an error than a subscription that could not be recovered.
    pub const REJECT_UNRECOVERED: i64 = 2;
}

impl<'a> Command<'a> {
    /// Reads one command, as [`super::frame::split`] gives it. Of several requests the first in the
    /// order of [`Request`] counts; unknown fields are passed over.
    ///
    /// # Errors
    ///
    /// Everything of [`DecodeError`] but what concerns frames.
    pub fn decode(
        encoding: Encoding,
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<Self, DecodeError> {
        let reading = Reading::new("command", limits.elements_max);
        let command: Self = match encoding {
            Encoding::Json => json::read(bytes, &reading)?,
            Encoding::Protobuf => protobuf::read_message(bytes, &reading)?,
        };
        match (command.id, &command.request) {
            (0, Request::Pong | Request::Send(_)) => Ok(command),
            (0, request) => Err(DecodeError::NoId { request: request.name() }),
            (id, Request::Pong) => Err(DecodeError::NoRequest { id }),
            _ => Ok(command),
        }
    }

    /// Appends the command as a client writes it: as a JSON object, or as Protobuf behind its length.
    ///
    /// # Errors
    ///
    /// [`EncodeError::NotJson`], with nothing appended.
    pub fn encode(&self, encoding: Encoding, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        encode(self, encoding, out)
    }
}

/// Appends a message as it stands in a frame.
pub(super) fn encode<'a, M: super::field::Message<'a>>(
    message: &M,
    encoding: Encoding,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    match encoding {
        Encoding::Json => {
            let written = super::field::Element::write_json(message, "", out);
            written.inspect_err(|_| out.truncate(start))
        }
        Encoding::Protobuf => {
            let size = message.proto_size();
            out.reserve(varint::size(size as u64) + size);
            varint::write(size as u64, out);
            message.write_proto(out);
            Ok(())
        }
    }
}
