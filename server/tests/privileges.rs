//! The binary as an ordinary user, with the limits and the files that such a user has. What needs other users is tried as root
//! only: elsewhere these tests say SKIPPED.
#![expect(clippy::unwrap_used, reason = "a test that can not run has failed")]

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    fs::{XattrFlags, setxattr},
    io::Errno,
};
use server::limits::{CORE_FILES, PROCESS_FILES};

// As on a terminal: standard error is a pipe here.
const SERVE: [&str; 9] =
    ["serve", "--log-format", "text", "--config", "ringpost.toml", "--data", "data", "--listen", "127.0.0.1:0"];

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

    /// The binary, as the user.
    fn command(&self, arguments: &[&str]) -> Command {
        self.limited("-c 0", arguments)
    }

    /// The same, below this limit of the shell.
    fn limited(&self, limit: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit {limit} && exec \"$@\"")).arg("sh").arg(self.path("ringpost"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        command.uid(self.user).gid(self.user);
        command
    }

    fn serve(&self, limit: &str, cores: u16) -> Command {
        self.configure("");
        let cores = cores.to_string();
        self.limited(limit, &[&SERVE[..], &["--cores", &cores]].concat())
    }

    fn configure(&self, more: &str) {
        let config = "admin_listen = \"\"\ncores = 1\n[connections]\nmax = 1000\n[journal]\nsegment_bytes = 16777216\n";
        fs::write(self.path("ringpost.toml"), format!("{config}{more}")).unwrap();
    }

    /// A data folder that a server of the user has used.
    fn used(&self) -> PathBuf {
        self.configure("");
        drop(start(self.command(&SERVE)).unwrap());
        self.path("data")
    }

    /// As root: what a message says between backticks.
    fn obey(&self, message: &str) -> Output {
        let command = message.split('`').nth(1).unwrap_or_else(|| panic!("{message}"));
        Command::new("sh").args(["-c", command]).current_dir(self.folder.path()).output().unwrap()
    }
}

/// A server that serves, or how it ended.
fn start(mut command: Command) -> Result<Server, Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.contains("serves on") { Ok(Server(child)) } else { Err(child.wait_with_output().unwrap()) }
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap().lines().last().unwrap_or_default().to_owned()
}

/// What was said by a start that was refused in order.
fn refused(command: Command) -> String {
    let Err(output) = start(command) else { panic!("it serves") };
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    said(&output)
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

#[test]
fn a_data_folder_that_others_can_get_at_is_refused_and_the_message_mends_it() {
    let Some(world) = World::of_another_user() else { return };
    let data = world.used();
    assert!(world.command(&["revoke", "--user", "7", "--data", "data"]).status().unwrap().success());
    let parts = [
        ("", 0o777),
        ("", 0o720),
        ("journal", 0o777),
        ("journal", 0o711),
        ("store", 0o740),
        ("revocations", 0o644),
        ("audit.log", 0o666),
    ];
    for (part, mode) in parts {
        let part = data.join(part);
        fs::set_permissions(&part, Permissions::from_mode(mode)).unwrap();
        let said = refused(world.command(&SERVE));
        assert!(said.contains(part.to_str().unwrap().trim_end_matches('/')), "{said}");
        assert!(said.contains(&format!("mode {mode:04o}")), "{said}");
        assert!(world.obey(&said).status.success(), "{said}");
        drop(start(world.command(&SERVE)).unwrap());
    }
    // systemd's StateDirectory= is like that: its name may be listed by others, and no more.
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    drop(start(world.command(&SERVE)).unwrap());
}

#[test]
fn what_root_types_beside_the_servers_user_is_refused_with_the_command_that_does_it() {
    let Some(world) = World::of_another_user() else { return };
    let data = world.used();
    let as_root = |arguments: &[&str]| {
        let mut command = Command::new(world.path("ringpost"));
        command.args(arguments).current_dir(world.folder.path()).stdin(Stdio::null()).output().unwrap()
    };
    fs::remove_file(data.join("LOCK")).unwrap();
    for arguments in [
        &["revoke", "--user", "7", "--data", "data"][..],
        &["revocations", "--data", "data"],
        &["journal", "replay", "--data", "data"],
        &["journal", "verify", "--data", "data"],
        &["token", "--user", "7", "--data", "data"],
    ] {
        let refused = as_root(arguments);
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(said.contains(&format!("belongs to {}, and this is root (0)", world.user)), "{said}");
        let done = world.obey(&said);
        assert!(done.status.success(), "{said}: {done:?}");
    }
    let serves = as_root(&SERVE);
    assert_eq!(serves.status.code(), Some(1), "{serves:?}");
    assert!(said(&serves).contains("setpriv --reuid"), "{serves:?}");
    let foreign = data.join("journal").join("of-root");
    fs::write(&foreign, "").unwrap();
    let said = refused(world.command(&SERVE));
    assert!(said.contains("of-root: it belongs to root (0)"), "{said}");
    assert!(world.obey(&said).status.success(), "{said}");
    fs::remove_file(&foreign).unwrap();
    // That of a file system is not in the way.
    fs::create_dir(data.join("journal/lost+found")).unwrap();
    fs::create_dir(data.join("store/lost+found")).unwrap();
    drop(start(world.command(&SERVE)).unwrap());

    // A server that runs does it itself.
    let server = start(world.command(&SERVE)).unwrap();
    let revoked = as_root(&["revoke", "--user", "8", "--data", "data"]);
    assert!(revoked.status.success(), "{revoked:?}");
    drop(server);
    drop(start(world.command(&SERVE)).unwrap());
}

#[test]
fn secrets_are_taken_as_groups_and_systemd_deliver_them_and_not_from_others() {
    let Some(world) = World::of_another_user() else { return };
    world.used();
    world.configure("[auth]\nkey_file = \"links/current/key.pem\"\n");
    // As Kubernetes has it: a link to a folder behind a link.
    let key = world.path("key.pem");
    fs::create_dir(world.path("links")).unwrap();
    symlink(world.folder.path(), world.path("links/current")).unwrap();
    let token =
        || world.command(&["token", "--user", "7", "--config", "ringpost.toml", "--data", "data"]).output().unwrap();
    let (user, other) = (world.user, world.user + 1);
    for (owner, group, mode, list, good) in [
        (user, user, 0o600, None, true),
        (0, user, 0o640, None, true),
        (0, user, 0o440, None, true),
        (0, 0, 0o440, Some(user), true),
        (0, user, 0o640, Some(other), false),
        (0, user, 0o644, None, false),
        (0, user, 0o660, None, false),
        (0, 0, 0o644, None, false),
        (other, user, 0o640, None, false),
    ] {
        let _ = fs::remove_file(&key);
        fs::copy(world.path("data/token-key.pem"), &key).unwrap();
        chown(&key, Some(owner), Some(group)).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        if let Some(reader) = list
            && !give_by_list(&key, reader, mode)
        {
            eprintln!("SKIPPED: this file system has no access lists");
            continue;
        }
        let minted = token();
        assert_eq!(minted.status.success(), good, "{owner} {group} {mode:o} {list:?}: {minted:?}");
        if !good {
            let said = said(&minted);
            assert!(said.contains(&format!("mode {mode:04o}, owner ")), "{said}");
            if list.is_none() {
                assert!(world.obey(&said).status.success(), "{said}");
                assert!(token().status.success(), "{said}");
            }
        }
    }
}

/// Gives a user the right to read, as `setfacl -m u:USER:r` does and systemd. False if there is no such thing here.
fn give_by_list(path: &Path, user: u32, mode: u32) -> bool {
    let group = u16::try_from(mode >> 3 & 7).unwrap();
    let mut list = 2u32.to_le_bytes().to_vec();
    for (kind, bits, id) in
        [(1u16, 6, u32::MAX), (2, 4, user), (4, group, u32::MAX), (0x10, 4, u32::MAX), (0x20, 0, u32::MAX)]
    {
        list.extend([kind.to_le_bytes(), bits.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    match setxattr(path, "system.posix_acl_access", &list, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => false,
        given => {
            given.unwrap();
            true
        }
    }
}

#[test]
fn a_start_without_enough_open_files_says_how_many_are_needed_and_so_many_will_do() {
    let Some(world) = World::of_another_user() else { return };
    for limit in [64, 256] {
        let said = refused(world.serve(&format!("-n {limit}"), 2));
        assert!(said.contains(&format!("may have {limit} files open")), "{said}");
        let (_, rest) = said.split_once(" needs ").unwrap();
        let needed: u64 = rest.split_once(" at least").unwrap().0.parse().unwrap();
        refused(world.serve(&format!("-n {}", needed - 1), 2));
        assert!(!world.path("data").exists());
        drop(start(world.serve(&format!("-n {needed}"), 2)).unwrap());
        fs::remove_dir_all(world.path("data")).unwrap();
    }
}

#[test]
fn a_core_has_as_many_files_open_as_are_reckoned_for_it() {
    let Some(world) = World::of_another_user() else { return };
    let [one, four] = [1, 4].map(|cores| {
        let Server(server) = &start(world.serve("-c 0", cores)).unwrap();
        // The cores make the last of them when they begin to turn.
        thread::sleep(Duration::from_millis(300));
        let files = fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
        let names = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        // How many segments of the journal are open is nothing of the cores'.
        names.filter(|name| !name.starts_with(world.path("data"))).count()
    });
    assert!(one <= (PROCESS_FILES + CORE_FILES) as usize, "{one}");
    assert!(four - one <= 3 * CORE_FILES as usize, "{one} {four}");
}
