//! Pages: what the home of a group tells of it, to who may know. Whoever is, or was, a member may read what was said while they were
//! one, and what was before if the rules said so. Anybody else gets the answer that they get of a group that there is not.

use proto_spec::{
    Direction, ErrorCode, GroupEntry, GroupId, GroupRow, RequestId, Rules, Seq, Settings, UserId, digest,
    limits::{MEMBERS_PAGE_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, UNREAD_MAX},
};
use storage::{GroupEntries, Query, Span, group::beside};

use super::{AskId, GroupMail, GroupSaid, GroupTold, GroupWish};
use crate::{
    group::roll::Roll,
    limits::{DIGEST_PIECE_BYTES, DIGEST_PIECE_ENTRIES, GROUP_LAST_SCAN, GROUP_UNTOLD_MAX},
    shard::{
        Promise, Shard, Turn,
        digest::Digesting,
        inbox::shorten,
        ledger::{OnceStored, Parked},
        presence::CoreAddress,
        question::Question,
        user::Room,
    },
};

/// A page in the making.
#[derive(Debug)]
pub(in crate::shard) struct PageFetch {
    core: CoreAddress,
    ask: AskId,
    /// What is to be told: a page of these, or what a list shows, with the last message of them.
    what: What,
    /// The part of the log.
    first: Seq,
    last: Seq,
    direction: Direction,
    /// There is more behind this part.
    more: bool,
    /// The roll by which that is told is of this entry.
    at: Seq,
    head: Seq,
    entries_max: usize,
    bytes_max: usize,
    /// What there is already, in the direction of reading.
    entries: Vec<GroupEntry>,
}

#[derive(Debug)]
enum What {
    /// What this user may read by their row of this entry, and what exactly they asked for.
    Page { user: UserId, since: Seq, wish: GroupWish },
    /// As a page, but its digests.
    Digests {
        user: UserId,
        since: Seq,
        wish: GroupWish,
        digesting: Digesting,
        /// Up to where, through all parts of the log that the user may read.
        up_to: Seq,
    },
    /// What a list shows; with a read mark: and how much stands above it.
    Row { row: Box<GroupRow>, read: Option<Seq> },
    /// As that: what stands at the mark, or comes next, is being looked for, to be taken from all that there is.
    Unread { row: Box<GroupRow>, read: Seq },
}

/// Bytes of an entry's header in a page: its length (3), five varints of ten, the content's kind and length (4).
const ENTRY_HEADER_BYTES_MAX: usize = 64;

fn wire_bytes(entry: &GroupEntry) -> usize {
    ENTRY_HEADER_BYTES_MAX + entry.content.parts().1.len()
}

/// How many messages the log had up to a mark, as the first entry says that is not before it. What stood between these two and is superseded
/// counts as before the mark.
fn up_to_mark(read: Seq) -> impl Fn(&GroupEntry) -> u64 {
    move |entry| entry.messages - u64::from(entry.seq > read && entry.content.is_message())
}

impl PageFetch {
    /// Of this part of a log, by the roll as it is at `at`, which lets the user read up to `head`.
    fn of(
        (core, ask): (CoreAddress, AskId),
        what: What,
        (first, last): (Seq, Seq),
        direction: Direction,
        (at, head): (Seq, Seq),
        entries_max: usize,
    ) -> Self {
        let (more, bytes_max, entries) = (false, PAGE_BYTES_MAX, Vec::new());
        Self { core, ask, what, first, last, direction, more, at, head, entries_max, bytes_max, entries }
    }

    /// Takes what was read of a part, in the direction of reading. Whether there is room for more.
    fn take(&mut self, entries: impl IntoIterator<Item = GroupEntry>) -> bool {
        for entry in entries {
            let bytes = wire_bytes(&entry);
            if !self.entries.is_empty() && (self.entries.len() == self.entries_max || bytes > self.bytes_max) {
                return false;
            }
            self.bytes_max = self.bytes_max.saturating_sub(bytes);
            self.entries.push(entry);
        }
        self.entries.len() < self.entries_max
    }

    /// The part that has not been read, if there is one.
    fn rest(&self, covered: Seq) -> Option<(Seq, Seq)> {
        let (first, last) = match self.direction {
            Direction::Forwards => (covered.next(), self.last),
            Direction::Backwards => (self.first, covered.previous()),
        };
        (first <= last && first > Seq::ZERO).then_some((first, last))
    }
}

impl Shard {
    /// Somebody asks something of a group whose home is here.
    pub(super) fn group_asked(
        &mut self,
        id: GroupId,
        (core, ask): (CoreAddress, AskId),
        user: UserId,
        wish: GroupWish,
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        let Some(row) = group.book.roll.row(user) else {
            return self.tell_asker(id, (core, ask), Err(ErrorCode::NoSuchGroup), cx);
        };
        // Who has just come, or gone, is told so once that holds.
        let at = group.released.max(row.since);
        let (_, head) = Roll::readable(row, at);
        match wish {
            GroupWish::Page { from, direction, limit } => {
                let Some(((first, last), more)) = Roll::clip(row, from, direction, at) else {
                    let edge = match direction {
                        Direction::Forwards => from.max(Seq(1)),
                        Direction::Backwards => Seq(1),
                    };
                    let (first, last, more, entries) = (edge, edge.previous(), false, Vec::new());
                    let told = GroupTold::Page { first, last, more, head, entries };
                    return self.tell_asker_of(id, at, (core, ask), Ok(told), cx);
                };
                let what = What::Page { user, since: row.since, wish };
                let entries_max = limit.clamp(1, PAGE_ENTRIES_MAX) as usize;
                let fetch = PageFetch::of((core, ask), what, (first, last), direction, (at, head), entries_max);
                self.read_all(id, PageFetch { more, ..fetch }, cx);
            }
            GroupWish::Members { after, limit, seq } => {
                if group.book.roll.member(user).is_none() {
                    return self.tell_asker_of(id, at, (core, ask), Err(ErrorCode::NoSuchGroup), cx);
                }
                let most = limit.clamp(1, MEMBERS_PAGE_MAX) as usize;
                let tells = group.book.roll.members() <= self.settings.limits.group_receipts_members;
                let (members, more) = group.book.roll.page(after, most, tells);
                let counts = if seq > Seq::ZERO { group.book.roll.count(seq, user) } else { (0, 0) };
                let told = GroupTold::Members { at: group.head, more, members, counts };
                // How far members are is in no entry.
                self.tell_asker_once_durable(id, (core, ask), Ok(told), cx);
            }
            GroupWish::Digests { first, last, width } => {
                let first = first.max(Seq(1));
                let last = if last == Seq::ZERO { head } else { last.min(head) };
                let (digesting, last) = Digesting::of((first, last), width);
                let what = What::Digests { user, since: row.since, wish, digesting, up_to: last };
                // As if a part that ends before had been read.
                let (part, direction, most) = ((first, first.previous()), Direction::Forwards, DIGEST_PIECE_ENTRIES);
                let fetch = PageFetch::of((core, ask), what, part, direction, (at, head), most);
                let fetch = PageFetch { bytes_max: DIGEST_PIECE_BYTES, ..fetch };
                self.answer_page(id, fetch, Some(first.previous()), cx);
            }
            GroupWish::Row { read } => self.row_asked(id, (core, ask), (user, read), cx),
        }
    }

    /// What a list of groups shows of this one.
    fn row_asked(
        &mut self,
        id: GroupId,
        (core, ask): (CoreAddress, AskId),
        (user, read): (UserId, Seq),
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        let (Some(row), Some(state)) = (group.book.roll.row(user), &group.book.state) else {
            return self.tell_asker(id, (core, ask), Err(ErrorCode::NoSuchGroup), cx);
        };
        // All of it is as of the last entry, and told when that holds.
        let at = group.head;
        let (first, head) = Roll::readable(row, at);
        let is_member = group.book.roll.member(user).is_some();
        // Whoever is none any more is not told what became of the group since.
        let told = GroupRow {
            group: id,
            standing: row.standing,
            role: row.role,
            rules: if is_member { state.rules } else { Rules::default() },
            members: if is_member { group.book.roll.members() as u64 } else { 0 },
            head,
            name: if is_member { state.name.to_string() } else { String::new() },
            picture: if is_member { state.picture.to_string() } else { String::new() },
            last: None,
            settings: Settings::default(),
            read_up_to: Seq::ZERO,
            unread: 0,
        };
        // What was before they came is read, as it were.
        let read = Some(read.max(first.previous())).filter(|read| is_member && *read < head);
        let first = first.max(Seq(head.0.saturating_sub(GROUP_LAST_SCAN - 1)));
        let (what, most) = (What::Row { row: Box::new(told), read }, GROUP_LAST_SCAN as usize);
        let fetch = PageFetch::of((core, ask), what, (first, head), Direction::Backwards, (at, head), most);
        self.read_all(id, fetch, cx);
    }

    /// Reads all of the part that is wanted.
    fn read_all(&mut self, id: GroupId, fetch: PageFetch, cx: &mut Turn<'_>) {
        let part = (fetch.first, fetch.last);
        self.read_group(id, fetch, part, cx);
    }

    /// Reads on: what is in memory at once, the rest from the store.
    fn read_group(&mut self, id: GroupId, mut fetch: PageFetch, (first, last): (Seq, Seq), cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        let stored = group.stored;
        let in_store = first <= stored;
        let from_store = match fetch.direction {
            Direction::Forwards => in_store.then(|| (first, last.min(stored))),
            Direction::Backwards => (in_store && last <= stored).then_some((first, last)),
        };
        if let Some((first, last)) = from_store {
            let Room { direction, entries: entries_max, bytes: bytes_max } = Room {
                direction: fetch.direction,
                entries: fetch.entries_max - fetch.entries.len().min(fetch.entries_max - 1),
                bytes: fetch.bytes_max,
            };
            let span = Span { first, last, direction, entries_max, bytes_max };
            group.held += 1;
            let question = Question::GroupPage { group: id, fetch: Box::new(fetch), part: (first, last) };
            return self.ask(Query::GroupLog { group: id, span }, question, cx);
        }
        let first = first.max(stored.next());
        let tail = group.tail_range((first, last), fetch.at).map(|entry| (**entry).clone());
        let goes_on = match fetch.direction {
            Direction::Forwards => fetch.take(tail),
            Direction::Backwards => fetch.take(tail.rev()),
        };
        let covered = match fetch.direction {
            Direction::Forwards => last,
            Direction::Backwards => first,
        };
        self.page_goes_on(id, fetch, covered, goes_on, cx);
    }

    /// A part of it has been read from the store.
    pub(in crate::shard) fn group_page_read(
        &mut self,
        id: GroupId,
        mut fetch: PageFetch,
        (first, last): (Seq, Seq),
        read: Option<GroupEntries>,
        cx: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.resident(id) else { return };
        group.held -= 1;
        let asker = (fetch.core, fetch.ask);
        let Some(GroupEntries { mut entries, complete }) = read else {
            self.tell_asker(id, asker, Err(ErrorCode::StorageFailed), cx);
            return self.forget_group_if_unused(id);
        };
        if fetch.direction == Direction::Backwards {
            entries.reverse();
        }
        let read_up_to = entries.last().map(|entry| entry.seq);
        group.drop_superseded(&mut entries, fetch.at);
        let goes_on = fetch.take(entries);
        match (fetch.direction, read_up_to) {
            // The store has more. What it told may all have been superseded: then the page is empty, and not the end.
            (_, Some(seq)) if !complete => self.answer_page(id, fetch, goes_on.then_some(seq), cx),
            (Direction::Forwards, _) => self.page_goes_on(id, fetch, last, goes_on, cx),
            (Direction::Backwards, _) => self.page_goes_on(id, fetch, first, goes_on, cx),
        }
        self.forget_group_if_unused(id);
    }

    fn page_goes_on(&mut self, id: GroupId, fetch: PageFetch, covered: Seq, goes_on: bool, cx: &mut Turn<'_>) {
        match fetch.rest(covered).filter(|_| goes_on) {
            Some(rest) => self.read_group(id, fetch, rest, cx),
            None => self.answer_page(id, fetch, if goes_on { Some(covered) } else { None }, cx),
        }
    }

    /// `covered`: up to where everything was read; none: up to the last entry that was taken.
    fn answer_page(&mut self, id: GroupId, fetch: PageFetch, covered: Option<Seq>, cx: &mut Turn<'_>) {
        let PageFetch { core, ask, what, mut first, mut last, direction, more, at, head, mut entries, .. } = fetch;
        if let (What::Page { user, since, wish } | What::Digests { user, since, wish, .. }, Some(group)) =
            (&what, self.groups.resident(id))
            && group.book.roll.row(*user).is_some_and(|row| row.since > *since)
        {
            // The user may read something else by now: a page of before would come after what tells them so.
            return self.group_asked(id, (core, ask), *user, *wish, cx);
        }
        let reached = covered.or_else(|| entries.last().map(|entry| entry.seq));
        let is_end = match (direction, reached) {
            (Direction::Forwards, Some(reached)) => {
                let is_end = reached >= last;
                last = last.min(reached);
                is_end
            }
            (Direction::Backwards, Some(reached)) => {
                let is_end = reached <= first;
                first = first.max(reached);
                entries.reverse();
                is_end
            }
            (_, None) => true,
        };
        let told = match what {
            What::Page { wish, .. } => {
                // The range begins where it was asked for, whatever of that this user may not read (SPEC 4.43).
                match (wish, direction) {
                    (GroupWish::Page { from, .. }, Direction::Forwards) => first = from.max(Seq(1)),
                    (GroupWish::Page { from, .. }, Direction::Backwards) if from > Seq::ZERO => last = from.min(head),
                    _ => {}
                }
                GroupTold::Page { first, last, more: more || !is_end, head, entries }
            }
            What::Digests { user, since, wish, mut digesting, up_to } => {
                digesting.add(entries.iter().map(|entry| (entry.seq, digest::of_group_entry(entry))), last);
                let row = self.groups.resident(id).and_then(|group| group.book.roll.row(user));
                let next = row.and_then(|row| Roll::clip(row, last.next(), Direction::Forwards, at));
                let next = next.map(|(part, _)| part).filter(|(first, _)| *first <= up_to);
                let entries_max = fetch.entries_max.saturating_sub(entries.len());
                match next {
                    Some((first, last)) if is_end && entries_max > 0 => {
                        let what = What::Digests { user, since, wish, digesting, up_to };
                        let (last, entries) = (last.min(up_to), Vec::new());
                        let rest = PageFetch { what, first, last, entries_max, entries, ..fetch };
                        return self.read_all(id, rest, cx);
                    }
                    None => last = up_to.max(last),
                    Some(_) => {}
                }
                digesting.add([], last);
                GroupTold::Digests(digesting.finish(RequestId(0), at, last))
            }
            What::Row { mut row, read } => {
                if read.is_some() {
                    row.unread = entries.last().map_or(0, |last| last.messages);
                }
                let place = read.unwrap_or_default();
                let next = entries.iter().find(|entry| place >= first && entry.seq >= place).map(up_to_mark(place));
                row.last = entries.into_iter().filter(|entry| entry.place().is_some()).max_by_key(GroupEntry::place);
                row.last.iter_mut().for_each(|last| _ = shorten(&mut last.content));
                match next {
                    _ if place == Seq::ZERO || row.unread == 0 => {}
                    Some(before) => row.unread = row.unread.saturating_sub(before),
                    None => {
                        let what = What::Unread { row, read: place };
                        let (direction, entries) = (Direction::Forwards, Vec::new());
                        let rest = PageFetch { what, first: place, last: head, direction, entries, ..fetch };
                        return self.read_all(id, rest, cx);
                    }
                }
                row.unread = row.unread.min(UNREAD_MAX + 1);
                GroupTold::Row(row)
            }
            What::Unread { mut row, read } => {
                if entries.is_empty() && !is_end {
                    // All that was read has been superseded.
                    let what = What::Unread { row, read };
                    let rest = PageFetch { what, first: last.next(), last: head, entries, ..fetch };
                    return self.read_all(id, rest, cx);
                }
                let before = entries.first().map_or(row.unread, up_to_mark(read));
                row.unread = row.unread.saturating_sub(before).min(UNREAD_MAX + 1);
                GroupTold::Row(row)
            }
        };
        self.tell_asker_of(id, at, (core, ask), Ok(told), cx);
    }

    /// Tells what is so since this entry, once that is durable: what a crash may take back nobody has seen.
    fn tell_asker_of(
        &mut self,
        id: GroupId,
        at: Seq,
        asker: (CoreAddress, AskId),
        told: Result<GroupTold, ErrorCode>,
        cx: &mut Turn<'_>,
    ) {
        match self.groups.resident(id) {
            Some(group) if at > group.released => self.tell_asker_once_durable(id, asker, told, cx),
            _ => self.tell_asker(id, asker, told, cx),
        }
    }

    /// Tells what is so now, once that is durable.
    fn tell_asker_once_durable(
        &mut self,
        id: GroupId,
        (core, ask): (CoreAddress, AskId),
        told: Result<GroupTold, ErrorCode>,
        cx: &mut Turn<'_>,
    ) {
        let at = self.lane_of(beside(id));
        let (is_of_store, lane) = (self.settings.promise == Promise::Store, &mut self.lanes[at]);
        let Some(group) = self.groups.resident(id) else { return };
        let batch = group.changed_in;
        if if is_of_store { lane.is_stored(batch) } else { lane.is_released(batch) } {
            return self.tell_asker(id, (core, ask), told, cx);
        }
        if group.untold >= GROUP_UNTOLD_MAX {
            return self.tell_asker(id, (core, ask), Err(ErrorCode::Overloaded), cx);
        }
        group.untold += 1;
        let mail = Box::new(GroupMail { group: id, core, said: GroupSaid::Told { ask, told } });
        if is_of_store {
            lane.park_behind_stored(batch, OnceStored::Told(mail));
        } else {
            lane.park_behind(batch, Parked::Told(mail));
        }
    }

    /// What is told is durable.
    pub(in crate::shard) fn told_once_durable(&mut self, mail: GroupMail, cx: &mut Turn<'_>) {
        let GroupMail { group: id, core, said } = mail;
        if let Some(group) = self.groups.resident(id) {
            group.untold -= 1;
        }
        self.group_mail_to(core, id, said, cx);
    }

    pub(super) fn tell_asker(
        &mut self,
        id: GroupId,
        (core, ask): (CoreAddress, AskId),
        told: Result<GroupTold, ErrorCode>,
        cx: &mut Turn<'_>,
    ) {
        self.group_mail_to(core, id, GroupSaid::Told { ask, told }, cx);
    }

    /// A core follows a group whose home is here.
    pub(super) fn followed_by(&mut self, id: GroupId, core: CoreAddress, users: &[UserId], cx: &mut Turn<'_>) {
        let Some(group) = self.groups.resident(id) else { return };
        let head = group.released;
        // Of whom that has just changed nothing is said until it holds: they are asked for again.
        let holds = |user: &&UserId| group.book.roll.row(**user).is_none_or(|row| row.since <= head);
        let is_member = |user: &UserId| group.book.roll.member(*user).is_some();
        let (members, strangers): (Vec<_>, Vec<_>) = users.iter().filter(holds).copied().partition(is_member);
        if !members.is_empty() {
            group.follows(core);
        }
        self.group_mail_to(core, id, GroupSaid::Following { head, members, strangers }, cx);
        self.forget_group_if_unused(id);
    }
}
