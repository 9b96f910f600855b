//! Access: which users of this machine can read or write a file, and whether that will do. PURE, but for what asks the
//! kernel ([`Process::own`], [`Found::of`], [`check_folder`]), and for the names in messages.
//!
//! A **secret** comes in many ways: written by an operator, with a group that may read it (`ssl-cert`, `fsGroup` of Kubernetes),
//! or from systemd, with an access list. Whoever may write it must be root or the user of this process; whoever may read it, one
//! of these or a group that this process is in. Its path does not matter, nor do links: what counts is the file that was opened.
//! A **part** of the data folder is made by the server itself, so it belongs to the user of this process.
//!
//! root is trusted everywhere, with its group: it reads and writes everything anyway.

use std::{
    fmt,
    fs::{self, File, Metadata},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::fgetxattr,
    io::Errno,
    process::{getegid, geteuid, getgroups},
};
use thiserror::Error;

use crate::{
    limits::ACCESS_LIST_BYTES_MAX,
    operator::shell::{quoted, this_command},
};

const ROOT: u32 = 0;
const READ: u32 = 0o4;
const WRITE: u32 = 0o2;

/// Why a file or folder is not used. It is as it was before.
#[derive(Debug, Error)]
pub enum AccessError {
    /// Others may know the secret, or may have written it.
    #[error(
        "{path}: this secret is open to others: {fault} ({found}). It must belong to {owners}, be written by nobody else, and be read \
         by nobody else but a group that {own} is in. If no stranger has read it yet, {mend}",
        path = path.display()
    )]
    Secret {
        /// Which file.
        path: PathBuf,
        /// Who can do what.
        fault: Fault,
        /// Mode, owner and group.
        found: String,
        /// Whose it may be.
        owners: String,
        /// The user of this process.
        own: String,
        /// Commands that mend it, and leave this process its access.
        mend: String,
    },
    /// Others can look into a part of the data folder, or write to it.
    #[error("{path}: others on this machine can {what} ({found}): shut it with {mend}", path = path.display())]
    Open {
        /// Which file or folder.
        path: PathBuf,
        /// What they can do.
        what: &'static str,
        /// Mode, owner and group.
        found: String,
        /// The command that mends it.
        mend: String,
    },
    /// The data folder is that of another user.
    #[error(
        "{path}: this data folder belongs to {owner}, and this is {own}, whose files would be in the way there: run it as \
         `{command}`, or give the folder away, {mend}",
        path = path.display()
    )]
    NotOwner {
        /// Which folder.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// The user of this process.
        own: String,
        /// What was called, as that user.
        command: String,
        /// What makes it this user's.
        mend: String,
    },
    /// Something in the data folder is another user's.
    #[error("{path}: it belongs to {owner}, in a data folder of {own}: {mend}", path = path.display())]
    Foreign {
        /// Which file or folder.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// The user of this process.
        own: String,
        /// The command that mends it.
        mend: String,
    },
    /// The kernel did not say.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Who this process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its user.
    pub user: u32,
    /// Its first group.
    pub group: u32,
    /// All its groups.
    pub groups: Vec<u32>,
}

impl Process {
    /// This one.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn own() -> io::Result<Self> {
        let group = getegid().as_raw();
        let mut groups: Vec<_> = getgroups()?.into_iter().map(|group| group.as_raw()).collect();
        groups.push(group);
        Ok(Self { user: geteuid().as_raw(), group, groups })
    }

    fn trusts_user(&self, user: u32) -> bool {
        user == ROOT || user == self.user
    }

    fn is_in(&self, group: u32) -> bool {
        self.groups.contains(&group)
    }
}

/// What the kernel says of an open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Its permissions. With an access list, the bits of the group are the most that the list gives anybody.
    pub mode: u32,
    /// The access list, if it has one.
    pub list: Vec<Entry>,
}

/// An entry of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whom it is about.
    pub who: Who,
    /// What it allows, as the last three bits of a mode.
    pub bits: u32,
}

/// Somebody on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A user.
    User(u32),
    /// A group.
    Group(u32),
    /// All of them.
    Everybody,
}

impl Found {
    /// What the kernel says of this file.
    ///
    /// # Errors
    /// It does not say.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut list = [0; ACCESS_LIST_BYTES_MAX];
        let list = match fgetxattr(file, "system.posix_acl_access", &mut list) {
            Ok(bytes) => parse_list(&list[..bytes], metadata.gid()).ok_or(ErrorKind::InvalidData)?,
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { list, ..Self::from(&metadata) })
    }

    /// Everybody who may do this, beside root. The owner may always: the mode is the owner's to change.
    fn who_may(&self, bit: u32) -> Vec<Who> {
        let mut who = vec![Who::User(self.user)];
        // The bits of the group bound the list.
        if self.mode >> 3 & bit != 0 {
            if self.list.is_empty() {
                who.push(Who::Group(self.group));
            }
            who.extend(self.list.iter().filter(|entry| entry.bits & bit != 0).map(|entry| entry.who));
        }
        if self.mode & bit != 0 {
            who.push(Who::Everybody);
        }
        who
    }
}

impl From<&Metadata> for Found {
    fn from(metadata: &Metadata) -> Self {
        let mode = metadata.permissions().mode() & 0o7777;
        Self { user: metadata.uid(), group: metadata.gid(), mode, list: Vec::new() }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, group) = (Who::User(self.user), Who::Group(self.group));
        write!(f, "mode {:04o}, owner {user}, group {group}", self.mode)?;
        if self.list.is_empty() { Ok(()) } else { write!(f, ", with an access list") }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |f: &mut fmt::Formatter<'_>, file, id| match name_in(&fs::read_to_string(file).unwrap_or_default(), id) {
                Some(name) => write!(f, "{name} ({id})"),
                None => write!(f, "{id}"),
            };
        match *self {
            Self::User(id) => named(f, USERS, id),
            Self::Group(id) => named(f, GROUPS, id),
            Self::Everybody => write!(f, "everybody"),
        }
    }
}

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The name of a user or group in the text of one of these files.
fn name_in(text: &str, id: u32) -> Option<&str> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| fields.next().filter(|_| fields.nth(1) == Some(&id.to_string())))
}

/// What commands call a user or group.
fn word_for(file: &str, id: u32) -> String {
    name_in(&fs::read_to_string(file).unwrap_or_default(), id).map_or_else(|| id.to_string(), str::to_owned)
}

/// The entries of an access list beside those that a mode has for owner and others, as the kernel writes it: a version, then a
/// kind, bits and an id each. None if it is something else.
fn parse_list(bytes: &[u8], group: u32) -> Option<Vec<Entry>> {
    const VERSION: u32 = 2;
    let (version, entries) = bytes.split_first_chunk::<4>()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let mut list = Vec::new();
    for &[kind_0, kind_1, bits_0, bits_1, id @ ..] in entries {
        let id = u32::from_le_bytes(id);
        let who = match u16::from_le_bytes([kind_0, kind_1]) {
            // Owner, mask, others.
            0x01 | 0x10 | 0x20 => continue,
            0x02 => Who::User(id),
            0x04 => Who::Group(group),
            0x08 => Who::Group(id),
            _ => return None,
        };
        list.push(Entry { who, bits: u16::from_le_bytes([bits_0, bits_1]).into() });
    }
    Some(list)
}

/// What is wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It belongs to somebody else.
    Owner(u32),
    /// Somebody else can write it.
    Written(Who),
    /// Somebody else can read it.
    Read(Who),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |who: &Who| match who {
            Who::User(_) => "the user ",
            Who::Group(_) => "the group ",
            Who::Everybody => "",
        };
        match self {
            Self::Owner(user) => write!(f, "it belongs to {}", Who::User(*user)),
            Self::Written(who) => write!(f, "{}{who} can write it", kind(who)),
            Self::Read(who) => write!(f, "{}{who} can read it", kind(who)),
        }
    }
}

/// What is wrong with a secret, if anything.
#[must_use]
pub fn fault_of_secret(found: &Found, process: &Process) -> Option<Fault> {
    if !process.trusts_user(found.user) {
        return Some(Fault::Owner(found.user));
    }
    let writes = |who: &Who| matches!(*who, Who::User(user) if process.trusts_user(user));
    if let Some(who) = found.who_may(WRITE).into_iter().find(|who| !writes(who)) {
        return Some(Fault::Written(who));
    }
    let reads = |who: &Who| match *who {
        Who::User(user) => process.trusts_user(user),
        Who::Group(group) => group == ROOT || process.is_in(group),
        Who::Everybody => false,
    };
    found.who_may(READ).into_iter().find(|who| !reads(who)).map(Fault::Read)
}

/// Commands after which the secret has no fault and this process can still read it.
fn mend_secret(path: &Path, found: &Found, process: &Process) -> String {
    let path = quoted(path);
    let without_list = if found.list.is_empty() { String::new() } else { format!("setfacl -b {path} && ") };
    if found.user == process.user {
        // Without the bits of the group a list gives nobody anything.
        format!("`chmod 600 {path}`")
    } else if found.user != ROOT {
        format!("as root `chown {} {path} && chmod 600 {path}`", word_for(USERS, process.user))
    } else if process.is_in(found.group) {
        format!("as root `{without_list}chmod 640 {path}`")
    } else {
        format!("as root `{without_list}chgrp {} {path} && chmod 640 {path}`", word_for(GROUPS, process.group))
    }
}

/// Looks whether a file that has been opened at this path may be taken for a secret.
///
/// # Errors
/// Others can read or write it.
pub fn check_secret(path: &Path, file: &File) -> Result<(), Box<AccessError>> {
    let found = Found::of(file).map_err(|error| AccessError::Io { path: path.to_owned(), error })?;
    let process = own_process(path)?;
    match fault_of_secret(&found, &process) {
        None => Ok(()),
        Some(fault) => {
            let own = Who::User(process.user).to_string();
            let owners = if process.user == ROOT { own.clone() } else { format!("root or {own}") };
            let (found, mend) = (found.to_string(), mend_secret(path, &found, &process));
            Err(AccessError::Secret { path: path.to_owned(), fault, found, owners, own, mend }.into())
        }
    }
}

/// What others may do with a part of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Nothing.
    Private,
    /// Read it.
    Seen,
}

impl Privacy {
    /// The permissions that others must not have, and the same for `chmod`.
    const fn forbidden(self) -> (u32, &'static str) {
        match self {
            Self::Private => (0o077, "go-rwx"),
            Self::Seen => (0o022, "go-w"),
        }
    }
}

/// Looks whether a data folder belongs to the user of this process: what anybody else makes there, the server cannot use.
///
/// # Errors
/// It is another user's.
pub fn check_owner(folder: &Path) -> Result<(), Box<AccessError>> {
    let process = own_process(folder)?;
    let found = match fs::metadata(folder) {
        // A file lies above it: there is no folder either, and whoever makes or opens it says why not.
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(()),
        found => if_there(folder, found)?,
    };
    match found {
        Some(found) if found.uid() != process.user => Err(AccessError::NotOwner {
            path: folder.to_owned(),
            owner: Who::User(found.uid()).to_string(),
            own: Who::User(process.user).to_string(),
            command: command_as_owner_of(&found, &process),
            mend: give_away(folder, &process),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Looks whether a data folder belongs to the user of this process, with everything in these parts of it, and is kept from others.
/// A part that is not there is passed over.
///
/// # Errors
/// It is not.
pub fn check_folder(folder: &Path, parts: &[(&str, Privacy)]) -> Result<(), Box<AccessError>> {
    check_owner(folder)?;
    let process = own_process(folder)?;
    let mut inside = Vec::new();
    let parts = parts.iter().map(|(name, privacy)| (folder.join(name), *privacy));
    for (path, privacy) in [(folder.to_owned(), Privacy::Seen)].into_iter().chain(parts) {
        // An operator may have put a part on another disk, behind a link.
        let Some(found) = if_there(&path, fs::metadata(&path))? else { continue };
        check_own(&path, &found, folder, &process)?;
        let (forbidden, taken) = privacy.forbidden();
        if found.mode() & forbidden != 0 {
            let what = if found.mode() & 0o022 != 0 { "write to it" } else { "read it" };
            let mend = format!("`chmod {taken} {}`", quoted(&path));
            return Err(AccessError::Open { path, what, found: Found::from(&found).to_string(), mend }.into());
        }
        if found.is_dir() && path != folder {
            inside.push(path);
        }
    }
    // What a command of another user has left behind would be in the way as soon as it is opened.
    while let Some(path) = inside.pop() {
        let Some(entries) = if_there(&path, fs::read_dir(&path))? else { continue };
        for entry in entries {
            let entry = entry.map_err(|error| AccessError::Io { path: path.clone(), error })?;
            let Some(found) = if_there(&entry.path(), entry.metadata())? else { continue };
            // Of a part that is a volume of its own, this one is the file system's.
            if entry.file_name() == "lost+found" {
                continue;
            }
            check_own(&entry.path(), &found, folder, &process)?;
            if found.is_dir() {
                inside.push(entry.path());
            }
        }
    }
    Ok(())
}

fn check_own(path: &Path, found: &Metadata, folder: &Path, process: &Process) -> Result<(), Box<AccessError>> {
    if found.uid() == process.user {
        return Ok(());
    }
    let (owner, own) = (Who::User(found.uid()).to_string(), Who::User(process.user).to_string());
    Err(AccessError::Foreign { path: path.to_owned(), owner, own, mend: give_away(folder, process) }.into())
}

fn give_away(folder: &Path, process: &Process) -> String {
    format!("as root `chown -R {} {}`", word_for(USERS, process.user), quoted(folder))
}

fn own_process(path: &Path) -> Result<Process, Box<AccessError>> {
    Process::own().map_err(|error| AccessError::Io { path: path.to_owned(), error }.into())
}

/// None if there is no such file; a server that runs may just have removed it.
fn if_there<T>(path: &Path, asked: io::Result<T>) -> Result<Option<T>, Box<AccessError>> {
    match asked {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(AccessError::Io { path: path.to_owned(), error }.into()),
    }
}

/// What this process was called with, as the owner of the folder: only root can do without a password, and need not have sudo.
fn command_as_owner_of(folder: &Metadata, process: &Process) -> String {
    let (user, group) = (folder.uid(), folder.gid());
    let name = name_in(&fs::read_to_string(USERS).unwrap_or_default(), user).map(str::to_owned);
    this_command(&match (name, process.user) {
        (Some(name), ROOT) => format!("runuser -u {name} --"),
        (None, ROOT) => format!("setpriv --reuid {user} --regid {group} --clear-groups"),
        (Some(name), _) => format!("sudo -u {name}"),
        (None, _) => format!("sudo -u '#{user}'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 998;
    const OTHER: u32 = 1001;
    /// The first group of this process, another one that it is in, and one that it is not in.
    const FIRST: u32 = 998;
    const SHARED: u32 = 110;
    const STAFF: u32 = 50;

    fn process() -> Process {
        Process { user: OWN, group: FIRST, groups: vec![FIRST, SHARED] }
    }

    fn found(user: u32, group: u32, mode: u32) -> Found {
        Found { user, group, mode, list: Vec::new() }
    }

    fn listed(found: Found, list: &[(Who, u32)]) -> Found {
        Found { list: list.iter().map(|&(who, bits)| Entry { who, bits }).collect(), ..found }
    }

    #[test]
    fn a_secret_may_be_read_by_its_owner_and_the_services_groups_and_written_by_root_and_the_service() {
        use Fault::{Owner, Read, Written};
        use Who::{Everybody, Group, User};
        let of_root = |group, mode| found(ROOT, group, mode);
        let own = |mode| found(OWN, FIRST, mode);
        for (what, found, fault) in [
            ("made by the server", own(0o600), None),
            ("only to be read", own(0o400), None),
            ("with the service's own group", own(0o640), None),
            ("the group ssl-cert", of_root(SHARED, 0o640), None),
            ("fsGroup", of_root(SHARED, 0o440), None),
            ("of root alone, opened all the same", of_root(ROOT, 0o400), None),
            ("of root and its group", of_root(ROOT, 0o440), None),
            ("systemd: the user in a list", listed(of_root(ROOT, 0o440), &[(Group(ROOT), 0), (User(OWN), 4)]), None),
            ("for another group", of_root(STAFF, 0o640), Some(Read(Group(STAFF)))),
            ("own, for another group", found(OWN, STAFF, 0o640), Some(Read(Group(STAFF)))),
            ("for everybody", of_root(SHARED, 0o644), Some(Read(Everybody))),
            ("for everybody but the group", own(0o604), Some(Read(Everybody))),
            ("written by the group", of_root(SHARED, 0o660), Some(Written(Group(SHARED)))),
            ("written, not read", own(0o620), Some(Written(Group(FIRST)))),
            ("written by everybody", own(0o602), Some(Written(Everybody))),
            ("of another user", found(OTHER, FIRST, 0o600), Some(Owner(OTHER))),
            (
                "another user in a list",
                listed(own(0o640), &[(Group(FIRST), 4), (User(OTHER), 4)]),
                Some(Read(User(OTHER))),
            ),
            (
                "another group in a list",
                listed(own(0o640), &[(Group(FIRST), 0), (Group(STAFF), 6)]),
                Some(Read(Group(STAFF))),
            ),
            ("a list that the mode makes void", listed(own(0o600), &[(Group(FIRST), 6), (User(OTHER), 6)]), None),
            (
                "a list that writes",
                listed(own(0o660), &[(Group(FIRST), 4), (User(OTHER), 6)]),
                Some(Written(User(OTHER))),
            ),
        ] {
            assert_eq!(fault_of_secret(&found, &process()), fault, "{what}: {found:?}");
        }
    }

    /// Carries out what the commands of a message do, in a model.
    fn mended(found: &Found, commands: &str) -> Found {
        let mut found = found.clone();
        let commands = commands.split('`').nth(1).unwrap();
        for command in commands.split(" && ") {
            let words: Vec<_> = command.split(' ').collect();
            match words[..] {
                ["chmod", mode, _] => found.mode = u32::from_str_radix(mode, 8).unwrap(),
                ["chown", user, _] => found.user = user.parse().unwrap(),
                ["chgrp", group, _] => found.group = group.parse().unwrap(),
                ["setfacl", "-b", _] => found.list.clear(),
                _ => panic!("{command}"),
            }
        }
        found
    }

    #[test]
    fn what_a_message_advises_mends_the_secret_and_leaves_the_service_its_access() {
        // Ids that have no names, so that the commands have numbers.
        let process = Process { user: 4_000_001, group: 4_000_002, groups: vec![4_000_002, 4_000_003] };
        let lists = [vec![], vec![(Who::User(OTHER), 6), (Who::Group(STAFF), 4), (Who::User(process.user), 4)]];
        for user in [ROOT, process.user, OTHER] {
            for (group, list) in [ROOT, process.group, process.groups[1], STAFF].into_iter().zip(lists.iter().cycle()) {
                for mode in [0o644, 0o666, 0o640, 0o660, 0o604, 0o622, 0o777] {
                    let found = listed(found(user, group, mode), list);
                    let Some(fault) = fault_of_secret(&found, &process) else { continue };
                    let after = mended(&found, &mend_secret(Path::new("/key"), &found, &process));
                    assert_eq!(fault_of_secret(&after, &process), None, "{found:?}, {fault}, {after:?}");
                    let may_read = |who: Who| match who {
                        Who::User(user) => user == process.user,
                        Who::Group(group) => process.is_in(group),
                        Who::Everybody => true,
                    };
                    assert!(after.who_may(READ).into_iter().any(may_read), "{found:?}, {fault}, {after:?}");
                }
            }
        }
    }

    #[test]
    fn an_access_list_is_read_as_the_kernel_writes_it() {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (kind, bits, id) in [
            (1u16, 6u16, u32::MAX),
            (2, 4, OTHER),
            (4, 0, u32::MAX),
            (8, 5, STAFF),
            (0x10, 4, u32::MAX),
            (0x20, 0, u32::MAX),
        ] {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        let entry = |who, bits| Entry { who, bits };
        let list = [entry(Who::User(OTHER), 4), entry(Who::Group(SHARED), 0), entry(Who::Group(STAFF), 5)];
        assert_eq!(parse_list(&bytes, SHARED).as_deref(), Some(&list[..]));
        for cut in 1..bytes.len() {
            assert!(cut % 8 == 4 || parse_list(&bytes[..cut], SHARED).is_none(), "{cut}");
        }
        bytes[0] = 3;
        assert_eq!(parse_list(&bytes, SHARED), None);
    }

    #[test]
    fn users_and_groups_have_names_if_the_files_say_so() {
        let text = "root:x:0:0:root:/root:/bin/sh\nringpost:x:998:998::/var/lib/ringpost:/usr/sbin/nologin\nbroken\n";
        assert_eq!((name_in(text, 998), name_in(text, 99)), (Some("ringpost"), None));
        assert_eq!(Who::User(0).to_string(), "root (0)");
        assert_eq!(Who::Group(4_000_000_000).to_string(), "4000000000");
    }
}
