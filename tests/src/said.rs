//! What two people say, change, delete and are shown, in a [`World`].

use proto_spec::{
    Body, ClientFrame, Content, ConversationId, Direction, Entry, Event, MessageName, Page, RequestId, SendNumber, Seq,
    ServerFrame, UserId,
};

use crate::{
    frames::{pages, two_people},
    world::{Link, World},
};

/// The one who begins, of [`two_people`].
pub const ALICE: UserId = UserId(1);

/// The name of a message.
#[must_use]
pub fn name(author: UserId, seq: u64) -> MessageName {
    MessageName { author, seq: Seq(seq) }
}

/// Sends any content.
pub fn say(world: &mut World, link: Link, number: u64, to: u64, content: Content) {
    world.frame(link, &ClientFrame::Send { number: SendNumber(number), to: UserId(to).into(), content });
}

/// Changes what a message says.
pub fn edit(world: &mut World, link: Link, number: u64, to: u64, of: MessageName, text: &str) {
    say(world, link, number, to, Content::edit(of, &Content::text(text), None));
}

/// Reacts to a message.
pub fn react(world: &mut World, link: Link, number: u64, to: u64, of: MessageName, reaction: &str) {
    say(world, link, number, to, Content::reaction(of, reaction, None));
}

/// The page of a conversation that a device is shown.
pub fn page_of(world: &mut World, link: Link, with: u64, direction: Direction, limit: u64) -> Page {
    world.take(link);
    let (request, conversation) = (RequestId(1), UserId(with).into());
    world.frame(link, &ClientFrame::FetchConversation { request, conversation, from: Seq(0), direction, limit });
    world.settle();
    pages(&world.take(link)).pop().expect("there is a page")
}

/// What a page of a conversation says: where, and what is said there; nothing of what was taken back.
pub fn shown(world: &mut World, link: Link, with: u64, direction: Direction, limit: u64) -> Vec<(u64, Option<String>)> {
    page_of(world, link, with, direction, limit).entries.iter().map(said).collect()
}

/// As [`shown`] has it.
#[must_use]
pub fn some(place: u64, text: &str) -> (u64, Option<String>) {
    (place, Some(text.to_owned()))
}

/// Where a message stands, and what it says; nothing if it was taken back.
#[must_use]
pub fn said(entry: &Entry) -> (u64, Option<String>) {
    let said = match &entry.event {
        Event::Received { content, .. } | Event::Sent { content, .. } => {
            match content.body().expect("it was decoded") {
                Body::Edit(edit) => edit.content().as_text().map(str::to_owned),
                _ => content.as_text().map(str::to_owned),
            }
        }
        _ => None,
    };
    (entry.place().expect("it is shown").0, said)
}

/// What a page of a conversation shows of reactions: where the message stands, whether it is the user's own reaction, and which.
pub fn reactions(world: &mut World, link: Link, with: u64, limit: u64) -> Vec<(u64, bool, String)> {
    let page = page_of(world, link, with, Direction::Backwards, limit);
    let mut shown = Vec::new();
    let mut message = None;
    for entry in &page.entries {
        let (Event::Received { content, .. } | Event::Sent { content, .. }) = &entry.event else {
            panic!("{entry:?} is of no conversation")
        };
        match content.body().expect("it was decoded") {
            Body::Reaction(reaction) => {
                let place = reaction.stands.expect("a server says where it is").place;
                assert_eq!(Some(place), message, "it comes behind its message");
                let is_own = matches!(entry.event, Event::Sent { .. });
                shown.push((place.0, is_own, reaction.reaction.to_owned()));
            }
            _ => message = entry.place(),
        }
    }
    shown
}

/// As [`reactions`] has it.
#[must_use]
pub fn shows(place: u64, is_own: bool, reaction: &str) -> (u64, bool, String) {
    (place, is_own, reaction.to_owned())
}

/// Which messages a page of a conversation tells of, with each entry.
pub fn shown_places(world: &mut World, link: Link, with: u64, limit: u64) -> Vec<u64> {
    let page = page_of(world, link, with, Direction::Backwards, limit);
    page.entries.iter().map(|entry| entry.concerns().expect("it is shown").0).collect()
}

/// Runs a claim with everything in the tail, and with everything that has been said in the store.
pub fn wherever_it_lies(claim: impl Fn(&mut World, Link, Link, u64, u64, &dyn Fn(&mut World))) {
    for is_stored in [false, true] {
        let (mut world, a, b, alice, bob) = two_people();
        let store = |world: &mut World| {
            world.settle();
            if is_stored {
                world.ingest();
                world.settle();
            }
        };
        claim(&mut world, a, b, alice, bob, &store);
    }
}

/// Deletes a message for oneself; whether the answer is that it is gone.
pub fn delete(world: &mut World, link: Link, with: u64, place: u64) -> bool {
    world.take(link);
    let (request, conversation) = (RequestId(5), UserId(with).into());
    world.frame(link, &ClientFrame::DeleteMessage { request, conversation, place: Seq(place) });
    world.settle();
    world.take(link).contains(&ServerFrame::Marked { request })
}

/// Of each conversation in the inbox: with whom, where the last message stands, and how many are unread.
pub fn inbox(world: &mut World, link: Link) -> Vec<(ConversationId, Seq, u64)> {
    world.take(link);
    world.frame(link, &ClientFrame::FetchInbox { request: RequestId(2), before: Seq(0), limit: 9, messages: 0 });
    world.settle();
    let frames = world.take(link);
    let Some(ServerFrame::Inbox(inbox)) = frames.iter().find(|frame| matches!(frame, ServerFrame::Inbox(_))) else {
        panic!("{frames:?}")
    };
    inbox.rows.iter().map(|row| (row.conversation, row.last.place().expect("it is a message"), row.unread)).collect()
}
