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
    use super::*;

    #[test]
    fn the_page_and_its_scripts_are_there_and_tests_and_types_are_not() {
        assert!(
            find("/")
                .is_some_and(|page| page.kind.starts_with("text/html") && page.bytes.starts_with(b"<!doctype html>"))
        );
        assert!(find("/service-worker.js").is_some_and(|script| script.kind.starts_with("text/javascript")));
        assert!(find("/client/index.js").is_some_and(|script| script.kind.starts_with("text/javascript")));
        for path in ["/app", "/app/", "/app/README.md", "/client/index.d.ts", "/../Cargo.toml", "//app/index.html", ""]
        {
            assert!(find(path).is_none(), "{path}");
        }
        assert!(FILES.iter().all(|file| !file.path.contains("/test/") && !file.packed.is_empty()));
    }

    #[test]
    fn a_script_comes_without_its_comments_and_with_its_lines() {
        let source = include_str!("../../../web/client/src/tabs.js");
        let script = std::str::from_utf8(find("/client/tabs.js").unwrap().bytes).unwrap();
        assert_eq!(script.lines().count(), source.lines().count());
        for (sent, written) in script.lines().zip(source.lines()) {
            let is_comment = ["//", "/*", "*"].iter().any(|start| written.trim().starts_with(start));
            assert_eq!(sent, if is_comment { "" } else { written });
        }
    }

    #[test]
    fn every_file_that_the_page_names_is_there() {
        let page = std::str::from_utf8(find("/").unwrap().bytes).unwrap();
        let named = page.split('"').filter(|text| text.starts_with("/app/") || text.starts_with("/client/"));
        let missing: Vec<_> = named.filter(|path| find(path).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
