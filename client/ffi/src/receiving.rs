//! What a batch is made of: the events, how far the log has been handed out with them, and what is to be said when they are stored.

use client::{ClientEvent, GroupId, SendHandle, SendNumber, Seq};

use crate::config::{Begin, Cursor};

/// What was handed out and is not stored yet, as far as the application says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    pub(crate) numbered: Vec<(SendHandle, SendNumber)>,
    pub(crate) position: Option<Seq>,
    pub(crate) groups: Vec<(GroupId, Seq)>,
    /// Logs that the application discards.
    pub(crate) discarded: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Receiving {
    /// None: the device begins at the end of a log that it does not know yet.
    cursor: Option<Cursor>,
    /// Where it begins in a log that it does not know.
    first: Option<Cursor>,
    handed: Handed,
    is_caught_up: bool,
    is_suspended: bool,
    has_ended: bool,
}

impl Receiving {
    pub(crate) fn new(begin: &Begin) -> Self {
        let (cursor, first) = match begin {
            Begin::After { cursor } => (Some(*cursor), Some(Cursor::default())),
            Begin::Live => (None, None),
        };
        Self { cursor, first, handed: Handed::default(), is_caught_up: false, is_suspended: false, has_ended: false }
    }

    /// Takes the next event, which is handed out then.
    pub(crate) fn take(&mut self, event: &ClientEvent) {
        if let Some((group, seq)) = event.newest_of_group() {
            self.handed.groups.push((group, seq));
        }
        match event {
            ClientEvent::Welcome(welcome) => {
                let head = Cursor { position: welcome.cursor.0, since: welcome.cursor.0, ..Cursor::default() };
                self.cursor.get_or_insert(head).epoch = welcome.epoch.0;
                (self.is_caught_up, self.is_suspended) = (false, false);
            }
            ClientEvent::Entry(entry) => {
                self.move_to(|cursor| cursor.position = entry.seq.0);
                self.handed.position = Some(entry.seq);
            }
            ClientEvent::Skipped { up_to, .. } => {
                self.move_to(|cursor| (cursor.position, cursor.since) = (up_to.0, up_to.0));
            }
            ClientEvent::Epoch(epoch) => self.move_to(|cursor| cursor.epoch = epoch.0),
            ClientEvent::LogReplaced { .. } => {
                // What was handed out of the log that is void is discarded, and not stored.
                (self.handed.position, self.handed.groups) = (None, Vec::new());
                self.handed.discarded += 1;
                self.cursor = self.first;
            }
            ClientEvent::Numbered { handle, number: Some(number) } => self.handed.numbered.push((*handle, *number)),
            ClientEvent::CaughtUp => self.is_caught_up = true,
            ClientEvent::Disconnected { .. } => self.is_caught_up = false,
            ClientEvent::Suspended => (self.is_caught_up, self.is_suspended) = (false, true),
            ClientEvent::Ended(_) => self.has_ended = true,
            _ => {}
        }
    }

    fn move_to(&mut self, change: impl FnOnce(&mut Cursor)) {
        change(self.cursor.get_or_insert_default());
    }

    pub(crate) const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// All that was in the log when the connection began was handed out.
    pub(crate) const fn is_caught_up(&self) -> bool {
        self.is_caught_up
    }

    pub(crate) const fn is_suspended(&self) -> bool {
        self.is_suspended
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// What is stored by now.
    pub(crate) fn stored(&mut self) -> Handed {
        std::mem::take(&mut self.handed)
    }
}

#[cfg(test)]
mod tests {
    use client::{EpochId, Event, TimestampMs};

    use super::*;

    const STORED: Cursor = Cursor { position: 4, epoch: 7, since: 2 };

    fn entry(seq: u64) -> ClientEvent {
        let event = Event::Unknown { kind: 99 };
        ClientEvent::Entry(client::Entry { seq: Seq(seq), time: TimestampMs(1), event })
    }

    fn numbered(number: Option<u64>) -> ClientEvent {
        ClientEvent::Numbered { handle: SendHandle(1), number: number.map(SendNumber) }
    }

    fn replaced() -> ClientEvent {
        ClientEvent::LogReplaced { detail: String::new(), dropped: Vec::new() }
    }

    fn after(cursor: Cursor) -> Receiving {
        Receiving::new(&Begin::After { cursor })
    }

    #[test]
    fn the_cursor_is_where_the_last_entry_stands_and_of_the_epoch_that_was_told_before_it() {
        let mut receiving = after(STORED);
        receiving.take(&entry(5));
        assert_eq!(receiving.cursor(), Some(Cursor { position: 5, ..STORED }));
        receiving.take(&ClientEvent::Epoch(EpochId(9)));
        receiving.take(&entry(8));
        assert_eq!(receiving.cursor(), Some(Cursor { position: 8, epoch: 9, since: 2 }));
        receiving.take(&ClientEvent::Skipped { after: Seq(8), up_to: Seq(90) });
        assert_eq!(receiving.cursor(), Some(Cursor { position: 90, epoch: 9, since: 90 }));
    }

    #[test]
    fn what_is_stored_is_said_once() {
        let mut receiving = after(STORED);
        [numbered(None), numbered(Some(3)), entry(5), numbered(Some(2)), entry(6)]
            .iter()
            .for_each(|of| receiving.take(of));
        let handed = receiving.stored();
        let numbered = [3, 2].map(|number| (SendHandle(1), SendNumber(number)));
        assert_eq!(handed, Handed { numbered: numbered.into(), position: Some(Seq(6)), ..Handed::default() });
        assert_eq!(receiving.stored(), Handed::default());
    }

    #[test]
    fn of_a_log_that_is_void_nothing_is_acknowledged_and_the_next_one_begins_where_the_device_began() {
        let mut receiving = after(STORED);
        [entry(5), numbered(Some(3)), replaced()].iter().for_each(|of| receiving.take(of));
        assert_eq!(receiving.cursor(), Some(Cursor::default()));
        receiving.take(&entry(1));
        let handed = receiving.stored();
        assert_eq!((handed.position, handed.discarded, handed.numbered.len()), (Some(Seq(1)), 1, 1));
        let mut live = Receiving::new(&Begin::Live);
        [entry(5), replaced()].iter().for_each(|of| live.take(of));
        assert_eq!(live.cursor(), None);
    }
}
