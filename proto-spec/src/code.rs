//! Error codes: the closed list of what a server says when it refuses or ends something (SPEC 6).

use crate::wire::{DecodeError, Reader};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $value:literal $name:literal;)*) => {
        /// Why something was refused or ended. Numbers are never reused: a gap is a retired code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $variant,)*
            /// A code of a newer server. Treat it as the frame that carries it says: refused, error or bye.
            Unknown(u16),
        }

        impl ErrorCode {
            /// Every code of this version, in the order of the table in SPEC 6.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self {
                    $(Self::$variant => $value,)*
                    Self::Unknown(number) => number,
                }
            }

            /// The code of a number on the wire.
            #[must_use]
            pub const fn from_number(number: u16) -> Self {
                match number {
                    $($value => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// The name in SPEC 6.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "unknown",
                }
            }
        }
    };
}

impl ErrorCode {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let value = r.varint("code")?;
        match u16::try_from(value) {
            Ok(number) => Ok(Self::from_number(number)),
            Err(_) => Err(DecodeError::Unlisted { field: "code", value }),
        }
    }
}

codes! {
    /// A length prefix or a body that SPEC 2 does not allow. Closes.
    Malformed = 1 "malformed";
    /// A frame longer than the receiver takes. Closes.
    FrameTooLarge = 2 "frame_too_large";
    /// A frame kind that this version does not have. The connection goes on.
    UnknownKind = 3 "unknown_kind";
    /// No version in common. Closes.
    Version = 4 "version";
    /// A frame that this state does not allow. Closes.
    NotNow = 5 "not_now";
    /// The hello did not come in time. Closes.
    HandshakeTimeout = 6 "handshake_timeout";
    /// Plain bytes came to a listener that speaks TLS only. Closes.
    TlsRequired = 7 "tls_required";
    /// The hello, or a refresh, carried no token. A hello's closes.
    TokenMissing = 10 "token_missing";
    /// The token's signature, form or claims are wrong. A hello's closes.
    TokenInvalid = 11 "token_invalid";
    /// The token has expired, or is not valid yet. A hello's closes, and so does the time on a live connection.
    TokenExpired = 12 "token_expired";
    /// The device id is zero, or the user has too many devices and none of them makes room. Closes.
    DeviceRefused = 13 "device_refused";
    /// The resume cursor lies beyond the log. Closes.
    CursorAhead = 14 "cursor_ahead";
    /// The operator has revoked the user's or the device's tokens. Closes, unless it answers a refresh.
    Revoked = 15 "revoked";
    /// The log can not be shown to be the one that the device holds. Closes.
    OtherLog = 16 "other_log";
    /// The device has been removed; its id never comes back. Closes.
    DeviceRemoved = 17 "device_removed";
    /// The user has no such device.
    NoSuchDevice = 18 "no_such_device";
    /// The send number is not the next one; `expected` says which is.
    SendGap = 20 "send_gap";
    /// The text is empty or longer than the limit.
    TextLength = 21 "text_length";
    /// A kind of content that this server does not store.
    ContentKind = 22 "content_kind";
    /// The recipient is not a user id.
    Recipient = 23 "recipient";
    /// More sends await their answer than the window allows.
    WindowFull = 24 "window_full";
    /// An acknowledgement beyond what this connection was offered.
    AcknowledgeAhead = 25 "acknowledge_ahead";
    /// More fetches await their page than one connection may have.
    TooManyFetches = 26 "too_many_fetches";
    /// The number stands for another message, which was accepted under it.
    NumberUsed = 27 "number_used";
    /// The number was given up: nothing is accepted under it.
    GivenUp = 28 "given_up";
    /// A part of the content is missing or beyond its limit.
    ContentLimits = 29 "content_limits";
    /// The server has more work than it takes on. Try again later.
    Overloaded = 30 "overloaded";
    /// The disk has no room for new messages. Try again later.
    StorageFull = 31 "storage_full";
    /// The disk or the store failed. What was accepted is safe; new messages are not taken.
    StorageFailed = 32 "storage_failed";
    /// More connections than the server takes. Closes.
    TooManyConnections = 33 "too_many_connections";
    /// More of something than one client may do in a time. Try again later.
    RateLimited = 34 "rate_limited";
    /// There is no such message in the conversation.
    NoSuchMessage = 35 "no_such_message";
    /// The message is somebody else's.
    NotTheAuthor = 36 "not_the_author";
    /// The message was written too long ago.
    TooLate = 37 "too_late";
    /// The message is of another kind than what it is to say.
    OtherKind = 38 "other_kind";
    /// The message has been taken back.
    TakenBack = 39 "taken_back";
    /// The same device connected again; the newer connection goes on. Closes.
    Replaced = 40 "replaced";
    /// Nothing was heard for longer than the idle timeout. Closes.
    IdleTimeout = 41 "idle_timeout";
    /// The server is stopping. Closes.
    Stopping = 42 "stopping";
    /// The connection did not drain its answers. Closes.
    SlowConsumer = 43 "slow_consumer";
    /// The message has as many reactions as it keeps.
    ReactionsFull = 50 "reactions_full";
    /// The recipient takes nothing from this user.
    Unwanted = 51 "unwanted";
    /// Another node serves this user, and the client follows no redirect, or no further one. Closes.
    Elsewhere = 52 "elsewhere";
    /// There is no such group, or it is not this user's to see.
    NoSuchGroup = 60 "no_such_group";
    /// The user is a member, and may not do this.
    NotAllowed = 61 "not_allowed";
    /// A group has this id already.
    GroupExists = 62 "group_exists";
    /// The group has as many members as it may have, or somebody has come and gone too often.
    GroupFull = 63 "group_full";
    /// The user whom this is about is no member.
    NoSuchMember = 64 "no_such_member";
    /// The user whom this is about is a member already.
    MemberAlready = 65 "member_already";
    /// The user whom this is about is banned from the group.
    Banned = 66 "banned";
    /// Nobody is invited by this secret.
    NotInvited = 67 "not_invited";
    /// The group has ended.
    GroupEnded = 68 "group_ended";
    /// The user is in as many groups as one may be in.
    TooManyGroups = 69 "too_many_groups";
    /// A subscription that no notification can be sent to.
    BadSubscription = 70 "bad_subscription";
}
