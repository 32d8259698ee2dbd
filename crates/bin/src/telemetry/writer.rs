//! The queue that log lines wait in, bounded in bytes, and the thread that writes them. Whoever
//! logs never waits: a line that does not fit is dropped, counted, and told of in the log itself.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use weir_core::clock;

use super::form::Form;

/// A buffer that grew beyond this in a burst is given back.
const BUFFER_KEPT_MAX: usize = 256 * 1024;

/// The way to the log. Clones share it.
#[derive(Clone)]
pub struct LogQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    bytes_max: usize,
    dropped_total: IntCounter,
}

#[derive(Default)]
struct State {
    /// Lines that wait.
    waiting: Vec<u8>,
    /// Bytes that are being written. They count against the bound too.
    writing: usize,
    /// Lines that were dropped and not told of yet.
    dropped: u64,
}

/// Whether a flush wrote everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing waits.
    All,
    /// Bytes that still wait at the deadline.
    Left(usize),
}

impl LogQueue {
    /// Starts the thread `weir-log`, which writes to `output` whatever is pushed, and holds at most
    /// `bytes_max` of it.
    ///
    /// # Errors
    ///
    /// The thread cannot be made.
    pub fn start(
        output: impl Write + Send + 'static,
        form: Form,
        bytes_max: usize,
        dropped_total: IntCounter,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            bytes_max,
            dropped_total,
        });
        let writing = Arc::clone(&shared);
        thread::Builder::new()
            .name("weir-log".to_owned())
            .spawn(move || writing.write_forever(output, form))?;
        Ok(Self { shared })
    }

    /// Takes a line, or drops and counts it when there is no room. Never waits for the output.
    pub fn push(&self, line: &str) {
        let mut state = self.shared.state.lock();
        if state.waiting.len() + state.writing + line.len() > self.shared.bytes_max {
            state.dropped += 1;
            self.shared.dropped_total.inc();
        } else {
            state.waiting.extend_from_slice(line.as_bytes());
        }
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Waits until everything is written, for at most `timeout`. Blocks the thread.
    pub fn flush(&self, timeout: Duration) -> Flushed {
        let deadline = clock::now() + timeout;
        let mut state = self.shared.state.lock();
        while !state.is_empty() {
            if self.shared.emptied.wait_until(&mut state, deadline).timed_out() {
                return Flushed::Left(state.waiting.len() + state.writing);
            }
        }
        Flushed::All
    }
}

impl fmt::Debug for LogQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogQueue").field("bytes_max", &self.shared.bytes_max).finish()
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.writing == 0 && self.dropped == 0
    }
}

impl Shared {
    fn write_forever(&self, mut output: impl Write, form: Form) {
        let mut batch = Vec::new();
        loop {
            let dropped = self.take(&mut batch);
            if dropped > 0 {
                batch.extend_from_slice(form.dropped(dropped).as_bytes());
            }
            let lost = match output.write_all(&batch).and_then(|()| output.flush()) {
                Ok(()) => 0,
                // Nobody reads, or the disk is full: there is no log to tell it in, only the counter.
                Err(_) => batch.iter().filter(|byte| **byte == b'\n').count() as u64,
            };
            batch.clear();
            batch.shrink_to(BUFFER_KEPT_MAX);
            self.written(lost);
        }
    }

    /// Waits for lines and takes all of them. Returns how many were dropped behind them.
    fn take(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && state.dropped == 0 {
            self.filled.wait(&mut state);
        }
        std::mem::swap(&mut state.waiting, batch);
        state.writing = batch.len();
        std::mem::take(&mut state.dropped)
    }

    fn written(&self, lost: u64) {
        self.dropped_total.inc_by(lost);
        let mut state = self.state.lock();
        state.writing = 0;
        if state.is_empty() {
            self.emptied.notify_all();
        }
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// An output that takes what it is given only when the test lets it.
    struct Pipe {
        begun: SyncSender<()>,
        go_on: Receiver<()>,
        taken: Arc<Mutex<String>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.begun.send(()).map_err(io::Error::other)?;
            self.go_on.recv().map_err(io::Error::other)?;
            self.taken.lock().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Setup {
        queue: LogQueue,
        begun: Receiver<()>,
        go_on: SyncSender<()>,
        taken: Arc<Mutex<String>>,
        dropped: IntCounter,
    }

    fn setup(bytes_max: usize) -> Setup {
        let (begin, begun) = sync_channel(1);
        let (go_on, wait) = sync_channel(8);
        let taken = Arc::new(Mutex::default());
        let pipe = Pipe { begun: begin, go_on: wait, taken: Arc::clone(&taken) };
        let dropped = IntCounter::new("dropped", "dropped").expect("a counter");
        let queue =
            LogQueue::start(pipe, Form::Json, bytes_max, dropped.clone()).expect("a thread");
        Setup { queue, begun, go_on, taken, dropped }
    }

    #[test]
    fn a_blocked_reader_costs_lines_and_never_time_and_the_loss_is_told() {
        let world = setup(10);
        world.queue.push("one\n");
        world.begun.recv().expect("the write begins"); // 4 bytes are being written
        for line in ["two\n", "three\n", "four\n"] {
            world.queue.push(line); // of which only "two" fits beside them
        }
        assert_eq!(world.dropped.get(), 2);
        assert_eq!(world.queue.flush(Duration::from_millis(20)), Flushed::Left(8));

        for _ in 0..2 {
            world.go_on.send(()).expect("the reader goes on");
        }
        assert_eq!(world.queue.flush(Duration::from_secs(5)), Flushed::All);
        let taken = world.taken.lock().clone();
        let lines: Vec<&str> = taken.lines().collect();
        assert_eq!(lines[..2], ["one", "two"]);
        assert!(lines[2].contains("\"msg\":\"dropped 2 lines\",\"dropped\":2"), "{taken}");
        assert_eq!(lines.len(), 3);
        assert_eq!(world.dropped.get(), 2);
    }

    #[test]
    fn a_line_over_the_bound_is_dropped_and_told_of() {
        let world = setup(10);
        world.go_on.send(()).expect("the reader reads");
        world.queue.push("a line that is longer than the queue\n");
        assert_eq!(world.queue.flush(Duration::from_secs(5)), Flushed::All);
        assert!(world.taken.lock().contains("dropped 1 lines"));
    }

    /// An output that fails.
    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_nothing_hangs() {
        let dropped = IntCounter::new("dropped", "dropped").expect("a counter");
        let queue = LogQueue::start(Gone, Form::Json, 100, dropped.clone()).expect("a thread");
        queue.push("one\n");
        queue.push("two\n");
        assert_eq!(queue.flush(Duration::from_secs(5)), Flushed::All);
        assert_eq!(dropped.get(), 2);
    }
}
