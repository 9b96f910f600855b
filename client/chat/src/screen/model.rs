//! Everything that a person sees, as a function of what has happened: no terminal, no clock, no connection.
//!
//! An [`Input`] changes the model and asks for [`Effect`]s; `draw.rs` shows it. What the program does to the outside
//! world for an effect is in `screen/mod.rs`, which answers with the methods at the end of `impl Model`.

use std::collections::{BTreeMap, VecDeque};

use client::{
    Check, ClientEvent, Content, ConversationId, DeviceId, Durability, Entry, ErrorCode, Event, FetchError,
    FetchHandle, MessageName, MonotonicMs, Removal, Reply, SendError, SendHandle, Seq, Settings, TEXT_BYTES_MAX,
    TimestampMs, UserId,
};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use jiff::tz::TimeZone;

use super::{
    draw,
    editor::{Editor, Source},
    list::{Ask, List},
    messages::{Author, MESSAGES_MAX, Messages, Older, Place},
};
use crate::{
    attach::Attach,
    checking::{Checking, Found, Next},
    command::Command,
    content::quote,
    devices,
    visible::tame,
    words,
};

/// Drafts of this run that can be had again. In memory alone: a file would keep what people write to each other.
const DRAFTS_MAX: usize = 50;

/// How long leaving waits for answers to what was sent.
const LEAVE_AFTER_MS: u64 = 5_000;

/// Messages of one page of older history, at least; a high screen asks for as many as it shows.
const PAGE_MIN: u64 = 20;

/// No conversation is open.
const NOBODY: ConversationId = ConversationId::Person(UserId(0));

/// When something happens: a clock that never goes back, and the one on the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: MonotonicMs,
    pub(crate) wall: TimestampMs,
}

#[derive(Clone, Debug)]
pub(crate) enum Input {
    Client(ClientEvent),
    Key(KeyEvent),
    Pasted(String),
    /// Columns and rows.
    Resized(u16, u16),
    /// The answer to [`Effect::Describe`].
    Described(Box<Described>),
    /// Only time has passed.
    Tick,
}

/// An attachment that was to be described.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) to: ConversationId,
    /// What was typed.
    pub(crate) draft: String,
    /// Or why there is none, in words.
    pub(crate) content: Result<Content, String>,
}

/// What the model wants to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answer with [`Model::taken`] or [`Model::not_taken`].
    Send {
        number: u64,
        to: ConversationId,
        content: Content,
    },
    /// Take a message back.
    Cancel(SendHandle),
    /// Answer with [`Model::fetching`] or [`Model::not_fetched`].
    Fetch {
        peer: ConversationId,
        from: Seq,
        limit: u64,
    },
    /// Compare this with the server's log. Answer with [`Checking::asked`] or [`Model::not_asked`].
    Check(Check),
    /// Answer with [`Model::asked_devices`] or [`Model::not_asked`].
    Devices(Wish),
    /// Shown, so it has arrived.
    Acknowledge(Seq),
    /// Nothing of the log that was replaced is shown any more.
    Discarded,
    /// Answer with [`List::fetching`] or [`Model::not_listed`].
    FetchInbox(Ask),
    /// Everything in the conversation up to here has been seen by a person.
    MarkRead {
        peer: ConversationId,
        up_to: Seq,
    },
    /// The message that stands there is to go from the own history.
    Delete {
        peer: ConversationId,
        place: Seq,
    },
    /// From now on the conversation is kept so.
    Keep {
        peer: ConversationId,
        set: Settings,
        cleared: Settings,
    },
    /// Answer with [`Input::Described`].
    Describe {
        to: ConversationId,
        draft: String,
        attach: Box<Attach>,
    },
    /// Give the terminal back until the shell hands it over again.
    Suspend,
    Leave,
}

/// What is wanted of the own devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    List,
    Name(DeviceId, String),
    Remove(DeviceId),
}

/// The connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Connecting,
    Connected,
    /// Tried again then.
    Down {
        until: MonotonicMs,
    },
}

/// Something that is said once, until something else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    about: About,
}

/// What takes a notice away again, besides the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The next key.
    Typing,
    /// The next welcome.
    Link,
    /// This much of the log is in the server's history.
    Committed(Seq),
}

/// The lowest row that is shown, when it is not the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) place: Place,
    /// Counted from the message's first row.
    pub(crate) row: usize,
}

/// How much of a log that took the place of another one has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retold {
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

/// What a run is told.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// None: the list of conversations is shown.
    pub(crate) peer: Option<ConversationId>,
    pub(crate) history: u64,
    pub(crate) server: String,
    pub(crate) zone: TimeZone,
    pub(crate) size: (u16, u16),
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) me: Option<UserId>,
    pub(crate) list: List,
    pub(crate) checking: Checking,
    /// User 0, who is nobody, until a conversation is opened.
    pub(crate) peer: ConversationId,
    pub(crate) messages: Messages,
    /// Messages of other conversations that came since they were shown, by who wrote them.
    pub(crate) unread: BTreeMap<ConversationId, u64>,
    pub(crate) link: Link,
    pub(crate) notice: Option<Notice>,
    pub(crate) editor: Editor,
    /// None: the newest message is shown, and those that come.
    pub(crate) anchor: Option<Anchor>,
    /// Messages that came while others are looked at.
    pub(crate) unseen: u64,
    pub(crate) shows_help: bool,
    /// The list of devices, while it is shown.
    pub(crate) devices: Option<String>,
    /// This one, once the server has said so.
    device: Option<DeviceId>,
    /// What was asked about devices and has no answer yet.
    asked: Option<FetchHandle>,
    pub(crate) zone: TimeZone,
    pub(crate) size: (u16, u16),
    server: String,
    history: u64,
    fetching: Option<(FetchHandle, Older)>,
    /// Up to where the conversation that is shown has been marked as read.
    read: Seq,
    /// The log was replaced: up to here it is told anew, and nothing of that is news.
    retold: Retold,
    drafts: VecDeque<String>,
    /// Which of them is in the editor.
    recalled: Option<usize>,
    leaving: Option<MonotonicMs>,
    /// A file is being read that is to be attached.
    is_describing: bool,
}

impl Model {
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { peer, history, server, zone, size } = setup;
        let list = List::new(peer.is_none());
        let peer = peer.unwrap_or(NOBODY);
        Self {
            me: None,
            list,
            peer,
            messages: Messages::new(peer),
            unread: BTreeMap::new(),
            link: Link::Connecting,
            notice: None,
            editor: Editor::default(),
            anchor: None,
            unseen: 0,
            shows_help: false,
            checking: Checking::default(),
            devices: None,
            device: None,
            asked: None,
            zone,
            size,
            server,
            history,
            fetching: None,
            read: Seq::ZERO,
            retold: Retold::Done,
            drafts: VecDeque::new(),
            recalled: None,
            leaving: None,
            is_describing: false,
        }
    }

    /// One step.
    pub(crate) fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Client(event) => self.on_event(now, event, &mut effects),
            Input::Key(key) => {
                // Some terminals tell of keys that are let go, too.
                if key.kind != KeyEventKind::Release {
                    self.on_key(now, key, &mut effects);
                }
            }
            Input::Pasted(text) => self.on_paste(&text),
            Input::Resized(columns, rows) => self.size = (columns, rows),
            Input::Described(described) => self.on_described(now, *described, &mut effects),
            Input::Tick => {}
        }
        self.mark_read(&mut effects);
        if self.leaving.is_some_and(|until| until <= now.monotonic || self.messages.unanswered().next().is_none()) {
            effects.push(Effect::Leave);
        }
        effects
    }

    /// When what is shown changes though nothing happens.
    pub(crate) fn deadline(&self, now: Now) -> Option<MonotonicMs> {
        let next_second = match self.link {
            Link::Down { until } if until > now.monotonic => {
                let left = until.since(now.monotonic);
                Some(now.monotonic.after(left - left.div_ceil(1000).saturating_sub(1) * 1000))
            }
            Link::Connecting | Link::Connected | Link::Down { .. } => None,
        };
        [next_second, self.leaving].into_iter().flatten().min()
    }

    /// What would be lost if the program ended now: messages without an answer, then the draft.
    pub(crate) fn unsent(&self) -> (Vec<String>, Option<String>) {
        let waiting = self.messages.unanswered().map(|waiting| waiting.draft.clone()).collect();
        (waiting, Some(self.editor.text().to_owned()).filter(|draft| !draft.trim().is_empty()))
    }

    fn say(&mut self, text: impl Into<String>) {
        self.notice = Some(Notice { text: text.into(), about: About::Typing });
    }

    fn on_event(&mut self, now: Now, event: ClientEvent, effects: &mut Vec<Effect>) {
        match event {
            ClientEvent::Welcome(welcome) => {
                self.link = Link::Connected;
                self.device = Some(welcome.device);
                self.notice.take_if(|notice| notice.about == About::Link);
                self.on_committed(welcome.committed);
                if self.retold == Retold::Begins {
                    self.retold = Retold::UpTo(welcome.head).unless_there(welcome.cursor);
                }
                if self.me.replace(welcome.user).is_none() && welcome.cursor > Seq::ZERO && self.peer != NOBODY {
                    // What follows is pushed.
                    self.messages.older = Older::UpTo(welcome.cursor);
                    self.fetch(self.history, effects);
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
                    self.remember(draft);
                    self.say(format!("Not sent: {}. Ctrl-P brings the text back.", words::refused(code)));
                }
            }
            ClientEvent::MessageReturned { handle, why, .. } => {
                if let Some(waiting) = self.messages.cancelled(handle) {
                    self.remember(waiting.draft);
                    self.say(format!("Not sent: {why}. Ctrl-P brings the text back."));
                }
            }
            ClientEvent::MessageCancelled { handle } => {
                if let Some(waiting) = self.messages.cancelled(handle) {
                    self.remember(waiting.draft);
                    self.say("Taken back: nobody has it. Ctrl-P brings the text back.");
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
            // A page of the log before, which nobody wants any more.
            ClientEvent::FetchRefused { fetch, code: ErrorCode::OtherLog, .. } => _ = self.list.refused(fetch),
            ClientEvent::Digest { fetch, digests } => {
                if let Some(next) = self.checking.answered(fetch, &digests) {
                    self.check(next, effects);
                }
            }
            ClientEvent::FetchRefused { fetch, code, .. } if self.checking.refused(fetch) => {
                self.say(format!("Not compared: {}.", words::refused(code)));
            }
            ClientEvent::FetchRefused { fetch, code, .. } if self.asked == Some(fetch) => {
                self.asked = None;
                self.say(format!("Not done: {}.", words::refused(code)));
            }
            ClientEvent::FetchRefused { fetch, code, .. } if self.list.refused(fetch) => {
                self.say(format!("The conversations can not be had: {}.", words::refused(code)));
            }
            ClientEvent::FetchRefused { fetch, code, .. } => {
                if self.fetching.take_if(|(fetching, _)| *fetching == fetch).is_some() {
                    self.say(format!("Older messages can not be had: {}.", words::refused(code)));
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
                    self.devices = Some(devices::list(&devices, self.device));
                }
            }
            // Nothing is stored over a restart.
            ClientEvent::Epoch(_)
            | ClientEvent::Numbered { .. }
            | ClientEvent::Marked { .. }
            | ClientEvent::Ended(_) => {}
        }
    }

    /// So much has happened meanwhile that it is not told one by one: what is shown is asked for as it is now.
    fn begin_anew(&mut self, effects: &mut Vec<Effect>) {
        self.list.begin_anew();
        // Before the first welcome nothing was asked for.
        if self.me.is_some() && self.peer != NOBODY {
            self.messages.switch(self.peer);
            self.fetching = None;
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
        self.unread.clear();
        (self.fetching, self.read, self.retold) = (None, Seq::ZERO, Retold::Begins);
        self.follow();
        effects.push(Effect::Discarded);
        for handle in dropped {
            if let Some(waiting) = self.messages.cancelled(*handle) {
                self.remember(waiting.draft);
            }
        }
        let lost = match dropped {
            [] => "",
            _ => " What you changed last is not in it: Ctrl-P brings it back.",
        };
        self.say(format!("The server's history was replaced: this is the one that it has now.{lost}"));
    }

    /// What is shown has been read, if it is the newest.
    fn mark_read(&mut self, effects: &mut Vec<Effect>) {
        let is_seen = self.anchor.is_none() && !self.list.is_open && self.retold == Retold::Done;
        if let Some(up_to) = self.messages.last_received().filter(|last| is_seen && *last > self.read) {
            self.read = up_to;
            effects.push(Effect::MarkRead { peer: self.peer, up_to });
        }
    }

    fn on_committed(&mut self, up_to: Seq) {
        let is_done = |notice: &mut Notice| matches!(notice.about, About::Committed(seq) if seq <= up_to);
        self.notice.take_if(is_done);
    }

    fn on_key(&mut self, now: Now, key: KeyEvent, effects: &mut Vec<Effect>) {
        self.notice.take_if(|notice| notice.about == About::Typing);
        let covers = std::mem::take(&mut self.shows_help) | self.devices.take().is_some();
        if covers && key.code == KeyCode::Esc {
            return;
        }
        let has = |modifier| key.modifiers.contains(modifier);
        let (control, alt) = (has(KeyModifiers::CONTROL), has(KeyModifiers::ALT));
        let columns = draw::editor_columns(self.size.0);
        let page = usize::from(draw::message_rows(self)).saturating_sub(1).max(1);
        if self.list.is_open && self.on_list_key(key.code, page, effects) {
            return;
        }
        match key.code {
            KeyCode::Tab if self.editor.is_empty() => self.list.is_open = true,
            KeyCode::Enter if alt || has(KeyModifiers::SHIFT) => self.typed("\n"),
            KeyCode::Enter => self.enter(now, effects),
            KeyCode::Char('j') if control => self.typed("\n"),
            KeyCode::Char('c') if control => {
                if self.editor.is_empty() || self.leaving.is_some() {
                    self.leave(now, effects);
                } else {
                    let draft = self.editor.take();
                    self.remember(draft);
                    self.say("The draft was put away: Ctrl-P brings it back, Ctrl-C again leaves.");
                }
            }
            KeyCode::Char('d') if control && self.editor.is_empty() => self.leave(now, effects),
            KeyCode::Char('d') if control => self.editor.erase_right(),
            KeyCode::Char('z') if control => effects.push(Effect::Suspend),
            KeyCode::Char('a') if control => self.editor.go_to_line_start(),
            KeyCode::Char('e') if control => self.editor.go_to_line_end(),
            KeyCode::Char('b') if control => self.editor.go_left(),
            KeyCode::Char('f') if control => self.editor.go_right(),
            KeyCode::Char('h') if control => self.editor.erase_left(),
            KeyCode::Char('k') if control => self.editor.erase_to_line_end(),
            KeyCode::Char('u') if control => self.editor.erase_to_line_start(),
            KeyCode::Char('w') if control => self.editor.erase_word_left(),
            // What terminals send for Ctrl-_ and Ctrl-/.
            KeyCode::Char('_' | '/' | '7') if control => self.editor.undo(),
            KeyCode::Char('p') if control => self.recall_older(),
            KeyCode::Char('n') if control => self.recall_newer(),
            KeyCode::Char('b') if alt => self.editor.go_word_left(),
            KeyCode::Char('f') if alt => self.editor.go_word_right(),
            KeyCode::Char(c) if !control && !alt => self.typed(c.encode_utf8(&mut [0; 4])),
            KeyCode::Tab => self.typed("\t"),
            KeyCode::Backspace if alt || control => self.editor.erase_word_left(),
            KeyCode::Backspace => self.editor.erase_left(),
            KeyCode::Delete => self.editor.erase_right(),
            KeyCode::Left if alt || control => self.editor.go_word_left(),
            KeyCode::Right if alt || control => self.editor.go_word_right(),
            KeyCode::Left => self.editor.go_left(),
            KeyCode::Right => self.editor.go_right(),
            KeyCode::Home if control => self.scroll_up(usize::MAX, effects),
            KeyCode::End if control => self.follow(),
            KeyCode::Home => self.editor.go_to_line_start(),
            KeyCode::End => self.editor.go_to_line_end(),
            // Most terminals make these of the wheel.
            KeyCode::Up => {
                let has_moved = self.editor.go_up(columns);
                if !has_moved {
                    self.scroll_up(1, effects);
                }
            }
            KeyCode::Down => {
                let has_moved = self.editor.go_down(columns);
                if !has_moved {
                    self.scroll_down(1);
                }
            }
            KeyCode::PageUp => self.scroll_up(page, effects),
            KeyCode::PageDown => self.scroll_down(page),
            KeyCode::Esc => self.follow(),
            _ => {}
        }
    }

    /// A key while the list is shown. False: it means what it always means.
    fn on_list_key(&mut self, code: KeyCode, page: usize, effects: &mut Vec<Effect>) -> bool {
        let rows = self.size.1;
        match code {
            KeyCode::Up => self.list.up(1),
            KeyCode::PageUp => self.list.up(page),
            KeyCode::Down => effects.extend(self.list.down(1, rows).map(Effect::FetchInbox)),
            KeyCode::PageDown => effects.extend(self.list.down(page, rows).map(Effect::FetchInbox)),
            KeyCode::Tab | KeyCode::Esc if self.peer != NOBODY => self.list.is_open = false,
            KeyCode::Tab | KeyCode::Esc => {}
            _ => return false,
        }
        true
    }

    fn typed(&mut self, text: &str) {
        self.insert(text, Source::Typed);
    }

    fn on_paste(&mut self, text: &str) {
        self.notice.take_if(|notice| notice.about == About::Typing);
        self.shows_help = false;
        self.devices = None;
        self.insert(text, Source::Pasted);
    }

    fn insert(&mut self, text: &str, source: Source) {
        if let Err(too_long) = self.editor.insert(text, source) {
            let what = match source {
                Source::Typed => "",
                Source::Pasted => " The pasted text was left out, the draft is as it was: paste it in parts.",
            };
            let bytes = too_long.bytes;
            self.say(format!("A message has at most {TEXT_BYTES_MAX} bytes, with this it would have {bytes}.{what}"));
        }
    }

    fn enter(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let draft = self.editor.text();
        // A command is one line, and typed: what was pasted is somebody's text.
        let is_plain = self.editor.has_pasted() || draft.contains('\n');
        let command = match draft.trim().is_empty() {
            true => Command::Nothing,
            false if is_plain => Command::Say(draft.to_owned()),
            false => match Command::parse(draft) {
                Ok(command) => command,
                Err(error) => return self.say(sentence(&error.to_string())),
            },
        };
        match command {
            Command::Nothing if self.list.is_open => return self.open_chosen(effects),
            Command::Nothing => return,
            Command::Say(_)
            | Command::Reply(..)
            | Command::React(..)
            | Command::Delete(_)
            | Command::Attach(_)
            | Command::Read
            | Command::Keep { .. }
            | Command::History(_)
                if self.list.is_open =>
            {
                return self.say("Choose a conversation first: the arrow keys and Enter, or /to USER.");
            }
            Command::Say(text) => self.send(now, text.clone(), Content::text(&text), effects),
            Command::Reply(to, text) => {
                let Some((to, content)) = self.me.and_then(|me| self.messages.find(to, Author::Peer, me)) else {
                    return self.say("There is no message here to answer; older ones come with /history.");
                };
                let reply = Content::reply(&Reply { to, quote: quote(content), text: &text });
                self.send(now, draft.to_owned(), reply, effects);
            }
            Command::Edit(of, ref text) => {
                let content = |name| Content::edit(name, &Content::text(text), None);
                if !self.change(now, of, draft.to_owned(), content, effects) {
                    return;
                }
            }
            Command::Unsend(of) => {
                if !self.change(now, of, draft.to_owned(), |name| Content::unsend(name, None), effects) {
                    return;
                }
            }
            Command::React(of, ref reaction) => {
                let Some((name, _)) = self.me.and_then(|me| self.messages.find(of, Author::Peer, me)) else {
                    return self.say("There is no message here to react to; older ones come with /history.");
                };
                self.send(now, draft.to_owned(), Content::reaction(name, reaction, None), effects);
            }
            Command::Delete(of) => match self.messages.find_place(of) {
                Some(place) => effects.push(Effect::Delete { peer: self.peer, place }),
                None => return self.say("There is no message here to delete; older ones come with /history."),
            },
            Command::Attach(_) if self.is_describing => {
                return self.say("Another file is being read: this one can be attached in a moment.");
            }
            Command::Attach(attach) => {
                self.is_describing = true;
                effects.push(Effect::Describe { to: self.peer, draft: draft.to_owned(), attach });
            }
            Command::To(peer) => self.switch(peer, effects),
            Command::History(count) => {
                let page = self.page();
                self.fetch(count.unwrap_or(page).min(MESSAGES_MAX as u64), effects);
            }
            Command::Read => self.mark_read(effects),
            Command::Keep { set, cleared } => effects.push(Effect::Keep { peer: self.peer, set, cleared }),
            Command::Inbox(_) => self.list.is_open = true,
            Command::Check => {
                let next = self.checking.begin();
                self.check(next, effects);
            }
            Command::Devices => effects.push(Effect::Devices(Wish::List)),
            Command::NameDevice(name) => match self.device {
                Some(own) => effects.push(Effect::Devices(Wish::Name(own, name))),
                None => return self.say("Not connected yet: the name can be given in a moment."),
            },
            Command::RemoveDevice(device) => effects.push(Effect::Devices(Wish::Remove(device))),
            Command::Cancel => match self.messages.newest_unanswered() {
                Some(handle) => effects.push(Effect::Cancel(handle)),
                None => return self.say("No message here waits for the server: there is nothing to take back."),
            },
            Command::Help => self.shows_help = true,
            Command::Quit => self.leave(now, effects),
        }
        let draft = self.editor.take();
        self.remember(draft);
    }

    fn check(&mut self, next: Next, effects: &mut Vec<Effect>) {
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

    /// Changes an own message. False: there is none.
    fn change(
        &mut self,
        now: Now,
        of: Option<Seq>,
        draft: String,
        content: impl Fn(MessageName) -> Content,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if of.is_none() && self.messages.has_unanswered_message() {
            self.say("Your last message has no answer yet: wait for its tick, or take it back with /cancel.");
            return false;
        }
        let name = self.me.and_then(|me| self.messages.find(of, Author::Me, me)).map(|(name, _)| name);
        match name {
            Some(name) => self.send(now, draft, content(name), effects),
            None => self.say("There is no message of yours here; older ones come with /history."),
        }
        name.is_some()
    }

    /// An attachment has been described, or can not be.
    fn on_described(&mut self, now: Now, described: Described, effects: &mut Vec<Effect>) {
        self.is_describing = false;
        let Described { to, draft, content } = described;
        match content {
            Ok(content) => {
                let number = self.messages.wait(to, draft, content.clone(), now.wall);
                effects.push(Effect::Send { number, to, content });
                self.follow();
            }
            Err(why) => self.say(sentence(&why)),
        }
    }

    fn send(&mut self, now: Now, draft: String, content: Content, effects: &mut Vec<Effect>) {
        let number = self.messages.wait(self.peer, draft, content.clone(), now.wall);
        effects.push(Effect::Send { number, to: self.peer, content });
        self.follow();
    }

    /// Shows the conversation that is chosen in the list.
    fn open_chosen(&mut self, effects: &mut Vec<Effect>) {
        match self.list.chosen() {
            Some(peer) if peer == self.peer => self.list.is_open = false,
            Some(peer) => self.switch(peer, effects),
            None => self.say("There is no conversation yet: /to USER begins one."),
        }
    }

    fn switch(&mut self, peer: ConversationId, effects: &mut Vec<Effect>) {
        self.list.is_open = false;
        self.peer = peer;
        self.messages.switch(peer);
        self.unread.remove(&peer);
        self.read = Seq::ZERO;
        self.fetching = None;
        self.follow();
        self.fetch(self.page(), effects);
    }

    fn leave(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let waiting = self.messages.unanswered().count();
        if self.leaving.is_some() || waiting == 0 {
            return effects.push(Effect::Leave);
        }
        self.leaving = Some(now.monotonic.after(LEAVE_AFTER_MS));
        let (messages, seconds) = (if waiting == 1 { "message" } else { "messages" }, LEAVE_AFTER_MS / 1000);
        self.say(format!("Waiting at most {seconds} s for the answer to {waiting} {messages}; Ctrl-C leaves at once."));
    }

    fn remember(&mut self, draft: String) {
        self.recalled = None;
        if !draft.trim().is_empty() && self.drafts.front() != Some(&draft) {
            self.drafts.push_front(draft);
            self.drafts.truncate(DRAFTS_MAX);
        }
    }

    fn recall_older(&mut self) {
        if self.recalled.is_none() && !self.editor.is_empty() {
            let draft = self.editor.take();
            self.remember(draft);
            self.recalled = Some(0);
        }
        self.recall(self.recalled.map_or(0, |index| index + 1));
    }

    fn recall_newer(&mut self) {
        match self.recalled {
            Some(0) | None => {
                self.recalled = None;
                self.editor.replace(String::new());
            }
            Some(index) => self.recall(index - 1),
        }
    }

    fn recall(&mut self, index: usize) {
        if let Some(draft) = self.drafts.get(index) {
            self.editor.replace(draft.clone());
            self.recalled = Some(index);
        }
    }

    /// Messages of one page.
    fn page(&self) -> u64 {
        PAGE_MIN.max(self.size.1.into())
    }

    fn follow(&mut self) {
        self.anchor = None;
        self.unseen = 0;
    }

    fn scroll_up(&mut self, rows: usize, effects: &mut Vec<Effect>) {
        let (anchor, is_top) = draw::up(self, rows);
        self.anchor = anchor;
        if is_top {
            self.fetch(self.page(), effects);
        }
    }

    fn scroll_down(&mut self, rows: usize) {
        match draw::down(self, rows) {
            Some(anchor) => self.anchor = Some(anchor),
            None => self.follow(),
        }
    }

    fn fetch(&mut self, limit: u64, effects: &mut Vec<Effect>) {
        let Older::UpTo(from) = self.messages.older else { return };
        if self.fetching.is_some() || limit == 0 {
            return;
        }
        if self.messages.kept() >= MESSAGES_MAX {
            return self.say(format!("Older messages are not shown here: {MESSAGES_MAX} are the most."));
        }
        effects.push(Effect::Fetch { peer: self.peer, from, limit });
    }

    /// The client has taken the message.
    pub(crate) fn taken(&mut self, number: u64, handle: SendHandle) {
        self.messages.taken(number, handle);
    }

    /// It has not: the text is a draft again.
    pub(crate) fn not_taken(&mut self, number: u64, error: SendError) {
        if let Some(waiting) = self.messages.not_taken(number) {
            self.editor.replace(waiting.draft);
        }
        self.say(format!("Not sent: {error}."));
    }

    /// The client has not asked for the conversations.
    pub(crate) fn not_listed(&mut self, error: FetchError) {
        self.say(format!("The conversations can not be had: {error}."));
    }

    /// The client has asked for the page.
    pub(crate) fn fetching(&mut self, fetch: FetchHandle) {
        self.fetching = Some((fetch, self.messages.older));
    }

    /// The client has asked about devices.
    pub(crate) const fn asked_devices(&mut self, fetch: FetchHandle) {
        self.asked = Some(fetch);
    }

    /// It has not.
    pub(crate) fn not_asked(&mut self, error: FetchError) {
        self.say(format!("Not done: {error}."));
    }

    /// It has not.
    pub(crate) fn not_fetched(&mut self, error: FetchError) {
        self.say(format!("Older messages can not be had: {error}."));
    }
}

/// Words as they stand alone.
fn sentence(words: &str) -> String {
    let mut rest = words.chars();
    rest.next().map_or(String::new(), |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}
