//! What a device is pushed, and what of that the ledger learns (SPEC 8.2).

use proto_spec::{ConversationId, Entry, Event, Page, Seq};

use super::{Ending, Happened, Session, Turn, Wake, check_page, fault};
use crate::{
    stats::{Count, Measure},
    verify::groups::Pointer,
};

impl Session {
    pub(super) fn on_deliver(&mut self, turn: &mut Turn<'_>, entry: &Entry) -> Result<(), Ending> {
        if entry.seq <= self.position {
            turn.stats[Count::PassedOver] += 1;
            return Ok(());
        }
        if entry.seq != self.position.next() {
            return fault(format!("a hole: entry {} was delivered after position {}", entry.seq, self.position));
        }
        self.advance(turn, entry.seq);
        self.on_entry(turn, entry);
        Ok(())
    }

    pub(super) fn on_pushed(&mut self, turn: &mut Turn<'_>, page: &Page) -> Result<(), Ending> {
        check_page(page).map_err(Ending::Fault)?;
        if page.first > self.position.next() {
            return fault(format!("a hole: a page of {} on was pushed after position {}", page.first, self.position));
        }
        turn.stats[Count::PagesPushed] += 1;
        let position = self.position;
        for entry in &page.entries {
            if entry.seq > position {
                self.on_entry(turn, entry);
            } else {
                turn.stats[Count::PassedOver] += 1;
            }
        }
        self.advance(turn, page.last.max(position));
        Ok(())
    }

    /// An entry that the position has come to.
    fn on_entry(&mut self, turn: &mut Turn<'_>, entry: &Entry) {
        match &entry.event {
            Event::Received { from, origin: seq, content } if !content.is_message() => {
                turn.ledger.changed(turn.seat, (entry.seq, *seq), *from, content, &mut self.told);
                turn.stats[Count::ChangesTold] += 1;
            }
            Event::Sent { to: ConversationId::Person(_), content, .. } if !content.is_message() => {
                let me = turn.ledger.crew().member(turn.seat).user;
                turn.ledger.changed(turn.seat, (entry.seq, entry.seq), me, content, &mut self.told);
                turn.stats[Count::ChangesTold] += 1;
            }
            Event::Received { from, origin, content } => {
                let arrival = turn.ledger.received(turn.seat, entry.seq, *from, *origin, content, &mut self.told);
                if let Some(arrival) = arrival {
                    turn.stats[Count::Delivered] += 1;
                    // What was sent while nobody was there says how long the device was away.
                    let was_away = arrival.intended_us < self.ready_us;
                    let measure = if was_away { Measure::CaughtUp } else { Measure::Delivered };
                    let took_us = turn.now_us.saturating_sub(arrival.intended_us);
                    turn.stats.record(measure, took_us);
                    if !was_away && let Some(between) = turn.ledger.by_home(arrival.stream) {
                        between.delivered.record(took_us);
                    }
                    turn.happened.push(Happened::Delivered { slot: turn.slot, stream: arrival.stream });
                }
            }
            Event::Sent { to: ConversationId::Person(to), device, number, content } => {
                let number = (*device, *number);
                let arrival = turn.ledger.copied(turn.seat, entry.seq, *to, number, content, &mut self.told);
                turn.stats[Count::Copied] += u64::from(arrival.is_some());
            }
            Event::Read { .. } | Event::Seen { .. } | Event::Deleted { .. } => {
                turn.ledger.marked(turn.seat, entry.seq, &entry.event, &mut self.told);
                turn.stats[Count::MarksTold] += 1;
            }
            Event::Group { group, standing, first, up_to, .. } => {
                let pointer = Pointer { standing: *standing, first: Some(*first), up_to: *up_to };
                turn.stats[Count::Pointers] += 1;
                self.on_pointer(turn, *group, pointer);
            }
            Event::GroupRefused { group, origin, code } => {
                turn.stats[Count::GroupRefused] += 1;
                turn.ledger.groups.refused(turn.seat, *group, *origin, *code, turn.now_us);
            }
            Event::Delivered { .. }
            | Event::Devices { .. }
            | Event::Settings { .. }
            | Event::Visibility { .. }
            // What has come of it is told by others.
            | Event::Sent { to: ConversationId::Group(_), .. }
            | Event::Unknown { .. } => {}
        }
    }

    pub(super) fn advance(&mut self, turn: &mut Turn<'_>, position: Seq) {
        self.position = position;
        if position > self.acknowledged && !self.is_acknowledging {
            self.is_acknowledging = true;
            turn.wake.push(Wake::Acknowledge);
        }
    }
}
