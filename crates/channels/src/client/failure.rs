//! Why a command fails, as its client is told: the protocol's code, and the limit that it is about when
//! it is about one (error 106).

use crate::broker::{BrokerError, Refusal};
use crate::protocol::codes::ErrorCode;
use crate::protocol::reply;
use crate::seats::SeatsTaken;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The code says it all.
    #[error("{}", .0.text())]
    Code(ErrorCode),
    /// The connection is in as many channels as it may be.
    #[error(
        "limit exceeded: a connection is in at most channels_per_connection_max = {max} channels"
    )]
    ConnectionChannels {
        /// The limit.
        max: usize,
    },
    /// The channel has as many subscribers as it may have.
    #[error("limit exceeded: {0}")]
    Subscribers(SeatsTaken),
    /// The broker holds as much as it may.
    #[error("limit exceeded: {0}")]
    Broker(Refusal),
}

impl Failure {
    /// The protocol's code, by which it is counted.
    pub(super) const fn code(self) -> ErrorCode {
        match self {
            Self::Code(code) => code,
            Self::ConnectionChannels { .. } | Self::Subscribers(_) | Self::Broker(_) => {
                ErrorCode::LimitExceeded
            }
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<SeatsTaken> for Failure {
    fn from(taken: SeatsTaken) -> Self {
        Self::Subscribers(taken)
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(refusal) => Self::Broker(refusal),
            BrokerError::WrongEpoch => Self::Code(ErrorCode::UnrecoverablePosition),
            BrokerError::Silent => Self::Code(ErrorCode::Internal),
        }
    }
}

impl From<Failure> for reply::Error<'_> {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Code(code) => code.into(),
            Failure::ConnectionChannels { .. } | Failure::Subscribers(_) | Failure::Broker(_) => {
                Self { message: failure.to_string().into(), ..failure.code().into() }
            }
        }
    }
}
