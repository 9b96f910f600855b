//! What people do beside writing: they read, edit, take back, react, delete, look at their list, and go away for a while. Between two only
//! messages that the ledger keeps are changed, in a group some of the newest, by somebody of their conversation who is there.

use std::ops::Range;

use proto_spec::{Direction, Event, Seq, Settings, UserId};

use crate::{
    devices::Devices,
    draw::Draw,
    limits::LIST_ROWS,
    session::{Ask, Fetch, Happened, SETTINGS},
    verify::{Change, KeptId, groups::SentId},
};

/// Mean time that a device stays away, in microseconds.
const AWAY_US_MEAN: f64 = 3_000_000.0;

/// Entries of the page with which a chat opens.
const CHAT_PAGE: u64 = 20;

/// Devices that are asked before an act is left to the last one, and messages before it is left out: somebody is nearly always there.
pub(super) const ASKED_MAX: u32 = 16;

/// What people feel; the last one is that they take it back.
const REACTIONS: [&str; 7] = ["👍", "❤️", "😂", "😮", "😢", "🙏", ""];

/// How often people do what.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Shares {
    /// Of 100 acts, how many open a chat and read what is new [default: 15; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    reads: Option<u64>,

    /// Of 100 acts, how many are a device that goes away for a while [default: 3; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    leaves: Option<u64>,

    /// Of 100 acts, how many are messages that answer one with a quote [default: 5; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    replies: Option<u64>,

    /// Of 100 acts, how many are reactions to a message [default: 5; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    reactions: Option<u64>,

    /// Of 100 acts, how many edit a message of one's own [default: 2; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    edits: Option<u64>,

    /// Of 100 acts, how many take a message of one's own back [default: 1; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    unsends: Option<u64>,

    /// Of 100 acts, how many delete a message for oneself [default: 1; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    deletes: Option<u64>,

    /// Of 100 acts, how many look at the list of conversations [default: 2; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    lists: Option<u64>,

    /// Of 100 acts, how many mute, archive or pin a conversation, or the reverse [default: 1; replay: 0]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(..=100))]
    settings: Option<u64>,
}

/// Something that people do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Write,
    Reply,
    Read,
    Leave,
    React,
    Edit,
    Unsend,
    Delete,
    List,
    Set,
}

impl Act {
    /// Whether it says something about a message, to all of its conversation.
    pub(super) const fn is_change(self) -> bool {
        match self {
            Self::React | Self::Edit | Self::Unsend => true,
            Self::Write | Self::Reply | Self::Read | Self::Leave | Self::Delete | Self::List | Self::Set => false,
        }
    }
}

/// How many of 100 acts are what; the rest are messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acts([(Act, &'static str, u64); 9]);

impl Shares {
    /// As they are on a day in small, but for what was asked for.
    pub(super) fn of_a_day(&self) -> anyhow::Result<Acts> {
        self.or([15, 3, 5, 5, 2, 1, 1, 2, 1])
    }

    /// Only what was asked for.
    pub(super) fn of_a_trace(&self) -> anyhow::Result<Acts> {
        let acts = self.or([0; 9])?;
        anyhow::ensure!(acts.others() < 100, "all of 100 acts are something else than the messages of the trace");
        Ok(acts)
    }

    fn or(&self, others: [u64; 9]) -> anyhow::Result<Acts> {
        let Self { reads, leaves, replies, reactions, edits, unsends, deletes, lists, settings } = *self;
        let acts = Acts([
            (Act::Read, "reads", reads.unwrap_or(others[0])),
            (Act::Leave, "leaves", leaves.unwrap_or(others[1])),
            (Act::Reply, "replies", replies.unwrap_or(others[2])),
            (Act::React, "reactions", reactions.unwrap_or(others[3])),
            (Act::Edit, "edits", edits.unwrap_or(others[4])),
            (Act::Unsend, "unsends", unsends.unwrap_or(others[5])),
            (Act::Delete, "deletes", deletes.unwrap_or(others[6])),
            (Act::List, "lists", lists.unwrap_or(others[7])),
            (Act::Set, "settings", settings.unwrap_or(others[8])),
        ]);
        let sum: u64 = acts.0.iter().map(|(.., share)| share).sum();
        let named = acts.0.iter().filter(|(.., share)| *share > 0).map(|(_, name, share)| format!("--{name} {share}"));
        let named = named.collect::<Vec<_>>().join(", ");
        anyhow::ensure!(sum <= 100, "{named} are together more than 100 of 100 acts");
        Ok(acts)
    }
}

impl Acts {
    /// The next one.
    pub(super) fn draw(&self, draw: &mut Draw) -> Act {
        let mut at = draw.below(100);
        for (act, _, share) in self.0 {
            if at < share {
                return act;
            }
            at -= share;
        }
        Act::Write
    }

    /// The next one that is no message; there is one.
    pub(super) fn draw_other(&self, draw: &mut Draw) -> Act {
        loop {
            let act = self.draw(draw);
            if !matches!(act, Act::Write | Act::Reply) {
                return act;
            }
        }
    }

    /// Whether the next message is an answer.
    pub(super) fn is_answer(&self, draw: &mut Draw) -> bool {
        let replies = self.0.iter().find(|(act, ..)| *act == Act::Reply).map_or(0, |(.., share)| *share);
        draw.below(100 - self.others()) < replies
    }

    /// As reports show them.
    pub(super) fn parameters(&self) -> impl Iterator<Item = (&'static str, String)> {
        let names = [
            "reads, % of the acts",
            "leaves, % of the acts",
            "replies, % of the acts",
            "reactions, % of the acts",
            "edits, % of the acts",
            "unsends, % of the acts",
            "deletes, % of the acts",
            "lists, % of the acts",
            "settings, % of the acts",
        ];
        names.into_iter().zip(self.0).map(|(name, (.., share))| (name, share.to_string()))
    }

    /// How many of 100 are no messages.
    pub(super) fn others(&self) -> u64 {
        self.0.iter().filter(|(act, ..)| *act != Act::Reply).map(|(.., share)| share).sum()
    }

    /// Whether messages are changed, or marked as read: then lists of conversations are compared too.
    pub(super) fn change_messages(&self) -> bool {
        self.0.iter().any(|(act, _, share)| *share > 0 && !matches!(act, Act::Leave))
    }
}

/// Whose act a message is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Author,
    Anybody,
}

/// The people of one lane at what is no writing.
#[derive(Debug)]
pub(super) struct People {
    /// The first of those that follow.
    first_user: UserId,
    /// By person: the seat of their first device.
    firsts: Vec<u32>,
    /// Devices that are away on purpose.
    away: Vec<u32>,
    end_us: u64,
    draw: Draw,
}

impl People {
    pub(super) const fn new(first_user: UserId, firsts: Vec<u32>, draw: Draw) -> Self {
        Self { first_user, firsts, away: Vec::new(), end_us: u64::MAX, draw }
    }

    /// The acts end then.
    pub(super) const fn end_at(&mut self, end_us: u64) {
        self.end_us = end_us;
    }

    /// A device does something with the user of whom a seat is the first.
    pub(super) fn act(&mut self, devices: &mut Devices, act: Act, slot: u32, peer_seat: u32) {
        let peer = devices.ledger().crew().member(peer_seat).user;
        match act {
            Act::Read => {
                // Somebody who scrolls faster than pages come does not ask for more of them.
                let (from, direction) = (Seq::ZERO, Direction::Backwards);
                devices.fetch(slot, Fetch { peer: Some(peer), from, direction, limit: CHAT_PAGE });
            }
            Act::List => {
                devices.ask(slot, Ask::Inbox { before: Seq::ZERO, limit: LIST_ROWS });
            }
            Act::Set => {
                let bits = self.draw.below(SETTINGS.bits() + 1);
                devices.set(slot, peer, Settings::from_bits(bits));
            }
            Act::Leave => self.go_away(devices, slot),
            Act::Edit | Act::Unsend | Act::React => {
                if let Some((who, change)) = self.change_of(act)
                    && let Some((kept, slot, _)) = self.kept(devices, who)
                {
                    devices.change(slot, kept, change);
                }
            }
            Act::Delete => {
                if let Some((kept, slot, other)) = self.kept(devices, Who::Anybody) {
                    let peer = devices.ledger().crew().member(other).user;
                    devices.delete(slot, kept, peer);
                }
            }
            Act::Write | Act::Reply => {}
        }
    }

    /// What an act says about a message, if it does, and whose message that must be.
    fn change_of(&mut self, act: Act) -> Option<(Who, Change)> {
        match act {
            Act::Edit => Some((Who::Author, Change::Edit)),
            Act::Unsend => Some((Who::Author, Change::Unsend)),
            Act::React => {
                let reaction = REACTIONS[self.draw.below(REACTIONS.len() as u64) as usize];
                Some((Who::Anybody, Change::React(reaction)))
            }
            Act::Write | Act::Reply | Act::Read | Act::Leave | Act::Delete | Act::List | Act::Set => None,
        }
    }

    /// Somebody says something about a message of a group. Who reacts is the user of this device, a member; who edits or takes back is an
    /// author who is in the lane.
    pub(super) fn change_in_group(&mut self, devices: &mut Devices, act: Act, slot: u32, group: u32) {
        let Some((who, change)) = self.change_of(act) else { return };
        for _ in 0..ASKED_MAX {
            let ledger = devices.ledger();
            let Some(message) = ledger.groups.some_message(group, &mut self.draw) else { continue };
            let seat = match who {
                Who::Author => self.some_device(ledger.crew().devices(ledger.groups.author(message))),
                Who::Anybody => devices.seat(slot),
            };
            drop(ledger);
            if let Some(slot) = devices.slot(seat).filter(|slot| devices.is_ready(*slot))
                && devices.change_in_group(slot, group, message, change)
            {
                return;
            }
        }
    }

    /// A message of a group that a device has and may answer.
    pub(super) fn answerable_in_group(&mut self, devices: &Devices, slot: u32, group: u32) -> Option<SentId> {
        let (ledger, seat) = (devices.ledger(), devices.seat(slot));
        let mut some = || ledger.groups.some_message(group, &mut self.draw);
        (0..ASKED_MAX).filter_map(|_| some()).find(|message| ledger.groups.has_message(seat, *message))
    }

    /// One of somebody's devices, which sit there.
    fn some_device(&mut self, seats: Range<u32>) -> u32 {
        seats.start + self.draw.below(u64::from(seats.end - seats.start)) as u32
    }

    /// A message to answer: the device that does it, and the seat of whom it answers.
    pub(super) fn answerable(&mut self, devices: &Devices) -> Option<(KeptId, u32, u32)> {
        self.kept(devices, Who::Anybody)
    }

    /// A message that is kept, a device of the lane of somebody who may do something about it and is there, and the seat of the other side.
    fn kept(&mut self, devices: &Devices, who: Who) -> Option<(KeptId, u32, u32)> {
        let ledger = devices.ledger();
        for _ in 0..ASKED_MAX {
            let Some(kept) = ledger.some_kept(&mut self.draw) else { continue };
            let parties = ledger.parties(kept);
            let is_author = who == Who::Author || self.draw.below(2) == 0;
            let (actor, other) =
                if is_author { (parties.author, parties.other) } else { (parties.other, parties.author) };
            let seat = self.some_device(ledger.crew().devices(actor));
            if let Some(slot) = devices.slot(seat).filter(|slot| devices.is_ready(*slot)) {
                return Some((kept, slot, other));
            }
        }
        None
    }

    fn go_away(&mut self, devices: &mut Devices, slot: u32) {
        if self.draw.below(2) == 0 {
            devices.leave(slot);
        } else {
            devices.cut(slot);
        }
        let away_us = self.draw.exponential(AWAY_US_MEAN) as u64;
        devices.connect_at(slot, devices.now_us() + away_us);
        self.away.push(slot);
    }

    /// The day is over: everybody comes back to see what there is.
    pub(super) fn come_back(&mut self, devices: &mut Devices) {
        let now_us = devices.now_us();
        for slot in self.away.drain(..) {
            if !devices.is_ready(slot) {
                devices.connect_at(slot, now_us);
            }
        }
    }

    /// Something has happened.
    pub(super) fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        let is_over = devices.now_us() >= self.end_us;
        match what {
            Happened::Page { slot, fetch, page } if !is_over => {
                if let Some(peer) = fetch.peer.filter(|_| fetch.from == Seq::ZERO) {
                    self.mark_read(devices, *slot, peer, page);
                }
                // One in four scrolls on.
                if let Some(next) = fetch.following(page).filter(|_| self.draw.below(4) == 0) {
                    devices.fetch(*slot, next);
                }
            }
            Happened::Inbox { slot, inbox, .. } if !is_over => {
                let last = inbox.rows.last().and_then(|row| row.last.place()).filter(|_| inbox.more);
                if let Some(before) = last.filter(|_| self.draw.below(4) == 0) {
                    devices.ask(*slot, Ask::Inbox { before, limit: LIST_ROWS });
                }
            }
            Happened::Ready { slot } => self.away.retain(|away| away != slot),
            Happened::Accepted { .. }
            | Happened::Delivered { .. }
            | Happened::Page { .. }
            | Happened::Inbox { .. }
            | Happened::Marked { .. }
            | Happened::Presence { .. }
            | Happened::GroupPage { .. }
            | Happened::Groups { .. }
            | Happened::Typing { .. }
            | Happened::Left { .. }
            | Happened::Opened { .. }
            | Happened::Gone { .. } => {}
        }
    }

    /// Who has opened a chat has read the newest message of the other side, if it is of this run.
    fn mark_read(&self, devices: &mut Devices, slot: u32, peer: UserId, page: &proto_spec::Page) {
        let start = devices.start(slot);
        let is_theirs = |event: &Event| matches!(event, Event::Received { from, .. } if *from == peer);
        let newest = page.entries.iter().rfind(|entry| is_theirs(&entry.event) && !entry.is_reaction());
        let Some(place) = newest.and_then(|entry| entry.place()).filter(|place| *place > start) else { return };
        let Some(seat) = self.firsts.get((peer.0 - self.first_user.0) as usize) else { return };
        devices.read(slot, *seat, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_come_as_often_as_their_shares_say_and_the_rest_are_messages() {
        let acts = Shares { edits: Some(20), reads: Some(0), ..Shares::default() }.of_a_day().unwrap();
        let mut draw = Draw::new(1);
        let drawn: Vec<Act> = (0..10_000).map(|_| acts.draw(&mut draw)).collect();
        let count = |wanted| drawn.iter().filter(|act| **act == wanted).count();
        assert!((1_800..2_200).contains(&count(Act::Edit)), "{}", count(Act::Edit));
        assert!((5_900..6_500).contains(&count(Act::Write)), "{}", count(Act::Write));
        assert_eq!(count(Act::Read), 0);
        assert!([Act::Unsend, Act::Delete, Act::Set].into_iter().all(|act| count(act) > 0));
    }

    #[test]
    fn a_trace_has_only_the_acts_that_were_asked_for_and_some_messages() {
        let acts = Shares::default().of_a_trace().unwrap();
        assert!(!acts.change_messages() && acts.others() == 0);
        let acts = Shares { replies: Some(10), edits: Some(5), ..Shares::default() }.of_a_trace().unwrap();
        assert!(acts.change_messages() && acts.others() == 5);
        let all = Shares { edits: Some(100), ..Shares::default() };
        assert!(all.of_a_trace().unwrap_err().to_string().contains("something else than the messages"));
        let more =
            Shares { edits: Some(60), reads: Some(41), ..Shares::default() }.of_a_trace().unwrap_err().to_string();
        assert_eq!(more, "--reads 41, --edits 60 are together more than 100 of 100 acts");
    }
}
