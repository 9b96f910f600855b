//! Puts the web page into the server: its scripts joined and without their comments, everything else as it is, and each file compressed
//! once.

mod join;

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// Where files lie, and below which path they are served. Nothing below `test` is.
const FOLDERS: [(&str, &str); 2] = [("../web/app", "/app/"), ("../web/client/src", "/client/")];

/// The scripts that a browser is told to load. All others are parts of them.
const SCRIPTS: [&str; 2] = ["/app/main.js", "/app/service-worker.js"];

/// What is served, by the end of its name.
const TYPES: [(&str, &str); 5] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("webmanifest", "application/manifest+json"),
];

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let (mut served, mut modules) = (BTreeMap::new(), BTreeMap::new());
    for (folder, below) in FOLDERS {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        for file in files(&folder)? {
            let name = file.strip_prefix(&folder).expect("it was found there").to_str().expect("names are UTF-8");
            let path = format!("{below}{name}");
            match file.extension().and_then(|ending| ending.to_str()) {
                Some("js") => _ = modules.insert(path, without_comments(&fs::read_to_string(&file)?)),
                Some(ending) if TYPES.iter().any(|(of, _)| *of == ending) => _ = served.insert(path, fs::read(&file)?),
                _ => {}
            }
        }
    }
    for script in SCRIPTS {
        let joined = join::join(script, &modules).unwrap_or_else(|fault| panic!("the web page has a fault: {fault}"));
        served.insert(script.to_owned(), joined.into_bytes());
    }
    let mut table = String::from("&[\n");
    for (path, bytes) in served {
        let kind =
            TYPES.iter().find(|(ending, _)| path.ends_with(&format!(".{ending}"))).expect("others are left out").1;
        let plain = out.join(path.trim_start_matches('/').replace('/', "-"));
        fs::write(&plain, &bytes)?;
        let packed = out.join(format!("{}.gz", plain.display()));
        fs::write(&packed, gzip(&bytes)?)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        table += &format!(
            "Asset {{ path: {path:?}, kind: {kind:?}, tag: \"\\\"{:016x}\\\"\", bytes: include_bytes!({plain:?}), packed: \
             include_bytes!({packed:?}) }},\n",
            hasher.finish(),
        );
    }
    fs::write(out.join("files.rs"), table + "]")
}

/// All files below a folder.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() && entry.file_name() != "test" => found.extend(files(&entry.path())?),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    Ok(found)
}

/// A script whose lines that are nothing but comment are empty, so that those that do something keep their numbers: a third of what browsers
/// would be sent is for who reads the source.
fn without_comments(script: &str) -> String {
    let mut text = String::with_capacity(script.len());
    let mut is_inside = false;
    for line in script.lines() {
        let words = line.trim();
        is_inside |= words.starts_with("/*");
        if !is_inside && !words.starts_with("//") {
            text += line;
        }
        text.push('\n');
        is_inside &= !words.ends_with("*/");
    }
    text
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}
