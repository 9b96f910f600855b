//! The binary as an ordinary user, with the limits and the files that such a user has. What needs other users is tried as root
//! only: elsewhere these tests say SKIPPED.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// A folder with the binary in it, where users find it who cannot look into that of the build.
struct World {
    folder: tempfile::TempDir,
    user: u32,
}

impl World {
    /// For a user that nothing else on the machine has: what the kernel counts by user is this test's alone. None if this
    /// process may not become another user.
    fn of_another_user() -> Option<Self> {
        let uid = fs::metadata("/proc/self").unwrap().uid();
        if uid != 0 {
            eprintln!("SKIPPED: only root can become another user");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("ringpost");
        let built = Path::new(env!("CARGO_BIN_EXE_ringpost"));
        fs::hard_link(built, &own).or_else(|_| fs::copy(built, &own).map(drop)).unwrap();
        let inode = u32::try_from(folder.path().metadata().unwrap().ino() % 40_000).unwrap();
        let world = Self { folder, user: 20_000 + inode };
        world.give(world.folder.path());
        Some(world)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes this the user's.
    fn give(&self, path: &Path) {
        chown(path, Some(self.user), Some(self.user)).unwrap();
    }

    /// The binary, as the user, below this limit of the shell.
    fn limited(&self, limit: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit {limit} && exec \"$@\"")).arg("sh").arg(self.path("ringpost"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command.uid(self.user).gid(self.user);
        command
    }

    fn serve(&self, limit: &str, cores: u16) -> Command {
        let config = "admin_listen = \"\"\n[connections]\nmax = 1000\n[journal]\nsegment_bytes = 16777216\n";
        fs::write(self.path("ringpost.toml"), config).unwrap();
        let cores = cores.to_string();
        let options = ["--config", "ringpost.toml", "--data", "data", "--listen", "127.0.0.1:0", "--cores"];
        self.limited(limit, &[&["serve"], &options[..], &[&cores]].concat())
    }
}

/// A server that serves, or how it ended.
fn start(mut command: Command) -> Result<Server, Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.contains("serves on") { Ok(Server(child)) } else { Err(child.wait_with_output().unwrap()) }
}

/// What was said by a start that was refused in order.
fn refused(command: Command) -> String {
    let Err(output) = start(command) else { panic!("it serves") };
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_start_without_enough_locked_memory_says_how_much_is_needed_and_so_much_will_do() {
    let Some(world) = World::of_another_user() else { return };
    if start(world.serve("-l 0", 1)).is_ok() {
        eprintln!("SKIPPED: this kernel does not count the memory of rings");
        return;
    }
    for cores in [1, 3] {
        let said = refused(world.serve("-l 400", cores));
        let (_, rest) = said.split_once(" need ").unwrap_or_else(|| panic!("{said}"));
        let needed_kib: u64 = rest.split_once(" KiB of locked memory").unwrap().0.parse().unwrap();
        let short = refused(world.serve(&format!("-l {}", needed_kib - 4), cores));
        assert!(short.contains(&format!(" need {needed_kib} KiB")), "{short}");
        assert_eq!(short.contains(&format!("--cores {}", cores - 1)), cores > 1, "{short}");
        let _server = start(world.serve(&format!("-l {needed_kib}"), cores)).unwrap();
    }
}
