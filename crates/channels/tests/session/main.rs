//! Sessions of the client protocol in the real engine over pipes: what is said, to whom, in which
//! order, with time moved by hand.

mod connection;
mod emulation;
mod fanout;
mod hooks;
mod notices;
mod positions;
mod recovery;
mod refusals;
mod routes;
mod seats;
mod slow;
mod subscriptions;
mod support;
mod tokens;
mod wires;
