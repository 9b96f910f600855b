use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

use super::*;

struct World {
    _outer: tempfile::TempDir,
    path: PathBuf,
}

impl World {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        Self { path: outer.path().canonicalize().unwrap().join("data"), _outer: outer }
    }

    /// A folder that a server has used and left.
    fn used() -> Self {
        let world = Self::new();
        let data = DataDir::open(&world.path).unwrap();
        fs::write(data.journal().join("0001"), "records").unwrap();
        world
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::create_dir_all(&self.path).unwrap();
        fs::write(self.path.join(name), bytes).unwrap();
    }

    /// Tries to open the folder and checks that this changed nothing; the error must name the folder.
    fn refused(&self) -> DataDirError {
        let before = snapshot(&self.path);
        let error = DataDir::open(&self.path).unwrap_err();
        assert_eq!(before, snapshot(&self.path), "{error}");
        assert!(error.to_string().contains(self.path.to_str().unwrap()), "{error}");
        error
    }
}

/// Every path below `root` with its mode and its bytes.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            let bytes = if path.is_dir() { None } else { Some(fs::read(&path).unwrap()) };
            if bytes.is_none() {
                folders.push(path.clone());
            }
            found.insert(path, (mode, bytes));
        }
    }
    found
}

#[test]
fn a_first_start_makes_the_folder_for_its_owner_alone() {
    let world = World::new();
    let data = DataDir::open(&world.path).unwrap();
    assert_eq!(data.path(), world.path);
    assert_eq!(fs::metadata(&world.path).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
    assert!(data.journal().is_dir() && data.store().is_dir());
    let relative = |path: PathBuf| path.strip_prefix(&world.path).unwrap().to_str().unwrap().to_owned();
    let names: Vec<_> = snapshot(&world.path).into_keys().map(relative).collect();
    assert_eq!(names, ["FORMAT", "ID", "LOCK", "journal", "journal/ID", "store", "store/ID"]);
    data.check_store().unwrap();
}

#[test]
fn a_second_start_finds_the_folder_as_it_was_left() {
    let world = World::used();
    let before = snapshot(&world.path);
    drop(DataDir::open(&world.path).unwrap());
    assert_eq!(before, snapshot(&world.path));
}

#[test]
fn a_folder_that_no_server_has_used_is_not_made_one_by_who_wants_an_existing_one() {
    let world = World::new();
    assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::Unused { .. })));
    assert!(!world.path.exists());
    fs::create_dir(&world.path).unwrap();
    assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::Unused { .. })));
    assert!(snapshot(&world.path).is_empty());
    let first = DataDir::open(&world.path).unwrap();
    assert!(matches!(DataDir::open_existing(&world.path), Err(DataDirError::InUse { .. })));
    drop(first);
    DataDir::open_existing(&world.path).unwrap();
}

#[test]
fn an_empty_folder_of_somebody_else_will_do() {
    let world = World::new();
    fs::create_dir(&world.path).unwrap();
    DataDir::open(&world.path).unwrap();
}

#[test]
fn a_folder_in_use_is_refused_until_it_is_free() {
    let world = World::new();
    let first = DataDir::open(&world.path).unwrap();
    assert!(matches!(world.refused(), DataDirError::InUse { .. }));
    drop(first);
    DataDir::open(&world.path).unwrap();
}

#[test]
fn a_folder_is_free_though_a_process_being_started_has_a_copy_of_the_file() {
    let world = World::new();
    let first = DataDir::open(&world.path).unwrap();
    let _copy = first.lock.0.try_clone().unwrap();
    assert!(matches!(world.refused(), DataDirError::InUse { .. }));
    drop(first);
    DataDir::open(&world.path).unwrap();
}

#[test]
fn a_newer_format_is_refused_even_without_a_lock_file() {
    let world = World::used();
    fs::remove_file(world.path.join("LOCK")).unwrap();
    world.write("FORMAT", b"ringpost 6\n");
    assert!(matches!(world.refused(), DataDirError::Newer { found: 6, .. }));
}

#[test]
fn a_damaged_format_is_refused() {
    for format in ["", "ringpost", "ringpost \n", "ringpost 1", "ringpost 0\n", "ringpost -1\n", "\0\0\0", "mango 1\n"]
    {
        let world = World::used();
        world.write("FORMAT", format.as_bytes());
        assert!(matches!(world.refused(), DataDirError::Damaged { .. }), "{format:?}");
    }
}

#[test]
fn an_unreadable_format_is_refused() {
    let world = World::used();
    fs::remove_file(world.path.join("FORMAT")).unwrap();
    fs::create_dir(world.path.join("FORMAT")).unwrap();
    assert!(matches!(world.refused(), DataDirError::Io { .. }));
}

#[test]
fn a_missing_journal_or_store_is_damage_and_not_a_fresh_start() {
    for name in ["journal", "store"] {
        let world = World::used();
        fs::remove_dir_all(world.path.join(name)).unwrap();
        assert!(world.refused().to_string().contains(&format!("its folder {name} is missing")));
    }
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let world = World::new();
    world.write("thesis.txt", b"all my work");
    let error = world.refused();
    assert!(error.to_string().contains("thesis.txt"), "{error}");
}

#[test]
fn a_used_folder_that_lost_its_format_is_refused() {
    let world = World::used();
    fs::remove_file(world.path.join("FORMAT")).unwrap();
    assert!(matches!(world.refused(), DataDirError::NotRingpost { .. }));
}

#[test]
fn a_file_in_the_place_of_the_folder_is_refused() {
    let world = World::new();
    fs::write(&world.path, "a file").unwrap();
    let error = DataDir::open(&world.path).unwrap_err();
    assert!(error.to_string().contains(world.path.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&world.path).unwrap(), b"a file");
}

#[test]
fn a_key_is_made_with_the_folder_and_never_again() {
    let world = World::new();
    drop(DataDir::open_with_key(&world.path).unwrap());
    let key = token_key_path(&world.path);
    keyfile::load_signing_key(&key).unwrap();
    fs::remove_file(&key).unwrap();
    drop(DataDir::open_with_key(&world.path).unwrap());
    assert!(!key.exists());
}

#[test]
fn a_key_that_was_there_first_is_that_of_the_folder() {
    let world = World::new();
    create_folder(&world.path).unwrap();
    keyfile::create_if_missing(&token_key_path(&world.path)).unwrap();
    let key = fs::read(token_key_path(&world.path)).unwrap();
    drop(DataDir::open_with_key(&world.path).unwrap());
    assert_eq!(fs::read(token_key_path(&world.path)).unwrap(), key);
}

#[test]
fn a_first_start_that_was_cut_short_is_carried_on() {
    let steps = [
        "LOCK",
        "token-key.pem.new",
        "token-key.pem",
        "journal",
        "store",
        "journal/ID.new",
        "journal/ID",
        "store/ID",
        "ID",
        "FORMAT.new",
    ];
    for done in 1..=steps.len() {
        let world = World::new();
        for name in &steps[..done] {
            match *name {
                "journal" | "store" => create_folder(&world.path.join(name)).unwrap(),
                _ => world.write(name, b""),
            }
        }
        DataDir::open(&world.path).unwrap().check_store().unwrap();
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
        assert!(!world.path.join("FORMAT.new").exists());
    }
}

/// What a volume that is not mounted leaves to be seen.
fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    create_folder(folder).unwrap();
}

#[test]
fn an_empty_journal_or_store_is_lost_history_and_no_first_start() {
    let world = World::used();
    let kept = world.path.join("kept");
    fs::rename(world.path.join("journal"), &kept).unwrap();
    fs::create_dir(world.path.join("journal")).unwrap();
    let refused = world.refused().to_string();
    assert!(refused.contains("its folder journal is empty") && refused.contains("Mount the volume"), "{refused}");
    fs::create_dir(world.path.join("journal/lost+found")).unwrap();
    assert!(world.refused().to_string().contains("its folder journal is empty"), "an empty volume of ext4");
    fs::remove_dir_all(world.path.join("journal")).unwrap();
    fs::rename(kept, world.path.join("journal")).unwrap();

    empty(&world.path.join("store"));
    // Where the history is in a database, nobody needs it.
    let data = DataDir::open(&world.path).unwrap();
    let before = snapshot(&world.path);
    let refused = data.check_store().unwrap_err().to_string();
    assert!(refused.contains("its folder store is empty") && refused.contains("--data"), "{refused}");
    assert_eq!(before, snapshot(&world.path));
}

#[test]
fn a_part_that_is_not_the_one_that_was_left_is_refused_by_what_it_is() {
    let (ours, theirs) = (World::used(), World::used());
    let swap = |a: PathBuf, b: PathBuf| {
        let aside = a.with_extension("aside");
        fs::rename(&a, &aside).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(aside, b).unwrap();
    };
    let part = |world: &World, name: &str| world.path.join(name);
    swap(part(&ours, "journal"), part(&theirs, "journal"));
    for world in [&ours, &theirs] {
        assert!(world.refused().to_string().contains("its folder journal belongs to another data folder"));
    }
    swap(part(&ours, "journal"), part(&theirs, "journal"));
    swap(part(&ours, "store"), part(&theirs, "store"));
    let refused = DataDir::open(&ours.path).unwrap().check_store().unwrap_err().to_string();
    assert!(refused.contains("its folder store belongs to another data folder"), "{refused}");
    swap(part(&ours, "store"), part(&theirs, "store"));
    swap(part(&ours, "journal"), part(&ours, "store"));
    assert!(ours.refused().to_string().contains("its folder journal is a store by its file ID"));
    swap(part(&ours, "journal"), part(&ours, "store"));
    fs::remove_file(part(&ours, "journal/ID")).unwrap();
    assert!(ours.refused().to_string().contains("its folder journal has no file ID"));
    ours.write("journal/ID", b"ringpost journal 7\n");
    assert!(
        ours.refused()
            .to_string()
            .contains("the file ID of its folder journal is damaged: it says \"ringpost journal 7\"")
    );
    fs::remove_file(part(&ours, "ID")).unwrap();
    assert!(ours.refused().to_string().contains("the data folder has no file ID"));
    DataDir::open(&theirs.path).unwrap().check_store().unwrap();
}

/// As the server before this one left it: its store made, a segment in its journal.
fn of_the_first_format() -> World {
    let world = World::new();
    for folder in ["journal", "store/fjall/keyspaces/1/tables"] {
        create_folder(&world.path.join(folder)).unwrap();
    }
    for file in ["journal/00000000000000000001.journal", "store/fjall/keyspaces/1/tables/0", "audit.log"] {
        world.write(file, b"something");
    }
    world.write("store/format", b"ringpost store 1\n");
    world.write("FORMAT", b"ringpost 1\n");
    world
}

#[test]
fn a_folder_of_a_later_format_keeps_its_names_when_it_is_upgraded() {
    for format in [&b"ringpost 2\n"[..], b"ringpost 3\n", b"ringpost 4\n"] {
        let world = World::used();
        world.write("FORMAT", format);
        let id = fs::read(world.path.join("ID")).unwrap();
        let data = DataDir::open(&world.path).unwrap();
        data.check_store().unwrap();
        assert!(data.lacks_last_messages().unwrap());
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), format, "until its journal is empty");
        data.upgrade().unwrap();
        assert!(!data.lacks_last_messages().unwrap());
        assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
        assert_eq!(fs::read(world.path.join("ID")).unwrap(), id);
    }
}

#[test]
fn a_folder_of_the_first_format_gets_its_names_when_it_is_upgraded_and_not_before() {
    let world = of_the_first_format();
    let data = DataDir::open(&world.path).unwrap();
    data.check_store().unwrap();
    assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 1\n");
    assert!(!world.path.join("ID").exists());
    data.upgrade().unwrap();
    drop(data);
    let before = snapshot(&world.path);
    let data = DataDir::open(&world.path).unwrap();
    data.check_store().unwrap();
    data.upgrade().unwrap();
    assert_eq!(before, snapshot(&world.path), "once");
    assert_eq!(fs::read(world.path.join("FORMAT")).unwrap(), b"ringpost 5\n");
    // Cut short before the last step: done again.
    world.write("FORMAT", b"ringpost 1\n");
    data.upgrade().unwrap();
    data.check_store().unwrap();
}

#[test]
fn what_a_folder_of_the_first_format_has_lost_is_noticed_too() {
    let world = of_the_first_format();
    empty(&world.path.join("journal"));
    assert!(world.refused().to_string().contains("its folder journal is empty"));
    fs::remove_file(world.path.join("audit.log")).unwrap();
    assert!(world.refused().to_string().contains("its folder journal is empty"), "the store has rows");
    empty(&world.path.join("store"));
    DataDir::open(&world.path).unwrap().check_store().unwrap();

    let world = of_the_first_format();
    empty(&world.path.join("store"));
    let refused = DataDir::open(&world.path).unwrap().check_store().unwrap_err().to_string();
    assert!(refused.contains("its folder store is empty"), "{refused}");
}

#[test]
fn room_that_an_operator_has_made_for_a_history_becomes_the_store() {
    let world = World::used();
    let data = DataDir::open(&world.path).unwrap();
    let before = snapshot(&world.path);
    data.adopt_store().unwrap();
    assert_eq!(before, snapshot(&world.path));
    empty(&data.store());
    data.adopt_store().unwrap();
    data.check_store().unwrap();
    fs::write(data.store().join("ID"), "ringpost store 00000000000000000000000000000007\n").unwrap();
    data.adopt_store().unwrap();
    assert!(data.check_store().is_err(), "another's is left alone");
}
