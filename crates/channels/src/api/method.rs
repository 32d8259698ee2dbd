//! The methods there are, by the names that paths and batches have for them.

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $variant:ident, $name:literal;)+) => {
        /// A method of the server API (protocol, section 2.2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method { $($(#[doc = $doc])+ $variant,)+ }

        impl Method {
            /// Every method; `method as usize` is its index here.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in paths, batches and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The method of this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }

        #[cfg(test)]
        impl Method {
            /// What it does, for the OpenAPI document.
            pub(super) const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

methods! {
    /// Publishes to a channel.
    Publish, "publish";
    /// Publishes the same to many channels.
    Broadcast, "broadcast";
    /// Subscribes connections of a user to a channel, as the server's own subscription.
    Subscribe, "subscribe";
    /// Ends subscriptions of a user's connections.
    Unsubscribe, "unsubscribe";
    /// Ends connections of a user.
    Disconnect, "disconnect";
    /// Gives connections of a user another time to end.
    Refresh, "refresh";
    /// Tells who is in a channel.
    Presence, "presence";
    /// Tells how many are in a channel.
    PresenceStats, "presence_stats";
    /// Reads a part of a channel's history, and its position.
    History, "history";
    /// Forgets a channel's history; its subscribers are told.
    HistoryRemove, "history_remove";
    /// Lists the channels that have subscribers.
    Channels, "channels";
    /// Tells what this process has.
    Info, "info";
    /// Carries out many commands; one that fails fails alone.
    Batch, "batch";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_name_and_nothing_like_it() {
        for (at, method) in Method::ALL.iter().enumerate() {
            assert_eq!(*method as usize, at);
            assert_eq!(Method::parse(method.as_str()), Some(*method));
        }
        for other in ["", "Publish", "publish ", "rpc", "map_publish"] {
            assert_eq!(Method::parse(other), None, "{other:?}");
        }
    }
}
