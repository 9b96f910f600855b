//! What cores tell each other of presence: one message a turn and core, of a class that may be lost. Nothing in it is needed for
//! anything to be right later: what is lost is said again when a watch is renewed.

use proto_spec::{Presence, TimestampMs, UserId};

use crate::{
    limits::{PRESENCE_FRAME_ITEMS_MAX, PRESENCE_MAIL_ITEMS_MAX},
    shard::topology::{CoreId, Home, Homes, NodeId},
};

/// A core of this node or of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreAddress {
    /// Whose.
    pub node: NodeId,
    /// Which.
    pub core: CoreId,
}

/// Grows whenever somebody may see more or less of a user than before. A verdict is good for one version. Never used twice by a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// No home has given this one. It stands where none is known, and where another node is told of somebody of whom nothing is to be seen:
    /// a version is as old as the connection of who is there.
    pub const UNTOLD: Self = Self(0);
}

/// A viewer's own number of a question, which comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookId(pub u64);

/// What is to be seen of a user by who may see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// [`Presence::Unknown`]: nothing, for nobody.
    pub state: Presence,
    /// With [`Presence::Offline`]: since when; zero if it is not told.
    pub last_seen: TimestampMs,
}

impl Sight {
    /// Nothing.
    pub const NONE: Self = Self { state: Presence::Unknown, last_seen: TimestampMs(0) };
}

/// A verdict of an earlier answer, and the version that it is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For which version.
    pub version: Version,
    /// They may see.
    pub may: bool,
}

/// A user that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub user: UserId,
    /// What the viewer was told before.
    pub verdict: Option<Verdict>,
    /// How many of the viewer's connections watch the user, this one included. 0: it only looks.
    pub count: u32,
    /// Whether who looks blocks the user, as far as their home has it in memory; none: as the store says.
    pub blocks: Option<bool>,
}

/// A question of a core about users whose home is another one, or itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The viewer's number of it.
    pub look: LookId,
    /// Who looks.
    pub looks: UserId,
    /// At whom.
    pub users: Vec<Asked>,
}

/// What a home says of one user to one who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub user: UserId,
    /// Whether they may see what there is to see. From another node, in [`Version::UNTOLD`] if that is nothing.
    pub verdict: Verdict,
    /// That; [`Sight::NONE`] for who may not.
    pub sight: Sight,
    /// The user has too many watchers: the viewer is not told of changes.
    pub is_crowded: bool,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// From the question.
    pub look: LookId,
    /// All that were asked about; none: the home is too busy.
    pub told: Option<Vec<Told>>,
}

/// A user has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub user: UserId,
    /// What is to be seen now.
    pub sight: Sight,
    /// Which verdicts are good. From another node [`Version::UNTOLD`] if nothing is to be seen: then all but for that of `only`.
    pub version: Version,
    /// Verdicts of this version are good as well, but for those of `only`.
    pub before: Version,
    /// Of whom a verdict may have changed; none: of nobody since `before`.
    pub only: Option<UserId>,
}

/// Somebody types. What each of the two knows of the other is good for one version, which only the other's home can tell to be the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Who.
    pub from: UserId,
    /// In which version: whose verdict is of another one is told nothing.
    pub version: Version,
    /// To whom, whose home this goes to.
    pub to: UserId,
    /// In which version of theirs who types may see them: if that is not their last one, they are told nothing.
    pub seen: Version,
}

/// To whom something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// A core of this node.
    Core(CoreId),
    /// The homes of users of another node: questions, counts and who types. That node knows the cores.
    Homes(NodeId),
    /// A core of another node that looks: answers and changes.
    Viewer(CoreAddress),
}

impl To {
    /// The other node, if it goes to one.
    #[must_use]
    pub const fn node(self) -> Option<NodeId> {
        match self {
            Self::Core(_) => None,
            Self::Homes(node) | Self::Viewer(CoreAddress { node, .. }) => Some(node),
        }
    }

    /// How much is said at once: for a turn of a core, or for a frame.
    const fn items_max(self) -> usize {
        match self {
            Self::Core(_) => PRESENCE_MAIL_ITEMS_MAX,
            Self::Homes(_) | Self::Viewer(_) => PRESENCE_FRAME_ITEMS_MAX,
        }
    }
}

impl From<Home> for To {
    fn from(home: Home) -> Self {
        match home {
            Home::Here(core) => Self::Core(core),
            Home::Elsewhere(node) => Self::Homes(node),
        }
    }
}

/// What is said of presence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceNews {
    /// Questions.
    pub asks: Vec<Ask>,
    /// Answers.
    pub answers: Vec<Answer>,
    /// What has changed, in order.
    pub changes: Vec<Change>,
    /// So many connections of the sender watch a user now. Also told with each question.
    pub counts: Vec<(UserId, u32)>,
    /// Who types to whom.
    pub typing: Vec<Typing>,
}

impl PresenceNews {
    /// Whether nothing is said.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { asks, answers, changes, counts, typing } = self;
        asks.is_empty() && answers.is_empty() && changes.is_empty() && counts.is_empty() && typing.is_empty()
    }
}

/// All that a core says to another in a turn, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceMail {
    /// Who says so.
    pub from: CoreAddress,
    /// To whom.
    pub to: To,
    /// What.
    pub news: PresenceNews,
}

/// What a core says to each of the others in this turn.
#[derive(Debug)]
pub(super) struct Outgoing {
    own: CoreAddress,
    /// With how many things each says.
    mails: Vec<(PresenceMail, usize)>,
}

impl Outgoing {
    pub(super) const fn new(own: CoreAddress) -> Self {
        Self { own, mails: Vec::new() }
    }

    /// Where `items` more things are to be put that are said together. Never too much for one turn there, or for one frame.
    pub(super) fn to(&mut self, to: To, items: usize) -> &mut PresenceNews {
        let found = self.mails.iter().rposition(|(mail, _)| mail.to == to);
        let at = match found {
            Some(at) if self.mails[at].1 + items <= to.items_max() => at,
            _ => {
                self.mails.push((PresenceMail { from: self.own, to, news: PresenceNews::default() }, 0));
                self.mails.len() - 1
            }
        };
        let (mail, said) = &mut self.mails[at];
        *said += items;
        &mut mail.news
    }

    /// The same, for a core that looks.
    pub(super) fn for_viewer(&mut self, viewer: CoreAddress, items: usize) -> &mut PresenceNews {
        let is_here = viewer.node == self.own.node;
        self.to(if is_here { To::Core(viewer.core) } else { To::Viewer(viewer) }, items)
    }

    /// The same, for the home that has said something.
    pub(super) fn for_home(&mut self, home: CoreAddress, items: usize) -> &mut PresenceNews {
        let is_here = home.node == self.own.node;
        self.to(if is_here { To::Core(home.core) } else { To::Homes(home.node) }, items)
    }

    /// A core that looks is told of a change. Another node is not told whose verdict has changed, if that is none of its users'; and
    /// where nothing is to be seen not even that one has, nor in which version.
    pub(super) fn change(&mut self, homes: &Homes, viewer: CoreAddress, mut change: Change) {
        if viewer.node != self.own.node {
            let whose = change.only;
            change.only = whose.filter(|user| homes.elsewhere(*user) == Some(viewer.node));
            if change.sight == Sight::NONE {
                if change.only != whose {
                    return;
                }
                (change.version, change.before) = (Version::UNTOLD, Version::UNTOLD);
            }
        }
        self.for_viewer(viewer, 1).changes.push(change);
    }

    /// A core that looks is answered. Another node is told no version of whom there is nothing to see.
    pub(super) fn answer(&mut self, viewer: CoreAddress, mut answer: Answer) {
        let told = answer.told.iter_mut().flatten().filter(|_| viewer.node != self.own.node);
        for told in told.filter(|told| told.sight == Sight::NONE) {
            told.verdict.version = Version::UNTOLD;
        }
        let items = 1 + answer.told.as_ref().map_or(0, Vec::len);
        self.for_viewer(viewer, items).answers.push(answer);
    }

    /// This core.
    pub(super) const fn own(&self) -> CoreAddress {
        self.own
    }

    pub(super) fn take(&mut self) -> impl Iterator<Item = PresenceMail> + use<> {
        std::mem::take(&mut self.mails).into_iter().map(|(mail, _)| mail)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_a_frame_is_said_in_several_in_its_order() {
        let [own, there] = [0, 1].map(|node| CoreAddress { node: NodeId(node), core: CoreId(2) });
        let mut outgoing = Outgoing::new(own);
        let users = PRESENCE_FRAME_ITEMS_MAX as u64 + 10;
        for user in 1..=users {
            outgoing.to(To::Homes(NodeId(1)), 1).counts.push((UserId(user), 1));
            outgoing.to(To::Core(CoreId(1)), 1).counts.push((UserId(user), 1));
        }
        outgoing.for_viewer(there, 1);
        outgoing.for_viewer(own, 1);
        let mails: Vec<_> = outgoing.take().map(|mail| (mail.to, mail.news.counts.len())).collect();
        let to =
            [To::Homes(NodeId(1)), To::Core(CoreId(1)), To::Homes(NodeId(1)), To::Viewer(there), To::Core(own.core)];
        let lengths = [PRESENCE_FRAME_ITEMS_MAX, users as usize, 10, 0, 0];
        assert_eq!(mails, to.into_iter().zip(lengths).collect::<Vec<_>>());
        assert!(outgoing.is_empty());
    }
}
