//! Deliberate faults: what a cluster with a bug in one place would do. Each is played at a seam between the production parts, so that
//! these stay as they are; the simulator must find every one (`tests/fleet.rs`).

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A commit looks at the terms of its slots in a transaction before its own.
    CheckTermEarly,
    /// A slot goes to another node, and its term stays.
    KeepTerm,
    /// A slot that begins a new term does not count its batches from one: the first ones seem to be there already.
    KeepProgress,
    /// A node that comes back keeps the terms of what it owned, so its own earlier life may still commit.
    EnrolInSameTerm,
    /// A node begins to serve what it takes before that is written.
    BeginBeforeTaken,
    /// A core is not told of a change of owners: it keeps users that are another node's.
    LoseOwners,
    /// Of two changes of owners a core is told the older one last.
    ReorderOwners,
    /// Reads may see rows as they were some time ago, and so of before a slot has come.
    StaleReads,
    /// What users of a slot that has come owe is not looked for.
    ForgetUnfinished,
    /// A commit whose outcome is not known counts as done.
    UnknownCountsAsDone,
    /// A commit is acknowledged when it is on its way.
    AcknowledgeEarly,
    /// A core hears neither that a link has ended nor that there is a later one: what was on its way is waited for.
    ForgetNewLink,
    /// Something is lost on a link that lives on.
    LoseOnLink,
    /// Somebody renews the leases of nodes that have died.
    GhostBeat,
    /// A node that is told that it has been replaced goes on.
    IgnoreReplacement,
    /// Somebody is welcomed by a node that has lost them and has not heard of it.
    WelcomeUnasked,
    /// What a group's home pushes to a core gets lost.
    LosePush,
    /// A core that begins to follow a group is not told how far its log is.
    FollowWithoutHead,
}

impl Fault {
    /// All of them that show without groups; [`super::groups::FAULTS`] are those that groups show.
    pub const ALL: &'static [Self] = &[
        Self::CheckTermEarly,
        Self::KeepTerm,
        Self::KeepProgress,
        Self::EnrolInSameTerm,
        Self::BeginBeforeTaken,
        Self::LoseOwners,
        Self::ReorderOwners,
        Self::StaleReads,
        Self::ForgetUnfinished,
        Self::UnknownCountsAsDone,
        Self::AcknowledgeEarly,
        Self::ForgetNewLink,
        Self::LoseOnLink,
        Self::GhostBeat,
        Self::IgnoreReplacement,
        Self::WelcomeUnasked,
    ];
}
