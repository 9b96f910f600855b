#!/usr/bin/env bash
# fjall 3.1.13 (lsm-tree 3.1.10), a keyspace that is filled by bulk ingestion alone.
#
# Guess: when nobody reads and no compaction is going on, the tables folder holds what `Keyspace::disk_space` says, a little more for
# metadata.
#
# Behaviour: it holds nearly twice as much here, and three times in a larger one. Compaction removes the tables that it has merged only up to what the last ingestion made
# known as not read any more, and compactions come after that; without another ingestion, or a memtable that is made a table, they stay
# until the database is opened again. `disk_space` counts none of them, nor the filters and indexes of those that are in use.
#
# Why it matters here: whoever sizes a disk, or watches it, by that figure runs out of room. A store that is filled in runs, and rests in
# between, has to hold three times its history, and what was deleted is not gone when all is merged.
#
# Needs Rust. Takes about a minute.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "seen"
version = "0.0.0"
edition = "2024"

[dependencies]
fjall = "=3.1.13"
lsm-tree = "=3.1.10"
TOML
cat >src/main.rs <<'RUST'
use std::{fs, path::Path, thread, time::Duration};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

/// A run of rows in ascending order, spread over all keys; each run has other ones.
fn ingest(rows: &Keyspace, run: u64) {
    let mut ingestion = rows.start_ingestion().unwrap();
    for row in 0..20_000_u64 {
        let value: Vec<u8> = (0..100).map(|byte: u64| ((row * 31 + run * 17) * (byte + 7) >> 3) as u8).collect();
        ingestion.write((row * 100 + run).to_be_bytes(), value).unwrap();
    }
    ingestion.finish().unwrap();
}

fn settle(database: &Database) {
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(50));
        while database.active_compactions() > 0 {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn bytes(folder: &Path) -> u64 {
    fs::read_dir(folder.join("tables")).unwrap().map(|table| table.unwrap().metadata().unwrap().len()).sum()
}

fn open() -> (Database, Keyspace) {
    let database = Database::builder("data").worker_threads(1).open().unwrap();
    let rows = database.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
    (database, rows)
}

fn main() {
    let (database, rows) = open();
    for run in 0..12 {
        ingest(&rows, run);
        settle(&database);
    }
    thread::sleep(Duration::from_secs(5));
    let (counted, there) = (rows.disk_space(), bytes(rows.path()));
    println!("all is merged, nobody reads: the files have {} what is counted", if there > counted * 3 / 2 { "more than 1.5 times" } else { "about" });
    let folder = rows.path().to_owned();
    drop((rows, database));
    let (_database, rows) = open();
    settle(&_database);
    let after = bytes(&folder);
    println!("opened again: the files have {} of that", if after < there * 2 / 3 { "less than two thirds" } else { "all" });
    println!("and {} than what is counted", if after > rows.disk_space() { "still more" } else { "not more" });
    eprintln!("{there} bytes, {counted} counted; opened again {after}, {} counted", rows.disk_space());
}
RUST
cargo run --quiet --release >seen
cat seen
expected='all is merged, nobody reads: the files have more than 1.5 times what is counted
opened again: the files have less than two thirds of that
and still more than what is counted'
[ "$(cat seen)" = "$expected" ] || { echo "this is not what was seen before" >&2; exit 1; }
