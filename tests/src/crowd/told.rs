//! Told: every frame that leaves the server, as it leaves. Nobody is told what is not durable, nor what they may not read, and what is told
//! is what the logs say.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use proto_spec::{
    Body, ClientFrame, ClientKind, Content, ConversationId, Decoder, DeviceId, Direction, Entry, ErrorCode, Event,
    GroupEntry, GroupId, GroupPage, GroupRow, MemberInfo, RawFrame, RequestId, Role, Rules, Seq, ServerFrame, Standing,
    UserId,
    limits::{INBOX_TEXT_BYTES, SERVER_FRAME_BYTES_MAX, UNREAD_MAX},
};

use super::{
    law::Law,
    truth::{Log, Pointer, Truth},
};

/// A question of a client, and what was known when it was asked.
#[derive(Debug)]
struct Asked {
    frame: ClientFrame,
    /// How far anybody had been told that each group's log is.
    told: BTreeMap<GroupId, usize>,
    /// Groups of which the user's log spoke.
    groups: BTreeSet<GroupId>,
}

impl Asked {
    /// The first place of a group's log of which an answer may be.
    fn since(&self, group: GroupId, log: &Log) -> usize {
        self.told.get(&group).copied().unwrap_or_default().min(log.durable)
    }
}

/// A connection, seen from outside.
#[derive(Debug)]
pub(crate) struct Line {
    user: UserId,
    device: DeviceId,
    decoder: Decoder,
    /// Bytes that have been looked at, and of these those that the client has not taken.
    pub(crate) ahead: usize,
    pushed: BTreeMap<GroupId, Seq>,
    /// How far this connection has been told that each group's log is, by what comes from its home when it is asked or followed.
    told: BTreeMap<GroupId, usize>,
    /// Groups of which it has been told that the user's log speaks.
    groups: BTreeSet<GroupId>,
    asked: BTreeMap<RequestId, Asked>,
}

impl Line {
    pub(crate) fn new(user: UserId, device: DeviceId) -> Self {
        let decoder = Decoder::new(SERVER_FRAME_BYTES_MAX as u32);
        let (pushed, told, groups, asked) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { user, device, decoder, ahead: 0, pushed, told, groups, asked }
    }

    /// The client says something. What answers it is of no place before the last that anybody has been told of; without a truth, that this
    /// connection has.
    pub(crate) fn says(&mut self, frame: ClientFrame, truth: Option<&mut Truth>) {
        let request = match frame {
            ClientFrame::AcknowledgeGroup { group, up_to } => {
                truth.into_iter().for_each(|truth| truth.has_said(self.user, group, up_to));
                return;
            }
            ClientFrame::FetchConversation { request, .. }
            | ClientFrame::FetchGroups { request, .. }
            | ClientFrame::FetchMembers { request, .. } => request,
            _ => return,
        };
        let (told, groups) = match truth {
            Some(truth) => {
                let is_listed = |told: &Pointer| told.standing != Standing::Unknown;
                let of_user = truth.pointers.iter().filter(|((user, _), told)| *user == self.user && is_listed(told));
                let told = truth.logs.iter().map(|(group, log)| (*group, log.told));
                (told.collect(), of_user.map(|((_, group), _)| *group).collect())
            }
            None => (self.told.clone(), self.groups.clone()),
        };
        self.asked.insert(request, Asked { frame, told, groups });
    }

    /// The server says something. What of it is about groups.
    pub(crate) fn hears(&mut self, bytes: &[u8], truth: &mut Truth) -> Vec<ServerFrame> {
        self.ahead += bytes.len();
        let mut frames = Vec::new();
        let decoded = self.decoder.decode(bytes, |raw: RawFrame<'_>| {
            frames.push(ServerFrame::decode(raw).expect("the server's frames can be read"));
            ControlFlow::Continue(())
        });
        decoded.expect("the server's stream can be cut into frames");
        frames.iter().for_each(|frame| self.is_told(frame, truth));
        frames
    }

    /// The server says this.
    pub(crate) fn is_told(&mut self, frame: &ServerFrame, truth: &mut Truth) {
        if let Some(wrong) = self.wrong(frame, truth) {
            let user = self.user;
            truth.fail(|| format!("user {user} is told {frame:?}, but {wrong}"));
        }
    }

    /// This connection is told that a group's log has come so far.
    fn tells(&mut self, group: GroupId, seq: Seq, truth: &mut Truth) {
        let told = self.told.entry(group).or_default();
        *told = (*told).max(seq.0 as usize);
        truth.log(group).tells(seq);
    }

    fn answered(&mut self, request: RequestId) -> Result<Asked, String> {
        self.asked.remove(&request).ok_or_else(|| "nobody has asked for it".to_owned())
    }

    fn wrong(&mut self, frame: &ServerFrame, truth: &mut Truth) -> Option<String> {
        let user = self.user;
        match frame {
            ServerFrame::Deliver { entry } => {
                if let Event::Group { group, .. } = entry.event {
                    self.groups.insert(group);
                }
                wrong_entry(user, entry, truth)
            }
            ServerFrame::Page(page) => page.entries.iter().find_map(|entry| wrong_entry(user, entry, truth)),
            ServerFrame::Accepted { number, seq, .. } => {
                let sent = truth.sent.get(&(user, *seq));
                let is_other = sent.is_some_and(|sent| (sent.device, sent.number) != (self.device, *number));
                let is_durable = truth.is_durable(user, *seq);
                (is_other || !is_durable).then(|| format!("{sent:?} was sent, durable: {is_durable}"))
            }
            ServerFrame::DeliverGroup { group, entry } => {
                let last = self.pushed.insert(*group, entry.seq).unwrap_or_default();
                if last >= entry.seq {
                    return Some(format!("{last} was pushed before it"));
                }
                let wrong = wrong_push(user, *group, entry, truth);
                self.tells(*group, entry.seq, truth);
                wrong
            }
            ServerFrame::GroupPage(page) => {
                let wrong = match self.answered(page.request) {
                    Ok(asked) => wrong_page(user, page, &asked, truth),
                    Err(wrong) => Some(wrong),
                };
                self.tells(page.group, page.head, truth);
                wrong
            }
            ServerFrame::Members { request, group, more, at, members, .. } => {
                let wrong = match self.answered(*request) {
                    Ok(asked) => wrong_members(user, (*group, *at), (members, *more), &asked, truth),
                    Err(wrong) => Some(wrong),
                };
                self.tells(*group, *at, truth);
                wrong
            }
            ServerFrame::Groups { request, rows, more, .. } => match self.answered(*request) {
                Ok(asked) => {
                    let wrong = wrong_list(user, rows, *more, &asked, truth);
                    wrong.or_else(|| rows.iter().find_map(|row| wrong_row(user, row, &asked, truth)))
                }
                Err(wrong) => Some(wrong),
            },
            ServerFrame::Error { code, kind, request, .. } => {
                let asked = self.asked.remove(request)?;
                let (group, is_of_members) = match asked.frame {
                    ClientFrame::FetchConversation { conversation: ConversationId::Group(group), .. } => (group, false),
                    ClientFrame::FetchMembers { group, .. } => (group, true),
                    _ => return None,
                };
                debug_assert!(ClientKind::from_byte(*kind).is_some());
                let log = truth.log(group);
                let mut laws = log.laws[asked.since(group, log)..=log.durable].iter();
                let is_so = match code {
                    ErrorCode::NoSuchGroup if is_of_members => laws.any(|law| law.member(user).is_none()),
                    ErrorCode::NoSuchGroup => laws.any(|law| !law.people.contains_key(&user)),
                    ErrorCode::StorageFailed | ErrorCode::Overloaded => true,
                    _ => false,
                };
                (!is_so).then(|| "that is not so".to_owned())
            }
            _ => None,
        }
    }
}

/// An entry of the own log.
fn wrong_entry(user: UserId, entry: &Entry, truth: &mut Truth) -> Option<String> {
    if !truth.is_durable(user, entry.seq) {
        return Some("it is not durable".to_owned());
    }
    if let Event::Group { group, up_to, .. } = entry.event {
        truth.log(group).tells(up_to);
    }
    let says = truth.says.get(&(user, entry.seq));
    (says.is_some_and(|says| *says != entry.event)).then(|| format!("the log says {says:?}"))
}

/// An entry of a group's log that somebody is told.
fn wrong_of_group(user: UserId, group: GroupId, entry: &GroupEntry, truth: &mut Truth) -> Option<String> {
    let log = truth.log(group);
    match log.entry(entry.seq) {
        None => Some(format!("of {} entries {} are durable", log.entries.len(), log.durable)),
        Some(is) if is != entry => Some(format!("the log says {is:?}")),
        Some(_) if !log.durable_law().may_read(user, entry.seq) => {
            Some(format!("they may read {:?}", log.durable_law().people.get(&user)))
        }
        Some(_) => None,
    }
}

fn wrong_push(user: UserId, group: GroupId, entry: &GroupEntry, truth: &mut Truth) -> Option<String> {
    let wrong = wrong_of_group(user, group, entry, truth);
    wrong.or_else(|| {
        let at = entry.seq.0 as usize;
        let laws = &truth.log(group).laws[at - 1..=at];
        laws.iter().all(|law| law.member(user).is_none()).then(|| "they were no member then".to_owned())
    })
}

fn wrong_page(user: UserId, page: &GroupPage, asked: &Asked, truth: &mut Truth) -> Option<String> {
    let ClientFrame::FetchConversation { conversation, from, direction, limit, .. } = asked.frame else {
        return Some(format!("{:?} was asked", asked.frame));
    };
    if conversation != ConversationId::Group(page.group) || page.entries.len() as u64 > limit.max(1) {
        return Some(format!("{:?} was asked", asked.frame));
    }
    if let Some(wrong) = page.entries.iter().find_map(|entry| wrong_of_group(user, page.group, entry, truth)) {
        return Some(wrong);
    }
    // It is of some place of the log that is not before what anybody had been told.
    let log = truth.log(page.group);
    let since = asked.since(page.group, log);
    let wrong = wrong_page_at(user, page, (from, direction), log, log.durable)?;
    let is_of = |at: usize| wrong_page_at(user, page, (from, direction), log, at).is_none();
    if (since..log.durable).rev().any(is_of) {
        return None;
    }
    let earlier = wrong_page_at(user, page, (from, direction), log, since);
    Some(format!("{wrong} ({}), and {earlier:?} ({since})", log.durable))
}

/// What of a page is not so at this place of the log, of which it was told later: an entry that has been superseded since may lack.
fn wrong_page_at(
    user: UserId,
    page: &GroupPage,
    (from, direction): (Seq, Direction),
    log: &Log,
    at: usize,
) -> Option<String> {
    let law = &log.laws[at];
    let end = Seq(at as u64);
    let readable = |seq: &Seq| law.may_read(user, *seq) && *seq <= end;
    let is_there = |seq: &Seq| readable(seq) && !log.is_gone(*seq, log.durable);
    if let Some(gone) = page.entries.iter().find(|entry| log.is_gone(entry.seq, at) || !readable(&entry.seq)) {
        return Some(format!("{} is not there, or not theirs", gone.seq));
    }
    let seqs: Vec<Seq> = page.entries.iter().map(|entry| entry.seq).collect();
    if !seqs.is_sorted() || seqs.iter().any(|seq| *seq < page.first || *seq > page.last) {
        return Some("its entries are not in its range".to_owned());
    }
    let head = law.people.get(&user).map_or(Seq::ZERO, |person| person.last(end));
    if page.head != head {
        return Some(format!("its head is {head}"));
    }
    let range = |first: Seq, last: Seq| (first.0..=last.0.min(at as u64)).map(Seq);
    if let Some(missing) = range(page.first, page.last).filter(is_there).find(|seq| !seqs.contains(seq)) {
        return Some(format!("it leaves out {missing}"));
    }
    let before = match direction {
        Direction::Forwards => range(from.max(Seq(1)), page.first.previous()).find(readable),
        Direction::Backwards if from == Seq::ZERO => range(page.last.next(), end).find(readable),
        Direction::Backwards => range(page.last.next(), from).find(readable),
    };
    let behind = match direction {
        Direction::Forwards => range(page.last.next(), end).find(readable),
        Direction::Backwards => range(Seq(1), page.first.previous()).find(readable),
    };
    match (before, behind) {
        (Some(before), _) => Some(format!("it does not begin with {before}")),
        (None, Some(behind)) if !page.more => Some(format!("there is {behind}")),
        _ if page.more && page.first > page.last => Some("there is said to be more behind nothing".to_owned()),
        _ => None,
    }
}

fn wrong_members(
    user: UserId,
    (group, at): (GroupId, Seq),
    (members, more): (&[MemberInfo], bool),
    asked: &Asked,
    truth: &mut Truth,
) -> Option<String> {
    let ClientFrame::FetchMembers { group: of, after, limit, .. } = asked.frame else {
        return Some(format!("{:?} was asked", asked.frame));
    };
    if of != group {
        return Some(format!("{:?} was asked", asked.frame));
    }
    let log = truth.log(group);
    let since = asked.since(group, log);
    if since > at.0 as usize {
        return Some(format!("{since} entries had been told of"));
    }
    let Some(law) = log.laws[..=log.durable].get(at.0 as usize) else {
        return Some(format!("{} entries are durable", log.durable));
    };
    if law.member(user).is_none() {
        return Some("they were none".to_owned());
    }
    let all = law.members().filter(|(of, _)| *of > after);
    let all: Vec<_> = all.map(|(user, person)| (user, person.role, person.since)).collect();
    let page = &all[..all.len().min(limit.max(1) as usize)];
    let told: Vec<_> = members.iter().map(|member| (member.user, member.role, member.since)).collect();
    if told != page || more != (page.len() < all.len()) {
        return Some(format!("they are {page:?}"));
    }
    let wrong = members.iter().find_map(|member| truth.wrong_mark(group, member.user, member.read_up_to));
    wrong.or_else(|| members.iter().find_map(|member| truth.wrong_receipt(group, member)))
}

/// What is wrong with which groups are in a list.
fn wrong_list(user: UserId, rows: &[GroupRow], more: bool, asked: &Asked, truth: &Truth) -> Option<String> {
    let ClientFrame::FetchGroups { after, limit, .. } = asked.frame else {
        return Some(format!("{:?} was asked", asked.frame));
    };
    let is_rising = rows.is_sorted_by(|one, next| one.group < next.group);
    if !is_rising || rows.len() as u64 > limit.max(1) || rows.first().is_some_and(|row| row.group <= after) {
        return Some(format!("{:?} was asked", asked.frame));
    }
    let is_theirs = |group: GroupId| {
        let is_in_roll = truth.logs.get(&group).is_some_and(|log| log.durable_law().people.contains_key(&user));
        truth.pointers.contains_key(&(user, group)) || is_in_roll
    };
    if let Some(row) = rows.iter().find(|row| !is_theirs(row.group)) {
        return Some(format!("{:?} is none of theirs", row.group));
    }
    let last = rows.last().map_or(after, |row| row.group);
    let is_listed = |group: &GroupId| rows.iter().any(|row| row.group == *group);
    let of_page = asked.groups.iter().filter(|group| **group > after && (!more || **group <= last));
    if let Some(group) = of_page.copied().find(|group| !is_listed(group)) {
        return Some(format!("{group:?} is theirs as well"));
    }
    let is_more = || truth.logs.keys().any(|group| *group > last && is_theirs(*group));
    // Rows are few and short here: only the limit ends a page.
    let is_full = rows.len() as u64 == limit.max(1);
    (more && !(is_full && is_more())).then(|| "there is no more".to_owned())
}

/// What a message of a list says, and whether it is the whole of that.
fn words(content: &Content) -> Option<String> {
    match content.body() {
        Ok(Body::Edit(edit)) => words(&edit.content()),
        Ok(Body::Text(text)) => Some(text.to_owned()),
        _ => None,
    }
}

/// Whether a list shows something so: of a text as much as a list shows, of all else all.
fn shows(is: &Content, shown: &Content) -> bool {
    let Some(text) = words(is) else { return is == shown };
    let mut end = text.len().min(INBOX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let short = Content::text(&text[..end]);
    match is.body() {
        Ok(Body::Edit(edit)) => *shown == Content::edit(edit.of, &short, edit.stands),
        _ => *shown == short,
    }
}

fn wrong_row(user: UserId, row: &GroupRow, asked: &Asked, truth: &mut Truth) -> Option<String> {
    let log = truth.log(row.group);
    let (since, durable) = (asked.since(row.group, log), log.durable);
    if let Some(last) = &row.last {
        let is = log.entry(last.seq);
        let is_it = is.is_some_and(|is| {
            shows(&is.content, &last.content) && GroupEntry { content: last.content.clone(), ..is.clone() } == *last
        });
        if !is_it || !log.durable_law().may_read(user, last.seq) {
            return Some(format!("its last message is none of theirs: {is:?}"));
        }
    }
    let laws = log.laws[since..=durable].iter().enumerate().map(|(at, law)| (law, Seq((since + at) as u64)));
    let is_head = |law: &Law, end: Seq| law.people.get(&user).is_some_and(|person| person.last(end) == row.head);
    if row.name.is_empty() && row.members == 0 {
        // They are none, or the group's home has not answered: then by any standing that they were told.
        let is_told = row.head == Seq::ZERO || row.last.is_none();
        let stood = if is_told { &log.laws[..=durable] } else { &log.laws[since..=durable] };
        let is_so = stood.iter().any(|law| law.standing(user).0 == row.standing);
        let is_bare = (row.role, row.rules, row.picture.is_empty()) == (Role::Member, Rules::default(), true);
        let has_head = is_told && row.head <= log.head() || laws.clone().any(|(law, end)| is_head(law, end));
        let is_wrong = !is_so || !is_bare || !has_head;
        return is_wrong.then(|| format!("that is not what a stranger is told: {is_so} {has_head}"));
    }
    let is_so = laws.clone().any(|(law, end)| {
        is_head(law, end)
            && law.member(user).is_some_and(|own| {
                let members = law.members().count() as u64;
                (own.role, own.standing, members, law.rules, &law.name, &law.picture)
                    == (row.role, row.standing, row.members, row.rules, &row.name, &row.picture)
            })
    });
    if !is_so {
        return Some(format!("it is {:?}, {since} to {durable}", log.durable_law()));
    }
    wrong_unread(row, user, log)
}

/// What is wrong with how much is unread: no more than was written behind the mark, and no less than what stands there still.
fn wrong_unread(row: &GroupRow, user: UserId, log: &Log) -> Option<String> {
    let first = log.durable_law().standing(user).1;
    let mark = row.read_up_to.max(first.previous());
    let behind = log.entries[..row.head.0 as usize].iter().filter(|entry| entry.seq > mark);
    let written = behind.filter(|entry| entry.content.is_message());
    let (mut most, mut least) = (0, 0);
    for entry in written {
        most += 1;
        least += u64::from(!log.is_gone(entry.seq, log.entries.len()));
    }
    let is_right = (least.min(UNREAD_MAX + 1)..=most).contains(&row.unread) || row.head < first;
    (!is_right).then(|| format!("{least} to {most} messages stand behind {mark}"))
}
