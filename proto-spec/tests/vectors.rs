//! The golden vectors in `vectors/` against the codec, and against the decoder that was written from SPEC.md alone.

use std::{collections::BTreeSet, fs, ops::ControlFlow, path::PathBuf, process::Command};

use proto_spec::{
    Act, ActKind, Body, ClientFrame, ClientKind, Content, ContentKind, ConversationId, Decoder, DeviceInfo, Direction,
    Entry, EntryKind, ErrorCode, Event, FrameError, FramingError, GroupEntry, GroupRow, InboxRow, MemberInfo,
    PresenceState, PushState, Reaction, Reply, Resume, ServerFrame, ServerKind, Stands, Subscription,
    limits::{CLIENT_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX},
    wire::DecodeError,
};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).expect("the vectors are part of the package");
    serde_json::from_str(&text).expect("a vector file is an array")
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("`{key}` is missing in {vector}"))
}

fn bytes(vector: &Value) -> Vec<u8> {
    let hex = text(vector, "hex");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where and why a frame was refused.
#[derive(Debug)]
enum Refusal {
    Framing(FramingError),
    Frame(FrameError),
}

/// Both directions, so that each test is written once.
trait Frame: Sized {
    const FILE: &'static str;
    const FRAME_BYTES_MAX: usize;
    fn decode(raw: proto_spec::RawFrame<'_>) -> Result<Self, FrameError>;
    fn encode(&self, out: &mut Vec<u8>);
    fn kind(&self) -> &'static str;
    fn fields(&self) -> Value;
}

fn decode_one<F: Frame>(input: &[u8]) -> Result<F, Refusal> {
    let mut decoder = Decoder::new(u32::try_from(F::FRAME_BYTES_MAX).expect("limits are small"));
    let mut frame = None;
    decoder
        .decode(input, |raw| {
            assert!(frame.is_none(), "a vector is one frame");
            frame = Some(F::decode(raw));
            ControlFlow::Continue(())
        })
        .map_err(Refusal::Framing)?;
    assert_eq!(decoder.held_bytes(), 0, "a vector is a whole frame: {}", hex(input));
    frame.expect("a vector is a whole frame").map_err(Refusal::Frame)
}

fn number(value: impl std::fmt::Display) -> Value {
    Value::String(value.to_string())
}

const fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn stands_fields(mut fields: Value, stands: Option<Stands>) -> Value {
    fields["place"] = number(stands.map_or(0, |stands| stands.place.0));
    fields["written"] = number(stands.map_or(0, |stands| stands.time.0));
    fields
}

/// What version 1 does not have is shown as content of an unknown kind.
fn act_fields(act: &Act<'_>) -> Option<Value> {
    let mut fields = json!({ "act": act.kind()?.name() });
    match act {
        Act::Create { name, picture, rules } => {
            fields["name"] = (*name).into();
            fields["picture"] = (*picture).into();
            fields["rules"] = number(rules.bits());
        }
        Act::Add { user } | Act::Remove { user } | Act::Ban { user } | Act::Unban { user } => {
            fields["user"] = number(user);
        }
        Act::SetRole { user, role } => {
            fields["user"] = number(user);
            fields["role"] = role.name().into();
        }
        Act::Describe { name, picture } => {
            fields["name"] = (*name).into();
            fields["picture"] = (*picture).into();
        }
        Act::SetRules { rules } => fields["rules"] = number(rules.bits()),
        Act::Invite { digest } => fields["digest"] = hex(digest.map_or(&[], |digest| digest)).into(),
        Act::Join { secret } => fields["secret"] = hex(secret).into(),
        Act::End | Act::Unknown => {}
    }
    Some(fields)
}

fn content_fields(content: &Content) -> Value {
    let unknown = || {
        let (kind, body) = content.parts();
        json!({ "kind": number(kind), "bytes": hex(body) })
    };
    match content.body().expect("it was decoded") {
        Body::Edit(edit) => json!({ "edit": stands_fields(json!({
            "author": number(edit.of.author), "author_seq": number(edit.of.seq),
            "content": content_fields(&edit.content()),
        }), edit.stands) }),
        Body::Unsend(unsend) => json!({ "unsend": stands_fields(json!({
            "author": number(unsend.of.author), "author_seq": number(unsend.of.seq),
        }), unsend.stands) }),
        Body::Reaction(Reaction { of, reaction, stands }) => json!({ "reaction": stands_fields(json!({
            "author": number(of.author), "author_seq": number(of.seq), "reaction": reaction,
        }), stands) }),
        Body::Text(text) => json!({ "text": text }),
        Body::Reply(Reply { to, quote, text }) => json!({ "reply": {
            "author": number(to.author), "author_seq": number(to.seq), "quote": quote, "text": text,
        } }),
        Body::Attachment(of) => json!({ "attachment": {
            "attachment_kind": of.kind.name(), "size": number(of.size), "sha256": hex(of.sha256),
            "content_type": of.content_type, "location": of.location, "width": number(of.width),
            "height": number(of.height), "duration_ms": number(of.duration_ms), "thumbnail": of.thumbnail,
            "caption": of.caption,
        } }),
        Body::Opaque(bytes) => json!({ "opaque": hex(bytes) }),
        Body::Act(act) => match act_fields(&act) {
            Some(fields) => {
                assert_eq!(Content::act(&act), *content, "an act encodes to what it was read from");
                json!({ "act": fields })
            }
            None => unknown(),
        },
        Body::Mention(mention) => {
            let users: Vec<_> = mention.users().collect();
            assert_eq!(Content::mention(&users, mention.text), *content, "as an act");
            json!({ "mention": { "users": users.iter().map(number).collect::<Vec<_>>(), "text": mention.text } })
        }
        Body::Unknown => unknown(),
    }
}

/// As `conversation` of the vectors: by its kind.
fn conversation_fields(conversation: ConversationId) -> Value {
    match conversation {
        ConversationId::Person(user) => json!({ "user": number(user) }),
        ConversationId::Group(group) => json!({ "group": number(group) }),
    }
}

/// In an entry its kind says what it is about: the field of a user, or `group`.
fn put_peer(fields: &mut Value, field: &str, conversation: ConversationId) {
    match conversation {
        ConversationId::Person(user) => fields[field] = number(user),
        ConversationId::Group(group) => fields["group"] = number(group),
    }
}

fn entry_fields(entry: &Entry) -> Value {
    let kind = entry.event.kind();
    let mut fields = json!({
        "kind": EntryKind::from_byte(kind).map_or(number(kind), |kind| kind.name().into()),
        "seq": number(entry.seq),
        "time": number(entry.time),
    });
    match &entry.event {
        Event::Received { from, origin, content } => {
            fields["from"] = number(from);
            fields["origin"] = number(origin);
            fields["content"] = content_fields(content);
        }
        Event::Sent { to, device, number: send, content } => {
            put_peer(&mut fields, "to", *to);
            fields["device"] = number(device);
            fields["number"] = number(send);
            fields["content"] = content_fields(content);
        }
        Event::Read { conversation, up_to, unread, told } => {
            put_peer(&mut fields, "peer", *conversation);
            fields["up_to"] = number(up_to);
            if matches!(conversation, ConversationId::Person(_)) {
                fields["unread"] = number(unread);
                fields["told"] = number(told);
            }
        }
        Event::Settings { conversation, settings } => {
            put_peer(&mut fields, "peer", *conversation);
            fields["settings"] = number(settings.bits());
        }
        Event::Deleted { conversation, of, place, unread } => {
            put_peer(&mut fields, "peer", *conversation);
            fields["place"] = number(place);
            if matches!(conversation, ConversationId::Person(_)) {
                fields["author"] = number(of.author);
                fields["author_seq"] = number(of.seq);
                fields["unread"] = number(unread);
            }
        }
        Event::Delivered { peer, up_to } | Event::Seen { peer, up_to } => {
            fields["peer"] = number(peer);
            fields["up_to"] = number(up_to);
        }
        Event::Visibility { visibility } => fields["visibility"] = number(visibility.bits()),
        Event::Devices { removed, why, devices } => {
            fields["removed"] = number(removed);
            fields["why"] = why.name().into();
            fields["devices"] = devices.iter().map(number).collect();
        }
        Event::Group { group, standing, first, up_to, sent_up_to } => {
            fields["group"] = number(group);
            fields["standing"] = standing.name().into();
            fields["first"] = number(first);
            fields["up_to"] = number(up_to);
            fields["sent_up_to"] = number(sent_up_to);
        }
        Event::GroupRefused { group, origin, code } => {
            fields["group"] = number(group);
            fields["origin"] = number(origin);
            fields["code"] = number(code.number());
        }
        Event::Unknown { .. } => {}
    }
    fields
}

fn group_entry_fields(entry: &GroupEntry) -> Value {
    json!({
        "seq": number(entry.seq), "time": number(entry.time), "from": number(entry.from),
        "origin": number(entry.origin), "messages": number(entry.messages), "content": content_fields(&entry.content),
    })
}

fn group_row_fields(row: &GroupRow) -> Value {
    json!({
        "group": number(row.group), "standing": row.standing.name(), "role": row.role.name(),
        "rules": number(row.rules.bits()), "members": number(row.members), "head": number(row.head), "name": row.name,
        "picture": row.picture, "last": row.last.as_ref().map(group_entry_fields),
        "settings": number(row.settings.bits()), "read_up_to": number(row.read_up_to), "unread": number(row.unread),
    })
}

fn member_fields(member: &MemberInfo) -> Value {
    json!({ "user": number(member.user), "role": member.role.name(), "since": number(member.since),
        "read_up_to": number(member.read_up_to), "delivered_up_to": number(member.delivered_up_to),
    })
}

fn inbox_row_fields(row: &InboxRow) -> Value {
    json!({
        "conversation": conversation_fields(row.conversation), "settings": number(row.settings.bits()),
        "unread": number(row.unread), "read_up_to": number(row.read_up_to),
        "delivered_up_to": number(row.delivered_up_to), "seen_up_to": number(row.seen_up_to),
        "left_out": number(row.left_out), "last": entry_fields(&row.last),
    })
}

fn device_fields(devices: &[DeviceInfo]) -> Value {
    let fields = |info: &DeviceInfo| {
        json!({
            "device": number(info.device), "seen_day": number(info.seen_day),
            "connected": yes_or_no(info.is_connected), "cursor": number(info.cursor), "name": info.name,
        })
    };
    devices.iter().map(fields).collect()
}

fn state_fields(of: &PresenceState) -> Value {
    json!({
        "user": number(of.user), "state": of.state.name(), "last_seen": number(of.last_seen),
        "ask_again_ms": number(of.ask_again_ms),
    })
}

impl Frame for ClientFrame {
    const FILE: &'static str = "client.json";
    const FRAME_BYTES_MAX: usize = CLIENT_FRAME_BYTES_MAX;

    fn decode(raw: proto_spec::RawFrame<'_>) -> Result<Self, FrameError> {
        Self::decode(raw)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn kind(&self) -> &'static str {
        self.kind().name()
    }

    fn fields(&self) -> Value {
        let fetch = |direction: &Direction, limit: &u64| (direction.name(), number(limit));
        match self {
            Self::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, hops } => {
                let (mode, seq) = match resume {
                    Resume::Stored => ("stored", 0),
                    Resume::After(seq) => ("after", seq.0),
                    Resume::Live => ("live", 0),
                };
                json!({
                    "version_min": number(version_min), "version_max": number(version_max), "device": number(device),
                    "resume": mode, "resume_seq": number(seq), "token": token, "epoch": number(epoch),
                    "since": number(since), "skip_above": number(skip_above),
                    "hops": number(hops),
                })
            }
            Self::Send { number: send, to, content } => {
                json!({ "number": number(send), "to": conversation_fields(*to), "content": content_fields(content) })
            }
            Self::Acknowledge { seq } => json!({ "seq": number(seq) }),
            Self::FetchLog { request, from, direction, limit } => {
                let (direction, limit) = fetch(direction, limit);
                json!({ "request": number(request), "from": number(from), "direction": direction, "limit": limit })
            }
            Self::FetchConversation { request, conversation, from, direction, limit } => {
                let (direction, limit) = fetch(direction, limit);
                json!({
                    "request": number(request), "conversation": conversation_fields(*conversation), "from": number(from),
                    "direction": direction, "limit": limit,
                })
            }
            Self::Ping { nonce } | Self::Pong { nonce } => json!({ "nonce": number(nonce) }),
            Self::Bye => json!({}),
            Self::Refresh { token } => json!({ "token": token }),
            Self::MarkRead { request, conversation, up_to, tell } => json!({
                "request": number(request), "conversation": conversation_fields(*conversation), "up_to": number(up_to),
                "tell": yes_or_no(*tell),
            }),
            Self::FetchInbox { request, before, limit, messages } => json!({
                "request": number(request), "before": number(before), "limit": number(limit),
                "messages": number(messages),
            }),
            Self::SetConversation { request, conversation, set, cleared } => json!({
                "request": number(request), "conversation": conversation_fields(*conversation),
                "set": number(set.bits()), "cleared": number(cleared.bits()),
            }),
            Self::DeleteMessage { request, conversation, place } => json!({
                "request": number(request), "conversation": conversation_fields(*conversation), "place": number(place),
            }),
            Self::FetchDevices { request } => json!({ "request": number(request) }),
            Self::RemoveDevice { request, device } => {
                json!({ "request": number(request), "device": number(device) })
            }
            Self::NameDevice { request, device, name } => {
                json!({ "request": number(request), "device": number(device), "name": name })
            }
            Self::GiveUp { number: send } => json!({ "number": number(send) }),
            Self::FetchDigest { request, first, last, width, group } => json!({
                "request": number(request), "first": number(first), "last": number(last), "width": number(width),
                "group": number(group),
            }),
            Self::FetchPresence { request, users } | Self::Watch { request, users } => json!({
                "request": number(request), "users": users.iter().map(number).collect::<Vec<_>>(),
            }),
            Self::Typing { conversation } => json!({ "conversation": conversation_fields(*conversation) }),
            Self::SetStatus { status } => json!({ "status": status.name() }),
            Self::SetVisibility { request, set, cleared } => json!({
                "request": number(request), "set": number(set.bits()), "cleared": number(cleared.bits()),
            }),
            Self::FetchGroups { request, after, limit } => {
                json!({ "request": number(request), "after": number(after), "limit": number(limit) })
            }
            Self::Subscribe { request, subscription } => {
                let Subscription { provider, show, address, key, secret } = subscription;
                json!({
                    "request": number(request), "provider": number(provider), "show": show.name(), "address": address,
                    "key": hex(key), "secret": hex(secret),
                })
            }
            Self::Unsubscribe { request } | Self::FetchSubscription { request } => {
                json!({ "request": number(request) })
            }
            Self::AcknowledgeGroup { group, up_to } => json!({ "group": number(group), "up_to": number(up_to) }),
            Self::FetchMembers { request, group, after, limit, seq } => json!({
                "request": number(request), "group": number(group), "after": number(after), "limit": number(limit),
                "seq": number(seq),
            }),
        }
    }
}

impl Frame for ServerFrame {
    const FILE: &'static str = "server.json";
    const FRAME_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX;

    fn decode(raw: proto_spec::RawFrame<'_>) -> Result<Self, FrameError> {
        Self::decode(raw)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn kind(&self) -> &'static str {
        self.kind().name()
    }

    fn fields(&self) -> Value {
        match self {
            Self::Welcome {
                version,
                user,
                server_time,
                head,
                cursor,
                last_number,
                send_window,
                text_bytes_max,
                page_entries_max,
                idle_timeout_ms,
                committed,
                epoch,
                capabilities,
                skipped,
                visibility,
                ping_after_ms,
            } => json!({
                "version": number(version), "user": number(user), "server_time": number(server_time),
                "head": number(head), "cursor": number(cursor), "last_number": number(last_number),
                "send_window": number(send_window), "text_bytes_max": number(text_bytes_max),
                "page_entries_max": number(page_entries_max), "idle_timeout_ms": number(idle_timeout_ms),
                "committed": number(committed), "epoch": number(epoch),
                "content_kinds": number(capabilities.content_kinds.0),
                "conversation_kinds": number(capabilities.conversation_kinds.0),
                "frame_kinds": number(capabilities.frame_kinds.0),
                "edit_within_s": number(capabilities.edit_within_s),
                "unsend_within_s": number(capabilities.unsend_within_s), "skipped": number(skipped), "visibility": number(visibility.bits()),
                "ping_after_ms": number(ping_after_ms),
            }),
            Self::Accepted { number: send, seq, time, durability, recipient } => json!({
                "number": number(send), "seq": number(seq), "time": number(time), "durability": durability.name(),
                "recipient": recipient.name(),
            }),
            Self::Refused { number: send, code, retry_after_ms, expected } => json!({
                "number": number(send), "code": number(code.number()), "retry_after_ms": number(retry_after_ms),
                "expected": number(expected),
            }),
            Self::Deliver { entry } => json!({ "entry": entry_fields(entry) }),
            Self::Page(page) => json!({
                "request": number(page.request), "first": number(page.first), "last": number(page.last),
                "more": yes_or_no(page.more),
                "entries": page.entries.iter().map(entry_fields).collect::<Vec<_>>(),
                "delivered_up_to": number(page.delivered_up_to), "seen_up_to": number(page.seen_up_to),
            }),
            Self::Inbox(inbox) => json!({
                "request": number(inbox.request), "at": number(inbox.at),
                "more": yes_or_no(inbox.more),
                "rows": inbox.rows.iter().map(inbox_row_fields).collect::<Vec<_>>(),
            }),
            Self::Presence { request, lifetime_ms, states } => json!({
                "request": number(request), "lifetime_ms": number(lifetime_ms),
                "states": states.iter().map(state_fields).collect::<Vec<_>>(),
            }),
            Self::Typing { conversation, user, ends_in_ms } => json!({
                "conversation": conversation_fields(*conversation), "user": number(user),
                "ends_in_ms": number(ends_in_ms),
            }),
            Self::Redirect { address, reason, after_ms, map_version } => json!({
                "address": address, "reason": reason.name(), "after_ms": number(after_ms),
                "map_version": number(map_version),
            }),
            Self::Subscription { request, state } => {
                let PushState { providers, server_key, provider, show, address } = state;
                json!({
                    "request": number(request), "providers": number(providers), "server_key": hex(server_key),
                    "provider": number(provider), "show": show.name(), "address": address,
                })
            }
            Self::Marked { request } => json!({ "request": number(request) }),
            Self::Error { code, kind, request, retry_after_ms, detail } => json!({
                "code": number(code.number()), "kind": number(kind), "request": number(request),
                "retry_after_ms": number(retry_after_ms), "detail": detail,
            }),
            Self::Ping { nonce } | Self::Pong { nonce } => json!({ "nonce": number(nonce) }),
            Self::Bye { code, retry_after_ms, detail, devices } => json!({
                "code": number(code.number()), "retry_after_ms": number(retry_after_ms), "detail": detail,
                "devices": device_fields(devices),
            }),
            Self::Devices { request, devices } => {
                json!({ "request": number(request), "devices": device_fields(devices) })
            }
            Self::Committed { up_to } => json!({ "up_to": number(up_to) }),
            Self::TokenExpiring { expires_in_ms } => json!({ "expires_in_ms": number(expires_in_ms) }),
            Self::Refreshed { expires } => json!({ "expires": number(expires) }),
            Self::Epoch { first, epoch } => json!({ "first": number(first), "epoch": number(epoch) }),
            Self::GivenUp { number: send, seq } => json!({ "number": number(send), "seq": number(seq) }),
            Self::Digest(digests) => json!({
                "request": number(digests.request), "at": number(digests.at), "first": number(digests.first),
                "last": number(digests.last), "width": number(digests.width),
                "digests": digests.digests.iter().map(|digest| hex(digest)).collect::<Vec<_>>(),
            }),
            Self::DeliverGroup { group, entry } => {
                json!({ "group": number(group), "entry": group_entry_fields(entry) })
            }
            Self::GroupPage(page) => json!({
                "request": number(page.request), "group": number(page.group), "first": number(page.first),
                "last": number(page.last), "more": yes_or_no(page.more), "head": number(page.head),
                "entries": page.entries.iter().map(group_entry_fields).collect::<Vec<_>>(),
            }),
            Self::Groups { request, at, more, rows } => json!({
                "request": number(request), "at": number(at), "more": yes_or_no(*more),
                "rows": rows.iter().map(group_row_fields).collect::<Vec<_>>(),
            }),
            Self::TypingInGroup { group, user, ends_in_ms } => json!({
                "group": number(group), "user": number(user), "ends_in_ms": number(ends_in_ms),
            }),
            Self::Members { request, group, more, at, members, delivered, read } => json!({
                "request": number(request), "group": number(group), "more": yes_or_no(*more), "at": number(at),
                "members": members.iter().map(member_fields).collect::<Vec<_>>(),
                "delivered": number(delivered), "read": number(read),
            }),
        }
    }
}

fn every_vector_is_what_it_says<F: Frame>() {
    for vector in read(F::FILE) {
        let input = bytes(&vector);
        let frame: F = decode_one(&input).unwrap_or_else(|refusal| panic!("{refusal:?}: {vector}"));
        assert_eq!(frame.kind(), text(&vector, "kind"), "{vector}");
        assert_eq!(frame.fields(), vector["fields"], "{vector}");
        let mut output = Vec::new();
        frame.encode(&mut output);
        if vector["decode_only"] == true {
            assert_ne!(hex(&output), hex(&input), "decode_only without need: {vector}");
        } else {
            assert_eq!(hex(&output), hex(&input), "{vector}");
        }
    }
}

#[test]
fn every_client_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
    every_vector_is_what_it_says::<ClientFrame>();
}

#[test]
fn every_server_vector_decodes_to_its_fields_and_encodes_to_its_bytes() {
    every_vector_is_what_it_says::<ServerFrame>();
}

#[test]
fn every_kind_has_a_vector_and_one_that_has_grown() {
    for (file, kinds) in [
        ("client.json", ClientKind::ALL.iter().map(|kind| kind.name()).collect::<BTreeSet<_>>()),
        ("server.json", ServerKind::ALL.iter().map(|kind| kind.name()).collect()),
    ] {
        let vectors = read(file);
        let with_vector = |grown: bool| -> BTreeSet<_> {
            vectors.iter().filter(|v| (v["decode_only"] == true) == grown).map(|v| text(v, "kind")).collect()
        };
        assert_eq!(with_vector(false), kinds, "{file}: kinds with a vector, kinds of the code");
        assert_eq!(with_vector(true), kinds, "{file}: kinds with a grown vector, kinds of the code");
    }
}

#[test]
fn every_entry_kind_has_a_vector() {
    let vectors = read("server.json");
    let delivered: BTreeSet<_> = vectors.iter().filter_map(|v| v["fields"]["entry"]["kind"].as_str()).collect();
    for kind in EntryKind::ALL {
        assert!(delivered.contains(kind.name()), "no deliver vector for {}", kind.name());
    }
}

#[test]
fn every_act_has_a_vector() {
    let vectors = read("client.json");
    let sent: BTreeSet<_> = vectors.iter().filter_map(|v| v["fields"]["content"]["act"]["act"].as_str()).collect();
    assert_eq!(sent, ActKind::ALL.iter().map(|kind| kind.name()).collect());
}

#[test]
fn every_content_kind_has_a_vector_in_each_direction() {
    for (file, content) in [("client.json", "/fields/content"), ("server.json", "/fields/entry/content")] {
        let vectors = read(file);
        let contents: Vec<_> = vectors.iter().filter_map(|vector| vector.pointer(content)).collect();
        for kind in ContentKind::ALL {
            let has_vector = contents.iter().any(|content| content.get(kind.name()).is_some());
            assert!(has_vector, "{file}: no vector with {}", kind.name());
        }
    }
}

#[test]
fn every_refused_vector_is_refused_with_its_error() {
    let mut seen = BTreeSet::new();
    for vector in read("refused.json") {
        let input = bytes(&vector);
        let refusal = match text(&vector, "direction") {
            "client" => decode_one::<ClientFrame>(&input).err(),
            "server" => decode_one::<ServerFrame>(&input).err(),
            other => panic!("direction {other}"),
        }
        .unwrap_or_else(|| panic!("not refused: {vector}"));
        let (error, field, code) = match refusal {
            Refusal::Framing(error) => (framing_class(error), None, error.code()),
            Refusal::Frame(error) => {
                let (class, field) = frame_class(error);
                (class, field, error.code())
            }
        };
        assert_eq!((error, field), (text(&vector, "error"), vector["field"].as_str()), "{vector}");
        seen.insert((error, code.name()));
    }
    assert_eq!(seen, error_table(), "error classes that have a vector, and those of SPEC 9 with their answers");
}

fn framing_class(error: FramingError) -> &'static str {
    match error {
        FramingError::Length => "length_varint",
        FramingError::TooLong { .. } => "frame_too_large",
        FramingError::Empty => "length_zero",
    }
}

fn frame_class(error: FrameError) -> (&'static str, Option<&'static str>) {
    match error {
        FrameError::UnknownKind(_) => ("unknown_kind", None),
        FrameError::Body { error, .. } => match error {
            DecodeError::Truncated { field } => ("truncated", Some(field)),
            DecodeError::Varint { field } => ("varint", Some(field)),
            DecodeError::TooLong { field, .. } => ("too_long", Some(field)),
            DecodeError::Unlisted { field, .. } => ("unlisted", Some(field)),
            DecodeError::NotUtf8 { field } => ("not_utf8", Some(field)),
        },
    }
}

/// The table of SPEC 9: error class, and the name of the code that the server answers with.
#[test]
fn the_fields_that_refused_vectors_name_are_those_of_the_tables_or_named_beside_them() {
    let spec = include_str!("../SPEC.md");
    let parts = spec.split("and parts of a type these: ").nth(1).expect("the sentence").split(".\n").next();
    for vector in read("refused.json") {
        let Some(field) = vector.get("field").and_then(Value::as_str) else { continue };
        let is_in_table = spec.contains(&format!("\n| `{field}` | "));
        let is_part = parts.is_some_and(|parts| parts.contains(&format!("`{field}`")));
        assert!(is_in_table || is_part, "SPEC.md names no field `{field}`");
    }
}

fn error_table() -> BTreeSet<(&'static str, &'static str)> {
    include_str!("../SPEC.md")
        .lines()
        .skip_while(|line| !line.starts_with("| error | what |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let quoted: Vec<_> = line.split('`').collect();
            (quoted[1], quoted[quoted.len() - 2])
        })
        .collect()
}

#[test]
fn unknown_codes_keep_their_number() {
    for number in 0..=u16::MAX {
        assert_eq!(ErrorCode::from_number(number).number(), number);
    }
}

/// What keeps SPEC.md honest: a codec that somebody wrote from it, in another language, agrees with every vector.
#[test]
fn a_decoder_written_from_the_specification_agrees_with_every_vector() {
    // -B: no cache files in the source tree.
    let run = Command::new("python3").arg("-B").arg(folder().join("check.py")).output();
    let output = run.unwrap_or_else(|error| panic!("this test needs `python3` (3.8 or newer) in the PATH: {error}"));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
