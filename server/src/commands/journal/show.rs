//! PURE: the words and lines of `ringpost journal`.

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use proto_spec::{Content, ConversationId, Event};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use storage::{DeviceNote, DeviceNotes, Record, Wants, journal::Torn};

use super::survey::{Damage, Located, Survey, kind_of, owner_of};

/// Whether what people wrote is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// Its length only.
    Hidden,
    /// In quotes, with everything escaped that a terminal would obey.
    Shown,
}

/// What the journal holds, one fact a line.
pub(super) fn status(folder: &Path, survey: &Survey) -> String {
    let mut text = String::new();
    // Writing to a String can not fail.
    let mut line = |name: &str, value: &dyn fmt::Display| _ = writeln!(text, "{name:<10}{value}");
    line("folder", &folder.display());
    line("segments", &format_args!("{} with records, {} empty", survey.whole.len(), survey.empty.len()));
    line("bytes", &survey.bytes);
    match survey.lsns {
        Some((first, last)) => line("batches", &format_args!("{}, lsn {first} to {last}", survey.batches())),
        None => line("batches", &0),
    }
    let kinds: Vec<_> = survey.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    match kinds.as_slice() {
        [] => line("records", &0),
        kinds => line("records", &format_args!("{}: {}", survey.records(), kinds.join(", "))),
    }
    match (&survey.torn, &survey.damage) {
        (Some(torn), _) => line("tail", &tail(torn)),
        (None, None) => line("tail", &"whole"),
        (None, Some(_)) => {}
    }
    if let Some(Damage { path, offset, reason, files, .. }) = &survey.damage {
        line("damage", &format_args!("{} at offset {offset}: {reason}", path.display()));
        line("", &format_args!("not counted above: what follows it, in {} files", files.len()));
    }
    text
}

/// How the journal of a running server is, from its metrics.
pub(super) fn running(metrics: &str) -> String {
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
    };
    let admission = metrics.lines().find_map(|line| {
        let (state, is_now) = line.strip_prefix("ringpost_journal_admission{state=\"")?.split_once("\"} ")?;
        (is_now == "1").then_some(state)
    });
    let waiting =
        value("ringpost_journal_segments_sealed_total").saturating_sub(value("ringpost_journal_ingest_seconds_count"));
    let retries = value("ringpost_journal_ingest_retries_total");
    let store =
        if value("ringpost_store_away") == 1 { "away: tried again by itself" } else { "takes what it is given" };
    let mut text = String::new();
    // Writing to a String can not fail.
    let mut line = |name: &str, value: &dyn fmt::Display| _ = writeln!(text, "{name:<10}{value}");
    line("server", &"running; this is what it says of itself");
    line("admission", &admission.unwrap_or("unknown"));
    line("store", &store);
    line("waiting", &format_args!("{waiting} segments are sealed and not in the store yet"));
    line("retries", &format_args!("{retries} attempts to bring a segment into the store failed since the start"));
    line("groups", &format_args!("{} written and synced since the start", value("ringpost_journal_group_bytes_count")));
    text
}

/// What is whole, in a line, and the torn tail, if there is one, in another.
pub(super) fn whole(survey: &Survey) -> String {
    let (segments, batches, records) = (survey.whole.len(), survey.batches(), survey.records());
    let mut text = format!("whole: {batches} batches, {records} records in {segments} segments\n");
    if let Some(torn) = &survey.torn {
        let _ = writeln!(text, "tail: {}", tail(torn));
    }
    text
}

fn tail(Torn { path, offset, bytes }: &Torn) -> String {
    let path = path.display();
    format!("torn in {path} at offset {offset}, {bytes} bytes: a write that was cut short and that nobody was told of")
}

/// Which batches a replay up to the damage leaves out.
pub(super) fn loss(survey: &Survey, damage: &Damage) -> String {
    let Damage { path, offset, reason, files, behind } = damage;
    let mut text = String::new();
    let mut line = |value: fmt::Arguments<'_>| _ = writeln!(text, "{value}");
    line(format_args!("{} is damaged at offset {offset}: {reason}", path.display()));
    match survey.lsns {
        Some((first, last)) => line(format_args!("in the store: lsn {first} to {last}, {} batches", survey.batches())),
        None => line(format_args!("in the store: nothing of these files")),
    }
    let mut next = survey.lsns.map(|(_, last)| last.next());
    for stretch in behind {
        match next {
            Some(next) if next < stretch.first => {
                let (last, count) = (stretch.first.0 - 1, stretch.first.0 - next.0);
                line(format_args!("not in the store: lsn {next} to {last}, {count} batches, which cannot be read"));
            }
            Some(_) => {}
            None => line(format_args!("not in the store: everything before lsn {}", stretch.first)),
        }
        let count = stretch.last.0 - stretch.first.0 + 1;
        let name = stretch.path.file_name().unwrap_or_default().display();
        let (first, last) = (stretch.first, stretch.last);
        line(format_args!("not in the store: lsn {first} to {last}, {count} batches, which are whole in {name}"));
        next = Some(stretch.last.next());
    }
    // Behind what can be read there may have been more: the records themselves are all that tells.
    match next {
        Some(next) => line(format_args!("not in the store: lsn {next} and later ones, if there were any")),
        None => line(format_args!("not in the store: whatever these files held: how much cannot be told")),
    }
    let names: Vec<_> = files.iter().filter_map(|file| file.path.file_name()?.to_str()).collect();
    line(format_args!("set aside: {}", names.join(", ")));
    text
}

/// A record as columns with tabs between them; `-` where a kind has no such thing.
pub(super) fn columns(located: &Located, text: Text) -> String {
    let Located { segment, offset, lsn, lane, batch, record } = located;
    let (seq, peer, content) = match record {
        Record::Append { entry, .. } | Record::Rewrite { entry, .. } => {
            let (peer, content) = match &entry.event {
                Event::Received { from, content, .. } => (Some(ConversationId::Person(*from)), Some(content)),
                Event::Sent { to, content, .. } => (Some(*to), Some(content)),
                Event::Delivered { peer, .. } | Event::Seen { peer, .. } => (Some(ConversationId::Person(*peer)), None),
                Event::Read { conversation, .. } | Event::Settings { conversation, .. } => (Some(*conversation), None),
                Event::Group { group, .. } | Event::GroupRefused { group, .. } => {
                    (Some(ConversationId::Group(*group)), None)
                }
                Event::Deleted { .. } | Event::Devices { .. } | Event::Visibility { .. } | Event::Unknown { .. } => {
                    (None, None)
                }
            };
            (Some(entry.seq), peer, content)
        }
        Record::Cursor { seq, .. } => (Some(*seq), None, None),
        Record::Notified { notified, .. } => (Some(notified.up_to), None, None),
        Record::Epoch { first, .. } => (Some(*first), None, None),
        Record::GroupAppend { entry, .. } => (Some(entry.seq), Some(entry.from.into()), Some(&entry.content)),
        Record::GroupMember { user, .. } | Record::GroupWants { user, .. } => (None, Some((*user).into()), None),
        Record::GroupCame { from, row, .. } => (Some(row.up_to), Some((*from).into()), None),
        Record::GroupMarks { marks, .. } => (Some(marks.told), None, None),
        Record::Marks { .. }
        | Record::Devices { .. }
        | Record::Removed { .. }
        | Record::GivenUp { .. }
        | Record::GroupState { .. }
        | Record::Subscribed { .. }
        | Record::Due { .. }
        | Record::LastSeen { .. } => (None, None, None),
    };
    fn or_dash(value: Option<impl ToString>) -> String {
        value.map_or_else(|| "-".to_owned(), |value| value.to_string())
    }
    let mut line = format!(
        "{segment}\t{offset}\t{lsn}\t{lane}\t{batch}\t{kind}\t{user}\t{seq}\t{peer}\t{bytes}",
        lane = lane.0,
        batch = batch.0,
        kind = kind_of(record),
        user = owner_of(record),
        seq = or_dash(seq),
        peer = or_dash(peer),
        bytes = or_dash(content.map(|content| content.parts().1.len())),
    );
    if text == Text::Shown {
        let _ = match content.and_then(Content::as_text) {
            Some(text) => write!(line, "\t{text:?}"),
            None => write!(line, "\t-"),
        };
    }
    line
}

/// A record with everything that it says, as one JSON object.
pub(super) fn json(located: &Located) -> String {
    let Located { segment, offset, lsn, lane, batch, record } = located;
    let mut object = Object(vec![
        ("lsn", lsn.0.into()),
        ("segment", segment.0.into()),
        ("offset", (*offset).into()),
        ("lane", lane.0.into()),
        ("batch", batch.0.into()),
        ("kind", kind_of(record).into()),
        owner_field(owner_of(record), "user", "group"),
    ]);
    match record {
        Record::Append { entry, .. } | Record::Rewrite { entry, .. } => {
            let (replaces, count) = match record {
                Record::Append { replaces, count, .. } => (*replaces, count),
                Record::Rewrite { of, .. } => (of.replaces.first().map(|replaced| replaced.seq), &0),
                _ => (None, &0),
            };
            object.0.extend([("seq", entry.seq.0.into()), ("time_ms", entry.time.0.into())]);
            object.0.extend(replaces.map(|seq| ("replaces", seq.0.into())));
            object.0.extend((*count > 0).then(|| ("count", (*count).into())));
            match &entry.event {
                Event::Received { from, origin, content } => {
                    object.0.extend([("peer", from.0.into()), ("origin", origin.0.into())]);
                    object.0.extend(content_fields(content));
                }
                Event::Sent { to, device, number, content } => {
                    object.0.push(owner_field(*to, "peer", "to_group"));
                    object.0.extend([("device", device.0.into()), ("number", number.0.into())]);
                    object.0.extend(content_fields(content));
                }
                Event::Read { conversation, up_to, unread, told } => {
                    object.0.extend([owner_field(*conversation, "peer", "of_group"), ("up_to", up_to.0.into())]);
                    object.0.extend([("unread", (*unread).into()), ("told", told.0.into())]);
                }
                Event::Settings { conversation, settings } => {
                    object
                        .0
                        .extend([owner_field(*conversation, "peer", "of_group"), ("settings", settings.bits().into())]);
                }
                Event::Delivered { peer, up_to } | Event::Seen { peer, up_to } => {
                    object.0.extend([("peer", peer.0.into()), ("up_to", up_to.0.into())]);
                }
                Event::Devices { removed, why, devices } => {
                    object.0.extend([("device", removed.0.into()), ("why", why.name().into())]);
                    object.0.push(("devices", Value::from(devices.iter().map(|id| id.0).collect::<Vec<_>>())));
                }
                Event::Deleted { conversation, of, place, .. } => {
                    object.0.extend([owner_field(*conversation, "peer", "of_group"), ("author", of.author.0.into())]);
                    object.0.extend([("author_seq", of.seq.0.into()), ("place", place.0.into())]);
                }
                Event::Group { group, standing, first, up_to, sent_up_to } => {
                    object.0.extend([("of_group", group.0.into()), ("standing", standing.name().into())]);
                    object.0.extend([("first", first.0.into()), ("up_to", up_to.0.into())]);
                    object.0.push(("sent_up_to", sent_up_to.0.into()));
                }
                Event::GroupRefused { group, origin, code } => {
                    object.0.extend([("of_group", group.0.into()), ("origin", origin.0.into())]);
                    object.0.push(("code", code.name().into()));
                }
                Event::Visibility { visibility } => object.0.push(("visibility", visibility.bits().into())),
                Event::Unknown { kind } => object.0.push(("entry_kind", (*kind).into())),
            }
        }
        Record::Cursor { device, seq, .. } => {
            object.0.extend([("device", device.0.into()), ("seq", seq.0.into())]);
        }
        Record::Marks { marks, idle, .. } => object.0.extend([
            ("forwarded", marks.forwarded.0.into()),
            ("receipted", marks.receipted.0.into()),
            ("idle", (*idle).into()),
        ]),
        Record::Epoch { first, epoch, forgotten, .. } => {
            object.0.extend([("seq", first.0.into()), ("epoch", epoch.0.into())]);
            object.0.extend(forgotten.map(|seq| ("forgotten", seq.0.into())));
        }
        Record::Devices { notes: DeviceNotes { devices, told_at, acknowledged }, .. } => {
            let note =
                |note: &DeviceNote| json!({ "device": note.device.0, "seen_day": note.seen_day, "name": note.name });
            object.0.push(("devices", devices.iter().map(note).collect()));
            object.0.extend([("told_at", told_at.0.into()), ("acknowledged", acknowledged.0.into())]);
        }
        Record::Removed { device, .. } => object.0.push(("device", device.0.into())),
        Record::GivenUp { device, number, .. } => {
            object.0.extend([("device", device.0.into()), ("number", number.0.into())]);
        }
        // Its address and keys are secrets of the device.
        Record::Subscribed { device, subscription, .. } => {
            let provider = subscription.as_ref().map_or(0, |subscription| subscription.provider);
            object.0.extend([("device", device.0.into()), ("provider", provider.into())]);
        }
        Record::Due { .. } => {}
        Record::Notified { notified, .. } => {
            let told = notified.told.iter().map(|(of, seq)| json!({ "conversation": of.to_string(), "seq": seq.0 }));
            object.0.extend([("up_to", notified.up_to.0.into()), ("told", told.collect())]);
        }
        Record::LastSeen { at, .. } => object.0.push(("last_seen_ms", at.0.into())),
        Record::GroupAppend { entry, of, .. } => {
            object.0.extend([("seq", entry.seq.0.into()), ("time_ms", entry.time.0.into())]);
            object.0.extend([("peer", entry.from.0.into()), ("origin", entry.origin.0.into())]);
            object.0.push(("messages", entry.messages.into()));
            object.0.extend(of.as_ref().map(|of| ("place", of.place.0.into())));
            object.0.extend(content_fields(&entry.content));
        }
        Record::GroupState { state, .. } => object.0.extend([
            ("name", Value::from(&*state.name)),
            ("rules", state.rules.bits().into()),
            ("is_open", state.invitation.is_some().into()),
            ("has_ended", state.has_ended.into()),
        ]),
        Record::GroupMember { user, row, .. } => object.0.extend([
            ("member", user.0.into()),
            ("standing", row.standing.name().into()),
            ("role", row.role.name().into()),
            ("since", row.since.0.into()),
        ]),
        Record::GroupCame { from, row, .. } => {
            object.0.extend([("peer", from.0.into()), ("up_to", row.up_to.0.into())]);
            let refused = row.refused.iter().map(|(origin, code)| json!({ "origin": origin.0, "code": code.name() }));
            object.0.push(("refused", refused.collect()));
        }
        Record::GroupWants { user, wants, .. } => {
            let wants = wants.map(|wants| match wants {
                Wants::All => "all",
                Wants::Named => "named",
                Wants::Nothing => "nothing",
            });
            object.0.extend([("member", user.0.into()), ("wants", wants.into())]);
        }
        Record::GroupMarks { marks, idle, .. } => {
            object.0.extend([("told", marks.told.0.into()), ("idle", (*idle).into())]);
        }
    }
    serde_json::to_string(&object).expect("names, numbers and texts are JSON")
}

/// A user or a group, under the name of its kind.
fn owner_field(owner: ConversationId, user: &'static str, group: &'static str) -> (&'static str, Value) {
    match owner {
        ConversationId::Person(id) => (user, id.0.into()),
        ConversationId::Group(id) => (group, id.0.into()),
    }
}

/// A text as it is, anything else by its kind and in hexadecimal.
fn content_fields(content: &Content) -> Vec<(&'static str, Value)> {
    match content.as_text() {
        Some(text) => vec![("text", text.into())],
        None => {
            let (kind, body) = content.parts();
            let hex = body.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            vec![("content_kind", kind.into()), ("content_hex", hex.into())]
        }
    }
}

/// A JSON object whose fields stay in their order.
struct Object(Vec<(&'static str, Value)>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
