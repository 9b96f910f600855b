//! Who is there: what a device says of its person, whom it watches, and what it is told (SPEC 8.10).

use proto_spec::{ClientFrame, ConversationId, GroupId, PresenceState, RequestId, Status, UserId};

use super::{
    Happened, Session, Turn, Wake,
    looking::{Looking, Seen, Told},
};
use crate::stats::{Count, Measure};

impl Session {
    /// Watches these users from now on and nobody else. The server tells changes once in `tick_us` at most, in microseconds.
    pub fn watch(&mut self, turn: &mut Turn<'_>, users: Vec<UserId>, tick_us: u64) {
        let is_ready = self.is_ready();
        let looking = self.looking.get_or_insert_with(|| Box::new(Looking::new(tick_us)));
        if is_ready {
            turn.stats[Count::FramesSent] += 1;
            looking.watch(users, turn.now_us, turn.out);
        } else {
            // It leaves with the welcome.
            looking.watch(users, turn.now_us, &mut Vec::new());
            looking.left();
        }
    }

    /// Asks who of these is there.
    pub fn fetch_presence(&mut self, turn: &mut Turn<'_>, users: Vec<UserId>, tick_us: u64) {
        if self.is_ready() {
            turn.stats[Count::FramesSent] += 1;
            let looking = self.looking.get_or_insert_with(|| Box::new(Looking::new(tick_us)));
            looking.fetch(users, turn.now_us, turn.out);
        }
    }

    /// What the device was told last of whom it watches.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        self.looking.as_deref().map_or(&[], Looking::seen)
    }

    /// Sends the watch again, if it is time.
    pub fn renew_watch(&mut self, turn: &mut Turn<'_>) {
        if self.is_ready()
            && let Some(looking) = &mut self.looking
            && looking.renew(turn.now_us, turn.out)
        {
            turn.stats[Count::FramesSent] += 1;
        }
    }

    /// Says whether somebody looks at the device, on this connection and all further ones.
    pub fn set_status(&mut self, turn: &mut Turn<'_>, status: Status) {
        self.status = status;
        if self.is_ready() {
            turn.send(&ClientFrame::SetStatus { status });
        }
    }

    /// Says that somebody types in a conversation.
    pub fn typing(&self, turn: &mut Turn<'_>, conversation: ConversationId) {
        if self.is_ready() {
            turn.stats[Count::Typed] += 1;
            turn.send(&ClientFrame::Typing { conversation });
        }
    }

    /// A welcome: what was said and watched on the connection before is said and watched again.
    pub(super) fn look_again(&mut self, turn: &mut Turn<'_>) {
        if self.status != Status::Here {
            turn.send(&ClientFrame::SetStatus { status: self.status });
        }
        if let Some(looking) = &mut self.looking {
            looking.connected(turn.now_us, turn.out);
        }
    }

    pub(super) fn on_presence(&mut self, turn: &mut Turn<'_>, of: (RequestId, u64), states: Vec<PresenceState>) {
        let Some(looking) = &mut self.looking else { return turn.fault("is told who is there, unasked".to_owned()) };
        let told = match looking.take(of, &states, turn.now_us) {
            Ok(told) => told,
            Err(words) => return turn.fault(words),
        };
        match told {
            Told::Watched { after_us, renew_us } => {
                turn.stats[Count::PresenceAnswers] += 1;
                turn.stats.record(Measure::Presence, after_us);
                turn.wake.extend(renew_us.map(Wake::Renew));
            }
            Told::Answered { after_us } => {
                turn.stats[Count::PresenceAnswers] += 1;
                turn.stats.record(Measure::Presence, after_us);
            }
            Told::Pushed => {
                turn.stats[Count::PresencePushed] += 1;
                turn.stats[Count::PresenceChanges] += states.len() as u64;
            }
        }
        turn.happened.push(Happened::Presence { slot: turn.slot, told, states });
    }

    pub(super) fn on_typing(&self, turn: &mut Turn<'_>, conversation: ConversationId, user: UserId, ends_in_ms: u64) {
        if conversation != user.into() || ends_in_ms == 0 {
            return turn.fault(format!("user {user} types in {conversation:?} for {ends_in_ms} ms"));
        }
        self.is_told_of_typing(turn, conversation, user);
    }

    pub(super) fn on_typing_in_group(&self, turn: &mut Turn<'_>, group: GroupId, user: UserId, ends_in_ms: u64) {
        let member = turn.ledger.crew().member(turn.seat);
        let is_theirs = turn.ledger.groups.is_member(member.user, group) && turn.ledger.groups.is_member(user, group);
        if user == member.user || !is_theirs || ends_in_ms == 0 {
            return turn.fault(format!("is told that user {user} types in group {group} for {ends_in_ms} ms"));
        }
        self.is_told_of_typing(turn, group.into(), user);
    }

    fn is_told_of_typing(&self, turn: &mut Turn<'_>, conversation: ConversationId, user: UserId) {
        turn.stats[Count::TypingTold] += 1;
        turn.happened.push(Happened::Typing { slot: turn.slot, conversation, user });
    }
}
