//! A script of commands of several clients over real sessions, two workers and the memory broker,
//! against a model of a few plain maps.
//!
//! Holds that every command has exactly one reply, and the one that the model has; that every subscriber
//! is told of what happens in its channel in order, of nothing twice, and of no hole that is none; that
//! what comes back is exactly what was missed; and that at last nobody is left anywhere.

mod model;
mod world;

use self::model::{Asked, Model, Rules};
use self::world::World;

/// Clients at a time.
const CLIENTS: usize = 4;
/// Channels; one more than a client may be subscribed to.
const CHANNELS: usize = 3;
/// Steps of one script.
const STEPS_MAX: usize = 200;

/// The first byte says what channels are like; each step is three: what, of whom and where, and how.
pub fn command_script(data: &[u8]) {
    let Some((rules, script)) = data.split_first() else { return };
    let rules = Rules::of(*rules);
    let mut play = Play { world: World::new(&rules), model: Model::new(rules) };
    for step in script.chunks_exact(3).take(STEPS_MAX) {
        play.step(step[0], step[1], step[2]);
    }
    for client in 0..CLIENTS {
        play.leave(client);
    }
    play.world.assert_empty();
}

struct Play {
    world: World,
    model: Model,
}

impl Play {
    fn step(&mut self, what: u8, whom: u8, how: u8) {
        let client = usize::from(whom) % CLIENTS;
        let channel = usize::from(whom) / CLIENTS % CHANNELS;
        match what % 12 {
            0 => self.leave(client),
            1 => {
                self.world.pass(u64::from(how % 4));
                self.hear_all();
            }
            2 => self.remove_history(channel),
            // Several at once, which are handled one behind the other.
            3 => {
                let many = (0..how % 8).map(|n| asked(whom.wrapping_mul(n | 1) ^ how, how ^ n));
                self.ask(client, &many.collect::<Vec<_>>());
            }
            4 => self.ask(client, &[Asked::Nonsense]),
            5 => self.ask(client, &[Asked::Connect]),
            _ => self.ask(client, &[at(what, channel, how)]),
        }
    }

    /// Has a client say this, and holds what everybody is told against the model.
    fn ask(&mut self, client: usize, asked: &[Asked]) {
        if !self.world.is_there(client) {
            self.world.open(client);
            self.model.open(client);
        }
        if self.model.is_fresh(client) && asked.first() != Some(&Asked::Connect) {
            // Most scripts would be over before they begin.
            self.tell(client, &[Asked::Connect]);
        }
        self.tell(client, asked);
    }

    fn tell(&mut self, client: usize, asked: &[Asked]) {
        let mut lines = Vec::new();
        for asked in asked {
            lines.push(self.model.asks(client, *asked));
        }
        self.world.say(client, &lines);
        // First the one who has asked: others are told of it by the name that it is given.
        self.hear(client);
        self.hear_all();
        if let Some(code) = self.model.end_of(client) {
            assert_eq!(self.world.end_of(client), Some(code), "{lines:?}");
            self.leave(client);
        }
    }

    fn hear_all(&mut self) {
        for client in 0..CLIENTS {
            self.hear(client);
            self.model.assert_told(client);
        }
    }

    fn hear(&mut self, client: usize) {
        for said in self.world.hear(client) {
            self.model.hears(client, &said);
        }
    }

    /// The peer has gone, told to or not.
    fn leave(&mut self, client: usize) {
        self.world.close(client);
        self.model.leaves(client);
        self.hear_all();
    }

    fn remove_history(&mut self, channel: usize) {
        self.world.remove_history(channel);
        self.model.begins_anew(channel);
        self.hear_all();
    }
}

/// The command that these bytes are, of those that name a channel.
fn asked(what: u8, how: u8) -> Asked {
    at(what, usize::from(how) % CHANNELS, how)
}

fn at(what: u8, channel: usize, how: u8) -> Asked {
    match what % 8 {
        0 => Asked::Unsubscribe(channel),
        1 | 2 => Asked::Publish(channel),
        3 => Asked::Presence(channel),
        4 => Asked::PresenceStats(channel),
        5 => Asked::History { channel, limit: i32::from(how % 8) - 1, reverse: how & 8 != 0 },
        _ => Asked::Subscribe { channel, how },
    }
}
