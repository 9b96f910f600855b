//! What a line of input asks for.

use client::{ConversationId, UserId};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// To be sent.
    Say(String),
    /// From now on to this user.
    To(ConversationId),
    /// Older messages of this conversation, so many; none: as many as at the start.
    History(Option<u64>),
    Help,
    Quit,
    /// A blank line.
    Nothing,
}

/// A line that begins with `/` and is no command; in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoCommand(String);

impl Command {
    /// # Errors
    /// The line begins with one `/` and is no command.
    pub(crate) fn parse(line: &str) -> Result<Self, NoCommand> {
        let mut words = line.split_whitespace();
        let words = (words.next(), words.next(), words.next());
        Ok(match words {
            (None, _, _) => Self::Nothing,
            (Some("/quit"), None, None) => Self::Quit,
            (Some("/help"), None, None) => Self::Help,
            (Some("/history"), None, None) => Self::History(None),
            (Some("/history"), Some(count), None) => match count.parse() {
                Ok(count) if count > 0 => Self::History(Some(count)),
                _ => return Err(NoCommand(format!("/history takes a number of messages from 1 on, not `{count}`"))),
            },
            (Some("/to"), Some(user), None) => match user.parse() {
                Ok(user) if user > 0 => Self::To(UserId(user).into()),
                _ => return Err(NoCommand(format!("/to takes the number of a user, from 1 on, not `{user}`"))),
            },
            (Some(word), _, _) if line.starts_with('/') && !line.starts_with("//") => {
                let known = "/to USER, /history [N], /help and /quit";
                let what = match word {
                    "/quit" | "/help" | "/history" | "/to" => format!("{word} is not written like this"),
                    _ => format!("`{word}` is no command"),
                };
                return Err(NoCommand(format!(
                    "{what}: there are {known}; a message that begins with / is written with // in front"
                )));
            }
            _ => Self::Say(line.strip_prefix('/').filter(|rest| rest.starts_with('/')).unwrap_or(line).to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_slash_is_a_command_or_a_mistake_but_never_a_message() {
        assert_eq!(Command::parse("/to 32"), Ok(Command::To(UserId(32).into())));
        assert_eq!(Command::parse(" /quit "), Ok(Command::Quit));
        assert_eq!(Command::parse("/history 5"), Ok(Command::History(Some(5))));
        for wrong in
            ["/to 3l", "/to", "/to 0", "/to 1 2", "/foo", "/", "/history x", "/history 0", "/quit now", "/etc/hosts"]
        {
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
