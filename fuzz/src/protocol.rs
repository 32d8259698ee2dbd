//! Frames of the client protocol, judged by a splitter of a few plain lines and by writing what was read
//! anew. It stands apart from the other bodies, since weir-core's tests, which include those, know no channel.

use weir_channels::protocol::command::FilterNode;
use weir_channels::protocol::emulation::EmulationRequest;
use weir_channels::protocol::reply::Body;
use weir_channels::protocol::{
    Command, Encoding, Form, Limits, Push, Reply, Request, SharedPush, frame,
};

/// A byte of the longest command, a byte of the most elements, then the frame.
pub fn protocol(encoding: Encoding, data: &[u8]) {
    let Some(([longest, most], bytes)) = data.split_first_chunk() else {
        return;
    };
    let limits =
        Limits { command_bytes_max: usize::from(*longest) * 4, elements_max: u32::from(*most) };
    let taken: Vec<&[u8]> = frame::split(encoding, bytes, &limits).map_while(Result::ok).collect();
    assert_eq!(taken, model(encoding, limits.command_bytes_max, bytes));
    let whole: Vec<_> = frame::commands(encoding, bytes, &limits).map_while(Result::ok).collect();
    let alone = taken.iter().map(|bytes| Command::decode(encoding, bytes, &limits));
    assert_eq!(alone.map_while(Result::ok).collect::<Vec<_>>(), whole);
    for (command, bytes) in whole.iter().zip(&taken) {
        assert!(elements(command) <= usize::from(*most));
        assert!(command.id > 0 || matches!(command.request, Request::Pong | Request::Send(_)));
        holds(encoding, command, bytes);
    }
    for bytes in taken {
        if let Ok(reply) = Reply::decode(encoding, bytes, &limits) {
            reply_holds(encoding, &reply);
        }
        if let Ok(request) = EmulationRequest::decode(encoding, bytes) {
            let len = request.node.len() + request.session.len() + request.data.len();
            assert!(len <= bytes.len());
        }
    }
}

/// The commands of a frame up to the first that is none.
fn model(encoding: Encoding, max: usize, mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut commands = Vec::new();
    if encoding == Encoding::Json {
        let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
        return lines.take_while(|line| !line.is_empty() && line.len() <= max).collect();
    }
    while let Some(last) = bytes.iter().take(10).position(|byte| byte & 0x80 == 0) {
        let digits = bytes[..=last].iter().rev();
        let length = digits.fold(0u128, |length, byte| length << 7 | u128::from(byte & 0x7f));
        let rest = &bytes[last + 1..];
        if length > (max as u128).min(rest.len() as u128) {
            break;
        }
        let (command, after) = rest.split_at(length as usize);
        commands.push(command);
        bytes = after;
    }
    commands
}

/// What is written of a command is read as the same, and in the other encoding too, if it has a form there.
fn holds(encoding: Encoding, command: &Command<'_>, bytes: &[u8]) {
    let again = written(encoding, command).expect("a payload stays what it was read as");
    let read = only(encoding, &again);
    // A line break in a JSON payload is dropped when it is written.
    if encoding == Encoding::Protobuf || !bytes.contains(&b'\r') {
        assert_eq!(read, *command);
    }
    assert_eq!(written(encoding, &read), Some(again));
    let other = match encoding {
        Encoding::Json => Encoding::Protobuf,
        Encoding::Protobuf => Encoding::Json,
    };
    if let Some(there) = written(other, command) {
        let across = only(other, &there);
        assert_eq!((across.id, across.request.name()), (command.id, command.request.name()));
        assert_eq!(written(other, &across), Some(there));
    }
}

fn written(encoding: Encoding, command: &Command<'_>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    command.encode(encoding, &mut out).ok().map(|()| out)
}

const ANY: Limits = Limits { command_bytes_max: usize::MAX, elements_max: u32::MAX };

/// The one command of a frame.
fn only(encoding: Encoding, bytes: &[u8]) -> Command<'_> {
    let mut commands = frame::commands(encoding, bytes, &ANY);
    let command = commands.next().expect("it is no empty frame").expect("it was written by us");
    assert!(commands.next().is_none());
    command
}

/// What is written of a reply is read as the same.
fn reply_holds(encoding: Encoding, reply: &Reply<'_>) {
    let mut out = Vec::new();
    if reply.encode(encoding, &mut out).is_err() {
        return; // A push of nothing.
    }
    let mut frame = frame::split(encoding, &out, &ANY);
    let bytes = frame.next().expect("it is no empty frame").expect("it was written by us");
    let read = Reply::decode(encoding, bytes, &ANY).expect("it was written by us");
    let mut again = Vec::new();
    read.encode(encoding, &mut again).expect("it was written before");
    assert_eq!(again, out);
    if let (0, Body::Push(push)) = (reply.id, &reply.body) {
        shared_holds(encoding, push, &out);
    }
}

/// What many are sent is what one would be.
fn shared_holds(encoding: Encoding, push: &Push<'_>, reply: &[u8]) {
    let mut shared = SharedPush::default();
    for form in Form::ALL.into_iter().filter(|form| form.encoding() == encoding) {
        let bytes = shared.form(form, || push.clone()).expect("it was written before");
        let (around, end) = match form {
            Form::Json | Form::Protobuf => (0, 0),
            Form::JsonLine => (1, 1),
            Form::JsonEvent => ("data: \n\n".len(), 2),
            Form::JsonLineChunk => chunked(reply.len(), 0, 1),
            Form::JsonEventChunk => chunked(reply.len(), "data: ".len(), 2),
            Form::ProtobufChunk => chunked(reply.len(), 0, 0),
            Form::JsonFrame | Form::ProtobufFrame => (header_bytes(reply.len()), 0),
        };
        assert_eq!(bytes.len(), around + reply.len());
        assert!(bytes[..bytes.len() - end].ends_with(reply));
    }
}

/// What a chunk has around a reply that has this much before and behind it, and how much of it is behind.
fn chunked(len: usize, before: usize, behind: usize) -> (usize, usize) {
    let size = format!("{:x}\r\n", before + len + behind);
    (size.len() + before + behind + 2, behind + 2)
}

/// RFC 6455, section 5.2.
fn header_bytes(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..0x1_0000 => 4,
        _ => 10,
    }
}

/// Entries of the lists and maps of a command.
fn elements(command: &Command<'_>) -> usize {
    fn filter(node: &FilterNode<'_>) -> usize {
        node.vals.len() + node.nodes.len() + node.nodes.iter().map(filter).sum::<usize>()
    }
    match &command.request {
        Request::Connect(connect) => {
            let filters = connect.subs.0.iter().filter_map(|(_, sub)| sub.tf.as_ref());
            connect.subs.0.len() + connect.headers.0.len() + filters.map(filter).sum::<usize>()
        }
        Request::Subscribe(subscribe) => subscribe.tf.as_ref().map_or(0, filter),
        Request::SubRefresh(refresh) => {
            let items = refresh.track.iter().map(|batch| batch.items.len()).sum::<usize>();
            refresh.track.len() + refresh.untrack.len() + items
        }
        Request::Pong
        | Request::Unsubscribe(_)
        | Request::Publish(_)
        | Request::Presence(_)
        | Request::PresenceStats(_)
        | Request::History(_)
        | Request::Rpc(_)
        | Request::Send(_)
        | Request::Refresh(_)
        | Request::Ping(_) => 0,
    }
}
