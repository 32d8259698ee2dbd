//! One value out of a query, as browsers write forms. Pure.

/// The value of the first field `name` of a query (application/x-www-form-urlencoded: `+` is a
/// space). A `%` without two hexadecimal digits stands for itself (WHATWG URL, section 5.1).
pub fn value(query: &str, name: &str) -> Option<Vec<u8>> {
    let mut fields = query.split('&').map(|field| field.split_once('=').unwrap_or((field, "")));
    fields.find_map(|(key, value)| (key == name).then(|| decoded(value)))
}

fn decoded(value: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    loop {
        match rest {
            [] => return bytes,
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = tail;
            }
            [b'+', tail @ ..] => {
                bytes.push(b' ');
                rest = tail;
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
}

/// The value of a hexadecimal digit.
fn digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Option<&str>) {
        let value = value(query, "cf_connect").map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(value.as_deref(), expected, "{query:?}");
    }

    #[test]
    fn the_first_field_of_the_name_is_decoded() {
        check("cf_connect=%7B%22id%22%3A1%7d", Some("{\"id\":1}"));
        check("a=b&cf_connect=one+two%2B%0A&cf_connect=2", Some("one two+\n"));
        check("cf_connect=a=b", Some("a=b"));
        check("cf_connect", Some(""));
    }

    #[test]
    fn another_field_is_not_taken_for_it() {
        check("", None);
        check("xcf_connect=1&cf_connect2=2", None);
    }

    #[test]
    fn what_is_no_escape_stands_for_itself() {
        check("cf_connect=100%&b", Some("100%"));
        check("cf_connect=%4", Some("%4"));
        check("cf_connect=%zz%+1", Some("%zz% 1"));
    }
}
