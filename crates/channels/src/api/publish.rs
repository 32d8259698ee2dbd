//! `publish` and `broadcast`. What is published is made once, and shared by the channels it goes to.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use weir_auth::Moment;

use super::batch::in_order;
use super::error::ApiError;
use super::reply::{BroadcastResult, PublishResult, json};
use super::request::{BroadcastRequest, NewPublication, PublishRequest, payload};
use super::{Api, At};
use crate::broker::{Publication, Publish, Tags, Version};
use crate::metrics::Origin;
use crate::traced::Traced;

/// Publishes of one broadcast that wait for the broker at a time.
const AT_ONCE: usize = 64;

/// A publication that is ready for any channel.
struct Ready<'a> {
    publication: Publication,
    asked: NewPublication<'a>,
}

impl<'a> Ready<'a> {
    fn new(
        asked: NewPublication<'a>,
        traced: Option<&Traced>,
        at: Moment,
    ) -> Result<Self, ApiError> {
        let data = payload(asked.data, asked.b64data, "data")?.unwrap_or_default();
        let since_1970 = at.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let publication = Publication::new(&data, since_1970.as_millis() as i64, at.now);
        let tags = asked.tags.filter(|tags| !tags.is_empty()).map(|tags| {
            let pairs = tags.iter().map(|(name, value)| ((&**name).into(), (&**value).into()));
            pairs.collect::<Tags>()
        });
        let publication = match tags {
            Some(tags) => publication.tagged(tags),
            None => publication,
        };
        let publication = Traced::mark(traced, publication);
        Ok(Self { publication, asked })
    }
}

impl Api {
    pub(super) async fn publish(
        &self,
        request: &PublishRequest<'_>,
        at: At<'_>,
    ) -> Result<PublishResult, ApiError> {
        let traced = Traced::begin(at.trace, &request.channel);
        let ready = Ready::new(request.publication(), traced.as_ref(), at.moment)?;
        let published = self.publish_to(&request.channel, &ready, at.moment).await;
        if let Some(traced) = traced {
            traced.end();
        }
        published
    }

    pub(super) async fn broadcast(
        &self,
        request: &BroadcastRequest<'_>,
        at: At<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        let (channels, max) = (request.channels.len(), self.limits.broadcast_channels_max);
        if channels > max {
            return Err(ApiError::too_many("channels", channels, max));
        }
        let traced = Traced::begin_many(at.trace, channels);
        let ready = Ready::new(request.publication(), traced.as_ref(), at.moment)?;
        let channels = request.channels.iter();
        let publishes = channels.map(|channel| self.publish_counted(channel, &ready, at.moment));
        let responses = in_order(publishes, AT_ONCE).await;
        if let Some(traced) = traced {
            traced.end();
        }
        let responses = responses.into_iter().map(Into::into).collect();
        Ok(json(&BroadcastResult { responses }))
    }

    /// One of a broadcast: the request goes well, so its errors are counted here.
    async fn publish_counted(
        &self,
        channel: &str,
        ready: &Ready<'_>,
        at: Moment,
    ) -> Result<PublishResult, ApiError> {
        let result = self.publish_to(channel, ready, at).await;
        result.inspect_err(|error| self.metrics.error(error.code()))
    }

    async fn publish_to(
        &self,
        channel: &str,
        ready: &Ready<'_>,
        at: Moment,
    ) -> Result<PublishResult, ApiError> {
        let policy = self.shared.policy.load_full();
        let resolved = policy.namespaces.resolve(channel)?;
        let options = resolved.namespace().options();
        if !options.publication_data_format.accepts(&ready.publication.data) {
            return Err(ApiError::bad_request("data is not what the channel's namespace takes"));
        }
        let asked = ready.asked;
        let version = Version { number: asked.version, epoch: asked.version_epoch };
        let publish = Publish {
            stream: options.history.filter(|_| !asked.skip_history),
            idempotency_key: asked.idempotency_key.filter(|key| !key.is_empty()),
            version: Some(version).filter(|version| version.number > 0),
        };
        let broker = Arc::clone(&self.shared.broker);
        let answer = broker.publish(channel, ready.publication.clone(), publish, at.now);
        let published = answer.wait().await?;
        if published.suppressed.is_none() {
            policy.counts(resolved.namespace()).published(Origin::Api);
        }
        Ok(PublishResult::new(published.position))
    }
}
