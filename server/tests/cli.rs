//! The binary as an operator meets it: its exit codes, what it prints where, and what it leaves alone.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use proto_spec::{TimestampMs, UserId};
use server::files::keyfile::{KeyPaths, load_keys};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, text: &str) -> PathBuf {
        let path = self.folder.path().join("ringpost.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        command
            .args(arguments)
            .args(as_on_a_terminal(arguments))
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// A server on a free port.
    fn serve(&self) -> Server {
        let config = self.file("admin_listen = \"\"\ncores = 1\n");
        let mut command = self.command(&["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()]);
        let mut child = command.arg("--data").arg(self.data()).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Server { child, stdout }
    }
}

/// Standard error is a pipe here.
fn as_on_a_terminal(arguments: &[&str]) -> &'static [&'static str] {
    match arguments.first() {
        Some(&"serve") => &["--log-format", "text"],
        _ => &[],
    }
}

struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    /// What it prints until it serves.
    fn greeting(&mut self) -> String {
        let mut text = String::new();
        while !text.contains("\nstop ") {
            assert_ne!(self.stdout.read_line(&mut text).unwrap(), 0, "ended after: {text}");
        }
        text
    }

    fn signal(&self, name: &str) {
        let command = format!("kill {name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn files(folder: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).ok()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_server_greets_mints_and_stops_with_zero_on_either_signal() {
    for signal in ["-TERM", "-INT"] {
        let world = World::new();
        let mut server = world.serve();
        let greeting = server.greeting();
        assert!(greeting.contains("serves on 127.0.0.1:") && !greeting.contains("127.0.0.1:0,"), "{greeting}");

        // The command for a token works as it is printed.
        let line = greeting.lines().find(|line| line.contains("token --user 7")).unwrap();
        let command = line.trim_start_matches("tokens").trim();
        let minted = Command::new("sh").args(["-c", command]).current_dir(world.folder.path()).status().unwrap();
        assert!(minted.success(), "{command}");
        let token = fs::read_to_string(world.folder.path().join("t7")).unwrap();
        let key = world.data().join("token-key.pem");
        let keys = load_keys(&KeyPaths { key, hs256_secret: None, jwks: None }).unwrap().keys;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = TimestampMs(since_1970.as_millis() as u64);
        assert_eq!(keys.verify(token.trim_end(), now).unwrap().user, UserId(7));

        server.signal(signal);
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_token_comes_as_a_link_to_the_page_that_has_it_in_its_fragment() {
    let world = World::new();
    world.serve().greeting();
    let output = world.run(&["token", "--user", "7", "--data", "data", "--web", "https://chat.example.org/"]);
    let link = String::from_utf8(output.stdout).unwrap();
    let token = link.strip_prefix("https://chat.example.org/#token=").unwrap().strip_suffix('\n').unwrap();
    assert!(
        token.split('.').count() == 3 && !token.contains(char::is_whitespace),
        "no code for what is no terminal: {token}"
    );
}

#[test]
fn a_server_that_is_alone_says_so_and_one_that_does_not_run_says_nothing() {
    let world = World::new();
    let ask = |command: &[&str]| world.run(&[command, &["--data", "data"]].concat());
    let mut server = world.serve();
    server.greeting();
    for command in [["nodes"], ["map"]] {
        let output = ask(&command);
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success() && said.contains("this server is alone"), "{output:?}");
    }
    for command in [&["drain", "b"][..], &["drain", "b", "--wait"], &["move", "7", "b"], &["move", "7", "--unpin"]] {
        let output = ask(command);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains("this server is alone: there is no other node"), "{output:?}");
    }
    let json: serde_json::Value = serde_json::from_slice(&ask(&["nodes", "--json"]).stdout).unwrap();
    assert_eq!(json["nodes"], serde_json::json!([]));
    drop(server);
    for command in [&["map"][..], &["drain", "b"], &["move", "7", "b"]] {
        let output = ask(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            output.stdout.is_empty() && stderr(&output).contains("no server runs on this data folder"),
            "{output:?}"
        );
    }
}

#[test]
fn a_key_that_is_gone_is_not_made_anew_without_a_word_and_the_message_says_how() {
    let world = World::new();
    world.serve().greeting();
    let key = world.data().join("token-key.pem");
    fs::rename(&key, world.folder.path().join("backup.pem")).unwrap();
    for arguments in [&["serve", "--listen", "127.0.0.1:0"][..], &["token", "--user", "7"]] {
        let output = world.run(&[arguments, &["--data", "data"]].concat());
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("token-key.pem: the key that signs tokens is gone") && !key.exists(), "{said}");
        let (_, command) = said.trim_end().rsplit_once("ringpost new-key ").unwrap();
        assert_eq!(command, format!("--data {}", world.folder.path().join("data").display()));
    }
    // With a key somewhere else nothing is missing, and a certificate may come later.
    let config = world.file("admin_listen = \"\"\ncores = 1\n[auth]\nkey_file = \"backup.pem\"\n");
    let serve = ["serve", "--tls-self-signed", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()];
    let mut command = world.command(&[&serve[..], &["--data", "data"]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    Server { child, stdout }.greeting();
    assert!(!key.exists() && world.data().join("tls-cert.pem").exists());

    let made = world.run(&["new-key", "--data", "data"]);
    assert!(made.status.success(), "{made:?}");
    world.serve().greeting();
    let made = fs::read(&key).unwrap();
    let again = world.run(&["new-key", "--data", "data"]);
    assert!(!again.status.success() && fs::read(&key).unwrap() == made, "{again:?}");
}

#[test]
fn a_token_is_all_that_stdout_gets() {
    let world = World::new();
    fs::create_dir(world.data()).unwrap();
    server::files::keyfile::create_if_missing(&world.data().join("token-key.pem")).unwrap();
    let output = world.run(&["token", "--user", "7", "--ttl", "12h", "--data", "data"]);
    let token = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && token.ends_with('\n') && token.matches('.').count() == 2, "{output:?}");
    assert!(token.trim_end().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)), "{token}");
}

#[test]
fn a_token_in_a_file_is_its_owners_alone_and_nothing_else_is_overwritten() {
    let world = World::new();
    fs::create_dir(world.data()).unwrap();
    server::files::keyfile::create_if_missing(&world.data().join("token-key.pem")).unwrap();
    let mint = |file: &str| world.run(&["token", "--user", "7", "--data", "data", "--out", file]);
    for _ in 0..2 {
        let output = mint("t7");
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success() && said.starts_with("t7: a token for user 7, good until 2"), "{output:?}");
        let path = world.folder.path().join("t7");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().matches('.').count(), 2);
    }
    let key = world.data().join("token-key.pem");
    let before = fs::read(&key).unwrap();
    let output = mint("data/token-key.pem");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("holds something else than a token"), "{said}");
    assert_eq!(fs::read(&key).unwrap(), before);
}

#[test]
fn a_token_without_a_key_says_what_to_do_and_makes_nothing() {
    let world = World::new();
    let output = world.run(&["token", "--user", "7"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = stderr(&output);
    assert!(error.starts_with("ringpost: ") && error.contains("start the server once"), "{error}");
    assert!(files(world.folder.path()).is_empty());
}

#[test]
fn usage_errors_exit_with_two() {
    let world = World::new();
    for arguments in [
        &["token"][..],
        &["token", "--user", "0"],
        &["token", "--user", "7", "--ttl", "30"],
        &["serve", "--listen"],
        &["drain"],
        &["drain", "B"],
        &["drain", "b", "--undo", "--wait"],
        &["move", "7"],
        &["move", "256", "b"],
        &["move", "7", "b", "--unpin"],
        &["dance"],
    ] {
        assert_eq!(world.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_wrong_configuration_exits_with_two_names_everything_and_makes_nothing() {
    let world = World::new();
    let config = world.file("listen = \"0.0.0.0:7600\"\n[connections]\nmax = 0\n");
    let before = files(world.folder.path());
    let output = world.run(&["serve", "--config", config.to_str().unwrap(), "--data", "data", "--cores", "999"]);
    assert_eq!(output.status.code(), Some(2));
    let error = stderr(&output);
    let lines: Vec<_> = error.lines().collect();
    assert!(lines.len() == 3 && lines.iter().all(|line| line.starts_with("ringpost: ")), "{error}");
    for key in ["line 1, listen = \"0.0.0.0:7600\"", "--cores 999", "line 3, connections.max = 0"] {
        assert!(error.contains(key), "{key}: {error}");
    }
    let config = world.file("lisen = 1\n");
    let error = stderr(&world.run(&["serve", "--check-config", "--config", config.to_str().unwrap()]));
    assert!(error.contains("line 1") && error.contains("lisen = 1") && error.lines().count() == 1, "{error}");
    world.file("listen = \"0.0.0.0:7600\"\n[connections]\nmax = 0\n");
    assert_eq!(before, files(world.folder.path()));
}

#[test]
fn check_config_prints_all_of_it_and_starts_nothing() {
    let world = World::new();
    let output = world.run(&["serve", "--check-config", "--cores", "3"]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("cores = 3\n") && printed.contains("segment_bytes = 67108864  # 64 MiB\n"), "{printed}");
    assert!(files(world.folder.path()).is_empty());
}

#[test]
fn a_data_folder_in_use_is_an_error_of_one_line() {
    let world = World::new();
    let _holder = server::files::datadir::DataDir::open(&world.data()).unwrap();
    let before = files(&world.data());
    let output = world.run(&["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains(world.data().canonicalize().unwrap().to_str().unwrap()), "{error}");
    assert!(error.lines().count() == 1 && error.contains("in use by another process"), "{error}");
    assert_eq!(before, files(&world.data()));
}

#[test]
fn a_filter_that_is_none_is_an_error() {
    let world = World::new();
    let output = world.command(&["serve", "--data", "data"]).env("RUST_LOG", "server=loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("RUST_LOG"));
    assert!(!world.data().exists());
}

#[test]
fn capacity_is_told_as_a_table_as_json_and_as_a_page() {
    let world = World::new();
    let said = |arguments: &[&str]| {
        let output = world.run(&[&["capacity"], arguments].concat());
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(said(&[]).contains("\n  nodes                                               10,000\n"));
    let small = ["--set", "users=5e6", "--set", "messages=20"];
    let json: serde_json::Value = serde_json::from_str(&said(&[&small[..], &["--json"]].concat())).unwrap();
    assert_eq!(
        (&json["figures"]["nodes"]["value"], &json["inputs"]["messages"]["from"]),
        (&100.0.into(), &"set".into())
    );
    assert!(said(&[&small[..], &["--placement"]].concat()).starts_with("5,000,000 users, "));
    assert_eq!(said(&[&small[..], &["--html", "page.html"]].concat()), "page.html: a page with plots\n");
    assert!(fs::read_to_string(world.folder.path().join("page.html")).unwrap().starts_with("<!doctype html>"));
}
