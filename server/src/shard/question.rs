//! Questions: what the queries to the store are asked for that are under way.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use proto_spec::{ConversationId, GroupId, RequestId, SendNumber, Seq, UserId};
use storage::{Answer, Query};

use super::{
    ConnId, Shard, Turn,
    changes::{Arrival, Change},
    deletions::Deletion,
    fetch::Fetch,
    groups::{GroupList, Outcome, PageFetch, Sent},
    inbox::InboxFetch,
    input::{Connected, QueryId},
    marks::Unread,
    presence::{Blocks, Reading},
    push,
    repeated::Asked,
};
use crate::{cluster::map::Slot, limits::READ_TRIES_MAX};

/// The purpose of a query; its answer comes back with the query's id.
#[derive(Debug)]
pub(super) enum Question {
    /// To load a user.
    User(UserId),
    /// To load a conversation.
    Conversation { user: UserId, conversation: ConversationId },
    /// To push the next page, from `first` up to `last`.
    CatchUp { conn: ConnId, first: Seq, last: Seq },
    /// To answer a fetch; `last` is the far end of the span that was asked for.
    Fetch { conn: ConnId, request: RequestId, fetch: Fetch, last: Seq },
    /// To answer a request for the inbox.
    Inbox { conn: ConnId, request: RequestId, fetch: InboxFetch },
    /// To set a read mark: what lies behind it, up to `last`.
    Unread { user: UserId, conversation: ConversationId, unread: Unread, last: Seq },
    /// To answer what is asked of a number that was used before.
    Repeated { conn: ConnId, number: SendNumber, asked: Asked },
    /// To know whether this node has a slot still, of which these have connected.
    Term(Slot, Vec<Connected>),
    /// To know whether the id of a device that connects for the first time was removed before.
    IsRemoved(Connected),
    /// To change a message that is in the store.
    Change { user: UserId, change: Change },
    /// To delete a message.
    Delete { user: UserId, conversation: ConversationId, deletion: Deletion },
    /// As `Change`, for one that has come from the other side.
    Arrival { arrival: Arrival },
    /// To load a group.
    Group(GroupId),
    /// To delete a message of a group for a user.
    GroupDelete { user: UserId, group: GroupId, by: (ConnId, RequestId), place: Seq },
    /// To change a message of a group.
    GroupChange(Box<Sent>),
    /// To tell users how they stand to a group: what waits in its log, up to `last`.
    Owed { group: GroupId, last: Seq },
    /// To tell a user of their groups.
    GroupList { conn: ConnId, request: RequestId, list: Box<GroupList> },
    /// To tell somebody what a group's log says: `part` of it.
    GroupPage { group: GroupId, fetch: Box<PageFetch>, part: (Seq, Seq) },
    /// To say what became of something that was sent to a group.
    Placed { user: UserId, group: GroupId, origin: Seq, outcome: Outcome },
    /// To send messages that wait in the log, up to `last`.
    Forward { user: UserId, last: Seq },
    /// To say who is there.
    Presence(Box<Reading>),
    /// To ask other nodes who is there.
    Blocks(Box<Blocks>),
    /// To notify of what waits in the log, up to `last`.
    Dues { user: UserId, last: Seq },
    /// To tell the operator why somebody was notified.
    Why { user: UserId, asked: push::Asked },
    /// To report received messages up to `last` to their senders.
    Receipts { user: UserId, last: Seq },
}

impl Question {
    /// Whether what the tail says is laid over the answer, as it stands then: what goes from the tail to the store in between is in neither.
    const fn is_laid_under_the_tail(&self) -> bool {
        match self {
            Self::CatchUp { .. }
            | Self::Unread { .. }
            | Self::Change { .. }
            | Self::Delete { .. }
            | Self::Dues { .. }
            | Self::Arrival { .. } => true,
            // Pages and inboxes are begun anew as a whole; the others take the log as it was.
            Self::User(_)
            | Self::Conversation { .. }
            | Self::Fetch { .. }
            | Self::Inbox { .. }
            | Self::Repeated { .. }
            | Self::Term(..)
            | Self::IsRemoved(_)
            | Self::Presence(_)
            | Self::Blocks(_)
            | Self::Group(_)
            | Self::GroupDelete { .. }
            | Self::GroupChange(_)
            | Self::Owed { .. }
            | Self::GroupList { .. }
            | Self::GroupPage { .. }
            | Self::Placed { .. }
            | Self::Forward { .. }
            | Self::Why { .. }
            | Self::Receipts { .. } => false,
        }
    }
}

/// A question, and what it takes to ask it again.
#[derive(Debug)]
struct Asking {
    user: UserId,
    question: Question,
    /// If its answer is laid under the tail.
    under: Option<Under>,
}

/// Under which tail an answer is to be laid.
#[derive(Debug)]
struct Under {
    query: Query,
    /// Where the tail began when it was asked.
    begins: Seq,
    tries: u8,
}

/// The queries that are under way. Each has an id of its own, and is answered once.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: HashMap<QueryId, Asking, RandomState>,
    /// Under way, and nobody wants to hear the answer any more.
    given_up: HashSet<QueryId, RandomState>,
    last: u64,
}

impl Questions {
    /// One more. What its answer is to be called.
    fn open(&mut self, asking: Asking) -> QueryId {
        self.last += 1;
        let query = QueryId(self.last);
        self.open.insert(query, asking);
        query
    }

    /// The answer has come. To what.
    fn close(&mut self, query: QueryId) -> Option<Asking> {
        self.open.remove(&query)
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.open.len() + self.given_up.len()
    }

    /// Gives up those about these users.
    fn give_up(&mut self, is_gone: impl Fn(UserId) -> bool) -> Vec<Asking> {
        let mut gone: Vec<_> = self.open.extract_if(|_, asking| is_gone(asking.user)).collect();
        self.given_up.extend(gone.iter().map(|(query, _)| *query));
        gone.sort_unstable_by_key(|(query, _)| *query);
        gone.into_iter().map(|(_, asking)| asking).collect()
    }
}

impl Shard {
    /// Asks the store.
    pub(super) fn ask(&mut self, query: Query, question: Question, cx: &mut Turn<'_>) {
        let user = query.user();
        let under = question.is_laid_under_the_tail().then(|| Under {
            query: query.clone(),
            begins: self.users.resident(user).map(|user| user.tail.begins()).unwrap_or_default(),
            tries: 1,
        });
        self.begin(query, Asking { user, question, under }, cx);
    }

    fn begin(&mut self, query: Query, asking: Asking, cx: &mut Turn<'_>) {
        self.counters.queries += 1;
        cx.effects.queries.push((self.questions.open(asking), query));
    }

    /// Where the tail begins, if something has left it since this was asked: then it is to be asked again.
    fn has_moved(&mut self, under: &Under) -> Option<Seq> {
        let begins = self.users.resident(under.query.user())?.tail.begins();
        (begins != under.begins).then_some(begins)
    }

    /// The store has answered, or could not be read (`None`).
    pub(super) fn answered(&mut self, query: QueryId, answer: Option<Answer>, cx: &mut Turn<'_>) {
        match self.questions.close(query) {
            Some(asking) => self.answered_to(asking, answer, cx),
            None => {
                let is_known = self.questions.given_up.remove(&query);
                debug_assert!(is_known, "each query is answered once");
            }
        }
    }

    /// The users of these questions are another node's from now on: whoever waits for an answer has it now, and there is none.
    pub(super) fn give_up_questions(&mut self, is_gone: impl Fn(UserId) -> bool, cx: &mut Turn<'_>) {
        loop {
            let gone = self.questions.give_up(&is_gone);
            if gone.is_empty() {
                return;
            }
            gone.into_iter().for_each(|asking| self.answered_to(asking, None, cx));
        }
    }

    fn answered_to(&mut self, asking: Asking, mut answer: Option<Answer>, cx: &mut Turn<'_>) {
        let Asking { user, question, under } = asking;
        if let Some(under) = under.filter(|_| answer.is_some())
            && let Some(begins) = self.has_moved(&under)
        {
            if under.tries < READ_TRIES_MAX {
                let (query, tries) = (under.query.clone(), under.tries + 1);
                let under = Some(Under { begins, tries, ..under });
                return self.begin(query, Asking { user, question, under }, cx);
            }
            // It changes faster than it is read.
            answer = None;
        }
        // An answer of the wrong kind is a bug of the rim; in a release it counts as unreadable.
        let entries = |answer: Option<Answer>| match answer {
            Some(Answer::Entries(entries)) => Some(entries),
            _ => None,
        };
        let message = |answer: Option<Answer>| match answer {
            Some(Answer::Message(message)) => Some(message),
            _ => None,
        };
        let group_entries = |answer: Option<Answer>| match answer {
            Some(Answer::GroupEntries(entries)) => Some(entries),
            _ => None,
        };
        let presence = |answer: Option<Answer>| match answer {
            Some(Answer::Presence(rows)) => Some(rows),
            _ => None,
        };
        match question {
            Question::User(user) => match answer {
                Some(Answer::User(snapshot)) => self.user_loaded(user, &snapshot, cx),
                _ => self.user_unreadable(user, cx),
            },
            Question::Conversation { user, conversation } => match answer {
                Some(Answer::Conversation(snapshot)) => self.conversation_loaded(user, conversation, snapshot, cx),
                _ => self.conversation_unreadable(user, conversation, cx),
            },
            Question::CatchUp { conn, first, last } => self.caught_up(conn, (first, last), entries(answer), cx),
            Question::Fetch { conn, request, fetch, last } => {
                self.fetched(conn, request, fetch, last, entries(answer), cx);
            }
            Question::Inbox { conn, request, fetch } => {
                let read = match answer {
                    Some(Answer::Inbox(read)) => Some(read),
                    _ => None,
                };
                self.inbox_read(conn, request, fetch, read, cx);
            }
            Question::Unread { user, conversation, unread, last } => {
                self.unread_read(user, conversation, unread, last, entries(answer), cx);
            }
            Question::Repeated { conn, number, asked } => {
                let found = match answer {
                    Some(Answer::Send(found)) => found,
                    _ => None,
                };
                self.repeated_found(conn, number, asked, found, cx);
            }
            Question::Term(slot, asked) => {
                let term = match answer {
                    Some(Answer::Term(term)) => Some(term),
                    _ => None,
                };
                self.term_read(slot, asked, term, cx);
            }
            Question::IsRemoved(connected) => {
                let is_removed = match answer {
                    Some(Answer::IsRemoved(is_removed)) => Some(is_removed),
                    _ => None,
                };
                self.removal_looked_up(connected, is_removed, cx);
            }
            Question::Delete { user, conversation, deletion } => {
                let read = match answer {
                    Some(Answer::ToDelete(read)) => Some(read),
                    _ => None,
                };
                self.deletion_read(user, conversation, deletion, read, cx);
            }
            Question::Presence(reading) => self.presence_read(*reading, presence(answer), cx),
            Question::Blocks(blocks) => self.blocks_read(*blocks, presence(answer), cx),
            Question::Change { user, change } => self.change_read(user, change, message(answer), cx),
            Question::Arrival { arrival } => self.arrival_read(arrival, message(answer), cx),
            Question::Group(group) => {
                let snapshot = match answer {
                    Some(Answer::Group(snapshot)) => Some(*snapshot),
                    _ => None,
                };
                self.group_loaded(group, snapshot, cx);
            }
            Question::GroupDelete { user, group, by, place } => {
                self.group_deletion_read((user, group, place), by, message(answer), cx);
            }
            Question::GroupChange(sent) => {
                let read = match answer {
                    Some(Answer::GroupMessage(message)) => Some(message),
                    _ => None,
                };
                self.group_message_read(*sent, read, cx);
            }
            Question::Owed { group, last } => self.owed_read(group, last, group_entries(answer), cx),
            Question::GroupList { conn, request, list } => {
                let read = match answer {
                    Some(Answer::Conversations(read)) => Some(read),
                    _ => None,
                };
                self.group_list_read((conn, request), *list, read, cx);
            }
            Question::GroupPage { group, fetch, part } => {
                self.group_page_read(group, *fetch, part, group_entries(answer), cx);
            }
            Question::Placed { user, group, origin, outcome } => {
                self.placed_read((user, group, origin), outcome, entries(answer), cx);
            }
            Question::Forward { user, last } => self.forwards_read(user, last, entries(answer), cx),
            Question::Dues { user, last } => self.dues_read(user, last, entries(answer), cx),
            Question::Why { user, asked } => {
                let read = entries(answer).map(|read| read.entries.into_iter().next());
                self.why_read(user, asked, read, cx);
            }
            Question::Receipts { user, last } => self.receipts_read(user, last, entries(answer), cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_has_an_id_of_its_own_and_one_answer() {
        let of = |user| Asking { user: UserId(user), question: Question::User(UserId(user)), under: None };
        let user = |asking: Option<Asking>| match asking?.question {
            Question::User(user) => Some(user.0),
            _ => None,
        };
        let mut questions = Questions::default();
        let [first, second] = [1, 2].map(|user| questions.open(of(user)));
        assert_eq!(questions.len(), 2);
        assert_eq!(user(questions.close(second)), Some(2));
        assert!(questions.close(second).is_none(), "it has been answered");
        let third = questions.open(of(3));
        assert!(third != first && third != second, "an answer that comes late is nobody else's");
        assert_eq!(user(questions.close(first)), Some(1));
        assert_eq!(questions.len(), 1);
    }
}
