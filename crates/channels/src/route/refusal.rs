//! Why a message is not published, or a connection not subscribed: what the peer is told, the status
//! over HTTP, and the name under which it is counted.

use crate::broker::BrokerError;
use crate::namespace::NameError;
use crate::seats::SeatsTaken;

use super::segment::SegmentError;

/// See the module. The text is what the peer is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The route only subscribes.
    #[error("this route publishes nothing")]
    NoChannel,
    /// `data` wants JSON.
    #[error("the message is not JSON")]
    NotJson,
    /// `data` wants text.
    #[error("the message is not UTF-8 text")]
    NotText,
    /// The namespace wants something else.
    #[error("the channel's namespace takes no such data (publication_data_format)")]
    Format,
    /// A field cannot be looked for.
    #[error("{field} is missing: the message is not a JSON object")]
    NotAnObject {
        /// As the template writes it.
        field: String,
    },
    /// A field is not there.
    #[error("{field} is missing")]
    Missing {
        /// As the template writes it.
        field: String,
    },
    /// A field is there more than once.
    #[error("{field} stands in the message twice")]
    Twice {
        /// As the template writes it.
        field: String,
    },
    /// A field is an object, a list, a fraction, a truth or null.
    #[error("{field} is neither text nor a whole number")]
    Kind {
        /// As the template writes it.
        field: String,
    },
    /// A value is more than one segment, or none.
    #[error("{name} {error}")]
    Segment {
        /// As the template writes it.
        name: String,
        /// What is wrong with it.
        error: SegmentError,
    },
    /// No channel can have the name.
    #[error("channel {channel:?}: {error}")]
    Name {
        /// The name.
        channel: Box<str>,
        /// What is wrong with it.
        error: NameError,
    },
    /// The namespace does not let the connection's principal do it.
    #[error("permission denied in channel {channel:?}")]
    Permission {
        /// The channel.
        channel: Box<str>,
    },
    /// One channel too many for one connection.
    #[error("a connection publishes into at most channels_max = {max} channels")]
    ManyChannels {
        /// The limit.
        max: usize,
    },
    /// A channel has as many subscribers as it may have.
    #[error("{0}")]
    Subscribers(#[from] SeatsTaken),
    /// The broker holds as much as it may.
    #[error("{0}")]
    Limit(BrokerError),
    /// The broker does not answer. What was asked may have happened.
    #[error("channels are not available now, try again later")]
    Silent,
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(_) => Self::Limit(error),
            BrokerError::WrongEpoch | BrokerError::Silent => Self::Silent,
        }
    }
}

/// The name of a refusal in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The route only subscribes.
    NoChannel,
    /// The message is not of the form that is wanted.
    Data,
    /// A value for the channel's name is missing or is no segment.
    Field,
    /// The name is none of a channel.
    Channel,
    /// The principal may not.
    Permission,
    /// Over the channels of one connection.
    ChannelsMax,
    /// Over a bound of the channel's or the broker's.
    Limit,
    /// The broker does not answer.
    Unavailable,
}

impl Reason {
    /// Every one; `reason as usize` is its index here.
    pub(super) const ALL: [Self; 8] = [
        Self::NoChannel,
        Self::Data,
        Self::Field,
        Self::Channel,
        Self::Permission,
        Self::ChannelsMax,
        Self::Limit,
        Self::Unavailable,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoChannel => "no_channel",
            Self::Data => "data",
            Self::Field => "field",
            Self::Channel => "channel",
            Self::Permission => "permission",
            Self::ChannelsMax => "channels_max",
            Self::Limit => "limit",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status over HTTP.
    pub(super) const fn status(self) -> u16 {
        match self {
            Self::Data | Self::Field | Self::Channel => 400,
            Self::Permission => 403,
            Self::NoChannel => 405,
            Self::ChannelsMax | Self::Limit => 429,
            Self::Unavailable => 503,
        }
    }
}

impl Refusal {
    pub(super) const fn reason(&self) -> Reason {
        match self {
            Self::NoChannel => Reason::NoChannel,
            Self::NotJson | Self::NotText | Self::Format => Reason::Data,
            Self::NotAnObject { .. }
            | Self::Missing { .. }
            | Self::Twice { .. }
            | Self::Kind { .. }
            | Self::Segment { .. } => Reason::Field,
            Self::Name { .. } => Reason::Channel,
            Self::Permission { .. } => Reason::Permission,
            Self::ManyChannels { .. } => Reason::ChannelsMax,
            Self::Subscribers(_) | Self::Limit(_) => Reason::Limit,
            Self::Silent => Reason::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_where_its_index_says() {
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
