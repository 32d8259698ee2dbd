//! One request on a connection of its own, for who calls so rarely that a pool would be of no use:
//! the exporter of spans. No TLS, no retry, no metrics, and no deadline: the caller has one.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What went wrong, for a log line.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Sends one request to the host of its URI, and reads an answer of at most `bytes_max`.
///
/// # Errors
///
/// When there is no whole answer within the cap; any status is an answer.
///
/// # Cancel safety
///
/// Dropping the future closes the connection.
pub async fn once(request: Request<Bytes>, bytes_max: usize) -> Result<Response<Bytes>, Fault> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().ok_or("no host in the URI")?.clone();
    let host = authority.host().trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;

    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let exchange = async {
        let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, bytes_max).collect().await?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    tokio::pin!(exchange);
    tokio::select! {
        biased; // An answer that is there wins over the end of its connection.
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            exchange.await
        }
    }
}
