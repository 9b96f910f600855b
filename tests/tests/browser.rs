//! The web page in real browsers, which Node drives: see `web/e2e`. And its model, in Node alone.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The oldest Node that runs these tests, which a hook of its own lets find what the page finds.
const NODE_MIN: (u32, u32) = (18, 19);

/// Debian's browser.
const CHROMIUM: &str = "/usr/bin/chromium";

fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web")
}

/// Whether there is a Node that runs them. Says so if not.
fn has_node() -> bool {
    let version = Command::new("node").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8(version).unwrap();
    let mut numbers = version.trim().trim_start_matches('v').split('.').map_while(|number| number.parse().ok());
    let is_new = numbers.next().zip(numbers.next()).is_some_and(|found| found >= NODE_MIN);
    if !is_new {
        let (major, minor) = NODE_MIN;
        println!("NOT RUN: there is no node of {major}.{minor} or newer, but {:?}", version.trim());
    }
    is_new
}

/// Runs the tests of a folder, and shows what they say.
fn run(folder: &str, flags: &[&str]) {
    let files = fs::read_dir(web().join(folder)).unwrap().flatten().map(|entry| entry.path());
    let tests: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(".test.js")).collect();
    assert!(!tests.is_empty(), "there are no tests in web/{folder}");
    let mut command = Command::new("node");
    command.args(flags).args(["--test", "--test-concurrency=1", "--test-reporter=tap"]).args(&tests);
    command.env("RINGPOST_PROGRAM", env!("CARGO_BIN_EXE_tested-ringpost")).current_dir(web());
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // What was measured, and what was not run.
    said.lines()
        .filter(|line| line.starts_with("# ") && !line.starts_with("# Subtest"))
        .for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_page_passes_its_tests_without_a_browser() {
    if has_node() {
        run("app/test", &["--import", "./app/test/hooks.js"]);
    }
}

#[test]
fn people_converse_with_real_browsers() {
    if !has_node() {
        return;
    }
    if !Path::new(&env::var("RINGPOST_CHROMIUM").unwrap_or(CHROMIUM.to_owned())).exists() {
        println!("NOT RUN: there is no browser at {CHROMIUM}, and RINGPOST_CHROMIUM names none");
        return;
    }
    run("e2e", &[]);
}
