//! Durations and sizes with their units: "1m30s", "64KiB".

use std::fmt;
use std::time::Duration;

use serde_json::Value as Json;

use super::raw::{Raw, Refused, Setting};

/// The longest duration that is taken. Longer ones are typing errors, and would overflow a clock.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZE_UNITS: [(&str, u64); 4] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A wait: longer than nothing.
impl Setting for Duration {
    fn wanted() -> String {
        "a duration such as \"30s\", \"1m30s\" or \"250ms\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        match Grace::read(raw)?.0 {
            Self::ZERO => Err(Refused::Because(format!("{raw} is no time at all"))),
            duration => Ok(duration),
        }
    }

    fn show(&self) -> Json {
        Grace(*self).show()
    }
}

/// The length of a stage of the shutdown: a duration that may be "0s".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl Setting for Grace {
    fn wanted() -> String {
        Duration::wanted()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let millis =
            raw.text().and_then(|text| sum(text, &DURATION_UNITS)).ok_or(Refused::Shape)?;
        let duration = Duration::from_millis(millis);
        if duration > DURATION_MAX {
            return Err(Refused::Because(format!("{raw} is over a year")));
        }
        Ok(Self(duration))
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in DURATION_UNITS.iter().rev() {
            if millis >= *size {
                write!(f, "{}{unit}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

impl Setting for Size {
    fn wanted() -> String {
        "a size such as \"64KiB\", \"1MiB\" or a number of bytes".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let number = raw.integer().and_then(|bytes| u64::try_from(bytes).ok());
        let bytes = number.or_else(|| sum(raw.text()?, &SIZE_UNITS)).ok_or(Refused::Shape)?;
        match isize::try_from(bytes) {
            Ok(0) => Err(Refused::Because(format!("{raw} is no size at all"))),
            Ok(bytes) => Ok(Self(bytes.unsigned_abs())),
            Err(_) => Err(Refused::Because(format!("{raw} is more than there can be"))),
        }
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let whole = |(_, size): &&(&str, u64)| bytes >= *size && bytes.is_multiple_of(*size);
        let (unit, size) = SIZE_UNITS.iter().rev().find(whole).unwrap_or(&SIZE_UNITS[0]);
        write!(f, "{}{unit}", bytes / size)
    }
}

/// A part of a whole, from 1% to 100%.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

impl Setting for Percent {
    fn wanted() -> String {
        "a percentage from \"1%\" to \"100%\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let number = raw.text().and_then(|text| text.trim().strip_suffix('%')?.parse().ok());
        number.filter(|n| (1..=100).contains(n)).map(Self).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// Adds up pairs of a number and a unit ("1m30s"). The units fall in size, each used once.
fn sum(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    let mut last = u64::MAX;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
        if *size >= last {
            return None;
        }
        last = *size;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*size)?)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn durations_are_sums_of_falling_units() {
        let read = |value| Duration::read(&text(value)).ok();
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(read("1h1ms"), Some(Duration::from_millis(3_600_001)));
        for refused in ["", "30", "s", "30 s", "-1s", "1.5s", "30s1m", "1s1s", "0s", "9999999999d"]
        {
            assert_eq!(read(refused), None, "{refused:?}");
        }
    }

    #[test]
    fn a_grace_may_be_nothing() {
        assert_eq!(Grace::read(&text("0s")).expect("a grace"), Grace(Duration::ZERO));
    }

    #[test]
    fn sizes_have_binary_units_or_are_bytes() {
        let read = |raw: &Raw| Size::read(raw).ok().map(|size| size.0);
        assert_eq!(read(&text("64KiB")), Some(65_536));
        assert_eq!(read(&text("1MiB512KiB")), Some(1_572_864));
        assert_eq!(read(&text("10B")), Some(10));
        assert_eq!(read(&Raw::Integer(1000)), Some(1000));
        assert_eq!(read(&Raw::Loose("1000".to_owned())), Some(1000));
        for refused in ["", "1000", "64KB", "64k", "1.5MiB", "-1B", "0B", "99999999999GiB"] {
            assert_eq!(read(&text(refused)), None, "{refused:?}");
        }
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        assert_eq!(Grace(Duration::from_millis(90_250)).to_string(), "1m30s250ms");
        assert_eq!(Grace(Duration::ZERO).to_string(), "0s");
        assert_eq!(Size(65_536).to_string(), "64KiB");
        assert_eq!(Size(1000).to_string(), "1000B");
    }
}
