//! The check of a token where it can be made: at once on an event loop when it is short, else
//! outside of them, where a key set may be asked first.

use std::time::Duration;

use tokio::time::timeout;
use weir_core::clock;

use crate::claims::Token;
use crate::refusal::TokenError;
use crate::verifier::{Moment, Verifier};

/// Why a token is not taken, by who can tell bad ones from those that nobody can judge now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// It is not good.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its key is not known, and neither is the key set.
    #[error("no key set")]
    KeysUnavailable,
    /// The key set did not answer in time.
    #[error("the key set did not answer in time")]
    Timeout,
}

impl Verifier {
    /// Checks a token when that is short and nothing that could be asked for would change what comes
    /// of it. `None`: leave it to [`check_later`](Self::check_later).
    pub fn check_now(&self, token: &str, at: Moment) -> Option<Result<Token, CheckError>> {
        if !self.is_quick(token, at.now) {
            return None;
        }
        let found = self.verify(token, at);
        let may_change = found == Err(TokenError::UnknownKey) && self.can_refresh(at.now);
        (!may_change).then(|| self.judged(found, at))
    }

    /// Checks a token outside of the event loops, and once more when the key set may have its key
    /// by then; waits for the set at most as long as `within`. Gives the time of the check too.
    ///
    /// # Cancel safety
    /// May be dropped; whoever asks next asks the key set again.
    pub async fn check_later(
        &self,
        token: &str,
        within: Duration,
    ) -> (Result<Token, CheckError>, Moment) {
        let at = Moment::at(clock::now());
        let found = self.verify(token, at);
        if found != Err(TokenError::UnknownKey) || !self.can_refresh(at.now) {
            return (self.judged(found, at), at);
        }
        let refreshed = timeout(within, self.refresh()).await;
        let at = Moment::at(clock::now());
        match refreshed {
            Ok(()) => (self.judged(self.verify(token, at), at), at),
            Err(_) => (Err(CheckError::Timeout), at),
        }
    }

    /// A key cannot be said to be unknown while its set is.
    fn judged(&self, found: Result<Token, TokenError>, at: Moment) -> Result<Token, CheckError> {
        found.map_err(|error| {
            let unjudged = error == TokenError::UnknownKey && self.awaits_keys(at.now);
            if unjudged { CheckError::KeysUnavailable } else { CheckError::Token(error) }
        })
    }
}
