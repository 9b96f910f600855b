//! Who is there and who types, in words: what a person and a script are told, and the commands of both.

use client::{PRESENCE_USERS_MAX, Presence, Status, UserId, Visibility, WATCHED_MAX};

use crate::{
    command::{Command, NoCommand},
    groups,
};

/// The commands, as they are listed where one is wrong.
pub(crate) const COMMANDS: &str =
    "/invisible, /visible, /lastseen on (or off), /away, /here, /watch [USER …], /presence USER …, /typing USER";

/// A state in one word.
pub(crate) const fn word(state: Presence) -> &'static str {
    match state {
        Presence::Unknown => "unknown",
        Presence::Offline => "offline",
        Presence::Away => "away",
        Presence::Online => "online",
    }
}

/// What is hidden of the own presence: words with commas between, or `-`.
pub(crate) const fn hidden(visibility: Visibility) -> &'static str {
    match (visibility.has(Visibility::INVISIBLE), visibility.has(Visibility::HIDE_LAST_SEEN)) {
        (true, true) => "invisible,last_seen",
        (true, false) => "invisible",
        (false, true) => "last_seen",
        (false, false) => "-",
    }
}

/// A line whose first word may be a command about presence; none: it is not.
pub(crate) fn parse(line: &str) -> Option<Result<Command, NoCommand>> {
    let mut words = line.split_whitespace();
    let command = words.next()?;
    let words: Vec<&str> = words.collect();
    let none = Visibility::default();
    Some(match (command, &words[..]) {
        ("/invisible", []) => Ok(Command::Hide { set: Visibility::INVISIBLE, cleared: none }),
        ("/visible", []) => Ok(Command::Hide { set: none, cleared: Visibility::INVISIBLE }),
        ("/lastseen", ["off"]) => Ok(Command::Hide { set: Visibility::HIDE_LAST_SEEN, cleared: none }),
        ("/lastseen", ["on"]) => Ok(Command::Hide { set: none, cleared: Visibility::HIDE_LAST_SEEN }),
        ("/away", []) => Ok(Command::Status(Status::Away)),
        ("/here", []) => Ok(Command::Status(Status::Here)),
        ("/watch", of) => users(command, of, WATCHED_MAX).map(Command::Watch),
        ("/presence", of @ [_, ..]) => users(command, of, PRESENCE_USERS_MAX).map(Command::Presence),
        ("/typing", [word]) => match groups::conversation(word) {
            Some(conversation) => Ok(Command::Typing(conversation)),
            None => Err(wrong(command, "the number of one user, or #ID of a group")),
        },
        ("/invisible" | "/visible" | "/away" | "/here", _) => Err(wrong(command, "nothing else")),
        ("/lastseen", _) => Err(wrong(command, "on or off")),
        ("/presence", _) => Err(wrong(command, "the numbers of users")),
        ("/typing", _) => Err(wrong(command, "the number of one user, or #ID of a group")),
        _ => return None,
    })
}

fn users(command: &str, words: &[&str], users_max: usize) -> Result<Vec<UserId>, NoCommand> {
    if words.len() > users_max {
        return Err(wrong(command, &format!("at most {users_max} users, not {}", words.len())));
    }
    let user = |word: &&str| match word.parse() {
        Ok(user) if user > 0 => Ok(UserId(user)),
        _ => Err(wrong(command, &format!("numbers of users, from 1 on, not `{word}`"))),
    };
    words.iter().map(user).collect()
}

fn wrong(command: &str, takes: &str) -> NoCommand {
    NoCommand::new(format!("{command} takes {takes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_about_presence_is_one_or_a_mistake() {
        let parse = |line: &str| Command::parse(line);
        let none = Visibility::default();
        assert_eq!(parse("/invisible"), Ok(Command::Hide { set: Visibility::INVISIBLE, cleared: none }));
        assert_eq!(parse(" /lastseen  on "), Ok(Command::Hide { set: none, cleared: Visibility::HIDE_LAST_SEEN }));
        assert_eq!(parse("/watch"), Ok(Command::Watch(Vec::new())));
        assert_eq!(parse("/watch 8 9"), Ok(Command::Watch(vec![UserId(8), UserId(9)])));
        assert_eq!(parse("/presence 8"), Ok(Command::Presence(vec![UserId(8)])));
        assert_eq!(parse("/typing 8"), Ok(Command::Typing(UserId(8).into())));
        assert_eq!(parse("/typing #42"), Ok(Command::Typing(client::GroupId(42).into())));
        assert_eq!(parse("/away"), Ok(Command::Status(Status::Away)));
        let many = |command: &str, count: usize| format!("{command}{}", " 8".repeat(count));
        assert!(parse(&many("/watch", WATCHED_MAX)).is_ok() && parse(&many("/presence", PRESENCE_USERS_MAX)).is_ok());
        for wrong in [
            "/invisible 8",
            "/lastseen",
            "/lastseen maybe",
            "/watch 0",
            "/watch x",
            "/presence",
            "/typing",
            "/typing 8 9",
            "/away now",
            &many("/watch", WATCHED_MAX + 1),
            &many("/presence", PRESENCE_USERS_MAX + 1),
        ] {
            assert!(parse(wrong).is_err_and(|error| error.to_string().contains(" takes ")), "{wrong}");
        }
    }

    #[test]
    fn what_is_hidden_is_told_by_what_is_known_of_it() {
        let both = Visibility::INVISIBLE.changed(Visibility::HIDE_LAST_SEEN, Visibility::default());
        let newer = Visibility::from_bits(4);
        let words = [Visibility::INVISIBLE, Visibility::HIDE_LAST_SEEN, both, newer].map(hidden);
        assert_eq!(words, ["invisible", "last_seen", "invisible,last_seen", "-"]);
    }
}
