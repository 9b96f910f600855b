//! Wrong starts: what an operator who makes a mistake reads. Each case of `wrong_starts/*.md` is a session in a shell, whose last
//! command is the mistake; its whole answer and its exit code are in the file, for people to read and for this test to compare.
//!
//! A case runs in an empty folder of its own, which its answer calls `DIR`. The commands before the last one prepare it and must
//! succeed. The last one must end by itself and leave the folder as it was, unless the case is titled `... (changes the folder)`.
//! Whoever runs the test is `ME` in an answer, as a user and as a group.
//! `$PEM` names a folder with keys (see [`prepared`]), `$BUSY` an address where somebody listens.
//!
//! `RINGPOST_WRITE_ANSWERS=1 cargo test -p server --test wrong_starts` writes the answers of today into the files: read the
//! difference before it is committed.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Read as _,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use pem::Pem;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, date_time_ymd};
use server::files::permission::Who;

/// Cases that there must be: nobody takes one out by accident.
const CASES_MIN: usize = 200;

/// How long a case may take, in seconds. All of them end at once; machines that build something else do not.
const CASE_S_MAX: u64 = 60;

/// Cases that run at a time.
const THREADS: usize = 4;

/// What an operator need not know: names of types and the words of parsers, and where this program was built.
const FOREIGN: &[&str] = &[
    " u8",
    " u16",
    " u32",
    " u64",
    " i64",
    "usize",
    " f64",
    "bool",
    "boolean",
    "enum",
    "struct",
    "variant",
    "tuple",
    "Vec<",
    "Some(",
    "None",
    "Err(",
    "Ok(",
    "PathBuf",
    "SocketAddr",
    "IpNet",
    "invalid type",
    "missing field",
    "unknown field",
    "serde",
    "parse error",
    "panicked",
    ".rs:",
    "/.cargo/",
];

/// A server that does not start says so as text, though its standard error is a file here.
const AS_ON_A_TERMINAL: &str = r#"
ringpost() {
    case "$1" in
        serve) shift; command ringpost serve --log-format text "$@" ;;
        *) command ringpost "$@" ;;
    esac
}"#;

struct Case {
    title: String,
    /// The commands, those that prepare the folder first.
    commands: Vec<String>,
    answer: String,
    /// Lines of the file that the answer takes.
    answer_lines: std::ops::Range<usize>,
}

struct Kind {
    file: PathBuf,
    lines: Vec<String>,
    cases: Vec<Case>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wrong_starts")
}

fn kinds() -> Vec<Kind> {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().filter(|file| file.extension().is_some_and(|end| end == "md")).map(read_kind).collect()
}

fn read_kind(file: PathBuf) -> Kind {
    let lines: Vec<String> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
    let mut cases = Vec::new();
    let mut title = None;
    let mut number = 0;
    while number < lines.len() {
        if let Some(text) = lines[number].strip_prefix("## ") {
            assert!(title.replace(text.to_owned()).is_none(), "{}: no session before `{text}`", file.display());
        }
        if lines[number] == "```console" {
            let length = lines[number..].iter().position(|line| line == "```");
            let end = number + length.unwrap_or_else(|| panic!("{}: a session does not end", file.display()));
            let title = title.take().unwrap_or_else(|| panic!("{}: a session without a title", file.display()));
            cases.push(read_case(title, &lines[number + 1..end], number + 1));
            number = end;
        }
        number += 1;
    }
    Kind { file, lines, cases }
}

fn read_case(title: String, session: &[String], first_line: usize) -> Case {
    let mut commands: Vec<String> = Vec::new();
    let mut taken = 0;
    for line in session {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), commands.last_mut()) {
            (Some(command), _, _) => commands.push(command.to_owned()),
            (None, Some(more), Some(command)) => *command += &format!("\n{more}"),
            _ => break,
        }
        taken += 1;
    }
    assert!(!commands.is_empty(), "{title}: there is no command");
    let answer = session[taken..].iter().map(|line| format!("{line}\n")).collect();
    Case { title, commands, answer, answer_lines: first_line + taken..first_line + session.len() }
}

/// A folder with keys and certificates for cases to copy: `token.pem` to sign tokens with, and `public.pem`, its public half;
/// `cert.pem`, `expired.pem` and `future.pem`, certificates of `key.pem`, and `other.pem`, a key that none of them is of.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, mode: u32, tag: &str, der: Vec<u8>| {
        let path = folder.path().join(name);
        fs::write(&path, pem::encode(&Pem::new(tag, der))).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let token = folder.path().join("token.pem");
    server::files::keyfile::create_if_missing(&token).unwrap();
    let pair = KeyPair::try_from(pem::parse(fs::read(token).unwrap()).unwrap().contents()).unwrap();
    write("public.pem", 0o644, "PUBLIC KEY", pair.subject_public_key_info());
    let key = KeyPair::generate().unwrap();
    write("key.pem", 0o600, "PRIVATE KEY", key.serialize_der());
    write("other.pem", 0o600, "PRIVATE KEY", KeyPair::generate().unwrap().serialize_der());
    for (name, from, until) in [("cert.pem", 2020, 4000), ("expired.pem", 2020, 2021), ("future.pem", 3000, 4000)] {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        write(name, 0o644, "CERTIFICATE", params.self_signed(&key).unwrap().der().to_vec());
    }
    folder
}

/// What all cases share.
struct World {
    pem: tempfile::TempDir,
    busy: TcpListener,
}

impl World {
    fn new() -> Self {
        Self { pem: prepared(), busy: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// A shell in this folder. Of root it takes the right to read and write whatever it likes, so that modes count.
    fn shell(&self, folder: &Path, script: &str) -> Command {
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let mut command = Command::new(if is_root { "setpriv" } else { "sh" });
        if is_root {
            command.args(["--bounding-set", "-dac_override,-dac_read_search,-net_bind_service", "sh"]);
        }
        let programs = Path::new(env!("CARGO_BIN_EXE_ringpost")).parent().unwrap();
        let paths = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
        let path = env::join_paths([programs.to_owned()].into_iter().chain(paths)).unwrap();
        command
            .args(["-c", &format!("{AS_ON_A_TERMINAL}\n{script}")])
            .current_dir(folder)
            .stdin(Stdio::null())
            .env_remove("RUST_LOG");
        command.env("PATH", path).env("PEM", self.pem.path()).env("BUSY", self.busy.local_addr().unwrap().to_string());
        // A group of its own, so that whatever it starts ends with it.
        command.process_group(0);
        command
    }

    /// The answer to the last command, as its file has it, and what is wrong with it.
    fn run(&self, case: &Case) -> (String, Option<String>) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().canonicalize().unwrap();
        let (last, before) = case.commands.split_last().unwrap();
        let mut held = Vec::new();
        for command in before {
            let (answer, code, group) = run(self.shell(&folder, command));
            held.push(group);
            assert!(code == Some(0), "{}: `{command}` prepares nothing: {answer}", case.title);
        }
        let unchanged = contents(&folder);
        let (output, code, group) = run(self.shell(&folder, last));
        held.push(group);
        let changed = changes(&unchanged, &contents(&folder));
        drop(held);
        let output = output.replace(&*folder.to_string_lossy(), "DIR");
        let output = output.replace(&self.busy.local_addr().unwrap().to_string(), "BUSY");
        let output = output.replace(&format!(":{}'", self.busy.local_addr().unwrap().port()), ":PORT'");
        let output = output.replace(&*self.pem.path().to_string_lossy(), "PEM");
        // Of the flag that makes it speak as on a terminal, which the case does not have.
        let output = output.replace(" --log-format <FORMAT>\n", " [OPTIONS]\n").replace(" --log-format <FORMAT>", "");
        let own = fs::metadata("/proc/self").unwrap();
        let output = output.replace(&Who::User(own.uid()).to_string(), "ME").replace("root or ME", "ME");
        let output = output.replace(&Who::Group(own.gid()).to_string(), "ME");
        let code = code.map_or("it did not end".to_owned(), |code| format!("exit {code}"));
        let may_change = case.title.ends_with("(changes the folder)");
        let wrong = match (changed, may_change) {
            (Some(changed), false) => Some(format!("the folder has changed: {changed}")),
            (None, true) => Some("the folder has not changed: take that out of the title".to_owned()),
            _ => foreign(&output),
        };
        (format!("{output}[{code}]\n"), wrong)
    }
}

/// Ends what runs in a group of processes.
struct Group(u32);

impl Drop for Group {
    fn drop(&mut self) {
        // Mostly nothing is left of it.
        let _ = Command::new("kill").args(["-KILL", "--", &format!("-{}", self.0)]).stderr(Stdio::null()).status();
    }
}

/// What a command prints, on standard output before standard error, and its exit code; none if it does not end in time.
fn run(mut command: Command) -> (String, Option<i32>, Group) {
    let [out, err] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let mut child = command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap()).spawn().unwrap();
    let group = Group(child.id());
    let until = Instant::now() + Duration::from_secs(CASE_S_MAX);
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code().or_else(|| status.signal().map(|signal| 128 + signal)),
            None if Instant::now() > until => break None,
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    for mut file in [out, err] {
        std::io::Seek::rewind(&mut file).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        text += &String::from_utf8(bytes).unwrap();
    }
    (text, code, group)
}

/// Every path below a folder with its mode and, of a file that can be read, its bytes.
fn contents(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = if meta.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            found.insert(path.clone(), (meta.permissions().mode(), bytes));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

fn changes<T: PartialEq>(before: &BTreeMap<PathBuf, T>, after: &BTreeMap<PathBuf, T>) -> Option<String> {
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = paths.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
    (!changed.is_empty()).then(|| format!("{changed:?}"))
}

/// A word in a message that is not the operator's.
fn foreign(text: &str) -> Option<String> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_string_lossy();
    let found = FOREIGN.iter().copied().chain([&*build]).find(|word| text.contains(word));
    // As a program shows its own values: `Address { port: 1 }`.
    let mut before_braces = text.match_indices(" { ").map(|(at, _)| &text[..at]);
    let is_shown = before_braces.any(|before| before.ends_with(|c: char| c.is_alphanumeric()));
    let found = found.or(is_shown.then_some("{ }"));
    found.map(|word| format!("`{word}` is nothing that an operator knows"))
}

#[test]
fn every_wrong_start_says_what_is_wrong_and_what_to_do_and_changes_nothing() {
    let kinds = kinds();
    let world = World::new();
    let jobs: Vec<_> = kinds.iter().flat_map(|kind| kind.cases.iter().map(move |case| (kind, case))).collect();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let answers = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((kind, case)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (answer, wrong) = world.run(case);
                    let differs = answer != case.answer;
                    let name = format!("{}: {}", kind.file.file_name().unwrap().display(), case.title);
                    if let Some(wrong) = wrong {
                        faults.lock().unwrap().push(format!("{name}: {wrong}\n{answer}"));
                    } else if differs {
                        faults.lock().unwrap().push(format!("{name}\nit says\n{answer}and not\n{}", case.answer));
                    }
                    answers.lock().unwrap().insert((kind.file.clone(), case.answer_lines.start), answer);
                }
            });
        }
    });
    if env::var_os("RINGPOST_WRITE_ANSWERS").is_some() {
        write_answers(&kinds, &answers.into_inner().unwrap());
    }
    let mut faults = faults.into_inner().unwrap();
    faults.sort();
    assert!(faults.is_empty(), "{} of {} cases:\n\n{}", faults.len(), jobs.len(), faults.join("\n"));
}

fn write_answers(kinds: &[Kind], answers: &BTreeMap<(PathBuf, usize), String>) {
    for kind in kinds {
        let mut lines = kind.lines.clone();
        // From the last to the first: the numbers of those before stay what they are.
        for case in kind.cases.iter().rev() {
            let answer = &answers[&(kind.file.clone(), case.answer_lines.start)];
            lines.splice(case.answer_lines.clone(), answer.lines().map(str::to_owned));
        }
        fs::write(&kind.file, lines.join("\n") + "\n").unwrap();
    }
}

#[test]
fn the_table_has_all_its_cases_and_no_two_of_a_name() {
    let kinds = kinds();
    let titles: Vec<_> = kinds.iter().flat_map(|kind| kind.cases.iter().map(|case| &case.title)).collect();
    assert!(titles.len() >= CASES_MIN, "{} cases", titles.len());
    let names: BTreeSet<_> = titles.iter().collect();
    assert_eq!(names.len(), titles.len(), "a title is there twice");
}
