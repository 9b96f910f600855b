//! What the documents name exists: files, and tests by their names.

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

#[test]
fn links_in_the_readme_lead_somewhere() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for target in targets.filter(|target| !target.starts_with("http")) {
        assert!(root().join(target).exists(), "README.md links to {target}, which is not there");
    }
}
