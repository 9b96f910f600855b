//! Payload: what a device is told, as JSON. `docs/PUSH.md` has it for those who write service workers, apps and gateways.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto_spec::ConversationId;
use serde::Serialize;

use crate::{
    limits::PAYLOAD_BYTES_MAX,
    notice::{Kind, Notice, Show},
    settings::TagKey,
};

/// The version of the format: `v`.
const VERSION: u8 = 1;

/// What a text ends with that was cut.
const CUT: &str = "…";

/// One notice, as far as its user allows. Numbers of users and groups are texts, since JavaScript's numbers are too short for them.
#[derive(Serialize)]
pub(crate) struct Payload<'a> {
    v: u8,
    /// Equal for all notices of one conversation to one device.
    tag: &'a str,
    /// When it happened, in milliseconds since 1970.
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Cow<'a, str>>,
}

impl<'a> Payload<'a> {
    /// What the notice tells, its text cut so that the whole has at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub(crate) fn of(notice: &'a Notice, tag: &'a str) -> Self {
        let mut payload = Self {
            v: VERSION,
            tag,
            at: notice.at.0,
            clear: None,
            count: None,
            conversation: None,
            from: None,
            text: None,
        };
        let Kind::Message { from, text, count } = &notice.kind else {
            payload.clear = Some(true);
            return payload;
        };
        payload.count = Some(*count);
        let show = notice.subscription.show;
        if show != Show::Nothing {
            payload.conversation = Some(notice.conversation.to_string());
            payload.from = Some(from.to_string());
        }
        if let (Show::Text, Some(text)) = (show, text) {
            let room = PAYLOAD_BYTES_MAX - payload.to_json().len() - r#","text":"""#.len();
            payload.text = Some(fitted(text, room));
        }
        payload
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("nothing in it can be no JSON")
    }
}

/// As much of a text as has at most so many bytes in JSON, with a mark where it was cut.
fn fitted(text: &str, bytes_max: usize) -> Cow<'_, str> {
    let (mut bytes, mut end) = (0, 0);
    for (at, char) in text.char_indices() {
        bytes += json_bytes(char);
        if bytes > bytes_max {
            return Cow::Owned(format!("{}{CUT}", &text[..end]));
        }
        if bytes + CUT.len() <= bytes_max {
            end = at + char.len_utf8();
        }
    }
    Cow::Borrowed(text)
}

/// How many bytes a character has in a text of JSON.
const fn json_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..'\u{20}' => 6,
        _ => char.len_utf8(),
    }
}

/// By what a provider and a device tell one conversation from another: 32 characters of base64url. A provider learns nothing of the
/// conversation from it, nor that it is another device's as well.
pub(crate) fn tag(key: &TagKey, notice: &Notice) -> String {
    URL_SAFE_NO_PAD.encode(&of_thing(key, notice, b"tag").sign().as_ref()[..24])
}

/// What this notice is known by, however often it is sent: by the moment of what it tells, which the log has, so that it is the same after a
/// restart and another one for another message.
pub(crate) fn id(key: &TagKey, notice: &Notice) -> String {
    let mut context = of_thing(key, notice, b"id");
    context.update(&notice.at.0.to_be_bytes());
    context.update(&[u8::from(notice.kind == Kind::Clear)]);
    format!("msg_{}", URL_SAFE_NO_PAD.encode(&context.sign().as_ref()[..24]))
}

fn of_thing(key: &TagKey, notice: &Notice, what: &[u8]) -> hmac::Context {
    let (kind, id) = match notice.conversation {
        ConversationId::Person(user) => (1, user.0),
        ConversationId::Group(group) => (2, group.0),
    };
    let mut context = hmac::Context::with_key(&key.0);
    context.update(what);
    context.update(&notice.user.0.to_be_bytes());
    context.update(&notice.device.0.to_be_bytes());
    context.update(&[kind]);
    context.update(&id.to_be_bytes());
    context
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{prop_assert, prop_assert_eq, proptest};
    use proto_spec::{DeviceId, GroupId, TimestampMs, UserId};

    use super::*;
    use crate::notice::{Provider, Subscription, Urgency};

    fn notice(show: Show, kind: Kind) -> Notice {
        Notice {
            ticket: 1,
            user: UserId(7),
            device: DeviceId(1),
            subscription: Subscription { provider: Provider::Fcm { token: "t".to_owned() }, show },
            conversation: ConversationId::Group(GroupId(12)),
            kind,
            at: TimestampMs(1_764_531_000_000),
            ttl: Duration::from_secs(60),
            urgency: Urgency::High,
        }
    }

    fn message(text: &str) -> Kind {
        Kind::Message { from: UserId(u64::MAX), text: Some(text.to_owned()), count: 3 }
    }

    fn json(notice: &Notice) -> String {
        String::from_utf8(Payload::of(notice, "TAG").to_json()).unwrap()
    }

    #[test]
    fn a_notice_says_what_its_user_allows_and_no_more() {
        assert_eq!(
            json(&notice(Show::Text, message("Are \"you\" there?"))),
            r##"{"v":1,"tag":"TAG","at":1764531000000,"count":3,"conversation":"#12","from":"18446744073709551615","text":"Are \"you\" there?"}"##
        );
        assert_eq!(
            json(&notice(Show::Sender, message("secret"))),
            r##"{"v":1,"tag":"TAG","at":1764531000000,"count":3,"conversation":"#12","from":"18446744073709551615"}"##
        );
        assert_eq!(
            json(&notice(Show::Nothing, message("secret"))),
            r#"{"v":1,"tag":"TAG","at":1764531000000,"count":3}"#
        );
        assert_eq!(json(&notice(Show::Text, Kind::Clear)), r#"{"v":1,"tag":"TAG","at":1764531000000,"clear":true}"#);
    }

    #[test]
    fn the_document_shows_what_is_sent() {
        let document = include_str!("../../../docs/PUSH.md");
        let kind = Kind::Message { from: UserId(7), text: Some("Are you there?".to_owned()), count: 3 };
        for kind in [kind, Kind::Clear] {
            let shown = json(&notice(Show::Text, kind));
            assert!(document.contains(&format!("```json\n{shown}\n```")), "docs/PUSH.md should show: {shown}");
        }
    }

    proptest! {
        #[test]
        fn a_text_of_any_length_is_cut_between_characters_so_that_it_fits(text in "(?s).{0,20}", times in 0_usize..400) {
            let text = text.repeat(times);
            let notice = notice(Show::Text, message(&text));
            let payload = Payload::of(&notice, "12345678901234567890123456789012");
            let json = payload.to_json();
            prop_assert!(json.len() <= PAYLOAD_BYTES_MAX, "{} bytes", json.len());
            let shown = payload.text.unwrap();
            if shown == text {
                return Ok(());
            }
            let kept = shown.strip_suffix(CUT).unwrap();
            prop_assert!(text.starts_with(kept));
            // One character more would not have fitted.
            let next = text[kept.len()..].chars().next().unwrap();
            let whole = json.len() + json_bytes(next);
            prop_assert!(whole > PAYLOAD_BYTES_MAX, "{whole} bytes would fit");
        }

        #[test]
        fn characters_have_as_many_bytes_in_json_as_is_counted(char: char) {
            prop_assert_eq!(serde_json::to_string(&char).unwrap().len() - 2, json_bytes(char));
        }
    }

    #[test]
    fn ids_are_of_what_is_told_whenever_it_is() {
        let key = TagKey::derived_from(b"secret");
        let base = notice(Show::Text, message("one"));
        let id_of = |change: &dyn Fn(&mut Notice)| {
            let mut notice = base.clone();
            change(&mut notice);
            id(&key, &notice)
        };
        let same = id(&key, &base);
        assert_eq!(id_of(&|notice| notice.ticket = 9), same, "a server that has started again counts anew");
        assert_ne!(id_of(&|notice| notice.at.0 += 1), same);
        assert_ne!(id_of(&|notice| notice.device = DeviceId(2)), same);
        assert_ne!(id_of(&|notice| notice.kind = Kind::Clear), same);
    }

    #[test]
    fn tags_are_of_a_conversation_and_a_device_and_a_key() {
        let key = TagKey::derived_from(b"secret");
        let base = notice(Show::Text, Kind::Clear);
        let tag_of = |change: &dyn Fn(&mut Notice)| {
            let mut notice = base.clone();
            change(&mut notice);
            tag(&key, &notice)
        };
        let same = tag(&key, &base);
        assert_eq!(same.len(), 32);
        assert!(same.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(tag_of(&|notice| notice.kind = message("other")), same);
        assert_eq!(tag_of(&|notice| notice.ticket = 9), same);
        assert_ne!(tag_of(&|notice| notice.user = UserId(8)), same);
        assert_ne!(tag_of(&|notice| notice.device = DeviceId(2)), same);
        assert_ne!(tag_of(&|notice| notice.conversation = ConversationId::Person(UserId(12))), same);
        assert_ne!(tag(&TagKey::derived_from(b"other"), &base), same);
    }
}
