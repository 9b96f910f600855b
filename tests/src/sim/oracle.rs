//! Oracle: follows every message from `send` to every device and says what is wrong, in a sentence.

use std::collections::{BTreeMap, BTreeSet};

use proto_spec::{
    Body, Content, ConversationId, DeviceId, Durability, Entry, Event, MessageName, SendNumber, Seq, ServerFrame,
    TimestampMs, UserId,
};
use server::limits::CLOCK_LEAP_MS;
use storage::Record;

/// A device of the simulated people.
pub type DeviceKey = (UserId, DeviceId);

/// What is known of one message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who wrote it.
    pub from: DeviceKey,
    /// To whom.
    pub to: UserId,
    /// Its place in the sender's log, once it was accepted.
    pub accepted: Option<Seq>,
    /// It is a text, or that a text says something else.
    pub is_text: bool,
    /// It takes one back, or is a reaction, and has no text.
    pub is_silent: bool,
    /// Its author has taken it back, and was told that it was in time.
    pub is_cancelled: bool,
}

/// What one device has kept of its log.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// By seq.
    pub entries: BTreeMap<Seq, Entry>,
    /// Where it begins: what stands up to here was skipped, and is not held.
    pub since: Seq,
    /// The last seq that was handed out since the app was started.
    pub last_in_run: Seq,
    /// The highest mark of each kind and peer since the app was started.
    marks_in_run: BTreeMap<(&'static str, UserId), Seq>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Oracle {
    /// By text.
    pub messages: BTreeMap<String, Message>,
    /// Everything that was ever durable, by log.
    pub durable: BTreeMap<(UserId, Seq), Entry>,
    /// Which of it has been superseded by an entry that changes it, which is durable too.
    superseded: BTreeSet<(UserId, Seq)>,
    /// What was ever handed to any device of a user.
    handed: BTreeSet<(UserId, Seq)>,
    /// By device.
    pub kept: BTreeMap<DeviceKey, Kept>,
    /// Up to where each log was ever said to be committed, on whatever connection and in whatever life of the node.
    committed: BTreeMap<UserId, Seq>,
    /// Sends that were accepted as less while the store was away, and that nothing has called committed since.
    local: BTreeSet<(UserId, Seq)>,
    /// Numbers that were given up, as far as that is durable.
    pub void: BTreeSet<(UserId, DeviceId, SendNumber)>,
    /// The most that the clock may have been wrong by, in milliseconds, and be believed.
    pub clock_wrong_ms: u64,
    /// Devices that were told that they are removed.
    pub removed: BTreeSet<DeviceKey>,
    /// Who has ever asked that a user be blocked, and that one.
    pub estranged: BTreeSet<(UserId, UserId)>,
    /// Who has ever asked to be invisible.
    pub hides: BTreeSet<UserId>,
    /// Users are shown to those alone to whom they have written.
    pub is_strict: bool,
    /// Up to where the log of each device is acknowledged for sure; of device 0, by devices that were removed or have a gap.
    cursors: BTreeMap<DeviceKey, Seq>,
    /// Up to where it is decided for sure whether a user is notified.
    pub notified: BTreeMap<UserId, Seq>,
    /// The first thing that was found wrong.
    pub failure: Option<String>,
}

/// The text of a message entry.
#[must_use]
pub fn text_of(entry: &Entry) -> Option<&str> {
    match &entry.event {
        // What is sent to a group does not stay.
        Event::Sent { to: ConversationId::Group(_), .. } => None,
        Event::Received { content, .. } | Event::Sent { content, .. } => words_of(content),
        Event::Delivered { .. }
        | Event::Deleted { .. }
        | Event::Devices { .. }
        | Event::Read { .. }
        | Event::Seen { .. }
        | Event::Settings { .. }
        | Event::Visibility { .. }
        | Event::Group { .. }
        | Event::GroupRefused { .. }
        | Event::Unknown { .. } => None,
    }
}

/// What a person wrote of a content: by it a message is known.
fn words_of(content: &Content) -> Option<&str> {
    match content.body().ok()? {
        Body::Text(text) => Some(text),
        Body::Reply(reply) => Some(reply.text),
        Body::Attachment(attachment) => Some(attachment.caption),
        Body::Opaque(bytes) => std::str::from_utf8(bytes).ok(),
        Body::Edit(edit) => match edit.said().ok()? {
            Body::Text(text) => Some(text),
            _ => None,
        },
        Body::Mention(mention) => Some(mention.text),
        Body::Unsend(_) | Body::Reaction(_) | Body::Act(_) | Body::Unknown => None,
    }
}

/// What is said, without where it stands, which each side numbers for itself.
fn said(entry: &Entry) -> Option<Content> {
    match &entry.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => Some(content.standing(None)),
        _ => None,
    }
}

/// Whether a device is shown what is in the log: to who has sent a change itself, its client does not say where the message stands.
fn is_same(durable: &Entry, shown: &Entry) -> bool {
    let is_own = matches!(&shown.event, Event::Sent { content, .. } if *content == content.standing(None));
    match (&durable.event, &shown.event) {
        (
            Event::Sent { to, device, number, .. },
            Event::Sent { to: to_too, device: device_too, number: number_too, .. },
        ) if is_own => {
            let named = (durable.seq, durable.time, to, device, number);
            named == (shown.seq, shown.time, to_too, device_too, number_too) && said(durable) == said(shown)
        }
        _ => durable == shown,
    }
}

/// Whether an entry that changes a message or reacts to it leaves nothing to be told by an earlier one.
fn supersedes(entry: &Entry, earlier: &Entry) -> bool {
    let is_of_all = matches!(
        &entry.event,
        Event::Deleted { .. }
            | Event::Received { content: Content::Unsend(_), .. }
            | Event::Sent { content: Content::Unsend(_), .. }
    );
    let is_same_kind = match (entry.is_reaction(), earlier.is_reaction()) {
        (true, true) => entry.event.kind() == earlier.event.kind(),
        (false, true) => is_of_all,
        (is_reaction, false) => !is_reaction,
    };
    entry.concerns() == earlier.concerns() && is_same_kind
}

/// By the message and who reacts to it: in which conversation, and how.
type Reactions = BTreeMap<(MessageName, UserId), (ConversationId, String)>;

/// The reactions that a log tells of, or what a device has kept of it.
fn reactions(user: UserId, log: &BTreeMap<Seq, Entry>) -> Reactions {
    let mut known = Reactions::new();
    for entry in log.values() {
        if let Event::Deleted { of: name, .. } = entry.event {
            known.retain(|(of, _), _| *of != name);
        }
        let (by, with, content) = match &entry.event {
            Event::Received { from, content, .. } => (*from, (*from).into(), content),
            // What is sent to a group is in the group's log.
            Event::Sent { to: to @ ConversationId::Person(_), content, .. } => (user, *to, content),
            _ => continue,
        };
        match content.body() {
            Ok(Body::Reaction(reaction)) => {
                known.insert((reaction.of, by), (with, reaction.reaction.to_owned()));
            }
            Ok(Body::Unsend(unsend)) => known.retain(|(of, _), _| *of != unsend.of),
            _ => {}
        }
    }
    known
}

/// Texts are numbered in the order in which they are written.
fn number_of_text(entry: &Entry) -> Option<u64> {
    let number = text_of(entry)?.strip_prefix('m')?;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

impl Oracle {
    /// Notes that something is wrong; the first such note counts.
    pub fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    /// Whether one of them has ever blocked the other: then not all that is written comes.
    #[must_use]
    pub fn are_estranged(&self, one: UserId, other: UserId) -> bool {
        self.estranged.contains(&(one, other)) || self.estranged.contains(&(other, one))
    }

    /// The last durable seq of everybody.
    #[must_use]
    pub fn heads(&self) -> BTreeMap<UserId, Seq> {
        self.durable.keys().copied().collect()
    }

    /// The last durable seq of a user.
    #[must_use]
    pub fn head_of(&self, user: UserId) -> Seq {
        let log = self.durable.range((user, Seq(0))..=(user, Seq(u64::MAX)));
        log.last().map(|((_, seq), _)| *seq).unwrap_or_default()
    }

    /// One of the last messages that a user has received: from whom, and where it stands.
    #[must_use]
    pub fn received(&self, user: UserId, which: u64) -> Option<(UserId, Seq)> {
        let log = self.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX))).rev();
        let mut messages = log.filter_map(|((_, seq), entry)| match entry.event {
            Event::Received { from, .. } if entry.place() == Some(*seq) => Some((from, *seq)),
            _ => None,
        });
        messages.nth((which % 4) as usize)
    }

    /// The entry that became durable under a number of a device.
    #[must_use]
    pub fn sent_as(&self, user: UserId, of: DeviceId, wanted: SendNumber) -> Option<&Entry> {
        let log = self.durable.range((user, Seq(0))..=(user, Seq(u64::MAX))).map(|(_, entry)| entry);
        let is_it = |entry: &&Entry| matches!(entry.event, Event::Sent { device, number, .. } if device == of && number == wanted);
        log.into_iter().find(is_it)
    }

    /// A frame leaves the server for `user`: what it shows must be durable (invariant (a), contract 5).
    pub fn leaves(&mut self, user: UserId, frame: &ServerFrame) {
        match frame {
            ServerFrame::Accepted { seq, durability, .. } => {
                let is_durable = self.durable.contains_key(&(user, *seq));
                if *durability < Durability::Local || !is_durable {
                    self.fail(|| format!("user {user}: seq {seq} is accepted and not durable"));
                }
            }
            ServerFrame::Deliver { entry } => self.shown(user, entry),
            ServerFrame::Page(page) => page.entries.iter().for_each(|entry| self.shown(user, entry)),
            _ => {}
        }
    }

    /// A level never goes down, in answers, welcomes and whatever else says one; and what an outage made less than committed is that
    /// when the store has it, which has the log up to `stored`, and not before.
    pub fn level(&mut self, user: UserId, frame: &ServerFrame, is_away: bool, stored: impl FnOnce() -> Seq) {
        let before = self.committed.get(&user).copied().unwrap_or_default();
        let committed = match *frame {
            ServerFrame::Accepted { seq, durability: Durability::Committed, .. } => seq.max(before),
            ServerFrame::Accepted { seq, .. } if seq <= before => {
                return self.fail(|| format!("user {user}: {seq} is not committed, and {before} was"));
            }
            ServerFrame::Accepted { seq, .. } => {
                self.local.extend(is_away.then_some((user, seq)));
                return;
            }
            ServerFrame::Welcome { committed: now, .. } | ServerFrame::Committed { up_to: now } if now < before => {
                return self.fail(|| format!("user {user}: {frame:?} takes back that {before} is committed"));
            }
            ServerFrame::Welcome { committed, .. } | ServerFrame::Committed { up_to: committed } => committed,
            _ => return,
        };
        let settled: Vec<_> = self.local.range((user, Seq::ZERO)..=(user, committed)).copied().collect();
        if let Some((_, last)) = settled.last()
            && *last > stored()
        {
            self.fail(|| format!("user {user}: {frame:?}, and {last} was less and is not in the store"));
        }
        self.local.retain(|told| !settled.contains(told));
        self.committed.insert(user, committed);
    }

    fn shown(&mut self, user: UserId, entry: &Entry) {
        if !self.durable.get(&(user, entry.seq)).is_some_and(|durable| is_same(durable, entry)) {
            self.fail(|| format!("user {user}: a device is shown {entry:?}, which is not durable"));
        }
    }

    /// A record became durable.
    pub fn learns(&mut self, record: &Record) {
        match record {
            Record::Append { user, entry, .. } => self.is_durable(*user, entry),
            Record::Rewrite { user, entry, of } => {
                self.superseded.extend(of.replaces.iter().map(|replaced| (*user, replaced.seq)));
                self.is_durable(*user, entry);
            }
            Record::GivenUp { user, device, number } => self.is_void(*user, *device, *number),
            Record::Cursor { user, device, seq } => drop(self.cursors.insert((*user, *device), *seq)),
            Record::Devices { user, notes } => drop(self.cursors.insert((*user, DeviceId(0)), notes.acknowledged)),
            Record::Notified { user, notified } => drop(self.notified.insert(*user, notified.up_to)),
            Record::Marks { .. }
            | Record::Epoch { .. }
            | Record::Removed { .. }
            | Record::GroupAppend { .. }
            | Record::GroupState { .. }
            | Record::GroupMember { .. }
            | Record::GroupCame { .. }
            | Record::GroupWants { .. }
            | Record::GroupMarks { .. }
            | Record::Subscribed { .. }
            | Record::Due { .. }
            | Record::LastSeen { .. } => {}
        }
    }

    /// Up to here a device of the user has acknowledged everything, and that is durable.
    #[must_use]
    pub fn acknowledged(&self, user: UserId) -> Seq {
        let cursors = self.cursors.range((user, DeviceId(0))..=(user, DeviceId(u64::MAX)));
        cursors.map(|(_, seq)| *seq).max().unwrap_or_default()
    }

    /// Whether an entry has been changed since.
    #[must_use]
    pub fn has_superseded(&self, user: UserId, seq: Seq) -> bool {
        self.superseded.contains(&(user, seq))
    }

    fn is_durable(&mut self, user: UserId, entry: &Entry) {
        match self.durable.get(&(user, entry.seq)) {
            Some(known) if known != entry => {
                let known = known.clone();
                self.fail(|| format!("user {user}: seq {} was {known:?} and became {entry:?}", entry.seq));
            }
            Some(_) => {}
            None => {
                if let Event::Sent { device, number, .. } = entry.event
                    && self.void.contains(&(user, device, number))
                {
                    self.fail(|| format!("user {user} device {device}: {entry:?} is of a number that was given up"));
                }
                if let Event::Delivered { peer, up_to } = entry.event {
                    self.check_delivered(user, peer, up_to);
                }
                self.durable.insert((user, entry.seq), entry.clone());
            }
        }
    }

    /// Somebody is told that devices of `peer` have everything up to `up_to`: each message of it was handed to one.
    fn check_delivered(&mut self, user: UserId, peer: UserId, up_to: Seq) {
        let log = self.durable.range((peer, Seq::ZERO)..=(peer, Seq(u64::MAX)));
        let missing = log.map(|(key, entry)| (*key, entry)).find(|(key, entry)| {
            matches!(entry.event, Event::Received { from, origin, .. } if from == user && origin <= up_to)
                && !self.superseded.contains(key)
                && !self.handed.contains(key)
        });
        if let Some((_, entry)) = missing {
            let entry = entry.clone();
            self.fail(|| {
                format!("user {user}: {peer} has everything up to {up_to}, and no device of it has {entry:?}")
            });
        }
    }

    /// A device goes on behind a gap: of what stands up to there it holds nothing for sure.
    pub fn skipped(&mut self, device: DeviceKey, up_to: Seq) {
        let kept = self.kept.entry(device).or_default();
        kept.entries.clear();
        kept.since = up_to;
    }

    /// That a number is given up became durable.
    pub fn is_void(&mut self, user: UserId, device: DeviceId, number: SendNumber) {
        if let Some(entry) = self.sent_as(user, device, number).cloned() {
            self.fail(|| format!("user {user} device {device}: {number} is given up, and stands for {entry:?}"));
        }
        self.void.insert((user, device, number));
    }

    /// A device's app hears that its message was cancelled.
    pub fn cancelled(&mut self, device: DeviceKey, text: &str) {
        match self.messages.get_mut(text) {
            Some(message) if message.from == device && message.accepted.is_none() => message.is_cancelled = true,
            known => {
                let known = known.cloned();
                self.fail(|| format!("{text} of {known:?} was cancelled in time, {device:?} is told"));
            }
        }
    }

    /// A device's app hears that its message was accepted.
    pub fn accepted(&mut self, device: DeviceKey, text: &str, seq: Seq) {
        let Some(message) = self.messages.get_mut(text) else {
            return self.fail(|| format!("{text} was accepted and never sent"));
        };
        if message.from != device || message.accepted.is_some_and(|known| known != seq) {
            let known = message.clone();
            return self.fail(|| format!("{text} of {known:?} was accepted as {seq} for {device:?}"));
        }
        message.accepted = Some(seq);
        let entry = self.durable.get(&(device.0, seq));
        if entry.and_then(text_of) != Some(text).filter(|_| !message.is_silent) {
            let entry = entry.cloned();
            self.fail(|| format!("{text} was accepted as {seq}, where there is {entry:?}"));
        }
    }

    /// A device's app is handed an entry.
    pub fn handed(&mut self, device: DeviceKey, entry: &Entry) {
        self.shown(device.0, entry);
        let kept = self.kept.entry(device).or_default();
        let last = kept.last_in_run;
        if entry.seq <= last {
            return self.fail(|| format!("{device:?}: {} was handed out after {last}", entry.seq));
        }
        kept.last_in_run = entry.seq;
        self.handed.insert((device.0, entry.seq));
        if let Event::Deleted { of, place, .. } = entry.event {
            let is_it = |known: &Entry| match &known.event {
                Event::Sent { content, .. } | Event::Received { content, .. } => {
                    known.place() == Some(place) || content.about().is_some_and(|(name, _)| name == of)
                }
                _ => false,
            };
            kept.entries.retain(|_, known| !is_it(known));
        }
        if let Some(place) = entry.place().filter(|place| *place != entry.seq) {
            kept.entries.retain(|_, known| known.place() != Some(place));
        }
        kept.entries.insert(entry.seq, entry.clone());
        let (mark, up_to) = match entry.event {
            Event::Delivered { peer, up_to } => (("delivered", peer), up_to),
            Event::Seen { peer, up_to } => (("seen", peer), up_to),
            Event::Read { conversation: ConversationId::Person(peer), up_to, .. } => (("read", peer), up_to),
            _ => return,
        };
        let known = kept.marks_in_run.insert(mark, up_to).unwrap_or_default();
        if up_to < known {
            self.fail(|| format!("{device:?}: {mark:?} went back from {known} to {up_to}"));
        }
    }

    /// A device's app starts anew; what it kept stays.
    pub fn app_started(&mut self, device: DeviceKey) {
        let kept = self.kept.entry(device).or_default();
        kept.last_in_run = Seq::ZERO;
        kept.marks_in_run.clear();
    }

    /// The logs after a restart: nothing that was durable has changed, nothing that was accepted is missing.
    pub fn restarted(&mut self, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>) {
        for (user, log) in logs {
            // What we took for durable must still be there, unless it has been superseded.
            for entry in log.values() {
                self.is_durable(*user, entry);
                if entry.concerns().is_some_and(|place| place < entry.seq) {
                    let before = self.durable.range((*user, Seq::ZERO)..(*user, entry.seq));
                    let gone = before.filter(|(_, known)| supersedes(entry, known)).map(|(key, _)| *key);
                    self.superseded.extend(gone.collect::<Vec<_>>());
                }
            }
        }
        let missing = self.durable.iter().find(|((user, seq), entry)| {
            text_of(entry).is_some()
                && !self.superseded.contains(&(*user, *seq))
                && !logs.get(user).is_some_and(|log| log.contains_key(seq))
        });
        if let Some(((user, seq), entry)) = missing {
            let sentence = format!("user {user}: seq {seq} was durable and is gone: {entry:?}");
            self.fail(|| sentence);
        }
    }

    /// The end, after healing: every accepted message is in both logs exactly once and in order, on every device, and
    /// reported as delivered.
    pub fn at_the_end(&mut self, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>, everybody: &BTreeSet<UserId>) {
        self.restarted(logs);
        let nobody = BTreeMap::new();
        let log_of = |user: &UserId| logs.get(user).unwrap_or(&nobody);
        // Each text at most once in a log; the recipient's order is the sender's.
        for (user, log) in logs {
            let mut seen = BTreeSet::new();
            for text in log.values().filter_map(text_of) {
                if !seen.insert(text) {
                    self.fail(|| format!("user {user}: {text} is in the log twice"));
                }
            }
        }
        let messages = self.messages.clone();
        for (text, message) in &messages {
            let sender = log_of(&message.from.0);
            let sent = sender.values().find(|entry| text_of(entry) == Some(text));
            let is_gone = |seq: &Seq| message.is_silent || self.superseded.contains(&(message.from.0, *seq));
            match (message.accepted, sent) {
                (Some(seq), None) if is_gone(&seq) => {}
                (Some(seq), Some(entry)) if entry.seq == seq => {}
                (Some(seq), other) => {
                    self.fail(|| format!("{text} was accepted as {seq} and is in its sender's log as {other:?}"));
                }
                (None, _) => {}
            }
            if message.is_cancelled && sent.is_some() {
                self.fail(|| format!("{text} was cancelled in time and is in its sender's log as {sent:?}"));
            }
            let received = log_of(&message.to).values().filter(|entry| text_of(entry) == Some(text)).count();
            // Its author may not have heard of it, and may have deleted it since.
            let accepted = message.accepted.or_else(|| self.written_as(message.from.0, text));
            let name = accepted.and_then(|seq| self.name_of(message.from.0, seq));
            let is_deleted = |by: UserId| name.is_some_and(|name| self.has_deleted(by, name));
            let is_there = match (is_deleted(message.from.0), is_deleted(message.to)) {
                (_, true) => false,
                // The other side keeps it.
                (true, false) => name.and_then(|name| self.last_text(name)) == Some(text),
                (false, false) => sent.is_some(),
            };
            // What was blocked was dropped, and what it changes stays.
            let may_be_dropped = received <= 1 && self.are_estranged(message.from.0, message.to);
            if received != usize::from(is_there) && !may_be_dropped {
                self.fail(|| format!("{text}: in the sender's log {}, in the recipient's {received}", sent.is_some()));
            }
        }
        self.check_marks(logs);
        for (user, log) in logs {
            self.check_order(*user, log, logs);
            let about_devices = log.values().filter(|entry| matches!(entry.event, Event::Devices { .. })).count();
            if about_devices > 1 {
                self.fail(|| format!("user {user}: {about_devices} entries about devices are in the log"));
            }
            self.check_receipts(*user, log, everybody, logs);
            self.check_reactions(*user, log, logs);
        }
        for ((user, device), kept) in &self.kept.clone() {
            let on_device: Vec<_> = kept.entries.values().filter_map(text_of).collect();
            let log: BTreeMap<Seq, Entry> = log_of(user).clone().split_off(&kept.since.next());
            let in_log: Vec<_> = log.values().filter_map(text_of).collect();
            if on_device != in_log {
                let missing: Vec<_> = in_log.iter().filter(|text| !on_device.contains(text)).collect();
                self.fail(|| format!("user {user} device {device}: missing {missing:?}"));
            }
            let (of_device, of_log) = (reactions(*user, &kept.entries), reactions(*user, &log));
            if of_device != of_log {
                self.fail(|| format!("user {user} device {device}: reactions are {of_device:?}, not {of_log:?}"));
            }
        }
    }

    /// The machine's clock was wrong by this at a start, or for so long that it had to be believed.
    pub fn clock_may_be_wrong_by(&mut self, wrong_ms: i64) {
        self.clock_wrong_ms = self.clock_wrong_ms.max(wrong_ms.unsigned_abs());
    }

    /// No entry is of a time that the clock had for a moment only, and times stand still rather than go back a little.
    pub fn check_times(
        &mut self,
        logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>,
        (first, last): (TimestampMs, TimestampMs),
    ) {
        let slack_ms = self.clock_wrong_ms + CLOCK_LEAP_MS;
        for (user, log) in logs {
            let mut before = TimestampMs(0);
            for entry in log.values() {
                if entry.time.0 + slack_ms < first.0 || entry.time.0 > last.0 + slack_ms {
                    self.fail(|| {
                        format!("user {user}: {entry:?} is of a wrong time, {slack_ms} ms at most are excused")
                    });
                }
                if (1..=CLOCK_LEAP_MS).contains(&before.0.saturating_sub(entry.time.0)) {
                    self.fail(|| {
                        format!("user {user}: {entry:?} is a little earlier than what was before it, {before}")
                    });
                }
                before = entry.time;
            }
        }
    }

    fn check_order(&mut self, user: UserId, log: &BTreeMap<Seq, Entry>, logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>) {
        let mut last_of: BTreeMap<UserId, Seq> = BTreeMap::new();
        let mut last_number = BTreeMap::new();
        let mut last_text = BTreeMap::new();
        for entry in log.values() {
            match &entry.event {
                Event::Received { from, origin, content } => {
                    if last_of.insert(*from, *origin) >= Some(*origin) {
                        self.fail(|| format!("user {user}: {origin} of {from} came after a later one"));
                    }
                    let sent = logs.get(from).and_then(|log| log.get(origin));
                    let name = content.about().map_or(MessageName { author: *from, seq: *origin }, |(name, _)| name);
                    if sent.is_none() && (self.has_deleted(*from, name) || self.are_estranged(user, *from)) {
                        continue;
                    }
                    if sent.and_then(said) != Some(content.standing(None)) {
                        self.fail(|| format!("user {user}: {entry:?} is {sent:?} in the sender's log"));
                    }
                }
                Event::Sent { to, device, number, .. } => {
                    let last = last_number.insert(*device, number.0).unwrap_or_default();
                    // Sends that were superseded have left the log.
                    let gone = self.superseded.range((user, Seq::ZERO)..=(user, entry.seq)).count() as u64;
                    let is_void = |between: &u64| self.void.contains(&(user, *device, SendNumber(*between)));
                    let void = (last + 1..number.0).filter(is_void).count() as u64;
                    if number.0 <= last || number.0 > last + 1 + gone + void {
                        self.fail(|| format!("user {user} device {device}: number {number} follows {last}"));
                    }
                    // What takes a message back has no text.
                    if let Some(text) = number_of_text(entry) {
                        let last = last_text.insert((*device, *to), text).unwrap_or_default();
                        if text <= last {
                            self.fail(|| format!("user {user} device {device}: m{text} to {to} follows m{last}"));
                        }
                    }
                }
                Event::Delivered { .. }
                | Event::Deleted { .. }
                | Event::Devices { .. }
                | Event::Read { .. }
                | Event::Seen { .. }
                | Event::Settings { .. }
                | Event::Visibility { .. }
                | Event::Group { .. }
                | Event::GroupRefused { .. }
                | Event::Unknown { .. } => {}
            }
        }
    }

    /// Where a user has said this, whatever has become of it.
    fn written_as(&self, user: UserId, text: &str) -> Option<Seq> {
        let mut log = self.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX)));
        let is_it = |entry: &Entry| matches!(entry.event, Event::Sent { .. }) && text_of(entry) == Some(text);
        log.find(|(_, entry)| is_it(entry)).map(|((_, seq), _)| *seq)
    }

    /// The name of a message of `user`'s, by a send that is it, or changes it.
    fn name_of(&self, user: UserId, seq: Seq) -> Option<MessageName> {
        let Event::Sent { content, .. } = &self.durable.get(&(user, seq))?.event else { return None };
        Some(content.about().map_or(MessageName { author: user, seq }, |(name, _)| name))
    }

    /// Whether a user has deleted a message for themselves.
    pub fn has_deleted(&self, user: UserId, name: MessageName) -> bool {
        let log = self.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX)));
        log.into_iter().any(|(_, entry)| matches!(entry.event, Event::Deleted { of, .. } if of == name))
    }

    /// Whether a user has deleted the message that stood there.
    #[must_use]
    pub fn is_deleted_at(&self, user: UserId, at: Seq) -> bool {
        let log = self.durable.range((user, at)..=(user, Seq(u64::MAX)));
        log.into_iter().any(|(_, entry)| matches!(entry.event, Event::Deleted { place, .. } if place == at))
    }

    /// What its author has said last in a message.
    fn last_text(&self, name: MessageName) -> Option<&str> {
        let log = self.durable.range((name.author, Seq::ZERO)..=(name.author, Seq(u64::MAX)));
        let mut said = log.filter(|(_, entry)| entry.place() == Some(name.seq)).map(|(_, entry)| entry);
        said.next_back().and_then(text_of)
    }

    /// Both sides of a conversation know the same reactions, and of each user one to a message.
    fn check_reactions(
        &mut self,
        user: UserId,
        log: &BTreeMap<Seq, Entry>,
        logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>,
    ) {
        let here = reactions(user, log);
        let count = log.values().filter(|entry| entry.is_reaction()).count();
        if count != here.len() {
            self.fail(|| format!("user {user}: {count} reactions in the log, of which {here:?} count"));
        }
        for peer in logs.keys().filter(|peer| **peer != user) {
            if self.are_estranged(user, *peer) {
                continue;
            }
            let of = |whose, with: UserId, log| {
                let all = reactions(whose, log).into_iter();
                all.filter(move |(_, (conversation, _))| *conversation == with.into())
                    .map(|(key, (_, said))| (key, said))
            };
            let mut here: BTreeMap<_, _> = of(user, *peer, log).collect();
            let mut there: BTreeMap<_, _> = of(*peer, user, &logs[peer]).collect();
            // To an own message that went out as its change alone: the reaction may have come before that, and found no message.
            let may_be_lost = |(name, who): &(MessageName, UserId)| {
                let other = if *who == user { *peer } else { user };
                let of_other = self.durable.range((other, Seq::ZERO)..=(other, Seq(u64::MAX)));
                let is_it = |event: &Event| matches!(event, Event::Received { from, origin, .. } if from == who && *origin == name.seq);
                name.author == *who && !of_other.map(|(_, entry)| &entry.event).any(is_it)
            };
            let is_deleted = |name| self.has_deleted(user, name) || self.has_deleted(*peer, name);
            here.retain(|key, _| !may_be_lost(key) && !is_deleted(key.0));
            there.retain(|key, _| !may_be_lost(key) && !is_deleted(key.0));
            if here != there {
                self.fail(|| format!("user {user} knows the reactions {here:?}, and {peer} knows {there:?}"));
            }
        }
    }

    fn check_receipts(
        &mut self,
        user: UserId,
        log: &BTreeMap<Seq, Entry>,
        everybody: &BTreeSet<UserId>,
        logs: &BTreeMap<UserId, BTreeMap<Seq, Entry>>,
    ) {
        let mut sent: BTreeMap<UserId, Seq> = BTreeMap::new();
        let mut delivered: BTreeMap<UserId, Seq> = BTreeMap::new();
        for entry in log.values() {
            match entry.event {
                Event::Sent { to: ConversationId::Person(to), .. } if to != user && everybody.contains(&to) => {
                    sent.insert(to, entry.seq);
                }
                Event::Delivered { peer, up_to } => {
                    let older = delivered.insert(peer, up_to);
                    if older.is_some() {
                        self.fail(|| format!("user {user}: two receipts of {peer} in the log"));
                    }
                }
                _ => {}
            }
        }
        for (peer, seq) in sent {
            if self.is_strict || self.hides.contains(&peer) || self.are_estranged(user, peer) {
                // They may not have been told that a device is there.
                continue;
            }
            let told = logs.get(&peer).into_iter().flat_map(|log| log.values());
            let has = |entry: &Entry| matches!(entry.event, Event::Received { from, origin, .. } if from == user && origin == seq);
            if !told.into_iter().any(has) {
                // It was deleted there, or what it is about.
                continue;
            }
            // A reaction that was told of and went with its message was later than what is left.
            let gone = |known: &Seq| *known > seq && self.superseded.contains(&(user, *known));
            if !delivered.get(&peer).is_some_and(|known| *known == seq || gone(known)) {
                let known = delivered.get(&peer).copied();
                self.fail(|| format!("user {user}: {peer} has everything up to {seq}, the receipt says {known:?}"));
            }
        }
    }
}
