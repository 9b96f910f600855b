//! What a line of input does, and which lines an event makes. Knows the client; prints nothing.
//!
//! Owns what a run knows: what was sent and has no answer, what was told, how far the log has come. In `script/`: messages that
//! are sent and changed, what is told for an event, what it tells for an entry of the log, and the history before this run.

mod entries;
mod events;
mod groups;
mod history;
mod presence;
mod sending;

use std::collections::BTreeMap;

use client::{
    Act, Client, ClientEvent, Content, ConversationId, DeviceId, FetchError, FetchHandle, GROUP_ROWS_MAX, GroupId,
    SendHandle, SendNumber, Seq, UserId,
};

use self::{history::Older, sending::Sent};
use super::{
    behind::{Behind, Change},
    following::Following,
    line::Line,
    told::Told,
};
use crate::{
    attach::Attach,
    checking::{Checking, Next},
    command::Command,
    content::typed,
};

/// Conversations of an inbox, if the line does not say how many.
const INBOX_ROWS: u64 = 20;

/// What became of a line of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Taken(Vec<Line>),
    /// To be described, which may take a while, and then given to [`Script::attach`].
    Describe(Box<Attach>),
    /// Too much is on its way: offer the line again.
    Later,
    Quit,
    /// It can not be done: the input ends here.
    Wrong(String),
}

/// What a script is told by its command line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) device: DeviceId,
    pub(crate) peer: ConversationId,
    pub(crate) history: u64,
}

pub(crate) struct Script {
    client: Client,
    who: Who,
    server: String,
    older: Older,
    fetching: Option<FetchHandle>,
    /// Whatever else was asked for and is not answered.
    asked: Vec<FetchHandle>,
    checking: Checking,
    /// What has happened since the history was asked for, while it has not come.
    held: Option<Vec<ClientEvent>>,
    /// Numbers above it, of this device, were sent by this run. None before the first welcome.
    last_number: Option<SendNumber>,
    sent: u64,
    unanswered: BTreeMap<SendHandle, Sent>,
    /// Changes of them.
    behind: Behind,
    me: Option<UserId>,
    /// The newest of the messages that were told.
    told: Told,
    following: Following,
    refused: u64,
    received: u64,
    shown: Seq,
    /// The last accepted seq of each recipient that has not been reported as delivered.
    undelivered: BTreeMap<ConversationId, Seq>,
    /// The last message that was accepted with less than `committed`, until it is.
    uncommitted: Option<Seq>,
    /// The log was replaced, and its welcome has not come.
    is_replaced: bool,
    /// Why there is no connection, once it has been told.
    away: Option<String>,
}

impl Script {
    pub(crate) fn new(client: Client, who: Who, server: String) -> Self {
        Self {
            client,
            who,
            server,
            older: Older::Nothing,
            fetching: None,
            asked: Vec::new(),
            checking: Checking::default(),
            held: None,
            last_number: None,
            sent: 0,
            unanswered: BTreeMap::new(),
            behind: Behind::new(),
            me: None,
            told: Told::default(),
            following: Following::default(),
            refused: 0,
            received: 0,
            shown: Seq::ZERO,
            undelivered: BTreeMap::new(),
            uncommitted: None,
            is_replaced: false,
            away: None,
        }
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received + self.following.received()
    }

    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Up to where the log has been told.
    pub(crate) const fn shown(&self) -> Seq {
        self.shown
    }

    /// Everything sent has its answer, and everything asked for has been shown.
    pub(crate) fn is_answered(&self) -> bool {
        self.last_number.is_some()
            && self.unanswered.is_empty()
            && self.behind.len() == 0
            && self.fetching.is_none()
            && self.asked.is_empty()
            && !self.following.is_fetching()
    }

    pub(crate) fn is_delivered(&self) -> bool {
        self.undelivered.is_empty() && !self.following.is_awaiting()
    }

    /// In words, for somebody who waited in vain.
    pub(crate) fn state(&self) -> String {
        let (unanswered, undelivered) = (self.unanswered.len() + self.behind.len(), self.undelivered.len());
        let connection = match (&self.away, self.last_number) {
            (Some(why), _) => format!("; not connected: {why}"),
            (None, None) => format!("; {} has not answered yet: is it a Ringpost server?", self.server),
            (None, Some(_)) => String::new(),
        };
        format!(
            "{unanswered} messages without an answer, {undelivered} recipients without delivery, {} received{connection}",
            self.received()
        )
    }

    pub(crate) fn say(&mut self, line: &str) -> Said {
        match Command::parse(line) {
            Ok(Command::Say(text)) => self.send(typed(self.who.peer, &text)),
            Ok(Command::Reply(to, text)) => self.reply(to, &text),
            Ok(Command::Edit(of, text)) => self.change(of, Change::Edit(text)),
            Ok(Command::Unsend(of)) => self.change(of, Change::Unsend),
            Ok(Command::React(of, reaction)) => self.react(of, &reaction),
            Ok(Command::Delete(of)) => self.delete(of),
            Ok(Command::Attach(attach)) => Said::Describe(attach),
            Ok(Command::To(user)) => Said::Taken(self.switch(user)),
            Ok(Command::History(count)) => Said::Taken(self.show_history(count.unwrap_or(self.who.history.max(1)))),
            Ok(Command::Inbox(count)) => {
                self.ask(|client, _| client.fetch_inbox(Seq::ZERO, count.unwrap_or(INBOX_ROWS), 0))
            }
            // All of it: what is on its way to the pipe has not been shown, and whoever wrote the script means the conversation.
            Ok(Command::Read) => self.ask(|client, peer| client.mark_read(peer, Seq(u64::MAX), true)),
            Ok(Command::Keep { set, cleared }) => self.ask(|client, peer| client.set_conversation(peer, set, cleared)),
            Ok(Command::Hide { set, cleared }) => self.ask(|client, _| client.set_visibility(set, cleared)),
            Ok(Command::Status(status)) => self.status(status),
            Ok(Command::Watch(users)) => self.watch(&users),
            Ok(Command::Presence(users)) => self.ask(|client, _| client.fetch_presence(&users)),
            Ok(Command::Typing(conversation)) => self.typing(conversation),
            Ok(Command::Check) => {
                let next = self.checking.begin();
                self.check(next)
            }
            Ok(Command::Devices) => self.ask(|client, _| client.fetch_devices()),
            Ok(Command::NameDevice(name)) => {
                let own = self.who.device;
                self.ask(|client, _| client.name_device(own, &name))
            }
            Ok(Command::RemoveDevice(device)) => self.ask(|client, _| client.remove_device(device)),
            Ok(Command::Group(name)) => self.begin_group(&name),
            Ok(Command::Groups) => self.ask(|client, _| client.fetch_groups(GroupId(0), GROUP_ROWS_MAX)),
            Ok(Command::Members) => self.members(),
            Ok(Command::Act(act)) => self.act(&act),
            Ok(Command::Leave) => self.leave(),
            Ok(Command::Rename(name)) => self.rename(&name),
            Ok(Command::Invite) => self.invite(),
            Ok(Command::Join(group, secret)) => {
                self.send_to(group.into(), Content::act(&Act::Join { secret: secret.as_bytes() }))
            }
            Ok(Command::Cancel) => Said::Taken(self.cancel()),
            Ok(Command::Quit) => Said::Quit,
            Ok(Command::Help | Command::Nothing) => Said::Taken(Vec::new()),
            Err(error) => Said::Wrong(error.to_string()),
        }
    }

    /// Something that lies elsewhere has been described.
    pub(crate) fn attach(&mut self, described: Result<Content, String>) -> Said {
        described.map_or_else(Said::Wrong, |content| self.send(content))
    }

    /// Asks for something whose answer is waited for at the end.
    fn ask(&mut self, ask: impl FnOnce(&Client, ConversationId) -> Result<FetchHandle, FetchError>) -> Said {
        match ask(&self.client, self.who.peer) {
            Ok(fetch) => {
                self.asked.push(fetch);
                Said::Taken(Vec::new())
            }
            Err(FetchError::QueueFull { .. } | FetchError::LogReplaced | FetchError::Ended) => Said::Later,
            Err(
                error @ (FetchError::NameLength { .. }
                | FetchError::TooManyUsers { .. }
                | FetchError::AddressLength { .. }
                | FetchError::BadSubscription(_)),
            ) => Said::Wrong(error.to_string()),
        }
    }

    fn check(&mut self, next: Next) -> Said {
        let check = match next {
            Next::Ask(check) => check,
            Next::Done(found) => return Said::Taken(vec![Line::Checked(found)]),
        };
        match self.client.fetch_digest(check.ask()) {
            Ok(fetch) => {
                self.checking.asked(fetch, check);
                self.asked.push(fetch);
                Said::Taken(Vec::new())
            }
            Err(_) => Said::Later,
        }
    }

    /// An answer to [`Script::ask`] has come.
    fn answered(&mut self, fetch: FetchHandle) {
        self.asked.retain(|asked| *asked != fetch);
    }
}

#[cfg(test)]
mod tests {
    use client::{Config, Durability, ErrorCode, MessageName};

    use super::*;

    #[tokio::test]
    async fn a_line_is_not_blamed_for_the_end_of_the_client() {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, mut events) = Client::connect(config).unwrap();
        let who = Who { device: DeviceId(1), peer: UserId(8).into(), history: 0 };
        let mut script = Script::new(client.clone(), who, "127.0.0.1:9".into());
        client.close();
        while events.next().await.is_some() {}
        assert_eq!(script.say("hello"), Said::Later);
    }

    #[tokio::test]
    async fn a_change_is_refused_with_its_message_and_sent_once_that_is_accepted() {
        let config = Config::new("127.0.0.1:9", "token".to_owned(), DeviceId(1));
        let (client, _events) = Client::connect(config).unwrap();
        let who = Who { device: DeviceId(1), peer: UserId(8).into(), history: 0 };
        let mut script = Script::new(client.clone(), who, "127.0.0.1:9".into());
        script.me = Some(UserId(7));
        for line in ["one", "/edit 1", "two", "/edit 2"] {
            assert_eq!(script.say(line), Said::Taken(Vec::new()), "{line}");
        }
        assert_eq!(client.unanswered_count(), 2, "the changes wait");
        let (first, second) = (SendHandle(1), SendHandle(2));
        let told = script.on_event(ClientEvent::MessageRefused { handle: first, code: ErrorCode::Recipient });
        let plain: Vec<String> = told.iter().filter_map(Line::plain).collect();
        assert_eq!(plain, ["refused 1 recipient", "refused 2 no_such_message"]);
        assert!(
            told.contains(&Line::Problem("your message 2 was to change your message 1, which is in no log".into()))
        );
        script.on_event(ClientEvent::MessageAccepted {
            handle: second,
            number: SendNumber(1),
            seq: Seq(5),
            time: client::TimestampMs(1),
            durability: Durability::Committed,
            recipient: client::Recipient::Offline,
        });
        let sent: Vec<Content> = client.unanswered().into_iter().map(|(_, message)| message.content).collect();
        let name = MessageName { author: UserId(7), seq: Seq(5) };
        assert_eq!(sent.last(), Some(&Content::edit(name, &Content::text("2"), None)));
        assert_eq!((script.refused(), script.is_answered()), (2, false));
    }
}
