//! What Enter does: a draft is a message or a command, which is carried out here; or why it can not be.

use client::{Act, Content, ConversationId, GroupId, MessageName, Reply, Seq, UserId};

use super::Model;
use crate::{
    checking::{Found, Next},
    command::Command,
    content::{quote, typed, typed_over},
    screen::{
        effect::{Described, Effect, Now, Wish},
        messages::{MESSAGES_MAX, Whose},
        notice::sentence,
    },
};

/// How long leaving waits for answers to what was sent.
const LEAVE_AFTER_MS: u64 = 5_000;

impl Model {
    pub(super) fn enter(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let draft = self.editor.text().to_owned();
        let command = match draft.trim().is_empty() {
            true => Command::Nothing,
            false if self.is_plain() => Command::Say(draft.clone()),
            false => match Command::parse(&draft) {
                Ok(command) => command,
                Err(error) => return self.say(sentence(&error.to_string())),
            },
        };
        let done = match command {
            Command::Nothing if self.list.is_open => return self.open_chosen(effects),
            Command::Nothing => return,
            Command::Say(_)
            | Command::Reply(..)
            | Command::Edit(..)
            | Command::Unsend(_)
            | Command::React(..)
            | Command::Delete(_)
            | Command::Cancel
            | Command::Attach(_)
            | Command::Read
            | Command::Keep { .. }
            | Command::Members
            | Command::Act(_)
            | Command::Leave
            | Command::Rename(_)
            | Command::Invite
            | Command::History(_)
                if self.list.is_open =>
            {
                Err("Choose a conversation first: the arrow keys and Enter, or /to USER.")
            }
            command => self.carry_out(now, command, draft, effects),
        };
        match done {
            Ok(()) => self.drafts.put_away(&mut self.editor),
            Err(why) => self.say(why),
        }
    }

    /// The draft is no command, whatever it begins with: a command is one line, and typed. What was pasted is somebody's text.
    pub(super) fn is_plain(&self) -> bool {
        self.editor.has_pasted() || self.editor.text().contains('\n')
    }

    /// Or says why not, and then nothing has changed.
    fn carry_out(
        &mut self,
        now: Now,
        command: Command,
        draft: String,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        match command {
            Command::Nothing => {}
            Command::Say(text) => {
                self.send(now, self.peer, text.clone(), typed(self.peer, &text), effects);
            }
            Command::Reply(to, text) => {
                let found = self.find(to, Whose::Theirs);
                let (to, content) =
                    found.ok_or("There is no message here to answer; older ones come with /history.")?;
                let reply = Content::reply(&Reply { to, quote: quote(content), text: &text });
                self.send(now, self.peer, draft, reply, effects);
            }
            Command::Edit(of, text) => {
                let content = |name, says: &Content| Content::edit(name, &typed_over(says, &text), None);
                self.change(now, of, draft, content, effects)?;
            }
            Command::Unsend(of) => {
                self.change(now, of, draft, |name, _: &Content| Content::unsend(name, None), effects)?
            }
            Command::React(of, reaction) => {
                let found = self.find(of, Whose::Theirs);
                let (name, _) = found.ok_or("There is no message here to react to; older ones come with /history.")?;
                self.send(now, self.peer, draft, Content::reaction(name, &reaction, None), effects);
            }
            Command::Delete(of) => {
                let found = self.messages.find_place(of);
                let place = found.ok_or("There is no message here to delete; older ones come with /history.")?;
                effects.push(Effect::Delete { peer: self.peer, place });
            }
            Command::Attach(_) if self.is_describing => {
                return Err("Another file is being read: this one can be attached in a moment.");
            }
            Command::Attach(attach) => {
                self.is_describing = true;
                effects.push(Effect::Describe { to: self.peer, draft, attach });
            }
            Command::To(peer) => self.switch(peer, effects),
            Command::Group(name) => self.begin_group(now, name, draft, effects),
            Command::Groups => effects.push(Effect::Groups(GroupId(0))),
            Command::Members => effects.push(Effect::Members(self.group()?, UserId(0))),
            Command::Act(act) => self.act(now, &act, draft, effects)?,
            Command::Leave => self.leave_group(now, draft, effects)?,
            Command::Rename(name) => self.rename(now, &name, draft, effects)?,
            Command::Invite => self.invite(now, draft, effects)?,
            Command::Join(group, secret) => {
                let join = Content::act(&Act::Join { secret: secret.as_bytes() });
                self.send(now, group.into(), draft, join, effects);
            }
            Command::History(count) => {
                let page = self.page();
                self.fetch(count.unwrap_or(page).min(MESSAGES_MAX as u64), effects);
            }
            Command::Read => self.mark_read(effects),
            Command::Keep { set, cleared } => effects.push(Effect::Keep { peer: self.peer, set, cleared }),
            Command::Inbox(_) => self.list.is_open = true,
            Command::Hide { set, cleared } => effects.push(Effect::Hide { set, cleared }),
            Command::Status(_) | Command::Watch(_) | Command::Presence(_) | Command::Typing(_) => {
                return Err("This is for scripts: here it is told by itself who is there, who types, and who is away.");
            }
            Command::Check => {
                let next = self.checking.begin();
                self.check(next, effects);
            }
            Command::Devices => effects.push(Effect::Devices(Wish::List)),
            Command::NameDevice(name) => {
                let own = self.device.ok_or("Not connected yet: the name can be given in a moment.")?;
                effects.push(Effect::Devices(Wish::Name(own, name)));
            }
            Command::RemoveDevice(device) => effects.push(Effect::Devices(Wish::Remove(device))),
            Command::Cancel => {
                let newest = self.messages.newest_unanswered();
                let handle = newest.ok_or("No message here waits for the server: there is nothing to take back.")?;
                effects.push(Effect::Cancel(handle));
            }
            Command::Help => self.shows_help = true,
            Command::Quit => self.leave(now, effects),
        }
        Ok(())
    }

    /// The message that a command is about.
    fn find(&self, seq: Option<Seq>, by: Whose) -> Option<(MessageName, &Content)> {
        self.messages.find(seq, by, self.me?)
    }

    /// Goes on with a comparison, or says what it comes to.
    pub(super) fn check(&mut self, next: Next, effects: &mut Vec<Effect>) {
        match next {
            Next::Ask(check) => effects.push(Effect::Check(check)),
            Next::Done(Found::Same(first, last)) => {
                self.say(format!("What came here, entries {first} to {last} of your log, is what the server has."));
            }
            Next::Done(Found::Differs(first, last)) => {
                self.say(format!(
                    "Entries {first} to {last} of your log are not what came here: tell who runs the server."
                ));
            }
            Next::Done(Found::Nothing) => {
                self.say("Nothing has come since this program was started: nothing to compare.")
            }
            Next::Done(Found::Changing) => self.say("Too much is going on to compare it: try again in a moment."),
        }
    }

    /// Changes an own message.
    fn change(
        &mut self,
        now: Now,
        of: Option<Seq>,
        draft: String,
        content: impl Fn(MessageName, &Content) -> Content,
        effects: &mut Vec<Effect>,
    ) -> Result<(), &'static str> {
        if of.is_none() && self.messages.has_unanswered_message() {
            return Err("Your last message has no answer yet: wait for its tick, or take it back with /cancel.");
        }
        let found = self.find(of, Whose::Mine);
        let (name, says) = found.ok_or("There is no message of yours here; older ones come with /history.")?;
        let change = content(name, says);
        self.send(now, self.peer, draft, change, effects);
        Ok(())
    }

    /// An attachment has been described, or can not be.
    pub(super) fn on_described(&mut self, now: Now, described: Described, effects: &mut Vec<Effect>) {
        self.is_describing = false;
        let Described { to, draft, content } = described;
        match content {
            Ok(content) => self.send(now, to, draft, content, effects),
            Err(why) => self.say(sentence(&why)),
        }
    }

    pub(super) fn send(
        &mut self,
        now: Now,
        to: ConversationId,
        draft: String,
        content: Content,
        effects: &mut Vec<Effect>,
    ) {
        let number = self.messages.wait(to, draft, content.clone(), now.wall);
        effects.push(Effect::Send { number, to, content });
        self.follow();
    }

    pub(super) fn leave(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let waiting = self.messages.unanswered().count();
        if self.leaving.is_some() || waiting == 0 {
            return effects.push(Effect::Leave);
        }
        self.leaving = Some(now.monotonic.after(LEAVE_AFTER_MS));
        let (messages, seconds) = (if waiting == 1 { "message" } else { "messages" }, LEAVE_AFTER_MS / 1000);
        self.say(format!("Waiting at most {seconds} s for the answer to {waiting} {messages}; Ctrl-C leaves at once."));
    }
}
