//! Puts the files of the web page into the server: each as it is, but for the comments of scripts, and compressed once if that makes it
//! smaller.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

/// Where files lie, and below which path they are served. Nothing below `test` is.
const FOLDERS: [(&str, &str); 2] = [("../web/app", "/app/"), ("../web/client/src", "/client/")];

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
    let mut table = String::from("&[\n");
    for (folder, served) in FOLDERS {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        for file in files(&folder)? {
            let name = file.strip_prefix(&folder).expect("it was found there").to_str().expect("names are UTF-8");
            let ending = file.extension().and_then(|ending| ending.to_str());
            let Some((_, kind)) = TYPES.iter().find(|(of, _)| Some(*of) == ending) else { continue };
            let mut bytes = fs::read(&file)?;
            if ending == Some("js") {
                bytes = without_comments(&String::from_utf8(bytes).expect("scripts are UTF-8")).into_bytes();
            }
            let flat = format!("{}{}", served.replace('/', ""), name.replace('/', "-"));
            let plain = out.join(&flat);
            fs::write(&plain, &bytes)?;
            let packed = out.join(format!("{flat}.gz"));
            fs::write(&packed, gzip(&bytes)?)?;
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            table += &format!(
                "Asset {{ path: {:?}, kind: {kind:?}, tag: \"\\\"{:016x}\\\"\", bytes: include_bytes!({plain:?}), packed: \
                 include_bytes!({packed:?}) }},\n",
                format!("{served}{name}"),
                hasher.finish(),
            );
        }
    }
    fs::write(out.join("files.rs"), table + "]")
}

/// All files below a folder, in an order that is the same each time.
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
    found.sort();
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
