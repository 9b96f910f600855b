//! Home: the groups whose home is this shard, the only writer of their logs. What is sent to a group is judged, numbered and appended
//! here, in the order in which it comes; when it is durable its author is answered, and the cores that follow are told.
//!
//! Invariants: seqs of a group count up by one; an entry, its rows and its record are of one batch; what comes of an author is not above
//! the watermark twice; nothing is pushed before it is durable.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use foldhash::fast::RandomState;
use proto_spec::{Act, Body, Content, ErrorCode, GroupEntry, GroupId, Seq, TimestampMs, UserId};
use storage::{BatchId, CameRow, GroupMarks, GroupMessage, GroupRewrite, GroupSnapshot, Record, Shown, group::beside};

use super::{
    GroupMail, GroupSaid,
    changes::{Search, Sent, change},
    telling::Telling,
};
use crate::{
    group::{
        rights::{self, Taken},
        roll::Roll,
    },
    host::timekeeper::time_after,
    limits::ON_THE_WAY_MAX,
    shard::{
        Promise, Shard, Turn,
        input::{Envelope, EnvelopeBody, GroupStanding},
        ledger::{OnceStored, Parked},
        outgoing::Outgoing,
        presence::CoreAddress,
        topology::Home,
    },
};

/// A group that is loaded.
#[derive(Debug)]
pub(in crate::shard) struct Group {
    pub(super) book: rights::Group,
    pub(super) head: Seq,
    head_time: TimestampMs,
    pub(super) messages: u64,
    /// Everything up to here is durable at the level that others are told of.
    pub(super) released: Seq,
    /// Everything up to here is in the store and nowhere else.
    pub(super) stored: Seq,
    /// What is not in the store yet, by ascending seq.
    pub(super) tail: VecDeque<TailEntry>,
    /// Of each author what has come.
    came: HashMap<UserId, CameRow, RandomState>,
    /// Whose homes are to be told how they stand.
    pub(super) owed: Outgoing,
    pub(super) marks: GroupMarks,
    pub(super) marks_written: GroupMarks,
    /// A restart would look at this group.
    pub(super) unfinished: bool,
    /// The cores that are told what happens.
    followers: Vec<CoreAddress>,
    /// Members who are to be notified.
    pub(super) telling: Telling,
    /// Of messages that entries in the tail have changed: the last of these, and which entries tell of the message.
    pub(super) shown: BTreeMap<Seq, (Seq, Shown)>,
    /// What entries in the tail have superseded that was in the store already, with these.
    gone: Vec<(Seq, Seq)>,
    /// Questions about it that are under way.
    pub(super) held: u32,
    /// Answers that wait until what they say is durable: at most [`GROUP_UNTOLD_MAX`](crate::limits::GROUP_UNTOLD_MAX).
    pub(super) untold: usize,
    /// Is in the shard's list of groups to flush.
    dirty: bool,
    /// The last batch that changed it.
    pub(super) changed_in: BatchId,
}

/// An entry that may not be in the store yet.
#[derive(Debug)]
pub(super) struct TailEntry {
    pub(super) entry: Arc<GroupEntry>,
    batch: BatchId,
    /// The entry that supersedes it, if there is one.
    gone: Option<Seq>,
}

impl Group {
    pub(super) fn load(snapshot: GroupSnapshot) -> Self {
        let (head, head_time) = (snapshot.head(), snapshot.head_time());
        let mut group = Self {
            head,
            head_time,
            messages: snapshot.last.as_ref().map_or(0, |last| last.messages),
            released: head,
            stored: head,
            tail: VecDeque::new(),
            shown: BTreeMap::new(),
            gone: Vec::new(),
            came: snapshot.came.into_iter().collect(),
            owed: Outgoing::default(),
            marks: snapshot.marks,
            marks_written: snapshot.marks,
            unfinished: snapshot.unfinished,
            followers: Vec::new(),
            telling: Telling::load(snapshot.wants, head, snapshot.unfinished),
            held: 0,
            untold: 0,
            dirty: false,
            changed_in: BatchId(0),
            book: rights::Group { state: snapshot.state, roll: Roll::new(snapshot.roll) },
        };
        if snapshot.unfinished {
            group.owed = Outgoing::from_log(snapshot.marks.told.next());
        }
        group
    }

    /// Whether it may be forgotten: the store has everything, nobody follows it, nothing is asked of it and nothing is owed.
    pub(super) fn is_unused(&self, ingested: BatchId) -> bool {
        self.followers.is_empty()
            && self.changed_in <= ingested
            && self.tail.is_empty()
            && self.held == 0
            && !self.dirty
            && !self.unfinished
            && !self.owed.is_open()
            && !self.telling.is_open()
    }

    /// How a user stands to it, in a log that ends at `head`; none: something behind that has changed it since.
    pub(super) fn standing(&self, user: UserId, head: Seq) -> Option<GroupStanding> {
        let Some(row) = self.book.roll.row(user) else { return Some(GroupStanding::default()) };
        let (first, up_to) = Roll::readable(row, head);
        (row.since <= head).then_some(GroupStanding { standing: row.standing, first, up_to })
    }

    /// How its last entry has it that a user stands to it.
    fn standing_now(&self, user: UserId) -> GroupStanding {
        self.standing(user, self.head).unwrap_or_default()
    }

    /// Forgets what is in the store since `ingested`.
    pub(in crate::shard) fn trim(&mut self, ingested: BatchId) {
        while self.tail.front().is_some_and(|tail| tail.batch <= ingested)
            && let Some(TailEntry { entry, gone, .. }) = self.tail.pop_front()
        {
            self.stored = entry.seq;
            // The store tells of it until it has what superseded it.
            self.gone.extend(gone.map(|at| (entry.seq, at)));
        }
        if self.tail.is_empty() {
            self.tail.shrink_to(0);
        }
        if self.held == 0 {
            // What was read is told without these.
            let stored = self.stored;
            self.shown.retain(|_, (at, _)| *at > stored);
            self.gone.retain(|(_, at)| *at > stored);
        }
        assert!(
            self.stored <= self.released && self.released <= self.head,
            "a group's log is released and stored in its order"
        );
    }

    /// An entry takes the place of others.
    fn supersede(&mut self, of: GroupRewrite, at: Seq) {
        let begin = self.tail.front().map_or(self.head, |tail| tail.entry.seq);
        for seq in of.replaces {
            match seq.0.checked_sub(begin.0).and_then(|place| self.tail.get_mut(place as usize)) {
                Some(tail) => tail.gone = Some(at),
                None => self.gone.push((seq, at)),
            }
        }
        self.shown.insert(of.place, (at, of.now));
    }

    /// The entry of the tail at `seq`, whatever has superseded it.
    pub(super) fn tail_entry(&self, seq: Seq) -> Option<&Arc<GroupEntry>> {
        let begin = self.tail.front()?.entry.seq;
        self.tail.get(seq.0.checked_sub(begin.0)? as usize).map(|tail| &tail.entry)
    }

    /// What was read of the log, without what has been superseded since, as far as that is released or stands up to `told`.
    pub(super) fn drop_superseded(&self, entries: &mut Vec<GroupEntry>, told: Seq) {
        if !self.gone.is_empty() {
            let told = told.max(self.released);
            let is_gone = |seq: Seq| self.gone.iter().any(|(gone, at)| *gone == seq && *at <= told);
            entries.retain(|entry| !is_gone(entry.seq));
        }
    }

    /// The entries of the tail from `first` to `last` that have not been superseded, as far as that is released or stands up to `told`.
    pub(super) fn tail_range(
        &self,
        (first, last): (Seq, Seq),
        told: Seq,
    ) -> impl DoubleEndedIterator<Item = &Arc<GroupEntry>> {
        let begin = self.tail.front().map_or(Seq::ZERO, |tail| tail.entry.seq);
        let place = |seq: Seq| (seq.0.saturating_sub(begin.0) as usize).min(self.tail.len());
        let first = place(first);
        let range = self.tail.range(first..place(last.next()).max(first));
        let told = told.max(self.released);
        range.filter(move |tail| tail.gone.is_none_or(|at| at > told)).map(|tail| &tail.entry)
    }

    fn advance_marks(&mut self) {
        self.marks.told = self.marks.told.max(self.owed.confirmed_up_to(self.head));
    }

    pub(super) fn follows(&mut self, core: CoreAddress) {
        if !self.followers.contains(&core) {
            self.followers.push(core);
        }
    }

    /// The cores that are told what happens.
    pub(super) fn followers(&self) -> Vec<CoreAddress> {
        self.followers.clone()
    }

    /// Whether that has changed anything.
    pub(super) fn unfollows(&mut self, is_meant: impl Fn(CoreAddress) -> bool) -> bool {
        let before = self.followers.len();
        self.followers.retain(|core| !is_meant(*core));
        self.followers.len() < before
    }
}

/// Whose standing an entry changes, if it changes one's.
pub(super) fn concerns(from: UserId, content: &Content) -> Option<UserId> {
    match content.body() {
        Ok(Body::Act(Act::Create { .. } | Act::Join { .. })) => Some(from),
        Ok(Body::Act(Act::Add { user } | Act::Remove { user } | Act::Ban { user } | Act::Unban { user })) => Some(user),
        _ => None,
    }
}

/// What is left of something that was refused stays until its author's home can not ask for it any more: so many are on the way.
fn refuse(came: &mut CameRow, origin: Seq, code: ErrorCode) {
    came.up_to = origin;
    if came.refused.len() == ON_THE_WAY_MAX {
        came.refused.remove(0);
    }
    came.refused.push((origin, code));
}

impl Shard {
    /// Something that was sent to a group whose home is here. Exactly once: what is not above the watermark came before. `found`: the message
    /// that it is about, once that has been looked for in the store.
    pub(super) fn group_sent(&mut self, sent: &Sent, found: Option<Option<GroupMessage>>, cx: &mut Turn<'_>) {
        let &Sent { group: group_id, from, places: (origin, after), ref content } = sent;
        let at = self.lane_of(beside(group_id));
        self.cut_batch_if_full(at, cx);
        let members_max = self.settings.limits.group_members;
        let Some(group) = self.groups.resident(group_id) else { return };
        let answer = |body| Envelope { to: from, from: beside(group_id), body };
        let up_to = group.came.get(&from).map(|came| came.up_to).unwrap_or_default();
        if origin <= up_to {
            self.counters.duplicates += 1;
            let refused = group
                .came
                .get(&from)
                .and_then(|came| came.refused.iter().find(|(refused, _)| *refused == origin).map(|(_, code)| *code));
            let body = match refused {
                Some(code) => EnvelopeBody::NotPlaced { origin, code },
                None => EnvelopeBody::Placed { origin, standing: group.standing_now(from) },
            };
            let changed_in = group.changed_in;
            return self.answer_once_durable(at, changed_in, answer(body), cx);
        }
        if after > up_to {
            // The one before was put off: this one must not overtake it.
            return self.post(answer(EnvelopeBody::GroupPutOff { origin }), cx);
        }
        let seq = group.head.next();
        let judged = group.book.judge(from, content, seq, members_max);
        let judged = match (judged, content.about()) {
            (Ok(taken), Some((name, _))) => match found.map_or_else(|| group.search(group_id, name), Search::Done) {
                Search::Done(message) => change(group, from, content, message, seq, &self.settings.limits, cx.now.wall)
                    .map(|(content, of)| (Taken { content, ..taken }, Some(of))),
                Search::InStore(query) => {
                    let sent = Sent { group: group_id, from, places: (origin, after), content: content.clone() };
                    return self.look_for_message(sent, query, cx);
                }
            },
            (judged, _) => judged.map(|taken| (taken, None)),
        };
        let filling = self.lanes[at].filling();
        self.lanes[at].change_group(group_id, &mut group.changed_in);
        let batch = &mut cx.effects.filling[at].batch;
        let came = group.came.entry(from).or_default();
        let (taken, of) = match judged {
            Ok(judged) => judged,
            Err(code) => {
                refuse(came, origin, code);
                batch.push(&Record::GroupCame { group: group_id, from, row: came.clone() });
                let body = EnvelopeBody::NotPlaced { origin, code };
                return self.answer_once_durable(at, filling, answer(body), cx);
            }
        };
        came.up_to = origin;
        let came = (!came.refused.is_empty()).then(|| came.clone());
        self.number_in_group(group_id, (from, origin), taken, of, cx);
        if let Some(row) = came {
            // The entry's own record says that it has come, and nothing of these.
            cx.effects.filling[at].batch.push(&Record::GroupCame { group: group_id, from, row });
        }
    }

    /// Something that is taken is an entry from now on. An origin of zero: its author has not sent it, and nobody waits for an answer.
    fn number_in_group(
        &mut self,
        group_id: GroupId,
        (from, origin): (UserId, Seq),
        taken: Taken,
        of: Option<GroupRewrite>,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(beside(group_id));
        let Some(group) = self.groups.resident(group_id) else { return };
        let filling = self.lanes[at].filling();
        let batch = &mut cx.effects.filling[at].batch;
        let seq = group.head.next();
        group.messages += u64::from(taken.content.is_message());
        let time = time_after(group.head_time, cx.now.wall);
        let messages = group.messages;
        let entry = Arc::new(GroupEntry { seq, time, from, origin, messages, content: taken.content.clone() });
        batch.group_append(group_id, &entry, of.as_ref());
        group.book.apply(&taken);
        for (user, row) in taken.rows {
            batch.push(&Record::GroupMember { group: group_id, user, row });
        }
        if let Some(state) = taken.state {
            batch.push(&Record::GroupState { group: group_id, state });
        }
        (group.head, group.head_time) = (seq, time);
        let is_message = entry.content.is_message();
        group.tail.push_back(TailEntry { entry, batch: filling, gone: None });
        if let Some(of) = of {
            group.supersede(of, seq);
        }
        if let Some(user) = taken.concerns {
            group.unfinished = true;
            group.owed.take(seq, user.into());
            self.owing_groups.insert(group_id);
        }
        let standing = group.standing_now(from);
        if is_message {
            self.message_numbered(group_id, from, cx);
        }
        self.counters.entries += 1;
        let answer = (origin > Seq::ZERO).then(|| {
            let body = EnvelopeBody::Placed { origin, standing };
            Envelope { to: from, from: beside(group_id), body }
        });
        if self.settings.promise == Promise::Store {
            self.lanes[at].park_until_stored(OnceStored::Group { group: group_id, seq, answer });
        } else {
            self.lanes[at].park(Parked::Group { group: group_id, seq, answer });
        }
    }

    /// The home of a user who was added with the entry `at` says that they are to be no member: they leave.
    pub(super) fn declined(&mut self, id: GroupId, user: UserId, (at, reads): (Seq, (Seq, Seq)), cx: &mut Turn<'_>) {
        loop {
            let lane = self.lane_of(beside(id));
            self.cut_batch_if_full(lane, cx);
            let Some(group) = self.groups.resident(id) else { return };
            let Some(taken) = group.book.decline(user, (at, reads), group.head.next()) else { break };
            // That they have come is not told any more, in the batch that says so.
            group.owed.confirm(at, user.into());
            self.lanes[lane].change_group(id, &mut group.changed_in);
            self.number_in_group(id, (user, Seq::ZERO), taken, None, cx);
        }
        self.stood(id, user, at, cx);
    }

    /// A member lets others know how far they have read. Of who is none it is not kept; it has come in either case.
    pub(super) fn group_read(
        &mut self,
        id: GroupId,
        from: UserId,
        (origin, after): (Seq, Seq),
        up_to: Seq,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(beside(id));
        self.cut_batch_if_full(at, cx);
        let Some(group) = self.groups.resident(id) else { return };
        let answer = |body| Envelope { to: from, from: beside(id), body };
        let came = group.came.entry(from).or_default();
        if after > came.up_to {
            return self.post(answer(EnvelopeBody::GroupPutOff { origin }), cx);
        }
        if origin > came.up_to {
            came.up_to = origin;
            let batch = &mut cx.effects.filling[at].batch;
            batch.push(&Record::GroupCame { group: id, from, row: came.clone() });
            let row = group.book.roll.member(from).and_then(|row| Roll::having_read(row, up_to, group.head));
            if let Some(row) = row {
                batch.push(&Record::GroupMember { group: id, user: from, row: row.clone() });
                group.book.roll.set(from, row);
            }
            self.lanes[at].change_group(id, &mut group.changed_in);
        }
        let changed_in = group.changed_in;
        self.answer_once_durable(at, changed_in, answer(EnvelopeBody::GroupReadTaken { origin }), cx);
    }

    /// An entry of a group is durable: the author is answered, whoever's standing it changes is told, and the cores that follow.
    pub(in crate::shard) fn group_released(
        &mut self,
        id: GroupId,
        seq: Seq,
        answer: Option<Envelope>,
        cx: &mut Turn<'_>,
    ) {
        if let Some(answer) = answer {
            self.post(answer, cx);
        }
        let Some(group) = self.groups.resident(id) else {
            unreachable!("a group with entries that are not ingested is not forgotten");
        };
        assert!(group.released < seq, "an entry is released once, in its order");
        group.released = seq;
        let Some(entry) = group.tail_entry(seq).map(Arc::clone) else {
            unreachable!("an entry leaves the tail after its release")
        };
        if group.owed.is_on_the_way(seq)
            && let Some(user) = concerns(entry.from, &entry.content)
        {
            self.tell_standing(id, user, (seq, entry.from), cx);
        }
        let Some(group) = self.groups.resident(id) else { return };
        for core in group.followers() {
            self.group_mail_to(core, id, GroupSaid::Pushed(Arc::clone(&entry)), cx);
        }
        if entry.content.is_message() {
            self.message_released(id, &entry, cx);
        }
        if entry_owes(&entry) {
            self.mark_group_dirty(id, cx);
        }
    }

    /// Tells the home of a user how they stand to the group, on account of the entry `at` of `by`. If something has changed it again, that is
    /// told instead, when it is durable.
    pub(super) fn tell_standing(&mut self, id: GroupId, user: UserId, (at, by): (Seq, UserId), cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        let is_last = group.book.roll.row(user).is_none_or(|row| row.since <= at);
        match group.standing(user, group.released).filter(|_| is_last) {
            Some(standing) => {
                let body = EnvelopeBody::Stand { at, by, standing };
                self.post(Envelope { to: user, from: beside(id), body }, cx);
            }
            None => group.owed.forgo(at),
        }
    }

    /// Says something to a core about a group whose home is here.
    pub(super) fn group_mail_to(&mut self, core: CoreAddress, group: GroupId, said: GroupSaid, cx: &mut Turn<'_>) {
        let mail = Box::new(GroupMail { group, core, said });
        let own = self.address();
        if core == own {
            self.local_groups.push_back(mail);
        } else if core.node == own.node {
            cx.effects.groups.push((Home::Here(core.core), mail));
        } else if self.elsewhere.reaches(core.node) {
            cx.effects.groups.push((Home::Elsewhere(core.node), mail));
        }
    }

    /// Puts a group on the list of those whose duties are to be looked at.
    pub(super) fn mark_group_dirty(&mut self, id: GroupId, cx: &Turn<'_>) {
        if let Some(group) = self.groups.resident(id)
            && !std::mem::replace(&mut group.dirty, true)
        {
            self.dirty_groups.push(cx.now.monotonic_ms, id);
        }
    }

    /// Goes on with what a group owes, and writes how far that is.
    pub(super) fn flush_group(&mut self, id: GroupId, cx: &mut Turn<'_>) {
        let at = self.lane_of(beside(id));
        self.cut_batch_if_full(at, cx);
        let Some(group) = self.groups.resident(id) else { return };
        group.dirty = false;
        self.owe_from_log(id, cx);
        let Some(group) = self.groups.resident(id) else { return };
        group.advance_marks();
        let idle = !group.owed.is_open() && !group.telling.is_open();
        if idle {
            self.owing_groups.remove(&id);
        } else {
            self.owing_groups.insert(id);
        }
        if group.unfinished && (idle || group.marks != group.marks_written) {
            group.unfinished = !idle;
            group.marks_written = group.marks;
            let record = Record::GroupMarks { group: id, marks: group.marks, idle };
            cx.effects.filling[at].batch.push(&record);
            self.lanes[at].change_group(id, &mut group.changed_in);
        }
        self.forget_group_if_unused(id);
    }

    /// Forgets a group that nobody needs.
    pub(in crate::shard) fn forget_group_if_unused(&mut self, id: GroupId) {
        let ingested = self.lanes[self.lane_of(beside(id))].ingested();
        self.groups.forget_if(id, |group| group.is_unused(ingested));
    }
}

fn entry_owes(entry: &GroupEntry) -> bool {
    concerns(entry.from, &entry.content).is_some()
}
