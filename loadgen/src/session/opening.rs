//! Opening: what an app asks for right behind its hello (SPEC 8.6), the first page of the inbox and with it the newest page of the first
//! conversation, until both have come. Pure.

use proto_spec::{ClientFrame, Inbox, Page, RequestId, Seq};

use super::check_page;

/// What an app shows when it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Conversations of the list.
    pub rows: u64,
    /// Messages of the first conversation.
    pub messages: u64,
}

/// What came for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The list.
    pub inbox: Inbox,
    /// The newest messages of the first conversation, if there is one and messages were wanted.
    pub page: Option<Page>,
    /// From the hello to the last of this, in microseconds.
    pub since_hello_us: u64,
}

/// An app that opens.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    screen: Screen,
    asked_us: u64,
    inbox: Option<Inbox>,
}

/// Fetches count from 1 on.
pub(super) const REQUEST: RequestId = RequestId(1 << 32);

impl Opening {
    pub(super) const fn new(screen: Screen) -> Self {
        Self { screen, asked_us: 0, inbox: None }
    }

    /// Asks, right behind the hello.
    pub(super) fn ask(&mut self, now_us: u64, out: &mut Vec<u8>) {
        (self.asked_us, self.inbox) = (now_us, None);
        self.ask_again(out);
    }

    /// Asks again, after a refusal that has passed.
    pub(super) fn ask_again(&self, out: &mut Vec<u8>) {
        let Screen { rows, messages } = self.screen;
        ClientFrame::FetchInbox { request: REQUEST, before: Seq::ZERO, limit: rows, messages }.encode(out);
    }

    /// The list has come. Gives what the app shows, if that is all.
    ///
    /// # Errors
    /// It came twice.
    pub(super) fn take_inbox(&mut self, now_us: u64, inbox: Inbox) -> Result<Option<Opened>, String> {
        if self.inbox.is_some() {
            return Err("the inbox that an app opens with came twice".to_owned());
        }
        let is_all = inbox.rows.is_empty() || self.screen.messages == 0;
        self.inbox = Some(inbox);
        Ok(if is_all { self.done(now_us, None) } else { None })
    }

    /// The page of the first conversation has come. Gives what the app shows.
    ///
    /// # Errors
    /// It is no page, or came before the inbox.
    pub(super) fn take_page(&mut self, now_us: u64, page: Page) -> Result<Option<Opened>, String> {
        check_page(&page)?;
        self.done(now_us, Some(page))
            .map(Some)
            .ok_or_else(|| "the page that an app opens with came before its inbox".to_owned())
    }

    fn done(&mut self, now_us: u64, page: Option<Page>) -> Option<Opened> {
        let inbox = self.inbox.take()?;
        Some(Opened { inbox, page, since_hello_us: now_us.saturating_sub(self.asked_us) })
    }
}
