//! Groups, in words: the commands of a person and a script, and how a conversation is named by what is typed.

use client::{Act, ActKind, ConversationId, GROUP_NAME_BYTES_MAX, GroupId, Role, Rules, UserId};

use crate::command::{Command, NoCommand};

/// The commands, as they are listed where one is wrong.
pub(crate) const COMMANDS: &str = "/group NAME, /groups, /members, /add USER, /remove USER, /ban USER, /unban USER, /role USER member (or admin, owner), /rename NAME, /rules WORD … (add, write, rename, history, or none), /invite, /uninvite, /join #ID SECRET, /leave, /end";

/// What a group is kept to, in words for `/rules`.
const RULES: [(&str, Rules); 4] = [
    ("add", Rules::ADMINS_ADD),
    ("write", Rules::ADMINS_POST),
    ("rename", Rules::ADMINS_DESCRIBE),
    ("history", Rules::HISTORY),
];

/// A user by number, or a group by number behind `#`.
pub(crate) fn conversation(word: &str) -> Option<ConversationId> {
    let (number, of): (_, fn(u64) -> ConversationId) = match word.strip_prefix('#') {
        Some(group) => (group, |group| GroupId(group).into()),
        None => (word, |user| UserId(user).into()),
    };
    number.parse().ok().filter(|number| *number > 0).map(of)
}

/// What was done to a group, for a script: the name of the act and what it is done with.
pub(crate) fn act(act: &Act<'_>) -> String {
    let name = act.kind().map_or("unknown", ActKind::name);
    match act {
        Act::Create { name: called, .. } | Act::Describe { name: called, .. } => format!("{name} {called}"),
        Act::Add { user } | Act::Remove { user } | Act::Ban { user } | Act::Unban { user } => format!("{name} {user}"),
        Act::SetRole { user, role: wanted } => format!("{name} {user} {}", wanted.name()),
        Act::SetRules { rules } => format!("{name} {}", rules.bits()),
        Act::Invite { digest: None } => format!("{name} nobody"),
        Act::Invite { digest: Some(_) } | Act::Join { .. } | Act::End | Act::Unknown => name.to_owned(),
    }
}

/// A line whose first word may be a command about groups; none: it is not.
pub(crate) fn parse(line: &str) -> Option<Result<Command, NoCommand>> {
    let mut words = line.split_whitespace();
    let command = words.next()?;
    let words: Vec<&str> = words.collect();
    let about = |act: fn(UserId) -> Act<'static>, word: &str| user(command, word).map(|user| Command::Act(act(user)));
    Some(match (command, &words[..]) {
        ("/group", [_, ..]) => name(line, command).map(Command::Group),
        ("/rename", [_, ..]) => name(line, command).map(Command::Rename),
        ("/rules", ["none"]) => Ok(Command::Act(Act::SetRules { rules: Rules::default() })),
        ("/rules", of) => rules(command, of).map(|rules| Command::Act(Act::SetRules { rules })),
        ("/invite", []) => Ok(Command::Invite),
        ("/uninvite", []) => Ok(Command::Act(Act::Invite { digest: None })),
        ("/end", []) => Ok(Command::Act(Act::End)),
        ("/join", [group, secret]) => match conversation(group) {
            Some(ConversationId::Group(group)) => Ok(Command::Join(group, (*secret).to_owned())),
            _ => Err(wrong(command, &format!("#ID of a group and a secret, not `{group}`"))),
        },
        ("/groups", []) => Ok(Command::Groups),
        ("/members", []) => Ok(Command::Members),
        ("/leave", []) => Ok(Command::Leave),
        ("/add", [word]) => about(|user| Act::Add { user }, word),
        ("/remove", [word]) => about(|user| Act::Remove { user }, word),
        ("/ban", [word]) => about(|user| Act::Ban { user }, word),
        ("/unban", [word]) => about(|user| Act::Unban { user }, word),
        ("/role", [word, wanted]) => match Role::ALL.iter().find(|known| known.name() == *wanted) {
            Some(role) => user(command, word).map(|user| Command::Act(Act::SetRole { user, role: *role })),
            None => Err(wrong(command, &format!("member, admin or owner, not `{wanted}`"))),
        },
        ("/group", []) => Err(wrong(command, "a name for the new group; /to #ID opens one that there is")),
        ("/rename", []) => Err(wrong(command, "a name for this group")),
        ("/join", _) => Err(wrong(command, "#ID of a group and a secret")),
        ("/groups" | "/members" | "/leave" | "/invite" | "/uninvite" | "/end", _) => {
            Err(wrong(command, "nothing else"))
        }
        ("/add" | "/remove" | "/ban" | "/unban", _) => Err(wrong(command, "the number of one user")),
        ("/role", _) => Err(wrong(command, "the number of a user, and member, admin or owner")),
        _ => return None,
    })
}

/// All that stands behind the command.
fn name(line: &str, command: &str) -> Result<String, NoCommand> {
    let name = line.trim_start().strip_prefix(command).unwrap_or_default().trim();
    match name.len() {
        bytes if bytes > GROUP_NAME_BYTES_MAX => {
            Err(wrong(command, &format!("a name of at most {GROUP_NAME_BYTES_MAX} bytes, this one has {bytes}")))
        }
        _ => Ok(name.to_owned()),
    }
}

/// Whatever is not named is not so. Without a word it is an error, since somebody may want to see them.
fn rules(command: &str, words: &[&str]) -> Result<Rules, NoCommand> {
    let what =
        "any of add, write and rename, which only admins do then, and history, which newcomers see then; or none";
    if words.is_empty() {
        return Err(wrong(command, what));
    }
    let rule = |word: &&str| {
        let known = RULES.iter().find(|(name, _)| name == word).map(|(_, rule)| *rule);
        known.ok_or_else(|| wrong(command, &format!("{what}, not `{word}`")))
    };
    words.iter().map(rule).try_fold(Rules::default(), |all, one| Ok(all.changed(one?, Rules::default())))
}

/// What the rules of a group say, in words.
pub(crate) fn rules_line(rules: Rules) -> String {
    let for_admins =
        [(Rules::ADMINS_ADD, "add people"), (Rules::ADMINS_POST, "write"), (Rules::ADMINS_DESCRIBE, "rename it")];
    let admins: Vec<_> = for_admins.into_iter().filter(|(rule, _)| rules.has(*rule)).map(|(_, what)| what).collect();
    let first = if admins.is_empty() {
        "all members add people, write and rename it".to_owned()
    } else {
        format!("only admins {}", admins.join(", "))
    };
    let history = if rules.has(Rules::HISTORY) { "read" } else { "do not read" };
    format!("{first}; newcomers {history} what was before")
}

fn user(command: &str, word: &str) -> Result<UserId, NoCommand> {
    match word.parse() {
        Ok(user) if user > 0 => Ok(UserId(user)),
        _ => Err(wrong(command, &format!("the number of a user, from 1 on, not `{word}`"))),
    }
}

fn wrong(command: &str, takes: &str) -> NoCommand {
    NoCommand::new(format!("{command} takes {takes}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_told_in_words() {
        assert_eq!(
            rules_line(Rules::default()),
            "all members add people, write and rename it; newcomers do not read what was before"
        );
        assert_eq!(rules_line(Rules::from_bits(10)), "only admins write; newcomers read what was before");
    }

    #[test]
    fn a_command_about_groups_is_one_or_a_mistake() {
        let user = UserId(8);
        for (line, command) in [
            ("/group The  sea ", Command::Group("The  sea".into())),
            ("/groups", Command::Groups),
            ("/members", Command::Members),
            ("/leave", Command::Leave),
            ("/add 8", Command::Act(Act::Add { user })),
            ("/remove 8", Command::Act(Act::Remove { user })),
            ("/ban 8", Command::Act(Act::Ban { user })),
            ("/unban 8", Command::Act(Act::Unban { user })),
            ("/role 8 owner", Command::Act(Act::SetRole { user, role: Role::Owner })),
            ("/role 8 admin", Command::Act(Act::SetRole { user, role: Role::Admin })),
            ("/to #42", Command::To(GroupId(42).into())),
            ("/rename The lake", Command::Rename("The lake".into())),
            ("/rules none", Command::Act(Act::SetRules { rules: Rules::default() })),
            ("/rules write history", Command::Act(Act::SetRules { rules: Rules::from_bits(10) })),
            ("/invite", Command::Invite),
            ("/uninvite", Command::Act(Act::Invite { digest: None })),
            ("/join #42 abc", Command::Join(GroupId(42), "abc".into())),
            ("/end", Command::Act(Act::End)),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
        let long = format!("/group {}", "x".repeat(GROUP_NAME_BYTES_MAX + 1));
        for wrong in [
            "/group",
            &long,
            "/groups 3",
            "/members #3",
            "/leave now",
            "/add",
            "/add x",
            "/add 0",
            "/add 8 9",
            "/role 8",
            "/role 8 king",
            "/role x admin",
            "/rules",
            "/rules all",
            "/rules none write",
            "/join 42 abc",
            "/join #42",
            "/rename",
            "/to #",
            "/to #0",
            "/to #x",
            "/to 3#",
        ] {
            assert!(Command::parse(wrong).is_err(), "{wrong}");
        }
    }
}
