//! Channels: the namespaces that they are in, and what holds for all of them.

use std::time::Duration;

use serde_json::Value as Json;
use weir_channels::broker::{Limits, StreamOptions};
use weir_channels::namespace::{
    ChannelOptions, ChannelRules, DataFormat, KeyOf, NAMESPACES_MAX, OptionsError, Pattern,
    Permission, SlowConsumers, SlowPolicy,
};

use super::client_tokens::TokenPlan;
use super::faults::Faults;
use super::hooks::HooksKeys;
use super::raw::{Raw, Refused, Setting, choices};
use super::section::{Section, Table, section};
use super::units::Size;
use super::values::Name;

section! {
    /// Channels, for clients that speak the public Centrifugo protocol.
    pub struct ChannelsKeys {
        /// Most channels that one connection is subscribed to. At it: error 106.
        pub channels_per_connection_max: usize = 128;
        /// How often a client is pinged in the protocol. "off": never; then timeouts.idle and
        /// timeouts.ping_interval hold.
        pub ping_interval: Option<Duration> = "25s";
        /// How long its pong may take. After it: disconnect 3012.
        pub pong_timeout: Duration = "8s";
        /// How long a connection may take until its client has connected. After it: disconnect 3502.
        pub connect_timeout: Duration = "10s";
        /// Whether a client is told the time of day when it connects.
        pub connect_include_server_time: bool = false;
        /// How much longer than its token a connection or a subscription stays, so that it can be
        /// refreshed. After it: disconnect 3005, unsubscribe 2501.
        pub expired_close_delay: Duration = "25s";
        /// Longest name of a channel. Over it: error 107.
        pub channel_bytes_max: Size = "255B";
        /// Whether a client may connect without a token. It has no name then.
        pub allow_anonymous_connect_without_token: bool = false;
        /// Whether each user is subscribed to "#USER" by connecting.
        pub subscribe_to_user_personal_channel: bool = false;
        /// The namespace of these channels: "NAMESPACE:#USER".
        pub personal_channel_namespace: Option<Name> = "off";
        /// For development: everybody may do everything, and nobody needs a token. weir warns of it.
        pub insecure: bool = false;
    }
}

section! {
    /// What channels are like: those without a namespace here, those of a namespace in its own
    /// table. What is not allowed is answered with error 103, what is off with 108.
    pub struct ChannelOptionsKeys {
        /// Publications that a channel remembers. It needs history_ttl.
        pub history_size: Option<usize> = "off";
        /// How long it remembers them after the last one. It needs history_size.
        pub history_ttl: Option<Duration> = "off";
        /// How long an idle stream keeps its place, so that clients know whether they missed
        /// anything. At least history_ttl.
        pub history_meta_ttl: Duration = "30d";
        /// Every subscriber is told when it has missed something.
        pub force_positioning: bool = false;
        /// Those who ask for it are.
        pub allow_positioning: bool = false;
        /// Every subscriber gets what it missed when it comes back. It needs a history.
        pub force_recovery: bool = false;
        /// Those who ask for it do.
        pub allow_recovery: bool = false;
        /// Whether it is known who is subscribed.
        pub presence: bool = false;
        /// Whether subscribers that ask for it are told who comes and goes.
        pub join_leave: bool = false;
        /// All subscribers are told, also those who do not ask.
        pub force_push_join_leave: bool = false;
        /// Every user may subscribe.
        pub allow_subscribe_for_client: bool = false;
        /// Those without a name too, where users may.
        pub allow_subscribe_for_anonymous: bool = false;
        /// Every user may publish.
        pub allow_publish_for_client: bool = false;
        /// Users may publish where they are subscribed.
        pub allow_publish_for_subscriber: bool = false;
        /// Those without a name too, where users may.
        pub allow_publish_for_anonymous: bool = false;
        /// Every user may ask who is subscribed.
        pub allow_presence_for_client: bool = false;
        /// Users may ask who else is where they are subscribed.
        pub allow_presence_for_subscriber: bool = false;
        /// Those without a name too, where users may.
        pub allow_presence_for_anonymous: bool = false;
        /// Every user may read the history.
        pub allow_history_for_client: bool = false;
        /// Users may read the history where they are subscribed.
        pub allow_history_for_subscriber: bool = false;
        /// Those without a name too, where users may.
        pub allow_history_for_anonymous: bool = false;
        /// The users behind "#" in a name may subscribe to it, and nobody else: "dialog#ann,bob".
        pub allow_user_limited_channels: bool = false;
        /// What names match behind "NAMESPACE:", such as "^[a-z0-9_]+$". "off": any ASCII.
        pub channel_regex: Option<Pattern> = "off";
        /// What publications are: "any" (but not empty), "json", "json_object" or "binary".
        pub publication_data_format: DataFormat = "any";
        /// The backend says who may subscribe, in place of the keys above (channels.hooks.subscribe). A
        /// token, "$" and the users behind "#" are looked at before.
        pub subscribe_proxy_enabled: bool = false;
        /// The backend says who may publish, and what, in place of the keys above
        /// (channels.hooks.publish).
        pub publish_proxy_enabled: bool = false;
        /// The backend is asked when a subscription's time is over (channels.hooks.sub_refresh).
        pub sub_refresh_proxy_enabled: bool = false;
        /// Most subscribers of one channel on this node. At it: error 106. "off": as many as come.
        pub subscribers_max: Option<usize> = "off";
        /// What becomes of a subscriber that does not keep up. "disconnect": its connection ends with
        /// 3008. "drop_oldest": the oldest publications that wait for it are dropped.
        /// "latest_by_key": those are dropped that a newer one with the same slow_consumer_key has
        /// followed. "catch_up": it is told from the history what it has no room for, and with 2500
        /// when that is too short.
        pub slow_consumer: SlowConsumer = "disconnect";
        /// Where the key of a publication stands: "tag:NAME", or "json:NAME" for a field of the data.
        pub slow_consumer_key: Option<KeyOf> = "off";
        /// Bytes in an outbox from which on that is done. "disconnect" has limits.outbox_bytes_max.
        pub slow_consumer_bytes_max: Size = "64KiB";
    }
}

section! {
    /// A namespace: the channels whose names begin with its name and ":". It has the keys of
    /// [channels.without_namespace] too, with the same defaults.
    pub struct NamespaceKeys {
        /// Its name, and its label in metrics.
        pub name: Name, like "chat";
    }
}

choices!(DataFormat {
    "any" => DataFormat::Any,
    "json" => DataFormat::Json,
    "json_object" => DataFormat::JsonObject,
    "binary" => DataFormat::Binary,
});

/// `slow_consumer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowConsumer {
    /// [`SlowPolicy::Disconnect`].
    Disconnect,
    /// [`SlowPolicy::DropOldest`].
    DropOldest,
    /// [`SlowPolicy::LatestByKey`].
    LatestByKey,
    /// [`SlowPolicy::CatchUp`].
    CatchUp,
}

choices!(SlowConsumer {
    "disconnect" => SlowConsumer::Disconnect,
    "drop_oldest" => SlowConsumer::DropOldest,
    "latest_by_key" => SlowConsumer::LatestByKey,
    "catch_up" => SlowConsumer::CatchUp,
});

impl Setting for KeyOf {
    fn wanted() -> String {
        "\"tag:NAME\", \"json:NAME\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        raw.text().and_then(Self::parse).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl Setting for Pattern {
    fn wanted() -> String {
        "a regular expression such as \"^[a-z0-9_]+$\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let text = raw.text().filter(|text| !text.is_empty()).ok_or(Refused::Shape)?;
        Self::new(text).map_err(|error| Refused::Because(format!("{raw} is {error}")))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

section! {
    /// What is kept in memory of channels. What is over one of these is refused with error 106, unless
    /// it says that the oldest is forgotten.
    pub struct ChannelLimitsKeys {
        /// Most channels that have a history or a subscriber.
        pub channels_max: usize = 1000000;
        /// Most bytes of everything.
        pub bytes_max: Size = "512MiB";
        /// Most publications in one history, whatever its history_size says. The oldest is forgotten.
        pub history_publications_max: usize = 10000;
        /// Largest history of one channel. The oldest publication is forgotten; one that is larger
        /// alone is refused.
        pub history_bytes_max: Size = "4MiB";
        /// Most events of one channel that wait for an event loop. The oldest is forgotten, and its
        /// subscribers are told.
        pub unread_events_max: usize = 4096;
        /// Most bytes of them. The oldest is forgotten.
        pub unread_bytes_max: Size = "4MiB";
        /// Most idempotency keys.
        pub idempotency_keys_max: usize = 100000;
        /// Most clients in the presence of one channel.
        pub presence_clients_max: usize = 10000;
    }
}

impl ChannelLimitsKeys {
    /// The caps of the broker.
    fn limits(&self) -> Limits {
        Limits {
            channels_max: self.channels_max,
            bytes_max: self.bytes_max.0,
            history_publications_max: self.history_publications_max,
            history_bytes_max: self.history_bytes_max.0,
            unread_events_max: self.unread_events_max,
            unread_bytes_max: self.unread_bytes_max.0,
            idempotency_keys_max: self.idempotency_keys_max,
            presence_clients_max: self.presence_clients_max,
        }
    }
}

/// All of `[channels]`.
#[derive(Clone, Debug)]
pub struct Channels {
    /// What stands once.
    pub keys: ChannelsKeys,
    /// What channels there are, and who may do what in them.
    pub rules: ChannelRules,
    /// What is kept in memory.
    pub limits: Limits,
    /// What a backend is asked.
    pub hooks: HooksKeys,
    /// What connection tokens are checked with.
    pub token: TokenPlan,
    /// What subscription tokens are checked with; `None`: as connection tokens are.
    pub subscription_token: Option<TokenPlan>,
    /// All of it as `/config` shows it.
    pub(super) shown: Json,
}

impl Channels {
    /// Takes `[channels]` out of the root. Key files are read, so that a bad one is a fault.
    pub(super) fn read(root: &mut Table<'_>) -> Self {
        let mut table = root.table_or_empty("channels");
        let faults = table.faults();
        let hooks: HooksKeys = table.section("hooks").expect("no key is required");
        hooks.check("channels.hooks", faults);
        let (without_namespace, shown_without) =
            read_options(table.table_or_empty(WITHOUT), &hooks);
        let tables = table.tables("namespaces");
        if tables.len() > NAMESPACES_MAX {
            let text = format!("{} of them, and at most {NAMESPACES_MAX} may be", tables.len());
            faults.add("channels.namespaces", text);
        }
        let names = super::checks::names(&tables);
        let (mut namespaces, mut shown_namespaces) = (Vec::new(), Vec::new());
        let read = tables.into_iter().filter_map(|table| read_namespace(table, &hooks));
        for (name, options, shown) in read {
            namespaces.push((name.to_string(), options));
            shown_namespaces.push(shown);
        }
        let token = TokenPlan::read(table.table_or_empty("token"));
        let path = table.key("subscription_token");
        let subscription = TokenPlan::read(table.table_or_empty("subscription_token"));
        let unset = TokenPlan::read(table.table_or_empty("subscription_token"));
        // A key that could not be read has a fault of its own.
        let listed = subscription.shown["keys"] != unset.shown["keys"];
        if !subscription.has_keys() && !listed && subscription.shown != unset.shown {
            let text = "nothing in it holds without [[channels.subscription_token.keys]] or a \
                        jwks.url there: subscription tokens are checked as connection tokens are";
            faults.contradiction(&[&path, &format!("{path}.jwks.url")], text);
        }
        let limits: ChannelLimitsKeys = table.section("limits").expect("no key is required");
        let keys = ChannelsKeys::read(&mut table).expect("no key of it is required");
        table.finish(&[ChannelsKeys::KEYS], &[]);
        let mut shown = keys.show();
        shown.insert(WITHOUT.to_owned(), shown_without);
        shown.insert("namespaces".to_owned(), shown_namespaces.into());
        shown.insert("limits".to_owned(), limits.show().into());
        shown.insert("hooks".to_owned(), hooks.show().into());
        shown.insert("token".to_owned(), token.shown.clone());
        shown.insert("subscription_token".to_owned(), subscription.shown.clone());
        if let Some(namespace) = &keys.personal_channel_namespace {
            let paths = ["personal_channel_namespace", "subscribe_to_user_personal_channel"]
                .map(|key| format!("channels.{key}"));
            if !keys.subscribe_to_user_personal_channel {
                let text = "does nothing without subscribe_to_user_personal_channel";
                faults.contradiction(&[&paths[0], &paths[1]], text);
            }
            super::checks::reference(&paths[0], namespace, "namespace", &names, faults);
        }
        let rules = ChannelRules {
            without_namespace,
            namespaces,
            channel_bytes_max: keys.channel_bytes_max.0,
            allow_anonymous_connect_without_token: keys.allow_anonymous_connect_without_token,
            personal_channels: keys.subscribe_to_user_personal_channel.then(|| {
                let namespace = keys.personal_channel_namespace.as_ref();
                namespace.map(ToString::to_string).unwrap_or_default()
            }),
            insecure: keys.insecure,
        };
        let subscription_token = subscription.has_keys().then_some(subscription);
        let limits = limits.limits();
        Self { keys, rules, limits, hooks, token, subscription_token, shown: shown.into() }
    }

    /// What works and is probably not meant, a line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.keys.insecure {
            let text = "channels.insecure: everybody may do everything in channels without a token";
            warnings.push(text.to_owned());
        }
        warnings.extend(self.hooks.warning());
        let subscription_token = self.subscription_token.as_ref();
        for (section, plan) in
            [("token", Some(&self.token)), ("subscription_token", subscription_token)]
        {
            if plan.is_some_and(|plan| plan.keys.short_secrets) {
                warnings.push(format!(
                    "channels.{section}.short_secrets: a short secret is found by trying; whoever \
                     has one token can then make others"
                ));
            }
        }
        warnings
    }
}

const WITHOUT: &str = "without_namespace";

/// The options that a table has, and what is shown of them.
fn read_options(mut table: Table<'_>, hooks: &HooksKeys) -> (ChannelOptions, Json) {
    let keys = ChannelOptionsKeys::read(&mut table).expect("no key of it is required");
    let options = keys.options(&table);
    hooks.check_options(&keys, &table.path, table.faults());
    table.finish(&[ChannelOptionsKeys::KEYS], &[]);
    (options, keys.show().into())
}

/// One table of `[[channels.namespaces]]`; `None` when nobody can say whose it is.
fn read_namespace(mut table: Table<'_>, hooks: &HooksKeys) -> Option<(Name, ChannelOptions, Json)> {
    let name = NamespaceKeys::read(&mut table);
    let keys = ChannelOptionsKeys::read(&mut table).expect("no key of it is required");
    let options = keys.options(&table);
    hooks.check_options(&keys, &table.path, table.faults());
    table.finish(&[NamespaceKeys::KEYS, ChannelOptionsKeys::KEYS], &[]);
    let name = name?;
    let mut shown = name.show();
    shown.extend(keys.show());
    Some((name.name, options, shown.into()))
}

impl ChannelOptionsKeys {
    /// The options, of which contradictions are noted at the keys of `table`.
    fn options(&self, table: &Table<'_>) -> ChannelOptions {
        let permission =
            |client, subscriber, anonymous| Permission { client, subscriber, anonymous };
        let options = ChannelOptions {
            history: self.history(table),
            force_positioning: self.force_positioning,
            allow_positioning: self.allow_positioning,
            force_recovery: self.force_recovery,
            allow_recovery: self.allow_recovery,
            presence: self.presence,
            join_leave: self.join_leave,
            force_push_join_leave: self.force_push_join_leave,
            subscribe_for_client: self.allow_subscribe_for_client,
            subscribe_for_anonymous: self.allow_subscribe_for_anonymous,
            publish: permission(
                self.allow_publish_for_client,
                self.allow_publish_for_subscriber,
                self.allow_publish_for_anonymous,
            ),
            presence_access: permission(
                self.allow_presence_for_client,
                self.allow_presence_for_subscriber,
                self.allow_presence_for_anonymous,
            ),
            history_access: permission(
                self.allow_history_for_client,
                self.allow_history_for_subscriber,
                self.allow_history_for_anonymous,
            ),
            allow_user_limited_channels: self.allow_user_limited_channels,
            channel_regex: self.channel_regex.clone(),
            publication_data_format: self.publication_data_format,
            subscribe_hook: self.subscribe_proxy_enabled,
            publish_hook: self.publish_proxy_enabled,
            sub_refresh_hook: self.sub_refresh_proxy_enabled,
            subscribers_max: self.subscribers_max,
            slow: self.slow(table),
        };
        if let Err(error) = options.check() {
            note(table, contradicting(error), &error.to_string());
        }
        options
    }

    fn slow(&self, table: &Table<'_>) -> SlowConsumers {
        let is_keyed = self.slow_consumer == SlowConsumer::LatestByKey;
        let keys = ["slow_consumer", "slow_consumer_key"];
        if is_keyed && self.slow_consumer_key.is_none() {
            note(table, keys, "\"latest_by_key\" needs slow_consumer_key");
        } else if !is_keyed && self.slow_consumer_key.is_some() {
            let text = "does nothing without slow_consumer = \"latest_by_key\"";
            note(table, [keys[1], keys[0]], text);
        }
        let policy = match (self.slow_consumer, &self.slow_consumer_key) {
            (SlowConsumer::LatestByKey, Some(key)) => SlowPolicy::LatestByKey(key.clone()),
            (SlowConsumer::Disconnect | SlowConsumer::LatestByKey, _) => SlowPolicy::Disconnect,
            (SlowConsumer::DropOldest, _) => SlowPolicy::DropOldest,
            (SlowConsumer::CatchUp, _) => SlowPolicy::CatchUp,
        };
        SlowConsumers { policy, bytes_max: self.slow_consumer_bytes_max.0 }
    }

    fn history(&self, table: &Table<'_>) -> Option<StreamOptions> {
        match (self.history_size, self.history_ttl) {
            (Some(size), Some(ttl)) => {
                Some(StreamOptions { size, ttl, meta_ttl: self.history_meta_ttl })
            }
            (None, None) => None,
            (size, _) => {
                let keys = ["history_size", "history_ttl"];
                let (set, missing) = if size.is_some() { (0, 1) } else { (1, 0) };
                let text = format!("does nothing without {}", keys[missing]);
                note(table, [keys[set], keys[missing]], &text);
                None
            }
        }
    }
}

/// The keys that an error is about; it is told at the first of them.
fn contradicting(error: OptionsError) -> [&'static str; 2] {
    match error {
        OptionsError::RecoveryWithoutHistory => ["force_recovery", "history_size"],
        OptionsError::MetaShorterThanHistory => ["history_meta_ttl", "history_ttl"],
        OptionsError::CatchUpWithoutHistory => ["slow_consumer", "history_size"],
        OptionsError::PositionsGiveWay(key) => ["slow_consumer", key],
    }
}

fn note(table: &Table<'_>, keys: [&str; 2], text: &str) {
    let (paths, faults): ([String; 2], &Faults) = (keys.map(|key| table.key(key)), table.faults());
    faults.contradiction(&[&paths[0], &paths[1]], text);
}
