//! One segment of a channel's name: what a value from outside may be, so that it names no other
//! namespace, no private channel and no users.

/// Longest value, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 128;

/// Characters with which a channel's name says more than a name.
const MARKS: [char; 3] = [':', '#', '$'];

/// Why a value is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// There is nothing in it.
    #[error("is empty")]
    Empty,
    /// Over [`SEGMENT_BYTES_MAX`].
    #[error("has {bytes} bytes, and at most {SEGMENT_BYTES_MAX} are allowed")]
    TooLong {
        /// What it has.
        bytes: usize,
    },
    /// A line end, or another character that nobody sees.
    #[error("has a control character")]
    Control,
    /// A character that ends a part of a channel's name.
    #[error("has {0:?}, which a part of a channel's name cannot have here")]
    Mark(char),
}

/// Holds a value to the form of one segment; `stops` are characters that it cannot have beside the
/// usual ones.
///
/// # Errors
///
/// The first thing that is wrong with it.
pub(super) fn check(value: &str, stops: &str) -> Result<(), SegmentError> {
    if value.is_empty() {
        return Err(SegmentError::Empty);
    }
    if value.len() > SEGMENT_BYTES_MAX {
        return Err(SegmentError::TooLong { bytes: value.len() });
    }
    if value.chars().any(char::is_control) {
        return Err(SegmentError::Control);
    }
    match value.chars().find(|c| MARKS.contains(c) || stops.contains(*c)) {
        Some(mark) => Err(SegmentError::Mark(mark)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_segment_or_it_is_said_why_not() {
        let long = "x".repeat(SEGMENT_BYTES_MAX);
        for good in ["a", "pump.7", "żółw", "a b", "-1", "10.0.0.1", "a,b", &long] {
            assert_eq!(check(good, ""), Ok(()), "{good}");
        }
        let longer = "x".repeat(SEGMENT_BYTES_MAX + 1);
        for (bad, error) in [
            ("", SegmentError::Empty),
            (&*longer, SegmentError::TooLong { bytes: SEGMENT_BYTES_MAX + 1 }),
            ("a:b", SegmentError::Mark(':')),
            ("#ann", SegmentError::Mark('#')),
            ("$a", SegmentError::Mark('$')),
            ("a\nb", SegmentError::Control),
            ("a\0", SegmentError::Control),
            ("a\u{85}", SegmentError::Control),
        ] {
            assert_eq!(check(bad, ""), Err(error), "{bad:?}");
        }
        assert_eq!(check("a.b", ".,"), Err(SegmentError::Mark('.')));
    }
}
