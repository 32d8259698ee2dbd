//! What the commands come to, in plain maps: who is where, what was published, what each is to be told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::{CHANNELS, CLIENTS};

/// Publications that a history keeps.
pub(super) const KEPT: usize = 4;
/// Channels that a client may be subscribed to.
pub(super) const SUBSCRIPTIONS_MAX: usize = 2;

/// What channels are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) history: bool,
    pub(super) force_positioning: bool,
    pub(super) presence: bool,
    pub(super) join_leave: bool,
    pub(super) force_push_join_leave: bool,
    /// Only subscribers may publish.
    pub(super) quiet: bool,
}

impl Rules {
    pub(super) fn of(flags: u8) -> Self {
        let has = |bit: u8| flags & 1 << bit != 0;
        Self {
            history: has(0),
            force_positioning: has(1),
            presence: has(2),
            join_leave: has(3),
            force_push_join_leave: has(4),
            quiet: has(5),
        }
    }
}

/// One command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Connect,
    /// How: bits of what it asks for, and where it says that it was.
    Subscribe {
        channel: usize,
        how: u8,
    },
    Unsubscribe(usize),
    Publish(usize),
    Presence(usize),
    PresenceStats(usize),
    History {
        channel: usize,
        limit: i32,
        reverse: bool,
    },
    /// Not the protocol.
    Nonsense,
}

/// One thing that a subscriber is told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    /// Offset and data.
    Publication(u64, u64),
    Join(usize),
    Leave(usize),
    /// All of these leave, in whatever order.
    Leaves(BTreeSet<usize>),
    /// A hole: it is subscribed no more.
    Unsubscribed,
}

#[derive(Debug, Default)]
struct Channel {
    /// The stream has begun.
    begun: bool,
    epoch: Option<String>,
    top: u64,
    kept: VecDeque<(u64, u64)>,
    present: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Sub {
    positioned: bool,
    told_of_others: bool,
}

#[derive(Debug, Default)]
struct Client {
    state: State,
    last: u32,
    subs: BTreeMap<usize, Sub>,
    /// What it is to be told, by channel.
    events: BTreeMap<usize, VecDeque<Event>>,
    /// Where it was when it was there last: offset and epoch.
    places: BTreeMap<usize, (u64, String)>,
    /// Replies that it is owed.
    owed: BTreeMap<u32, Owed>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Absent,
    Fresh,
    Connected,
    /// It is told to go with this code.
    Over(u64),
}

/// What a reply must be.
#[derive(Debug)]
enum Owed {
    Error(u64),
    Connected,
    /// Without any field.
    Empty(&'static str),
    Subscribed {
        channel: usize,
        position: Option<u64>,
        recovery: Option<Recovery>,
    },
    Presence(BTreeSet<usize>),
    Stats(usize),
    History {
        channel: usize,
        top: u64,
        publications: Vec<(u64, u64)>,
    },
}

#[derive(Debug)]
struct Recovery {
    from: u64,
    /// What was missed; `None` when not all of it is there.
    missed: Option<Vec<(u64, u64)>>,
}

#[derive(Debug)]
pub(super) struct Model {
    rules: Rules,
    channels: [Channel; CHANNELS],
    clients: [Client; CLIENTS],
    /// Who was called so, also before.
    names: BTreeMap<String, usize>,
    published: u64,
}

impl Model {
    pub(super) fn new(rules: Rules) -> Self {
        let (channels, clients) = (Default::default(), Default::default());
        Self { rules, channels, clients, names: BTreeMap::new(), published: 0 }
    }

    pub(super) fn open(&mut self, client: usize) {
        let places = std::mem::take(&mut self.clients[client].places);
        self.clients[client] = Client { state: State::Fresh, places, ..Client::default() };
    }

    pub(super) fn is_fresh(&self, client: usize) -> bool {
        self.clients[client].state == State::Fresh
    }

    /// The code with which a client must have been told to go.
    pub(super) fn end_of(&self, client: usize) -> Option<u64> {
        match self.clients[client].state {
            State::Over(code) => Some(code),
            State::Absent | State::Fresh | State::Connected => None,
        }
    }

    /// A client asks this; gives the line, and takes note of what must come of it.
    pub(super) fn asks(&mut self, client: usize, asked: Asked) -> String {
        self.clients[client].last += 1;
        let id = self.clients[client].last;
        let (line, owed) = match asked {
            Asked::Nonsense => return self.ends(client, "{\"id\":1,\"subscribe\":[".to_owned()),
            Asked::Connect => {
                let line = format!(r#"{{"id":{id},"connect":{{}}}}"#);
                if !self.is_fresh(client) {
                    return self.ends(client, line);
                }
                self.clients[client].state = State::Connected;
                (line, Owed::Connected)
            }
            Asked::Subscribe { channel, how } => self.subscribes(client, id, channel, how),
            Asked::Unsubscribe(channel) => {
                let line = format!(r#"{{"id":{id},"unsubscribe":{{"channel":"c{channel}"}}}}"#);
                if self.is_connected(client) {
                    self.unsubscribes(client, channel);
                }
                (line, Owed::Empty("unsubscribe"))
            }
            Asked::Publish(channel) => self.publishes(client, id, channel),
            Asked::Presence(channel) => {
                let line = format!(r#"{{"id":{id},"presence":{{"channel":"c{channel}"}}}}"#);
                (line, Owed::Presence(self.channels[channel].present.clone()))
            }
            Asked::PresenceStats(channel) => {
                let line = format!(r#"{{"id":{id},"presence_stats":{{"channel":"c{channel}"}}}}"#);
                (line, Owed::Stats(self.channels[channel].present.len()))
            }
            Asked::History { channel, limit, reverse } => {
                let line = json!({"id": id, "history": {
                    "channel": format!("c{channel}"), "limit": limit, "reverse": reverse}});
                (line.to_string(), self.history(channel, limit, reverse))
            }
        };
        let without = match asked {
            Asked::Presence(_) | Asked::PresenceStats(_) => !self.rules.presence,
            Asked::History { .. } => !self.rules.history,
            Asked::Connect
            | Asked::Subscribe { .. }
            | Asked::Unsubscribe(_)
            | Asked::Publish(_)
            | Asked::Nonsense => false,
        };
        let owed = if without { Owed::Error(108) } else { owed };
        match self.clients[client].state {
            State::Connected => drop(self.clients[client].owed.insert(id, owed)),
            State::Absent | State::Fresh | State::Over(_) => {}
        }
        line
    }

    /// What it says ends the connection; what comes behind it is not handled.
    fn ends(&mut self, client: usize, line: String) -> String {
        let state = &mut self.clients[client].state;
        if !matches!(state, State::Over(_)) {
            *state = State::Over(3501);
        }
        line
    }

    fn is_connected(&self, client: usize) -> bool {
        self.clients[client].state == State::Connected
    }

    fn subscribes(&mut self, client: usize, id: u32, channel: usize, how: u8) -> (String, Owed) {
        let (positioned, recoverable, others) = (how & 1 != 0, how & 2 != 0, how & 4 != 0);
        let place = self.clients[client].places.get(&channel).cloned();
        let since = place.filter(|_| how & 8 != 0).map(|(offset, epoch)| match how >> 4 & 3 {
            1 => (offset, String::new()),
            2 => (offset, "another".to_owned()),
            3 => (offset + 9, epoch),
            _ => (offset, epoch),
        });
        let mut request = json!({"channel": format!("c{channel}"), "positioned": positioned,
            "recoverable": recoverable, "join_leave": others});
        if let Some((offset, epoch)) = &since {
            request["recover"] = true.into();
            request["offset"] = (*offset).into();
            request["epoch"] = epoch.as_str().into();
            request["flag"] = if how & 64 != 0 { 3 } else { 1 }.into();
        }
        let line = json!({"id": id, "subscribe": request}).to_string();
        if !self.is_connected(client) {
            return (line, Owed::Connected);
        }
        let subs = &self.clients[client].subs;
        if subs.contains_key(&channel) {
            return (line, Owed::Error(105));
        }
        if subs.len() >= SUBSCRIPTIONS_MAX {
            return (line, Owed::Error(106));
        }
        let recoverable = recoverable && self.rules.history;
        let positioned =
            recoverable || self.rules.history && (positioned || self.rules.force_positioning);
        let here = &mut self.channels[channel];
        here.begun |= positioned;
        let recovery = since.filter(|_| recoverable).map(|(from, epoch)| {
            let same = epoch.is_empty() || Some(&epoch) == here.epoch.as_ref();
            let missed =
                here.top.checked_sub(from).filter(|n| same && *n <= here.kept.len() as u64);
            let missed = missed
                .map(|n| here.kept.iter().skip(here.kept.len() - n as usize).copied().collect());
            Recovery { from, missed }
        });
        if how & 64 != 0 && recovery.as_ref().is_some_and(|recovery| recovery.missed.is_none()) {
            return (line, Owed::Error(112));
        }
        let position = positioned.then_some(here.top);
        if self.rules.presence {
            here.present.insert(client);
        }
        let told_of_others = self.rules.force_push_join_leave || others && self.rules.join_leave;
        self.clients[client].subs.insert(channel, Sub { positioned, told_of_others });
        if self.rules.join_leave {
            self.happens(channel, &Event::Join(client));
        }
        (line, Owed::Subscribed { channel, position, recovery })
    }

    fn unsubscribes(&mut self, client: usize, channel: usize) {
        if self.clients[client].subs.remove(&channel).is_none() {
            return;
        }
        // What it was not told yet it is told no more: these commands came at once.
        self.clients[client].events.remove(&channel);
        self.channels[channel].present.remove(&client);
        if self.rules.join_leave {
            self.happens(channel, &Event::Leave(client));
        }
    }

    fn publishes(&mut self, client: usize, id: u32, channel: usize) -> (String, Owed) {
        self.published += 1;
        let data = self.published;
        let line = format!(r#"{{"id":{id},"publish":{{"channel":"c{channel}","data":{data}}}}}"#);
        if !self.is_connected(client) {
            return (line, Owed::Connected);
        }
        if self.rules.quiet && !self.clients[client].subs.contains_key(&channel) {
            return (line, Owed::Error(103));
        }
        let here = &mut self.channels[channel];
        let mut offset = 0;
        if self.rules.history {
            here.begun = true;
            here.top += 1;
            offset = here.top;
            here.kept.push_back((offset, data));
            if here.kept.len() > KEPT {
                here.kept.pop_front();
            }
        }
        self.happens(channel, &Event::Publication(offset, data));
        (line, Owed::Empty("publish"))
    }

    fn history(&mut self, channel: usize, limit: i32, reverse: bool) -> Owed {
        let here = &mut self.channels[channel];
        here.begun |= self.rules.history;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let kept = here.kept.iter().copied();
        let publications =
            if reverse { kept.rev().take(limit).collect() } else { kept.take(limit).collect() };
        Owed::History { channel, top: here.top, publications }
    }

    /// Tells everybody that is subscribed.
    fn happens(&mut self, channel: usize, event: &Event) {
        for client in &mut self.clients {
            let Some(sub) = client.subs.get(&channel) else { continue };
            let wanted = match event {
                Event::Publication(..) => true,
                Event::Join(_) | Event::Leave(_) | Event::Leaves(_) => sub.told_of_others,
                Event::Unsubscribed => sub.positioned,
            };
            if wanted {
                client.events.entry(channel).or_default().push_back(event.clone());
            }
        }
    }

    /// The history was removed: positions of it are void.
    pub(super) fn begins_anew(&mut self, channel: usize) {
        let here = &mut self.channels[channel];
        if !here.begun {
            return;
        }
        (here.epoch, here.top) = (None, 0);
        here.kept.clear();
        self.happens(channel, &Event::Unsubscribed);
        let positioned = |client: &usize| {
            self.clients[*client].subs.get(&channel).is_some_and(|sub| sub.positioned)
        };
        let positioned: BTreeSet<_> = (0..CLIENTS).filter(positioned).collect();
        for client in &positioned {
            self.clients[*client].subs.remove(&channel);
            self.channels[channel].present.remove(client);
        }
        // Each leaves when its session is told, on its own worker.
        if self.rules.join_leave && !positioned.is_empty() {
            self.happens(channel, &Event::Leaves(positioned));
        }
    }

    pub(super) fn leaves(&mut self, client: usize) {
        for channel in 0..CHANNELS {
            self.unsubscribes(client, channel);
        }
        let places = std::mem::take(&mut self.clients[client].places);
        self.clients[client] = Client { places, ..Client::default() };
    }

    /// A client is told something: it is owed, or comes next.
    pub(super) fn hears(&mut self, client: usize, said: &Value) {
        if let Some(id) = said["id"].as_u64() {
            let owed = self.clients[client].owed.remove(&(id as u32));
            let owed = owed.unwrap_or_else(|| panic!("nobody has asked for {said}"));
            return self.answers(client, &owed, said);
        }
        let push = &said["push"];
        let name = push["channel"].as_str().unwrap_or_else(|| panic!("{said}"));
        let channel: usize = name[1..].parse().expect("a number");
        let event = self.event(client, channel, push);
        let events = self.clients[client].events.entry(channel).or_default();
        if let (Some(Event::Leaves(all)), Event::Leave(one)) = (events.front_mut(), &event) {
            assert!(all.remove(one), "client {client}: {said}");
            if all.is_empty() {
                events.pop_front();
            }
            return;
        }
        assert_eq!(events.pop_front(), Some(event), "client {client}: {said}");
    }

    fn event(&mut self, client: usize, channel: usize, push: &Value) -> Event {
        if push["pub"].is_object() {
            let (offset, data) = publication(&push["pub"]);
            if let Some(epoch) = push["pub"]["epoch"].as_str() {
                self.channels[channel].epoch.get_or_insert_with(|| epoch.to_owned());
            }
            self.notes(client, channel, offset);
            return Event::Publication(offset, data);
        }
        if push["join"].is_object() {
            return Event::Join(self.who(&push["join"]["info"]["client"]));
        }
        if push["leave"].is_object() {
            return Event::Leave(self.who(&push["leave"]["info"]["client"]));
        }
        assert_eq!(push["unsubscribe"]["code"], 2500, "{push}");
        Event::Unsubscribed
    }

    /// The client of this name.
    fn who(&self, name: &Value) -> usize {
        let name = name.as_str().expect("an id");
        *self.names.get(name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    /// Where a client is now.
    fn notes(&mut self, client: usize, channel: usize, offset: u64) {
        if offset > 0
            && let Some(epoch) = self.channels[channel].epoch.clone()
        {
            self.clients[client].places.insert(channel, (offset, epoch));
        }
    }

    fn answers(&mut self, client: usize, owed: &Owed, said: &Value) {
        match owed {
            Owed::Error(code) => assert_eq!(said["error"]["code"], *code, "{said}"),
            Owed::Empty(field) => assert_eq!(said[field], json!({}), "{said}"),
            Owed::Connected => {
                let name = said["connect"]["client"].as_str();
                let name = name.unwrap_or_else(|| panic!("{said}")).to_owned();
                assert_eq!(self.names.insert(name, client), None, "{said}");
            }
            Owed::Subscribed { channel, position, recovery } => {
                let result = &said["subscribe"];
                assert!(result.is_object(), "{said}");
                self.is_of_this_stream(*channel, result, position.is_some());
                let recovered = recovery.as_ref().and_then(|recovery| recovery.missed.as_ref());
                let told = result["offset"].as_u64().unwrap_or_default();
                let from = recovery.as_ref().filter(|one| one.missed.is_some()).map(|one| one.from);
                assert_eq!(told, from.or(*position).unwrap_or_default(), "{said}");
                assert_eq!(result["recovered"] == true, recovered.is_some(), "{said}");
                assert_eq!(result["was_recovering"] == true, recovery.is_some(), "{said}");
                let missed = publications(&result["publications"]);
                assert_eq!(missed, recovered.cloned().unwrap_or_default(), "{said}");
                self.notes(client, *channel, position.unwrap_or_default());
            }
            Owed::Presence(present) => {
                let told = said["presence"]["presence"].as_object().expect("a map");
                let told: BTreeSet<_> =
                    told.values().map(|info| self.who(&info["client"])).collect();
                assert_eq!(told, *present, "{said}");
            }
            Owed::Stats(present) => {
                let users = usize::from(*present > 0);
                let stats = json!({"num_clients": present, "num_users": users});
                assert_eq!(said["presence_stats"], stats, "{said}");
            }
            Owed::History { channel, top, publications: expected } => {
                let result = &said["history"];
                self.is_of_this_stream(*channel, result, true);
                assert_eq!(result["offset"], *top, "{said}");
                assert_eq!(publications(&result["publications"]), *expected, "{said}");
            }
        }
    }

    /// Whether an answer is of the stream that is known, or the first to say which it is.
    fn is_of_this_stream(&mut self, channel: usize, result: &Value, is_told: bool) {
        let epoch = result["epoch"].as_str();
        assert_eq!(epoch.is_some(), is_told, "{result}");
        if let Some(epoch) = epoch {
            let known = self.channels[channel].epoch.get_or_insert_with(|| epoch.to_owned());
            assert_eq!(known, epoch);
        }
    }

    /// That a client has been told everything.
    pub(super) fn assert_told(&self, client: usize) {
        let Client { state, owed, events, .. } = &self.clients[client];
        if *state == State::Connected {
            assert!(owed.is_empty(), "client {client} has no answer: {owed:?}");
            let waiting = events.values().any(|events| !events.is_empty());
            assert!(!waiting, "client {client} was not told of {events:?}");
        }
    }
}

fn publications(list: &Value) -> Vec<(u64, u64)> {
    list.as_array().into_iter().flatten().map(publication).collect()
}

/// Offset and data.
fn publication(one: &Value) -> (u64, u64) {
    (one["offset"].as_u64().unwrap_or_default(), one["data"].as_u64().expect("a number"))
}
