//! Key: what a section declares of each of its keys: its name, where its value is and what that may be. Owns the reading of one
//! value, from a file or a flag, and the words for what is allowed. Which keys there are is their sections' business.
//!
//! A value that is refused leaves what was there.

use std::{fmt, net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;

use super::{
    AdminListen, address,
    quantity::{Unit, human, parse_quantity},
};

/// One key of a configuration.
pub(super) struct Key<'a> {
    /// With its section: `limits.fetches_per_s`.
    pub(super) name: &'static str,
    pub(super) slot: Slot<'a>,
}

/// Where a value is, and what it may be.
pub(super) enum Slot<'a> {
    Number(Number<'a>),
    Switch(&'a mut bool),
    Text {
        value: &'a mut String,
        example: &'static str,
    },
    Path {
        value: &'a mut PathBuf,
        /// What it is the path of.
        what: &'static str,
        example: &'static str,
        /// What "" means; none: it is not allowed.
        empty: Option<&'static str>,
    },
    Address(&'a mut SocketAddr),
    AddressOrNone(&'a mut Option<SocketAddr>),
    Admin(&'a mut AdminListen),
    Networks(&'a mut Vec<IpNet>),
    Texts {
        value: &'a mut Vec<String>,
        /// Whether a text may be in it.
        check: fn(&str) -> Result<(), Refusal>,
        /// What all of them are: "a list of" goes before it.
        what: &'static str,
        example: &'static str,
    },
    Choice(&'a mut dyn Choice),
}

/// A whole number, with its unit and its bounds.
pub(super) struct Number<'a> {
    value: Int<'a>,
    unit: Unit,
    range: RangeInclusive<u64>,
    /// What 0 means, if it is allowed for a reason of its own.
    zero: Option<&'static str>,
}

impl<'a> Number<'a> {
    /// Allows 0 beside the range.
    pub(super) const fn or_zero(mut self, meaning: &'static str) -> Self {
        self.zero = Some(meaning);
        self
    }
}

/// A field of a configuration that is a number.
pub(super) enum Int<'a> {
    U16(&'a mut u16),
    U32(&'a mut u32),
    U64(&'a mut u64),
}

impl Int<'_> {
    fn get(&self) -> u64 {
        match self {
            Self::U16(value) => (**value).into(),
            Self::U32(value) => (**value).into(),
            Self::U64(value) => **value,
        }
    }

    fn set(&mut self, number: u64) {
        const FITS: &str = "the range of a key lies within its type";
        match self {
            Self::U16(value) => **value = number.try_into().expect(FITS),
            Self::U32(value) => **value = number.try_into().expect(FITS),
            Self::U64(value) => **value = number,
        }
    }
}

impl<'a> From<&'a mut u16> for Int<'a> {
    fn from(value: &'a mut u16) -> Self {
        Self::U16(value)
    }
}

impl<'a> From<&'a mut u32> for Int<'a> {
    fn from(value: &'a mut u32) -> Self {
        Self::U32(value)
    }
}

impl<'a> From<&'a mut u64> for Int<'a> {
    fn from(value: &'a mut u64) -> Self {
        Self::U64(value)
    }
}

/// A value that is one of a few words.
pub(super) trait Choice {
    fn words(&self) -> Vec<&'static str>;
    fn word(&self) -> &'static str;
    /// Whether there is such a word.
    fn choose(&mut self, word: &str) -> bool;
}

/// A type whose values have a word each.
pub(super) trait Words: Copy + PartialEq + 'static {
    const ALL: &'static [(Self, &'static str)];
}

impl<T: Words> Choice for T {
    fn words(&self) -> Vec<&'static str> {
        Self::ALL.iter().map(|(_, word)| *word).collect()
    }

    fn word(&self) -> &'static str {
        let found = Self::ALL.iter().find(|(value, _)| value == self);
        found.expect("every value has a word").1
    }

    fn choose(&mut self, word: &str) -> bool {
        let found = Self::ALL.iter().find(|(_, own)| *own == word);
        found.inspect(|(value, _)| *self = *value).is_some()
    }
}

/// Things that are counted: threads, or sends a second.
pub(super) fn count<'a>(value: impl Into<Int<'a>>, unit: &'static str, range: RangeInclusive<u64>) -> Number<'a> {
    Number { value: value.into(), unit: Unit::Of(unit), range, zero: None }
}

/// A size, which a file may write with its unit.
pub(super) fn bytes(value: &mut u64, range: RangeInclusive<u64>) -> Number<'_> {
    Number { value: value.into(), unit: Unit::Bytes, range, zero: None }
}

/// A time in milliseconds, which a file may write with another unit.
pub(super) fn millis(value: &mut u64, range: RangeInclusive<u64>) -> Number<'_> {
    Number { value: value.into(), unit: Unit::Millis, range, zero: None }
}

/// A time in seconds, which a file may write with another unit.
pub(super) fn seconds(value: &mut u64, range: RangeInclusive<u64>) -> Number<'_> {
    Number { value: value.into(), unit: Unit::Seconds, range, zero: None }
}

impl<'a> From<Number<'a>> for Slot<'a> {
    fn from(number: Number<'a>) -> Self {
        Self::Number(number)
    }
}

/// A value as it stands in a file or behind a flag.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Text(String),
    /// None: beyond what any number here may be.
    Whole(Option<i128>),
    Fraction,
    Switch(bool),
    List(Vec<Found>),
    Date,
    Section,
}

impl Found {
    /// What is behind a flag: a number, or else text.
    pub(super) fn of_flag(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Self::Whole(Some(number)),
            Err(_) if text.parse::<f64>().is_ok() => Self::Fraction,
            Err(_) => Self::Text(text.to_owned()),
        }
    }

    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "this is text",
            Self::Whole(_) => "this is a number",
            Self::Fraction => "this number has a fraction",
            Self::Switch(_) => "this is true or false",
            Self::List(_) => "this is a list",
            Self::Date => "this is a date",
            Self::Section => "this is a section",
        }
    }
}

/// Why a value is not taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What is wrong with it, if what is allowed does not say it all.
    pub(super) why: Option<String>,
    /// What was probably meant.
    pub(super) meant: Option<String>,
}

impl Refusal {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), meant: None }
    }

    pub(super) fn meant(self, meant: impl Into<String>) -> Self {
        Self { meant: Some(meant.into()), ..self }
    }
}

impl Slot<'_> {
    /// Takes a value.
    ///
    /// # Errors
    /// It is of another kind, or not one that is allowed.
    pub(super) fn read(&mut self, found: &Found) -> Result<(), Refusal> {
        let of_another_kind = || Refusal::because(found.kind());
        match (self, found) {
            (Self::Number(number), _) => return number.read(found),
            (Self::Switch(value), Found::Switch(is_on)) => **value = *is_on,
            (Self::Switch(_), Found::Text(text)) if ["true", "false"].contains(&text.as_str()) => {
                return Err(Refusal::because("this is text: leave the quotes out").meant(text));
            }
            (Self::Text { value, .. }, Found::Text(text)) => **value = text.clone(),
            (Self::Path { empty: None, .. }, Found::Text(text)) if text.is_empty() => {
                return Err(Refusal::because("this is empty"));
            }
            (Self::Path { value, .. }, Found::Text(text)) => **value = text.into(),
            (Self::Address(value), _) => **value = address::parse(found)?,
            (Self::AddressOrNone(value), Found::Text(text)) if text.is_empty() => **value = None,
            (Self::AddressOrNone(value), _) => **value = Some(address::parse(found)?),
            (Self::Admin(value), Found::Text(text)) if text.is_empty() || text == "off" => **value = AdminListen::Off,
            (Self::Admin(value), Found::Text(text)) if text == "auto" => **value = AdminListen::Auto,
            (Self::Admin(value), _) => **value = AdminListen::At(address::parse(found)?),
            (Self::Networks(value), Found::List(list)) => {
                **value = list.iter().map(address::parse_network).collect::<Result<_, _>>()?;
            }
            (Self::Texts { value, check, .. }, Found::List(list)) => {
                let text = |found: &Found| match found {
                    Found::Text(text) => check(text).map(|()| text.clone()),
                    _ => Err(Refusal::because("something in the list is no text")),
                };
                **value = list.iter().map(text).collect::<Result<_, _>>()?;
            }
            (Self::Networks(_) | Self::Texts { .. }, Found::Text(text)) => {
                return Err(Refusal::because("this is text: brackets make it a list").meant(format!("[\"{text}\"]")));
            }
            (Self::Choice(value), Found::Text(text)) => {
                if !value.choose(text) {
                    return Err(Refusal::default());
                }
            }
            (
                Self::Switch(_)
                | Self::Text { .. }
                | Self::Path { .. }
                | Self::Networks(_)
                | Self::Texts { .. }
                | Self::Choice(_),
                _,
            ) => return Err(of_another_kind()),
        }
        Ok(())
    }

    /// Whether the value that is there is one that is allowed: it may not be from a file.
    pub(super) fn is_allowed(&self) -> bool {
        match self {
            Self::Number(number) => number.allows(number.value.get()),
            Self::Path { value, empty, .. } => empty.is_some() || !value.as_os_str().is_empty(),
            Self::Switch(_)
            | Self::Text { .. }
            | Self::Address(_)
            | Self::AddressOrNone(_)
            | Self::Admin(_)
            | Self::Networks(_)
            | Self::Texts { .. }
            | Self::Choice(_) => true,
        }
    }

    /// What may be there, as it goes on after "must be".
    pub(super) fn allowed(&self) -> String {
        match self {
            Self::Number(number) => number.allowed(),
            Self::Switch(_) => "true or false".to_owned(),
            Self::Text { .. } => "text".to_owned(),
            Self::Path { what, empty: Some(meaning), .. } => {
                format!("the path of {what}; \"\" means {meaning}")
            }
            Self::Path { what, empty: None, .. } => format!("the path of {what}"),
            Self::Address(_) => "an IP address and a port".to_owned(),
            Self::AddressOrNone(_) => "an IP address and a port, or \"\" for none".to_owned(),
            Self::Admin(_) => format!(
                "an IP address and a port, auto for {} or, if that is taken, a free port, or off for none",
                AdminListen::USUAL
            ),
            Self::Networks(_) => "a list of networks, each as address/bits".to_owned(),
            Self::Texts { what, .. } => format!("a list of {what}"),
            Self::Choice(value) => {
                value.words().iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// A value that may be there, as a file writes it.
    pub(super) fn example(&self) -> String {
        match self {
            Self::Text { example, .. } | Self::Path { example, .. } => toml_text(example),
            Self::AddressOrNone(_) => "\"127.0.0.1:7443\"".to_owned(),
            Self::Networks(value) if value.is_empty() => "[\"10.0.0.0/8\"]".to_owned(),
            Self::Texts { value, example, .. } if value.is_empty() => toml_list([(*example).to_owned()].into_iter()),
            Self::Admin(_) => toml_text(&AdminListen::USUAL.to_string()),
            Self::Number(number) if human(number.value.get(), &number.unit).is_some() => {
                toml_text(&human(number.value.get(), &number.unit).unwrap_or_default())
            }
            Self::Number(_)
            | Self::Switch(_)
            | Self::Address(_)
            | Self::Networks(_)
            | Self::Texts { .. }
            | Self::Choice(_) => self.to_string(),
        }
    }

    /// What a number means, if it does not say so itself.
    pub(super) fn meaning(&self) -> Option<String> {
        match self {
            Self::Number(number) => match (number.value.get(), number.zero) {
                (0, Some(meaning)) => Some(meaning.to_owned()),
                (value, _) => human(value, &number.unit),
            },
            _ => None,
        }
    }
}

/// The value, as a file writes it.
impl fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Number(number) => number.value.get().to_string(),
            Self::Switch(value) => value.to_string(),
            Self::Text { value, .. } => toml_text(value),
            Self::Path { value, .. } => toml_text(&value.to_string_lossy()),
            Self::Address(value) => toml_text(&value.to_string()),
            Self::AddressOrNone(value) => toml_text(&value.map_or(String::new(), |address| address.to_string())),
            Self::Admin(AdminListen::Off) => toml_text("off"),
            Self::Admin(AdminListen::Auto) => toml_text("auto"),
            Self::Admin(AdminListen::At(address)) => toml_text(&address.to_string()),
            Self::Networks(value) => toml_list(value.iter().map(IpNet::to_string)),
            Self::Texts { value, .. } => toml_list(value.iter().cloned()),
            Self::Choice(value) => toml_text(value.word()),
        };
        f.write_str(&text)
    }
}

/// A list of text as a file writes it.
fn toml_list(list: impl Iterator<Item = String>) -> String {
    format!("[{}]", list.map(|text| toml_text(&text)).collect::<Vec<_>>().join(", "))
}

/// Text as a file writes it.
pub(super) fn toml_text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl Number<'_> {
    fn allows(&self, number: u64) -> bool {
        self.range.contains(&number) || (number == 0 && self.zero.is_some())
    }

    fn read(&mut self, found: &Found) -> Result<(), Refusal> {
        let number = match found {
            Found::Whole(number) => number.and_then(|number| number.try_into().ok()),
            Found::Text(text) => Some(parse_quantity(text, &self.unit)?),
            other => return Err(Refusal::because(other.kind())),
        };
        match number.filter(|&number| self.allows(number)) {
            Some(number) => self.value.set(number),
            None => return Err(Refusal::default()),
        }
        Ok(())
    }

    fn allowed(&self) -> String {
        let (min, max) = (*self.range.start(), *self.range.end());
        let said = |number| human(number, &self.unit).unwrap_or_else(|| number.to_string());
        let mut text = match &self.unit {
            Unit::Of(things) => format!("a whole number of {things}, {min} to {max}"),
            Unit::Bytes => {
                format!("a size of {} to {}, as text with its unit or as a number of bytes", said(min), said(max))
            }
            Unit::Millis => {
                format!(
                    "a time of {} to {}, as text with its unit or as a number of milliseconds",
                    said(min),
                    said(max)
                )
            }
            Unit::Seconds => {
                format!("a time of {} to {}, as text with its unit or as a number of seconds", said(min), said(max))
            }
        };
        if let Some(meaning) = self.zero {
            let zero = if min == 0 { "where 0" } else { "or 0, which" };
            text += &format!(", {zero} means {meaning}");
        }
        text
    }
}
