//! What cores tell each other of presence: one message a turn and core, of a class that may be lost. Nothing in it is needed for
//! anything to be right later: what is lost is said again when a watch is renewed.

use proto_spec::{Presence, TimestampMs, UserId, limits::WATCHED_MAX};

use crate::{limits::PRESENCE_MAIL_ITEMS_MAX, shard::topology::CoreId};

/// Grows whenever somebody may see more or less of a user than before. A verdict is good for one version. Never used twice by a home.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// A viewer's own number of a question, which comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Whether they may see what there is to see.
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
    /// Which verdicts are good.
    pub version: Version,
    /// Verdicts of this version are good as well, but for those of `only`.
    pub before: Version,
    /// Of whom a verdict may have changed; none: of nobody since `before`.
    pub only: Option<UserId>,
}

/// Somebody types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Typing {
    /// Who.
    pub from: UserId,
    /// To whom, whose home this goes to.
    pub to: UserId,
}

/// All that a core says to another in a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceMail {
    /// From which core.
    pub from: CoreId,
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

impl PresenceMail {
    /// That says nothing yet.
    #[must_use]
    pub fn new(from: CoreId) -> Self {
        let (asks, answers) = (Vec::new(), Vec::new());
        Self { from, asks, answers, changes: Vec::new(), counts: Vec::new(), typing: Vec::new() }
    }

    /// Whether one more would be much for a turn: a question, or an answer, is about as many things as a watch has users.
    const fn is_full(&self) -> bool {
        let long = self.asks.len() + self.answers.len();
        let short = self.changes.len() + self.counts.len() + self.typing.len();
        long * WATCHED_MAX + short >= PRESENCE_MAIL_ITEMS_MAX
    }
}

/// What a core says to each of the others in this turn.
#[derive(Debug)]
pub(super) struct Outgoing {
    from: CoreId,
    mails: Vec<(CoreId, PresenceMail)>,
}

impl Outgoing {
    pub(super) const fn new(from: CoreId) -> Self {
        Self { from, mails: Vec::new() }
    }

    /// What goes to a core next. Never too much for one turn there.
    pub(super) fn to(&mut self, core: CoreId) -> &mut PresenceMail {
        let found = self.mails.iter().rposition(|(to, _)| *to == core);
        let at = match found {
            Some(at) if !self.mails[at].1.is_full() => at,
            _ => {
                self.mails.push((core, PresenceMail::new(self.from)));
                self.mails.len() - 1
            }
        };
        &mut self.mails[at].1
    }

    pub(super) fn take(&mut self) -> Vec<(CoreId, PresenceMail)> {
        std::mem::take(&mut self.mails)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.mails.is_empty()
    }
}
