//! What the documents name exists: files, and tests by their names; and what they say is pure, is.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// What stands between backticks, in lines that are part of a table.
fn named_in_tables(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn tests_and_files_that_the_documents_name_exist() {
    let mut all = String::new();
    for package in ["proto-spec", "storage", "server", "client", "client/chat", "loadgen", "tests"] {
        for folder in ["src", "tests"] {
            let folder = root().join(package).join(folder);
            if folder.is_dir() {
                sources(&folder, &mut all);
            }
        }
    }
    let mut checked = 0;
    for document in ["README.md", "docs/TESTING.md", "docs/SECURITY.md"] {
        for name in named_in_tables(document) {
            let is_word = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            if name.contains('/') && !name.contains(' ') {
                assert!(root().join(&name).exists(), "{document} names the file {name}, which is not there");
                checked += 1;
            } else if is_word && name.matches('_').count() >= 3 {
                assert!(all.contains(&format!("fn {name}(")), "{document} names the test {name}, which is not there");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "the documents name {checked} things: are the tables still there?");
}

/// What code that decides has no business with, as words of its source.
const NOT_PURE: &[&str] = &[
    "async",
    "await",
    "crossbeam",
    "fs",
    "io_uring",
    "Instant",
    "libc",
    "Mutex",
    "rand",
    "rustix",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "thread",
    "tokio",
    "tokio_uring",
    "tracing_subscriber",
    "UnixStream",
];

/// Sources of these, but for their tests.
const PURE: &[&str] = &[
    "proto-spec/src",
    "server/src/core",
    "server/src/shard",
    "server/src/durability/committer.rs",
    "server/src/access/handshake.rs",
    "server/src/durability/lanes.rs",
    "server/src/access/rate.rs",
    "server/src/access/revocation.rs",
    "server/src/host/timekeeper.rs",
    "server/src/shard/topology.rs",
    "client/src/state.rs",
    "storage/src/fold.rs",
    "storage/src/journal/writer.rs",
];

#[test]
fn what_decides_waits_for_nothing_and_reads_no_clock() {
    let design = fs::read_to_string(root().join("docs/DESIGN.md")).expect("the design");
    for place in PURE {
        assert!(design.contains(place), "docs/DESIGN.md does not say that {place} is pure");
        let (path, mut text) = (root().join(place), String::new());
        if path.is_dir() {
            sources(&path, &mut text);
        } else {
            text = fs::read_to_string(&path).expect("a source file");
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let words: Vec<&str> = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
        for word in NOT_PURE {
            assert!(!words.contains(word), "{place} has `{word}` in it");
        }
    }
}

#[test]
fn links_in_the_readme_lead_somewhere() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.starts_with("http")) {
        assert!(root().join(target).exists(), "README.md links to {target}, which is not there");
    }
}
