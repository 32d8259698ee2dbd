//! A message on its way into a channel, and what its sender is told. What was not published is never
//! answered as if it were.

use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use weir_auth::Moment;
use weir_core::context::RequestId;
use weir_core::service::{Actions, Message, MessageKind};

use super::later::Wait;
use super::payload::payload;
use super::refusal::Refusal;
use super::session::RouteSession;
use super::template::ReplyValues;
use crate::broker::{Answer, BrokerError, Publication, Publish, Published};
use crate::metrics::{Counts, Origin};
use crate::protocol::codes::ErrorCode;
use crate::traced::Traced;

/// A message that the broker has.
pub(super) struct Publishing {
    channel: Box<str>,
    counts: Counts,
    kind: MessageKind,
}

impl RouteSession {
    pub(super) fn publish(
        &mut self,
        message: Message<'_>,
        request: &RequestId,
        now: Instant,
        actions: &mut Actions,
    ) {
        match self.hand_over(message, now, actions) {
            Ok((publishing, Answer::Now(published))) => {
                self.published(published, &publishing, request, actions);
            }
            Ok((publishing, Answer::Later(answer))) => {
                self.later(answer, |slot| Wait::Publish(slot, publishing), actions);
            }
            Err(refusal) => self.refuse(&refusal, message.kind, request, actions),
        }
    }

    /// Gives a message to the broker, when it may be published.
    fn hand_over(
        &mut self,
        message: Message<'_>,
        now: Instant,
        actions: &mut Actions,
    ) -> Result<(Publishing, Answer<Published>), Refusal> {
        let bound = self.channel.as_ref().ok_or(Refusal::NoChannel)?;
        let (channel, is_json) = bound.name(message.payload)?;
        let is_chosen = bound.is_chosen();
        let data = payload(self.plan.data, message.payload, is_json)?;
        let policy = self.shared.policy.load_full();
        let name = |error| Refusal::Name { channel: (&*channel).into(), error };
        let resolved = policy.namespaces.resolve(&channel).map_err(name)?;
        let subscribed = self.find(&channel, actions).is_some();
        let denied = |_code| Refusal::Permission { channel: (&*channel).into() };
        let options = resolved.namespace().options();
        if options.publish_hook {
            // A backend is asked for clients of the protocol.
            return Err(denied(ErrorCode::PermissionDenied));
        }
        resolved.may_publish(&self.user, subscribed).map_err(denied)?;
        if !options.publication_data_format.accepts(&data) {
            return Err(Refusal::Format);
        }
        if is_chosen {
            self.note_channel(&channel)?;
        }
        let wall = Moment::at(now).wall;
        let time_ms = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let publication = Publication::new(&data, time_ms, now).by(Arc::clone(&self.info));
        let publish = Publish { stream: options.history, ..Publish::default() };
        let traced = Traced::begin(actions.sampled(), &channel);
        let publication = Traced::mark(traced.as_ref(), publication);
        let answer = self.shared.broker.publish(&channel, publication, publish, now);
        if let Some(traced) = traced {
            // That a broker was asked; what it answers later is on the road of the reply.
            traced.end();
        }
        let counts = policy.counts(resolved.namespace());
        Ok((Publishing { channel: channel.into(), counts, kind: message.kind }, answer))
    }

    /// Holds the channels of one connection to their bound.
    fn note_channel(&mut self, channel: &str) -> Result<(), Refusal> {
        if self.published.contains(channel) {
            return Ok(());
        }
        let max = self.plan.channels_max;
        if self.published.len() >= max {
            return Err(Refusal::ManyChannels { max });
        }
        self.published.insert(channel.into());
        Ok(())
    }

    /// The broker has said what became of a message.
    pub(super) fn published(
        &mut self,
        published: Result<Published, BrokerError>,
        publishing: &Publishing,
        request: &RequestId,
        actions: &mut Actions,
    ) {
        let published = match published {
            Ok(published) => published,
            Err(error) => return self.refuse(&error.into(), publishing.kind, request, actions),
        };
        publishing.counts.published(Origin::Route);
        let Some(reply) = &self.plan.reply else { return };
        let position = published.position;
        let epoch = position.map(|position| position.epoch.to_string()).unwrap_or_default();
        let reply = reply.render(ReplyValues {
            channel: &publishing.channel,
            offset: position.map_or(0, |position| position.offset),
            epoch: &epoch,
            request_id: request,
        });
        actions.reply(publishing.kind, &[reply.as_bytes()]);
    }

    /// A message is not published: that is counted, and its sender is told why.
    fn refuse(
        &self,
        refusal: &Refusal,
        kind: MessageKind,
        request: &RequestId,
        actions: &mut Actions,
    ) {
        let reason = refusal.reason();
        self.plan.refused.count(reason);
        tracing::debug!(request_id = %request, %refusal, "a message is not published");
        if self.wire.is_none() {
            let id = request.to_string();
            let body = serde_json::json!({ "error": refusal.to_string(), "request_id": id });
            let body = body.to_string();
            let (status, kind) = (reason.status(), MessageKind::Text);
            actions.reply_with_status(status, kind, &[body.as_bytes(), b"\n"]);
        } else if self.plan.errors {
            let text = format!("error: {refusal} (request_id={request})");
            actions.reply(kind, &[text.as_bytes()]);
        }
    }
}
