//! What holds for all frames and all bytes: round trips, any cut of a stream, every prefix, noise.

use std::ops::ControlFlow;

use proptest::{collection::vec, option, prelude::*, sample::Index};
use proto_spec::{
    Act, Attachment, AttachmentKind, Capabilities, ClientFrame, Content, ContentKind, ConversationId, Decoder,
    DeviceId, DeviceInfo, Digests, Direction, Durability, Entry, EntryKind, EpochId, ErrorCode, Event, FrameError,
    FramingError, GroupEntry, GroupId, GroupPage, GroupRow, Inbox, InboxRow, Kinds, MemberInfo, MessageName, Page,
    Presence, PresenceState, PushState, RawFrame, Recipient, RedirectReason, Removal, Reply, RequestId, Resume, Role,
    Rules, SendNumber, Seq, ServerFrame, Settings, Show, Standing, Stands, Status, Subscription, TimestampMs, UserId,
    Visibility,
    digest::Digest,
    limits::{
        CLIENT_FRAME_BYTES_MAX, DIGESTS_MAX, PRESENCE_USERS_MAX, PUSH_KEY_BYTES, SERVER_FRAME_BYTES_MAX, WATCHED_MAX,
    },
    wire::{Prefix, Reader, peek_varint, put_varint, varint_len},
};

/// Numbers of every length on the wire, not only the large ones that a uniform choice would give.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift)
}

fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq)
}

fn user() -> impl Strategy<Value = UserId> {
    number().prop_map(UserId)
}

fn group() -> impl Strategy<Value = GroupId> {
    number().prop_map(GroupId)
}

fn conversation() -> impl Strategy<Value = ConversationId> {
    prop_oneof![user().prop_map(ConversationId::Person), group().prop_map(ConversationId::Group)]
}

fn rules() -> impl Strategy<Value = Rules> {
    number().prop_map(Rules::from_bits)
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL)
}

/// Acts, as contents, since they borrow what they say.
fn act() -> impl Strategy<Value = Content> {
    prop_oneof![
        (name(), name(), rules()).prop_map(|(name, picture, rules)| {
            Content::act(&Act::Create { name: &name, picture: &picture, rules })
        }),
        (name(), name()).prop_map(|(name, picture)| Content::act(&Act::Describe { name: &name, picture: &picture })),
        (user(), role()).prop_map(|(user, role)| Content::act(&Act::SetRole { user, role })),
        (user(), 0..4usize).prop_map(|(user, which)| {
            let acts = [Act::Add { user }, Act::Remove { user }, Act::Ban { user }, Act::Unban { user }];
            Content::act(&acts[which])
        }),
        rules().prop_map(|rules| Content::act(&Act::SetRules { rules })),
        option::of(any::<[u8; 32]>()).prop_map(|digest| Content::act(&Act::Invite { digest: digest.as_ref() })),
        vec(any::<u8>(), 0..80).prop_map(|secret| Content::act(&Act::Join { secret: &secret })),
        Just(Content::act(&Act::End)),
        Just(Content::act(&Act::Unknown)),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let stands = || {
        let stands = |(place, time): (u64, u64)| Stands { place: Seq(place.max(1)), time: TimestampMs(time) };
        option::of((number(), number()).prop_map(stands))
    };
    let name = || (number(), number()).prop_map(|(author, seq)| MessageName { author: UserId(author), seq: Seq(seq) });
    prop_oneof![
        4 => message(),
        1 => act(),
        1 => (name(), message(), stands()).prop_map(|(of, content, stands)| Content::edit(of, &content, stands)),
        1 => (name(), stands()).prop_map(|(of, stands)| Content::unsend(of, stands)),
        1 => (name(), any::<String>(), stands())
            .prop_map(|(of, reaction, stands)| Content::reaction(of, &reaction, stands)),
    ]
}

fn message() -> impl Strategy<Value = Content> {
    let unknown = any::<u8>().prop_filter("not a known kind", |&kind| ContentKind::from_byte(kind).is_none());
    prop_oneof![
        any::<String>().prop_map(|text| Content::text(&text)),
        (number(), number(), any::<String>(), any::<String>()).prop_map(|(author, seq, quote, text)| {
            let to = MessageName { author: UserId(author), seq: Seq(seq) };
            Content::reply(&Reply { to, quote: &quote, text: &text })
        }),
        (prop::sample::select(AttachmentKind::ALL), [(); 4].map(|()| number()), any::<[String; 4]>()).prop_map(
            |(kind, [size, width, height, duration_ms], [content_type, location, thumbnail, caption])| {
                Content::attachment(&Attachment {
                    kind,
                    size,
                    sha256: &[7; 32],
                    content_type: &content_type,
                    location: &location,
                    width,
                    height,
                    duration_ms,
                    thumbnail: &thumbnail,
                    caption: &caption,
                })
            }
        ),
        vec(any::<u8>(), 0..200).prop_map(|bytes| Content::opaque(&bytes)),
        (users(40), any::<String>()).prop_map(|(users, text)| Content::mention(&users, &text)),
        (unknown, vec(any::<u8>(), 0..200)).prop_map(|(kind, body)| Content::Unknown { kind, body: body.into() }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let unknown = any::<u8>().prop_filter("not a known kind", |&kind| EntryKind::from_byte(kind).is_none());
    prop_oneof![
        (user(), seq(), content()).prop_map(|(from, origin, content)| Event::Received { from, origin, content }),
        (conversation(), number(), number(), content()).prop_map(|(to, device, number, content)| Event::Sent {
            to,
            device: DeviceId(device),
            number: SendNumber(number),
            content
        }),
        (user(), seq()).prop_map(|(peer, up_to)| Event::Delivered { peer, up_to }),
        (user(), seq(), number(), seq()).prop_map(|(peer, up_to, unread, told)| Event::Read {
            conversation: peer.into(),
            up_to,
            unread,
            told
        }),
        (user(), seq()).prop_map(|(peer, up_to)| Event::Seen { peer, up_to }),
        (group(), seq()).prop_map(|(group, up_to)| Event::Read {
            conversation: group.into(),
            up_to,
            unread: 0,
            told: Seq::ZERO
        }),
        (conversation(), settings()).prop_map(|(conversation, settings)| Event::Settings { conversation, settings }),
        (user(), user(), [(); 3].map(|()| number())).prop_map(|(peer, author, [of, place, unread])| Event::Deleted {
            conversation: peer.into(),
            of: MessageName { author, seq: Seq(of) },
            place: Seq(place),
            unread
        }),
        (group(), seq()).prop_map(|(group, place)| Event::Deleted {
            conversation: group.into(),
            of: MessageName { author: UserId(0), seq: place },
            place,
            unread: 0
        }),
        (group(), prop::sample::select(Standing::ALL), [(); 3].map(|()| seq())).prop_map(
            |(group, standing, [first, up_to, sent_up_to])| Event::Group { group, standing, first, up_to, sent_up_to }
        ),
        (group(), seq(), code()).prop_map(|(group, origin, code)| Event::GroupRefused { group, origin, code }),
        (number(), prop::sample::select(Removal::ALL), vec(number(), 0..40)).prop_map(|(removed, why, devices)| {
            let devices = devices.into_iter().map(DeviceId).collect();
            Event::Devices { removed: DeviceId(removed), why, devices }
        }),
        visibility().prop_map(|visibility| Event::Visibility { visibility }),
        unknown.prop_map(|kind| Event::Unknown { kind }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (seq(), number(), event()).prop_map(|(seq, time, event)| Entry { seq, time: TimestampMs(time), event })
}

fn group_entry() -> impl Strategy<Value = GroupEntry> {
    ([(); 5].map(|()| number()), content()).prop_map(|([seq, time, from, origin, messages], content)| GroupEntry {
        seq: Seq(seq),
        time: TimestampMs(time),
        from: UserId(from),
        origin: Seq(origin),
        messages,
        content,
    })
}

fn group_row() -> impl Strategy<Value = GroupRow> {
    let standing = prop::sample::select(Standing::ALL);
    let own = (any::<u64>().prop_map(Settings::from_bits), seq(), number());
    (group(), standing, role(), rules(), number(), seq(), name(), name(), option::of(group_entry()), own).prop_map(
        |(group, standing, role, rules, members, head, name, picture, last, (settings, read_up_to, unread))| GroupRow {
            group,
            standing,
            role,
            rules,
            members,
            head,
            name,
            picture,
            last,
            settings,
            read_up_to,
            unread,
        },
    )
}

fn member() -> impl Strategy<Value = MemberInfo> {
    (user(), role(), seq(), seq(), seq()).prop_map(|(user, role, since, read_up_to, delivered_up_to)| MemberInfo {
        user,
        role,
        since,
        read_up_to,
        delivered_up_to,
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    number().prop_map(Settings::from_bits)
}

fn visibility() -> impl Strategy<Value = Visibility> {
    number().prop_map(Visibility::from_bits)
}

fn users(count_max: usize) -> impl Strategy<Value = Vec<UserId>> {
    vec(user(), 0..=count_max)
}

fn presence_state() -> impl Strategy<Value = PresenceState> {
    let state = prop::sample::select(Presence::ALL);
    (user(), state, number(), number()).prop_map(|(user, state, last_seen, ask_again_ms)| PresenceState {
        user,
        state,
        last_seen: TimestampMs(last_seen),
        ask_again_ms,
    })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::ALL)
}

fn request() -> impl Strategy<Value = RequestId> {
    number().prop_map(|request| RequestId(request.max(1)))
}

fn client_frame() -> impl Strategy<Value = ClientFrame> {
    let resume = prop_oneof![Just(Resume::Stored), seq().prop_map(Resume::After), Just(Resume::Live)];
    prop_oneof![
        ([(); 7].map(|()| number()), resume, any::<String>()).prop_map(|(numbers, resume, token)| {
            let [version_min, version_max, device, epoch, since, skip_above, hops] = numbers;
            let (device, epoch, since) = (DeviceId(device), EpochId(epoch), Seq(since));
            ClientFrame::Hello { version_min, version_max, device, resume, token, epoch, since, skip_above, hops }
        }),
        (number(), conversation(), content()).prop_map(|(number, to, content)| ClientFrame::Send {
            number: SendNumber(number),
            to,
            content
        }),
        seq().prop_map(|seq| ClientFrame::Acknowledge { seq }),
        (request(), seq(), direction(), number()).prop_map(|(request, from, direction, limit)| ClientFrame::FetchLog {
            request,
            from,
            direction,
            limit
        }),
        (request(), conversation(), seq(), direction(), number()).prop_map(
            |(request, conversation, from, direction, limit)| ClientFrame::FetchConversation {
                request,
                conversation,
                from,
                direction,
                limit
            }
        ),
        number().prop_map(|nonce| ClientFrame::Ping { nonce }),
        number().prop_map(|nonce| ClientFrame::Pong { nonce }),
        Just(ClientFrame::Bye),
        any::<String>().prop_map(|token| ClientFrame::Refresh { token }),
        (request(), conversation(), seq(), any::<bool>()).prop_map(|(request, conversation, up_to, tell)| {
            ClientFrame::MarkRead { request, conversation, up_to, tell }
        }),
        (request(), seq(), number(), number()).prop_map(|(request, before, limit, messages)| ClientFrame::FetchInbox {
            request,
            before,
            limit,
            messages
        }),
        (request(), conversation(), settings(), settings()).prop_map(|(request, conversation, set, cleared)| {
            ClientFrame::SetConversation { request, conversation, set, cleared }
        }),
        (request(), conversation(), seq())
            .prop_map(|(request, conversation, place)| { ClientFrame::DeleteMessage { request, conversation, place } }),
        request().prop_map(|request| ClientFrame::FetchDevices { request }),
        (request(), number())
            .prop_map(|(request, device)| ClientFrame::RemoveDevice { request, device: DeviceId(device) }),
        (request(), number(), name()).prop_map(|(request, device, name)| {
            ClientFrame::NameDevice { request, device: DeviceId(device), name }
        }),
        number().prop_map(|number| ClientFrame::GiveUp { number: SendNumber(number) }),
        (request(), seq(), seq(), number(), group()).prop_map(|(request, first, last, width, group)| {
            ClientFrame::FetchDigest { request, first, last, width, group }
        }),
        (request(), users(PRESENCE_USERS_MAX))
            .prop_map(|(request, users)| { ClientFrame::FetchPresence { request, users } }),
        (request(), users(WATCHED_MAX)).prop_map(|(request, users)| ClientFrame::Watch { request, users }),
        conversation().prop_map(|conversation| ClientFrame::Typing { conversation }),
        prop::sample::select(Status::ALL).prop_map(|status| ClientFrame::SetStatus { status }),
        (request(), visibility(), visibility())
            .prop_map(|(request, set, cleared)| { ClientFrame::SetVisibility { request, set, cleared } }),
        (request(), group(), number()).prop_map(|(request, after, limit)| ClientFrame::FetchGroups {
            request,
            after,
            limit
        }),
        (request(), group(), user(), number(), seq()).prop_map(|(request, group, after, limit, seq)| {
            ClientFrame::FetchMembers { request, group, after, limit, seq }
        }),
        (group(), seq()).prop_map(|(group, up_to)| ClientFrame::AcknowledgeGroup { group, up_to }),
        (request(), number(), show(), address(), vec(any::<u8>(), 0..=PUSH_KEY_BYTES), vec(any::<u8>(), 0..=16))
            .prop_map(|(request, provider, show, address, key, secret)| ClientFrame::Subscribe {
                request,
                subscription: Subscription { provider, show, address, key, secret }
            }),
        request().prop_map(|request| ClientFrame::Unsubscribe { request }),
        request().prop_map(|request| ClientFrame::FetchSubscription { request }),
    ]
}

fn name() -> impl Strategy<Value = String> {
    "[a-zß ]{0,32}"
}

fn device() -> impl Strategy<Value = DeviceInfo> {
    (number(), number(), any::<bool>(), seq(), name()).prop_map(|(device, seen_day, is_connected, cursor, name)| {
        DeviceInfo { device: DeviceId(device), seen_day, is_connected, cursor, name }
    })
}

fn code() -> impl Strategy<Value = ErrorCode> {
    any::<u16>().prop_map(ErrorCode::from_number)
}

fn detail() -> impl Strategy<Value = String> {
    "[a-zß ]{0,100}"
}

fn show() -> impl Strategy<Value = Show> {
    prop::sample::select(Show::ALL)
}

fn address() -> impl Strategy<Value = String> {
    "[a-zß0-9.:]{1,120}"
}

fn page() -> impl Strategy<Value = Page> {
    (number(), seq(), seq(), any::<bool>(), vec(entry(), 0..8), seq(), seq()).prop_map(
        |(request, first, last, more, entries, delivered_up_to, seen_up_to)| Page {
            request: RequestId(request),
            first,
            last,
            more,
            entries,
            delivered_up_to,
            seen_up_to,
        },
    )
}

fn inbox_row() -> impl Strategy<Value = InboxRow> {
    (user(), settings(), [(); 5].map(|()| number()), entry()).prop_map(|(peer, settings, n, last)| InboxRow {
        conversation: peer.into(),
        settings,
        unread: n[0],
        read_up_to: Seq(n[1]),
        delivered_up_to: Seq(n[2]),
        seen_up_to: Seq(n[3]),
        left_out: n[4],
        last,
    })
}

fn server_frame() -> impl Strategy<Value = ServerFrame> {
    let welcome = [(); 20].map(|()| number());
    let durability = prop::sample::select(Durability::ALL);
    let recipient = prop::sample::select(Recipient::ALL);
    prop_oneof![
        (number(), seq(), any::<bool>(), vec(inbox_row(), 0..8)).prop_map(|(request, at, more, rows)| {
            ServerFrame::Inbox(Inbox { request: RequestId(request), at, more, rows })
        }),
        number().prop_map(|request| ServerFrame::Marked { request: RequestId(request) }),
        (number(), number(), vec(any::<u8>(), 0..=PUSH_KEY_BYTES), number(), show(), address()).prop_map(
            |(request, providers, server_key, provider, show, address)| ServerFrame::Subscription {
                request: RequestId(request),
                state: PushState { providers, server_key, provider, show, address }
            }
        ),
        welcome.prop_map(|n| ServerFrame::Welcome {
            version: n[0],
            user: UserId(n[1]),
            server_time: TimestampMs(n[2]),
            head: Seq(n[3]),
            cursor: Seq(n[4]),
            last_number: SendNumber(n[5]),
            send_window: n[6],
            text_bytes_max: n[7],
            page_entries_max: n[8],
            idle_timeout_ms: n[9],
            committed: Seq(n[10]),
            epoch: EpochId(n[11]),
            capabilities: Capabilities {
                content_kinds: Kinds(n[12]),
                conversation_kinds: Kinds(n[13]),
                frame_kinds: Kinds(n[14]),
                edit_within_s: n[15],
                unsend_within_s: n[16],
            },
            skipped: n[17],
            visibility: Visibility::from_bits(n[18]),
            ping_after_ms: n[19],
        }),
        (number(), seq(), number(), durability, recipient).prop_map(|(number, seq, time, durability, recipient)| {
            ServerFrame::Accepted { number: SendNumber(number), seq, time: TimestampMs(time), durability, recipient }
        }),
        (number(), code(), number(), number()).prop_map(|(number, code, retry_after_ms, expected)| {
            ServerFrame::Refused { number: SendNumber(number), code, retry_after_ms, expected: SendNumber(expected) }
        }),
        entry().prop_map(|entry| ServerFrame::Deliver { entry }),
        page().prop_map(ServerFrame::Page),
        (code(), any::<u8>(), number(), number(), detail()).prop_map(
            |(code, kind, request, retry_after_ms, detail)| ServerFrame::Error {
                code,
                kind,
                request: RequestId(request),
                retry_after_ms,
                detail
            }
        ),
        number().prop_map(|nonce| ServerFrame::Ping { nonce }),
        number().prop_map(|nonce| ServerFrame::Pong { nonce }),
        (code(), number(), detail(), vec(device(), 0..4)).prop_map(|(code, retry_after_ms, detail, devices)| {
            ServerFrame::Bye { code, retry_after_ms, detail, devices }
        }),
        (request(), vec(device(), 0..4)).prop_map(|(request, devices)| ServerFrame::Devices { request, devices }),
        seq().prop_map(|up_to| ServerFrame::Committed { up_to }),
        number().prop_map(|expires_in_ms| ServerFrame::TokenExpiring { expires_in_ms }),
        number().prop_map(|expires| ServerFrame::Refreshed { expires: TimestampMs(expires) }),
        (seq(), number()).prop_map(|(first, epoch)| ServerFrame::Epoch { first, epoch: EpochId(epoch.max(1)) }),
        (number(), seq()).prop_map(|(number, seq)| ServerFrame::GivenUp { number: SendNumber(number), seq }),
        (number(), [(); 3].map(|()| seq()), number(), vec(any::<Digest>(), 0..=DIGESTS_MAX as usize)).prop_map(
            |(request, [at, first, last], width, digests)| {
                let request = RequestId(request);
                ServerFrame::Digest(Digests { request, at, first, last, width: width.max(1), digests })
            }
        ),
        (number(), number(), vec(presence_state(), 0..=PRESENCE_USERS_MAX)).prop_map(
            |(request, lifetime_ms, states)| {
                ServerFrame::Presence { request: RequestId(request), lifetime_ms, states }
            }
        ),
        (user(), user(), number()).prop_map(|(peer, user, ends_in_ms)| {
            ServerFrame::Typing { conversation: peer.into(), user, ends_in_ms }
        }),
        (address(), prop::sample::select(RedirectReason::ALL), number(), number()).prop_map(
            |(address, reason, after_ms, map_version)| {
                ServerFrame::Redirect { address, reason, after_ms, map_version }
            }
        ),
        (group(), group_entry()).prop_map(|(group, entry)| ServerFrame::DeliverGroup { group, entry }),
        (number(), group(), [(); 3].map(|()| seq()), any::<bool>(), vec(group_entry(), 0..8)).prop_map(
            |(request, group, [first, last, head], more, entries)| {
                let request = RequestId(request);
                ServerFrame::GroupPage(GroupPage { request, group, first, last, more, head, entries })
            }
        ),
        (request(), seq(), any::<bool>(), vec(group_row(), 0..8))
            .prop_map(|(request, at, more, rows)| { ServerFrame::Groups { request, at, more, rows } }),
        (group(), user(), any::<u64>()).prop_map(|(group, user, ends_in_ms)| ServerFrame::TypingInGroup {
            group,
            user,
            ends_in_ms
        }),
        (request(), group(), any::<bool>(), seq(), vec(member(), 0..40), number(), number()).prop_map(
            |(request, group, more, at, members, delivered, read)| ServerFrame::Members {
                request,
                group,
                more,
                at,
                members,
                delivered,
                read
            }
        ),
    ]
}

fn stream_of(frames: &[ServerFrame]) -> Vec<u8> {
    let mut stream = Vec::new();
    for frame in frames {
        frame.encode(&mut stream);
    }
    stream
}

/// All frames that `inputs`, one after the other, complete.
fn decode_all<'a, F>(
    inputs: impl IntoIterator<Item = &'a [u8]>,
    frame_bytes_max: usize,
    decode: impl Fn(RawFrame<'_>) -> Result<F, FrameError>,
) -> Result<Vec<F>, FramingError> {
    let mut decoder = Decoder::new(frame_bytes_max as u32);
    let mut frames = Vec::new();
    for input in inputs {
        decoder.decode(input, |raw| {
            frames.push(decode(raw).expect("the test encoded it"));
            ControlFlow::Continue(())
        })?;
        assert!(decoder.held_bytes() < frame_bytes_max + 10);
    }
    Ok(frames)
}

/// Decodes whatever it is given, both ways, and throws it away.
fn decode_noise(input: &[u8]) {
    for max in [CLIENT_FRAME_BYTES_MAX, SERVER_FRAME_BYTES_MAX] {
        let _ = Decoder::new(max as u32).decode(input, |raw| {
            let _ = ClientFrame::decode(raw);
            let _ = ServerFrame::decode(raw);
            ControlFlow::Continue(())
        });
    }
    if let [kind, body @ ..] = input {
        let _ = ClientFrame::decode(RawFrame { kind: *kind, body });
        let _ = ServerFrame::decode(RawFrame { kind: *kind, body });
    }
    let _ = Entry::decode(input);
    let _ = GroupEntry::decode(input);
}

proptest! {
    #[test]
    fn a_client_frame_comes_back_as_it_was(frame in client_frame()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let frames = decode_all([&bytes[..]], CLIENT_FRAME_BYTES_MAX, ClientFrame::decode);
        prop_assert_eq!(frames, Ok(vec![frame]));
    }

    #[test]
    fn a_server_frame_comes_back_as_it_was(frame in server_frame()) {
        let bytes = stream_of(std::slice::from_ref(&frame));
        prop_assert_eq!(decode_all([&bytes[..]], SERVER_FRAME_BYTES_MAX, ServerFrame::decode), Ok(vec![frame]));
    }

    #[test]
    fn a_frame_that_has_grown_is_the_frame_that_it_was(frame in server_frame(), tail in vec(any::<u8>(), 1..20)) {
        // Without its last field it would grow by that.
        let has_all = match &frame {
            ServerFrame::Welcome { ping_after_ms, .. } => *ping_after_ms != 0,
            ServerFrame::Bye { devices, .. } => !devices.is_empty(),
            ServerFrame::Page(page) => page.seen_up_to > Seq::ZERO,
            _ => true,
        };
        prop_assume!(has_all);
        let whole = stream_of(std::slice::from_ref(&frame));
        let Prefix::Whole(_, prefix) = peek_varint(&whole) else { unreachable!("encoded above") };
        let body = [&whole[prefix + 1..], &tail].concat();
        prop_assert_eq!(ServerFrame::decode(RawFrame { kind: whole[prefix], body: &body }), Ok(frame));
    }

    #[test]
    fn deliver_is_encoded_alike_with_and_without_the_frame(entry in entry()) {
        let mut short = Vec::new();
        ServerFrame::encode_deliver(&entry, &mut short);
        prop_assert_eq!(short, stream_of(&[ServerFrame::Deliver { entry }]));
    }

    #[test]
    fn an_entry_of_a_group_is_encoded_alike_with_and_without_the_frame(group in group(), entry in group_entry()) {
        let mut short = Vec::new();
        ServerFrame::encode_deliver_group(group, &entry, &mut short);
        prop_assert_eq!(short, stream_of(&[ServerFrame::DeliverGroup { group, entry }]));
    }

    /// Whatever an act or a mention has in it: one that decodes keeps its bytes, and asking for its faults never panics.
    #[test]
    fn noise_in_what_is_done_to_a_group_never_panics(kind in 8u8..10, body in vec(any::<u8>(), 0..60)) {
        let content = Content::from_parts(kind, body.into());
        let _ = (content.fault(), content.body(), content.about(), content.standing(None));
    }

    #[test]
    fn any_cut_of_a_stream_gives_the_same_frames(frames in vec(server_frame(), 0..6), cuts in vec(any::<Index>(), 0..12)) {
        let stream = stream_of(&frames);
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        at.extend([0, stream.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|pair| &stream[pair[0]..pair[1]]);
        prop_assert_eq!(decode_all(pieces, SERVER_FRAME_BYTES_MAX, ServerFrame::decode), Ok(frames));
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_gives_the_same_frames(frames in vec(server_frame(), 0..4)) {
        let stream = stream_of(&frames);
        prop_assert_eq!(decode_all(stream.chunks(1), SERVER_FRAME_BYTES_MAX, ServerFrame::decode), Ok(frames));
    }

    #[test]
    fn every_prefix_of_a_frame_is_incomplete_and_no_error(frame in client_frame()) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        for end in 0..bytes.len() {
            let mut decoder = Decoder::new(CLIENT_FRAME_BYTES_MAX as u32);
            let outcome = decoder.decode(&bytes[..end], |_| panic!("a frame from its first {end} bytes"));
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!(decoder.held_bytes(), end);
        }
    }

    #[test]
    fn noise_never_panics(input in vec(any::<u8>(), 0..600)) {
        decode_noise(&input);
    }

    /// Noise seldom gets past the first fields; a frame with some bytes changed does.
    #[test]
    fn a_damaged_frame_never_panics(frame in server_frame(), damage in vec((any::<Index>(), any::<u8>()), 1..5)) {
        let mut bytes = stream_of(&[frame]);
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        decode_noise(&bytes);
    }

    #[test]
    fn noise_that_decodes_encodes_to_a_frame_that_decodes_alike(body in vec(any::<u8>(), 0..60), kind in 0x81u8..0x9a) {
        if let Ok(frame) = ServerFrame::decode(RawFrame { kind, body: &body }) {
            let bytes = stream_of(std::slice::from_ref(&frame));
            prop_assert_eq!(decode_all([&bytes[..]], SERVER_FRAME_BYTES_MAX, ServerFrame::decode), Ok(vec![frame]));
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once(max in 1u32..100_000, over in 1u64.., cut in any::<bool>()) {
        let size = u64::from(max).saturating_add(over);
        let mut bytes = Vec::new();
        put_varint(&mut bytes, size);
        let pieces = if cut { bytes.split_at(1) } else { (&bytes[..], &[][..]) };
        let mut decoder = Decoder::new(max);
        let never = |_: RawFrame<'_>| -> ControlFlow<()> { panic!("there is no frame") };
        let outcome = decoder.decode(pieces.0, never).and_then(|()| decoder.decode(pieces.1, never));
        prop_assert_eq!(outcome, Err(FramingError::TooLong { size, max: max.into() }));
    }

    #[test]
    fn a_varint_has_one_form(value in number(), noise in vec(any::<u8>(), 1..12)) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        prop_assert_eq!(bytes.len(), varint_len(value));
        prop_assert_eq!(peek_varint(&bytes), Prefix::Whole(value, bytes.len()));
        if let Prefix::Whole(value, len) = peek_varint(&noise) {
            bytes.clear();
            put_varint(&mut bytes, value);
            prop_assert_eq!(&bytes[..], &noise[..len]);
        }
        prop_assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).varint("x").is_err(), true);
    }

    #[test]
    fn a_detail_that_is_too_long_is_cut_at_a_character(detail in "[aß👋]{0,300}") {
        let bye = ServerFrame::Bye { code: ErrorCode::Stopping, retry_after_ms: 0, detail: detail.clone(), devices: Vec::new() };
        let bytes = stream_of(&[bye]);
        let frames = decode_all([&bytes[..]], SERVER_FRAME_BYTES_MAX, ServerFrame::decode).unwrap();
        let [ServerFrame::Bye { detail: cut, .. }] = &frames[..] else { panic!("{frames:?}") };
        prop_assert!(detail.starts_with(cut.as_str()));
        prop_assert!(cut.len() == detail.len() || cut.len() > 256 - 4);
    }
}
