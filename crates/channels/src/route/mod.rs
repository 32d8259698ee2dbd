//! Routes of plain messages that meet channels: each message of a connection is published, and the
//! connection is told of channels, so that a device with a socket and a browser with an SDK talk to
//! each other. The client protocol is not spoken here.
//!
//! [`template`] makes the name of a channel, of values that are each one segment of it (`segment`): what
//! a device says can leave neither its place in the name nor the namespace. What is published then
//! passes the checks that a client's publish passes, for the principal of the connection.

mod fields;
mod later;
mod metrics;
mod name;
mod payload;
mod publish;
mod refusal;
mod segment;
mod session;
mod subscribe;
pub mod template;

use std::sync::Arc;

use weir_core::service::{Opening, Service, Session};

pub use metrics::RouteMetrics;
pub use payload::DataForm;
pub use segment::{SEGMENT_BYTES_MAX, SegmentError};
pub use template::{ChannelTemplate, ReplyTemplate, TemplateError};

use self::metrics::Refused;
use self::name::{Bearer, Bound};
use self::session::{Opened, RouteSession};
use crate::hub::Uid;
pub use crate::hub::Written;
use crate::shared::Shared;

/// What a route does with messages, and what its connections are told.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    /// The channel that messages are published into. `None`: they are refused.
    pub channel: Option<ChannelTemplate>,
    /// What is published of a message.
    pub data: DataForm,
    /// The answer to a message that was published. `None`: nothing.
    pub reply: Option<ReplyTemplate>,
    /// Whether a message that was not is answered with an error. Over HTTP it always is.
    pub errors: bool,
    /// Channels that one connection may publish into.
    pub channels_max: usize,
    /// The channels that a connection is subscribed to when it opens. Without fields of messages.
    pub subscribe: Vec<ChannelTemplate>,
    /// What is written of a publication.
    pub written: Written,
}

/// A route whose messages are published, and whose connections are subscribed.
pub struct PublishRoute {
    route: String,
    shared: Arc<Shared>,
    plan: Arc<Plan>,
}

/// What the connections of one route have in common.
struct Plan {
    channel: Option<Arc<ChannelTemplate>>,
    data: DataForm,
    reply: Option<ReplyTemplate>,
    errors: bool,
    channels_max: usize,
    subscribe: Vec<Arc<ChannelTemplate>>,
    written: Written,
    refused: Refused,
}

impl PublishRoute {
    /// The route of this name.
    pub fn new(
        route: String,
        options: RouteOptions,
        shared: Arc<Shared>,
        metrics: &RouteMetrics,
    ) -> Self {
        let plan = Plan {
            channel: options.channel.map(Arc::new),
            data: options.data,
            reply: options.reply,
            errors: options.errors,
            channels_max: options.channels_max,
            subscribe: options.subscribe.into_iter().map(Arc::new).collect(),
            written: options.written,
            refused: metrics.route(&route),
        };
        Self { route, shared, plan: Arc::new(plan) }
    }
}

impl Service for PublishRoute {
    fn route(&self) -> &str {
        &self.route
    }

    fn open(&self, opening: &Opening<'_>) -> Box<dyn Session> {
        let uid = Uid::new(opening.conn, self.shared.secret);
        let bearer = Bearer::of(opening, uid);
        let channel = self.plan.channel.as_ref().map(|template| Bound::new(template, &bearer));
        let wanted = self.plan.subscribe.iter().map(|template| {
            let name = Bound::new(template, &bearer).name(b"");
            name.map(|(name, _)| name)
        });
        Box::new(RouteSession::new(Opened {
            shared: Arc::clone(&self.shared),
            plan: Arc::clone(&self.plan),
            uid,
            user: opening.principal.map(|principal| Arc::clone(&principal.name)),
            wire: opening.wire,
            channel,
            wanted: wanted.collect(),
        }))
    }
}
