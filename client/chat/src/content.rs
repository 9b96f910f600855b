//! Contents in words: what is shown of them, and what of them is quoted.

use client::{
    Act, Attachment, AttachmentKind, Body, Content, ConversationId, MENTIONS_MAX, Mention, QUOTE_BYTES_MAX, Reply,
    Role, UserId,
};

use crate::groups;
const UNKNOWN: &str = "(something that this version can not show)";

/// A content as a text. What its author wrote stands last, since it may have any form.
pub(crate) fn shown(content: &Content) -> String {
    match content.body() {
        Ok(Body::Edit(edit)) => format!("{} (edited)", shown(&edit.content())),
        Ok(Body::Unsend(_)) => "(taken back)".to_owned(),
        Ok(Body::Reaction(reaction)) => reaction.reaction.to_owned(),
        Ok(Body::Text(text)) => text.to_owned(),
        Ok(Body::Reply(Reply { quote: "", text, .. })) => format!("↳ {text}"),
        Ok(Body::Reply(Reply { quote, text, .. })) => format!("↳ “{quote}”\n{text}"),
        Ok(Body::Attachment(attachment)) => attachment_line(&attachment),
        Ok(Body::Opaque(bytes)) => format!("({} bytes that this version can not read)", bytes.len()),
        Ok(Body::Mention(Mention { text, .. })) => text.to_owned(),
        Ok(Body::Act(act)) => act_line(&act),
        Ok(Body::Unknown) | Err(_) => UNKNOWN.to_owned(),
    }
}

/// As [`shown`], by this author, of whom it is not said that they have removed themselves.
pub(crate) fn shown_of(author: UserId, content: &Content) -> String {
    match content.body() {
        Ok(Body::Act(Act::Remove { user })) if user == author => "(left)".to_owned(),
        _ => shown(content),
    }
}

/// What was typed to go there: in a group it names whoever stands in it as `@USER`.
pub(crate) fn typed(to: ConversationId, text: &str) -> Content {
    match (to, mentioned(text)) {
        (ConversationId::Group(_), users) if !users.is_empty() => Content::mention(&users, text),
        _ => Content::text(text),
    }
}

/// What was typed to take the place of a message: it stays what it is, text or one that names users.
pub(crate) fn typed_over(message: &Content, text: &str) -> Content {
    let said = match message.body() {
        Ok(Body::Edit(edit)) => edit.said(),
        body => body,
    };
    match said {
        Ok(Body::Mention(_)) => Content::mention(&mentioned(text), text),
        _ => Content::text(text),
    }
}

/// Whether it names this user.
pub(crate) fn names(content: &Content, user: UserId) -> bool {
    matches!(content.body(), Ok(Body::Mention(mention)) if mention.users().any(|named| named == user))
}

/// Whom a text names: each once, in its order, and no more than a message may name.
fn mentioned(text: &str) -> Vec<UserId> {
    let mut users = Vec::new();
    for word in text.split_whitespace() {
        let number = word.strip_prefix('@').map(|rest| rest.trim_end_matches(|c: char| !c.is_ascii_digit()));
        let user = number.and_then(|number| number.parse().ok()).filter(|user| *user > 0).map(UserId);
        users.extend(user.filter(|user| users.len() < MENTIONS_MAX && !users.contains(user)));
    }
    users
}

/// As much of a content as a reply quotes.
pub(crate) fn quote(content: &Content) -> &str {
    let body = match content.body() {
        Ok(Body::Edit(edit)) => edit.said(),
        body => body,
    };
    let text = match body {
        Ok(Body::Text(text) | Body::Reply(Reply { text, .. }) | Body::Mention(Mention { text, .. })) => text,
        Ok(Body::Attachment(Attachment { caption: "", location, .. })) => location,
        Ok(Body::Attachment(Attachment { caption, .. })) => caption,
        Ok(Body::Opaque(_) | Body::Edit(_) | Body::Unsend(_) | Body::Reaction(_) | Body::Act(_) | Body::Unknown)
        | Err(_) => "",
    };
    let end = (0..=QUOTE_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or_default()]
}

/// What somebody has done to a group, as it goes on behind their name.
fn act_line(act: &Act<'_>) -> String {
    match act {
        Act::Create { name, .. } => format!("(began the group “{name}”)"),
        Act::Add { user } => format!("(added {user})"),
        Act::Remove { user } => format!("(removed {user})"),
        Act::Ban { user } => format!("(banned {user})"),
        Act::Unban { user } => format!("(lets {user} in again)"),
        Act::SetRole { user, role } => format!("(made {user} {})", role_of(*role)),
        Act::Describe { name, .. } => format!("(calls the group “{name}”)"),
        Act::SetRules { rules } => format!("(rules: {})", groups::rules_line(*rules)),
        Act::Invite { digest: Some(_) } => "(invites whoever has the secret)".to_owned(),
        Act::Invite { digest: None } => "(invites nobody any more)".to_owned(),
        Act::Join { .. } => "(joined by invitation)".to_owned(),
        Act::End => "(ended the group)".to_owned(),
        Act::Unknown => UNKNOWN.to_owned(),
    }
}

/// A role, with its article.
pub(crate) const fn role_of(role: Role) -> &'static str {
    match role {
        Role::Member => "a member",
        Role::Admin => "an admin",
        Role::Owner => "the owner",
    }
}

fn attachment_line(of: &Attachment<'_>) -> String {
    let mut about = match of.kind {
        AttachmentKind::Document => "File".to_owned(),
        AttachmentKind::Image => "Image".to_owned(),
        AttachmentKind::Video => "Video".to_owned(),
        AttachmentKind::Audio => "Audio".to_owned(),
    };
    if !of.content_type.is_empty() {
        about += &format!(" {}", of.content_type);
    }
    if of.width > 0 && of.height > 0 {
        about += &format!(" {}×{}", of.width, of.height);
    }
    if of.duration_ms > 0 {
        let seconds = of.duration_ms / 1000;
        about += &format!(" {}:{:02}", seconds / 60, seconds % 60);
    }
    about += &format!(" {}", size(of.size));
    let caption = if of.caption.is_empty() { String::new() } else { format!(" {}", of.caption) };
    format!("[{about}] {}{caption}", of.location)
}

fn size(bytes: u64) -> String {
    let mut unit = 0;
    let mut size = bytes as f64;
    while size >= 1000.0 && unit < 6 {
        size /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{size:.1} {}B", ["", "k", "M", "G", "T", "P", "E"][unit]),
    }
}

#[cfg(test)]
mod tests {
    use client::{GroupId, MessageName, Seq, UserId};

    use super::*;

    #[test]
    fn an_attachment_is_one_line_that_says_what_it_is_and_where() {
        let mut attachment = Attachment {
            kind: AttachmentKind::Video,
            size: 48_213_300,
            sha256: &[7; 32],
            content_type: "video/mp4",
            location: "https://files.example/1",
            width: 1920,
            height: 1080,
            duration_ms: 61_500,
            thumbnail: "",
            caption: "The sea",
        };
        let line = "[Video video/mp4 1920×1080 1:01 48.2 MB] https://files.example/1 The sea";
        assert_eq!(shown(&Content::attachment(&attachment)), line);
        (attachment.kind, attachment.size, attachment.content_type) = (AttachmentKind::Document, 999, "");
        (attachment.width, attachment.duration_ms, attachment.caption) = (0, 0, "");
        let content = Content::attachment(&attachment);
        assert_eq!(shown(&content), "[File 999 B] https://files.example/1");
        assert_eq!(quote(&content), "https://files.example/1");
    }

    #[test]
    fn a_reply_shows_what_it_answers_and_is_quoted_without_that() {
        let reply = |quote| {
            let to = MessageName { author: UserId(7), seq: Seq(1) };
            Content::reply(&Reply { to, quote, text: "Yes." })
        };
        assert_eq!(shown(&reply("Shall we?")), "↳ “Shall we?”\nYes.");
        assert_eq!(shown(&reply("")), "↳ Yes.");
        assert_eq!(quote(&reply("Shall we?")), "Yes.");
    }

    #[test]
    fn a_text_to_a_group_names_users_and_its_edit_is_of_the_same_kind() {
        let group = GroupId(42).into();
        let text = "@8, @9: at eight? (@8) a@7 @0 @x @8";
        assert_eq!(typed(group, text), Content::mention(&[UserId(8), UserId(9)], text));
        assert_eq!(typed(UserId(8).into(), text), Content::text(text));
        assert_eq!(typed(group, "eight"), Content::text("eight"));
        let many: String = (1..100).map(|user| format!("@{user} ")).collect();
        assert_eq!(typed(group, &many).fault(), None);
        let mention = typed(group, "@8 look");
        assert!(names(&mention, UserId(8)) && !names(&mention, UserId(9)) && !names(&Content::text("@8"), UserId(8)));
        let of = MessageName { author: UserId(7), seq: Seq(1) };
        let edited = Content::edit(of, &mention, None);
        assert_eq!(typed_over(&mention, "no"), Content::mention(&[], "no"));
        assert_eq!(typed_over(&edited, "@9"), Content::mention(&[UserId(9)], "@9"));
        assert_eq!(typed_over(&Content::text("a"), "@9"), Content::text("@9"));
    }

    #[test]
    fn a_long_text_is_quoted_up_to_a_whole_character() {
        let long = format!("a{}", "ß".repeat(QUOTE_BYTES_MAX));
        assert_eq!(quote(&Content::text(&long)).len(), QUOTE_BYTES_MAX - 1);
    }
}
