//! The processes that hold the connections of `weir-load idle`: as many as the limit of open files
//! asks for, all given the same order at once. What an order means is `part`'s business.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::part::{Answer, Order};
use crate::args::TargetArgs;

/// Files a process needs besides its connections.
const FILES_RESERVED: u64 = 1_000;

/// The processes; dropping them ends them.
pub(crate) struct Crew {
    parts: Vec<Part>,
}

struct Part {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Connections that it holds.
    share: usize,
}

impl Crew {
    /// Starts this program again as often as `connections` need it. They subscribe if there are
    /// channels.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(
        target: &TargetArgs,
        channels: Option<usize>,
        connections: usize,
    ) -> Result<Self> {
        let files = crate::fleet::raise_open_files().saturating_sub(FILES_RESERVED).max(1);
        let count = connections.div_ceil(usize::try_from(files).unwrap_or(usize::MAX)).max(1);
        let share = |index: usize| connections * (index + 1) / count - connections * index / count;
        let part = |index: usize| Part::start(target, channels, share(index));
        let parts: Result<_> = (0..count).map(part).collect();
        Ok(Self { parts: parts? })
    }

    /// How many processes there are.
    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Opens all connections, from addresses of their own in each `round`.
    ///
    /// # Errors
    /// When a part fails.
    pub(crate) fn open(&mut self, round: u8) -> Result<Answer> {
        let parts = u8::try_from(self.parts.len()).context("too many connections")?;
        for (index, part) in (0u8..).zip(&mut self.parts) {
            let block = round.wrapping_mul(parts).wrapping_add(index).wrapping_add(1);
            part.order(Order::Open { count: part.share, block })?;
        }
        self.answers()
    }

    /// Gives one order to all and waits until all have done it.
    ///
    /// # Errors
    /// When a part fails.
    pub(crate) fn order(&mut self, order: Order) -> Result<Answer> {
        self.give(order)?;
        self.answers()
    }

    /// Gives one order to all without waiting; [`Crew::answers`] must follow.
    ///
    /// # Errors
    /// When a part is gone.
    pub(crate) fn give(&mut self, order: Order) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.order(order))
    }

    /// The sum of everybody's answers to the last order, with the longest time.
    ///
    /// # Errors
    /// When a part fails.
    pub(crate) fn answers(&mut self) -> Result<Answer> {
        let mut sum = Answer::default();
        for part in &mut self.parts {
            let answer = part.answer()?;
            sum.open += answer.open;
            sum.seconds = sum.seconds.max(answer.seconds);
            sum.right += answer.right;
            sum.other += answer.other;
            sum.pings += answer.pings;
            sum.ended_at.extend(answer.ended_at);
            for (kind, count) in answer.ends {
                *sum.ends.entry(kind).or_default() += count;
            }
        }
        sum.ended_at.sort_by(f64::total_cmp);
        Ok(sum)
    }
}

impl Part {
    fn start(target: &TargetArgs, channels: Option<usize>, share: usize) -> Result<Self> {
        let wire = target.wire.to_possible_value().context("every wire has a name")?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("idle-part")
            .args(["--wire", wire.get_name(), "--addr", &target.addr, "--path", &target.path])
            .args(target.tls.arguments())
            .args(channels.map(|channels| format!("--channels={channels}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a part")?;
        let orders = child.stdin.take().context("a part has an input")?;
        let answers = BufReader::new(child.stdout.take().context("a part has an output")?);
        Ok(Self { child, orders, answers, share })
    }

    fn order(&mut self, order: Order) -> Result<()> {
        let line = serde_json::to_string(&order)? + "\n";
        self.orders.write_all(line.as_bytes()).context("a part is gone")
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("a part has failed: {}", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| line)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended already; either way it must not stay behind as a zombie.
        self.child.kill().and_then(|()| self.child.wait()).map_or_else(drop, drop);
    }
}
