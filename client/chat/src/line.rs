//! What is shown, and how: for a script, whose format must not change, and for a person.

use std::borrow::Cow;

use client::{Durability, Recipient, Seq, TimestampMs, UserId};
use jiff::{Timestamp, Zoned, tz::TimeZone};

/// The format for scripts, as `--help` tells it.
pub(crate) const FORMAT: &str = r"From a pipe, each line of input is a message (or /to USER, /history [N], /quit), and each line of output is one of
  connected USER                              USER is who the token says you are
  disconnected RETRY_MS REASON                connecting again happens by itself
  history received FROM SEQ TIME TEXT         the conversation before this run, oldest first
  history sent TO SEQ TIME TEXT
  received FROM SEQ TIME TEXT                 a message to you, from anybody
  sent TO SEQ TIME TEXT                       a message from another device of yours
  accepted N SEQ DURABILITY RECIPIENT         your Nth message of this run is in your log as SEQ
  committed SEQ                               what was accepted as memory or local, up to SEQ, is committed now
  refused N CODE                              your Nth message was refused for good
  delivered USER SEQ                          USER's devices have what you sent up to SEQ
TIME is UTC (2026-01-01T12:00:00Z), DURABILITY memory, local or committed, RECIPIENT online, offline or yourself. In TEXT,
which goes to the end of the line, \\ stands for \, \n for a line break, \u{..} for other control characters.
Exit code 0: everything was sent, accepted and waited for. Problems are told on standard error.";

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Now,
    History { is_delivered: bool },
}

/// One thing to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Connected {
        user: UserId,
    },
    Disconnected {
        retry_in_ms: u64,
        reason: String,
    },
    Received {
        from: UserId,
        is_peer: bool,
        seq: Seq,
        time: TimestampMs,
        text: String,
        origin: Origin,
    },
    Sent {
        to: UserId,
        seq: Seq,
        time: TimestampMs,
        text: String,
        origin: Origin,
    },
    Accepted {
        ordinal: u64,
        to: UserId,
        seq: Seq,
        durability: Durability,
        recipient: Recipient,
        text: String,
    },
    /// What the server accepted with a lower durability has reached its history.
    Committed {
        up_to: Seq,
    },
    Refused {
        ordinal: u64,
        why: String,
        text: String,
    },
    Delivered {
        peer: UserId,
        up_to: Seq,
    },
    /// For a person only.
    Notice(String),
    /// The last line of input was not taken. A script's is offered again by itself.
    Wait(String),
    /// Something that was asked for did not work.
    Problem(String),
}

impl Line {
    /// For a script. None: not for standard output.
    pub(crate) fn plain(&self) -> Option<String> {
        let history = |origin: &Origin| match origin {
            Origin::Now => "",
            Origin::History { .. } => "history ",
        };
        Some(match self {
            Self::Connected { user } => format!("connected {user}"),
            Self::Disconnected { retry_in_ms, reason } => format!("disconnected {retry_in_ms} {}", escaped(reason)),
            Self::Received { from, seq, time, text, origin, .. } => {
                format!("{}received {from} {seq} {} {}", history(origin), utc(*time), escaped(text))
            }
            Self::Sent { to, seq, time, text, origin } => {
                format!("{}sent {to} {seq} {} {}", history(origin), utc(*time), escaped(text))
            }
            Self::Accepted { ordinal, seq, durability, recipient, .. } => {
                let durability = match durability {
                    Durability::Memory => "memory",
                    Durability::Local => "local",
                    Durability::Committed => "committed",
                };
                let recipient = match recipient {
                    Recipient::Offline => "offline",
                    Recipient::Online => "online",
                    Recipient::Yourself => "yourself",
                };
                format!("accepted {ordinal} {seq} {durability} {recipient}")
            }
            Self::Committed { up_to } => format!("committed {up_to}"),
            Self::Refused { ordinal, why, .. } => format!("refused {ordinal} {why}"),
            Self::Delivered { peer, up_to } => format!("delivered {peer} {up_to}"),
            Self::Notice(_) | Self::Wait(_) | Self::Problem(_) => return None,
        })
    }

    /// For a person.
    pub(crate) fn pretty(&self, now: &Zoned) -> String {
        match self {
            Self::Connected { user } => format!("-- connected as {user}"),
            Self::Disconnected { retry_in_ms, reason } => {
                let seconds = retry_in_ms.div_ceil(1000);
                format!("-- not connected: {}; trying again within {seconds} s", tame(reason))
            }
            Self::Received { from, is_peer, time, text, .. } => {
                let place = if *is_peer { "" } else { " (another conversation)" };
                format!("{} {from}{place}: {}", local(*time, now), tame(text))
            }
            Self::Sent { to, time, text, origin, .. } => {
                let ticks = match origin {
                    Origin::History { is_delivered: true } => "✓✓",
                    Origin::Now | Origin::History { is_delivered: false } => "✓",
                };
                format!("{} you to {to}: {} {ticks}", local(*time, now), tame(text))
            }
            Self::Accepted { to, text, durability, recipient, .. } => {
                let level = if *durability == Durability::Committed { "" } else { " (not in the history yet)" };
                let hint = match recipient {
                    Recipient::Offline => format!(" ({to} is offline and will get it later)"),
                    Recipient::Online => String::new(),
                    Recipient::Yourself => " (a note to yourself)".into(),
                };
                format!("   ✓ {}{level}{hint}", start_of(&tame(text)))
            }
            Self::Committed { .. } => "-- everything is in the history now".into(),
            Self::Refused { why, text, .. } => format!("   ✗ not sent: {} ({why})", start_of(&tame(text))),
            Self::Delivered { peer, .. } => format!("  ✓✓ delivered to {peer}"),
            Self::Notice(text) => text.clone(),
            Self::Wait(text) | Self::Problem(text) => format!("-- {}", tame(text)),
        }
    }
}

fn start_of(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn timestamp(time: TimestampMs) -> Timestamp {
    let ms = i64::try_from(time.0).ok();
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

fn utc(time: TimestampMs) -> String {
    timestamp(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time of day, with the date when it was not today.
fn local(time: TimestampMs, now: &Zoned) -> String {
    let time = timestamp(time).to_zoned(now.time_zone().clone());
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    time.strftime(format).to_string()
}

/// The present in the time zone of this machine.
pub(crate) fn now() -> Zoned {
    Timestamp::now().to_zoned(TimeZone::system())
}

/// Reversible, on one line.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Without what a terminal would obey: a message must not move somebody's cursor.
fn tame(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) { escaped(text).into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str, origin: Origin) -> Line {
        let (from, seq, time) = (UserId(7), Seq(12), TimestampMs(1_767_268_800_123));
        Line::Received { from, is_peer: true, seq, time, text: text.into(), origin }
    }

    #[test]
    fn the_format_for_scripts_is_as_documented() {
        assert_eq!(received("hello", Origin::Now).plain().unwrap(), "received 7 12 2026-01-01T12:00:00Z hello");
        let line = received("a\nb\\c\u{1b}[2J", Origin::History { is_delivered: false });
        assert_eq!(line.plain().unwrap(), "history received 7 12 2026-01-01T12:00:00Z a\\nb\\\\c\\u{1b}[2J");
        let accepted = Line::Accepted {
            ordinal: 3,
            to: UserId(8),
            seq: Seq(9),
            durability: Durability::Committed,
            recipient: Recipient::Offline,
            text: "x".into(),
        };
        assert_eq!(accepted.plain().unwrap(), "accepted 3 9 committed offline");
        assert_eq!(Line::Delivered { peer: UserId(8), up_to: Seq(9) }.plain().unwrap(), "delivered 8 9");
    }

    #[test]
    fn a_message_can_not_command_the_terminal() {
        let now = Timestamp::from_second(1_767_268_800).unwrap().to_zoned(TimeZone::UTC);
        let line = received("\u{1b}[2Jgone\r\n", Origin::Now).pretty(&now);
        assert_eq!(line, "12:00:00 7: \\u{1b}[2Jgone\\u{d}\\n");
    }

    #[test]
    fn a_message_of_another_day_shows_its_date() {
        let now = Timestamp::from_second(1_767_268_800 + 86_400).unwrap().to_zoned(TimeZone::UTC);
        assert_eq!(received("hi", Origin::Now).pretty(&now), "2026-01-01 12:00 7: hi");
    }
}
