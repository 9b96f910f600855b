//! What the client tells: the connection, entries of the log, answers to messages and to what was asked for.

use client::{
    ClientEvent, ConversationId, Durability, Entry, ErrorCode, Event, FetchHandle, Removal, SendHandle, Seq, Visibility,
};

use super::{Link, Model, NOBODY, groups::Filling};
use crate::{
    checking::Checking,
    devices,
    screen::{
        effect::{Effect, Now},
        messages::Older,
        notice::{About, Notice, sentence},
    },
    visible::tame,
    words,
};

/// How much of a log that took the place of another one has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retold {
    /// Nothing; the welcome says how much there is.
    Begins,
    /// Not all up to here.
    UpTo(Seq),
    Done,
}

impl Retold {
    /// The same after everything up to `seq` was told.
    fn unless_there(self, seq: Seq) -> Self {
        match self {
            Self::UpTo(end) if end <= seq => Self::Done,
            other => other,
        }
    }
}

impl Model {
    pub(super) fn on_event(&mut self, now: Now, event: ClientEvent, effects: &mut Vec<Effect>) {
        match event {
            ClientEvent::Welcome(welcome) => {
                self.link = Link::Connected;
                self.elsewhere = welcome.elsewhere;
                self.device = Some(welcome.device);
                self.people.hidden = welcome.visibility;
                self.notice.take_if(|notice| notice.about == About::Link);
                self.on_committed(welcome.committed);
                if self.retold == Retold::Begins {
                    self.retold = Retold::UpTo(welcome.head).unless_there(welcome.cursor);
                }
                self.groups.welcome(welcome.user);
                let is_first = self.me.replace(welcome.user).is_none();
                match self.peer {
                    ConversationId::Group(_) if is_first => {
                        // A group has seqs of its own: zero means where it is now.
                        self.messages.older = Older::UpTo(Seq::ZERO);
                        self.fetch(self.history, effects);
                        self.ask_name(effects);
                    }
                    peer if is_first && welcome.cursor > Seq::ZERO && peer != NOBODY => {
                        // What follows is pushed.
                        self.messages.older = Older::UpTo(welcome.cursor);
                        self.fetch(self.history, effects);
                    }
                    _ => {}
                }
                effects.extend(self.list.newest(self.size.1).map(Effect::FetchInbox));
            }
            ClientEvent::Skipped { up_to, .. } => {
                self.checking.skipped(up_to);
                self.begin_anew(effects);
            }
            ClientEvent::Disconnected { reason, retry_in_ms } => {
                self.link = Link::Down { until: now.monotonic.after(retry_in_ms) };
                let text = sentence(&words::disconnected(&reason, &self.server));
                self.notice = Some(Notice { text, about: About::Link });
            }
            ClientEvent::Entry(entry) => {
                self.on_entry(&entry);
                self.on_entry_of_groups(&entry);
                self.checking.entry(&entry);
                effects.extend(self.list.entry(&entry, self.size.1).map(Effect::FetchInbox));
                effects.push(Effect::Acknowledge(entry.seq));
            }
            ClientEvent::MessageAccepted { handle, seq, time, durability, .. } => {
                self.messages.accepted(handle, seq, time);
                if durability < Durability::Committed {
                    let text = "The server has your message on its disk, but its history store does not take it yet.";
                    self.notice = Some(Notice { text: text.into(), about: About::Committed(seq) });
                }
            }
            ClientEvent::LogReplaced { dropped, .. } => self.on_replaced(&dropped, effects),
            ClientEvent::Committed { up_to } => self.on_committed(up_to),
            ClientEvent::MessageRefused { handle, code } => {
                if let Some(waiting) = self.messages.refused(handle, code) {
                    let draft = waiting.draft.clone();
                    self.give_back(draft, &format!("Not sent: {}", words::refused(code)));
                }
            }
            ClientEvent::MessageReturned { handle, why, .. } => {
                if let Some(waiting) = self.messages.cancelled(handle) {
                    self.give_back(waiting.draft, &format!("Not sent: {why}"));
                }
            }
            ClientEvent::MessageCancelled { handle } => {
                if let Some(waiting) = self.messages.cancelled(handle) {
                    self.give_back(waiting.draft, "Taken back: nobody has it");
                }
            }
            ClientEvent::Page { fetch, page } => {
                // A page of another conversation, or from before messages were let go, would leave a hole.
                if let Some((_, older)) = self.fetching.take_if(|(fetching, _)| *fetching == fetch)
                    && older == self.messages.older
                {
                    self.messages.page(&page);
                }
            }
            ClientEvent::Inbox { fetch, inbox } => {
                if self.list.page(fetch, inbox) {
                    effects.extend(self.list.missing(self.size.1).map(Effect::FetchInbox));
                }
            }
            ClientEvent::FetchRefused { fetch, code, .. } => self.on_refused(fetch, code),
            // A terminal is on while it shows something, and has nothing to wake.
            ClientEvent::Subscription { .. } => {}
            ClientEvent::Digest { fetch, digests } => {
                if let Some(next) = self.checking.answered(fetch, &digests) {
                    self.check(next, effects);
                }
            }
            ClientEvent::ServerError { code, detail, .. } => {
                self.say(format!("The server complains: {} ({}).", code.name(), tame(&detail)));
            }
            ClientEvent::TokenExpiring { expires_in_ms } => {
                let seconds = expires_in_ms.div_ceil(1000);
                self.say(format!("The token expires in {seconds} s; put a newer one into the token file."));
            }
            ClientEvent::TokenRefused { code, .. } => {
                self.say(format!("The newer token was not taken: {}.", words::refused(code)));
            }
            ClientEvent::TokenRefreshed { .. } => self.notice = None,
            ClientEvent::Devices { fetch, devices } => {
                if self.asked.take_if(|asked| *asked == fetch).is_some() {
                    self.listing = Some(devices::list(&devices, self.device));
                }
            }
            ClientEvent::GroupEntry { group, entry } => self.on_group_entry(group, &entry),
            ClientEvent::GroupPage { fetch, direction, page } => self.on_group_page(fetch, direction, &page),
            ClientEvent::Groups { fetch, at, more, rows } => self.on_groups(fetch, (at, more), &rows, effects),
            ClientEvent::Members { fetch, group, more, members, delivered, read, .. } => {
                self.on_members(fetch, (group, more), &members, (delivered, read), effects);
            }
            ClientEvent::Presence(of) => self.people.is(of),
            ClientEvent::Typing { conversation, user } => self.people.types(conversation, user),
            ClientEvent::TypingEnded { conversation, user } => self.people.types_no_more(conversation, user),
            ClientEvent::Marked { fetch } => {
                if let Some(words) = self.people.done(fetch) {
                    self.say(words);
                }
            }
            // Nothing is stored over a restart, nobody is asked for once, it asks for no tokens and does not stand still, and what comes is shown
            // as it comes.
            ClientEvent::Epoch(_)
            | ClientEvent::Numbered { .. }
            | ClientEvent::TokenWanted { .. }
            | ClientEvent::Suspended
            | ClientEvent::CaughtUp
            | ClientEvent::Presences { .. }
            | ClientEvent::Ended(_) => {}
        }
    }

    /// A message is not in the log, and its text a draft again.
    pub(super) fn give_back(&mut self, draft: String, why: &str) {
        self.drafts.remember(draft);
        self.say(format!("{why}. Ctrl-P brings the text back."));
    }

    /// Something that was asked for is refused for good.
    fn on_refused(&mut self, fetch: FetchHandle, code: ErrorCode) {
        if code == ErrorCode::OtherLog {
            // A page of the log before, which nobody wants any more.
            self.list.refused(fetch);
            return;
        }
        let what = if self.checking.refused(fetch) {
            "Not compared"
        } else if self.asked.take_if(|asked| *asked == fetch).is_some() || self.people.done(fetch).is_some() {
            "Not done"
        } else if self.list.refused(fetch) {
            "The conversations can not be had"
        } else if self.fetching.take_if(|(fetching, _)| *fetching == fetch).is_some() {
            "Older messages can not be had"
        } else if self.filling == Some(Filling::Asked(fetch)) {
            // It stays so: what is not to be had is not asked for again and again.
            "What is missing of this group can not be had"
        } else {
            return;
        };
        self.say(format!("{what}: {}.", words::refused(code)));
    }

    /// So much has happened meanwhile that it is not told one by one: what is shown is asked for as it is now.
    fn begin_anew(&mut self, effects: &mut Vec<Effect>) {
        self.list.begin_anew();
        // Before the first welcome nothing was asked for.
        if self.me.is_some() && self.peer != NOBODY {
            self.messages.switch(self.peer);
            (self.fetching, self.filling) = (None, None);
            self.follow();
            self.fetch(self.page(), effects);
        }
    }

    fn on_entry(&mut self, entry: &Entry) {
        let is_here = self.messages.entry(entry);
        if let Event::Devices { removed, why, .. } = &entry.event {
            let by = match why {
                Removal::User => "from one of your devices",
                Removal::Room => "to make room for a new one: it had not been used for long",
                Removal::Operator => "by who runs the server",
            };
            self.say(format!("Device {removed} of yours was removed {by}; /devices shows the others."));
        }
        if let Event::Visibility { visibility } = entry.event {
            self.people.hidden = visibility;
        }
        let is_retold = self.retold != Retold::Done;
        self.retold = self.retold.unless_there(entry.seq);
        if let Event::Received { from, .. } = &entry.event
            && !is_retold
        {
            if !is_here && !self.list.is_muted((*from).into()) {
                *self.unread.entry((*from).into()).or_default() += 1;
            } else if is_here && self.anchor.is_some() {
                self.unseen += 1;
            }
        }
    }

    /// What was shown of the log is void.
    fn on_replaced(&mut self, dropped: &[SendHandle], effects: &mut Vec<Effect>) {
        self.messages.discard();
        self.checking = Checking::default();
        self.list.discard();
        self.groups.discard();
        self.unread.clear();
        self.people.hidden = Visibility::default();
        (self.fetching, self.filling, self.read, self.retold) = (None, None, Seq::ZERO, Retold::Begins);
        self.follow();
        effects.push(Effect::Discarded);
        for handle in dropped {
            if let Some(waiting) = self.messages.cancelled(*handle) {
                self.drafts.remember(waiting.draft);
            }
        }
        let lost = match dropped {
            [] => "",
            _ => " What you changed last is not in it: Ctrl-P brings it back.",
        };
        self.say(format!("The server's history was replaced: this is the one that it has now.{lost}"));
    }

    fn on_committed(&mut self, up_to: Seq) {
        let is_done = |notice: &mut Notice| matches!(notice.about, About::Committed(seq) if seq <= up_to);
        self.notice.take_if(is_done);
    }
}
