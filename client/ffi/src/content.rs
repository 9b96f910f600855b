//! What messages say, and what is done to groups, in both directions.

use client::{Body, ConversationId, GroupId, Mention, Reaction, Reply, Seq, TimestampMs, UserId};

use crate::{entry::flags, errors::RingpostError};

/// What is written to, and whose history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, uniffi::Enum)]
pub enum Conversation {
    /// The conversation with this user; with oneself: notes to self.
    User {
        /// Whom.
        id: u64,
    },
    /// A group.
    Group {
        /// Which.
        id: u64,
    },
}

/// Names a message for ever, on both sides: who wrote it, and its seq in the author's log. A received message is (`author`, `origin`), one of one's own (oneself,
/// its seq); in a group (`author`, its seq in the group's log).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, uniffi::Record)]
pub struct MessageName {
    /// Who wrote it.
    pub author: u64,
    /// Its seq in the author's log; in a group in the group's log.
    pub seq: u64,
}

/// Where a message stands that says something else than at first, or nothing. Told by the server; in what is sent it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Stands {
    /// The seq of the own log that it had first.
    pub place: u64,
    /// When it was written, in milliseconds since 1970.
    pub time_ms: u64,
}

/// What a message says, or what is said about one.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Content {
    /// A text, of at most 16 KiB.
    Text {
        /// It.
        text: String,
    },
    /// A text that answers a message.
    Reply {
        /// What is answered.
        to: MessageName,
        /// A short part of that, for who does not have it at hand.
        quote: String,
        /// The answer.
        text: String,
    },
    /// A text that names users.
    Mention {
        /// Whom.
        users: Vec<u64>,
        /// The text, which may show them by whatever name.
        text: String,
    },
    /// Something that lies elsewhere.
    Attached {
        /// What, and how to know it.
        attachment: Attachment,
    },
    /// Bytes that only the applications understand.
    Opaque {
        /// They.
        bytes: Vec<u8>,
    },
    /// What a message of one's own says from now on.
    Edit {
        /// Which message.
        of: MessageName,
        /// What it says: a content that is a message.
        says: Box<Content>,
        /// Where it stands.
        stands: Option<Stands>,
    },
    /// A message of one's own says nothing any more.
    TakenBack {
        /// Which message.
        of: MessageName,
        /// Where it stands.
        stands: Option<Stands>,
    },
    /// What somebody feels about a message.
    Reaction {
        /// Which message.
        of: MessageName,
        /// Mostly an emoji; empty: nothing any more.
        reaction: String,
        /// Where the message stands.
        stands: Option<Stands>,
    },
    /// Something that is done to a group.
    GroupAct {
        /// What.
        act: Act,
    },
    /// Of a newer version, which this one can not show. It can not be sent.
    Unknown {
        /// Its kind.
        kind: u8,
    },
}

/// Something that lies elsewhere. Nobody but the applications fetches it.
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Record)]
pub struct Attachment {
    /// What it is, for who shows it.
    pub kind: AttachmentKind,
    /// Its bytes.
    pub size: u64,
    /// SHA-256 of them: 32 bytes.
    pub sha256: Vec<u8>,
    /// As of RFC 6838, or empty.
    pub content_type: String,
    /// A URL, or a key that means something to the applications.
    pub location: String,
    /// In pixels; 0: not known, or it has none.
    pub width: u64,
    /// As `width`.
    pub height: u64,
    /// In milliseconds; 0: not known, or it has none.
    pub duration_ms: u64,
    /// Where a smaller picture of it lies, or empty.
    pub thumbnail: String,
    /// What its sender says of it, or empty.
    pub caption: String,
}

/// What an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum AttachmentKind {
    /// None of the others.
    Document,
    /// A picture.
    Image,
    /// Moving pictures.
    Video,
    /// Something to hear.
    Audio,
}

/// What is done to a group (SPEC 5.4.8 and 8.12).
#[derive(Clone, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Act {
    /// It begins, with who does this as its owner. See `Client::create_group`.
    Create {
        /// What people call it.
        name: String,
        /// Where a picture of it lies, or empty.
        picture: String,
        /// Its rules.
        rules: Vec<Rule>,
    },
    /// Somebody becomes a member.
    Add {
        /// Who.
        user: u64,
    },
    /// Somebody is a member no more; who does this about themselves leaves.
    Remove {
        /// Who.
        user: u64,
    },
    /// Somebody is a member no more, and is not let in again.
    Ban {
        /// Who.
        user: u64,
    },
    /// Somebody may be let in again.
    Unban {
        /// Who.
        user: u64,
    },
    /// A member may do more or less from now on.
    SetRole {
        /// Which member.
        user: u64,
        /// What they are.
        role: Role,
    },
    /// Another name or picture.
    Describe {
        /// What people call it.
        name: String,
        /// Where a picture of it lies, or empty.
        picture: String,
    },
    /// Other rules.
    SetRules {
        /// All of them.
        rules: Vec<Rule>,
    },
    /// Whoever knows a secret may join. See `Client::invite`.
    Invite {
        /// SHA-256 of the secret; none: nobody is invited any more.
        digest: Option<Vec<u8>>,
    },
    /// Who does this becomes a member, by an invitation.
    Join {
        /// The secret. Empty in the group's log.
        secret: String,
    },
    /// Nothing more happens in it.
    End,
    /// Of a newer version. It can not be sent.
    Unknown,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Role {
    /// Reads, and does what the rules allow to all.
    Member,
    /// Does what the rules allow to admins, and removes members.
    Admin,
    /// Does all. There is one.
    Owner,
}

/// A rule of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, uniffi::Enum)]
pub enum Rule {
    /// Only admins add members.
    AdminsAdd,
    /// Only admins write.
    AdminsPost,
    /// Only admins change name and picture.
    AdminsDescribe,
    /// Newcomers see what was before they came.
    History,
}

flags!(Rule, Rules {
    AdminsAdd = ADMINS_ADD,
    AdminsPost = ADMINS_POST,
    AdminsDescribe = ADMINS_DESCRIBE,
    History = HISTORY,
});

impl From<Conversation> for ConversationId {
    fn from(of: Conversation) -> Self {
        match of {
            Conversation::User { id } => Self::Person(UserId(id)),
            Conversation::Group { id } => Self::Group(GroupId(id)),
        }
    }
}

impl From<ConversationId> for Conversation {
    fn from(of: ConversationId) -> Self {
        match of {
            ConversationId::Person(UserId(id)) => Self::User { id },
            ConversationId::Group(GroupId(id)) => Self::Group { id },
        }
    }
}

impl From<MessageName> for client::MessageName {
    fn from(of: MessageName) -> Self {
        Self { author: UserId(of.author), seq: Seq(of.seq) }
    }
}

impl From<client::MessageName> for MessageName {
    fn from(of: client::MessageName) -> Self {
        Self { author: of.author.0, seq: of.seq.0 }
    }
}

impl From<Stands> for client::Stands {
    fn from(of: Stands) -> Self {
        Self { place: Seq(of.place), time: TimestampMs(of.time_ms) }
    }
}

impl From<client::Stands> for Stands {
    fn from(of: client::Stands) -> Self {
        Self { place: of.place.0, time_ms: of.time.0 }
    }
}

impl From<Role> for client::Role {
    fn from(of: Role) -> Self {
        match of {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

impl From<client::Role> for Role {
    fn from(of: client::Role) -> Self {
        match of {
            client::Role::Member => Self::Member,
            client::Role::Admin => Self::Admin,
            client::Role::Owner => Self::Owner,
        }
    }
}

impl TryFrom<Content> for client::Content {
    type Error = RingpostError;

    fn try_from(of: Content) -> Result<Self, RingpostError> {
        let stands = |stands: Option<Stands>| stands.map(Into::into);
        Ok(match of {
            Content::Text { text } => Self::text(&text),
            Content::Reply { to, quote, text } => Self::reply(&Reply { to: to.into(), quote: &quote, text: &text }),
            Content::Mention { users, text } => {
                Self::mention(&users.into_iter().map(UserId).collect::<Vec<_>>(), &text)
            }
            Content::Attached { attachment } => attachment.try_into()?,
            Content::Opaque { bytes } => Self::opaque(&bytes),
            Content::Edit { of, says, stands: at } => Self::edit(of.into(), &(*says).try_into()?, stands(at)),
            Content::TakenBack { of, stands: at } => Self::unsend(of.into(), stands(at)),
            Content::Reaction { of, reaction, stands: at } => Self::reaction(of.into(), &reaction, stands(at)),
            Content::GroupAct { act } => act.try_into()?,
            Content::Unknown { kind } => return Err(invalid(&format!("content of kind {kind} can not be sent"))),
        })
    }
}

fn invalid(words: &str) -> RingpostError {
    RingpostError::Invalid { words: words.to_owned() }
}

/// As a digest: SHA-256 has 32 bytes.
fn digest(bytes: &[u8]) -> Result<[u8; 32], RingpostError> {
    bytes.try_into().map_err(|_| invalid(&format!("a SHA-256 has 32 bytes, and not {}", bytes.len())))
}

impl From<&client::Content> for Content {
    fn from(of: &client::Content) -> Self {
        let stands = |stands: Option<client::Stands>| stands.map(Into::into);
        let unknown = Self::Unknown { kind: of.parts().0 };
        match of.body() {
            Ok(Body::Text(text)) => Self::Text { text: text.to_owned() },
            Ok(Body::Reply(Reply { to, quote, text })) => {
                Self::Reply { to: to.into(), quote: quote.to_owned(), text: text.to_owned() }
            }
            Ok(Body::Mention(mention)) => named(&mention),
            Ok(Body::Attachment(attachment)) => Self::Attached { attachment: attachment.into() },
            Ok(Body::Opaque(bytes)) => Self::Opaque { bytes: bytes.to_owned() },
            Ok(Body::Edit(edit)) => {
                Self::Edit { of: edit.of.into(), says: Box::new((&edit.content()).into()), stands: stands(edit.stands) }
            }
            Ok(Body::Unsend(unsend)) => Self::TakenBack { of: unsend.of.into(), stands: stands(unsend.stands) },
            Ok(Body::Reaction(Reaction { of, reaction, stands: at })) => {
                Self::Reaction { of: of.into(), reaction: reaction.to_owned(), stands: stands(at) }
            }
            Ok(Body::Act(act)) => Self::GroupAct { act: act.into() },
            Ok(Body::Unknown) | Err(_) => unknown,
        }
    }
}

fn named(mention: &Mention<'_>) -> Content {
    Content::Mention { users: mention.users().map(|user| user.0).collect(), text: mention.text.to_owned() }
}

impl TryFrom<Attachment> for client::Content {
    type Error = RingpostError;

    fn try_from(of: Attachment) -> Result<Self, RingpostError> {
        let sha256 = digest(&of.sha256)?;
        Ok(Self::attachment(&client::Attachment {
            kind: match of.kind {
                AttachmentKind::Document => client::AttachmentKind::Document,
                AttachmentKind::Image => client::AttachmentKind::Image,
                AttachmentKind::Video => client::AttachmentKind::Video,
                AttachmentKind::Audio => client::AttachmentKind::Audio,
            },
            size: of.size,
            sha256: &sha256,
            content_type: &of.content_type,
            location: &of.location,
            width: of.width,
            height: of.height,
            duration_ms: of.duration_ms,
            thumbnail: &of.thumbnail,
            caption: &of.caption,
        }))
    }
}

impl From<client::Attachment<'_>> for Attachment {
    fn from(of: client::Attachment<'_>) -> Self {
        Self {
            kind: match of.kind {
                client::AttachmentKind::Document => AttachmentKind::Document,
                client::AttachmentKind::Image => AttachmentKind::Image,
                client::AttachmentKind::Video => AttachmentKind::Video,
                client::AttachmentKind::Audio => AttachmentKind::Audio,
            },
            size: of.size,
            sha256: of.sha256.to_vec(),
            content_type: of.content_type.to_owned(),
            location: of.location.to_owned(),
            width: of.width,
            height: of.height,
            duration_ms: of.duration_ms,
            thumbnail: of.thumbnail.to_owned(),
            caption: of.caption.to_owned(),
        }
    }
}

impl TryFrom<Act> for client::Content {
    type Error = RingpostError;

    fn try_from(of: Act) -> Result<Self, RingpostError> {
        let invitation = match &of {
            Act::Invite { digest: Some(bytes) } => Some(digest(bytes)?),
            _ => None,
        };
        Ok(Self::act(&match &of {
            Act::Create { name, picture, rules } => client::Act::Create { name, picture, rules: Rule::all(rules) },
            Act::Add { user } => client::Act::Add { user: UserId(*user) },
            Act::Remove { user } => client::Act::Remove { user: UserId(*user) },
            Act::Ban { user } => client::Act::Ban { user: UserId(*user) },
            Act::Unban { user } => client::Act::Unban { user: UserId(*user) },
            Act::SetRole { user, role } => client::Act::SetRole { user: UserId(*user), role: (*role).into() },
            Act::Describe { name, picture } => client::Act::Describe { name, picture },
            Act::SetRules { rules } => client::Act::SetRules { rules: Rule::all(rules) },
            Act::Invite { .. } => client::Act::Invite { digest: invitation.as_ref() },
            Act::Join { secret } => client::Act::Join { secret: secret.as_bytes() },
            Act::End => client::Act::End,
            Act::Unknown => return Err(invalid("an act of a newer version can not be sent")),
        }))
    }
}

impl From<client::Act<'_>> for Act {
    fn from(of: client::Act<'_>) -> Self {
        match of {
            client::Act::Create { name, picture, rules } => {
                Self::Create { name: name.to_owned(), picture: picture.to_owned(), rules: Rule::of(rules) }
            }
            client::Act::Add { user } => Self::Add { user: user.0 },
            client::Act::Remove { user } => Self::Remove { user: user.0 },
            client::Act::Ban { user } => Self::Ban { user: user.0 },
            client::Act::Unban { user } => Self::Unban { user: user.0 },
            client::Act::SetRole { user, role } => Self::SetRole { user: user.0, role: role.into() },
            client::Act::Describe { name, picture } => {
                Self::Describe { name: name.to_owned(), picture: picture.to_owned() }
            }
            client::Act::SetRules { rules } => Self::SetRules { rules: Rule::of(rules) },
            client::Act::Invite { digest } => Self::Invite { digest: digest.map(|digest| digest.to_vec()) },
            client::Act::Join { secret } => Self::Join { secret: String::from_utf8_lossy(secret).into_owned() },
            client::Act::End => Self::End,
            client::Act::Unknown => Self::Unknown,
        }
    }
}
