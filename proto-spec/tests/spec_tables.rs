//! The tables of SPEC.md against the enums and constants of the codec, in both directions: a row without a variant
//! fails as a variant without a row does.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use proto_spec::{
    ActKind, AttachmentKind, Capabilities, ClientFrame, ClientKind, ContentKind, ConversationKind, Decoder, Direction,
    Durability, EntryKind, ErrorCode, Kinds, PROTOCOL_VERSION, Presence, Provider, Recipient, RedirectReason, Removal,
    Role, Rules, ServerFrame, ServerKind, Settings, Show, Standing, Status, Visibility, limits,
};
use serde_json::Value;

const SPEC: &str = include_str!("../SPEC.md");

/// The rows below the first heading that starts with `heading` and the table header that follows it, cell by cell.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let mut lines = SPEC.lines().skip_while(|line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "SPEC.md has no heading `{heading}`");
    let rows: Vec<_> = lines
        .take_while(|line| !line.starts_with('#'))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    assert!(!rows.is_empty(), "SPEC.md has no table below `{heading}`");
    rows
}

/// The heading of the section that describes a kind, from the last cell of its row.
fn section(rows: &[Vec<&'static str>], name: &str) -> String {
    let row = rows.iter().find(|row| row.contains(&name)).expect("compared with the enum by another test");
    format!("### {}", row.last().expect("a row has cells"))
}

fn number(cell: &str) -> u64 {
    cell.strip_prefix("0x").map_or_else(|| cell.parse(), |hex| u64::from_str_radix(hex, 16)).expect("a number")
}

/// The values that a listed field gives in its meaning.
fn listed(heading: &str, field: &str) -> BTreeSet<(u8, String)> {
    let row = table(heading).into_iter().find(|row| row[0] == field).expect("the field is in the table");
    assert_eq!(row[1], "listed");
    values_in(row[2])
}

/// What a field of a table means.
fn meaning(heading: &str, field: &str) -> &'static str {
    let row = table(heading).into_iter().find(|row| row[0] == field);
    row.unwrap_or_else(|| panic!("no `{field}` in the table below `{heading}`"))[2]
}

/// The values that a meaning gives: a number followed by a quoted name, separated by `. `.
fn values_in(meaning: &str) -> BTreeSet<(u8, String)> {
    let words: Vec<_> = meaning.split_whitespace().collect();
    words
        .windows(2)
        .filter_map(|pair| {
            let name = pair[1].strip_prefix('`')?.split('`').next()?;
            Some((pair[0].parse().ok()?, name.to_owned()))
        })
        .collect()
}

#[test]
fn the_table_of_frame_kinds_is_the_enums() {
    let rows: Vec<_> =
        table("## 4 ").iter().map(|row| (number(row[0]), row[1].to_owned(), row[2].to_owned())).collect();
    let client = ClientKind::ALL.iter().map(|k| (k.byte().into(), "client".to_owned(), k.name().to_owned()));
    let server = ServerKind::ALL.iter().map(|k| (k.byte().into(), "server".to_owned(), k.name().to_owned()));
    assert_eq!(rows, client.chain(server).collect::<Vec<_>>());
}

#[test]
fn kinds_of_the_two_directions_never_meet() {
    assert!(ClientKind::ALL.iter().all(|kind| (0x01..=0x7f).contains(&kind.byte())));
    assert!(ServerKind::ALL.iter().all(|kind| (0x81..=0xff).contains(&kind.byte())));
}

/// Every number that a table gives is read back as the variant of its name.
#[test]
fn numbers_and_names_of_kinds_are_inverse() {
    for byte in 0..=u8::MAX {
        assert!(ClientKind::from_byte(byte).is_none_or(|kind| kind.byte() == byte));
        assert!(ServerKind::from_byte(byte).is_none_or(|kind| kind.byte() == byte));
        assert!(EntryKind::from_byte(byte).is_none_or(|kind| kind.byte() == byte));
        assert!(ContentKind::from_byte(byte).is_none_or(|kind| kind.byte() == byte));
    }
}

/// The vectors' fields are compared with the codec elsewhere, so this ties the field tables to the codec as well.
#[test]
fn the_field_table_of_every_frame_kind_names_the_fields_of_its_vectors() {
    let kinds = |from: &str| table("## 4 ").into_iter().filter(|row| row[1] == from).collect::<Vec<_>>();
    for (kinds, vectors, names) in [
        (
            kinds("client"),
            include_str!("../vectors/client.json"),
            ClientKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        ),
        (
            kinds("server"),
            include_str!("../vectors/server.json"),
            ServerKind::ALL.iter().map(|kind| kind.name()).collect(),
        ),
    ] {
        let vectors: Vec<Value> = serde_json::from_str(vectors).unwrap();
        for name in names {
            let documented: BTreeSet<_> = table(&section(&kinds, name)).iter().map(|row| row[0].to_owned()).collect();
            for vector in vectors.iter().filter(|vector| vector["kind"] == name) {
                let fields: BTreeSet<_> = vector["fields"].as_object().unwrap().keys().cloned().collect();
                // SPEC 4.13: one table for both, and a client's bye has no fields.
                let client_bye = name == "bye" && fields.is_empty();
                assert!(client_bye || fields == documented, "{name}: vector {fields:?}, SPEC.md {documented:?}");
            }
        }
    }
}

#[test]
fn the_table_of_entry_kinds_is_the_enum() {
    let rows: Vec<_> = table("## 5 ").iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(rows, EntryKind::ALL.iter().map(|kind| (kind.byte().into(), kind.name())).collect::<Vec<_>>());
}

#[test]
fn the_field_table_of_every_entry_kind_names_the_fields_of_its_vectors() {
    let kinds = table("## 5 ");
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/server.json")).unwrap();
    for kind in EntryKind::ALL {
        let mut documented = BTreeSet::from(["kind", "seq", "time"]);
        let rows = table(&section(&kinds, kind.name()));
        documented.extend(rows.iter().map(|row| row[0]));
        for entry in vectors.iter().map(|v| &v["fields"]["entry"]).filter(|entry| entry["kind"] == kind.name()) {
            let fields: BTreeSet<_> = entry.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(fields, documented, "{}: vector, SPEC.md", kind.name());
        }
    }
}

#[test]
fn the_table_of_content_kinds_is_the_enum() {
    let rows: Vec<_> = table("### 5.4").iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(rows, ContentKind::ALL.iter().map(|kind| (kind.byte().into(), kind.name())).collect::<Vec<_>>());
}

#[test]
fn the_field_table_of_every_content_kind_names_the_fields_of_its_vectors() {
    let kinds = table("### 5.4");
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/client.json")).unwrap();
    for kind in ContentKind::ALL {
        for vector in &vectors {
            let Some(Value::Object(fields)) = vector["fields"]["content"].get(kind.name()) else { continue };
            let heading = section(&kinds, kind.name()).replace("### ", "#### ");
            let documented: BTreeSet<_> = table(&heading).iter().map(|row| row[0]).collect();
            let documented = match kind {
                ContentKind::Act => &documented & &fields_of_act(fields["act"].as_str().unwrap()),
                _ => documented,
            };
            let fields: BTreeSet<_> = fields.keys().map(String::as_str).collect();
            assert_eq!(fields, documented, "{}: vector, SPEC.md", kind.name());
        }
    }
}

/// Those that the table of acts gives it, and the one that says which it is.
fn fields_of_act(act: &str) -> BTreeSet<&'static str> {
    let row =
        table("##### Acts").into_iter().find(|row| row[1] == act).expect("compared with the enum by another test");
    let fields = row[2].split(", ").map(|field| field.trim_matches('`')).filter(|field| !field.is_empty());
    fields.chain(["act"]).collect()
}

#[test]
fn the_table_of_acts_is_the_enum_and_names_fields_that_are_documented() {
    let rows = table("##### Acts");
    let acts: Vec<_> = rows.iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(acts, ActKind::ALL.iter().map(|act| (act.byte().into(), act.name())).collect::<Vec<_>>());
    let documented: BTreeSet<_> = table("#### 5.4.8").iter().map(|row| row[0]).collect();
    assert_eq!(rows.iter().flat_map(|row| fields_of_act(row[1])).collect::<BTreeSet<_>>(), documented);
}

/// Parts of a list have tables of their own, behind that of their frame.
#[test]
fn the_tables_of_the_parts_of_groups_name_the_fields_of_their_vectors() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/server.json")).unwrap();
    let keys = |part: &Value| part.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    for (kind, list, heading) in [
        ("group_page", "entries", "### 5.17"),
        ("groups", "rows", "A row, which may grow at its end. Of"),
        ("members", "members", "A member, which"),
    ] {
        let documented: BTreeSet<_> = table(heading).iter().map(|row| row[0].to_owned()).collect();
        let of_kind = vectors.iter().filter(|vector| vector["kind"] == kind);
        let parts: Vec<_> = of_kind.flat_map(|vector| vector["fields"][list].as_array().unwrap()).collect();
        assert!(!parts.is_empty(), "no vector of {kind} has {list}");
        parts.iter().for_each(|part| assert_eq!(keys(part), documented, "{kind}"));
    }
}

#[test]
fn the_table_of_error_codes_is_the_enum() {
    let rows: Vec<_> = table("## 6 ").iter().map(|row| (number(row[0]), row[1])).collect();
    assert_eq!(rows, ErrorCode::ALL.iter().map(|code| (code.number().into(), code.name())).collect::<Vec<_>>());
}

#[test]
fn every_error_code_says_in_which_frames_it_comes() {
    for row in table("## 6 ") {
        let mut frames = row[2].split(", ");
        assert!(frames.all(|frame| ["refused", "error", "bye", "entry"].contains(&frame)), "{row:?}");
    }
}

#[test]
fn the_values_of_listed_fields_are_the_enums() {
    macro_rules! values {
        ($enum:ident) => {
            $enum::ALL.iter().map(|value| (value.byte(), value.name().to_owned())).collect::<BTreeSet<_>>()
        };
    }
    assert_eq!(listed("### 4.4", "direction"), values!(Direction));
    assert_eq!(listed("#### 5.4.3", "attachment_kind"), values!(AttachmentKind));
    assert_eq!(listed("### 4.8", "durability"), values!(Durability));
    assert_eq!(listed("### 4.8", "recipient"), values!(Recipient));
    let no_or_yes = BTreeSet::from([(0, "no".to_owned()), (1, "yes".to_owned())]);
    let more = ["### 4.11", "### 4.21", "### 4.43", "### 4.44", "### 4.45"].map(|section| (section, "more"));
    for (section, field) in more.into_iter().chain([("### 4.19", "tell")]) {
        assert_eq!(listed(section, field), no_or_yes, "{section}");
    }
    assert_eq!(listed("### 5.8", "why"), values!(Removal));
    assert_eq!(listed("### 4.36", "status"), values!(Status));
    assert_eq!(listed("### 4.40", "reason"), values!(RedirectReason));
    assert_eq!(listed("### 4.49", "show"), values!(Show));
}

/// A state is no listed field: another one is not malformed.
#[test]
fn the_states_of_presence_are_the_enum() {
    let meaning = SPEC.lines().find(|line| line.starts_with("| `state` | varint | ")).expect("the part of a state");
    let states = Presence::ALL.iter().map(|state| (state.byte(), state.name().to_owned()));
    assert_eq!(values_in(meaning), states.collect());
}

/// Nor is a provider.
#[test]
fn the_providers_of_notifications_are_the_enum() {
    let providers = Provider::ALL.iter().map(|of| (of.byte(), of.name().to_owned()));
    assert_eq!(values_in(meaning("### 4.49", "provider")), providers.collect());
}

/// Nor are these listed fields.
#[test]
fn standings_and_roles_are_the_enums() {
    let standings: BTreeSet<_> = Standing::ALL
        .iter()
        .filter(|standing| **standing != Standing::Unknown)
        .map(|standing| (standing.byte(), standing.name().to_owned()))
        .collect();
    assert_eq!(values_in(meaning("### 5.12", "standing")), standings);
    let roles: BTreeSet<_> = Role::ALL.iter().map(|role| (role.byte(), role.name().to_owned())).collect();
    assert_eq!(values_in(meaning("A row, which may grow at its end. Of", "role")), roles);
}

#[test]
fn the_bits_of_settings_of_visibility_and_of_rules_are_the_constants() {
    let bits = |heading: &str, field: &str| -> Vec<u64> {
        meaning(heading, field).split(' ').filter_map(|word| word.strip_suffix(':')?.parse().ok()).collect()
    };
    let settings = [Settings::MUTED, Settings::ARCHIVED, Settings::PINNED, Settings::BLOCKED, Settings::MENTIONS_ONLY];
    assert_eq!(bits("### 5.7", "settings"), settings.map(Settings::bits));
    let visibility = [Visibility::INVISIBLE, Visibility::HIDE_LAST_SEEN];
    assert_eq!(bits("### 5.10", "visibility"), visibility.map(Visibility::bits));
    let rules = [Rules::ADMINS_ADD, Rules::ADMINS_POST, Rules::ADMINS_DESCRIBE, Rules::HISTORY];
    assert_eq!(bits("#### 5.4.8", "rules"), rules.map(Rules::bits));
}

/// Who may do what names acts that there are, and rules by their bits.
#[test]
fn the_table_of_roles_names_every_act_of_a_member_and_the_rules_of_members() {
    let rows = table("**Roles.**");
    let words = rows.iter().flat_map(|row| row[0].split(['`', ',', ' ']));
    let named: BTreeSet<_> = words.filter(|word| ActKind::ALL.iter().any(|act| act.name() == *word)).collect();
    let by_outsiders = ["create", "join"];
    let acts = ActKind::ALL.iter().map(|act| act.name()).filter(|act| !by_outsiders.contains(act));
    assert_eq!(named, acts.collect());
    let rules: BTreeSet<u64> =
        rows.iter().flat_map(|row| row[1].split(' ')).filter_map(|word| word.parse().ok()).collect();
    let for_members = [Rules::ADMINS_ADD, Rules::ADMINS_POST, Rules::ADMINS_DESCRIBE];
    assert_eq!(rules, for_members.map(Rules::bits).into());
}

#[test]
fn the_table_of_limits_is_the_constants() {
    let documented: BTreeMap<_, _> = table("## 7 ").iter().map(|row| (row[0], number(row[1]))).collect();
    let constants = BTreeMap::from([
        ("text_bytes_max", limits::TEXT_BYTES_MAX as u64),
        ("content_bytes_max", limits::CONTENT_BYTES_MAX as u64),
        ("edit_header_bytes_max", limits::EDIT_HEADER_BYTES_MAX as u64),
        ("reaction_bytes_max", limits::REACTION_BYTES_MAX as u64),
        ("reactions_max", limits::REACTIONS_MAX as u64),
        ("quote_bytes_max", limits::QUOTE_BYTES_MAX as u64),
        ("content_type_bytes_max", limits::CONTENT_TYPE_BYTES_MAX as u64),
        ("location_bytes_max", limits::LOCATION_BYTES_MAX as u64),
        ("token_bytes_max", limits::TOKEN_BYTES_MAX as u64),
        ("detail_bytes_max", limits::DETAIL_BYTES_MAX as u64),
        ("name_bytes_max", limits::NAME_BYTES_MAX as u64),
        ("group_name_bytes_max", limits::GROUP_NAME_BYTES_MAX as u64),
        ("group_rows_max", limits::GROUP_ROWS_MAX),
        ("members_page_max", limits::MEMBERS_PAGE_MAX),
        ("mentions_max", limits::MENTIONS_MAX as u64),
        ("secret_bytes_min", limits::SECRET_BYTES_MIN as u64),
        ("secret_bytes_max", limits::SECRET_BYTES_MAX as u64),
        ("client_frame_bytes_max", limits::CLIENT_FRAME_BYTES_MAX as u64),
        ("server_frame_bytes_max", limits::SERVER_FRAME_BYTES_MAX as u64),
        ("page_bytes_max", limits::PAGE_BYTES_MAX as u64),
        ("page_entries_max", limits::PAGE_ENTRIES_MAX),
        ("inbox_rows_max", limits::INBOX_ROWS_MAX),
        ("inbox_text_bytes", limits::INBOX_TEXT_BYTES as u64),
        ("unread_max", limits::UNREAD_MAX),
        ("digests_max", limits::DIGESTS_MAX),
        ("presence_users_max", limits::PRESENCE_USERS_MAX as u64),
        ("watched_max", limits::WATCHED_MAX as u64),
        ("send_window", limits::SEND_WINDOW),
        ("fetches_in_flight_max", limits::FETCHES_IN_FLIGHT_MAX as u64),
        ("address_bytes_max", limits::ADDRESS_BYTES_MAX as u64),
        ("redirects_max", limits::REDIRECTS_MAX),
        ("push_address_bytes_max", limits::PUSH_ADDRESS_BYTES_MAX as u64),
        ("push_key_bytes", limits::PUSH_KEY_BYTES as u64),
        ("push_secret_bytes", limits::PUSH_SECRET_BYTES as u64),
    ]);
    assert_eq!(documented, constants);
    let source = include_str!("../src/limits.rs");
    assert_eq!(source.matches("pub const ").count(), constants.len(), "a constant that this test does not compare");
}

#[test]
fn the_specification_is_of_the_version_of_the_codec() {
    assert!(SPEC.starts_with(&format!("# The Ringpost client protocol, version {PROTOCOL_VERSION}\n")));
}

/// The example session of SPEC 9 is real bytes of the frames that it names.
#[test]
fn the_example_session_decodes_and_encodes_to_its_bytes() {
    for row in table("## 9 ") {
        let (by, hex, name) = (row[0], row[1], row[2]);
        let input: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let mut output = Vec::new();
        let mut decoder = Decoder::new(limits::SERVER_FRAME_BYTES_MAX as u32);
        decoder
            .decode(&input, |raw| {
                let decoded = if by == "C" {
                    let frame = ClientFrame::decode(raw).unwrap();
                    frame.encode(&mut output);
                    frame.kind().name()
                } else {
                    let frame = ServerFrame::decode(raw).unwrap();
                    frame.encode(&mut output);
                    frame.kind().name()
                };
                assert_eq!(decoded, name, "{row:?}");
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(output, input, "{row:?}");
    }
}

#[test]
fn what_version_1_began_with_is_what_is_relied_on_when_nothing_is_told() {
    let first = Capabilities::default().or_first();
    let kinds = |of: Kinds| (0..64).filter(|kind| of.contains(*kind)).collect::<Vec<_>>();
    let text = (ContentKind::Text.byte(), ContentKind::Text.name());
    let frames = [ClientKind::Hello, ClientKind::Bye].map(|kind| format!("{:#04x} `{}", kind.byte(), kind.name()));
    let rows = table("### 8.7");
    assert_eq!((rows[0][1].to_owned(), kinds(first.content_kinds)), (format!("{} `{}", text.0, text.1), vec![text.0]));
    assert_eq!((rows[1][1], kinds(first.conversation_kinds)), ("1, a user", vec![ConversationKind::User.byte()]));
    assert_eq!(rows[2][1], format!("{}` to {}", frames[0], frames[1]));
    assert_eq!(kinds(first.frame_kinds), (ClientKind::Hello.byte()..=ClientKind::Bye.byte()).collect::<Vec<_>>());
    let told = Capabilities { content_kinds: Kinds(2), ..Capabilities::default() };
    assert_eq!(told.or_first(), told, "who tells anything tells all");
}
