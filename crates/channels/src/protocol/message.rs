//! The two macros that the tables of messages are written in. A row is a field: its Protobuf number, its
//! name (and, where Rust has the word for itself, `as` the name in JSON), its type.

/// The name of a row in JSON.
macro_rules! json_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $json:literal) => {
        $json
    };
}

/// Messages. Fields that are zero are not written, in JSON unless the row says `always`, or `with` a flag
/// that is set. A row `.. name: Type` stands for all rows of a choice.
macro_rules! messages {
    ($(
        $(#[$doc:meta])*
        $message:ident $(<$a:lifetime>)? {
            $(
                $(#[$field_doc:meta])*
                $number:literal $field:ident $(as $json:literal)?: $type:ty $(, $when:ident $($flag:ident)?)?;
            )*
            $(.. $choice:ident: $choice_type:ty;)?
        }
    )+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $message $(<$a>)? {
            $($(#[$field_doc])* pub $field: $type,)*
            $(
                /// Which one of the choice it is.
                pub $choice: $choice_type,
            )?
        }

        impl<'a> $crate::protocol::field::Message<'a> for $message $(<$a>)? {
            #[allow(unused_variables, reason = "a message may have no field")]
            fn write_json(&self, out: &mut Vec<u8>) -> Result<(), $crate::protocol::EncodeError> {
                $(
                    let always = $crate::protocol::message::always!(self $($when $($flag)?)?);
                    if always || !$crate::protocol::field::Field::is_zero(&self.$field) {
                        let name = $crate::protocol::message::json_name!($field $($json)?);
                        $crate::protocol::json::write_key(name, out);
                        $crate::protocol::field::Field::write_json(&self.$field, name, out)?;
                    }
                )*
                $($crate::protocol::field::Message::write_json(&self.$choice, out)?;)?
                Ok(())
            }

            #[allow(unused_variables, reason = "a message may have no field")]
            fn read_json<A: serde::de::MapAccess<'a>>(
                &mut self,
                key: &str,
                map: &mut A,
                reading: &$crate::protocol::field::Reading,
            ) -> Result<bool, A::Error> {
                $(
                    let name = $crate::protocol::message::json_name!($field $($json)?);
                    if key == name {
                        self.$field = $crate::protocol::json::value(name, map, reading)?;
                        return Ok(true);
                    }
                )*
                $(
                    if $crate::protocol::field::Message::read_json(&mut self.$choice, key, map, reading)? {
                        return Ok(true);
                    }
                )?
                Ok(false)
            }

            fn proto_size(&self) -> usize {
                0 $(+ $crate::protocol::field::Field::proto_size(&self.$field, $number))*
                $(+ $crate::protocol::field::Message::proto_size(&self.$choice))?
            }

            #[allow(unused_variables, reason = "a message may have no field")]
            fn write_proto(&self, out: &mut Vec<u8>) {
                $($crate::protocol::field::Field::write_proto(&self.$field, $number, out);)*
                $($crate::protocol::field::Message::write_proto(&self.$choice, out);)?
            }

            #[allow(unused_variables, reason = "a message may have no field")]
            fn read_proto(
                &mut self,
                number: u32,
                value: $crate::protocol::protobuf::Wire<'a>,
                reading: &$crate::protocol::field::Reading,
            ) -> Result<(), $crate::protocol::DecodeError> {
                match number {
                    $($number => {
                        reading.enter_field($crate::protocol::message::json_name!($field $($json)?));
                        $crate::protocol::field::Field::read_proto(&mut self.$field, value, reading)
                    })*
                    $(_ => $crate::protocol::field::Message::read_proto(
                        &mut self.$choice, number, value, reading,
                    ),)?
                    #[allow(unreachable_patterns, reason = "a choice takes what is left")]
                    _ => Ok(()),
                }
            }
        }
    )+};
}

/// Whether a row is written to JSON although it is zero.
macro_rules! always {
    ($self:ident) => {
        false
    };
    ($self:ident always) => {
        true
    };
    ($self:ident with $flag:ident) => {
        $self.$flag
    };
}

/// A choice: fields of which one is there. The protocol has no `oneof`: whoever reads takes the first in
/// the order of the rows and passes over the others.
macro_rules! choice {
    (
        $(#[$doc:meta])*
        $choice:ident $(<$a:lifetime>)? {
            $(#[$none_doc:meta])*
            none $none:ident;
            $($(#[$variant_doc:meta])* $number:literal $field:literal $variant:ident($type:ty);)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub enum $choice $(<$a>)? {
            $(#[$none_doc])*
            #[default]
            $none,
            $($(#[$variant_doc])* $variant($type),)+
        }

        impl $(<$a>)? $choice $(<$a>)? {
            /// The name of its field; nothing when there is none.
            pub const fn name(&self) -> &'static str {
                match self {
                    Self::$none => "",
                    $(Self::$variant(_) => $field,)+
                }
            }

            /// Takes what was read, unless something is there that comes before it.
            fn offer(&mut self, read: Self) {
                const ORDER: &[&str] = &[$($field),+];
                let rank = |choice: &Self| {
                    ORDER.iter().position(|name| *name == choice.name()).unwrap_or(usize::MAX)
                };
                if matches!(self, Self::$none) || rank(&read) <= rank(self) {
                    *self = read;
                }
            }
        }

        impl<'a> $crate::protocol::field::Message<'a> for $choice $(<$a>)? {
            fn write_json(&self, out: &mut Vec<u8>) -> Result<(), $crate::protocol::EncodeError> {
                use $crate::protocol::{field::Field, json};
                match self {
                    Self::$none => Ok(()),
                    $(Self::$variant(message) => {
                        json::write_key($field, out);
                        Field::write_json(message, $field, out)
                    })+
                }
            }

            fn read_json<A: serde::de::MapAccess<'a>>(
                &mut self,
                key: &str,
                map: &mut A,
                reading: &$crate::protocol::field::Reading,
            ) -> Result<bool, A::Error> {
                $(
                    if key == $field {
                        let read = $crate::protocol::json::value($field, map, reading)?;
                        if let Some(message) = read {
                            self.offer(Self::$variant(message));
                        }
                        return Ok(true);
                    }
                )+
                Ok(false)
            }

            fn proto_size(&self) -> usize {
                use $crate::protocol::field::Field;
                match self {
                    Self::$none => 0,
                    $(Self::$variant(message) => Field::proto_size(message, $number),)+
                }
            }

            fn write_proto(&self, out: &mut Vec<u8>) {
                use $crate::protocol::field::Field;
                match self {
                    Self::$none => {}
                    $(Self::$variant(message) => Field::write_proto(message, $number, out),)+
                }
            }

            fn read_proto(
                &mut self,
                number: u32,
                value: $crate::protocol::protobuf::Wire<'a>,
                reading: &$crate::protocol::field::Reading,
            ) -> Result<(), $crate::protocol::DecodeError> {
                use $crate::protocol::field::Element;
                match number {
                    $($number => {
                        reading.enter_field($field);
                        let message = Element::read_proto(value.bytes(reading)?, reading)?;
                        self.offer(Self::$variant(message));
                    })+
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

pub(super) use {always, choice, json_name, messages};
