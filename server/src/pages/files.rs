//! Files: the web page, which is in the program (see `build.rs`).

/// A file of the web page.
#[derive(Debug)]
pub struct Asset {
    /// Where it is asked for.
    pub path: &'static str,
    /// What it is, as HTTP says it.
    pub kind: &'static str,
    /// Changes with what is in it, as HTTP says it.
    pub tag: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
    /// The same as gzip.
    pub packed: &'static [u8],
}

const FILES: &[Asset] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The page itself.
const PAGE: &str = "/app/index.html";

/// Told beyond the folders: a script that serves a page while it is closed must lie above it.
const SERVICE_WORKER: &str = "/service-worker.js";

/// What the page may do: run its own scripts and styles, show its own pictures, and connect to where it came from. Nothing of anybody else.
pub const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                               manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file at a path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Asset> {
    let path = match path {
        "/" => PAGE.to_owned(),
        SERVICE_WORKER => format!("/app{SERVICE_WORKER}"),
        path => path.to_owned(),
    };
    FILES.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Bytes of the first view as they are sent, without their heads.
    const FIRST_VIEW_BYTES_MAX: usize = 100_000;

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(find(path).unwrap().bytes).unwrap()
    }

    /// The modules below a folder of `web/` by the paths by which they import each other, with what is written in them.
    fn modules(folder: &Path, below: &str) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
        let of = |entry: fs::DirEntry| match entry.file_name().into_string().unwrap() {
            name if name == "test" => Vec::new(),
            name if entry.path().is_dir() => modules(&entry.path(), &format!("{below}{name}/")),
            name if name.ends_with(".js") => {
                vec![(format!("{below}{name}"), fs::read_to_string(entry.path()).unwrap())]
            }
            _ => Vec::new(),
        };
        entries.flat_map(of).collect()
    }

    #[test]
    fn the_page_and_its_script_are_there_and_modules_tests_and_types_are_not() {
        assert!(
            find("/")
                .is_some_and(|page| page.kind.starts_with("text/html") && page.bytes.starts_with(b"<!doctype html>"))
        );
        for path in ["/app/main.js", "/service-worker.js"] {
            assert!(find(path).is_some_and(|script| script.kind.starts_with("text/javascript")), "{path}");
        }
        for path in [
            "/app",
            "/app/",
            "/app/README.md",
            "/app/view/list.js",
            "/client/index.js",
            "/client/index.d.ts",
            "/../Cargo.toml",
            "//app/index.html",
            "",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
        assert!(FILES.iter().all(|file| !file.path.contains("/test/") && !file.packed.is_empty()));
    }

    #[test]
    fn every_module_is_in_a_script_that_is_served_with_its_lines_and_without_its_comments() {
        let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web");
        let all = [modules(&web.join("app"), "/app/"), modules(&web.join("client/src"), "/client/")].concat();
        let scripts: Vec<_> =
            FILES.iter().filter(|file| file.path.ends_with(".js")).map(|file| text(file.path)).collect();
        // It is for Node alone.
        for (path, source) in all.iter().filter(|(path, _)| path != "/client/transport/tcp.js") {
            let start = format!("// {path}\n");
            let script = scripts.iter().find_map(|script| script.split_once(&start));
            let (_, script) = script.unwrap_or_else(|| panic!("{path} is in no script that is served"));
            let mut is_list = false;
            for (at, (written, sent)) in source.lines().zip(script.lines().skip(1)).enumerate() {
                is_list |= ["import ", "export {", "export *"].iter().any(|start| written.starts_with(start));
                let is_comment =
                    ["//", "/*", "* ", "*/"].iter().any(|start| format!("{} ", written.trim()).starts_with(start));
                let wanted = if is_comment { "" } else { written.strip_prefix("export ").unwrap_or(written) };
                assert!(is_list || sent == wanted, "{path}:{}: {sent}", at + 1);
                is_list &= !written.ends_with(';');
            }
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_there_and_the_first_view_is_small() {
        let named: Vec<_> = text("/").split('"').filter(|text| text.starts_with("/app/")).collect();
        assert!(named.contains(&"/app/main.js") && named.contains(&"/app/style.css"), "{named:?}");
        let missing: Vec<_> = named.iter().filter(|path| find(path).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let bytes: usize = named.iter().chain(&["/"]).map(|path| find(path).unwrap().packed.len()).sum();
        assert!(bytes <= FIRST_VIEW_BYTES_MAX, "{bytes} bytes");
    }
}
