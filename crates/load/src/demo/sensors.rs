//! Four sensors, each a device with a connection of its own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::device::Device;
use super::noise::Noise;
use super::{Counts, Metronome};
use crate::clock;

/// A sensor: its name, the middle of its readings, how far they swing, and how fast, in seconds.
const SENSORS: [(&str, f64, f64, f64); 4] = [
    ("boiler", 82.0, 5.0, 47.0),
    ("turbine", 64.0, 7.0, 31.0),
    ("pump", 48.0, 4.0, 19.0),
    ("intake", 21.0, 3.0, 71.0),
];

/// How much of a drift is left at the next reading.
const DRIFT_LEFT: f64 = 0.97;

/// All of them.
pub(super) struct Sensors {
    sensors: Vec<Sensor>,
    due: Metronome,
    begun: Instant,
}

struct Sensor {
    name: &'static str,
    channel: String,
    device: Device,
    middle: f64,
    swing: f64,
    period: f64,
    drift: f64,
    noise: Noise,
    readings: u64,
    value: f64,
}

impl Sensors {
    /// Sensors that publish so many readings a second, each.
    pub(super) fn new(address: SocketAddr, rate: u32, now: Instant) -> Self {
        let sensors =
            SENSORS.iter().zip(1..).map(|(&(name, middle, swing, period), seed)| Sensor {
                name,
                channel: format!("sensors:{name}"),
                device: Device::new(name, address, None, now),
                middle,
                swing,
                period,
                drift: 0.0,
                noise: Noise::new(seed),
                readings: 0,
                value: middle,
            });
        let due = Metronome::new(Duration::from_secs(1) / rate, now);
        Self { sensors: sensors.collect(), due, begun: now }
    }

    /// The last reading of the sensor of this name.
    pub(super) fn reading(&self, name: &str) -> Option<f64> {
        self.sensors.iter().find(|sensor| sensor.name == name).map(|sensor| sensor.value)
    }

    /// The names there are.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        SENSORS.iter().map(|(name, ..)| *name)
    }

    /// Publishes what is due.
    pub(super) fn turn(&mut self, now: Instant) {
        let is_due = self.due.is_due(now);
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        for sensor in &mut self.sensors {
            if is_due {
                sensor.read(seconds);
            }
            sensor.device.turn(now, |_| {});
        }
    }

    /// Waits for what they are owed, and ends.
    pub(super) fn finish(&mut self, deadline: Instant) {
        self.sensors.iter_mut().for_each(|sensor| sensor.device.finish(deadline));
    }

    /// What came of all readings.
    pub(super) fn counts(&self) -> Counts {
        self.sensors.iter().map(|sensor| sensor.device.counts()).sum()
    }
}

impl Sensor {
    fn read(&mut self, seconds: f64) {
        self.drift = self.drift * DRIFT_LEFT + self.noise.draw() * self.swing * 0.08;
        let wave = (seconds / self.period * std::f64::consts::TAU).sin() * self.swing;
        self.value = self.middle + wave + self.drift;
        let value = (self.value * 100.0).round() / 100.0;
        self.readings += 1;
        let reading = json!({"n": self.readings, "value": value, "at": clock::unix_millis()});
        self.device.publish(&self.channel, &reading);
    }
}
