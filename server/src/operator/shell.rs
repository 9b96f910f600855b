//! Shell: words and commands in messages, so that they work by copy and paste.

use std::{
    env,
    ffi::OsStr,
    path::{self, Path},
};

/// As one word for a shell.
#[must_use]
pub fn quoted(path: impl AsRef<OsStr>) -> String {
    let text = path.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The command that this process was called with, behind another one that runs it.
#[must_use]
pub fn this_command(runner: &str) -> String {
    env::args_os().fold(runner.to_owned(), |command, word| format!("{command} {}", quoted(word)))
}

/// How a command is told of the same server as this one: by what this one was told. Both are absolute, so that the command works in
/// any folder. Begins with a space; empty if this one goes by the defaults of its folder.
#[must_use]
pub fn told(config: Option<&Path>, data: Option<&Path>) -> String {
    let option = |name: &str, path: &Path| format!(" {name} {}", quoted(path::absolute(path).unwrap_or(path.into())));
    let config = config.map(|path| option("--config", path));
    let data = data.map(|path| option("--data", path));
    [config, data].into_iter().flatten().collect()
}

/// Puts `told` at the end of each command between backticks that looks for a server's files and does not say yet where they are.
#[must_use]
pub fn completed(text: &str, told: &str) -> String {
    let parts = text.split('`').enumerate().map(|(number, part)| {
        let names_server = part.contains(" --data ") || part.contains(" --config ");
        let mut words = part.split(' ');
        let is_for_one =
            words.next() == Some("ringpost") && words.next().is_some_and(|word| FOR_A_SERVER.contains(&word));
        if number % 2 == 1 && is_for_one && !names_server { format!("{part}{told}") } else { part.to_owned() }
    });
    parts.collect::<Vec<_>>().join("`")
}

/// The commands that take `--config` and `--data`, but for `serve`: where that is named, a start without them is meant.
const FOR_A_SERVER: [&str; 12] = [
    "token",
    "revoke",
    "revocations",
    "devices",
    "push",
    "nodes",
    "map",
    "drain",
    "move",
    "new-key",
    "journal",
    "migrate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_messages_are_told_of_the_server_that_they_are_about() {
        let told = told(Some(Path::new("/etc/ring post.toml")), Some(Path::new("/var/data")));
        assert_eq!(told, " --config '/etc/ring post.toml' --data /var/data");
        for (text, complete) in [
            ("`ringpost journal verify` looks", "`ringpost journal verify --data /d` looks"),
            ("x; `ringpost token --user 7`", "x; `ringpost token --user 7 --data /d`"),
            (
                "`ringpost revoke --user 7`, `ringpost migrate`",
                "`ringpost revoke --user 7 --data /d`, `ringpost migrate --data /d`",
            ),
            ("`ringpost drain b --undo` first", "`ringpost drain b --undo --data /d` first"),
            ("`ringpost new-key --data /other` makes one", "`ringpost new-key --data /other` makes one"),
            ("`ringpost serve --check-config` prints", "`ringpost serve --check-config` prints"),
            (
                "ringpost journal verify, `journal`, `chmod 0700 ringpost journal`",
                "ringpost journal verify, `journal`, `chmod 0700 ringpost journal`",
            ),
            ("", ""),
        ] {
            assert_eq!(completed(text, " --data /d"), complete);
            assert_eq!(completed(text, ""), text);
        }
    }

    #[test]
    fn a_path_that_is_told_is_good_in_any_folder() {
        assert_eq!(told(None, None), "");
        let data = told(None, Some(Path::new("data")));
        assert!(data.starts_with(" --data /") && data.ends_with("/data"), "{data}");
    }

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        assert_eq!(quoted("/a/b-c.d"), "/a/b-c.d");
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("/it's"), r"'/it'\''s'");
    }
}
