//! The welcome, or what comes instead of it.

use proto_spec::{Capabilities, ClientKind, Content, ErrorCode, ServerFrame, limits};

use super::{
    ClientState, Effects, MonotonicMs, Phase,
    calls::{check_content, check_taken},
    ending::{Flow, Stop, protocol_fault},
    session::{PingAfter, Redirect, Session},
};
use crate::{
    event::{ClientEvent, DisconnectReason, EndReason, WelcomeInfo},
    outbox::Outgoing,
};

impl ClientState {
    pub(super) fn on_greeting(&mut self, now: MonotonicMs, frame: ServerFrame, effects: &mut Effects) -> Flow {
        match frame {
            ServerFrame::Welcome {
                version,
                user,
                server_time,
                head,
                cursor,
                last_number,
                send_window,
                text_bytes_max,
                page_entries_max,
                idle_timeout_ms,
                committed,
                epoch,
                capabilities,
                skipped,
                visibility,
                ping_after_ms,
            } => {
                if version != proto_spec::PROTOCOL_VERSION {
                    return Flow::Break(Stop::End(EndReason::Version(version)));
                }
                self.good_token.clone_from(&self.hello_token);
                if self.position.is_beyond(head) {
                    let detail = format!("the log ends at {head}, before what this device holds");
                    return self.begin_anew(now, ErrorCode::OtherLog, detail);
                }
                let skipped_after = match self.position.welcome(cursor, epoch, skipped) {
                    Ok(after) => after,
                    Err(reason) => return Flow::Break(reason.into()),
                };
                self.nodes.welcome();
                self.tell_of_replacement(last_number, effects);
                // What was skipped is of the log that there is now.
                let skipped = skipped_after.map(|after| ClientEvent::Skipped { after, up_to: cursor });
                effects.events.extend(skipped);
                let capabilities = capabilities.or_first();
                self.outbox.connected(last_number, capabilities.takes_frame(ClientKind::GiveUp));
                self.presence_begins();
                self.text_bytes_max = usize::try_from(text_bytes_max).unwrap_or(usize::MAX).min(limits::TEXT_BYTES_MAX);
                self.phase = Phase::Ready(Session {
                    since: now,
                    capabilities,
                    // A window of zero would be a client that never sends.
                    window: send_window.clamp(1, limits::SEND_WINDOW) as usize,
                    ping_after: PingAfter::told(ping_after_ms, idle_timeout_ms),
                    heard_at: now,
                    spoke_at: now,
                    pinged_at: None,
                    is_doubted: false,
                    acknowledge_at: None,
                    catching_up_to: Some(head),
                    has_progressed: false,
                    redirect: None,
                });
                effects.events.push(ClientEvent::Welcome(WelcomeInfo {
                    user,
                    device: self.device,
                    server_time,
                    head,
                    cursor,
                    last_number,
                    send_window,
                    text_bytes_max,
                    page_entries_max,
                    committed,
                    epoch: self.position.epoch(),
                    capabilities,
                    visibility,
                    elsewhere: self.nodes.elsewhere().map(str::to_owned),
                }));
                self.return_untaken(&capabilities, effects);
                self.settle(now, effects)
            }
            ServerFrame::Bye { code, retry_after_ms, detail, devices } => {
                self.on_bye(now, code, retry_after_ms, detail, devices)
            }
            ServerFrame::Redirect { .. } if !self.nodes.follows() => {
                protocol_fault("a redirect to a client that follows none".into())
            }
            ServerFrame::Redirect { address, reason, after_ms, map_version } => {
                Flow::Break(Stop::Redirect(Redirect::new(now, address, reason, after_ms, map_version)))
            }
            ServerFrame::Error { code, retry_after_ms, detail, .. } => Flow::Break(Stop::Retry {
                reason: DisconnectReason::Protocol(format!("{} before the welcome: {detail}", code.name())),
                retry_after_ms,
            }),
            ServerFrame::Accepted { .. }
            | ServerFrame::Refused { .. }
            | ServerFrame::Deliver { .. }
            | ServerFrame::Page(_)
            | ServerFrame::Ping { .. }
            | ServerFrame::Pong { .. }
            | ServerFrame::Committed { .. }
            | ServerFrame::TokenExpiring { .. }
            | ServerFrame::Refreshed { .. }
            | ServerFrame::Epoch { .. }
            | ServerFrame::GivenUp { .. }
            | ServerFrame::Inbox(_)
            | ServerFrame::Marked { .. }
            | ServerFrame::Digest(_)
            | ServerFrame::Presence { .. }
            | ServerFrame::Typing { .. }
            | ServerFrame::DeliverGroup { .. }
            | ServerFrame::GroupPage(_)
            | ServerFrame::Groups { .. }
            | ServerFrame::Members { .. }
            | ServerFrame::TypingInGroup { .. }
            | ServerFrame::Subscription { .. }
            | ServerFrame::Devices { .. } => protocol_fault(format!("{} before the welcome", frame.kind().name())),
        }
    }

    /// What waited for a connection and is nothing for this server goes back to the application before it gets a number.
    fn return_untaken(&mut self, server: &Capabilities, effects: &mut Effects) {
        let text_bytes_max = self.text_bytes_max;
        let check = |to, content: &Content| {
            check_content(content, text_bytes_max).and_then(|()| check_taken(server, to, content)).err()
        };
        let returned = self.outbox.take_untaken(check).into_iter();
        effects.events.extend(returned.map(|(Outgoing { handle, to, content }, why)| ClientEvent::MessageReturned {
            handle,
            to,
            content,
            why,
        }));
    }
}
