//! What the documents name exists: files, and tests by their names. And nothing is where the code map says that it never is.

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
    for package in [
        "proto-spec",
        "storage",
        "server",
        "server/rim",
        "server/capacity",
        "server/push",
        "client",
        "client/chat",
        "client/ffi",
        "loadgen",
        "tests",
    ] {
        for folder in ["src", "tests"] {
            let folder = root().join(package).join(folder);
            if folder.is_dir() {
                sources(&folder, &mut all);
            }
        }
    }
    let mut checked = 0;
    for document in ["README.md", "docs/TESTING.md", "docs/SECURITY.md", "docs/CAPACITY.md"] {
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

/// The code of a file or folder: without comments, and without tests.
fn code(place: &Path) -> String {
    if place.is_dir() {
        let inside = fs::read_dir(place).expect("a folder of the repository").flatten().map(|entry| entry.path());
        let (tests, rust) =
            (|path: &PathBuf| path.ends_with("tests.rs"), |path: &PathBuf| path.extension() == Some("rs".as_ref()));
        let wanted = inside.filter(|path| (path.is_dir() && !path.ends_with("tests")) || (rust(path) && !tests(path)));
        return wanted.map(|path| code(&path)).collect();
    }
    let text = fs::read_to_string(place).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// Folders of a folder.
fn folders(of: &str) -> Vec<String> {
    let inside = fs::read_dir(root().join(of)).expect("a folder of the repository").flatten();
    let names = inside.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string());
    names.map(|name| format!("{of}/{}", name.expect("a name of the repository"))).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn nothing_is_where_the_code_map_says_it_never_is() {
    let design = fs::read_to_string(root().join("docs/DESIGN.md")).expect("the design");
    let map = design.split("\n## ").find(|chapter| chapter.starts_with("Code map")).expect("the code map");
    let groups: Vec<(&str, Vec<&str>)> = map
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("**:"))
        .map(|(name, words)| (name, quoted(words)))
        .collect();
    let (mut places, mut found) = (Vec::new(), Vec::new());
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let &[_, place, _, never, _] = cells.as_slice() else { panic!("a row of three cells: {row}") };
        let place = place.trim_matches('`');
        let code = code(&root().join(place));
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for item in never.split(", ") {
            let of_group = groups.iter().find(|(name, _)| *name == item).map(|(_, words)| words.clone());
            let forbidden = of_group.unwrap_or_else(|| quoted(item));
            assert!(!forbidden.is_empty(), "`{item}` in the row of {place} is neither a word nor a group of words");
            found.extend(
                forbidden.iter().filter(|word| words.contains(word)).map(|word| format!("{place} has `{word}` in it")),
            );
        }
        places.push(place.to_owned());
    }
    assert!(found.is_empty(), "{found:#?}");
    let rooms = folders("server/src").into_iter().filter(|room| room != "server/src/bin");
    for place in rooms.chain(
        [
            "proto-spec",
            "storage",
            "server/rim",
            "server/capacity",
            "server/push",
            "client",
            "client/chat",
            "client/ffi",
            "loadgen",
        ]
        .map(|at| format!("{at}/src")),
    ) {
        assert!(places.contains(&place), "the code map in docs/DESIGN.md does not tell of {place}");
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
