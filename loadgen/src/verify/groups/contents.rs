//! Contents: what is sent to a group, made again whenever it is needed; which messages of a group can be changed or answered, and by whom.
//! Pure.

use proto_spec::{Act, Content, MessageName, Rules, Seq, Stands, limits::REACTIONS_MAX};

use super::{Groups, Outcome, Said, Sent, SentId};
use crate::{
    draw::Draw,
    limits::KEPT_MAX,
    verify::{
        Change, Label,
        kept::CHANGES_MAX,
        text::{answer, edit_text},
    },
};

/// No message has more reactions than it keeps: no reaction is refused, or kept beside a later one, for that (SPEC 5.4.7).
const _: () = assert!(CHANGES_MAX <= REACTIONS_MAX);

impl Groups {
    /// What a send says.
    #[must_use]
    pub fn content(&self, sent: SentId) -> Content {
        match self.sends[sent.0 as usize].said {
            Said::Message(_) | Said::Reply(..) => self.written(sent, None),
            Said::Change(of, change, before) => match change {
                Change::Edit => Content::edit(self.name(of), &self.written(of, Some(before + 1)), None),
                Change::Unsend => Content::unsend(self.name(of), None),
                Change::React(reaction) => Content::reaction(self.name(of), reaction, None),
            },
            Said::Create => Content::act(&Act::Create { name: "load", picture: "", rules: Rules::default() }),
            Said::Add(user) => Content::act(&Act::Add { user }),
            Said::Remove(user) => Content::act(&Act::Remove { user }),
        }
    }

    /// What a message says, at first or as it was edited.
    fn written(&self, message: SentId, edit: Option<u8>) -> Content {
        let mut text = self.text(message);
        if let Some(number) = edit {
            edit_text(&mut text, number.into());
        }
        match self.sends[message.0 as usize].said {
            Said::Reply(_, to) => answer(self.name(to), &self.text(to), &text),
            Said::Message(_) | Said::Change(..) | Said::Create | Said::Add(_) | Said::Remove(_) => Content::text(&text),
        }
    }

    /// The text of a message, as it was at first; empty of what is none.
    fn text(&self, message: SentId) -> String {
        let mut says = String::new();
        if let Said::Message(text) | Said::Reply(text, _) = self.sends[message.0 as usize].said {
            let label = Label { run: self.run, stream: self.stream, index: message.0.into() };
            text.write(&label, self.lines.as_ref(), &mut says);
        }
        says
    }

    /// The name of a message that was numbered.
    pub(super) fn name(&self, message: SentId) -> MessageName {
        let Sent { seat, outcome, .. } = self.sends[message.0 as usize];
        let seq = if let Outcome::Numbered(seq) = outcome { seq } else { Seq::ZERO };
        MessageName { author: self.user_of(seat), seq }
    }

    /// What a send says as an entry of its group's log: what is about a message names where that stands, and when it was written.
    pub(super) fn content_of_entry(&self, sent: SentId) -> Content {
        let content = self.content(sent);
        let Some((MessageName { seq: place, .. }, _)) = content.about() else { return content };
        let message = self.logs[self.sends[sent.0 as usize].group as usize].known(place);
        content.standing(message.map(|message| Stands { place, time: message.time }))
    }

    /// A message of a group, one of the newest entries, if the draw meets one.
    #[must_use]
    pub fn some_message(&self, group: u32, draw: &mut Draw) -> Option<SentId> {
        let log = &self.logs[group as usize];
        let back = draw.below(log.head().clamp(1, KEPT_MAX as u64));
        let known = log.known(Seq(log.head().saturating_sub(back)))?;
        known.sent.filter(|sent| self.sends[sent.0 as usize].said.is_message())
    }

    /// The seat from which something was sent.
    #[must_use]
    pub fn author(&self, sent: SentId) -> u32 {
        self.sends[sent.0 as usize].seat
    }

    /// Whether the device at a seat has a message that has not been taken back, as far as it was told.
    #[must_use]
    pub fn has_message(&self, seat: u32, message: SentId) -> bool {
        let Sent { group, outcome, .. } = self.sends[message.0 as usize];
        let Outcome::Numbered(place) = outcome else { return false };
        let log = &self.logs[group as usize];
        let Some((_, view)) = self.find(seat, log.id) else { return false };
        let seen = &self.views[view as usize].seen;
        match log.shows.get(place) {
            Some(shown) if seen.has(shown.says) => !shown.is_taken_back,
            Some(_) | None => seen.has(place.0),
        }
    }

    /// What the device at a seat would say about a message; none if it may not now. The rest the server judges.
    #[must_use]
    pub fn change(&self, seat: u32, message: SentId, change: Change) -> Option<Said> {
        let Sent { changes, seat: author, .. } = self.sends[message.0 as usize];
        let is_allowed = match change {
            Change::Edit | Change::Unsend => self.user_of(seat) == self.user_of(author),
            Change::React(_) => true,
        };
        let may = is_allowed && usize::from(changes) < CHANGES_MAX && self.has_message(seat, message);
        may.then_some(Said::Change(message, change, changes))
    }
}
