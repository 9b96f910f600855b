//! Push: what the operator is told of why somebody was notified, or was not. PURE.

use std::fmt::Write as _;

use proto_spec::{DeviceId, ErrorCode, Seq, TimestampMs, UserId};
use push::Outcome;
use rim::utc::utc;

use crate::shard::{PushDecision, PushVerdict, PushWhy};

fn moment(at: TimestampMs) -> String {
    format!("{}.{:03}Z", utc(at.0 / 1_000, ':'), at.0 % 1_000)
}

/// What was decided of a message, one line each below how things stand now.
pub(super) fn why(user: UserId, seq: Seq, why: &PushWhy) -> String {
    let PushWhy { from, at, subscribed, decisions, .. } = why;
    let mut text = format!("message {seq} of user {user}, from user {from}, came {}\n", moment(*at));
    let devices: Vec<_> = subscribed.iter().map(DeviceId::to_string).collect();
    let devices = if devices.is_empty() { "none".to_owned() } else { devices.join(", ") };
    // Writing to a String can not fail.
    let _ = writeln!(text, "{:<26}{devices}", "devices subscribed");
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
        PushVerdict::Read => not("it had been read or taken back"),
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
pub(super) fn refused(user: UserId, seq: Seq, code: ErrorCode) -> String {
    match code {
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
    use super::*;

    #[test]
    fn who_asks_is_told_how_things_stand_and_what_was_decided() {
        let at = TimestampMs(1_764_500_000_123);
        let decision = |verdict| PushDecision { user: UserId(8), peer: UserId(7), up_to: Seq(12), at, verdict };
        let decisions = vec![
            decision(PushVerdict::Offered),
            decision(PushVerdict::Ended(DeviceId(2), Outcome::Gone)),
            decision(PushVerdict::Muted),
        ];
        let told = PushWhy {
            from: UserId(7),
            at,
            subscribed: vec![DeviceId(1), DeviceId(3)],
            is_connected: false,
            is_acknowledged: false,
            is_read: false,
            is_muted: true,
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
        assert_eq!(why(UserId(8), Seq(12), &told), expected);
        let nothing = PushWhy { subscribed: Vec::new(), decisions: Vec::new(), ..told };
        let text = why(UserId(8), Seq(12), &nothing);
        assert!(text.contains("none\n") && text.contains("nothing was decided of it lately"), "{text}");
    }
}
