//! `subscribe`, `unsubscribe`, `disconnect` and `refresh`: what is done to connections. Every worker
//! is told, since any may have them, and the answer comes when every worker has passed it on to its
//! sessions.

use std::time::{Duration, UNIX_EPOCH};

use weir_auth::Moment;

use super::Api;
use super::error::ApiError;
use super::reply::{Done, json};
use super::request::{
    DisconnectRequest, RefreshRequest, SubscribeRequest, UnsubscribeRequest, payload,
};
use crate::hub::Uid;
use crate::hub::orders::{ForClient, NewSubscription, Order, Who};
use crate::protocol::codes::{DisconnectCode, ErrorCode};

/// What a request says of whom it concerns.
struct Named<'a> {
    user: Option<&'a str>,
    client: Option<&'a str>,
    session: Option<&'a str>,
}

impl Named<'_> {
    /// Whom it concerns; `None`: certainly nobody. `client_of` knows the sessions.
    fn who(self, client_of: impl FnOnce(&str) -> Option<Uid>) -> Result<Option<Who>, ApiError> {
        let given = |text: Option<&str>| text.is_some_and(|text| !text.is_empty());
        if !given(self.user) && !given(self.client) && !given(self.session) {
            return Err(ApiError::bad_request("user, client or session is missing"));
        }
        let by_id = self.client.filter(|client| !client.is_empty()).map(Uid::parse);
        let by_session = self.session.filter(|session| !session.is_empty()).map(client_of);
        let user = self.user.unwrap_or_default().into();
        Ok(match (by_id, by_session) {
            (None, None) => Some(Who { user, client: None }),
            // What is no id and no session of weir is nobody's.
            (Some(one), None) | (None, Some(one)) => {
                one.map(|client| Who { user, client: Some(client) })
            }
            (Some(id), Some(session)) => {
                id.filter(|_| id == session).map(|client| Who { user, client: Some(client) })
            }
        })
    }
}

/// The parts of a request that say whom it concerns.
macro_rules! named {
    ($request:expr) => {
        Named {
            user: $request.user.as_deref(),
            client: $request.client.as_deref(),
            session: $request.session.as_deref(),
        }
    };
}

/// How long it is until a time in seconds since 1970; `None` where that means never.
fn time_left(expire_at: Option<i64>, at: Moment) -> Option<Duration> {
    let expire_at = u64::try_from(expire_at?).ok().filter(|seconds| *seconds > 0)?;
    let since_1970 = at.wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Duration::from_secs(expire_at.min(SECONDS_MAX)).saturating_sub(since_1970))
}

/// The year 9999, which no connection lives to see.
const SECONDS_MAX: u64 = 253_402_300_799;

impl Api {
    /// Tells the sessions of some clients.
    async fn tell(&self, who: Option<Who>, what: ForClient) -> Result<Vec<u8>, ApiError> {
        if let Some(who) = who {
            let order = |reply| Order::Clients { who: who.clone(), what: what.clone(), reply };
            self.workers(order).await?;
        }
        Ok(json(&Done {}))
    }

    pub(super) async fn subscribe(
        &self,
        request: &SubscribeRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        let who = named!(request).who(|session| self.shared.client_of(session))?;
        self.shared.policy.load().namespaces.resolve(&request.channel)?;
        let ttl = time_left(request.expire_at, at);
        if ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(ApiError::new(ErrorCode::Expired, "expire_at has passed"));
        }
        let info = payload(request.info, request.b64info.as_deref(), "info")?;
        let data = payload(request.data, request.b64data.as_deref(), "data")?;
        let since = request.recover_since.as_ref();
        let new = NewSubscription {
            channel: (&*request.channel).into(),
            info: info.map(|bytes| bytes.into_owned().into()),
            data: data.map(|bytes| bytes.into_owned().into()),
            ttl,
            recover_since: since.map(|since| (since.offset, (&*since.epoch).into())),
            overrides: request
                .overrides
                .as_ref()
                .map(|given| given.overrides())
                .unwrap_or_default(),
        };
        self.tell(who, ForClient::Subscribe(new.into())).await
    }

    pub(super) async fn unsubscribe(
        &self,
        request: &UnsubscribeRequest<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        let who = named!(request).who(|session| self.shared.client_of(session))?;
        let channel = request.channel.as_deref().filter(|channel| !channel.is_empty());
        if let Some(channel) = channel {
            self.shared.policy.load().namespaces.resolve(channel)?;
        }
        self.tell(who, ForClient::Unsubscribe { channel: channel.map(Into::into) }).await
    }

    pub(super) async fn disconnect(
        &self,
        request: &DisconnectRequest<'_>,
    ) -> Result<Vec<u8>, ApiError> {
        let who = named!(request).who(|session| self.shared.client_of(session))?;
        let usual = DisconnectCode::ForceNoReconnect;
        let (code, reason) = match &request.disconnect {
            None => (usual.number() as u16, usual.text()),
            Some(given) if !(3000..5000).contains(&given.code) => {
                return Err(ApiError::bad_request("disconnect.code is not one of 3000 to 4999"));
            }
            Some(given) => (given.code, given.reason.as_deref().unwrap_or_default()),
        };
        // What is no id of weir keeps nobody.
        let except = request.whitelist.iter().flatten().filter_map(|client| Uid::parse(client));
        let except = except.collect();
        self.tell(who, ForClient::Disconnect { code, reason: reason.into(), except }).await
    }

    pub(super) async fn refresh(
        &self,
        request: &RefreshRequest<'_>,
        at: Moment,
    ) -> Result<Vec<u8>, ApiError> {
        let who = named!(request).who(|session| self.shared.client_of(session))?;
        let ttl = time_left(request.expire_at, at);
        let expired = request.expired.unwrap_or_default() || ttl.is_some_and(|ttl| ttl.is_zero());
        let info = request.info.map(|info| info.get().as_bytes().into());
        self.tell(who, ForClient::Refresh { expired, ttl, info }).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    fn who(user: &str, client: &str, session: &str) -> Result<Option<Who>, ApiError> {
        let named = Named { user: Some(user), client: Some(client), session: Some(session) };
        named.who(|session| (session == "s").then(|| Uid::parse(ID)).flatten())
    }

    const ID: &str = "00000000-0000-4000-8000-000000000001";

    #[test]
    fn nobody_is_meant_by_chance() {
        let meant = |user: &str, client| Ok(Some(Who { user: user.into(), client }));
        assert_eq!(who("ann", "", ""), meant("ann", None));
        assert_eq!(who("", ID, ""), meant("", Uid::parse(ID)));
        assert_eq!(who("ann", "", "s"), meant("ann", Uid::parse(ID)));
        assert_eq!(who("ann", ID, "s"), meant("ann", Uid::parse(ID)));
        // What names nobody means nobody, and never everybody.
        assert_eq!(who("ann", "no-id", ""), Ok(None));
        assert_eq!(who("ann", "", "other"), Ok(None));
        assert_eq!(who("ann", "00000000-0000-4000-8000-000000000002", "s"), Ok(None));
        assert_eq!(who("", "", "").map_err(|error| error.code()), Err(ErrorCode::BadRequest));
    }

    #[test]
    fn a_time_that_has_passed_is_no_time_left_and_0_is_for_ever() {
        let wall = UNIX_EPOCH + Duration::from_secs(1_000);
        #[expect(clippy::disallowed_methods, reason = "a test's beginning")]
        let at = Moment { now: Instant::now(), wall };
        let seconds = |expire_at| time_left(expire_at, at).map(|left| left.as_secs());
        assert_eq!(seconds(None), None);
        assert_eq!((seconds(Some(0)), seconds(Some(-5))), (None, None));
        assert_eq!((seconds(Some(1)), seconds(Some(1_000))), (Some(0), Some(0)));
        assert_eq!(seconds(Some(1_060)), Some(60));
        // Far enough, and still an instant.
        assert!(at.now.checked_add(time_left(Some(i64::MAX), at).unwrap()).is_some());
        assert!(wall < SystemTime::now());
    }
}
