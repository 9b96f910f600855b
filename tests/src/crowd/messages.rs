//! Messages of a group and what has changed them, as SPEC 5.4.5 to 5.4.7 and 8.12 have it: part of the law.

use std::{collections::BTreeMap, sync::Arc};

use proto_spec::{Body, Content, ErrorCode, GroupEntry, Seq, Stands, TimestampMs, UserId};

use super::law::Law;

/// A message, as it is at one place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) author: UserId,
    kind: u8,
    written: TimestampMs,
    /// The entry that tells what it says.
    says: Seq,
    is_gone: bool,
    reactions: BTreeMap<UserId, Seq>,
}

impl Law {
    fn message(&self, about: &Content) -> Option<(Seq, &Message)> {
        let (name, _) = about.about()?;
        let message = self.messages.get(&name.seq).filter(|message| message.author == name.author);
        message.map(|message| (name.seq, message))
    }

    /// What there is to say against a change of a message, or a reaction to one.
    pub(crate) fn objections_to_change(&self, from: UserId, content: &Content) -> Vec<ErrorCode> {
        if content.about().is_none() {
            return Vec::new();
        }
        let Some((_, message)) = self.message(content).filter(|(place, _)| self.may_read(from, *place)) else {
            return vec![ErrorCode::NoSuchMessage];
        };
        let (is_by_other, is_other) = match content.body() {
            Ok(Body::Edit(edit)) => (message.author != from, edit.content().parts().0 != message.kind),
            Ok(Body::Unsend(_)) => (message.author != from, false),
            _ => (false, false),
        };
        let codes = [
            (message.is_gone, ErrorCode::TakenBack),
            (is_by_other, ErrorCode::NotTheAuthor),
            (is_other, ErrorCode::OtherKind),
        ];
        codes.into_iter().filter(|(is_so, _)| *is_so).map(|(_, code)| code).collect()
    }

    /// How a change stands in the log: it says where the message stands.
    pub(crate) fn with_place(&self, content: &Content) -> Content {
        let stands = self.message(content).map(|(place, message)| Stands { place, time: message.written });
        stands.map_or_else(|| content.clone(), |stands| content.standing(Some(stands)))
    }

    /// Which entries this one takes the place of.
    pub(crate) fn superseded_by(&self, entry: &GroupEntry) -> Vec<Seq> {
        let Some((_, message)) = self.message(&entry.content) else { return Vec::new() };
        match &entry.content {
            Content::Reaction(_) => message.reactions.get(&entry.from).copied().into_iter().collect(),
            Content::Unsend(_) => message.reactions.values().copied().chain([message.says]).collect(),
            _ => vec![message.says],
        }
    }

    /// An entry is, or changes, a message.
    pub(crate) fn says(&mut self, entry: &GroupEntry) {
        let Some((name, _)) = entry.content.about() else {
            if entry.content.is_message() {
                let (author, kind) = (entry.from, entry.content.parts().0);
                let (written, says) = (entry.time, entry.seq);
                let message = Message { author, kind, written, says, is_gone: false, reactions: BTreeMap::new() };
                Arc::make_mut(&mut self.messages).insert(entry.seq, message);
            }
            return;
        };
        let Some(message) = Arc::make_mut(&mut self.messages).get_mut(&name.seq) else { return };
        match &entry.content {
            Content::Reaction(_) => _ = message.reactions.insert(entry.from, entry.seq),
            content => {
                message.says = entry.seq;
                if matches!(content, Content::Unsend(_)) {
                    message.is_gone = true;
                    message.reactions.clear();
                }
            }
        }
    }
}
