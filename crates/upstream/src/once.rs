//! One request on a connection of its own, for who calls so rarely that a pool would be of no use:
//! the exporter of spans. No retry, no metrics, and no deadline: the caller has one.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::uri::Scheme;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::UpstreamBuildError;
use crate::tls::{self, ClientIdentity};

/// What went wrong, for a log line.
type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Sends single requests. Holds no connection between them.
#[derive(Clone)]
pub struct Once {
    tls: Option<TlsConnector>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").field("tls", &self.tls.is_some()).finish()
    }
}

impl Once {
    /// Sends to `http` only.
    pub fn plain() -> Self {
        Self { tls: None }
    }

    /// Sends to `https` too: trusts the authorities of `ca_file`, or the system's, and shows
    /// `identity` to who asks for a certificate. Reads files: call it at start-up.
    ///
    /// # Errors
    ///
    /// When a file cannot be read as PEM, when not one authority is usable, or when the TLS library
    /// refuses its settings.
    pub fn with_tls(
        ca_file: Option<&Path>,
        identity: Option<&ClientIdentity>,
    ) -> Result<Self, UpstreamBuildError> {
        Ok(Self { tls: Some(tls::connector(ca_file, identity)?) })
    }

    /// Sends one request to the host of its URI, and reads an answer of at most `bytes_max`.
    ///
    /// # Errors
    ///
    /// When there is no whole answer within the cap; any status is an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, Fault> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().ok_or("no host in the URI")?.clone();
        let host = authority.host().trim_matches(['[', ']']);
        let secure = head.uri.scheme() == Some(&Scheme::HTTPS);
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let request = Request::from_parts(head, Full::new(body));

        let socket = TcpStream::connect((host, port)).await?;
        if !secure {
            return exchange(socket, request, bytes_max).await;
        }
        let tls = self.tls.as_ref().ok_or("TLS is not set up")?;
        let name = ServerName::try_from(host.to_owned())?;
        let socket = tls.connect(name, socket).await.map_err(|error| format!("TLS: {error}"))?;
        exchange(socket, request, bytes_max).await
    }
}

/// Sends the request on this connection and reads the answer.
async fn exchange<IO>(
    io: IO,
    request: Request<Full<Bytes>>,
    bytes_max: usize,
) -> Result<Response<Bytes>, Fault>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await?;
    let exchange = async {
        let answer = sender.send_request(request).await?;
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
