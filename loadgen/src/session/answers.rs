//! What a device is answered: to its sends, its fetches and its marks.

use proto_spec::{ErrorCode, Inbox, Page, RequestId, SendNumber, Seq};

use super::{
    Answer, Ask, Happened, Opened, Pending, Session, Turn, Wake, check_answer, check_inbox, groups, opening::Opening,
};
use crate::stats::{Count, Measure, Refused};

impl Session {
    pub(super) fn on_accepted(&mut self, turn: &mut Turn<'_>, number: SendNumber, seq: Seq) {
        if seq == self.position.next() {
            self.advance(turn, seq);
        }
        let Some(outbox) = &mut self.outbox else { return turn.fault(format!("send {number} was never made")) };
        match outbox.accepted(turn.now_us, number, seq) {
            Ok(Answer::Accepted(pending)) => {
                match pending {
                    Pending::Message { stream, index, .. } => {
                        if let Some(intended_us) = turn.ledger.accepted(stream, index, seq, &mut self.told) {
                            turn.stats[Count::Accepted] += 1;
                            let took_us = turn.now_us.saturating_sub(intended_us);
                            turn.stats.record(Measure::Accepted, took_us);
                            if let Some(between) = turn.ledger.by_home(stream) {
                                between.accepted.record(took_us);
                            }
                            turn.happened.push(Happened::Accepted { slot: turn.slot, stream });
                        }
                    }
                    Pending::Group(sent) => groups::accepted(turn, sent, seq),
                    Pending::Change { kept, which, .. } => {
                        turn.ledger.change_accepted(turn.seat, kept, which, seq, &mut self.told);
                        turn.stats[Count::Changed] += 1;
                    }
                }
                if let Some(us) = outbox.held_until() {
                    turn.wake.push(Wake::Pump(us));
                }
            }
            Ok(_) => turn.fault(format!("send {number} was answered, as {seq}, though nothing waits for that")),
            Err(words) => turn.fault(words),
        }
    }

    pub(super) fn on_refused(&mut self, turn: &mut Turn<'_>, number: SendNumber, code: ErrorCode, retry_after_ms: u64) {
        let answer = self
            .outbox
            .as_mut()
            .map_or(Answer::Unasked, |outbox| outbox.refused(turn.now_us, number, code, retry_after_ms));
        if let Answer::Final(Pending::Change { .. }, _) = answer {
            turn.stats[Count::ChangesRefused] += 1;
        } else {
            turn.stats[Count::SendsRefused] += 1;
            // What is refused for good, or since it is void, is nothing that holds a run back.
            if retry_after_ms > 0 || code == ErrorCode::WindowFull {
                turn.stats.refused(Refused::Send, code);
            }
        }
        match answer {
            Answer::Later => {}
            Answer::HeldUntil(us) => turn.wake.push(Wake::Pump(us)),
            Answer::Final(pending, until) => {
                until.into_iter().for_each(|us| turn.wake.push(Wake::Pump(us)));
                match pending {
                    Pending::Message { index, .. } => {
                        turn.fault(format!("send {number}, message {index}, was refused for good: {}", code.name()));
                    }
                    Pending::Group(sent) => {
                        turn.fault(format!("send {number}, {sent:?}, was refused for good: {}", code.name()));
                    }
                    Pending::Change { kept, which, .. } => turn.ledger.change_refused(kept, which, code, turn.now_us),
                }
            }
            Answer::Unasked | Answer::Accepted(_) => {
                turn.fault(format!("send {number} was refused, though nothing waits for that"));
            }
        }
    }

    pub(super) fn on_given_up(&mut self, turn: &mut Turn<'_>, number: SendNumber, seq: Seq) {
        let Some(outbox) = &mut self.outbox else { return turn.fault(format!("send {number} was never made")) };
        match outbox.given_up(turn.now_us, number, seq) {
            Ok(None) => {}
            Ok(Some(us)) => {
                turn.stats[Count::GivenUp] += 1;
                turn.wake.push(Wake::Pump(us));
            }
            Err(words) => turn.fault(words),
        }
    }

    pub(super) fn on_page(&mut self, turn: &mut Turn<'_>, page: Page) {
        let Some((Ask::Page(fetch), asked_us)) = self.answered(page.request) else {
            return turn.fault(format!("a page of request {}, which nothing waits for", page.request));
        };
        if let Err(words) = check_answer(&fetch, &page) {
            turn.fault(words);
        }
        turn.stats[Count::Pages] += 1;
        turn.stats[Count::PageEntries] += page.entries.len() as u64;
        turn.stats.record(Measure::Page, turn.now_us.saturating_sub(asked_us));
        turn.happened.push(Happened::Page { slot: turn.slot, fetch, page });
    }

    /// A part of what an app opens with has come.
    pub(super) fn on_opening(
        &mut self,
        turn: &mut Turn<'_>,
        take: impl FnOnce(&mut Opening, u64) -> Result<Option<Opened>, String>,
    ) {
        let Some(opening) = &mut self.opening else { return turn.fault("an inbox that no app waits for".to_owned()) };
        match take(opening, turn.now_us) {
            Ok(None) => {}
            Ok(Some(opened)) => {
                self.opening = None;
                turn.stats[Count::Opened] += 1;
                turn.stats.record(Measure::SinceHello, opened.since_hello_us);
                turn.happened.push(Happened::Opened { slot: turn.slot, opened: Box::new(opened) });
            }
            Err(words) => turn.fault(words),
        }
    }

    pub(super) fn on_inbox(&mut self, turn: &mut Turn<'_>, inbox: Inbox) {
        let Some((Ask::Inbox { before, limit }, asked_us)) = self.answered(inbox.request) else {
            return turn.fault(format!("a list of request {}, which nothing waits for", inbox.request));
        };
        if let Err(words) = check_inbox(before, limit, &inbox) {
            turn.fault(words);
        }
        turn.stats[Count::Inboxes] += 1;
        turn.stats.record(Measure::Inbox, turn.now_us.saturating_sub(asked_us));
        turn.happened.push(Happened::Inbox { slot: turn.slot, before, inbox });
    }

    pub(super) fn on_marked(&mut self, turn: &mut Turn<'_>, request: RequestId) {
        let answered = self.answered(request).map(|(ask, _)| ask).filter(|ask| !ask.is_fetch());
        let Some(ask) = answered else {
            return turn.fault(format!("request {request} is done, which nothing waits for"));
        };
        match ask {
            Ask::Read { author, .. } => turn.ledger.read_answered(turn.seat, author),
            Ask::Set { peer, .. } => turn.ledger.set_answered(turn.seat, peer),
            Ask::Delete { kept, .. } => turn.ledger.delete_answered(turn.seat, kept),
            Ask::Block { .. }
            | Ask::Hide { .. }
            | Ask::Page(_)
            | Ask::Inbox { .. }
            | Ask::GroupPage(_)
            | Ask::Groups { .. } => {}
        }
        turn.stats[Count::Marked] += 1;
        turn.happened.push(Happened::Marked { slot: turn.slot, ask });
    }

    /// What an answer is to, and when that was asked for.
    pub(super) fn answered(&mut self, request: RequestId) -> Option<(Ask, u64)> {
        let fetches = self.fetches.as_mut()?;
        let answered = fetches.answered(request);
        if fetches.is_empty() {
            self.fetches = None;
        }
        answered
    }
}
