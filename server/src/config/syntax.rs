//! Lines that are not TOML: what is wrong with them, in words for people who never heard of it. PURE. The parser says where it
//! stopped; why, is mostly plain from the line itself.

/// What to do about a line at which the parser stopped, and what it said.
pub(super) fn advice(said: &str, line: &str) -> String {
    let line = line.trim();
    if said.starts_with("duplicate key") {
        return if line.starts_with('[') {
            "this section has begun above already: put its keys there, or take one out".to_owned()
        } else {
            "this key is there twice: take one of the two lines out".to_owned()
        };
    }
    if line.contains(['“', '”', '„', '‘', '’']) {
        return "these are typographic quotes: use \" instead".to_owned();
    }
    if line.starts_with("//") || line.starts_with(';') || line.starts_with("--") {
        return "a comment begins with #".to_owned();
    }
    if line.starts_with('[') {
        return "a section is its name in brackets on a line of its own, for example: [limits]".to_owned();
    }
    let Some((key, value)) = line.split_once('=') else {
        return match line.split_once(':') {
            Some((key, value)) => {
                format!(
                    "between a key and its value stands `=`, for example: {} = {}",
                    key.trim(),
                    quoted(value.trim())
                )
            }
            None => "this is neither `key = value` nor a [section]; a comment begins with #".to_owned(),
        };
    };
    let (key, value) = (key.trim(), value.trim());
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"'".contains(c)) || key.is_empty() {
        return "a key is one word of letters, digits and _".to_owned();
    }
    if !value.starts_with(['"', '\'', '[', '{']) && value.contains(" = ") {
        return "one line has one key and one value".to_owned();
    }
    of_value(key, value)
}

fn of_value(key: &str, value: &str) -> String {
    let first = value.chars().next().filter(|first| *first != '#');
    match first {
        None => format!("the value is missing, for example: {key} = 1"),
        Some(quote @ ('"' | '\'')) => match value.matches(quote).count() {
            1 => format!("the text does not end: a {quote} is missing"),
            _ if quote == '"' && value.contains('\\') => {
                "in double quotes \\ means something else: use / in paths, or single quotes".to_owned()
            }
            _ => "there is something behind the text: one line has one key and one value".to_owned(),
        },
        Some('[') => {
            "the list does not end as it should: texts in quotes with commas between them, in brackets".to_owned()
        }
        Some('{') => format!("write [{key}] on a line of its own, and the keys below it"),
        Some(first) if first.is_ascii_digit() || "+-".contains(first) => match value.parse::<u64>() {
            Ok(number) => format!("a number has no 0 and no sign before it, for example: {key} = {number}"),
            Err(_) => format!("this is no number; text stands in quotes, for example: {key} = {}", quoted(value)),
        },
        Some(_) => match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => format!("on is `true` in small letters: {key} = true"),
            "false" | "no" | "off" => format!("off is `false` in small letters: {key} = false"),
            _ => format!("text stands in quotes, for example: {key} = {}", quoted(value)),
        },
    }
}

/// As text, if it is not in quotes yet.
fn quoted(value: &str) -> String {
    let value = value.split(" #").next().unwrap_or(value).trim();
    if value.starts_with(['"', '\'', '[']) || value.parse::<u64>().is_ok() {
        value.to_owned()
    } else {
        super::key::toml_text(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_toml_is_told_what_is_wrong_with_it() {
        for (line, said) in [
            ("listen = 127.0.0.1:7600", "text stands in quotes, for example: listen = \"127.0.0.1:7600\""),
            ("listen: 127.0.0.1:7600", "listen = \"127.0.0.1:7600\""),
            ("cores: 4", "cores = 4"),
            ("data_dir = /var/lib/ringpost  # here", "data_dir = \"/var/lib/ringpost\""),
            ("listen = \"127.0.0.1:7600", "does not end"),
            ("listen = “127.0.0.1:7600”", "typographic"),
            ("data_dir = \"C:\\data\"", "single quotes"),
            ("cores =", "the value is missing"),
            ("cores = # many", "the value is missing"),
            ("cores = 04", "cores = 4"),
            ("audit.enabled = True", "audit.enabled = true"),
            ("enabled = off", "enabled = false"),
            ("data dir = \"x\"", "one word"),
            ("[limits", "brackets"),
            ("cores", "neither"),
            ("// cores = 4", "begins with #"),
            ("cores = 4 connections = 5", "one key and one value"),
            ("listen = 127.0.0.1", "no number"),
            ("trusted_networks = [\"10.0.0.0/8\"", "brackets"),
        ] {
            assert!(advice("", line).contains(said), "{line}: {}", advice("", line));
        }
    }
}
