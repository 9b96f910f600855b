//! What the protocol's reasons mean for who sits in front of the program, and which of them waiting does not mend.

use client::{DeviceInfo, DisconnectReason, EndReason, ErrorCode, SendError, Settings, UNREAD_MAX};

use crate::{
    exit::{Exit, Failure},
    visible::tame,
};

/// Why there is no connection, on one line.
pub(crate) fn disconnected(reason: &DisconnectReason, server: &str) -> String {
    match reason {
        DisconnectReason::Link(words) => tame(words),
        DisconnectReason::NotRingpost(words) => format!("{server} is no Ringpost server: {}", tame(words)),
        DisconnectReason::Untrusted(words) => format!("the server is not trusted: {}", tame(words)),
        DisconnectReason::OpenTimeout => format!("{server} can not be reached: no answer to the connection"),
        DisconnectReason::WelcomeTimeout => {
            format!("{server} takes connections but says nothing: is it a Ringpost server, with TLS perhaps (--tls)?")
        }
        DisconnectReason::Silent => "the server has fallen silent".to_owned(),
        DisconnectReason::Protocol(words) => format!("the server can not be understood: {}", tame(words)),
        DisconnectReason::Hole { .. } | DisconnectReason::NetworkChanged => format!("{reason}"),
        DisconnectReason::OtherLog(_) => {
            "the server's history is another one than was shown here: it is asked for anew".to_owned()
        }
        DisconnectReason::Redirected { address, .. } => format!("this user is served by {}", tame(address)),
        DisconnectReason::Circle { .. } => {
            format!("{server} and the servers beside it do not agree on who serves this user: it is tried again")
        }
        DisconnectReason::Elsewhere { address, why } => {
            let address = tame(address);
            format!("{server} has sent this user to {address}, and there: {}", disconnected(why, &address))
        }
        DisconnectReason::Bye { code, detail } => match bye(*code) {
            Some(words) => words.to_owned(),
            None => format!("the server closed the connection: {} ({})", code.name(), tame(detail)),
        },
    }
}

fn bye(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::Stopping => "the server is stopping",
        ErrorCode::Overloaded => "the server has more to do than it can",
        ErrorCode::StorageFailed => "the server's storage has failed; what it accepted is safe",
        ErrorCode::TooManyConnections => "the server has as many connections as it takes",
        ErrorCode::NumberUsed => {
            "another message has its number: two programs are this device, or it was set back; write it again if it is missing"
        }
        ErrorCode::RateLimited => "too much was asked for in too short a time",
        ErrorCode::Replaced => "another program has connected as the same device: give one of them another --device",
        ErrorCode::IdleTimeout => "the server has heard nothing from here for too long",
        ErrorCode::SlowConsumer => "the server's answers were not read fast enough",
        ErrorCode::Elsewhere => "another server has this user, and can not be found just now",
        ErrorCode::HandshakeTimeout => "the server waited too long for this program's hello",
        _ => return None,
    })
}

/// Ends the program where another attempt would only hide the cause.
pub(crate) fn fatal(reason: &DisconnectReason, server: &str) -> Option<Failure> {
    match reason {
        DisconnectReason::NotRingpost(_) | DisconnectReason::Untrusted(_) => {
            Some(Failure::new(Exit::Server, disconnected(reason, server)))
        }
        DisconnectReason::Link(_)
        | DisconnectReason::OpenTimeout
        | DisconnectReason::WelcomeTimeout
        | DisconnectReason::Silent
        | DisconnectReason::NetworkChanged
        | DisconnectReason::Protocol(_)
        | DisconnectReason::Hole { .. }
        | DisconnectReason::OtherLog(_)
        | DisconnectReason::Redirected { .. }
        | DisconnectReason::Circle { .. }
        // The address that was given may know better by then.
        | DisconnectReason::Elsewhere { .. }
        | DisconnectReason::Bye { .. } => None,
    }
}

/// Why the client has stopped by itself.
pub(crate) fn ended(reason: &EndReason, server: &str) -> Failure {
    let (code, detail) = match reason {
        EndReason::Closed => return Failure::new(Exit::Failed, "the connection was closed by this program"),
        EndReason::Version(version) => {
            let words = format!("{server} speaks version {version} of the protocol, which this program does not");
            return Failure::new(Exit::Server, words);
        }
        EndReason::TooManyDevices { devices, .. } => return Failure::new(Exit::Identity, too_many(devices)),
        EndReason::Refused { code, detail } => (*code, tame(detail)),
    };
    let mint = "who runs the server makes one with `ringpost token`";
    let (exit, words) = match code {
        ErrorCode::TlsRequired => (
            Exit::Server,
            format!(
                "{server} wants TLS: add --tls, or --tls-ca FILE for a certificate of the server's own \
                 (tls-cert.pem in its data folder)"
            ),
        ),
        ErrorCode::Version => (
            Exit::Server,
            format!("{server} speaks none of this program's versions of the protocol: use a newer program"),
        ),
        ErrorCode::TokenMissing | ErrorCode::TokenInvalid => {
            (Exit::Identity, format!("the server does not take this token ({detail}): get another, {mint}"))
        }
        ErrorCode::TokenExpired => (
            Exit::Identity,
            format!("the token has expired, or the clock is wrong here or there ({detail}): get another, {mint}"),
        ),
        ErrorCode::Revoked => {
            (Exit::Identity, format!("this token has been revoked by who runs the server: get another, {mint}"))
        }
        ErrorCode::DeviceRefused => (
            Exit::Identity,
            format!("the server does not take this device ({detail}): use a --device that this user had before"),
        ),
        ErrorCode::DeviceRemoved => (
            Exit::Identity,
            "this device has been removed from this user's devices, and its number is not taken again: use another --device"
                .to_owned(),
        ),
        ErrorCode::CursorAhead | ErrorCode::OtherLog => (
            Exit::Server,
            "the server's history was replaced several times within a minute: does it start again and again, or do several servers answer under one name?"
                .to_owned(),
        ),
        ErrorCode::Replaced => (
            Exit::Identity,
            "another program is connected as the same user and device: give one of them another --device".to_owned(),
        ),
        code => (Exit::Failed, format!("the server has sent this program away: {} ({detail})", code.name())),
    };
    Failure::new(exit, words)
}

/// There is no room for this device, and what may be done about it.
fn too_many(devices: &[DeviceInfo]) -> String {
    let named = |device: &DeviceInfo| match device.name.as_str() {
        "" => device.device.to_string(),
        name => format!("{} ({})", device.device, tame(name)),
    };
    let longest: Vec<_> = devices.iter().filter(|device| !device.is_connected).take(3).map(named).collect();
    let longest = match longest.is_empty() {
        true => "all of them are connected".to_owned(),
        false => format!("not seen for longest: {}", longest.join(", ")),
    };
    format!(
        "this user has {} devices, which is as many as there may be ({longest}): remove one with /remove-device in a chat of \
         another device, or use a --device that this user has",
        devices.len()
    )
}

/// The code with which a server would refuse what was not sent to it for this reason.
pub(crate) const fn untaken(why: &SendError) -> &'static str {
    match why {
        SendError::TextLength { .. } => ErrorCode::TextLength.name(),
        SendError::ContentLimits => ErrorCode::ContentLimits.name(),
        SendError::ContentKind { .. } | SendError::ActToUser => ErrorCode::ContentKind.name(),
        SendError::LogReplaced => ErrorCode::OtherLog.name(),
        SendError::Recipient | SendError::ConversationKind => ErrorCode::Recipient.name(),
        SendError::QueueFull { .. } => ErrorCode::Overloaded.name(),
        SendError::Ended => ErrorCode::Stopping.name(),
    }
}

/// Why a message or a request was refused.
pub(crate) fn refused(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TextLength => "the text is longer than the server takes",
        ErrorCode::ContentLimits => "a part of it is missing or longer than the server takes",
        ErrorCode::NoSuchMessage => "there is no such message in this conversation",
        ErrorCode::NotTheAuthor => "the message is not yours",
        ErrorCode::TooLate => "the message was written too long ago",
        ErrorCode::OtherKind => "the message is of another kind, such as an attachment",
        ErrorCode::TakenBack => "the message has been taken back",
        ErrorCode::ReactionsFull => "the message has as many reactions as it keeps",
        ErrorCode::Unwanted => "the other one takes no messages from you",
        ErrorCode::ContentKind => "the server does not take such content",
        ErrorCode::Recipient => "there can be no such user",
        ErrorCode::NoSuchGroup => "there is no such group, or you are no member of it",
        ErrorCode::NotAllowed => "you may not do this here",
        ErrorCode::GroupExists => "there is a group with this number already",
        ErrorCode::GroupFull => "the group has as many members as it may have",
        ErrorCode::NoSuchMember => "that user is no member",
        ErrorCode::MemberAlready => "that user is a member already",
        ErrorCode::Banned => "that user is not let in again",
        ErrorCode::NotInvited => "nobody is invited like this",
        ErrorCode::GroupEnded => "the group has ended",
        ErrorCode::TooManyGroups => "that user is in as many groups as one may be in",
        ErrorCode::BadSubscription => "the server sends no notifications there",
        ErrorCode::NumberUsed => {
            "another message has its number: two programs are this device, or it was set back; write it again if it is missing"
        }
        ErrorCode::RateLimited => "too much in too short a time",
        ErrorCode::Overloaded => "the server has more to do than it can",
        ErrorCode::StorageFull => "the server has no room",
        ErrorCode::StorageFailed => "the server's storage has failed",
        ErrorCode::Stopping => "the server is stopping",
        ErrorCode::NoSuchDevice => "there is no such device",
        ErrorCode::OtherLog => "it is about a message of the history that the server had before",
        ErrorCode::UnknownKind => "this server is older and can not do that",
        code => code.name(),
    }
}

/// How many messages are unread.
pub(crate) fn unread(count: u64) -> String {
    if count > UNREAD_MAX { "many".to_owned() } else { count.to_string() }
}

/// How a conversation is kept: words with commas between, or `-`.
pub(crate) fn kept(settings: Settings) -> String {
    let all = [
        (Settings::MUTED, "muted"),
        (Settings::ARCHIVED, "archived"),
        (Settings::PINNED, "pinned"),
        (Settings::BLOCKED, "blocked"),
        (Settings::MENTIONS_ONLY, "mentions"),
    ];
    let words: Vec<_> = all.into_iter().filter(|(setting, _)| settings.has(*setting)).map(|(_, word)| word).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_that_waiting_does_not_mend_ends_the_program_in_words_of_its_own() {
        let codes = [
            (ErrorCode::TlsRequired, Exit::Server, "host:1 wants TLS: add --tls"),
            (ErrorCode::Version, Exit::Server, "use a newer program"),
            (ErrorCode::TokenMissing, Exit::Identity, "get another"),
            (ErrorCode::TokenInvalid, Exit::Identity, "does not take this token (the words)"),
            (ErrorCode::TokenExpired, Exit::Identity, "the token has expired"),
            (ErrorCode::Revoked, Exit::Identity, "has been revoked"),
            (ErrorCode::DeviceRefused, Exit::Identity, "does not take this device (the words)"),
            (ErrorCode::DeviceRemoved, Exit::Identity, "use another --device"),
            (ErrorCode::CursorAhead, Exit::Server, "several times within a minute"),
            (ErrorCode::OtherLog, Exit::Server, "several times within a minute"),
            (ErrorCode::Replaced, Exit::Identity, "give one of them another --device"),
        ];
        for (code, exit, words) in codes {
            let failure = ended(&EndReason::Refused { code, detail: "the words".into() }, "host:1");
            assert_eq!(failure.exit, exit, "{code:?}");
            assert!(failure.words.contains(words), "{}", failure.words);
        }
        let foreign = fatal(&DisconnectReason::NotRingpost("it answers in TLS".into()), "host:1").expect("it is fatal");
        assert_eq!(foreign.words, "host:1 is no Ringpost server: it answers in TLS");
    }

    #[test]
    fn a_node_that_fails_is_named_and_ends_nothing() {
        let foreign = DisconnectReason::NotRingpost("it answers in TLS".into());
        let reason = DisconnectReason::Elsewhere { address: "\u{1b}:2".into(), why: Box::new(foreign) };
        assert!(fatal(&reason, "host:1").is_none());
        let words =
            r"host:1 has sent this user to \u{1b}:2, and there: \u{1b}:2 is no Ringpost server: it answers in TLS";
        assert_eq!(disconnected(&reason, "host:1"), words);
    }

    #[test]
    fn words_of_a_server_can_not_command_the_terminal() {
        let reason = DisconnectReason::Bye { code: ErrorCode::Malformed, detail: "\u{1b}[2J".into() };
        assert!(disconnected(&reason, "host:1").ends_with(r"malformed (\u{1b}[2J)"));
    }
}
