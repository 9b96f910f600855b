//! What a server says after its welcome.

use proto_spec::{ClientFrame, ClientKind, Entry, ErrorCode, Event, Page, RequestId, SendNumber, ServerFrame};

use super::{
    ClientState, Effects, MonotonicMs, Phase,
    ending::{Flow, protocol_fault},
    session::Redirect,
};
use crate::{
    epochs::Told,
    event::{ClientEvent, FetchHandle, SendHandle},
    limits::RETRY_AFTER_MAX_MS,
    outbox::{Contradiction, Refusal},
    position::check_page,
    renewal::Renewal,
};

impl ClientState {
    pub(super) fn on_frame(&mut self, now: MonotonicMs, frame: ServerFrame, effects: &mut Effects) -> Flow {
        match frame {
            ServerFrame::Accepted { number, seq, time, durability, recipient } => {
                let Some(message) = self.outbox.accepted(number) else {
                    self.unasked_answers += 1;
                    return Flow::Continue(());
                };
                let handle = message.handle;
                let event = ClientEvent::MessageAccepted { handle, number, seq, time, durability, recipient };
                effects.events.push(event);
                self.on_recipient(message.to, recipient, effects);
                if self.position.accepted(seq) {
                    let (to, device, content) = (message.to, self.device, message.content);
                    let event = Event::Sent { to, device, number, content };
                    effects.events.push(ClientEvent::Entry(Entry { seq, time, event }));
                }
                self.settle(now, effects)
            }
            ServerFrame::GivenUp { number, seq } => {
                let is_asked = self.outbox.given_up(number, seq, announces(effects));
                self.unasked_answers += u64::from(!is_asked);
                self.settle(now, effects)
            }
            ServerFrame::Refused { number, code, retry_after_ms, expected } => {
                match self.outbox.refused(now, number, code, retry_after_ms, expected, announces(effects)) {
                    Refusal::Later => {}
                    Refusal::ForGood(handle) => effects.events.push(ClientEvent::MessageRefused { handle, code }),
                    Refusal::Unasked => self.unasked_answers += 1,
                }
                self.settle(now, effects)
            }
            ServerFrame::Deliver { entry } => match self.position.deliver(entry) {
                Ok(entry) => {
                    entry.into_iter().for_each(|entry| self.hand_out(entry, effects));
                    Flow::Continue(())
                }
                Err(reason) => Flow::Break(reason.into()),
            },
            ServerFrame::Page(page) => self.on_page(page, effects),
            ServerFrame::Inbox(inbox) => {
                let first = inbox.rows.first().map(|row| row.conversation);
                let asked = self.fetches.inbox_came(inbox.request, first);
                self.answer(asked, effects, |fetch| ClientEvent::Inbox { fetch, inbox })
            }
            ServerFrame::Marked { request } => {
                let asked = self.fetches.answered(request);
                self.answer(asked, effects, |fetch| ClientEvent::Marked { fetch })
            }
            ServerFrame::Error { code: ErrorCode::UnknownKind, kind, .. } if kind == ClientKind::GiveUp.byte() => {
                self.outbox.give_up_is_unknown();
                protocol_fault("the server does not know give_up, which its welcome told".into())
            }
            ServerFrame::Error { code, kind, request, retry_after_ms, detail } => {
                self.on_error(now, code, kind, request, retry_after_ms, detail, effects);
                Flow::Continue(())
            }
            ServerFrame::Ping { nonce } => {
                ClientFrame::Pong { nonce }.encode(&mut effects.bytes);
                Flow::Continue(())
            }
            // Any byte proves that the link lives; which ping this answers does not matter.
            ServerFrame::Pong { .. } => Flow::Continue(()),
            ServerFrame::Bye { code, retry_after_ms, detail, devices } => {
                self.on_bye(now, code, retry_after_ms, detail, devices)
            }
            ServerFrame::TokenExpiring { expires_in_ms } => {
                effects.events.push(ClientEvent::TokenExpiring { expires_in_ms });
                Flow::Continue(())
            }
            ServerFrame::Refreshed { expires } => {
                if self.renewal.accepted() {
                    if self.renewal == Renewal::Done {
                        self.good_token.clone_from(&self.token);
                    }
                    effects.events.push(ClientEvent::TokenRefreshed { expires });
                } else {
                    self.unasked_answers += 1;
                }
                Flow::Continue(())
            }
            ServerFrame::Epoch { first, epoch } => match self.position.epoch_begins(first, epoch) {
                Told::New => {
                    effects.events.push(ClientEvent::Epoch(epoch));
                    Flow::Continue(())
                }
                Told::Again => Flow::Continue(()),
                Told::OtherLog => {
                    let detail = format!("an epoch that this device does not know begins at {first}");
                    self.begin_anew(now, ErrorCode::OtherLog, detail)
                }
            },
            ServerFrame::Digest(digests) => {
                let asked = self.fetches.answered(digests.request);
                self.answer(asked, effects, |fetch| ClientEvent::Digest { fetch, digests })
            }
            ServerFrame::Devices { request, devices } => {
                let asked = self.fetches.answered(request);
                self.answer(asked, effects, |fetch| ClientEvent::Devices { fetch, devices })
            }
            ServerFrame::Subscription { request, state } => {
                let asked = self.fetches.answered(request);
                self.answer(asked, effects, |fetch| ClientEvent::Subscription { fetch, state })
            }
            ServerFrame::Committed { up_to } => {
                effects.events.push(ClientEvent::Committed { up_to });
                Flow::Continue(())
            }
            ServerFrame::Presence { request, lifetime_ms, states } => {
                self.on_presence(now, request, lifetime_ms, &states, effects)
            }
            ServerFrame::Typing { conversation, user, ends_in_ms } => {
                self.on_typing(now, conversation, user, ends_in_ms, effects);
                Flow::Continue(())
            }
            ServerFrame::TypingInGroup { group, user, ends_in_ms } => {
                self.on_typing(now, group.into(), user, ends_in_ms, effects);
                Flow::Continue(())
            }
            ServerFrame::Redirect { .. } if !self.nodes.follows() => {
                protocol_fault("a redirect to a client that follows none".into())
            }
            ServerFrame::Redirect { address, reason, after_ms, map_version } => {
                if let Phase::Ready(session) = &mut self.phase {
                    session.redirect = Some(Redirect::new(now, address, reason, after_ms, map_version));
                }
                Flow::Continue(())
            }
            ServerFrame::DeliverGroup { group, entry } => {
                let author = entry.content.is_message().then_some(entry.from);
                self.receipts.handed_out(group, entry.seq);
                effects.events.push(ClientEvent::GroupEntry { group, entry });
                effects.events.extend(author.into_iter().flat_map(|author| self.typing.wrote(group.into(), author)));
                Flow::Continue(())
            }
            ServerFrame::GroupPage(page) => self.on_group_page(page, effects),
            ServerFrame::Groups { request, at, more, rows } => {
                let asked = self.fetches.answered(request);
                self.answer(asked, effects, |fetch| ClientEvent::Groups { fetch, at, more, rows })
            }
            ServerFrame::Members { request, group, more, at, members, delivered, read } => {
                let asked = self.fetches.answered(request);
                self.answer(asked, effects, |fetch| ClientEvent::Members {
                    fetch,
                    group,
                    more,
                    at,
                    members,
                    delivered,
                    read,
                })
            }
            ServerFrame::Welcome { .. } => protocol_fault("a second welcome".into()),
        }
    }

    fn on_page(&mut self, page: Page, effects: &mut Effects) -> Flow {
        if page.request == RequestId(0) {
            return match self.position.page(page) {
                Ok(entries) => {
                    entries.into_iter().for_each(|entry| self.hand_out(entry, effects));
                    Flow::Continue(())
                }
                Err(reason) => Flow::Break(reason.into()),
            };
        }
        if let Err(reason) = check_page(&page) {
            return Flow::Break(reason.into());
        }
        let asked = self.fetches.answered(page.request);
        self.answer(asked, effects, |fetch| ClientEvent::Page { fetch, page })
    }

    /// Hands out the answer to what was asked for; one that nothing has asked for is counted.
    pub(super) fn answer(
        &mut self,
        asked: Option<FetchHandle>,
        effects: &mut Effects,
        event: impl FnOnce(FetchHandle) -> ClientEvent,
    ) -> Flow {
        match asked {
            Some(fetch) => effects.events.push(event(fetch)),
            None => self.unasked_answers += 1,
        }
        Flow::Continue(())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    fn on_error(
        &mut self,
        now: MonotonicMs,
        code: ErrorCode,
        kind: u8,
        request: RequestId,
        retry_after_ms: u64,
        detail: String,
        effects: &mut Effects,
    ) {
        if kind == ClientKind::Refresh.byte() {
            return self.on_refresh_refused(now, code, retry_after_ms, detail, effects);
        }
        if kind == ClientKind::Watch.byte() {
            return self.on_watch_refused(now, request, code, retry_after_ms, detail, effects);
        }
        let requests = match request {
            RequestId(0) => self.fetches.in_flight_of(kind),
            request => vec![request],
        };
        if code == ErrorCode::NoSuchDevice && self.fetches.was_removed_before(request) {
            return;
        }
        if requests.is_empty() {
            effects.events.push(ClientEvent::ServerError { code, kind, detail });
        } else if retry_after_ms > 0 {
            let not_before = now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS));
            requests.into_iter().for_each(|request| self.fetches.put_off(request, not_before));
        } else {
            let refused = requests.into_iter().filter_map(|request| self.fetches.answered(request));
            effects.events.extend(refused.map(|fetch| ClientEvent::FetchRefused {
                fetch,
                code,
                detail: detail.clone(),
            }));
        }
    }

    pub(super) fn on_refresh_refused(
        &mut self,
        now: MonotonicMs,
        code: ErrorCode,
        retry_after_ms: u64,
        detail: String,
        effects: &mut Effects,
    ) {
        let was_asked = if retry_after_ms > 0 {
            self.renewal.put_off(now.after(retry_after_ms.min(RETRY_AFTER_MAX_MS)))
        } else {
            // A server that does not know refreshes takes new tokens in a hello only.
            let was_asked = match code {
                ErrorCode::UnknownKind => self.renewal.accepted(),
                _ => self.renewal.refused(),
            };
            effects.events.extend(was_asked.then_some(ClientEvent::TokenRefused { code, detail }));
            was_asked
        };
        self.unasked_answers += u64::from(!was_asked);
    }

    pub(super) fn settle(&mut self, now: MonotonicMs, effects: &mut Effects) -> Flow {
        match self.outbox.settle(now, announces(effects)) {
            Ok(()) => Flow::Continue(()),
            Err(Contradiction) => protocol_fault("a number was refused that is used up".into()),
        }
    }
}

/// Tells the application what number a message has from now on.
pub(super) fn announces(effects: &mut Effects) -> impl FnMut(SendHandle, Option<SendNumber>) {
    |handle, number| effects.events.push(ClientEvent::Numbered { handle, number })
}
