//! One of everything that is said, with a value in every field; and what is empty. Each says whether it has fields
//! of experimental types.

use weir_channels::protocol::codes::{DisconnectCode, ErrorCode, UnsubscribeCode};
use weir_channels::protocol::command::*;
use weir_channels::protocol::push::{
    ClientInfo, Connect, Disconnect, Event, Join, Leave, Message, Publication, Push, Refresh,
    Subscribe, Unsubscribe,
};
use weir_channels::protocol::reply::*;
use weir_channels::protocol::{Map, Payload, Sint};

/// As SDKs write it: compact.
fn data(text: &'static str) -> Payload<'static> {
    Payload::json(text.as_bytes())
}

fn info() -> ClientInfo<'static> {
    ClientInfo {
        user: "żółw".into(),
        client: "c-1".into(),
        conn_info: data(r#"{"name":"\"x\""}"#),
        chan_info: data("[1]"),
    }
}

fn publication() -> Publication<'static> {
    Publication {
        data: data(r#"{"n":2,"text":"\u007f"}"#),
        info: Some(info()),
        offset: 1 << 52,
        tags: Map(vec![("a".into(), "1".into()), ("b".into(), "2".into())]),
        delta: true,
        time: 1_795_000_000_000,
        channel: "news:a".into(),
        ..Publication::default()
    }
}

fn experimental_publication() -> Publication<'static> {
    Publication {
        key: "k".into(),
        removed: true,
        score: Sint(-77),
        epoch: "e".into(),
        prev_data: data("5"),
        version: 9,
        ..publication()
    }
}

fn subscribed() -> SubscribeResult<'static> {
    SubscribeResult {
        expires: true,
        ttl: 300,
        recoverable: true,
        epoch: "zX1".into(),
        publications: vec![
            publication(),
            Publication { data: data("1"), ..Publication::default() },
        ],
        recovered: true,
        offset: 40,
        positioned: true,
        data: data(r#""x""#),
        was_recovering: true,
        delta: true,
        id: 12,
        ..SubscribeResult::default()
    }
}

fn connected() -> ConnectResult<'static> {
    ConnectResult {
        client: "b1f0".into(),
        version: "weir 0.1".into(),
        expires: true,
        ttl: 3600,
        data: data(r#"{"a":[true]}"#),
        subs: Map(vec![("news".into(), subscribed()), ("x".into(), SubscribeResult::default())]),
        ping: 25,
        pong: true,
        session: "s".into(),
        node: "n".into(),
        time: 1_795_000_000_000,
        flag: 0, // The SDKs know no such field yet.
    }
}

/// Every kind of reply.
pub fn replies() -> Vec<(Reply<'static>, bool)> {
    let presence = Map(vec![("c-1".into(), info()), ("c-2".into(), ClientInfo::default())]);
    let history = HistoryResult { publications: vec![publication()], epoch: "e".into(), offset: 3 };
    let mut bodies = vec![
        Body::Connect(connected()),
        Body::Connect(ConnectResult::default()),
        Body::Subscribe(subscribed()),
        Body::Subscribe(SubscribeResult::default()),
        Body::Unsubscribe(UnsubscribeResult {}),
        Body::Publish(PublishResult {}),
        Body::Presence(PresenceResult { presence }),
        Body::Presence(PresenceResult::default()),
        Body::PresenceStats(PresenceStatsResult { num_clients: 7, num_users: 4_000_000_000 }),
        Body::PresenceStats(PresenceStatsResult::default()),
        Body::History(history),
        Body::History(HistoryResult::default()),
        Body::Rpc(RpcResult { data: data(r#"{"answer":42}"#) }),
        Body::Rpc(RpcResult::default()),
        Body::Refresh(RefreshResult {
            client: "c".into(),
            version: "v".into(),
            expires: true,
            ttl: 60,
        }),
        Body::SubRefresh(SubRefreshResult { expires: true, ttl: 61, items: Vec::new() }),
        Body::Pong(PingResult {}),
    ];
    bodies.extend(ErrorCode::ALL.iter().map(|code| Body::Error((*code).into())));
    let mut replies: Vec<_> =
        (1..).zip(bodies).map(|(id, body)| (Reply { id, body }, false)).collect();
    replies.push((Reply::PING, false));
    replies.extend(events().into_iter().map(|event| (push(event), false)));
    let state = vec![experimental_publication()];
    let experimental = SubscribeResult {
        kind: 1,
        phase: 2,
        cursor: "c".into(),
        state: state.clone(),
        publish_debounce: 50,
        ..subscribed()
    };
    let refreshed = SubRefreshResult { items: state, ..SubRefreshResult::default() };
    replies.push((Reply { id: 1, body: Body::Subscribe(experimental) }, true));
    replies.push((Reply { id: 1, body: Body::SubRefresh(refreshed) }, true));
    replies.push((push(Event::Publication(experimental_publication())), true));
    replies
}

fn push(event: Event<'static>) -> Reply<'static> {
    Reply::push(Push { id: 3, channel: "news:\"a\"".into(), event })
}

/// Every kind of push.
fn events() -> Vec<Event<'static>> {
    let mut events = vec![
        Event::Publication(publication()),
        Event::Publication(Publication { data: data("null"), ..Publication::default() }),
        Event::Join(Join { info: info() }),
        Event::Join(Join::default()),
        Event::Leave(Leave { info: info() }),
        Event::Message(Message { data: data("[]") }),
        Event::Subscribe(Subscribe {
            recoverable: true,
            epoch: "e".into(),
            offset: 5,
            positioned: true,
            data: data("{}"),
        }),
        Event::Connect(Connect {
            client: "c".into(),
            version: "v".into(),
            data: data("1"),
            subs: Map(vec![("a".into(), subscribed())]),
            expires: true,
            ttl: 9,
            ping: 25,
            pong: true,
            session: "s".into(),
            node: "n".into(),
            time: 1,
        }),
        Event::Refresh(Refresh { expires: true, ttl: 8 }),
        Event::Disconnect(Disconnect::default()),
    ];
    events.extend(DisconnectCode::ALL.iter().map(|code| Event::Disconnect((*code).into())));
    let unsubscribes = UnsubscribeCode::ALL.iter().map(|code| Unsubscribe::from(*code));
    events.extend(unsubscribes.map(Event::Unsubscribe));
    events
}

fn subscribe() -> SubscribeRequest<'static> {
    let leaf = FilterNode {
        key: "k".into(),
        cmp: "in".into(),
        val: "v".into(),
        vals: vec!["1".into(), "2".into()],
        ..FilterNode::default()
    };
    SubscribeRequest {
        channel: "news".into(),
        token: "t".into(),
        recover: true,
        epoch: "zX1".into(),
        offset: 40,
        data: data(r#"{"q":"ż"}"#),
        positioned: true,
        recoverable: true,
        join_leave: true,
        delta: "fossil".into(),
        tf: Some(FilterNode { op: "and".into(), nodes: vec![leaf], ..FilterNode::default() }),
        flag: 3,
        ..SubscribeRequest::default()
    }
}

/// Every kind of command.
pub fn commands() -> Vec<(Command<'static>, bool)> {
    let channel = || "news".into();
    let connect = ConnectRequest {
        token: "t".into(),
        data: data("[1]"),
        subs: Map(vec![("news".into(), subscribe())]),
        name: "js".into(),
        version: "5".into(),
        headers: Map(vec![("x-a".into(), "1".into())]),
        flag: 2,
        ..ConnectRequest::default()
    };
    let since = Some(StreamPosition { offset: 7, epoch: "e".into() });
    let requests = vec![
        Request::Connect(connect),
        Request::Connect(ConnectRequest::default()),
        Request::Subscribe(subscribe()),
        Request::Unsubscribe(UnsubscribeRequest { channel: channel() }),
        Request::Publish(PublishRequest {
            channel: channel(),
            data: data(r#"{"n":[1,null]}"#),
            ..PublishRequest::default()
        }),
        Request::Presence(PresenceRequest { channel: channel() }),
        Request::PresenceStats(PresenceStatsRequest { channel: channel() }),
        Request::History(HistoryRequest { channel: channel(), limit: -1, since, reverse: true }),
        Request::Rpc(RpcRequest { data: data("5"), method: "m".into() }),
        Request::Refresh(RefreshRequest { token: "t".into() }),
        Request::SubRefresh(SubRefreshRequest {
            channel: channel(),
            token: "t".into(),
            ..SubRefreshRequest::default()
        }),
        Request::Ping(PingRequest {}),
    ];
    let mut commands: Vec<_> =
        (1..).zip(requests).map(|(id, request)| (Command { id, request }, false)).collect();
    let send = Request::Send(SendRequest { data: data("true") });
    commands.push((Command { id: 0, request: send }, false));
    commands.push((Command::default(), false));
    let experimental = [
        Request::Subscribe(SubscribeRequest {
            kind: 1,
            phase: 2,
            cursor: "c".into(),
            limit: 10,
            asc: true,
            ..subscribe()
        }),
        Request::Publish(PublishRequest {
            channel: channel(),
            data: data("1"),
            kind: 1,
            key: "k".into(),
            removed: true,
        }),
        Request::SubRefresh(SubRefreshRequest {
            channel: channel(),
            token: "t".into(),
            kind: 1,
            track: vec![TrackBatch {
                signature: "s".into(),
                items: vec![KeyedItem { key: "k".into(), version: 8 }],
            }],
            untrack: vec!["u".into()],
        }),
    ];
    commands.extend(experimental.map(|request| (Command { id: 9, request }, true)));
    commands
}
