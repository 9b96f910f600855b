//! Told: messages of a conversation with the reactions to them, by where they stand: what the store has, and the tail laid over it.
//!
//! Invariant: a message and its reactions are told together, or none of them.

use std::collections::BTreeMap;

use proto_spec::{Entry, Event, Seq};

use super::user::{Room, wire_bytes};

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<Seq, Message>);

#[derive(Debug, Default)]
struct Message {
    /// Says what the message says.
    says: Option<Entry>,
    /// By the kind of entry, which is another one for each of the two who may react.
    reactions: BTreeMap<u8, Entry>,
}

impl Message {
    fn take(&mut self, entry: Entry) {
        if entry.is_reaction() {
            self.reactions.insert(entry.event.kind(), entry);
            return;
        }
        if entry.is_unsend() {
            self.reactions.clear();
        }
        self.says = Some(entry);
    }

    /// What says something first, and the reactions by ascending seq.
    fn into_entries(self) -> Option<Vec<Entry>> {
        let mut entries = vec![self.says?];
        entries.extend(self.reactions.into_values());
        entries[1..].sort_unstable_by_key(|entry| entry.seq);
        Some(entries)
    }
}

impl Told {
    /// Of entries as the store tells them.
    pub(super) fn of(entries: Vec<Entry>) -> Self {
        let mut told = Self::default();
        entries.into_iter().for_each(|entry| told.add(entry));
        told
    }

    /// A later entry, of any message.
    pub(super) fn add(&mut self, entry: Entry) {
        match (entry.concerns(), &entry.event) {
            (Some(place), Event::Deleted { .. }) => drop(self.0.remove(&place)),
            (Some(place), _) => self.0.entry(place).or_default().take(entry),
            (None, _) => {}
        }
    }

    /// A later entry, if it is of a message that is here.
    pub(super) fn lay_over(&mut self, entry: &Entry) {
        match (entry.concerns(), &entry.event) {
            (Some(place), Event::Deleted { .. }) => drop(self.0.remove(&place)),
            (Some(place), _) => {
                if let Some(message) = self.0.get_mut(&place) {
                    message.take(entry.clone());
                }
            }
            (None, _) => {}
        }
    }

    /// By ascending place, as many messages as there is room for, and one in any case; false: not all.
    pub(super) fn into_entries(self, room: Room) -> (Vec<Entry>, bool) {
        let messages = self.0.into_values().filter_map(Message::into_entries);
        let (messages, complete) = room.take(messages, |message| message.iter().map(wire_bytes).sum());
        (messages.concat(), complete)
    }
}

#[cfg(test)]
mod tests {
    use proto_spec::{Content, Direction, MessageName, Stands, TimestampMs, UserId};

    use super::*;

    const ME: UserId = UserId(1);
    const PEER: UserId = UserId(2);

    fn entry(seq: u64, from: UserId, content: Content) -> Entry {
        let event = match from {
            ME => Event::Sent {
                to: PEER.into(),
                device: proto_spec::DeviceId(1),
                number: proto_spec::SendNumber(seq),
                content,
            },
            from => Event::Received { from, origin: Seq(seq), content },
        };
        Entry { seq: Seq(seq), time: TimestampMs(seq), event }
    }

    fn about(place: u64) -> (MessageName, Option<Stands>) {
        (MessageName { author: ME, seq: Seq(place) }, Some(Stands { place: Seq(place), time: TimestampMs(place) }))
    }

    fn reaction(seq: u64, from: UserId, place: u64) -> Entry {
        let (of, stands) = about(place);
        entry(seq, from, Content::reaction(of, "+", stands))
    }

    fn seqs(told: Told, direction: Direction, entries: usize, bytes: usize) -> (Vec<u64>, bool) {
        let (entries, complete) = told.into_entries(Room { direction, entries, bytes });
        (entries.iter().map(|entry| entry.seq.0).collect(), complete)
    }

    fn of_two() -> Told {
        Told::of(vec![
            entry(1, ME, Content::text("one")),
            reaction(3, PEER, 1),
            reaction(4, ME, 1),
            entry(2, ME, Content::text("two")),
        ])
    }

    #[test]
    fn a_later_reaction_takes_the_place_of_the_one_before_and_an_edit_keeps_all() {
        let mut told = of_two();
        told.lay_over(&reaction(5, PEER, 1));
        told.lay_over(&reaction(6, PEER, 9));
        let (of, stands) = about(1);
        told.lay_over(&entry(7, ME, Content::edit(of, &Content::text("One"), stands)));
        assert_eq!(seqs(told, Direction::Forwards, 9, usize::MAX), (vec![7, 4, 5, 2], true));
    }

    #[test]
    fn what_is_taken_back_has_no_reactions() {
        let mut told = of_two();
        let (of, stands) = about(1);
        told.lay_over(&entry(5, ME, Content::unsend(of, stands)));
        assert_eq!(seqs(told, Direction::Backwards, 9, usize::MAX), (vec![5, 2], true));
    }

    #[test]
    fn a_message_comes_with_its_reactions_or_not_at_all() {
        assert_eq!(seqs(of_two(), Direction::Forwards, 1, usize::MAX), (vec![1, 3, 4], false));
        assert_eq!(seqs(of_two(), Direction::Backwards, 1, usize::MAX), (vec![2], false));
        assert_eq!(seqs(of_two(), Direction::Backwards, 9, 100), (vec![2], false));
        assert_eq!(seqs(of_two(), Direction::Forwards, 9, 1), (vec![1, 3, 4], false));
    }
}
