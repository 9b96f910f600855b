//! What a line of input asks for.

use client::{
    Act, ConversationId, DeviceId, GroupId, NAME_BYTES_MAX, REACTION_BYTES_MAX, Seq, Settings, Status, UserId,
    Visibility,
};

use crate::{attach::Attach, groups, presence};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// To be sent.
    Say(String),
    /// To be sent as the answer to this message; none: to the last one of the other.
    Reply(Option<Seq>, String),
    /// What the message says from now on; none: the own one that was sent last.
    Edit(Option<Seq>, String),
    /// The message is to say nothing any more.
    Unsend(Option<Seq>),
    /// The message is to go from the own history; none: the last one of this conversation.
    Delete(Option<Seq>),
    /// What is felt about the message; empty: nothing any more. None: about the last one of the other.
    React(Option<Seq>, String),
    /// Something that lies elsewhere is to be sent.
    Attach(Box<Attach>),
    /// From now on to this user or group.
    To(ConversationId),
    /// A group of this name is to begin.
    Group(String),
    /// The own groups.
    Groups,
    /// Who is in this group.
    Members,
    /// To be done to this group.
    Act(Act<'static>),
    /// Out of this group.
    Leave,
    /// This group is to be called so.
    Rename(String),
    /// Whoever knows a secret may come into this group.
    Invite,
    /// Into a group, by its secret.
    Join(GroupId, String),
    /// Older messages of this conversation, so many; none: as many as at the start.
    History(Option<u64>),
    /// The newest conversations, so many; none: as many as fit.
    Inbox(Option<u64>),
    /// This conversation has been read.
    Read,
    /// This conversation is kept otherwise from now on.
    Keep {
        set: Settings,
        cleared: Settings,
    },
    /// What is hidden of the own presence from now on.
    Hide {
        set: Visibility,
        cleared: Visibility,
    },
    /// Whether somebody sits here.
    Status(Status),
    /// Who comes and goes of these is told from now on, and of no others.
    Watch(Vec<UserId>),
    /// Who of these is there.
    Presence(Vec<UserId>),
    /// Something is being written there.
    Typing(ConversationId),
    /// Whether what was shown is what the server has.
    Check,
    /// The own devices.
    Devices,
    /// What this device is called; empty: nothing.
    NameDevice(String),
    /// This device is to be removed.
    RemoveDevice(DeviceId),
    /// The newest message that waits for its answer is taken back.
    Cancel,
    Help,
    Quit,
    /// A blank line.
    Nothing,
}

/// A line that begins with `/` and is no command; in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoCommand(String);

impl NoCommand {
    pub(crate) const fn new(words: String) -> Self {
        Self(words)
    }
}

impl Command {
    /// # Errors
    /// The line begins with one `/` and is no command.
    pub(crate) fn parse(line: &str) -> Result<Self, NoCommand> {
        if let Some(command) = presence::parse(line).or_else(|| groups::parse(line)) {
            return command;
        }
        let mut words = line.split_whitespace();
        let words = (words.next(), words.next(), words.next());
        Ok(match words {
            (None, _, _) => Self::Nothing,
            (Some("/quit"), None, None) => Self::Quit,
            (Some("/help"), None, None) => Self::Help,
            (Some("/cancel"), None, None) => Self::Cancel,
            (Some("/history"), None, None) => Self::History(None),
            (Some("/history"), Some(count), None) => match count.parse() {
                Ok(count) if count > 0 => Self::History(Some(count)),
                _ => return Err(NoCommand(format!("/history takes a number of messages from 1 on, not `{count}`"))),
            },
            (Some("/inbox"), None, None) => Self::Inbox(None),
            (Some("/inbox"), Some(count), None) => match count.parse() {
                Ok(count) if count > 0 => Self::Inbox(Some(count)),
                _ => return Err(NoCommand(format!("/inbox takes a number of conversations from 1 on, not `{count}`"))),
            },
            (Some("/check"), None, None) => Self::Check,
            (Some("/devices"), None, None) => Self::Devices,
            (Some("/device-name"), _, _) => {
                let name = line.trim_start().strip_prefix("/device-name").unwrap_or_default().trim();
                if name.len() > NAME_BYTES_MAX {
                    let bytes = name.len();
                    return Err(NoCommand(format!("a name has at most {NAME_BYTES_MAX} bytes, this one has {bytes}")));
                }
                Self::NameDevice(name.to_owned())
            }
            (Some("/remove-device"), Some(device), None) => match device.parse() {
                Ok(device) if device > 0 => Self::RemoveDevice(DeviceId(device)),
                _ => return Err(NoCommand(format!("/remove-device takes the number of a device, not `{device}`"))),
            },
            (Some("/read"), None, None) => Self::Read,
            (Some(word), None, None) if setting(word).is_some() => {
                let (setting, is_set) = setting(word).unwrap_or_default();
                let (set, cleared) =
                    if is_set { (setting, Settings::default()) } else { (Settings::default(), setting) };
                Self::Keep { set, cleared }
            }
            (Some("/to"), Some(word), None) => match groups::conversation(word) {
                Some(conversation) => Self::To(conversation),
                None => {
                    let what = "the number of a user, from 1 on, or #ID of a group";
                    return Err(NoCommand(format!("/to takes {what}, not `{word}`")));
                }
            },
            (Some(word @ ("/reply" | "/edit")), Some(_), _) => {
                let (of, text) = aimed(line, word)?;
                match word {
                    _ if text.is_empty() => return Err(NoCommand(format!("{word} takes a text"))),
                    "/reply" => Self::Reply(of, text),
                    _ => Self::Edit(of, text),
                }
            }
            (Some("/react"), _, _) => {
                let (of, reaction) = aimed(line, "/react")?;
                let reaction = reaction.trim_end().to_owned();
                if reaction.len() > REACTION_BYTES_MAX {
                    let bytes = reaction.len();
                    let what = format!("a reaction has at most {REACTION_BYTES_MAX} bytes, this one has {bytes}");
                    return Err(NoCommand(what));
                }
                Self::React(of, reaction)
            }
            (Some("/attach"), _, _) => {
                let rest = line.trim_start().strip_prefix("/attach").unwrap_or_default();
                Self::Attach(Box::new(Attach::parse(rest)?))
            }
            (Some("/delete"), _, None) => match aimed(line, "/delete")? {
                (of, text) if text.is_empty() => Self::Delete(of),
                _ => return Err(NoCommand("/delete takes the seq of a message behind #, or nothing".to_owned())),
            },
            (Some("/unsend"), _, None) => match aimed(line, "/unsend")? {
                (of, text) if text.is_empty() => Self::Unsend(of),
                _ => return Err(NoCommand("/unsend takes the seq of a message behind #, or nothing".to_owned())),
            },
            (Some(word), _, _) if line.starts_with('/') && !line.starts_with("//") => {
                let known = "/to USER (or #ID), /reply [#SEQ] TEXT, /edit [#SEQ] TEXT, /unsend [#SEQ], /delete [#SEQ], /react [#SEQ] EMOJI, /attach LOCATION …, /history [N], /cancel, /inbox [N], /read, /mute, /archive, /pin, /block and /mentions \
                             (with /un… for the opposite: /unmute), /check, /devices, /device-name NAME, /remove-device ID, /help and /quit; about groups";
                let what = match word {
                    "/quit" | "/help" | "/cancel" | "/history" | "/to" | "/reply" | "/edit" | "/unsend" | "/delete"
                    | "/inbox" | "/read" | "/check" | "/devices" | "/remove-device" => {
                        format!("{word} is not written like this")
                    }
                    _ => format!("`{word}` is no command"),
                };
                let (groups, presence) = (groups::COMMANDS, presence::COMMANDS);
                return Err(NoCommand(format!(
                    "{what}: there are {known} {groups}; about presence {presence}; a message that begins with / is written with // in front"
                )));
            }
            _ => Self::Say(line.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(line).to_owned()),
        })
    }
}

/// The message that a command is about, if it names one with `#SEQ`, and what follows.
fn aimed(line: &str, command: &str) -> Result<(Option<Seq>, String), NoCommand> {
    let rest = line.trim_start().strip_prefix(command).unwrap_or_default().trim_start();
    let Some(number) = rest.strip_prefix('#') else { return Ok((None, rest.to_owned())) };
    let (number, text) = number.split_once(char::is_whitespace).unwrap_or((number, ""));
    match number.parse() {
        Ok(seq) if seq > 0 => Ok((Some(Seq(seq)), text.trim_start().to_owned())),
        _ => Err(NoCommand(format!("{command} takes the seq of a message behind #, not `{number}`"))),
    }
}

/// What a word changes of how a conversation is kept, and whether it sets or clears that.
fn setting(word: &str) -> Option<(Settings, bool)> {
    let word = word.strip_prefix('/')?;
    let (name, is_set) = word.strip_prefix("un").map_or((word, true), |name| (name, false));
    let setting = match name {
        "mute" => Settings::MUTED,
        "archive" => Settings::ARCHIVED,
        "pin" => Settings::PINNED,
        "block" => Settings::BLOCKED,
        // Muted, but for what names the user.
        "mentions" => Settings::MUTED.changed(Settings::MENTIONS_ONLY, Settings::default()),
        _ => return None,
    };
    Some((setting, is_set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_slash_is_a_command_or_a_mistake_but_never_a_message() {
        assert_eq!(Command::parse("/to 32"), Ok(Command::To(UserId(32).into())));
        assert_eq!(Command::parse(" /quit "), Ok(Command::Quit));
        assert_eq!(Command::parse("/cancel"), Ok(Command::Cancel));
        assert_eq!(Command::parse("/history 5"), Ok(Command::History(Some(5))));
        assert_eq!(Command::parse("/reply  Yes, and no "), Ok(Command::Reply(None, "Yes, and no ".into())));
        assert_eq!(Command::parse("/reply #12 Yes"), Ok(Command::Reply(Some(Seq(12)), "Yes".into())));
        assert_eq!(Command::parse("/edit #12 No"), Ok(Command::Edit(Some(Seq(12)), "No".into())));
        assert_eq!(Command::parse("/unsend"), Ok(Command::Unsend(None)));
        assert_eq!(Command::parse("/unsend #3"), Ok(Command::Unsend(Some(Seq(3)))));
        assert_eq!(Command::parse("/react 👍 "), Ok(Command::React(None, "👍".into())));
        assert_eq!(Command::parse("/react #3 so true"), Ok(Command::React(Some(Seq(3)), "so true".into())));
        assert_eq!(Command::parse("/react #3"), Ok(Command::React(Some(Seq(3)), String::new())));
        assert!(Command::parse(&format!("/react {}", "x".repeat(REACTION_BYTES_MAX + 1))).is_err());
        assert_eq!(Command::parse("/delete #3"), Ok(Command::Delete(Some(Seq(3)))));
        assert_eq!(Command::parse("/delete"), Ok(Command::Delete(None)));
        assert!(matches!(Command::parse("/attach key file=a"), Ok(Command::Attach(_))));
        assert_eq!(Command::parse("/inbox"), Ok(Command::Inbox(None)));
        assert_eq!(Command::parse("/read"), Ok(Command::Read));
        assert_eq!(Command::parse("/devices"), Ok(Command::Devices));
        assert_eq!(Command::parse("/check"), Ok(Command::Check));
        assert!(
            Command::parse("/delete #3 x").is_err_and(|error| error.to_string().starts_with("/delete is not written"))
        );
        assert_eq!(Command::parse("/device-name My phone "), Ok(Command::NameDevice("My phone".into())));
        assert_eq!(Command::parse("/remove-device 3"), Ok(Command::RemoveDevice(DeviceId(3))));
        assert!(Command::parse(&format!("/device-name {}", "x".repeat(NAME_BYTES_MAX + 1))).is_err());
        let (none, muted) = (Settings::default(), Settings::MUTED);
        assert_eq!(Command::parse("/mute"), Ok(Command::Keep { set: muted, cleared: none }));
        assert_eq!(Command::parse("/unmute"), Ok(Command::Keep { set: none, cleared: muted }));
        let mentions = muted.changed(Settings::MENTIONS_ONLY, none);
        assert_eq!(Command::parse("/mentions"), Ok(Command::Keep { set: mentions, cleared: none }));
        for wrong in [
            "/attach",
            "/attach key",
            "/inbox 0",
            "/devices 3",
            "/remove-device",
            "/remove-device 0",
            "/remove-device 3 4",
            "/read 3",
            "/mute 3",
            "/ununmute",
            "/unsend 3",
            "/delete 3",
            "/edit",
            "/reply",
            "/reply #12",
            "/reply #x Yes",
            "/reply #0 Yes",
            "/to 3l",
            "/to",
            "/to 0",
            "/to 1 2",
            "/foo",
            "/",
            "/history x",
            "/history 0",
            "/quit now",
            "/etc/hosts",
        ] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_slashes_are_one_in_a_message() {
        assert_eq!(Command::parse("//etc/hosts"), Ok(Command::Say("/etc/hosts".into())));
        assert_eq!(Command::parse("and/or"), Ok(Command::Say("and/or".into())));
        assert_eq!(Command::parse(" \t"), Ok(Command::Nothing));
    }
}
