//! Plays one case and judges it as the suite does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::case::{
    BINARY, CLOSE, CONTINUATION, Case, Chops, Ending, Event, Frame, PING, PONG, Step, TEXT, close,
};
use super::peer::{Incoming, Peer, encode};
use super::{Row, Verdict};

/// A wait within a case; the suite's is 1 s.
const PAUSE: Duration = Duration::from_millis(300);

/// Plays a case on a new connection.
pub(super) async fn run(case: &Case, address: SocketAddr, path: &str) -> Row {
    let mut play = Play::default();
    let played = timeout(case.limit, play.play(case, address, path)).await;
    let verdict = match played {
        Ok(Ok(())) => play.judge(case),
        Ok(Err(broken)) => Verdict::Failed(broken),
        Err(_) => Verdict::Failed(format!("not done after {:?}: {}", case.limit, play.seen())),
    };
    let code_expected = match &case.ending {
        Ending::Theirs(code) => Some(*code),
        Ending::Ours | Ending::InSteps { .. } => None,
    };
    Row { number: case.number.clone(), verdict, code_expected, code: play.code() }
}

/// What has happened so far.
#[derive(Default)]
struct Play {
    events: Vec<Event>,
    /// The message whose last fragment has not come.
    message: Option<(u8, Vec<u8>)>,
    /// The client has sent a close frame, of its own or as an answer.
    close_sent: bool,
    /// The payload of the server's close frame.
    close_received: Option<Vec<u8>>,
    /// The server was the first to close or to end the connection.
    theirs: bool,
    ended: bool,
    masks: u32,
}

impl Play {
    async fn play(&mut self, case: &Case, address: SocketAddr, path: &str) -> Result<(), String> {
        let mut peer = Peer::open(address, path).await?;
        for step in &case.steps {
            match step {
                Step::Send(frames, chops) => self.send(&mut peer, frames, *chops).await,
                Step::SendInParts(frame, places) => {
                    self.send_in_parts(&mut peer, frame, *places).await?;
                }
                Step::Pause => self.pause(&mut peer).await?,
                Step::Wait => self.wait(&mut peer).await?,
                Step::RoundTrips(frame, count) => {
                    self.round_trips(&mut peer, frame, *count).await?;
                }
            }
        }
        while !self.ended {
            let seen = self.events == case.expected;
            if seen && matches!(case.ending, Ending::Ours) && self.open() {
                self.send(&mut peer, &[close(1000, b"")], Chops::Whole).await;
            }
            self.receive(&mut peer).await?;
        }
        Ok(())
    }

    /// Neither side has closed.
    fn open(&self) -> bool {
        !self.close_sent && self.close_received.is_none() && !self.ended
    }

    async fn send(&mut self, peer: &mut Peer, frames: &[Frame], chops: Chops) {
        if self.theirs {
            return; // The server has closed: the suite stops sending.
        }
        self.close_sent |= frames.iter().any(|frame| frame.opcode == CLOSE && frame.rsv == 0);
        let (bytes, frame_ends) = self.encode(frames);
        let ends = match chops {
            Chops::Whole => vec![bytes.len()],
            Chops::Frames => frame_ends,
            Chops::Octets(count) => {
                (count..bytes.len()).step_by(count).chain([bytes.len()]).collect()
            }
        };
        let mut start = 0;
        for end in ends {
            // A failure shows when reading: the server may have said why it closed.
            if peer.send(&bytes[start..end]).await.is_err() {
                break;
            }
            start = end;
        }
    }

    /// Sends a short frame in three parts with a wait between them.
    async fn send_in_parts(
        &mut self,
        peer: &mut Peer,
        frame: &Frame,
        places: [usize; 2],
    ) -> Result<(), String> {
        const HEADER: usize = 6;
        let [first, second] = places.map(|place| place + HEADER);
        let (bytes, _) = self.encode(std::slice::from_ref(frame));
        for part in [&bytes[..first], &bytes[first..second]] {
            if self.theirs || peer.send(part).await.is_err() {
                return Ok(());
            }
            self.wait(peer).await?;
        }
        if !self.theirs {
            peer.send(&bytes[second..]).await.ok();
        }
        Ok(())
    }

    /// The frames as bytes, each with a mask of its own, and where each ends.
    fn encode(&mut self, frames: &[Frame]) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for frame in frames {
            self.masks = self.masks.wrapping_add(0x9e37_79b9);
            encode(frame, self.masks.to_be_bytes(), &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    /// Reads for a while.
    async fn pause(&mut self, peer: &mut Peer) -> Result<(), String> {
        let read = async {
            while self.open() {
                self.receive(peer).await?;
            }
            Ok(())
        };
        timeout(PAUSE, read).await.unwrap_or(Ok(()))
    }

    async fn wait(&mut self, peer: &mut Peer) -> Result<(), String> {
        self.pause(peer).await?;
        if self.open() {
            self.events.push(Event::Waited);
        }
        Ok(())
    }

    async fn round_trips(
        &mut self,
        peer: &mut Peer,
        frame: &Frame,
        count: usize,
    ) -> Result<(), String> {
        let echo = Event::Message(frame.opcode, frame.payload.clone());
        for trip in 0..count {
            self.send(peer, std::slice::from_ref(frame), Chops::Whole).await;
            while self.events.is_empty() && !self.ended {
                self.receive(peer).await?;
            }
            if self.events != [echo.clone()] {
                return Err(format!("echo {trip} differs: {}", self.seen()));
            }
            // The last one stays, to be what the case expects.
            if trip + 1 < count {
                self.events.clear();
            }
        }
        Ok(())
    }

    /// Takes what comes next.
    async fn receive(&mut self, peer: &mut Peer) -> Result<(), String> {
        let frame = match peer.receive().await? {
            Incoming::Frame(frame) => frame,
            Incoming::End => {
                self.theirs |= !self.close_sent;
                self.ended = true;
                return Ok(());
            }
        };
        if self.close_received.is_some() {
            return Err(format!("a frame after the close frame: {frame:?}"));
        }
        if frame.rsv != 0 || (frame.opcode & 8 != 0 && !(frame.fin && frame.payload.len() <= 125)) {
            return Err(format!("the server broke a rule of frames: {frame:?}"));
        }
        match (frame.opcode, self.message.take()) {
            (TEXT | BINARY, None) => self.fragment(frame.opcode, Vec::new(), &frame),
            (CONTINUATION, Some((opcode, bytes))) => self.fragment(opcode, bytes, &frame),
            (PING, message) => {
                self.message = message;
                self.events.push(Event::Ping(frame.payload));
            }
            (PONG, message) => {
                self.message = message;
                self.events.push(Event::Pong(frame.payload));
            }
            (CLOSE, _) => {
                let answer = !self.close_sent;
                self.close_received = Some(frame.payload.clone());
                if answer {
                    self.send(peer, &[Frame { rsv: 0, ..frame }], Chops::Whole).await;
                    self.theirs = true;
                }
            }
            (opcode, _) => return Err(format!("the server sent opcode {opcode} out of place")),
        }
        Ok(())
    }

    fn fragment(&mut self, opcode: u8, mut bytes: Vec<u8>, frame: &Frame) {
        bytes.extend_from_slice(&frame.payload);
        if frame.fin {
            self.events.push(Event::Message(opcode, bytes));
        } else {
            self.message = Some((opcode, bytes));
        }
    }

    fn code(&self) -> Option<u16> {
        let payload = self.close_received.as_ref()?;
        payload.first_chunk().map(|code| u16::from_be_bytes(*code))
    }

    fn judge(&self, case: &Case) -> Verdict {
        if case.informational {
            return Verdict::Informational;
        }
        let (codes, clean, theirs) = match &case.ending {
            Ending::Ours => (vec![1000], true, false),
            Ending::InSteps { codes, clean } => (codes.clone(), *clean, false),
            Ending::Theirs(code) => (vec![*code], false, true),
        };
        let wrong_code = self.code().is_some_and(|code| !codes.contains(&code));
        if self.theirs != theirs {
            return Verdict::Failed(format!("the wrong side closed: {}", self.seen()));
        }
        if clean && self.close_received.is_none() {
            return Verdict::Failed(format!("no close frame: {}", self.seen()));
        }
        if wrong_code {
            return Verdict::Failed(format!("close code {:?}, not {codes:?}", self.code()));
        }
        if self.events == case.expected {
            Verdict::Ok
        } else if case.allowed.as_ref() == Some(&self.events) {
            Verdict::NonStrict
        } else {
            Verdict::Failed(format!("{}, not as expected", self.seen()))
        }
    }

    /// What came, for a message of failure; payloads shortened.
    fn seen(&self) -> String {
        let mut seen = String::new();
        for event in &self.events {
            let event = format!("{event:?}");
            seen.push_str(&event[..event.floor_char_boundary(60)]);
            seen.push_str("; ");
        }
        format!("saw {seen}close code {:?}", self.code())
    }
}
