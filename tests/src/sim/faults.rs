//! Deliberate faults: what a server with a bug in one place would do. Each is played at a seam between the production
//! parts, so that these stay as they are; the simulator must find every one (`tests/sim.rs`).

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A batch counts as durable when its write begins.
    AcknowledgeBeforeCommit,
    /// A sync says that it is done and has done nothing.
    LyingSync,
    /// A write that failed is dropped instead of repeated, and its batches count as durable.
    SkipFailedGroup,
    /// The rows that remember send numbers are not written.
    ForgetSendNumbers,
    /// A retry is not compared with what was accepted under its number.
    AcceptEveryRetry,
    /// The store does not know of numbers that were given up.
    ForgetGivenUp,
    /// The rows that remember what was received from whom are not written.
    ForgetReceived,
    /// The rows that remember what was read are not written.
    ForgetRead,
    /// The rows that remember what was sent last in a conversation are not written.
    ForgetSent,
    /// The rows that name users with open duties are not written.
    ForgetDuties,
    /// The rows that remember removed devices are not written.
    ForgetRemoved,
    /// A message for another core is dropped when its mailbox is full.
    DropOnFullMailbox,
    /// That a message or a receipt was put off is not told to who sent it.
    ForgetPutOff,
    /// A message does not say which one goes before it, and overtakes one that was put off.
    ForgetBefore,
    /// A message for another core overtakes the one before it.
    ReorderMailbox,
    /// A shard is told that its batches are in the store before they are.
    IngestedTooEarly,
    /// A commit into the database that failed counts as done.
    FailedCommitCounts,
    /// A segment is freed without having been ingested.
    FreeWithoutIngesting,
    /// The store answers from an older state of itself.
    StaleReads,
    /// The store leaves the first entry out of a page.
    PageWithHole,
    /// A digest is made without the first entry that the store has.
    DigestWithHole,
    /// A cursor is stored one higher than it was acknowledged.
    CursorTooFar,
    /// A frame on its way to a client is lost while the connection lives on.
    LoseFrame,
    /// After a restart the journal is not replayed.
    SkipReplay,
    /// The cores are not told that the store is away.
    HideOutage,
    /// While the store is away a welcome calls no more committed than it has.
    WelcomeTakesBack,
    /// The wall clock of the machine is believed at once, whatever it says.
    BelieveEveryClock,
    /// Who it is that moves to another core gets lost on the way.
    LoseGuest,
    /// A descriptor gets to its home core under the number of another move.
    MixUpGuests,
    /// The place of a connection is not given back.
    LeakPlace,
    /// Who is connected is not told of a revocation.
    RevokeNobody,
    /// A revocation closes who is connected, and is not remembered.
    RevokeWithoutTable,
    /// A login is let in that the audit log does not hear of.
    ForgetLogin,
    /// A batch leaves a core after the envelopes that follow from it.
    EnvelopeBeforeBatch,
    /// A stop waits for clients alone.
    StopWhenAllHaveGone,
    /// A stop does not wait for what is on its way between cores.
    StopWithoutMail,
    /// What can not be read counts as nothing.
    FailedReadIsEmpty,
    /// A device is not told that a later epoch of its log begins.
    LoseEpoch,
    /// What is kept for apps that open does not hear of edits: a list shows what was shown before.
    KeepUnedited,
    /// What is not a text gets to the other side as one.
    FlattenContent,
    /// Where it says what a changed message says is not written.
    ForgetChanged,
    /// The store does not tell who has reacted to a message: another reaction of the same user is added, and does not replace the one
    /// before.
    AddReactions,
    /// A device that lacks a part of its log counts as one that has all of it.
    ClaimGaps,
    /// A device is not told that a part of its log is skipped.
    SkipUntold,
    /// A page of the inbox says that it stands one entry later than it does.
    InboxTooFar,
    /// The rows that remember deleted messages are not written.
    ForgetDeleted,
    /// A core is not told that others may see a user than before: it goes on telling by the verdicts that it has.
    KeepVerdicts,
    /// No other core is told of what changes with a user.
    LoseChanges,
    /// A home is not told that another core watches.
    LoseCounts,
    /// A change of a user comes after the one that followed it.
    ReorderChanges,
    /// A core is told of a user what was to be told of another.
    VerdictsOfOthers,
    /// A core is not told that a user has become invisible.
    ShowInvisible,
    /// That a user comes or goes is announced before it has held.
    AnnounceAtOnce,
    /// That somebody types is passed on to whom they may not see.
    TypeToAll,
    /// The directory does not hear that a user has gone, or is shown to others than before.
    StaleDirectory,
    /// What is pushed of presence is what was pushed before.
    PushAgain,
    /// A notice that the push service has taken is lost.
    DropNotices,
    /// How a notice has ended is not told.
    LoseOutcomes,
    /// The rows that say where notifications for devices go are not written.
    ForgetSubscriptions,
    /// The rows that say how far users were notified are not written.
    ForgetNotified,
    /// The rows that say how conversations are kept are not written.
    ForgetSettings,
}

impl Fault {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::AcknowledgeBeforeCommit,
        Self::LyingSync,
        Self::SkipFailedGroup,
        Self::ForgetSendNumbers,
        Self::AcceptEveryRetry,
        Self::ForgetGivenUp,
        Self::ForgetReceived,
        Self::ForgetRead,
        Self::ForgetSent,
        Self::ForgetDuties,
        Self::ForgetRemoved,
        Self::DropOnFullMailbox,
        Self::ForgetPutOff,
        Self::ForgetBefore,
        Self::ReorderMailbox,
        Self::IngestedTooEarly,
        Self::FailedCommitCounts,
        Self::FreeWithoutIngesting,
        Self::StaleReads,
        Self::PageWithHole,
        Self::DigestWithHole,
        Self::CursorTooFar,
        Self::LoseFrame,
        Self::SkipReplay,
        Self::HideOutage,
        Self::WelcomeTakesBack,
        Self::BelieveEveryClock,
        Self::LoseGuest,
        Self::MixUpGuests,
        Self::LeakPlace,
        Self::RevokeNobody,
        Self::RevokeWithoutTable,
        Self::ForgetLogin,
        Self::EnvelopeBeforeBatch,
        Self::StopWhenAllHaveGone,
        Self::StopWithoutMail,
        Self::FailedReadIsEmpty,
        Self::LoseEpoch,
        Self::KeepUnedited,
        Self::FlattenContent,
        Self::ForgetChanged,
        Self::AddReactions,
        Self::ClaimGaps,
        Self::SkipUntold,
        Self::InboxTooFar,
        Self::ForgetDeleted,
        Self::KeepVerdicts,
        Self::LoseChanges,
        Self::LoseCounts,
        Self::ReorderChanges,
        Self::VerdictsOfOthers,
        Self::ShowInvisible,
        Self::AnnounceAtOnce,
        Self::TypeToAll,
        Self::StaleDirectory,
        Self::PushAgain,
        Self::DropNotices,
        Self::LoseOutcomes,
        Self::ForgetSubscriptions,
        Self::ForgetNotified,
        Self::ForgetSettings,
    ];
}
