//! Quantities: numbers with a unit, as people write them: `1 GiB`, `25 s`. PURE.

use super::key::Refusal;

/// What a number of a configuration counts.
pub(super) enum Unit {
    /// Things, by their name in the plural.
    Of(&'static str),
    Bytes,
    Millis,
    Seconds,
}

const SIZES: [(&str, u64); 5] = [("bytes", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// In milliseconds.
const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// What others write for them. `MB` is a thousand thousands to some and 1024 times 1024 to others.
const MEANT: [(&str, &str); 22] = [
    ("B", "bytes"),
    ("byte", "bytes"),
    ("k", "KiB"),
    ("kB", "KiB"),
    ("m", "min"),
    ("M", "MiB"),
    ("MB", "MiB"),
    ("G", "GiB"),
    ("GB", "GiB"),
    ("T", "TiB"),
    ("TB", "TiB"),
    ("msec", "ms"),
    ("millis", "ms"),
    ("sec", "s"),
    ("secs", "s"),
    ("second", "s"),
    ("seconds", "s"),
    ("minutes", "min"),
    ("hour", "h"),
    ("hours", "h"),
    ("day", "d"),
    ("days", "d"),
];

impl Unit {
    const fn table(&self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Of(_) => &[],
            Self::Bytes => &SIZES,
            Self::Millis | Self::Seconds => &TIMES,
        }
    }

    /// How much of the table's smallest unit one of these is.
    const fn size(&self) -> u64 {
        match self {
            Self::Of(_) | Self::Bytes | Self::Millis => 1,
            Self::Seconds => 1_000,
        }
    }
}

/// Reads a number and its unit.
///
/// # Errors
/// It is something else, or not a whole number of what this key counts.
pub(super) fn parse_quantity(text: &str, unit: &Unit) -> Result<u64, Refusal> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, named) = text.split_at(digits);
    let named = named.strip_prefix(' ').unwrap_or(named);
    let Ok(number) = number.parse::<u64>() else {
        return Err(Refusal::because(match number {
            "" => "this is text and does not begin with a number",
            _ => "this is larger than anything",
        }));
    };
    let units = unit.table();
    if units.is_empty() {
        let refusal = Refusal::because("this is text: leave the quotes out");
        return Err(if named.is_empty() {
            refusal.meant(number.to_string())
        } else {
            Refusal::because("this is text")
        });
    }
    let words = units.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let Some((_, factor)) = units.iter().find(|(word, _)| *word == named) else {
        if named.is_empty() {
            let why = format!("this is text without a unit, which is one of {words}: leave the quotes out, or add one");
            return Err(Refusal::because(why).meant(number.to_string()));
        }
        if named.starts_with(['.', ',']) {
            return Err(Refusal::because("this number has a fraction: take a smaller unit"));
        }
        let meant = MEANT
            .iter()
            .find(|(word, meant)| word.eq_ignore_ascii_case(named) && units.iter().any(|(word, _)| word == meant));
        let near = units.iter().find(|(word, _)| word.eq_ignore_ascii_case(named));
        let meant = meant.map(|(_, word)| *word).or(near.map(|(word, _)| *word));
        let refusal = Refusal::because(format!("`{named}` is not a unit here; these are {words}"));
        return Err(match meant {
            Some(word) => refusal.meant(format!("\"{number} {word}\"")),
            None => refusal,
        });
    };
    let smallest = number.checked_mul(*factor).ok_or_else(|| Refusal::because("this is larger than anything"))?;
    if !smallest.is_multiple_of(unit.size()) {
        return Err(Refusal::because("this is not a whole number of seconds"));
    }
    Ok(smallest / unit.size())
}

/// A number with the largest unit of which it is a whole number, if that is not just the number again.
pub(super) fn human(number: u64, unit: &Unit) -> Option<String> {
    if number == 0 {
        return None;
    }
    let smallest = number.checked_mul(unit.size())?;
    let (word, factor) = unit.table().iter().rev().find(|(_, factor)| smallest.is_multiple_of(*factor))?;
    Some(format!("{} {word}", smallest / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_one_whole_number_and_one_unit() {
        for (text, unit, expected) in [
            ("1 GiB", Unit::Bytes, 1 << 30),
            ("1GiB", Unit::Bytes, 1 << 30),
            ("4096 bytes", Unit::Bytes, 4096),
            ("0 bytes", Unit::Bytes, 0),
            ("25 s", Unit::Millis, 25_000),
            ("250 ms", Unit::Millis, 250),
            ("5 min", Unit::Seconds, 300),
            ("1 d", Unit::Seconds, 86_400),
            ("2000 ms", Unit::Seconds, 2),
        ] {
            assert_eq!(parse_quantity(text, &unit), Ok(expected), "{text}");
        }
        for (text, unit) in [
            ("", Unit::Bytes),
            ("GiB", Unit::Bytes),
            ("-1 GiB", Unit::Bytes),
            ("1  GiB", Unit::Bytes),
            (" 1 GiB", Unit::Bytes),
            ("1.5 GiB", Unit::Bytes),
            ("1 gib", Unit::Bytes),
            ("1 GB", Unit::Bytes),
            ("1 s", Unit::Bytes),
            ("1024", Unit::Bytes),
            ("99999999 TiB", Unit::Bytes),
            ("99999999999999999999 s", Unit::Millis),
            ("1500 ms", Unit::Seconds),
            ("25 s 3 ms", Unit::Millis),
            ("3 connections", Unit::Of("connections")),
        ] {
            assert!(parse_quantity(text, &unit).is_err(), "{text}");
        }
    }

    #[test]
    fn a_unit_that_is_nearly_right_is_told_what_it_should_be() {
        for (text, meant) in
            [("1 GB", "\"1 GiB\""), ("64 mb", "\"64 MiB\""), ("1 gib", "\"1 GiB\""), ("7 B", "\"7 bytes\"")]
        {
            assert_eq!(parse_quantity(text, &Unit::Bytes).unwrap_err().meant.as_deref(), Some(meant), "{text}");
        }
        for (text, meant) in [("5 m", "\"5 min\""), ("30 sec", "\"30 s\""), ("1 day", "\"1 d\""), ("30 S", "\"30 s\"")]
        {
            assert_eq!(parse_quantity(text, &Unit::Seconds).unwrap_err().meant.as_deref(), Some(meant), "{text}");
        }
    }

    #[test]
    fn what_is_said_of_a_number_can_be_read_back() {
        for (number, unit) in
            [(1 << 30, Unit::Bytes), (4095, Unit::Bytes), (90_000, Unit::Millis), (86_400, Unit::Seconds)]
        {
            assert_eq!(parse_quantity(&human(number, &unit).unwrap(), &unit), Ok(number));
        }
        assert_eq!(human(90_000, &Unit::Millis).unwrap(), "90 s");
        assert_eq!(human(5, &Unit::Of("threads")), None);
    }
}
