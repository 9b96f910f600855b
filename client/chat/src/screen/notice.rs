//! What is said to the person above the draft: one notice at a time, until something takes it away.

use client::Seq;

/// Something that is said once, until something else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) about: About,
}

/// What takes a notice away again, besides the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The next key.
    Typing,
    /// The next welcome.
    Link,
    /// This much of the log is in the server's history.
    Committed(Seq),
}

/// Words as they stand alone.
pub(crate) fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    rest.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}
