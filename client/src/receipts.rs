//! Receipts: what this device has of groups, said now and then (SPEC 4.48). However many entries come, it is one frame for each group in
//! so long a time.

use std::collections::BTreeMap;

use proto_spec::{ClientFrame, GroupId, Seq};

use crate::{config::Acknowledging, limits::ACKNOWLEDGE_GROUPS_AFTER_MS, state::MonotonicMs};

/// See the head of this file.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    acknowledging: Acknowledging,
    said: BTreeMap<GroupId, Seq>,
    unsaid: BTreeMap<GroupId, Seq>,
    due: Option<MonotonicMs>,
}

impl Receipts {
    /// Nothing has come yet.
    pub(crate) const fn new(acknowledging: Acknowledging) -> Self {
        Self { acknowledging, said: BTreeMap::new(), unsaid: BTreeMap::new(), due: None }
    }

    /// The application is handed that entry.
    pub(crate) fn handed_out(&mut self, group: GroupId, seq: Seq) {
        if self.acknowledging == Acknowledging::WhenHandedOut {
            self.has(group, seq);
        }
    }

    /// This device has that entry.
    pub(crate) fn has(&mut self, group: GroupId, seq: Seq) {
        let said = self.said.get(&group).copied().unwrap_or_default();
        if seq > said {
            let unsaid = self.unsaid.entry(group).or_default();
            *unsaid = (*unsaid).max(seq);
        }
    }

    /// Nothing counts any more: the log is another one.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(self.acknowledging);
    }

    /// When something is to be said.
    pub(crate) const fn deadline(&self) -> Option<MonotonicMs> {
        self.due
    }

    /// What is to be said now; at once: because the connection ends.
    pub(crate) fn take(&mut self, now: MonotonicMs, at_once: bool) -> Vec<ClientFrame> {
        let is_due = match self.due {
            _ if self.unsaid.is_empty() => return Vec::new(),
            Some(due) => due <= now,
            None => {
                self.due = Some(now.after(ACKNOWLEDGE_GROUPS_AFTER_MS));
                false
            }
        };
        if !is_due && !at_once {
            return Vec::new();
        }
        self.due = None;
        let unsaid = std::mem::take(&mut self.unsaid);
        self.said.extend(&unsaid);
        unsaid.into_iter().map(|(group, up_to)| ClientFrame::AcknowledgeGroup { group, up_to }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(7);

    #[test]
    fn what_a_device_has_is_said_once_in_a_while_and_only_if_it_is_more() {
        let mut receipts = Receipts::new(Acknowledging::ByApplication);
        receipts.handed_out(GROUP, Seq(9));
        let said = |up_to| vec![ClientFrame::AcknowledgeGroup { group: GROUP, up_to: Seq(up_to) }];
        let at = |ms| MonotonicMs(ms);
        for seq in [3, 5, 4] {
            receipts.has(GROUP, Seq(seq));
            assert_eq!(receipts.take(at(seq), false), []);
        }
        assert_eq!(receipts.deadline(), Some(at(3 + ACKNOWLEDGE_GROUPS_AFTER_MS)));
        assert_eq!(receipts.take(at(3 + ACKNOWLEDGE_GROUPS_AFTER_MS), false), said(5));
        receipts.has(GROUP, Seq(4));
        assert_eq!((receipts.take(at(90_000), true), receipts.deadline()), (vec![], None));
        receipts.has(GROUP, Seq(6));
        assert_eq!(receipts.take(at(90_000), true), said(6));
        receipts.forget();
        receipts.has(GROUP, Seq(1));
        assert_eq!(receipts.take(at(90_001), true), said(1));
    }
}
