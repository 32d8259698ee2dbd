//! The least a tokio line echo can do: a task a connection, and one write for all complete lines of
//! a read. It has no limits, timeouts, metrics or logs.
//!
//! Usage: tokio_lines PORT [--multi-thread]

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().and_then(|port| port.parse().ok()).expect("a port");
    let mut builder = match args.next().as_deref() {
        Some("--multi-thread") => Builder::new_multi_thread(),
        Some(other) => panic!("unknown argument {other}"),
        None => Builder::new_current_thread(),
    };
    builder.enable_io().build()?.block_on(serve(port))
}

async fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A peer that resets its connection is none of the others' business.
            drop(echo(stream).await);
        });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 8 * 1024];
    let mut kept = 0;
    loop {
        if kept == buffer.len() {
            return Err(io::Error::other("the line is too long"));
        }
        let read = stream.read(&mut buffer[kept..]).await?;
        if read == 0 {
            return Ok(());
        }
        let filled = kept + read;
        let complete = memchr::memrchr(b'\n', &buffer[..filled]).map_or(0, |at| at + 1);
        stream.write_all(&buffer[..complete]).await?;
        buffer.copy_within(complete..filled, 0);
        kept = filled - complete;
    }
}
