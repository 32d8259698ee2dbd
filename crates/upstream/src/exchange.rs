//! One request and its response on one connection, with the cap checked while reading. Nothing
//! here retries, measures or blames.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};

use crate::call::UpstreamRequest;
use crate::connect::Connection;
use crate::origin::Origin;

/// How long a connection may take to be ready again once its response has been read. It is at
/// once, unless the target answered before it had the whole request.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(5);

/// Why an exchange has no response.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// Not a byte of the request was sent.
    NotSent(hyper::Error),
    /// The connection broke before there was a head.
    NoHead(hyper::Error),
    /// The head was wrong, or the connection broke in the body.
    Broken(hyper::Error),
    /// The body is over the cap.
    TooBig,
}

/// Sends the request and reads the whole response.
///
/// # Cancel safety
///
/// When dropped the connection is in the middle of something and must be dropped, too.
pub(crate) async fn exchange(
    connection: &mut Connection,
    origin: &Origin,
    request: &UpstreamRequest,
    response_bytes_max: usize,
) -> Result<(Parts, Bytes), ExchangeError> {
    let mut message = Request::new(Full::new(request.body.clone()));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = Uri::from(request.path_and_query.clone());
    *message.headers_mut() = request.outgoing_headers(&origin.authority);
    let written = connection.socket.written();
    if connection.kept {
        connection.socket.look_before_next_write();
    }
    let response = match connection.sender.send_request(message).await {
        Ok(response) => response,
        Err(error) if connection.socket.written() == written => {
            return Err(ExchangeError::NotSent(error));
        }
        Err(error) if error.is_parse() => return Err(ExchangeError::Broken(error)),
        Err(error) => return Err(ExchangeError::NoHead(error)),
    };
    let (head, body) = response.into_parts();
    Ok((head, read(body, response_bytes_max).await?))
}

async fn read(mut body: Incoming, max: usize) -> Result<Bytes, ExchangeError> {
    // What content-length promises, so that a body that is too big is not even begun.
    if body.size_hint().lower() > max as u64 {
        return Err(ExchangeError::TooBig);
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ExchangeError::Broken)?.into_data() else {
            continue; // Trailers.
        };
        if first.len() + whole.len() + data.len() > max {
            return Err(ExchangeError::TooBig);
        }
        // Most bodies come in one piece, which is not copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Waits until the connection can take another request. `None`: it is done for.
pub(crate) async fn settle(mut connection: Connection) -> Option<Connection> {
    let ready = tokio::time::timeout(SETTLE_TIMEOUT, connection.sender.ready()).await;
    connection.kept = true;
    matches!(ready, Ok(Ok(()))).then_some(connection)
}
