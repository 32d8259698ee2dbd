//! Hooks of channels: which backend is asked what, and how.

use std::time::Duration;

use http::HeaderName;
use http::uri::PathAndQuery;
use serde_json::Value as Json;
use weir_channels::hooks::{CALLS_MAX, Hook, HookOptions};
use weir_channels::notices::NoticeOptions;

use super::channels::ChannelOptionsKeys;
use super::faults::Faults;
use super::headers;
use super::raw::{Raw, Refused, Setting, choices};
use super::section::section;
use super::units::{Grace, Size};
use super::values::Name;

section! {
    /// What a backend is asked while a client waits, by POST of JSON as Centrifugo's proxy has it. A hook
    /// is asked when it has a path.
    pub struct HooksKeys {
        /// The name of the upstream that is asked.
        pub upstream: Option<Name> = "off";
        /// Who a client is that connects without a token, such as "/hooks/connect".
        pub connect: Option<PathAndQuery> = "off";
        /// Whether a connection whose time is over may stay. Clients need not refresh then.
        pub refresh: Option<PathAndQuery> = "off";
        /// Whether a client may subscribe, where subscribe_proxy_enabled is on.
        pub subscribe: Option<PathAndQuery> = "off";
        /// Whether a client may publish, and what, where publish_proxy_enabled is on.
        pub publish: Option<PathAndQuery> = "off";
        /// Whether a subscription whose time is over may stay, where sub_refresh_proxy_enabled is on.
        pub sub_refresh: Option<PathAndQuery> = "off";
        /// What an rpc is answered with.
        pub rpc: Option<PathAndQuery> = "off";
        /// Where the backend is told of clients that have gone and of subscriptions that have ended, a
        /// batch at a time. The keys notice_... are about this.
        pub notices: Option<PathAndQuery> = "off";
        /// How long one call may take, waiting for a connection included. After it: error 100.
        pub timeout: Duration = "1s";
        /// Most calls of one connection that wait at a time. At it: error 111.
        pub calls_max: usize = 16;
        /// Headers of a handshake that are passed on, such as "cookie".
        pub forward_headers: Vec<HookHeader> = [];
        /// Headers that a client may name in its connect command, as browsers must. Whoever can
        /// connect can write anything there.
        pub forward_emulated_headers: Vec<HookHeader> = [];
        /// Payloads go in base64 also where they are JSON.
        pub binary_encoding: bool = false;
        /// Which are told: "disconnect", "unsubscribe".
        pub notice_events: Vec<NoticeEvent> = ["disconnect", "unsubscribe"];
        /// How long one waits for a backend that is away. After it, it is dropped and counted.
        pub notice_age_max: Duration = "10m";
        /// Most that wait. The next one is dropped and counted.
        pub notice_count_max: usize = 100000;
        /// Most bytes of them.
        pub notice_bytes_max: Size = "64MiB";
        /// Most in one call.
        pub notice_batch_max: usize = 1000;
        /// How long one call with them may take.
        pub notice_timeout: Duration = "10s";
    }
}

/// What the backend is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeEvent {
    /// A client has gone.
    Disconnect,
    /// A subscription has ended while its client stayed.
    Unsubscribe,
}

choices!(NoticeEvent {
    "disconnect" => NoticeEvent::Disconnect,
    "unsubscribe" => NoticeEvent::Unsubscribe,
});

/// How long the SDKs wait for an answer by default.
const SDK_TIMEOUT: Duration = Duration::from_secs(5);

/// A header of a client that may go to a backend, credentials too: it is the backend that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHeader(pub HeaderName);

impl Setting for HookHeader {
    fn wanted() -> String {
        "the name of a client's header for the backend, such as \"cookie\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().ok_or(Refused::Shape)?.to_ascii_lowercase();
        let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Refused::Shape)?;
        if headers::is_own(&text) {
            return Err(Refused::Because(format!(
                "\"{text}\" is never passed on: it is weir's or the connection's own"
            )));
        }
        Ok(Self(name))
    }

    fn show(&self) -> Json {
        self.0.as_str().into()
    }
}

impl HooksKeys {
    fn path(&self, hook: Hook) -> Option<&PathAndQuery> {
        match hook {
            Hook::Connect => self.connect.as_ref(),
            Hook::Refresh => self.refresh.as_ref(),
            Hook::Subscribe => self.subscribe.as_ref(),
            Hook::Publish => self.publish.as_ref(),
            Hook::SubRefresh => self.sub_refresh.as_ref(),
            Hook::Rpc => self.rpc.as_ref(),
        }
    }

    /// How the backend is asked.
    pub fn options(&self) -> HookOptions {
        let names =
            |headers: &[HookHeader]| headers.iter().map(|header| header.0.clone()).collect();
        HookOptions {
            paths: Hook::ALL.map(|hook| self.path(hook).cloned()),
            timeout: self.timeout,
            calls_max: self.calls_max,
            forward_headers: names(&self.forward_headers),
            forward_emulated_headers: names(&self.forward_emulated_headers),
            binary_encoding: self.binary_encoding,
            notices: self.notices.clone().map(|path| (path, self.notice_options())),
        }
    }

    fn notice_options(&self) -> NoticeOptions {
        NoticeOptions {
            disconnects: self.notice_events.contains(&NoticeEvent::Disconnect),
            unsubscribes: self.notice_events.contains(&NoticeEvent::Unsubscribe),
            count_max: self.notice_count_max,
            bytes_max: self.notice_bytes_max.0,
            age_max: self.notice_age_max,
            batch_max: self.notice_batch_max,
            timeout: self.notice_timeout,
        }
    }

    /// Notes what cannot work; `path` is where the section is.
    pub(super) fn check(&self, path: &str, faults: &Faults) {
        let key = |name: &str| format!("{path}.{name}");
        let hooks = Hook::ALL.into_iter().filter(|hook| self.path(*hook).is_some());
        let mut set: Vec<&str> = hooks.map(Hook::as_str).collect();
        set.extend(self.notices.as_ref().map(|_| "notices"));
        if self.upstream.is_none() {
            for name in set {
                let paths = [key(name), key("upstream")];
                faults
                    .contradiction(&[&paths[0], &paths[1]], "nobody is asked without an upstream");
            }
        } else if set.is_empty() {
            let text = "is asked nothing: no hook has a path";
            faults.contradiction(&[&key("upstream"), &key(Hook::Connect.as_str())], text);
        }
        if !(1..=CALLS_MAX).contains(&self.calls_max) {
            let text = format!("{} is not from 1 to {CALLS_MAX}", self.calls_max);
            faults.add(&key("calls_max"), text);
        }
        if self.notice_batch_max == 0 {
            faults.add(&key("notice_batch_max"), "no batch has none");
        }
    }

    /// Notes options of channels, at `path`, that want a hook which is not there.
    pub(super) fn check_options(&self, options: &ChannelOptionsKeys, path: &str, faults: &Faults) {
        for (wanted, key, hook) in [
            (options.subscribe_proxy_enabled, "subscribe_proxy_enabled", Hook::Subscribe),
            (options.publish_proxy_enabled, "publish_proxy_enabled", Hook::Publish),
            (options.sub_refresh_proxy_enabled, "sub_refresh_proxy_enabled", Hook::SubRefresh),
        ] {
            if wanted && self.path(hook).is_none() {
                let paths = [format!("{path}.{key}"), format!("channels.hooks.{}", hook.as_str())];
                let text = format!("needs {}, the path of that hook", paths[1]);
                faults.contradiction(&[&paths[0], &paths[1]], text);
            }
        }
    }

    /// Calls that wait must leave room for what is read meanwhile.
    pub(super) fn check_in_flight(&self, in_flight_max: usize, faults: &Faults) {
        if self.upstream.is_some() && self.calls_max >= in_flight_max {
            let text = format!(
                "{} is not below limits.in_flight_max = {in_flight_max}: a connection whose hooks are slow \
                 would not be read",
                self.calls_max
            );
            faults.contradiction(&["channels.hooks.calls_max", "limits.in_flight_max"], text);
        }
    }

    /// What works and is probably not meant.
    pub(super) fn warning(&self) -> Option<String> {
        (self.upstream.is_some() && self.timeout >= SDK_TIMEOUT).then(|| {
            let (timeout, sdk) = (Grace(self.timeout), Grace(SDK_TIMEOUT));
            format!("channels.hooks.timeout: {timeout}, and SDKs give a command up after {sdk}")
        })
    }
}
