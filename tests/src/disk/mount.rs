//! The kernel's requests, answered from a tree under the faults that are in force.
//!
//! Nothing is cached by the kernel: every open file is in direct mode, names and attributes are good for no time. One
//! thread answers, and never waits: a sync that hangs is answered by a thread of its own. Locks are the kernel's.

use std::{
    ffi::OsStr,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::{
    Shared, State,
    tree::{Content, Kind, Names, Number},
};

/// Nothing that the kernel is told stays true.
const NO_TIME: Duration = Duration::ZERO;

/// A disk as the kernel sees it.
pub(super) struct Mount(pub(super) Arc<Shared>);

impl State {
    fn attributes(&mut self, number: Number) -> Result<FileAttr, Errno> {
        let node = self.tree.node(number).ok_or(Errno::ESTALE)?;
        let (kind, size, allocated) = match &node.kind {
            Kind::File(content) => (FileType::RegularFile, content.size(), content.allocated()),
            Kind::Folder(_) => (FileType::Directory, 0, 0),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: allocated / 512,
            atime: node.modified,
            mtime: node.modified,
            ctime: node.modified,
            crtime: node.modified,
            kind,
            perm: node.mode,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn names(&mut self, folder: Number) -> Result<&mut Names, Errno> {
        self.powered()?;
        self.tree.names(folder).ok_or(Errno::ESTALE)
    }

    fn content(&mut self, file: Number) -> Result<&mut Content, Errno> {
        self.powered()?;
        self.tree.content(file).ok_or(Errno::ESTALE)
    }

    fn find(&mut self, folder: Number, name: &str) -> Result<Number, Errno> {
        self.names(folder)?.get(name).ok_or(Errno::ENOENT)
    }

    fn make(&mut self, folder: Number, name: &str, mode: u32, kind: Kind) -> Result<FileAttr, Errno> {
        if self.names(folder)?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.may_make(folder)?;
        let number = self.tree.add(folder, name, (mode & 0o7777) as u16, kind);
        self.names(folder)?.change(&[(name, Some(number))]);
        self.attributes(number)
    }

    fn remove(&mut self, folder: Number, name: &str) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        self.may_change(folder)?;
        if self.tree.names(number).is_some_and(|inside| !inside.is_empty()) {
            return Err(Errno::ENOTEMPTY);
        }
        self.names(folder)?.change(&[(name, None)]);
        Ok(())
    }

    /// Within one folder, which is all that is needed, and one change.
    fn rename(&mut self, folder: Number, name: &str, new_name: &str, flags: RenameFlags) -> Result<(), Errno> {
        let number = self.find(folder, name)?;
        self.may_change(folder)?;
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        let names = self.names(folder)?;
        if !flags.is_empty() && names.get(new_name).is_some() {
            return Err(Errno::EEXIST);
        }
        names.change(&[(name, None), (new_name, Some(number))]);
        self.tree.moved(number, folder, new_name);
        Ok(())
    }

    fn link(&mut self, number: Number, folder: Number, name: &str) -> Result<FileAttr, Errno> {
        self.may_make(folder)?;
        let names = self.names(folder)?;
        if names.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        names.change(&[(name, Some(number))]);
        self.attributes(number)
    }

    fn open(&mut self, number: Number, flags: OpenFlags) -> Result<(), Errno> {
        self.powered()?;
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            self.may_change(number)?;
        }
        self.tree.node(number).ok_or(Errno::ESTALE)?.open += 1;
        Ok(())
    }

    fn write(&mut self, number: Number, offset: u64, bytes: &[u8]) -> Result<u32, Errno> {
        let count = self.may_write(number, offset, bytes.len() as u64)?;
        self.content(number)?.write(offset, &bytes[..count as usize]);
        if let Some(node) = self.tree.node(number) {
            node.modified = SystemTime::now();
        }
        Ok(count as u32)
    }

    fn set(&mut self, number: Number, mode: Option<u32>, size: Option<u64>) -> Result<FileAttr, Errno> {
        self.powered()?;
        self.may_change(number)?;
        if let Some(size) = size {
            self.content(number)?.resize(size);
        }
        if let Some(mode) = mode {
            self.tree.node(number).ok_or(Errno::ESTALE)?.mode = (mode & 0o7777) as u16;
        }
        self.attributes(number)
    }
}

fn text(name: &OsStr) -> &str {
    name.to_str().unwrap_or_default()
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(found: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match found {
        Ok(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
        Err(error) => reply.error(error),
    }
}

fn attr(found: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match found {
        Ok(attributes) => reply.attr(&NO_TIME, &attributes),
        Err(error) => reply.error(error),
    }
}

impl Mount {
    fn sync(&self, number: Number, reply: ReplyEmpty) {
        let mut state = self.0.state.lock();
        if !state.hangs(number) {
            return empty(state.sync(number), reply);
        }
        drop(state);
        let shared = Arc::clone(&self.0);
        thread::spawn(move || {
            let mut state = shared.state.lock();
            while state.hangs(number) {
                shared.changed.wait(&mut state);
            }
            empty(state.sync(number), reply);
        });
    }
}

impl Filesystem for Mount {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.0.state.lock();
        let found = state.find(parent.0, text(name)).and_then(|number| state.attributes(number));
        entry(found, reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = self.0.state.lock();
        let found = state.powered().and_then(|()| state.attributes(ino.0));
        attr(found, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        attr(self.0.state.lock().set(ino.0, mode, size), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let kind = Kind::Folder(Names::default());
        entry(self.0.state.lock().make(parent.0, text(name), mode & !umask, kind), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.state.lock().remove(parent.0, text(name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.0.state.lock().remove(parent.0, text(name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if parent != newparent {
            return reply.error(Errno::EXDEV);
        }
        empty(self.0.state.lock().rename(parent.0, text(name), text(newname), flags), reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        entry(self.0.state.lock().link(ino.0, newparent.0, text(newname)), reply);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, _: i32, reply: ReplyCreate) {
        let mut state = self.0.state.lock();
        match state.make(parent.0, text(name), mode & !umask, Kind::File(Content::default())) {
            Ok(attributes) => {
                if let Some(node) = state.tree.node(attributes.ino.0) {
                    node.open += 1;
                }
                reply.created(&NO_TIME, &attributes, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.0.state.lock().open(ino.0, flags) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.0.state.lock();
        let read = state.may_read(ino.0).and_then(|()| Ok(state.content(ino.0)?.read(offset, size.into())));
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.0.state.lock().write(ino.0, offset, data) {
            Ok(count) => reply.written(count),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        if let Some(node) = self.0.state.lock().tree.node(ino.0) {
            // What was open before a power loss is closed later.
            node.open = node.open.saturating_sub(1);
        }
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.sync(ino.0, reply);
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // What a listing shows is what was there when it was begun.
        let mut state = self.0.state.lock();
        let listed = state.names(ino.0).map(|names| names.entries().map(|(name, n)| (name.clone(), n)).collect());
        match listed {
            Ok(listed) => reply.opened(FileHandle(state.list(listed)), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut state = self.0.state.lock();
        let listed = state.listings.get(&fh.0).cloned().unwrap_or_default();
        for (index, (name, number)) in listed.iter().enumerate().skip(offset as usize) {
            let kind = if state.tree.names(*number).is_some() { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(*number), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, fh: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.0.state.lock().listings.remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        // Of no meaning: what has room is decided by the faults.
        let (blocks, files) = (1 << 30, 1 << 20);
        reply.statfs(blocks, blocks, blocks, files, files, 4096, 255, 4096);
    }
}
