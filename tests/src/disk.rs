//! A disk that fails on demand: a file system in this process's memory, mounted with FUSE, on which a real server works.
//!
//! What a server does with files goes through the kernel to here, whichever way it asks, its ring included. The disk knows
//! what has been synced (see `disk::tree` for what that promises), so that it can lose its power: everything that was
//! synced stays, and of the rest a random part, torn. Other faults are rules: for which paths what goes wrong, until healed.

mod mount;
mod tree;

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use fuser::{BackgroundSession, Config, Errno, MountOption};
use parking_lot::{Condvar, Mutex};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use self::{
    mount::Mount,
    tree::{Kind, Number, Tree},
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing new has room (ENOSPC): no name, and no byte where none was. What is there can be overwritten.
    Full,
    /// Nothing has room, as on file systems that never write in place.
    FullForAll,
    /// Nothing can be changed (EROFS), as after an error that the kernel has seen.
    ReadOnly,
    /// Writes fail (EIO).
    Write,
    /// Reads fail (EIO).
    Read,
    /// Syncs fail (EIO), and what was to be synced is gone in part, as Linux does it: the next sync says nothing of it.
    Sync,
    /// Syncs wait until this is healed.
    SyncHangs,
    /// Syncs succeed and nothing becomes durable.
    SyncLies,
    /// The power fails with a change or a sync.
    PowerCut,
}

/// See the head of this file. Unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The faults or the power.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    tree: Tree,
    rng: StdRng,
    rules: Vec<Rule>,
    /// Requests that met a fault since it was set.
    met: u64,
    /// Syncs that were done, for whoever wants to know that they come here.
    synced: u64,
    is_on: bool,
    /// Bytes that all files together may take.
    bytes_max: u64,
    owner: (u32, u32),
    /// Folders that are being listed, by handle.
    listings: HashMap<u64, Vec<(String, Number)>>,
    next_listing: u64,
}

#[derive(Debug)]
struct Rule {
    /// Paths that contain it.
    part: String,
    fault: Fault,
    /// How many requests are spared first.
    spared: u64,
    /// How often it is still met.
    left: u64,
}

impl Disk {
    /// An empty disk, mounted on a folder that is made for it. None, with the reason printed, where FUSE is not to be had.
    ///
    /// # Panics
    /// The folder can not be made.
    #[must_use]
    pub fn new(path: PathBuf, seed: u64) -> Option<Self> {
        std::fs::create_dir(&path).expect("the folder of the disk can be made");
        let owner = path.metadata().map(|folder| (folder.uid(), folder.gid())).expect("it is there");
        let state = State {
            tree: Tree::new(),
            rng: StdRng::seed_from_u64(seed),
            rules: Vec::new(),
            met: 0,
            synced: 0,
            is_on: true,
            bytes_max: u64::MAX,
            owner,
            listings: HashMap::new(),
            next_listing: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("ringpost-test".to_owned()), MountOption::NoAtime];
        match fuser::spawn_mount(Mount(Arc::clone(&shared)), &path, &config) {
            Ok(session) => Some(Self { path, shared, session: Some(session) }),
            Err(error) => {
                println!("SKIPPED: no FUSE file system can be mounted here ({error}): root and /dev/fuse are needed");
                None
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets something go wrong until it is healed, for files and folders whose path contains `part`, such as `data/store` or
    /// `.journal`. Of several rules for one request the first holds.
    pub fn fail(&self, part: &str, fault: Fault) {
        self.add(Rule { part: part.to_owned(), fault, spared: 0, left: u64::MAX });
    }

    /// Lets one such request go wrong, after `spared` others.
    pub fn fail_once_after(&self, spared: u64, part: &str, fault: Fault) {
        self.add(Rule { part: part.to_owned(), fault, spared, left: 1 });
    }

    fn add(&self, rule: Rule) {
        let mut state = self.shared.state.lock();
        state.rules.push(rule);
        state.met = 0;
    }

    /// From now on there is room for so many bytes more, and for those of files that are removed.
    pub fn leave_room(&self, bytes: u64) {
        let mut state = self.shared.state.lock();
        state.bytes_max = state.tree.allocated() + bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.state.lock().tree.allocated()
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        let mut state = self.shared.state.lock();
        state.rules.clear();
        state.bytes_max = u64::MAX;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Whether the power has not been cut.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.state.lock().is_on
    }

    /// How many requests have met a fault since the last one was set.
    #[must_use]
    pub fn met(&self) -> u64 {
        self.shared.state.lock().met
    }

    /// How many syncs have been done.
    #[must_use]
    pub fn synced(&self) -> u64 {
        self.shared.state.lock().synced
    }

    /// From now on nothing works, and nothing more becomes durable.
    pub fn cut_power(&self) {
        self.shared.state.lock().is_on = false;
        // Who waits for a sync learns it, or could not be killed.
        self.shared.changed.notify_all();
    }

    /// Works again, with what is durable. Whoever had files open has lost them.
    ///
    /// # Panics
    /// The power was not cut.
    pub fn restore_power(&self) {
        let state = &mut *self.shared.state.lock();
        assert!(!state.is_on, "there is power");
        // Often all or nothing: most of what goes wrong needs one of the two.
        let keep = [0.0, 0.2, 0.5, 0.9, 1.0][state.rng.random_range(0..5)];
        let lies = |path: &str| state.rules.iter().any(|rule| rule.is_for(path, Fault::SyncLies));
        state.tree.lose_power(&mut state.rng, |path| if lies(path) { 0.0 } else { keep });
        state.is_on = true;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nobody who waits for a sync can be killed.
        self.cut_power();
        // Lazily, for what still has files open: a ring is taken apart some time after its process. By the helper if this is
        // not root.
        let unmounts = [("umount", &["-l"][..]), ("fusermount3", &["-u", "-z"])];
        let _ = unmounts.iter().any(|(program, flags)| {
            let mut command = Command::new(program);
            command.args(*flags).arg(&self.path).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        drop(self.session.take());
    }
}

impl Rule {
    fn is_for(&self, path: &str, fault: Fault) -> bool {
        self.fault == fault && self.left > 0 && path.contains(&self.part)
    }
}

impl State {
    fn powered(&self) -> Result<(), Errno> {
        if self.is_on { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Whether a request meets one of these faults.
    fn meets(&mut self, number: Number, faults: &[Fault]) -> Option<Fault> {
        let path = self.tree.path(number);
        let mut rules = self.rules.iter_mut();
        let rule = rules.find(|rule| faults.iter().any(|fault| rule.is_for(&path, *fault)))?;
        if rule.spared > 0 {
            rule.spared -= 1;
            return None;
        }
        rule.left -= 1;
        self.met += 1;
        Some(rule.fault)
    }

    fn may_change(&mut self, number: Number) -> Result<(), Errno> {
        match self.meets(number, &[Fault::ReadOnly, Fault::PowerCut]) {
            None => Ok(()),
            Some(Fault::PowerCut) => {
                self.is_on = false;
                Err(Errno::EIO)
            }
            Some(_) => Err(Errno::EROFS),
        }
    }

    fn may_make(&mut self, folder: Number) -> Result<(), Errno> {
        self.powered()?;
        self.may_change(folder)?;
        match self.meets(folder, &[Fault::Full, Fault::FullForAll]) {
            Some(_) => Err(Errno::ENOSPC),
            None => Ok(()),
        }
    }

    fn may_read(&mut self, number: Number) -> Result<(), Errno> {
        self.powered()?;
        match self.meets(number, &[Fault::Read]) {
            Some(_) => Err(Errno::EIO),
            None => Ok(()),
        }
    }

    /// How many of the bytes can be written, of which there is at least one.
    fn may_write(&mut self, number: Number, offset: u64, bytes: u64) -> Result<u64, Errno> {
        self.powered()?;
        self.may_change(number)?;
        let content = self.tree.content(number).ok_or(Errno::ESTALE)?;
        let in_place = content.writable_in_place(offset, bytes);
        let faults = [Fault::Write, Fault::FullForAll, Fault::Full];
        let relevant = if in_place < bytes { &faults[..] } else { &faults[..2] };
        let is_limited = in_place < bytes && self.bytes_max < u64::MAX;
        let room = if is_limited { self.bytes_max.saturating_sub(self.tree.allocated()) } else { u64::MAX };
        match self.meets(number, relevant) {
            None if room < bytes - in_place + 2 * tree::BLOCK_BYTES as u64 => match in_place {
                0 => Err(Errno::ENOSPC),
                in_place => Ok(in_place),
            },
            None => Ok(bytes),
            Some(Fault::Full) if in_place > 0 => Ok(in_place),
            Some(Fault::Full | Fault::FullForAll) => Err(Errno::ENOSPC),
            Some(_) => Err(Errno::EIO),
        }
    }

    fn hangs(&mut self, number: Number) -> bool {
        self.is_on && self.meets(number, &[Fault::SyncHangs]).is_some()
    }

    fn sync(&mut self, number: Number) -> Result<(), Errno> {
        self.powered()?;
        let met = self.meets(number, &[Fault::Sync, Fault::SyncLies, Fault::PowerCut]);
        let node = self.tree.node(number).ok_or(Errno::ESTALE)?;
        match (met, &mut node.kind) {
            (None, Kind::File(content)) => content.sync(),
            (None, Kind::Folder(names)) => names.sync(),
            (Some(Fault::SyncLies), _) => return Ok(()),
            (Some(Fault::PowerCut), _) => {
                self.is_on = false;
                return Err(Errno::EIO);
            }
            (Some(_), Kind::File(content)) => {
                content.settle(&mut self.rng, 0.5);
                return Err(Errno::EIO);
            }
            // Names stay as they are seen: the disk may have them or not.
            (Some(_), Kind::Folder(_)) => return Err(Errno::EIO),
        }
        self.synced += 1;
        if matches!(node.kind, Kind::Folder(_)) {
            self.tree.collect();
        }
        Ok(())
    }

    fn list(&mut self, entries: Vec<(String, Number)>) -> u64 {
        self.next_listing += 1;
        self.listings.insert(self.next_listing, entries);
        self.next_listing
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
        os::unix::fs::FileExt as _,
    };

    use super::*;

    struct World {
        disk: Disk,
        _folder: tempfile::TempDir,
    }

    impl World {
        fn new() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let disk = Disk::new(folder.path().join("disk"), 1)?;
            Some(Self { disk, _folder: folder })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.disk.path().join(name)
        }

        fn sync_folder(&self) {
            File::open(self.disk.path()).unwrap().sync_all().unwrap();
        }

        fn lose_power(&self) {
            self.disk.cut_power();
            self.disk.restore_power();
        }
    }

    #[test]
    fn it_is_a_file_system() {
        let Some(world) = World::new() else { return };
        fs::create_dir(world.path("folder")).unwrap();
        fs::write(world.path("folder/a"), "text").unwrap();
        fs::rename(world.path("folder/a"), world.path("folder/b")).unwrap();
        fs::hard_link(world.path("folder/b"), world.path("folder/c")).unwrap();
        fs::remove_file(world.path("folder/b")).unwrap();
        assert_eq!(fs::read_to_string(world.path("folder/c")).unwrap(), "text");
        let mut file = File::options().append(true).open(world.path("folder/c")).unwrap();
        file.write_all(&[b'x'; 300_000]).unwrap();
        file.set_len(200_000).unwrap();
        assert_eq!(fs::read(world.path("folder/c")).unwrap().len(), 200_000);
        file.lock().unwrap();
        assert!(File::open(world.path("folder/c")).unwrap().try_lock().is_err());
        let names: Vec<_> = fs::read_dir(world.path("folder")).unwrap().map(|name| name.unwrap().file_name()).collect();
        assert_eq!(names, ["c"]);
        assert!(fs::remove_dir(world.path("folder")).is_err());
        fs::remove_file(world.path("folder/c")).unwrap();
        fs::remove_dir(world.path("folder")).unwrap();
    }

    #[test]
    fn a_power_loss_keeps_what_was_synced_and_nothing_that_was_open() {
        let Some(world) = World::new() else { return };
        let file = File::create(world.path("a")).unwrap();
        file.write_all_at(b"durable", 0).unwrap();
        file.sync_all().unwrap();
        world.sync_folder();
        world.disk.cut_power();
        assert!(file.write_all_at(b"too late", 0).is_err() && file.sync_all().is_err());
        world.disk.restore_power();
        assert!(file.write_all_at(b"of before", 0).is_err());
        assert_eq!(fs::read_to_string(world.path("a")).unwrap(), "durable");
    }

    #[test]
    fn a_synced_file_without_a_synced_name_may_be_lost() {
        let Some(world) = World::new() else { return };
        let mut lost = 0;
        for round in 0..50 {
            let path = world.path(&round.to_string());
            File::create(&path).unwrap().sync_all().unwrap();
            world.lose_power();
            lost += u32::from(!path.exists());
        }
        assert!(0 < lost && lost < 50, "{lost}");
    }

    #[test]
    fn a_lying_sync_keeps_nothing() {
        let Some(world) = World::new() else { return };
        world.disk.fail("", Fault::SyncLies);
        File::create(world.path("a")).unwrap().sync_all().unwrap();
        world.sync_folder();
        world.lose_power();
        assert!(!world.path("a").exists());
    }

    #[test]
    fn faults_are_met_by_their_paths_until_healed() {
        let Some(world) = World::new() else { return };
        let file = File::create(world.path("a")).unwrap();
        let other = File::create(world.path("b")).unwrap();
        let code = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        file.write_all_at(&[1; 5_000], 0).unwrap();
        world.disk.fail("a", Fault::Full);
        file.write_all_at(&[2; 10_000], 0).unwrap_err();
        assert_eq!(file.metadata().unwrap().len(), 8_192, "a short write, and then an error");
        file.write_all_at(&[2; 4_096], 4_096).unwrap();
        world.disk.heal();
        for (fault, expected) in
            [(Fault::FullForAll, Errno::ENOSPC), (Fault::ReadOnly, Errno::EROFS), (Fault::Write, Errno::EIO)]
        {
            world.disk.fail("a", fault);
            assert_eq!(code(file.write_all_at(b"x", 0)), Some(i32::from(expected)), "{fault:?}");
            other.write_all_at(b"x", 0).unwrap();
            world.disk.heal();
            file.write_all_at(b"x", 0).unwrap();
        }
        world.disk.fail_once_after(1, "a", Fault::Sync);
        let syncs = [(); 3].map(|()| file.sync_all().is_ok());
        assert_eq!(syncs, [true, false, true]);
        assert_eq!(world.disk.met(), 1);
    }
}
