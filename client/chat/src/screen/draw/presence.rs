//! How it is shown whether somebody is there: a dot, and words where there is room for them.

use client::{ConversationId, MonotonicMs, Presence, TimestampMs, UserPresence};
use ratatui_core::style::Style;

use super::{bold, dim, list::when};
use crate::{
    presence,
    screen::{effect::Now, model::Model},
};

/// Up to here it is said how long ago somebody was there, in minutes; of before it is said when that was.
const MINUTES_AGO_MAX: u64 = 59;

const MINUTE_MS: u64 = 60_000;

/// Blank for who is unknown.
pub(super) fn dot(model: &Model, conversation: ConversationId) -> (&'static str, Style) {
    match model.people.presence(conversation).map(|of| of.state) {
        Some(Presence::Online) => ("●", bold()),
        Some(Presence::Away) => ("◐", Style::new()),
        Some(Presence::Offline) => ("○", dim()),
        Some(Presence::Unknown) | None => ("", Style::new()),
    }
}

/// Nothing for who is unknown and does not type.
pub(super) fn words(model: &Model, now: Now, conversation: ConversationId) -> String {
    if let Some(words) = typing(model, conversation) {
        return words;
    }
    match model.people.presence(conversation) {
        Some(UserPresence { last_seen: Some(at), .. }) => match minutes_since(now, *at) {
            0 => "last seen just now".to_owned(),
            1 => "last seen a minute ago".to_owned(),
            minutes @ ..=MINUTES_AGO_MAX => format!("last seen {minutes} minutes ago"),
            _ => format!("last seen {}", when(model, now, *at)),
        },
        Some(of) => presence::word(of.state).to_owned(),
        None => String::new(),
    }
}

/// Who types there; between two it can only be the other one.
pub(super) fn typing(model: &Model, conversation: ConversationId) -> Option<String> {
    let mut typists = model.people.typists(conversation);
    let first = typists.next()?;
    Some(match (conversation, typists.count()) {
        (ConversationId::Person(_), _) => "typing…".to_owned(),
        (ConversationId::Group(_), 0) => format!("{first} types…"),
        (ConversationId::Group(_), others) => format!("{} type…", others + 1),
    })
}

/// When the words of the conversation that is shown say something else though nothing happens.
pub(crate) fn deadline(model: &Model, now: Now) -> Option<MonotonicMs> {
    let at = model.people.presence(model.peer)?.last_seen?;
    let until_next = MINUTE_MS - now.wall.0.saturating_sub(at.0) % MINUTE_MS;
    (minutes_since(now, at) <= MINUTES_AGO_MAX).then(|| now.monotonic.after(until_next))
}

/// The server's clock may be ahead of the one here.
const fn minutes_since(now: Now, at: TimestampMs) -> u64 {
    now.wall.0.saturating_sub(at.0) / MINUTE_MS
}
