//! Reading back: the history of each user who took part, against what the user's devices were told, and these against each other. Where
//! the run has changed messages, the user's list of conversations and each of these too, against the history.

use proto_spec::{Direction, Seq, UserId, limits::PAGE_ENTRIES_MAX};

use crate::{
    devices::Devices,
    limits::{LIST_ROWS, READERS_MAX},
    session::{Ask, Fetch, Happened},
    stats::Count,
    verify::{HistoryCheck, ListCheck},
};

/// The reading of one user.
#[derive(Debug)]
struct Reading {
    slot: u32,
    /// What it waits for.
    asked: Ask,
    stage: Stage,
}

/// How far it is.
#[derive(Debug)]
enum Stage {
    History(HistoryCheck),
    /// The list, and then the conversations in it.
    List(Box<ListCheck>),
}

/// The reading of one lane.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// The next slot to look at.
    next: u32,
    reading: Vec<Reading>,
}

impl ReadBack {
    /// Begins further readings; true when there is none left.
    pub(super) fn drive(&mut self, devices: &mut Devices, peer: impl Fn(&Devices, u32) -> Option<UserId>) -> bool {
        while self.reading.len() < READERS_MAX && (self.next as usize) < devices.len() {
            let slot = self.next;
            let all = devices.crew().devices(slot);
            self.next = all.end;
            if all.clone().all(|device| devices.told(device).count == 0) {
                continue;
            }
            compare_devices(devices, slot);
            let (from, direction, limit) = (devices.start(slot).next(), Direction::Forwards, PAGE_ENTRIES_MAX);
            let asked = Ask::Page(Fetch { peer: peer(devices, slot), from, direction, limit });
            let stage = Stage::History(HistoryCheck::new(devices.seat(slot), direction));
            self.reading.push(Reading { slot, asked, stage });
            devices.ask(slot, asked);
        }
        self.reading.is_empty()
    }

    pub(super) fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        // What the load has asked for may come late.
        let (slot, answered) = match what {
            Happened::Page { slot, fetch, .. } => (*slot, Ask::Page(*fetch)),
            Happened::Inbox { slot, before, .. } => (*slot, inbox(*before)),
            _ => return,
        };
        let is_it = |reading: &Reading| reading.slot == slot && reading.asked == answered;
        let Some(at) = self.reading.iter().position(is_it) else { return };
        match self.reading[at].on(devices, what) {
            Some(asked) => {
                self.reading[at].asked = asked;
                devices.ask(slot, asked);
            }
            None => drop(self.reading.swap_remove(at)),
        }
    }
}

const fn inbox(before: Seq) -> Ask {
    Ask::Inbox { before, limit: LIST_ROWS }
}

impl Reading {
    /// Takes the answer. Gives what is asked for next, unless everything has been read.
    fn on(&mut self, devices: &mut Devices, what: &Happened) -> Option<Ask> {
        let (slot, told) = (self.slot, *devices.told(self.slot));
        match (&mut self.stage, what) {
            (Stage::History(check), Happened::Page { fetch, page, .. }) => {
                check.take(&mut devices.ledger(), &page.entries);
                if let Some(next) = fetch.following(page) {
                    return Some(Ask::Page(next));
                }
                let check = std::mem::replace(check, HistoryCheck::new(0, Direction::Forwards));
                let standings = check.finish(&mut devices.ledger(), &told);
                devices.stats_mut()[Count::HistoriesChecked] += 1;
                let has_lists = devices.ledger().changes_messages();
                has_lists.then(|| {
                    self.stage =
                        Stage::List(Box::new(ListCheck::new(devices.seat(slot), devices.start(slot), standings)));
                    inbox(Seq::ZERO)
                })
            }
            (Stage::List(check), Happened::Inbox { inbox: page, .. }) => {
                let next = check.take_inbox(&mut devices.ledger(), page.clone());
                if let Some(before) = next {
                    return Some(inbox(before));
                }
                devices.stats_mut()[Count::ListsChecked] += 1;
                check.next_talk().map(newest)
            }
            (Stage::List(check), Happened::Page { fetch, page, .. }) => {
                let goes_on = check.take_page(&mut devices.ledger(), page);
                if let Some(next) = fetch.following(page).filter(|_| goes_on) {
                    return Some(Ask::Page(next));
                }
                check.finish(&mut devices.ledger());
                devices.stats_mut()[Count::TalksChecked] += 1;
                check.next_talk().map(newest)
            }
            _ => None,
        }
    }
}

/// The newest messages of a conversation.
const fn newest(peer: UserId) -> Ask {
    let (from, direction, limit) = (Seq::ZERO, Direction::Backwards, PAGE_ENTRIES_MAX);
    Ask::Page(Fetch { peer: Some(peer), from, direction, limit })
}

/// All devices of a user must have been told the same.
fn compare_devices(devices: &mut Devices, first: u32) {
    let told = *devices.told(first);
    for device in devices.crew().devices(first) {
        let other = *devices.told(device);
        if other != told {
            let member = devices.crew().member(device);
            let (user, id, (count, wanted)) = (member.user, member.device(), (other.count, told.count));
            let what =
                if count == wanted { "under other seqs or with other texts".to_owned() } else { format!("{count}") };
            let words = format!("user {user}: device 1 was told {wanted} entries of this run, device {id} {what}");
            devices.ledger().faults.add(words);
        }
    }
}
