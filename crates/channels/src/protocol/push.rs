//! Pushes: what clients are sent without having asked.

use super::message::{choice, messages};
use super::reply::SubscribeResult;
use super::{Map, Payload, Sint, Text};

messages! {
    /// One push.
    Push<'a> {
        /// A number in place of the channel's name, for who agreed to it.
        1 id: i64;
        /// The channel; empty when it concerns the connection.
        2 channel: Text<'a>;
        .. event: Event<'a>;
    }
}

choice! {
    /// What a push tells of.
    Event<'a> {
        /// Nothing that is known. Never written.
        none Nothing;
        /// Somebody has published.
        4 "pub" Publication(Publication<'a>);
        /// Somebody has come.
        5 "join" Join(Join<'a>);
        /// Somebody has gone.
        6 "leave" Leave(Leave<'a>);
        /// A subscription was ended.
        7 "unsubscribe" Unsubscribe(Unsubscribe<'a>);
        /// Something for this connection alone.
        8 "message" Message(Message<'a>);
        /// A server-side subscription has begun.
        9 "subscribe" Subscribe(Subscribe<'a>);
        /// It is connected, where it could not ask.
        10 "connect" Connect(Connect<'a>);
        /// It will be closed, where the transport cannot say so.
        11 "disconnect" Disconnect(Disconnect<'a>);
        /// The connection's new time.
        12 "refresh" Refresh(Refresh);
    }
}

messages! {
    /// A publication.
    Publication<'a> {
        /// What was published.
        4 data: Payload<'a>;
        /// Who published it, when a client did.
        5 info: Option<ClientInfo<'a>>;
        /// Its place in the stream, from 1; 0 outside of one.
        6 offset: u64;
        /// Words of the publisher's.
        7 tags: Map<'a, Text<'a>>;
        /// Whether `data` is a patch.
        8 delta: bool;
        /// When, in milliseconds since 1970.
        9 time: i64;
        /// The channel, where the subscription's name is a pattern.
        10 channel: Text<'a>;
        /// Of experimental types.
        11 key: Text<'a>;
        /// Of experimental types.
        12 removed: bool;
        /// Of experimental types.
        13 score: Sint;
        /// The stream's epoch, in its first publication.
        14 epoch: Text<'a>;
        /// Of experimental types.
        15 prev_data: Payload<'a>;
        /// Of experimental types.
        16 version: u64;
    }

    /// Who somebody is.
    ClientInfo<'a> {
        /// The user's id; empty for nobody in particular.
        1 user: Text<'a>, always;
        /// The connection's id.
        2 client: Text<'a>, always;
        /// What is known of the connection.
        3 conn_info: Payload<'a>;
        /// What is known of it in this channel.
        4 chan_info: Payload<'a>;
    }

    /// Somebody has come.
    Join<'a> {
        /// Who.
        1 info: ClientInfo<'a>;
    }

    /// Somebody has gone.
    Leave<'a> {
        /// Who.
        1 info: ClientInfo<'a>;
    }

    /// A subscription was ended.
    Unsubscribe<'a> {
        /// An [`super::codes::UnsubscribeCode`].
        2 code: u32, always;
        /// Its text.
        3 reason: Text<'a>, always;
    }

    /// Something for one connection.
    Message<'a> {
        /// What.
        1 data: Payload<'a>;
    }

    /// A server-side subscription has begun.
    Subscribe<'a> {
        /// Whether it can be recovered.
        1 recoverable: bool;
        /// The stream's epoch.
        4 epoch: Text<'a>;
        /// The offset of its newest publication.
        5 offset: u64;
        /// Whether holes are told.
        6 positioned: bool;
        /// From the backend.
        7 data: Payload<'a>;
    }

    /// What a connection that could not ask is told of itself.
    Connect<'a> {
        /// Its id, a UUID.
        1 client: Text<'a>, always;
        /// The server's version.
        2 version: Text<'a>;
        /// From the backend or the token.
        3 data: Payload<'a>;
        /// Its subscriptions.
        4 subs: Map<'a, SubscribeResult<'a>>;
        /// Whether it ends unless it is refreshed.
        5 expires: bool;
        /// Seconds until then.
        6 ttl: u32, with expires;
        /// Seconds between pings; 0 when none come.
        7 ping: u32;
        /// Whether pings want to be answered.
        8 pong: bool;
        /// Names the session.
        9 session: Text<'a>;
        /// Names the node.
        10 node: Text<'a>;
        /// The server's time in milliseconds since 1970.
        11 time: i64;
    }

    /// The connection will be closed.
    Disconnect<'a> {
        /// A [`super::codes::DisconnectCode`], or an application's 4000 to 4999.
        1 code: u32, always;
        /// Its text.
        2 reason: Text<'a>, always;
        /// Whether clients come back by themselves.
        3 reconnect: bool;
    }

    /// The connection's new time.
    Refresh {
        /// Whether it ends unless it is refreshed again.
        1 expires: bool;
        /// Seconds until then.
        2 ttl: u32, with expires;
    }
}

impl<'a> Push<'a> {
    /// What somebody has published into `channel`.
    pub fn publication(channel: impl Into<Text<'a>>, publication: Publication<'a>) -> Self {
        Self { id: 0, channel: channel.into(), event: Event::Publication(publication) }
    }
}
