//! Command-line values that several commands share. What a command does with them is its own.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::fleet::Target;
use crate::tls::TlsArgs;
use crate::wire::Wire;

/// The server and its wire.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// How messages are told apart
    #[arg(long, value_enum, default_value = "lines")]
    pub(crate) wire: Wire,
    /// The server, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) addr: String,
    /// The path to upgrade on (ws only)
    #[arg(long, default_value = "/ws")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

impl TargetArgs {
    /// Resolves the server's name, and reads whom TLS trusts.
    ///
    /// # Errors
    /// When it has no address, or the file of authorities is no good.
    pub(crate) fn resolve(&self) -> Result<Target> {
        let mut addresses = self.addr.to_socket_addrs().with_context(|| self.addr.clone())?;
        let address: SocketAddr = addresses.next().context("the server has no address")?;
        let tls = self.tls.client(&self.addr)?;
        Ok(Target { wire: self.wire, address, path: self.path.clone(), tls })
    }
}

/// Parses `2.5s`, `500ms` or `2m`.
///
/// # Errors
/// A sentence for the user when it is none of these.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    seconds.ok_or_else(|| format!("{text} is not a duration such as 2.5s, 500ms or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(parse_duration("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["5", "s", "-1s", "1h", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
