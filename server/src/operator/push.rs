//! Push: what the operator is told of why somebody was notified, or was not. PURE.

use std::fmt::Write as _;

use proto_spec::{ConversationId, DeviceId, ErrorCode, TimestampMs};
use push::Outcome;
use rim::utc::utc;

use crate::shard::{PushDecision, PushQuestion, PushVerdict, PushWhy};

fn moment(at: TimestampMs) -> String {
    format!("{}.{:03}Z", utc(at.0 / 1_000, ':'), at.0 % 1_000)
}

/// What was decided of a message, one line each below how things stand now.
pub(super) fn why(about: PushQuestion, why: &PushWhy) -> String {
    let PushWhy { conversation, at, subscribed, decisions, .. } = why;
    let PushQuestion { user, seq, .. } = about;
    let mut text = match conversation {
        ConversationId::Person(from) => format!("message {seq} of user {user}, from user {from}"),
        ConversationId::Group(group) => format!("message {seq} of group {group}, to user {user}"),
    };
    if let Some(at) = at {
        text += &format!(", came {}", moment(*at));
    }
    text.push('\n');
    let devices: Vec<_> = subscribed.iter().map(DeviceId::to_string).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
    // Writing to a String can not fail.
    let _ = writeln!(text, "{:<26}{devices}", "devices subscribed");
    if let ConversationId::Group(_) = conversation {
        for (what, is_so) in
            [("the user's home was told", why.is_known), ("only if it names the user", why.is_named_only)]
        {
            let _ = writeln!(text, "{what:<26}{}", if is_so { "yes" } else { "no" });
        }
    }
    for (what, is_so) in [
        ("a device is connected", why.is_connected),
        ("a device acknowledged it", why.is_acknowledged),
        ("it has been read", why.is_read),
        ("the conversation is muted", why.is_muted),
        ("it waits to be told", why.is_due),
    ] {
        let _ = writeln!(text, "{what:<26}{}", if is_so { "yes" } else { "no" });
    }
    if decisions.is_empty() {
        text.push_str(
            "nothing was decided of it lately: who acknowledges in time is not notified, and a restart forgets what was decided\n",
        );
    }
    for PushDecision { at, verdict, .. } in decisions {
        let _ = writeln!(text, "{}  {}", moment(*at), words(verdict));
    }
    text
}

fn words(verdict: &PushVerdict) -> String {
    let not = |why: &str| format!("not notified: {why}");
    match verdict {
        PushVerdict::Offered => "a notice was handed on for each device that was subscribed".to_owned(),
        PushVerdict::NotSubscribed => not("no device was subscribed"),
        PushVerdict::Acknowledged => not("a device had acknowledged it"),
        PushVerdict::Muted => not("the conversation was muted"),
        PushVerdict::Blocked => not("who wrote was blocked"),
        PushVerdict::Read => not("it had been read or taken back, or they had written after it"),
        PushVerdict::Left => not("they were no member any more"),
        PushVerdict::NotNamed => not("they want to be notified of what names them alone, and it does not"),
        PushVerdict::Told => not("they had been notified of it before"),
        PushVerdict::Ended(device, outcome) => format!("device {device}: {}", ended(outcome)),
    }
}

fn ended(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered => "the provider took the notice".to_owned(),
        Outcome::Replaced(_) => "the provider took the notice, and gave the device another address".to_owned(),
        Outcome::Superseded => "a newer notice took its place".to_owned(),
        Outcome::Gone => "the provider does not know the device any more: its subscription was removed".to_owned(),
        Outcome::Refused(why) => format!("the notice was refused: {why:?}"),
        Outcome::Expired { last: Some(trouble) } => format!("the provider did not take it in time: {trouble:?}"),
        Outcome::Expired { last: None } => "the provider did not take it in time".to_owned(),
        Outcome::Later(_) => "there was no room, it is offered again".to_owned(),
    }
}

/// Why there is no answer, and what to do about it.
pub(super) fn refused(about: PushQuestion, code: ErrorCode) -> String {
    let PushQuestion { user, group, seq } = about;
    match code {
        ErrorCode::NoSuchGroup => {
            let group = group.map_or_else(String::new, |group| format!(" {group}"));
            format!("user {user} is no member of the group{group}\n")
        }
        ErrorCode::NoSuchMessage => {
            format!(
                "the log of user {user} has no received message at {seq}: `ringpost push why` takes the number under which it came\n"
            )
        }
        ErrorCode::StorageFailed => "the store can not be read: the log of the server says why\n".to_owned(),
        code => format!("the server can not say it now ({}): try again\n", code.name()),
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{GroupId, Seq, UserId};

    use super::*;

    #[test]
    fn who_asks_is_told_how_things_stand_and_what_was_decided() {
        let at = TimestampMs(1_764_500_000_123);
        let decision =
            |verdict| PushDecision { user: UserId(8), conversation: UserId(7).into(), up_to: Seq(12), at, verdict };
        let decisions = vec![
            decision(PushVerdict::Offered),
            decision(PushVerdict::Ended(DeviceId(2), Outcome::Gone)),
            decision(PushVerdict::Muted),
        ];
        let told = PushWhy {
            conversation: UserId(7).into(),
            at: Some(at),
            is_known: true,
            subscribed: vec![DeviceId(1), DeviceId(3)],
            is_connected: false,
            is_acknowledged: false,
            is_read: false,
            is_muted: true,
            is_named_only: false,
            is_due: false,
            decisions,
        };
        let expected = "\
message 12 of user 8, from user 7, came 2025-11-30T10:53:20.123Z
devices subscribed        1, 3
a device is connected     no
a device acknowledged it  no
it has been read          no
the conversation is muted yes
it waits to be told       no
2025-11-30T10:53:20.123Z  a notice was handed on for each device that was subscribed
2025-11-30T10:53:20.123Z  device 2: the provider does not know the device any more: its subscription was removed
2025-11-30T10:53:20.123Z  not notified: the conversation was muted
";
        let about = PushQuestion { user: UserId(8), group: None, seq: Seq(12) };
        assert_eq!(why(about, &told), expected);
        let nothing = PushWhy { subscribed: Vec::new(), decisions: Vec::new(), ..told };
        let text = why(about, &nothing);
        assert!(text.contains("none\n") && text.contains("nothing was decided of it lately"), "{text}");
        let of_group = PushWhy { conversation: GroupId(12).into(), at: None, is_named_only: true, ..nothing };
        let text = why(PushQuestion { group: Some(GroupId(12)), ..about }, &of_group);
        let head = "\
message 12 of group 12, to user 8
devices subscribed        none
the user's home was told  yes
only if it names the user yes
a device is connected     no
";
        assert!(text.starts_with(head), "{text}");
    }
}
