//! `listed!`: a closed set of values that SPEC.md lists, each with its number on the wire and its name. One line in the
//! code is one row in the specification, and `tests/spec_tables.rs` compares them. `bits!`: an open set of bits.

macro_rules! listed {
    ($(#[$enum_doc:meta])* $enum:ident { $($(#[$doc:meta])* $variant:ident = $value:literal $name:literal,)* }) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum {
            $($(#[$doc])* $variant = $value,)*
        }

        impl $enum {
            /// Every value, in the order of the table in SPEC.md.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The value of a byte on the wire.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The byte on the wire.
            #[must_use]
            pub const fn byte(self) -> u8 {
                self as u8
            }

            /// The name in SPEC.md.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}
pub(crate) use listed;

/// A set of bits that SPEC.md lists. Those that a newer version has beside these are kept as they are.
macro_rules! bits {
    ($(#[$set_doc:meta])* $set:ident { $($(#[$doc:meta])* $bit:ident = $value:literal,)* }) => {
        $(#[$set_doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $set(u64);

        impl $set {
            $($(#[$doc])* pub const $bit: Self = Self($value);)*

            /// The bits on the wire.
            #[must_use]
            pub const fn bits(self) -> u64 {
                self.0
            }

            /// Of the bits on the wire.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(bits)
            }

            /// Whether all of `other` are set.
            #[must_use]
            pub const fn has(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// These, with those of `set` set and then those of `cleared` not.
            #[must_use]
            pub const fn changed(self, set: Self, cleared: Self) -> Self {
                Self((self.0 | set.0) & !cleared.0)
            }
        }
    };
}
pub(crate) use bits;
