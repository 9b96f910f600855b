//! States: when a user may have been announced as gone, or as there, by what the settings say of how long that has to have held. Who
//! comes back within the grace was never gone, and who is there for less than the hold was never there.

use proto_spec::Presence;
use server::shard::PresenceSettings;

/// So soon after it was read a goodbye is heard, in milliseconds.
const BYE_MS: u64 = 1_000;

/// In what time something may have been announced, in milliseconds; the last one is open if it ends with the highest number.
#[derive(Debug, Default)]
struct Spans(Vec<(u64, u64)>);

impl Spans {
    fn open(&mut self, at_ms: u64) {
        if self.0.last().is_none_or(|(_, end)| *end < u64::MAX) {
            self.0.push((at_ms, u64::MAX));
        }
    }

    /// It does not come to that.
    fn cancel(&mut self, now_ms: u64) {
        self.0.pop_if(|(begin, _)| *begin > now_ms);
    }

    fn close(&mut self, now_ms: u64) {
        if let Some((_, end)) = self.0.last_mut() {
            *end = now_ms.min(*end);
        }
    }

    fn meet(&self, from_ms: u64, to_ms: u64) -> bool {
        self.0.iter().any(|(begin, end)| *begin <= to_ms && from_ms <= *end)
    }
}

/// Of one user, in one life of the node.
#[derive(Debug)]
pub(super) struct Times {
    is_there: bool,
    /// When anything last happened to one of their connections.
    moved_ms: u64,
    /// When a goodbye of theirs was last read.
    bye_ms: Option<u64>,
    /// While they are gone: when that is announced with the next tick at the latest, whether the goodbye was heard or not.
    due_ms: u64,
    gone: Spans,
    there: Spans,
}

impl Times {
    pub(super) fn new(now_ms: u64) -> Self {
        let gone = Spans(vec![(now_ms, u64::MAX)]);
        Self { is_there: false, moved_ms: now_ms, bye_ms: None, due_ms: now_ms, gone, there: Spans::default() }
    }

    /// Something happens to one of their connections, which may have come and gone within a turn.
    pub(super) const fn moves(&mut self, settings: &PresenceSettings, now_ms: u64) {
        self.moved_ms = now_ms;
        self.due_ms = now_ms + settings.grace_ms;
    }

    pub(super) const fn says_bye(&mut self, now_ms: u64) {
        self.bye_ms = Some(now_ms);
    }

    /// What the directory says after a turn of their home. Whether that is another thing than before, and not for a goodbye.
    pub(super) fn look(&mut self, is_there: bool, settings: &PresenceSettings, settles_ms: u64, now_ms: u64) -> bool {
        if self.is_there == is_there {
            return false;
        }
        (self.is_there, self.moved_ms) = (is_there, now_ms);
        if is_there {
            self.gone.cancel(now_ms);
            // Soon after a start people come back who were there before.
            self.there.open(if now_ms < settles_ms { now_ms } else { now_ms + settings.hold_ms });
        } else {
            let is_clean = self.bye_ms.take().is_some_and(|bye_ms| now_ms < bye_ms + BYE_MS);
            self.there.cancel(now_ms);
            self.due_ms = now_ms + settings.grace_ms;
            self.gone.open(if is_clean { now_ms } else { self.due_ms });
            return !is_clean;
        }
        true
    }

    /// The home has had a tick, with which it has announced what has held.
    pub(super) fn tick(&mut self, settings: &PresenceSettings, now_ms: u64) {
        if !self.is_there && now_ms >= self.due_ms {
            self.there.close(now_ms);
        }
        if self.is_there && now_ms >= self.moved_ms + settings.hold_ms {
            self.gone.close(now_ms);
        }
    }

    /// Whether they may have been announced to be so at any time between these.
    pub(super) fn may_be(&self, state: Presence, from_ms: u64, to_ms: u64) -> bool {
        match state {
            Presence::Unknown => true,
            Presence::Offline => self.gone.meet(from_ms, to_ms),
            Presence::Away | Presence::Online => self.there.meet(from_ms, to_ms),
        }
    }
}
