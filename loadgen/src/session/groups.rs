//! What a device is told of groups, and what it asks for then (SPEC 8.12). What that must be is for [`crate::verify::groups`].

use proto_spec::{ClientFrame, GroupEntry, GroupId, GroupPage, GroupRow, RequestId, Seq};

use super::{Ask, Happened, Phase, Session, Turn, Wake};
use crate::{
    stats::{Count, Measure},
    verify::groups::{Arrival, Came, Pointer, Said, SentId},
};

/// A message or an act was accepted.
pub(super) fn accepted(turn: &mut Turn<'_>, sent: SentId, seq: Seq) {
    let taken = turn.ledger.groups.accepted(sent, seq);
    turn.ledger.groups.take_arrivals().into_iter().for_each(|arrival| record(turn, arrival));
    let Some(taken) = taken else { return };
    match taken.said {
        Said::Message(_) | Said::Reply(..) => {
            turn.stats[Count::GroupAccepted] += 1;
            turn.stats.record(Measure::GroupAccepted, turn.now_us.saturating_sub(taken.intended_us));
        }
        Said::Change(..) => turn.stats[Count::GroupChanged] += 1,
        Said::Create | Said::Add(_) | Said::Remove(_) => turn.stats[Count::Acts] += 1,
    }
}

/// How long a message was on its way to a member.
fn record(turn: &mut Turn<'_>, arrival: Arrival) {
    let Arrival { intended_us, at_us, ready_us } = arrival;
    let measure = if intended_us < ready_us { Measure::GroupCaughtUp } else { Measure::GroupDelivered };
    turn.stats.record(measure, at_us.saturating_sub(intended_us));
}

impl Session {
    pub(super) fn on_group_pushed(&mut self, turn: &mut Turn<'_>, group: GroupId, entry: &GroupEntry) {
        match turn.ledger.groups.pushed(turn.seat, group, entry, turn.now_us, self.ready_us) {
            Ok(came) => {
                self.has(turn, group, entry.seq);
                self.on_came(turn, came);
                self.ask_for_gaps(turn);
            }
            Err(words) => turn.fault(words),
        }
    }

    fn has(&mut self, turn: &mut Turn<'_>, group: GroupId, seq: Seq) {
        if self.unsaid.is_empty() {
            turn.wake.push(Wake::AcknowledgeGroups);
        }
        match self.unsaid.iter_mut().find(|(of, _)| *of == group) {
            Some((_, up_to)) => *up_to = seq.max(*up_to),
            None => self.unsaid.push((group, seq)),
        }
    }

    /// Acknowledges what it was pushed of groups.
    pub fn acknowledge_groups(&mut self, turn: &mut Turn<'_>) {
        for (group, up_to) in std::mem::take(&mut self.unsaid) {
            if self.phase == Phase::Ready {
                turn.send(&ClientFrame::AcknowledgeGroup { group, up_to });
            }
        }
    }

    pub(super) fn on_group_page(&mut self, turn: &mut Turn<'_>, page: GroupPage) {
        let Some((Ask::GroupPage(fetch), asked_us)) = self.answered(page.request) else {
            return turn.fault(format!("a page of a group for request {}, which nothing waits for", page.request));
        };
        turn.stats[Count::GroupPages] += 1;
        turn.stats.record(Measure::GroupPage, turn.now_us.saturating_sub(asked_us));
        if fetch.is_for_gap {
            match turn.ledger.groups.fetched(turn.seat, &fetch, &page, turn.now_us, self.ready_us) {
                Ok(all) => {
                    turn.stats[Count::GroupFetched] += all.iter().filter(|came| came.is_new).count() as u64;
                    all.into_iter().for_each(|came| self.on_came(turn, came));
                }
                Err(words) => turn.fault(words),
            }
        } else {
            if let Err(words) = fetch.check(&page) {
                turn.fault(words);
            }
            turn.happened.push(Happened::GroupPage { slot: turn.slot, fetch, page });
        }
        self.ask_for_gaps(turn);
    }

    pub(super) fn on_groups(&mut self, turn: &mut Turn<'_>, request: RequestId, more: bool, rows: &[GroupRow]) {
        let Some((Ask::Groups { after }, _)) = self.answered(request) else {
            return turn.fault(format!("groups for request {request}, which nothing waits for"));
        };
        let mut before = after;
        for row in rows {
            if row.group <= before {
                turn.fault(format!("a list of groups has {} behind {before}", row.group));
            }
            before = row.group;
            self.on_pointer(turn, row.group, Pointer { standing: row.standing, first: None, up_to: row.head });
        }
        if more {
            self.ask(turn, Ask::Groups { after: before });
        } else {
            turn.happened.push(Happened::Groups { slot: turn.slot });
        }
    }

    pub(super) fn on_pointer(&mut self, turn: &mut Turn<'_>, group: GroupId, pointer: Pointer) {
        if let Err(words) = turn.ledger.groups.told(turn.seat, group, pointer) {
            turn.fault(words);
        }
        self.ask_for_gaps(turn);
    }

    /// Somebody looks at the groups.
    pub fn look_at_groups(&mut self, turn: &mut Turn<'_>) {
        self.ask_for_gaps(turn);
    }

    /// Asks for what the device lacks, as far as it may ask.
    pub(super) fn ask_for_gaps(&mut self, turn: &mut Turn<'_>) {
        while turn.ledger.groups.has_gap(turn.seat)
            && self.has_room(Ask::Groups { after: GroupId(0) })
            && let Some(fetch) = turn.ledger.groups.next_gap(turn.seat)
        {
            self.ask(turn, Ask::GroupPage(fetch));
        }
    }

    fn on_came(&self, turn: &mut Turn<'_>, came: Came) {
        if !came.is_new {
            turn.stats[Count::GroupAgain] += 1;
            return;
        }
        turn.stats[Count::GroupDelivered] += 1;
        if let Some(intended_us) = came.intended_us {
            record(turn, Arrival { intended_us, at_us: turn.now_us, ready_us: self.ready_us });
        }
    }
}
