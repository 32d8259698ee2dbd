//! Values as they came from the file or the environment, and the trait that reads them.
//! The file is strict about types; text from the environment may stand for any of them.

use std::fmt;
use std::net::SocketAddr;

use config::{Value, ValueKind};
use serde_json::Value as Json;

/// A value before it is known what it should be.
#[derive(Clone)]
pub enum Raw {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Text in quotes.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// Text from the environment.
    Loose(String),
    /// Something no setting is: a number with a fraction, a table, a date.
    Other(String),
}

/// Never shows the value: it may be of a secret.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "Bool(..)",
            Self::Integer(_) => "Integer(..)",
            Self::Text(_) => "Text(..)",
            Self::List(_) => "List(..)",
            Self::Loose(_) => "Loose(..)",
            Self::Other(_) => "Other(..)",
        })
    }
}

impl Raw {
    /// The value of a file, or of the environment when `loose`.
    pub(super) fn new(value: &Value, loose: bool) -> Self {
        match &value.kind {
            ValueKind::Boolean(value) => Self::Bool(*value),
            ValueKind::I64(value) => Self::Integer(*value),
            ValueKind::String(text) if loose => Self::Loose(text.clone()),
            ValueKind::String(text) => Self::Text(text.clone()),
            ValueKind::Array(items) => {
                Self::List(items.iter().map(|item| Self::new(item, loose)).collect())
            }
            ValueKind::Table(_) => Self::Other("a table".to_owned()),
            ValueKind::Nil => Self::Other("nothing".to_owned()),
            ValueKind::Float(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => {
                Self::Other(value.to_string())
            }
        }
    }

    /// The text, when it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Loose(text) => Some(text),
            Self::Bool(_) | Self::Integer(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The whole number, when it is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            Self::Loose(text) => text.trim().parse().ok(),
            Self::Bool(_) | Self::Text(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// True or false, when it is one of them.
    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Loose(text) => text.trim().parse().ok(),
            Self::Integer(_) | Self::Text(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The items of a list; in the environment they are separated by commas.
    pub fn items(&self) -> Option<Vec<Self>> {
        match self {
            Self::List(items) => Some(items.clone()),
            Self::Loose(text) if text.trim().is_empty() => Some(Vec::new()),
            Self::Loose(text) => {
                Some(text.split(',').map(|item| Self::Loose(item.trim().to_owned())).collect())
            }
            Self::Bool(_) | Self::Integer(_) | Self::Text(_) | Self::Other(_) => None,
        }
    }
}

/// The value as the user wrote it, for a fault.
impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) | Self::Loose(text) => write!(f, "{text:?}"),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Why a value is refused.
#[derive(Debug)]
pub enum Refused {
    /// It is not what [`Setting::wanted`] says.
    Shape,
    /// It has the right shape and is still wrong; the text says why.
    Because(String),
}

impl Refused {
    /// What is wrong with `raw` for a `T`, as the text of a fault.
    pub(super) fn text<T: Setting>(self, raw: &Raw) -> String {
        match self {
            Self::Shape if T::SECRET => format!("the value is not {}", T::wanted()),
            Self::Shape => format!("{raw} is not {}", T::wanted()),
            Self::Because(text) => text,
        }
    }
}

/// A type that a key can have.
pub trait Setting: Sized {
    /// Whether the value must not be shown.
    const SECRET: bool = false;

    /// What is allowed, as the end of "... is not".
    fn wanted() -> String;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    fn read(raw: &Raw) -> Result<Self, Refused>;

    /// The value as `/config` shows it; a secret shows that it is set, and no more.
    fn show(&self) -> Json;
}

impl Setting for bool {
    fn wanted() -> String {
        "true or false".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        raw.boolean().ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        (*self).into()
    }
}

macro_rules! count {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn wanted() -> String {
                "a whole number, 1 or more".to_owned()
            }

            fn read(raw: &Raw) -> Result<Self, Refused> {
                let count = raw.integer().and_then(|count| Self::try_from(count).ok());
                count.filter(|count| *count > 0).ok_or(Refused::Shape)
            }

            fn show(&self) -> Json {
                (*self).into()
            }
        }
    )*};
}

count!(u32, usize);

/// "off", or a value.
impl<T: Setting> Setting for Option<T> {
    const SECRET: bool = T::SECRET;

    fn wanted() -> String {
        format!("{}, or \"off\"", T::wanted())
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        if raw.text() == Some("off") { Ok(None) } else { T::read(raw).map(Some) }
    }

    fn show(&self) -> Json {
        self.as_ref().map_or_else(|| "off".into(), Setting::show)
    }
}

/// "auto", or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// weir finds the value.
    Auto,
    /// The user's value.
    Set(T),
}

impl<T: Setting> Setting for Auto<T> {
    fn wanted() -> String {
        format!("{}, or \"auto\"", T::wanted())
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        if raw.text() == Some("auto") { Ok(Self::Auto) } else { T::read(raw).map(Self::Set) }
    }

    fn show(&self) -> Json {
        match self {
            Self::Auto => "auto".into(),
            Self::Set(value) => value.show(),
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn wanted() -> String {
        format!("a list, in which each is {}", T::wanted())
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        let read =
            |item: &Raw| T::read(item).map_err(|refused| Refused::Because(refused.text::<T>(item)));
        raw.items().ok_or(Refused::Shape)?.iter().map(read).collect()
    }

    fn show(&self) -> Json {
        self.iter().map(Setting::show).collect()
    }
}

impl Setting for SocketAddr {
    fn wanted() -> String {
        "an address with a port, such as \"127.0.0.1:7001\" or \"[::]:7001\"".to_owned()
    }

    fn read(raw: &Raw) -> Result<Self, Refused> {
        raw.text().and_then(|text| text.parse().ok()).ok_or(Refused::Shape)
    }

    fn show(&self) -> Json {
        self.to_string().into()
    }
}

/// Makes an enum of the core a setting, by the names that a user writes.
macro_rules! choices {
    ($type:ty { $($name:literal => $value:path),+ $(,)? }) => {
        impl $crate::config::raw::Setting for $type {
            fn wanted() -> String {
                [$(concat!("\"", $name, "\"")),+].join(", ")
            }

            fn read(
                raw: &$crate::config::raw::Raw,
            ) -> Result<Self, $crate::config::raw::Refused> {
                match raw.text() {
                    $(Some($name) => Ok($value),)+
                    given => Err($crate::config::raw::not_a_choice(raw, given, &[$($name),+])),
                }
            }

            fn show(&self) -> serde_json::Value {
                match self { $($value => $name.into(),)+ }
            }
        }
    };
}
pub(super) use choices;

/// A value that is none of a closed list.
pub(super) fn not_a_choice(raw: &Raw, given: Option<&str>, names: &[&str]) -> Refused {
    let near = super::faults::did_you_mean(given.unwrap_or_default(), names.iter().copied());
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    Refused::Because(format!("{raw} is not one of {}{near}", names.join(", ")))
}
