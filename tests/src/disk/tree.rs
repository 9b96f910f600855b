//! Files and folders as values: what programs see, and what the disk would have if the power failed now.
//!
//! The model is what POSIX promises and no more. A sync of a file makes its bytes and its size durable, not its name; a
//! sync of a folder makes the names in it durable. Until then each 512-byte sector is on the disk or not, the size likewise,
//! and of the changes of a folder any first part. Real file systems keep more; who relies on that, fails here.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::SystemTime,
};

use rand::{Rng, RngExt as _};

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// The unit of sharing between what is seen and what is durable: a page.
pub(super) const BLOCK_BYTES: usize = 4096;

type Block = Arc<[u8; BLOCK_BYTES]>;

const NOTHING: &[u8; BLOCK_BYTES] = &[0; BLOCK_BYTES];

/// Number of a file or folder. Never used twice.
pub(super) type Number = u64;

/// The number that the kernel gives the root.
pub(super) const ROOT: Number = 1;

/// What a power loss adds to all other numbers: more than are ever given between two of them.
const EPOCH: Number = 1 << 32;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Number, Node>,
    next: Number,
}

#[derive(Debug)]
pub(super) struct Node {
    /// Where it was last given a name.
    place: (Number, String),
    pub(super) mode: u16,
    pub(super) modified: SystemTime,
    pub(super) open: u32,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Content),
    Folder(Names),
}

/// The bytes of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    size: u64,
    blocks: BTreeMap<u64, Block>,
    /// What the disk has in the place of blocks that were changed since the last sync.
    unsynced: BTreeMap<u64, Option<Block>>,
    synced_size: u64,
}

/// The names in a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    entries: BTreeMap<String, Number>,
    /// For every change since the last sync, in order, what its names meant before.
    unsynced: Vec<Vec<(String, Option<Number>)>>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut tree = Self { nodes: BTreeMap::new(), next: ROOT };
        tree.add(ROOT, "", 0o700, Kind::Folder(Names::default()));
        tree
    }

    /// A node without an entry.
    pub(super) fn add(&mut self, folder: Number, name: &str, mode: u16, kind: Kind) -> Number {
        let number = self.next;
        self.next += 1;
        let place = (folder, name.to_owned());
        self.nodes.insert(number, Node { place, mode, modified: SystemTime::now(), open: 0, kind });
        number
    }

    pub(super) fn node(&mut self, number: Number) -> Option<&mut Node> {
        self.nodes.get_mut(&number)
    }

    pub(super) fn content(&mut self, number: Number) -> Option<&mut Content> {
        match &mut self.node(number)?.kind {
            Kind::File(content) => Some(content),
            Kind::Folder(_) => None,
        }
    }

    pub(super) fn names(&mut self, number: Number) -> Option<&mut Names> {
        match &mut self.node(number)?.kind {
            Kind::Folder(names) => Some(names),
            Kind::File(_) => None,
        }
    }

    pub(super) fn moved(&mut self, number: Number, folder: Number, name: &str) {
        if let Some(node) = self.node(number) {
            node.place = (folder, name.to_owned());
        }
    }

    /// Bytes that all files take that have a name or are open.
    pub(super) fn allocated(&self) -> u64 {
        let is_folder = |node: &&Node| matches!(node.kind, Kind::Folder(_));
        let named = self.nodes.values().filter(is_folder).flat_map(|node| match &node.kind {
            Kind::Folder(names) => names.entries.values().copied().collect(),
            Kind::File(_) => Vec::new(),
        });
        let open = self.nodes.iter().filter(|(_, node)| node.open > 0).map(|(number, _)| *number);
        let taken: BTreeSet<Number> = named.chain(open).collect();
        let bytes = |number| match self.nodes.get(number).map(|node| &node.kind) {
            Some(Kind::File(content)) => content.allocated(),
            Some(Kind::Folder(_)) | None => 0,
        };
        taken.iter().map(bytes).sum()
    }

    /// From the root, such as `data/journal/7`; empty for the root.
    pub(super) fn path(&self, number: Number) -> String {
        let mut names = Vec::new();
        let mut at = number;
        while at != ROOT
            && let Some(Node { place: (folder, name), .. }) = self.nodes.get(&at)
        {
            names.push(name.as_str());
            at = *folder;
        }
        names.reverse();
        names.join("/")
    }

    /// Forgets nodes that have no name, will not have one again, and are not open.
    pub(super) fn collect(&mut self) {
        let mut found = BTreeSet::new();
        let mut to_visit = vec![ROOT];
        to_visit.extend(self.nodes.iter().filter(|(_, node)| node.open > 0).map(|(number, _)| *number));
        while let Some(number) = to_visit.pop() {
            if found.insert(number)
                && let Some(Node { kind: Kind::Folder(names), .. }) = self.nodes.get(&number)
            {
                let before = names.unsynced.iter().flatten().filter_map(|(_, number)| *number);
                to_visit.extend(names.entries.values().copied().chain(before));
            }
        }
        self.nodes.retain(|number, _| found.contains(number));
    }

    /// The power has failed: decides what of the unsynced changes the disk has. `keep` says with which probability those of a
    /// path are kept. Everything has another number then, so that nothing that was open before reaches it.
    pub(super) fn lose_power(&mut self, rng: &mut impl Rng, keep: impl Fn(&str) -> f64) {
        let numbers: Vec<Number> = self.nodes.keys().copied().collect();
        for number in numbers {
            let keep = keep(&self.path(number));
            let Some(node) = self.nodes.get_mut(&number) else { continue };
            node.open = 0;
            match &mut node.kind {
                Kind::File(content) => content.settle(rng, keep),
                Kind::Folder(names) => names.settle(rng, keep),
            }
        }
        self.collect();
        let renumbered = |number| if number == ROOT { ROOT } else { number + EPOCH };
        let mut places = BTreeMap::new();
        for (number, mut node) in mem::take(&mut self.nodes) {
            if let Kind::Folder(names) = &mut node.kind {
                for (name, inside) in &mut names.entries {
                    *inside = renumbered(*inside);
                    places.insert(*inside, (renumbered(number), name.clone()));
                }
            }
            self.nodes.insert(renumbered(number), node);
        }
        for (number, place) in places {
            self.moved(number, place.0, &place.1);
        }
        self.next += EPOCH;
    }
}

impl Content {
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that have room on the disk.
    pub(super) fn allocated(&self) -> u64 {
        (self.blocks.len() * BLOCK_BYTES) as u64
    }

    pub(super) fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        let end = self.size.min(offset.saturating_add(bytes));
        let mut read = Vec::with_capacity(end.saturating_sub(offset) as usize);
        for piece in pieces(offset, end) {
            let block = self.blocks.get(&piece.block).map_or(NOTHING, Arc::as_ref);
            read.extend_from_slice(&block[piece.first..piece.last]);
        }
        read
    }

    /// How many of these bytes can be written without more room.
    pub(super) fn writable_in_place(&self, offset: u64, bytes: u64) -> u64 {
        let has_room = |piece: &Piece| self.blocks.contains_key(&piece.block);
        pieces(offset, offset + bytes).take_while(has_room).map(|piece| (piece.last - piece.first) as u64).sum()
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut rest = bytes;
        for piece in pieces(offset, end) {
            let (now, later) = rest.split_at(piece.last - piece.first);
            self.change(piece.block)[piece.first..piece.last].copy_from_slice(now);
            rest = later;
        }
        self.size = self.size.max(end);
    }

    pub(super) fn resize(&mut self, size: u64) {
        if size < self.size {
            // What is behind the end must be zeros when the file grows again.
            let (kept, inside) = (size / BLOCK_BYTES as u64, size as usize % BLOCK_BYTES);
            if inside > 0 && self.blocks.contains_key(&kept) {
                self.change(kept)[inside..].fill(0);
            }
            for (block, before) in self.blocks.split_off(&size.div_ceil(BLOCK_BYTES as u64)) {
                self.unsynced.entry(block).or_insert(Some(before));
            }
        }
        self.size = size;
    }

    fn change(&mut self, block: u64) -> &mut [u8; BLOCK_BYTES] {
        let before = self.blocks.get(&block).cloned();
        self.unsynced.entry(block).or_insert(before);
        Arc::make_mut(self.blocks.entry(block).or_insert_with(|| Arc::new(*NOTHING)))
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_size = self.size;
    }

    /// Each unsynced sector, and the size, is on the disk with this probability, and what is not is gone.
    pub(super) fn settle(&mut self, rng: &mut impl Rng, keep: f64) {
        let size = if rng.random_bool(keep) { self.size } else { self.synced_size };
        for (block, before) in mem::take(&mut self.unsynced) {
            let before = before.as_ref().map_or(NOTHING, Arc::as_ref);
            let mut settled = *self.blocks.get(&block).map_or(NOTHING, Arc::as_ref);
            for first in (0..BLOCK_BYTES).step_by(SECTOR_BYTES) {
                if !rng.random_bool(keep) {
                    let sector = first..first + SECTOR_BYTES;
                    settled[sector.clone()].copy_from_slice(&before[sector]);
                }
            }
            self.blocks.insert(block, Arc::new(settled));
        }
        self.size = self.size.max(size);
        self.resize(size);
        self.sync();
    }
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Number> {
        self.entries.get(name).copied()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&String, Number)> {
        self.entries.iter().map(|(name, number)| (name, *number))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One change: all of these names or none.
    pub(super) fn change(&mut self, names: &[(&str, Option<Number>)]) {
        let mut undo = Vec::new();
        for (name, number) in names {
            let before = match number {
                Some(number) => self.entries.insert((*name).to_owned(), *number),
                None => self.entries.remove(*name),
            };
            undo.push(((*name).to_owned(), before));
        }
        self.unsynced.push(undo);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// Keeps the first of the unsynced changes, as far as each is kept with this probability.
    pub(super) fn settle(&mut self, rng: &mut impl Rng, keep: f64) {
        let kept = self.unsynced.iter().take_while(|_| rng.random_bool(keep)).count();
        for (name, before) in self.unsynced.drain(kept..).rev().flatten() {
            match before {
                Some(number) => self.entries.insert(name, number),
                None => self.entries.remove(&name),
            };
        }
        self.sync();
    }
}

/// The part of a range that is in one block.
struct Piece {
    block: u64,
    first: usize,
    last: usize,
}

fn pieces(offset: u64, end: u64) -> impl Iterator<Item = Piece> {
    let block_bytes = BLOCK_BYTES as u64;
    (offset / block_bytes..end.div_ceil(block_bytes)).filter(move |_| offset < end).map(move |block| {
        let start = block * block_bytes;
        Piece { block, first: offset.saturating_sub(start) as usize, last: (end - start).min(block_bytes) as usize }
    })
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    /// The same calls on a content and on a vector of bytes.
    #[test]
    fn a_file_reads_as_it_was_written() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut content, mut bytes) = (Content::default(), Vec::new());
        for step in 0..2_000 {
            let offset = rng.random_range(0..20_000_usize);
            let count = rng.random_range(1..9_000_usize);
            match rng.random_range(0..4) {
                0 | 1 => {
                    content.write(offset as u64, &vec![step as u8; count]);
                    bytes.resize(bytes.len().max(offset + count), 0);
                    bytes[offset..offset + count].fill(step as u8);
                }
                2 => {
                    content.resize(offset as u64);
                    bytes.resize(offset, 0);
                }
                _ => {
                    // Everything is kept, which is to change nothing.
                    content.settle(&mut rng, 1.0);
                }
            }
            assert_eq!(content.read(0, u64::MAX), bytes, "step {step}");
            let last = bytes.len().min(offset + count);
            assert_eq!(content.read(offset as u64, count as u64), bytes[offset.min(last)..last]);
        }
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_is_torn_at_sectors() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut content = Content::default();
        content.write(0, &[1; 10_000]);
        content.sync();
        content.write(1_000, &[2; 8_000]);
        content.resize(9_500);
        let mut nothing_kept = content.clone();
        nothing_kept.settle(&mut rng, 0.0);
        assert_eq!(nothing_kept.read(0, u64::MAX), [1; 10_000]);
        content.settle(&mut rng, 0.5);
        let left = content.read(0, 9_500);
        assert_eq!((&left[..1_000], &left[9_000..]), (&[1; 1_000][..], &[1; 500][..]));
        let sectors: Vec<_> = left[1_024..8_704].chunks(SECTOR_BYTES).collect();
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert!(sectors.iter().any(|sector| sector[0] == 1) && sectors.iter().any(|sector| sector[0] == 2));
    }

    #[test]
    fn of_the_changes_of_a_folder_the_first_ones_survive() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let mut names = Names::default();
            names.change(&[("a", Some(1))]);
            names.sync();
            names.change(&[("b", Some(2))]);
            names.change(&[("a", None), ("b", Some(1))]);
            names.change(&[("b", None)]);
            names.settle(&mut rng, 0.6);
            seen.insert(names.entries().map(|(name, number)| format!("{name}{number}")).collect::<String>());
        }
        assert_eq!(seen, BTreeSet::from(["a1", "a1b2", "b1", ""].map(str::to_owned)));
    }

    #[test]
    fn after_a_power_loss_everything_is_where_it_was_under_another_number() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut tree = Tree::new();
        let folder = tree.add(ROOT, "data", 0o700, Kind::Folder(Names::default()));
        tree.names(ROOT).unwrap().change(&[("data", Some(folder))]);
        let file = tree.add(folder, "a", 0o600, Kind::File(Content::default()));
        tree.names(folder).unwrap().change(&[("a", Some(file))]);
        tree.content(file).unwrap().write(0, b"text");
        tree.node(file).unwrap().open = 1;
        tree.lose_power(&mut rng, |_| 1.0);
        assert!(tree.node(file).is_none() && tree.node(folder).is_none());
        let folder = tree.names(ROOT).unwrap().get("data").unwrap();
        let file = tree.names(folder).unwrap().get("a").unwrap();
        assert_eq!(tree.path(file), "data/a");
        assert_eq!(tree.content(file).unwrap().read(0, 9), b"text");
        tree.names(folder).unwrap().change(&[("a", None)]);
        tree.lose_power(&mut rng, |path| if path == "data" { 0.0 } else { 1.0 });
        assert!(tree.names(folder + EPOCH).unwrap().get("a").is_some(), "the removal was not synced");
    }
}
