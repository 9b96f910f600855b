//! What nodes tell each other of who is there, as bytes; frames and everything else that is said are [`super::wire`]'s.

use bincode::{BorrowDecode, Encode};
use proto_spec::{Presence, TimestampMs, UserId, limits::PRESENCE_USERS_MAX};

use crate::{
    limits::CORES_MAX,
    shard::{
        presence::{Answer, Ask, Asked, Change, LookId, PresenceNews, Sight, Told, Typing, Verdict, Version},
        topology::CoreId,
    },
};

/// What a core of a node says to cores of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceSaid {
    /// Who says so.
    pub from: CoreId,
    /// The core that looks, for answers and changes; none: the homes of those who are named.
    pub to: Option<CoreId>,
    /// What.
    pub news: PresenceNews,
}

#[derive(Encode, BorrowDecode)]
pub(super) struct PresenceBytes {
    from: u16,
    to: Option<u16>,
    asks: Vec<AskBytes>,
    answers: Vec<AnswerBytes>,
    changes: Vec<ChangeBytes>,
    counts: Vec<(u64, u32)>,
    typing: Vec<[u64; 4]>,
}

#[derive(Encode, BorrowDecode)]
struct AskBytes {
    look: u64,
    looks: u64,
    users: Vec<AskedBytes>,
}

#[derive(Encode, BorrowDecode)]
struct AskedBytes {
    user: u64,
    verdict: Option<VerdictBytes>,
    count: u32,
    blocks: Option<bool>,
}

#[derive(Encode, BorrowDecode)]
struct VerdictBytes {
    version: u64,
    may: bool,
}

#[derive(Encode, BorrowDecode)]
struct SightBytes {
    state: u8,
    last_seen: u64,
}

#[derive(Encode, BorrowDecode)]
struct AnswerBytes {
    look: u64,
    told: Option<Vec<ToldBytes>>,
}

#[derive(Encode, BorrowDecode)]
struct ToldBytes {
    user: u64,
    verdict: VerdictBytes,
    sight: SightBytes,
    is_crowded: bool,
}

#[derive(Encode, BorrowDecode)]
struct ChangeBytes {
    user: u64,
    sight: SightBytes,
    version: u64,
    before: u64,
    only: Option<u64>,
}

impl PresenceBytes {
    pub(super) fn of(from: CoreId, to: Option<CoreId>, news: &PresenceNews) -> Self {
        let PresenceNews { asks, answers, changes, counts, typing } = news;
        Self {
            from: from.0,
            to: to.map(|core| core.0),
            asks: asks.iter().map(AskBytes::from).collect(),
            answers: answers.iter().map(AnswerBytes::from).collect(),
            changes: changes.iter().map(ChangeBytes::from).collect(),
            counts: counts.iter().map(|(user, count)| (user.0, *count)).collect(),
            typing: typing.iter().map(|of| [of.from.0, of.version.0, of.to.0, of.seen.0]).collect(),
        }
    }

    /// What it means, unless it has something that nobody says.
    pub(super) fn said(self) -> Result<PresenceSaid, &'static str> {
        let Self { from, to, asks, answers, changes, counts, typing } = self;
        let typing = typing.into_iter().map(|[from, version, to, seen]| {
            let (version, seen) = (Version(version), Version(seen));
            Typing { from: UserId(from), version, to: UserId(to), seen }
        });
        let news = PresenceNews {
            asks: asks.into_iter().map(AskBytes::ask).collect::<Result<_, _>>()?,
            answers: answers.into_iter().map(AnswerBytes::answer).collect::<Result<_, _>>()?,
            changes: changes.into_iter().map(ChangeBytes::change).collect::<Result<_, _>>()?,
            counts: counts.into_iter().map(|(user, count)| (UserId(user), count)).collect(),
            typing: typing.collect(),
        };
        Ok(PresenceSaid { from: core(from)?, to: to.map(core).transpose()?, news })
    }
}

/// Each core that says something is remembered: there are not more of them than a node can have.
const fn core(number: u16) -> Result<CoreId, &'static str> {
    if number < CORES_MAX { Ok(CoreId(number)) } else { Err("no node has so many cores") }
}

impl From<&Ask> for AskBytes {
    fn from(ask: &Ask) -> Self {
        let users = ask.users.iter().map(|of| AskedBytes {
            user: of.user.0,
            verdict: of.verdict.map(VerdictBytes::from),
            count: of.count,
            blocks: of.blocks,
        });
        Self { look: ask.look.0, looks: ask.looks.0, users: users.collect() }
    }
}

impl AskBytes {
    fn ask(self) -> Result<Ask, &'static str> {
        let Self { look, looks, users } = self;
        if users.len() > PRESENCE_USERS_MAX {
            return Err("nobody asks about so many users");
        }
        let asked = |AskedBytes { user, verdict, count, blocks }| {
            let verdict = verdict.map(Verdict::from);
            Asked { user: UserId(user), verdict, count, blocks }
        };
        Ok(Ask { look: LookId(look), looks: UserId(looks), users: users.into_iter().map(asked).collect() })
    }
}

impl From<Verdict> for VerdictBytes {
    fn from(Verdict { version, may }: Verdict) -> Self {
        Self { version: version.0, may }
    }
}

impl From<VerdictBytes> for Verdict {
    fn from(VerdictBytes { version, may }: VerdictBytes) -> Self {
        Self { version: Version(version), may }
    }
}

impl From<Sight> for SightBytes {
    fn from(Sight { state, last_seen }: Sight) -> Self {
        Self { state: state.byte(), last_seen: last_seen.0 }
    }
}

impl SightBytes {
    fn sight(self) -> Result<Sight, &'static str> {
        let state = Presence::from_byte(self.state).ok_or("nobody is in such a state")?;
        Ok(Sight { state, last_seen: TimestampMs(self.last_seen) })
    }
}

impl From<&Answer> for AnswerBytes {
    fn from(answer: &Answer) -> Self {
        let told = |told: &Told| ToldBytes {
            user: told.user.0,
            verdict: told.verdict.into(),
            sight: told.sight.into(),
            is_crowded: told.is_crowded,
        };
        Self { look: answer.look.0, told: answer.told.as_ref().map(|all| all.iter().map(told).collect()) }
    }
}

impl AnswerBytes {
    fn answer(self) -> Result<Answer, &'static str> {
        let told = |told: ToldBytes| {
            let ToldBytes { user, verdict, sight, is_crowded } = told;
            Ok::<_, &str>(Told { user: UserId(user), verdict: verdict.into(), sight: sight.sight()?, is_crowded })
        };
        let told = self.told.map(|all| all.into_iter().map(told).collect::<Result<_, _>>());
        Ok(Answer { look: LookId(self.look), told: told.transpose()? })
    }
}

impl From<&Change> for ChangeBytes {
    fn from(change: &Change) -> Self {
        Self {
            user: change.user.0,
            sight: change.sight.into(),
            version: change.version.0,
            before: change.before.0,
            only: change.only.map(|user| user.0),
        }
    }
}

impl ChangeBytes {
    fn change(self) -> Result<Change, &'static str> {
        let Self { user, sight, version, before, only } = self;
        Ok(Change {
            user: UserId(user),
            sight: sight.sight()?,
            version: Version(version),
            before: Version(before),
            only: only.map(UserId),
        })
    }
}

// What is decoded may take no more memory than a frame.
const _: () = {
    use crate::limits::PRESENCE_ITEM_BYTES_MAX;
    assert!(size_of::<ChangeBytes>() <= PRESENCE_ITEM_BYTES_MAX && size_of::<ToldBytes>() <= PRESENCE_ITEM_BYTES_MAX);
    assert!(size_of::<AskBytes>() <= PRESENCE_ITEM_BYTES_MAX && size_of::<AskedBytes>() <= PRESENCE_ITEM_BYTES_MAX);
};
