//! What connections say and hear that subscribe: on WebSocket in frames, on Server-Sent Events in the
//! request they begin with, and in pongs that are posted beside them. Counts nothing but subscriptions.

use anyhow::{Result, ensure};

use super::pongs::Pongs;
use crate::channels::{self, Listener, Said};
use crate::fleet::Target;
use crate::wire::Wire;

/// All subscribers of a process.
pub(super) struct Subscriber {
    /// How many channels there are.
    channels: usize,
    /// Where a stream of events is requested; `None` on WebSocket.
    events: Option<Events>,
    listener: Listener,
    /// Subscriptions that stand.
    pub(super) subscribed: u64,
    /// The first refusal of a command.
    pub(super) refused: Option<String>,
}

struct Events {
    path: String,
    host: String,
    /// By the index of a connection: its session and node.
    sessions: Vec<Option<Box<(String, String)>>>,
    pongs: Pongs,
}

/// What a frame or an event had besides replies.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    pub(super) pings: u64,
    pub(super) publications: u64,
}

impl Subscriber {
    /// Subscribers to one each of so many channels.
    ///
    /// # Errors
    /// When the wire is one on which nobody subscribes, or TLS is in the way of its pongs.
    pub(super) fn new(channels: usize, target: &Target) -> Result<Self> {
        ensure!(matches!(target.wire, Wire::Ws | Wire::Sse), "--channels needs --wire ws or sse");
        ensure!(channels > 0, "--channels is at least one");
        let events = (target.wire == Wire::Sse).then(|| Events::new(target)).transpose()?;
        let listener = Listener::new();
        Ok(Self { channels, events, listener, subscribed: 0, refused: None })
    }

    /// Appends what a connection begins with.
    pub(super) fn begin(&self, index: usize, out: &mut Vec<u8>) {
        let channel = format!("c{}", index % self.channels);
        match &self.events {
            None => channels::begin(Some(&channel), index as u32, out),
            Some(events) => channels::begin_events(&events.path, &events.host, &channel, out),
        }
    }

    /// Hears a frame or an event, and answers its pings.
    ///
    /// # Panics
    /// When the thread that posts pongs has failed.
    pub(super) fn hear(&mut self, index: usize, text: &[u8], out: &mut Vec<u8>) -> Heard {
        let mut heard = Heard::default();
        for said in self.listener.hear(text) {
            match said {
                Said::Ping => {
                    heard.pings += 1;
                    match &self.events {
                        None => Wire::Ws.encode(channels::EMPTY, index as u32, out),
                        Some(events) => events.pong(index),
                    }
                }
                Said::Subscribed => self.subscribed += 1,
                Said::Streams { session, node } => {
                    if let Some(events) = &mut self.events {
                        events.keep(index, session, node);
                    }
                }
                Said::Done => {}
                Said::Publication(_) => heard.publications += 1,
                Said::Refused(line) => {
                    let line = String::from_utf8_lossy(line).into_owned();
                    self.refused.get_or_insert(line);
                }
            }
        }
        heard
    }
}

impl Events {
    fn new(target: &Target) -> Result<Self> {
        ensure!(target.tls.is_none(), "pongs beside events are posted without TLS");
        Ok(Self {
            path: target.path.clone(),
            host: target.address.to_string(),
            sessions: Vec::new(),
            pongs: Pongs::start(target.address),
        })
    }

    fn keep(&mut self, index: usize, session: &str, node: &str) {
        let names = Box::new((session.to_owned(), node.to_owned()));
        self.sessions.resize(self.sessions.len().max(index + 1), None);
        self.sessions[index] = Some(names);
    }

    fn pong(&self, index: usize) {
        if let Some(Some(names)) = self.sessions.get(index) {
            self.pongs.post(channels::post_pong(&self.host, &names.0, &names.1));
        }
    }
}
