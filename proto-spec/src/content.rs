//! What messages carry (SPEC 5.4): a byte of kind and a body, which is one allocation that clones share.
//!
//! Bodies are kept as they travel, with what a newer version has put behind the known fields. [`Content::body`] reads their fields;
//! the decoder has done it once, so for content that came in a frame it does not fail. Whether a server takes it is another
//! question: [`Content::fault`].

use std::sync::Arc;

use crate::{
    act::Act,
    code::ErrorCode,
    ids::{Seq, TimestampMs, UserId},
    limits::{
        CONTENT_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, LOCATION_BYTES_MAX, MENTIONS_MAX, QUOTE_BYTES_MAX,
        REACTION_BYTES_MAX, TEXT_BYTES_MAX,
    },
    listed::listed,
    wire::{DecodeError, Reader, put_bytes, put_varint},
};

listed! {
    /// Kinds of content that this version knows (SPEC 5.4).
    ContentKind {
        /// UTF-8 text.
        Text = 1 "text",
        /// Text that answers a message.
        Reply = 2 "reply",
        /// Something that lies elsewhere, and how to know it.
        Attachment = 3 "attachment",
        /// Bytes that only the applications understand.
        Opaque = 4 "opaque",
        /// What a message says from now on.
        Edit = 5 "edit",
        /// A message says nothing any more.
        Unsend = 6 "unsend",
        /// What somebody feels about a message.
        Reaction = 7 "reaction",
        /// Something that is done to a group.
        Act = 8 "act",
        /// Text that names users.
        Mention = 9 "mention",
    }
}

impl ContentKind {
    /// Whether it is a message, not something about one.
    #[must_use]
    pub const fn is_message(self) -> bool {
        match self {
            Self::Text | Self::Reply | Self::Attachment | Self::Opaque | Self::Mention => true,
            Self::Edit | Self::Unsend | Self::Reaction | Self::Act => false,
        }
    }
}

listed! {
    /// What an attachment is, for who shows it (SPEC 5.4.3).
    AttachmentKind {
        /// None of the others.
        Document = 0 "file",
        /// A picture.
        Image = 1 "image",
        /// Moving pictures.
        Video = 2 "video",
        /// Something to hear.
        Audio = 3 "audio",
    }
}

/// What a message carries (SPEC 5.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// UTF-8 text. The decoder checks the encoding, the server the length.
    Text(Arc<[u8]>),
    /// The bytes of a [`Reply`].
    Reply(Arc<[u8]>),
    /// The bytes of an [`Attachment`].
    Attachment(Arc<[u8]>),
    /// Bytes that only the applications understand.
    Opaque(Arc<[u8]>),
    /// The bytes of an [`Edit`].
    Edit(Arc<[u8]>),
    /// The bytes of an [`Unsend`].
    Unsend(Arc<[u8]>),
    /// The bytes of a [`Reaction`].
    Reaction(Arc<[u8]>),
    /// The bytes of an [`Act`].
    Act(Arc<[u8]>),
    /// The bytes of a [`Mention`].
    Mention(Arc<[u8]>),
    /// Content of a newer version: its kind and bytes, for showing that something is there.
    Unknown {
        /// The kind on the wire, never one of [`ContentKind`].
        kind: u8,
        /// The bytes on the wire.
        body: Arc<[u8]>,
    },
}

/// Names a message for ever, on both sides of its conversation (SPEC 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageName {
    /// Who wrote it.
    pub author: UserId,
    /// Its seq in the author's log.
    pub seq: Seq,
}

/// Text that answers a message (SPEC 5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What is answered.
    pub to: MessageName,
    /// A part of what is answered, for who does not have it at hand. It is the word of the reply's author.
    pub quote: &'a str,
    /// The answer.
    pub text: &'a str,
}

/// Something that lies elsewhere, and how to know it (SPEC 5.4.3). Nobody but the applications fetches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// What it is, for who shows it.
    pub kind: AttachmentKind,
    /// Its size, in bytes.
    pub size: u64,
    /// Of its bytes.
    pub sha256: &'a [u8; 32],
    /// As of RFC 6838, or empty.
    pub content_type: &'a str,
    /// A URL, or a key that means something to the applications.
    pub location: &'a str,
    /// In pixels; 0: not known, or it has none.
    pub width: u64,
    /// As `width`.
    pub height: u64,
    /// In milliseconds; 0: not known, or it has none.
    pub duration_ms: u64,
    /// Where a smaller picture of it lies, or empty.
    pub thumbnail: &'a str,
    /// What its sender says of it, or empty.
    pub caption: &'a str,
}

/// What a message says from now on (SPEC 5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    /// The message.
    pub of: MessageName,
    /// The kind of what it says.
    pub kind: u8,
    /// The body of what it says.
    pub body: &'a [u8],
    /// Where it stands, in an entry.
    pub stands: Option<Stands>,
}

/// A message says nothing any more (SPEC 5.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsend {
    /// The message.
    pub of: MessageName,
    /// Where it stands, in an entry.
    pub stands: Option<Stands>,
}

/// What somebody feels about a message (SPEC 5.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction<'a> {
    /// The message.
    pub of: MessageName,
    /// Mostly an emoji; empty: nothing any more.
    pub reaction: &'a str,
    /// Where the message stands, in an entry.
    pub stands: Option<Stands>,
}

/// Text that names users (SPEC 5.4.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mention<'a> {
    /// Whom: varints, one after the other. See [`Mention::users`].
    users: &'a [u8],
    /// The text, which may show them by whatever name.
    pub text: &'a str,
}

impl<'a> Mention<'a> {
    /// Who is named, in the order of the sender.
    pub fn users(&self) -> impl Iterator<Item = UserId> + use<'a> {
        let mut reader = Reader::new(self.users);
        std::iter::from_fn(move || reader.varint("users").ok().map(UserId))
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.varint("users")?;
        let begin = reader.rest();
        if count > begin.len() as u64 {
            return Err(DecodeError::Truncated { field: "users" });
        }
        for _ in 0..count {
            reader.varint("users")?;
        }
        let users = &begin[..begin.len() - reader.rest().len()];
        Ok(Self { users, text: reader.str("text", usize::MAX)? })
    }
}

/// Where a message stands that says something else than at first, or nothing. A server tells it in entries (SPEC 5.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    /// The seq of the own log that it had first.
    pub place: Seq,
    /// When it was written.
    pub time: TimestampMs,
}

impl<'a> Edit<'a> {
    /// What the message says.
    #[must_use]
    pub fn content(&self) -> Content {
        Content::from_parts(self.kind, self.body.into())
    }

    /// The fields of what it says.
    ///
    /// # Errors
    /// As [`Content::body`].
    pub fn said(&self) -> Result<Body<'a>, DecodeError> {
        read_body(self.kind, self.body)
    }
}

/// The fields of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// UTF-8 text.
    Text(&'a str),
    /// Text that answers a message.
    Reply(Reply<'a>),
    /// Something that lies elsewhere.
    Attachment(Attachment<'a>),
    /// Bytes that only the applications understand.
    Opaque(&'a [u8]),
    /// What a message says from now on.
    Edit(Edit<'a>),
    /// A message says nothing any more.
    Unsend(Unsend),
    /// What somebody feels about a message.
    Reaction(Reaction<'a>),
    /// Something that is done to a group.
    Act(Act<'a>),
    /// Text that names users.
    Mention(Mention<'a>),
    /// Content of a newer version.
    Unknown,
}

impl Content {
    /// A text message.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().into())
    }

    /// A text that answers a message.
    #[must_use]
    pub fn reply(reply: &Reply<'_>) -> Self {
        let mut body = Vec::new();
        reply.encode(&mut body);
        Self::Reply(body.into())
    }

    /// Something that lies elsewhere.
    #[must_use]
    pub fn attachment(attachment: &Attachment<'_>) -> Self {
        let mut body = Vec::new();
        attachment.encode(&mut body);
        Self::Attachment(body.into())
    }

    /// Bytes that only the applications understand.
    #[must_use]
    pub fn opaque(bytes: &[u8]) -> Self {
        Self::Opaque(bytes.into())
    }

    /// What a message says from now on.
    #[must_use]
    pub fn edit(of: MessageName, content: &Self, stands: Option<Stands>) -> Self {
        let mut body = Vec::new();
        of.encode(&mut body);
        content.encode(&mut body);
        put_stands(&mut body, stands);
        Self::Edit(body.into())
    }

    /// That a message says nothing any more.
    #[must_use]
    pub fn unsend(of: MessageName, stands: Option<Stands>) -> Self {
        let mut body = Vec::new();
        of.encode(&mut body);
        put_stands(&mut body, stands);
        Self::Unsend(body.into())
    }

    /// What somebody feels about a message; empty: nothing any more.
    #[must_use]
    pub fn reaction(of: MessageName, reaction: &str, stands: Option<Stands>) -> Self {
        let mut body = Vec::new();
        of.encode(&mut body);
        put_bytes(&mut body, reaction.as_bytes());
        put_stands(&mut body, stands);
        Self::Reaction(body.into())
    }

    /// Something that is done to a group.
    #[must_use]
    pub fn act(act: &Act<'_>) -> Self {
        let mut body = Vec::new();
        act.encode(&mut body);
        Self::Act(body.into())
    }

    /// Text that names users.
    #[must_use]
    pub fn mention(users: &[UserId], text: &str) -> Self {
        let mut body = Vec::new();
        put_varint(&mut body, users.len() as u64);
        users.iter().for_each(|user| put_varint(&mut body, user.0));
        put_bytes(&mut body, text.as_bytes());
        Self::Mention(body.into())
    }

    /// Whether it says that a message was taken back.
    #[must_use]
    pub const fn is_unsend(&self) -> bool {
        matches!(self, Self::Unsend(_))
    }

    /// Whether it is a message, not something about one.
    #[must_use]
    pub const fn is_message(&self) -> bool {
        !matches!(self, Self::Edit(_) | Self::Unsend(_) | Self::Reaction(_) | Self::Act(_))
    }

    /// The message that this is about, and where that stands, if it is known.
    #[must_use]
    pub fn about(&self) -> Option<(MessageName, Option<Stands>)> {
        if self.is_message() {
            return None;
        }
        match self.body() {
            Ok(Body::Edit(edit)) => Some((edit.of, edit.stands)),
            Ok(Body::Unsend(unsend)) => Some((unsend.of, unsend.stands)),
            Ok(Body::Reaction(reaction)) => Some((reaction.of, reaction.stands)),
            _ => None,
        }
    }

    /// The same, about a message that stands there. What is a message stays as it is.
    #[must_use]
    pub fn standing(&self, stands: Option<Stands>) -> Self {
        match self.body() {
            Ok(Body::Edit(edit)) => Self::edit(edit.of, &edit.content(), stands),
            Ok(Body::Unsend(unsend)) => Self::unsend(unsend.of, stands),
            Ok(Body::Reaction(Reaction { of, reaction, .. })) => Self::reaction(of, reaction, stands),
            _ => self.clone(),
        }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Reply(_)
            | Self::Attachment(_)
            | Self::Opaque(_)
            | Self::Edit(_)
            | Self::Unsend(_)
            | Self::Reaction(_)
            | Self::Act(_)
            | Self::Mention(_)
            | Self::Unknown { .. } => None,
        }
    }

    /// The kind byte on the wire and its body.
    #[must_use]
    pub const fn parts(&self) -> (u8, &Arc<[u8]>) {
        match self {
            Self::Text(body) => (ContentKind::Text.byte(), body),
            Self::Reply(body) => (ContentKind::Reply.byte(), body),
            Self::Attachment(body) => (ContentKind::Attachment.byte(), body),
            Self::Opaque(body) => (ContentKind::Opaque.byte(), body),
            Self::Edit(body) => (ContentKind::Edit.byte(), body),
            Self::Unsend(body) => (ContentKind::Unsend.byte(), body),
            Self::Reaction(body) => (ContentKind::Reaction.byte(), body),
            Self::Act(body) => (ContentKind::Act.byte(), body),
            Self::Mention(body) => (ContentKind::Mention.byte(), body),
            Self::Unknown { kind, body } => (*kind, body),
        }
    }

    /// The reverse of [`Content::parts`], for bytes that were checked when they came in.
    #[must_use]
    pub fn from_parts(kind: u8, body: Arc<[u8]>) -> Self {
        match ContentKind::from_byte(kind) {
            Some(ContentKind::Text) => Self::Text(body),
            Some(ContentKind::Reply) => Self::Reply(body),
            Some(ContentKind::Attachment) => Self::Attachment(body),
            Some(ContentKind::Opaque) => Self::Opaque(body),
            Some(ContentKind::Edit) => Self::Edit(body),
            Some(ContentKind::Unsend) => Self::Unsend(body),
            Some(ContentKind::Reaction) => Self::Reaction(body),
            Some(ContentKind::Act) => Self::Act(body),
            Some(ContentKind::Mention) => Self::Mention(body),
            None => Self::Unknown { kind, body },
        }
    }

    /// The fields of the body. What follows the known fields is of a newer version and is passed over.
    ///
    /// # Errors
    /// The body is not what its kind says: it was made by hand, and never was in a frame.
    pub fn body(&self) -> Result<Body<'_>, DecodeError> {
        let (kind, bytes) = self.parts();
        read_body(kind, bytes)
    }

    /// Why no server of this version takes it, if so (SPEC 4.2).
    #[must_use]
    pub fn fault(&self) -> Option<ErrorCode> {
        let size = self.parts().1.len();
        let is_text = |text: &[u8]| (1..=TEXT_BYTES_MAX).contains(&text.len());
        if let Self::Text(text) = self {
            // Nearly all are texts, and the decoder has looked at their encoding.
            return (!is_text(text)).then_some(ErrorCode::TextLength);
        }
        match self.body() {
            Ok(Body::Unknown) => Some(ErrorCode::ContentKind),
            Ok(Body::Text(text)) => (!is_text(text.as_bytes())).then_some(ErrorCode::TextLength),
            Ok(Body::Reply(reply)) if !is_text(reply.text.as_bytes()) => Some(ErrorCode::TextLength),
            Ok(Body::Mention(mention)) if !is_text(mention.text.as_bytes()) => Some(ErrorCode::TextLength),
            Ok(Body::Edit(edit)) if !edit.of.is_possible() => Some(ErrorCode::ContentLimits),
            Ok(Body::Edit(edit)) => {
                let content = edit.content();
                if content.is_message() { content.fault() } else { Some(ErrorCode::ContentKind) }
            }
            Ok(body) => (size > CONTENT_BYTES_MAX || !body.is_within_limits()).then_some(ErrorCode::ContentLimits),
            Err(_) => Some(ErrorCode::ContentLimits),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, body) = self.parts();
        out.push(kind);
        put_bytes(out, body);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8("content_kind")?;
        // The frame's own limit bounds this; what is beyond a limit of its own is refused by the server with a code.
        let body = reader.bytes("content", usize::MAX)?;
        read_body(kind, body)?;
        Ok(Self::from_parts(kind, body.into()))
    }
}

fn read_body(kind: u8, bytes: &[u8]) -> Result<Body<'_>, DecodeError> {
    let reader = &mut Reader::new(bytes);
    Ok(match ContentKind::from_byte(kind) {
        Some(ContentKind::Text) => {
            Body::Text(std::str::from_utf8(bytes).map_err(|_| DecodeError::NotUtf8 { field: "content" })?)
        }
        Some(ContentKind::Reply) => Body::Reply(Reply::decode(reader)?),
        Some(ContentKind::Attachment) => Body::Attachment(Attachment::decode(reader)?),
        Some(ContentKind::Opaque) => Body::Opaque(bytes),
        Some(ContentKind::Edit) => Body::Edit(Edit::decode(reader)?),
        Some(ContentKind::Unsend) => Body::Unsend(Unsend { of: MessageName::decode(reader)?, stands: stands(reader)? }),
        Some(ContentKind::Reaction) => Body::Reaction(Reaction::decode(reader)?),
        Some(ContentKind::Act) => Body::Act(Act::decode(reader)?),
        Some(ContentKind::Mention) => Body::Mention(Mention::decode(reader)?),
        None => Body::Unknown,
    })
}

impl Body<'_> {
    fn is_within_limits(&self) -> bool {
        match self {
            // What an edit says has limits of its own.
            Body::Text(_) | Body::Edit(_) | Body::Unknown => true,
            Body::Unsend(unsend) => unsend.of.is_possible(),
            Body::Reaction(Reaction { of, reaction, .. }) => of.is_possible() && reaction.len() <= REACTION_BYTES_MAX,
            Body::Reply(Reply { to, quote, .. }) => to.is_possible() && quote.len() <= QUOTE_BYTES_MAX,
            Body::Attachment(Attachment { content_type, location, thumbnail, .. }) => {
                content_type.len() <= CONTENT_TYPE_BYTES_MAX
                    && (1..=LOCATION_BYTES_MAX).contains(&location.len())
                    && thumbnail.len() <= LOCATION_BYTES_MAX
            }
            Body::Opaque(bytes) => !bytes.is_empty(),
            Body::Act(act) => act.is_within_limits(),
            Body::Mention(mention) => {
                mention.users().take(MENTIONS_MAX + 1).count() <= MENTIONS_MAX
                    && mention.users().all(|user| user != UserId(0))
            }
        }
    }
}

impl MessageName {
    /// Whether there can be such a message.
    #[must_use]
    pub fn is_possible(self) -> bool {
        self.author != UserId(0) && self.seq > Seq::ZERO
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_varint(out, self.author.0);
        put_varint(out, self.seq.0);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { author: UserId(reader.varint("author")?), seq: Seq(reader.varint("author_seq")?) })
    }
}

impl<'a> Reply<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.to.encode(out);
        put_bytes(out, self.quote.as_bytes());
        put_bytes(out, self.text.as_bytes());
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let to = MessageName::decode(reader)?;
        Ok(Self { to, quote: reader.str("quote", usize::MAX)?, text: reader.str("text", usize::MAX)? })
    }
}

impl<'a> Attachment<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind.byte());
        put_varint(out, self.size);
        out.extend_from_slice(self.sha256);
        put_bytes(out, self.content_type.as_bytes());
        put_bytes(out, self.location.as_bytes());
        put_varint(out, self.width);
        put_varint(out, self.height);
        put_varint(out, self.duration_ms);
        put_bytes(out, self.thumbnail.as_bytes());
        put_bytes(out, self.caption.as_bytes());
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: reader.listed("attachment_kind", AttachmentKind::from_byte)?,
            size: reader.varint("size")?,
            sha256: reader.array("sha256")?,
            content_type: reader.str("content_type", usize::MAX)?,
            location: reader.str("location", usize::MAX)?,
            width: reader.varint("width")?,
            height: reader.varint("height")?,
            duration_ms: reader.varint("duration_ms")?,
            thumbnail: reader.str("thumbnail", usize::MAX)?,
            caption: reader.str("caption", usize::MAX)?,
        })
    }
}

impl<'a> Edit<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let of = MessageName::decode(reader)?;
        let (kind, body) = (reader.u8("content_kind")?, reader.bytes("content", usize::MAX)?);
        // An edit of an edit is refused for its kind, and not looked into: it could be as deep as it is long.
        if ContentKind::from_byte(kind).is_none_or(ContentKind::is_message) {
            read_body(kind, body)?;
        }
        Ok(Self { of, kind, body, stands: stands(reader)? })
    }
}

impl<'a> Reaction<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let of = MessageName::decode(reader)?;
        Ok(Self { of, reaction: reader.str("reaction", usize::MAX)?, stands: stands(reader)? })
    }
}

fn put_stands(out: &mut Vec<u8>, stands: Option<Stands>) {
    if let Some(Stands { place, time }) = stands {
        put_varint(out, place.0);
        put_varint(out, time.0);
    }
}

fn stands(reader: &mut Reader<'_>) -> Result<Option<Stands>, DecodeError> {
    // A client's ends before them.
    let mut later = |field| if reader.rest().is_empty() { Ok(0) } else { reader.varint(field) };
    let (place, time) = (Seq(later("place")?), TimestampMs(later("written")?));
    Ok((place > Seq::ZERO).then_some(Stands { place, time }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: MessageName = MessageName { author: UserId(7), seq: Seq(3) };
    const ATTACHMENT: Attachment<'_> = Attachment {
        kind: AttachmentKind::Image,
        size: 1,
        sha256: &[7; 32],
        content_type: "image/png",
        location: "https://files.example/1",
        width: 640,
        height: 480,
        duration_ms: 0,
        thumbnail: "",
        caption: "the sea",
    };

    fn reply<'a>(quote: &'a str, text: &'a str) -> Content {
        Content::reply(&Reply { to: TO, quote, text })
    }

    #[test]
    fn each_content_that_a_server_takes_reads_back() {
        for content in
            [reply("", "yes"), Content::attachment(&ATTACHMENT), Content::opaque(b"\xff"), Content::text("a")]
        {
            let mut bytes = Vec::new();
            content.encode(&mut bytes);
            assert_eq!(Content::decode(&mut Reader::new(&bytes)).as_ref(), Ok(&content));
            assert_eq!(content.fault(), None, "{content:?}");
        }
        assert_eq!(Content::attachment(&ATTACHMENT).body(), Ok(Body::Attachment(ATTACHMENT)));
    }

    #[test]
    fn what_is_beyond_a_limit_has_a_fault_and_what_is_at_it_has_none() {
        let long = "x".repeat(CONTENT_BYTES_MAX);
        let quote = &long[..QUOTE_BYTES_MAX];
        let (place, kind) = (&long[..LOCATION_BYTES_MAX], &long[..CONTENT_TYPE_BYTES_MAX]);
        let attachment = |change: fn(&mut Attachment<'_>)| {
            let mut attachment = ATTACHMENT;
            change(&mut attachment);
            Content::attachment(&attachment)
        };
        let largest = Attachment { location: place, thumbnail: place, content_type: kind, ..ATTACHMENT };
        assert_eq!(Content::attachment(&largest).fault(), None);
        assert_eq!(reply(quote, "x").fault(), None);
        assert_eq!(Content::opaque(long.as_bytes()).fault(), None);
        let nobody = MessageName { author: UserId(0), ..TO };
        let limits = [
            Content::attachment(&Attachment { location: &long[..LOCATION_BYTES_MAX + 1], ..ATTACHMENT }),
            Content::attachment(&Attachment { thumbnail: &long[..LOCATION_BYTES_MAX + 1], ..ATTACHMENT }),
            Content::attachment(&Attachment { content_type: &long[..CONTENT_TYPE_BYTES_MAX + 1], ..ATTACHMENT }),
            Content::attachment(&Attachment { caption: &long, ..ATTACHMENT }),
            attachment(|attachment| attachment.location = ""),
            reply(&long[..QUOTE_BYTES_MAX + 1], "x"),
            reply(quote, &long[QUOTE_BYTES_MAX..]),
            Content::reply(&Reply { to: nobody, quote: "", text: "x" }),
            Content::reply(&Reply { to: MessageName { seq: Seq::ZERO, ..TO }, quote: "", text: "x" }),
            Content::opaque(b""),
            Content::opaque(&[0; CONTENT_BYTES_MAX + 1]),
            Content::Reply([0x80].into()),
        ];
        for content in limits {
            assert_eq!(content.fault(), Some(ErrorCode::ContentLimits), "{content:?}");
        }
        assert_eq!(reply(quote, "").fault(), Some(ErrorCode::TextLength));
        assert_eq!(Content::from_parts(63, [].into()).fault(), Some(ErrorCode::ContentKind));
    }

    #[test]
    fn what_a_newer_version_puts_behind_the_fields_is_kept_and_passed_over() {
        let known = reply("quote", "text");
        let grown: Vec<u8> = known.parts().1.iter().copied().chain([1, 2, 3]).collect();
        let content = Content::Reply(grown.as_slice().into());
        assert_eq!(content.body(), Ok(Body::Reply(Reply { to: TO, quote: "quote", text: "text" })));
        assert_eq!(content.parts().1[..], grown[..]);
    }
}
