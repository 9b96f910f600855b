//! Typing: somebody writes, which is passed on and forgotten (SPEC 4.35). It goes between two of whom each watches the other and may see
//! them, so it reads nothing; it is lost without harm, and is the first thing that a busy core leaves undone. Whether either may see the
//! other their two homes find out together, since each knows of its own user alone how they are to be seen now.

use proto_spec::{ConversationId, ServerFrame, UserId};
use storage::group::beside;

use super::Typing;
use crate::{
    limits::{TYPING_EVERY_MS, TYPING_OTHER_MS, TYPING_SHOWN_MS, TYPING_WAITING_BYTES_MAX},
    shard::{ConnId, Shard, Turn, shedding::Class},
};

/// The last that a connection said of typing.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::shard) struct Typed {
    to: UserId,
    at_ms: u64,
}

impl Typed {
    /// Whether it may be passed on that somebody types to `to`, which it is then.
    fn take(&mut self, to: UserId, now_ms: u64) -> bool {
        let wait_ms = if self.to == to { TYPING_EVERY_MS } else { TYPING_OTHER_MS };
        let may = self.to.0 == 0 || now_ms >= self.at_ms + wait_ms;
        if may {
            *self = Self { to, at_ms: now_ms };
        }
        may
    }
}

impl Shard {
    /// The person of a connection types.
    pub(in crate::shard) fn typing(&mut self, conn: ConnId, conversation: ConversationId, cx: &mut Turn<'_>) {
        let to = match conversation {
            ConversationId::Person(to) => to,
            ConversationId::Group(group) => beside(group),
        };
        let is_shed = self.sheds(Class::Presence).is_some();
        let Some(mut session) = self.sessions.get_mut(conn) else { return };
        let from = session.user;
        let may = !is_shed && session.typed.take(to, cx.now.monotonic_ms);
        let watch = session.watch;
        if let ConversationId::Group(group) = conversation {
            if may {
                self.typing_in_group(from, group, cx);
            } else {
                self.counters.typing_dropped += 1;
            }
            return;
        }
        let seen = watch.and_then(|watch| self.sights.viewer.sees(watch, to));
        let is_seen = may && self.sights.is_seen(watch, to, &self.homes, cx.directory);
        // Who hides has none.
        let version = cx.directory.version(from);
        if let (true, Some((seen, _)), Some(version)) = (is_seen, seen, version) {
            self.counters.typing += 1;
            let home = self.homes.of(to).into();
            self.sights.outgoing.to(home, 1).typing.push(Typing { from, version, to, seen });
        } else {
            self.counters.typing_dropped += 1;
        }
    }

    /// Somebody types to a user of this core.
    pub(super) fn typing_arrived(&mut self, Typing { from, version, to, seen }: Typing, cx: &mut Turn<'_>) {
        let is_shed = self.sheds(Class::Presence).is_some() || !cx.directory.is_here(to, seen);
        let Some(user) = self.users.resident(to).filter(|_| !is_shed) else { return };
        let frame = ServerFrame::Typing { conversation: from.into(), user: from, ends_in_ms: TYPING_SHOWN_MS };
        let mut range = None;
        for conn in user.devices.iter().filter_map(|device| device.session) {
            let Some(mut session) = self.sessions.get_mut(conn) else { continue };
            let known = session.watch.and_then(|watch| self.sights.viewer.sees(watch, from));
            let may = known.is_some_and(|(known, _)| known == version);
            if may && session.is_ready() && session.queued() <= TYPING_WAITING_BYTES_MAX {
                let range = range.get_or_insert_with(|| cx.effects.frame(&frame)).clone();
                session.queue(range, cx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conversation_is_told_once_in_a_while_and_another_soon() {
        let mut typed = Typed::default();
        assert!(typed.take(UserId(1), 0) && !typed.take(UserId(1), TYPING_EVERY_MS - 1));
        assert!(typed.take(UserId(1), TYPING_EVERY_MS));
        assert!(!typed.take(UserId(2), TYPING_EVERY_MS + TYPING_OTHER_MS - 1));
        assert!(typed.take(UserId(2), TYPING_EVERY_MS + TYPING_OTHER_MS));
    }
}
