//! Both sides, read user by user, and what differs.
//!
//! A user's rows are in several tables, each of which has the users in the same order: so these tables are read side by side, and
//! memory is a page of each. Groups have tables of their own, and follow the users of their partition. The tables of unfinished duties have
//! an order of their own; they are read after the others.

use std::{fmt, vec};

use bytes::Bytes;
use proto_spec::{GroupId, UserId};
use thiserror::Error;

use super::{MigrateError, Pages, Progress, Side, behind, owner_of, partition_in};
use crate::{
    schema::{Key, RowKey, TABLES_BY_PARTITION, TABLES_BY_USER},
    store::Store,
};

/// Rows of both sides after which a step ends, with the user whose they are.
const STEP_ROWS: u64 = 100_000;

/// Most differences that are named one by one.
const NAMED_MAX: usize = 20;

/// Whose a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowOwner {
    /// A user's.
    User(UserId),
    /// A group's.
    Group(GroupId),
}

impl fmt::Display for RowOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// What one side has of one user or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// CRC32C of the keys and values, with the length of each value between them, in the order of the keys.
    pub checksum: u32,
}

impl Sum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.bytes += (key.len() + value.len()) as u64;
        for part in [key, &(value.len() as u64).to_be_bytes(), value] {
            self.checksum = crc32c::crc32c_append(self.checksum, part);
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows with checksum {:08x}", self.rows, self.checksum)
    }
}

/// What both sides have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Users. Groups are not counted.
    pub users: u64,
    /// Of all users and groups together; the checksum is one over theirs, in the order of partitions, each with its users before its groups.
    pub sum: Sum,
}

impl Totals {
    fn add(&mut self, owner: RowOwner, sum: &Sum) {
        let (RowOwner::User(UserId(id)) | RowOwner::Group(GroupId(id))) = owner;
        self.sum.rows += sum.rows;
        self.sum.bytes += sum.bytes;
        for number in [id, sum.rows, sum.checksum.into()] {
            self.sum.checksum = crc32c::crc32c_append(self.sum.checksum, &number.to_be_bytes());
        }
    }
}

/// A user or a group of whom the sides do not have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who.
    pub owner: RowOwner,
    /// What the source has.
    pub source: Sum,
    /// What the destination has.
    pub destination: Sum,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, source, destination } = self;
        write!(f, "{owner}: {source} in the source, {destination} in the destination")
    }
}

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct Differences {
    /// The first ones.
    pub named: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source and destination differ:")?;
        for difference in &self.named {
            write!(f, "\n{difference}")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// A comparison that is under way.
#[derive(Debug)]
pub(super) struct Comparison<'a, S, D> {
    source: Users<'a, S>,
    destination: Users<'a, D>,
    /// Whether these are the users by their duties, after those by partition.
    is_second: bool,
    part: f64,
    totals: Totals,
    differences: Differences,
}

impl<'a, S: Store, D: Store> Comparison<'a, S, D> {
    pub(super) fn new(source: &'a S, destination: &'a D, page_bytes: usize) -> Self {
        Self {
            source: Users::new(Side::Source, source, TABLES_BY_PARTITION, page_bytes),
            destination: Users::new(Side::Destination, destination, TABLES_BY_PARTITION, page_bytes),
            is_second: false,
            part: 0.0,
            totals: Totals::default(),
            differences: Differences::default(),
        }
    }

    pub(super) const fn progress(&self) -> Progress {
        Progress::Comparing { part: self.part, totals: self.totals }
    }

    /// Compares the next users, and says what came of it when there are no more. The same again after an error.
    pub(super) async fn step(&mut self) -> Result<Option<Result<Totals, Differences>>, MigrateError> {
        let mut rows = 0;
        while rows < STEP_ROWS {
            let (source, destination) = (self.source.peek().await?, self.destination.peek().await?);
            let Some(place) = [source, destination].into_iter().flatten().map(|next| next.place).min() else {
                if self.is_second {
                    return Ok(Some(self.result()));
                }
                self.is_second = true;
                self.source = self.source.second();
                self.destination = self.destination.second();
                continue;
            };
            rows += self.compare(place);
        }
        Ok(None)
    }

    /// Says how many rows that were.
    fn compare(&mut self, place: Place) -> u64 {
        let owner = place.owner;
        let (source, destination) = (self.source.take(place), self.destination.take(place));
        if source != destination {
            match self.differences.named.len() {
                NAMED_MAX => self.differences.more += 1,
                _ => self.differences.named.push(Difference { owner, source, destination }),
            }
        }
        self.totals.add(owner, &source);
        if !self.is_second {
            self.totals.users += u64::from(matches!(owner, RowOwner::User(_)));
            self.part = behind(place.partition);
        }
        source.rows + destination.rows
    }

    fn result(&self) -> Result<Totals, Differences> {
        match self.differences.named.is_empty() {
            true => Ok(self.totals),
            false => Err(self.differences.clone()),
        }
    }
}

/// Where a user or a group is in the order of some tables. Those without partitions have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    partition: u16,
    owner: RowOwner,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    place: Place,
    sum: Sum,
}

/// The users of one side, in order, with what it has of them.
#[derive(Debug)]
struct Users<'a, S> {
    side: Side,
    store: &'a S,
    tables: Vec<Table<'a, S>>,
    page_bytes: usize,
    /// The next user; whole, or cut short by an error.
    next: Option<Next>,
    is_whole: bool,
}

impl<'a, S: Store> Users<'a, S> {
    /// Of these tables, whose rows have the users, or the groups, in the same order.
    fn new(side: Side, store: &'a S, tables: &[u8], page_bytes: usize) -> Self {
        let tables = tables.iter().map(|table| Table::new(store, *table, page_bytes)).collect();
        Self { side, store, tables, page_bytes, next: None, is_whole: false }
    }

    /// Those that are read after these.
    fn second(&self) -> Self {
        Self::new(self.side, self.store, TABLES_BY_USER, self.page_bytes)
    }

    /// The next user, who stays it until taken.
    async fn peek(&mut self) -> Result<Option<Next>, MigrateError> {
        if self.is_whole {
            return Ok(self.next);
        }
        if self.next.is_none() {
            let mut places = Vec::with_capacity(self.tables.len());
            for table in &mut self.tables {
                places.extend(table.place(self.side).await?);
            }
            self.next = places.into_iter().min().map(|place| Next { place, sum: Sum::default() });
        }
        if let Some(next) = &mut self.next {
            for table in &mut self.tables {
                while table.place(self.side).await? == Some(next.place) {
                    let (key, value) = table.take().expect("its place was just seen");
                    next.sum.add(&key, &value);
                }
            }
        }
        self.is_whole = true;
        Ok(self.next)
    }

    /// What there is of the user at this place, who is the next one or not there at all.
    fn take(&mut self, place: Place) -> Sum {
        match self.next.take_if(|next| next.place == place) {
            Some(next) => {
                self.is_whole = false;
                next.sum
            }
            None => Sum::default(),
        }
    }
}

/// One table of one side.
#[derive(Debug)]
struct Table<'a, S> {
    pages: Pages<'a, S>,
    page: vec::IntoIter<(Key, Bytes)>,
}

impl<'a, S: Store> Table<'a, S> {
    fn new(store: &'a S, table: u8, page_bytes: usize) -> Self {
        let mut last = [u8::MAX; Key::LEN_MAX];
        last[0] = table;
        let key = |bytes: &[u8]| Key::from_bytes(bytes).expect("at most as long as the longest");
        let pages = Pages { store, first: Some(key(&[table])), last: key(&last), page_bytes };
        Self { pages, page: Vec::new().into_iter() }
    }

    /// Whose the next row is.
    async fn place(&mut self, side: Side) -> Result<Option<Place>, MigrateError> {
        if self.page.as_slice().is_empty() {
            match self.pages.next().await.map_err(|error| MigrateError::Store { side, error })? {
                Some(page) => self.page = page.into_iter(),
                None => return Ok(None),
            }
        }
        let Some((key, _)) = self.page.as_slice().first() else { return Ok(None) };
        let row =
            RowKey::decode(key).map_err(|error| MigrateError::Row { side, key: *key, reason: error.to_string() })?;
        let owner = owner_of(row).expect("tables without users are not compared");
        Ok(Some(Place { partition: partition_in(row).unwrap_or_default(), owner }))
    }

    fn take(&mut self) -> Option<(Key, Bytes)> {
        self.page.next()
    }
}
