//! The fuzzing client of the Autobahn test suite for WebSocket servers, as a table: the 301 cases
//! of its sections 1 to 7, 9 and 10 with the payloads, the chops and the expected endings that it
//! publishes. The suite itself runs on Python 2 only. Sections 12 and 13, compression, are not
//! here: weir does not negotiate permessage-deflate.
//!
//! It knows nothing of weir and can be run against any echo server; see [`run_all`].

mod case;
mod cases;
mod peer;
mod run;

use std::fmt;
use std::net::SocketAddr;

pub use case::Case;
pub use cases::all;

/// What came of a case, in the suite's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As RFC 6455 has it.
    Ok,
    /// Another behaviour that the suite allows.
    NonStrict,
    /// The suite only looks: the RFC leaves it open.
    Informational,
    /// Wrong, and how.
    Failed(String),
}

/// One case and what came of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number, like "6.4.1".
    pub number: String,
    /// What came of it.
    pub verdict: Verdict,
    /// The code that the server must fail the connection with, if it must.
    pub code_expected: Option<u16>,
    /// The code of the close frame that the server sent, if it sent one with a code.
    pub code: Option<u16>,
}

/// What came of all cases, in their order.
#[derive(Clone, Debug)]
pub struct Report(pub Vec<Row>);

impl Report {
    /// How many cases a section has.
    pub fn count(&self, section: &str) -> usize {
        let prefix = format!("{section}.");
        self.0.iter().filter(|row| row.number.starts_with(&prefix)).count()
    }

    /// The rows that are neither Ok nor Informational.
    pub fn deviations(&self) -> Vec<&Row> {
        let fine = |row: &&Row| !matches!(row.verdict, Verdict::Ok | Verdict::Informational);
        self.0.iter().filter(fine).collect()
    }

    /// The rows where the server had to say a code and said none, or another: the suite also
    /// allows it to drop the connection.
    pub fn untold(&self) -> Vec<&Row> {
        let untold = |row: &&Row| row.code_expected.is_some() && row.code != row.code_expected;
        self.0.iter().filter(untold).collect()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<8} {:?}, close code {:?}", self.number, self.verdict, self.code)
    }
}

/// Runs every case, each on a connection of its own, against the echo server at `path`. It must
/// echo text as text and bytes as bytes, and take messages of 16 MiB.
pub async fn run_all(address: SocketAddr, path: &str) -> Report {
    let mut rows = Vec::new();
    for case in all() {
        rows.push(run::run(&case, address, path).await);
    }
    Report(rows)
}
