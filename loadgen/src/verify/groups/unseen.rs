//! Changes that nobody was told of, because a later one superseded them first: which empty seq of a log each of them is. Pure.

use std::collections::{BTreeMap, HashMap};

use proto_spec::{Seq, UserId};

use super::{
    Groups, Outcome, Said, Sent, SentId,
    log::{Log, Shows},
};
use crate::verify::Change;

/// A change of which nobody was told, and between which entries it must be.
#[derive(Clone, Copy, Debug)]
struct Unseen {
    id: SentId,
    above: u64,
    below: u64,
}

impl Groups {
    /// The change that stood at each empty seq of a log. A seq at which none can have stood is left out.
    pub(super) fn unseen(&self, group: u32, log: &Log, shows: &Shows) -> BTreeMap<u64, SentId> {
        if log.holes.is_empty() {
            return BTreeMap::new();
        }
        let mut of_author: HashMap<UserId, Vec<(Seq, SentId)>> = HashMap::new();
        for (id, sent) in (0..).map(SentId).zip(&self.sends).filter(|(_, sent)| sent.group == group && sent.is_accepted)
        {
            of_author.entry(self.user_of(sent.seat)).or_default().push((sent.origin, id));
        }
        let mut unseen = Vec::new();
        for sends in of_author.values_mut() {
            sends.sort_unstable();
            for (at, (_, id)) in sends.iter().enumerate() {
                unseen.extend(self.may_be_unseen(*id, &sends[..at], &sends[at + 1..], shows));
            }
        }
        let mut found = BTreeMap::new();
        for hole in &log.holes {
            // Of those that fit, take the one that must come first, so that the others still fit behind it.
            let fits = unseen.iter().enumerate().filter(|(_, one)| (one.above + 1..one.below).contains(hole));
            if let Some((at, _)) = fits.min_by_key(|(_, one)| (one.below, one.id)) {
                found.insert(*hole, unseen.swap_remove(at).id);
            }
        }
        found
    }

    /// Where a change stood that nobody was told of, if a later one has superseded it. `before` and `behind` are the other sends of its
    /// author to the group, in their order.
    fn may_be_unseen(
        &self,
        id: SentId,
        before: &[(Seq, SentId)],
        behind: &[(Seq, SentId)],
        shows: &Shows,
    ) -> Option<Unseen> {
        let Sent { said: Said::Change(of, change, _), outcome: Outcome::Waiting, .. } = self.sends[id.0 as usize]
        else {
            return None;
        };
        let numbered = |(_, id): &(Seq, SentId)| match self.sends[id.0 as usize] {
            Sent { said, outcome: Outcome::Numbered(seq), .. } => Some((said, seq.0)),
            Sent { outcome: Outcome::Waiting | Outcome::Refused(_), .. } => None,
        };
        let supersedes = |said: Said| match (said, change) {
            (Said::Change(other, Change::React(_), _), Change::React(_)) => other == of,
            (Said::Change(other, Change::Edit | Change::Unsend, _), Change::Edit) => other == of,
            _ => false,
        };
        let taken_back = match change {
            Change::React(_) => {
                shows.get(self.name(of).seq).filter(|shown| shown.is_taken_back).map(|shown| shown.says)
            }
            Change::Edit | Change::Unsend => None,
        };
        let superseding = behind.iter().filter_map(numbered).find(|(said, _)| supersedes(*said)).map(|(_, seq)| seq);
        let superseded_at = [superseding, taken_back].into_iter().flatten().min()?;
        let next = behind.iter().filter_map(numbered).map(|(_, seq)| seq).next();
        let above = before.iter().filter_map(numbered).map(|(_, seq)| seq).next_back().unwrap_or_default();
        Some(Unseen { id, above, below: next.unwrap_or(superseded_at).min(superseded_at) })
    }
}
