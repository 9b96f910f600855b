//! The devices of a user: their names and days, how they go, and that none of them comes back.

use proto_spec::{
    ClientFrame, DeviceId, DeviceInfo, Entry, ErrorCode, Event, Removal, RequestId, Resume, SendNumber, Seq,
    ServerFrame,
};
use server::{
    access::rate::Rate,
    limits::DEVICES_MAX,
    shard::{Admission, DevicesWish, Limits, Ticket},
};
use tests::{
    frames::accepted,
    world::{Link, World},
};

const ALICE: u64 = 1;

const BOB: u64 = 2;

const DAY_MS: u64 = 24 * 3_600_000;

/// What [`DEVICES_MAX`] devices make room after.
const UNSEEN_DAYS: u64 = 90;

fn world() -> World {
    World::limited(1, Limits { device_unseen_days: UNSEEN_DAYS, ..Limits::OFF })
}

/// Days pass, for clocks that people read; connections that are open stay.
fn days_pass(world: &mut World, days: u64) {
    world.now.wall.0 += days * DAY_MS;
    world.settle();
}

fn ask(world: &mut World, link: Link, frame: &ClientFrame) -> Result<Vec<DeviceInfo>, ErrorCode> {
    world.take(link);
    world.frame(link, frame);
    world.settle();
    let frames = world.take(link);
    let answers = frames.into_iter().filter_map(|frame| match frame {
        ServerFrame::Devices { request: RequestId(7), devices } => Some(Ok(devices)),
        ServerFrame::Error { request: RequestId(7), code, .. } | ServerFrame::Bye { code, .. } => Some(Err(code)),
        _ => None,
    });
    let [answer] = <[_; 1]>::try_from(answers.collect::<Vec<_>>()).expect("one answer");
    answer
}

fn list(world: &mut World, link: Link) -> Vec<DeviceInfo> {
    ask(world, link, &ClientFrame::FetchDevices { request: RequestId(7) })
        .expect("a list is never refused without a limit")
}

fn ids(world: &mut World, link: Link) -> Vec<u64> {
    list(world, link).iter().map(|info| info.device.0).collect()
}

fn remove(world: &mut World, link: Link, device: u64) -> Result<Vec<DeviceInfo>, ErrorCode> {
    ask(world, link, &ClientFrame::RemoveDevice { request: RequestId(7), device: DeviceId(device) })
}

fn name(world: &mut World, link: Link, device: u64, name: &str) -> Result<Vec<DeviceInfo>, ErrorCode> {
    let (device, name) = (DeviceId(device), name.to_owned());
    ask(world, link, &ClientFrame::NameDevice { request: RequestId(7), device, name })
}

fn closed(world: &World, link: Link) -> Option<ErrorCode> {
    world.clients[link.0].closed.flatten()
}

/// The entries that a connection was offered.
fn offered(frames: &[ServerFrame]) -> Vec<Entry> {
    let entries = frames.iter().flat_map(|frame| match frame {
        ServerFrame::Deliver { entry } => vec![entry.clone()],
        ServerFrame::Page(page) => page.entries.clone(),
        _ => Vec::new(),
    });
    entries.collect()
}

/// Those that tell of a removal.
fn told(frames: &[ServerFrame]) -> Vec<(u64, Removal, Vec<u64>)> {
    let events = offered(frames).into_iter().filter_map(|entry| match entry.event {
        Event::Devices { removed, why, devices } => Some((removed.0, why, devices.iter().map(|id| id.0).collect())),
        _ => None,
    });
    events.collect()
}

/// The store has everything, and everybody has been forgotten.
fn everything_is_stored(world: &mut World) {
    world.advance(5_000);
    world.seal();
    world.ingest();
    world.settle();
}

#[test]
fn a_list_shows_names_days_cursors_and_who_is_connected_before_and_after_a_restart() {
    let mut world = world();
    let today = world.now.wall.0 / DAY_MS;
    let phone = world.connect(ALICE, 1, Resume::Stored);
    world.send(phone, 1, ALICE, "a note");
    world.settle();
    world.acknowledge(phone, 1);
    let laptop = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!(name(&mut world, laptop, 1, "Alice's phone").unwrap()[0].name, "Alice's phone");
    world.disconnect(phone);
    days_pass(&mut world, 3);
    let as_shown = |world: &mut World, link| -> Vec<_> {
        let infos = list(world, link).into_iter();
        infos.map(|info| (info.device.0, info.seen_day - today, info.is_connected, info.cursor.0, info.name)).collect()
    };
    let shown = as_shown(&mut world, laptop);
    assert_eq!(shown, [(1, 0, false, 1, "Alice's phone".to_owned()), (2, 0, true, 0, String::new())]);
    // The laptop is there now, three days later, and it has been until then.
    world.disconnect(laptop);
    world.advance(5_000);
    world.crash(1);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let shown = as_shown(&mut world, phone);
    assert_eq!(shown, [(1, 3, true, 1, "Alice's phone".to_owned()), (2, 3, false, 0, String::new())]);
    assert_eq!(name(&mut world, phone, 1, "").unwrap()[0].name, "");
}

#[test]
fn a_day_is_written_once_a_device_and_nothing_of_it_with_a_message() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    everything_is_stored(&mut world);
    let notes = |world: &World| world.device_notes;
    assert_eq!(notes(&world), 1, "the first connection");
    for number in 1..=20 {
        world.send(phone, number, BOB, "hello");
        world.settle();
        world.acknowledge(phone, number);
        world.advance(1_000);
    }
    world.disconnect(phone);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    world.advance(5_000);
    assert_eq!(notes(&world), 1);
    days_pass(&mut world, 1);
    world.send(phone, 21, BOB, "hello");
    world.advance(5_000);
    assert_eq!(notes(&world), 1, "a message writes no day");
    world.acknowledge(phone, 21);
    world.advance(5_000);
    assert_eq!(notes(&world), 2, "with the cursor, which is written anyway");
}

#[test]
fn a_device_that_is_removed_hears_bye_and_all_others_learn_of_it_in_the_log() {
    let mut world = world();
    let links: Vec<_> = (1..=3).map(|device| world.connect(ALICE, device, Resume::Stored)).collect();
    let left = remove(&mut world, links[0], 2).unwrap();
    assert_eq!(left.iter().map(|info| info.device.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(closed(&world, links[1]), Some(ErrorCode::DeviceRemoved));
    assert_eq!(told(&world.take(links[2])), [(2, Removal::User, vec![1, 3])]);
    // What supersedes is kept once.
    remove(&mut world, links[0], 3).unwrap();
    let late = world.connect(ALICE, 1, Resume::After(Seq::ZERO));
    assert_eq!(told(&world.take(late)), [(3, Removal::User, vec![1])]);
}

#[test]
fn a_removed_id_never_comes_back_whatever_happens_to_the_server() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    world.disconnect(lost);
    remove(&mut world, phone, 2).unwrap();
    let tries = |world: &mut World, when: &str| {
        for resume in [Resume::Stored, Resume::Live, Resume::After(Seq::ZERO)] {
            let link = world.connect(ALICE, 2, resume);
            assert_eq!(closed(world, link), Some(ErrorCode::DeviceRemoved), "{when}");
        }
        // Another one is welcome.
        let link = world.connect(ALICE, 3, Resume::Stored);
        assert_eq!(closed(world, link), None, "{when}");
        world.disconnect(link);
    };
    tries(&mut world, "at once");
    everything_is_stored(&mut world);
    tries(&mut world, "once it is in the store");
    world.disconnect(phone);
    everything_is_stored(&mut world);
    assert_eq!(world.total(|counters| counters.users), 0);
    tries(&mut world, "when the user is read anew");
    world.crash(2);
    tries(&mut world, "after a crash");
}

#[test]
fn a_device_may_remove_itself() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    assert_eq!(remove(&mut world, phone, 1), Err(ErrorCode::DeviceRemoved));
    assert_eq!(closed(&world, phone), Some(ErrorCode::DeviceRemoved));
    let next = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!(told(&world.take(next)), [(1, Removal::User, vec![])]);
    assert_eq!(ids(&mut world, next), [2]);
}

#[test]
fn a_device_that_there_is_not_is_an_error_and_the_connection_goes_on() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let other = world.connect(BOB, 5, Resume::Stored);
    assert_eq!(remove(&mut world, phone, 5), Err(ErrorCode::NoSuchDevice), "it is somebody else's");
    assert_eq!(name(&mut world, phone, 5, "mine"), Err(ErrorCode::NoSuchDevice));
    assert_eq!(ids(&mut world, other), [5]);
    world.admission(Admission::Full);
    assert_eq!(remove(&mut world, phone, 1), Err(ErrorCode::StorageFull));
    assert_eq!(ids(&mut world, phone), [1]);
}

#[test]
fn a_message_in_flight_is_in_the_log_or_was_not_taken_and_no_bye_comes_before_the_removal_is_durable() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    world.disk_stalled = true;
    world.send(lost, 1, BOB, "before");
    world.frame(phone, &ClientFrame::RemoveDevice { request: RequestId(7), device: DeviceId(2) });
    world.send(lost, 2, BOB, "after");
    world.settle();
    assert_eq!(closed(&world, lost), None, "a crash could take it back");
    assert_eq!(told(&world.take(phone)), []);
    world.disk_stalled = false;
    world.settle();
    let frames = world.take(lost);
    assert_eq!(accepted(&frames), [(1, 1)]);
    assert!(matches!(frames.last(), Some(ServerFrame::Bye { code: ErrorCode::DeviceRemoved, .. })), "{frames:?}");
    world.settle();
    let texts: Vec<_> = world.messages(BOB).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["before"]);
}

#[test]
fn nobody_hears_of_a_removal_that_a_crash_takes_back() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    world.connect(ALICE, 2, Resume::Stored);
    world.settle();
    world.disk_stalled = true;
    world.frame(phone, &ClientFrame::RemoveDevice { request: RequestId(6), device: DeviceId(2) });
    world.settle();
    let again = world.connect_only(ALICE, 2, Resume::Stored);
    world.settle();
    assert_eq!(closed(&world, again), Some(ErrorCode::Overloaded), "it may come back");
    assert_eq!(remove(&mut world, phone, 2), Err(ErrorCode::Overloaded), "it is not gone yet");
    assert_eq!(name(&mut world, phone, 2, "the lost one"), Err(ErrorCode::Overloaded));
    world.ask_devices(9, ALICE, DevicesWish::Remove(DeviceId(2)));
    assert_eq!(world.told.pop(), Some((Ticket(9), Err(ErrorCode::Overloaded))));
    world.crash(1);
    world.disk_stalled = false;
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let back = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!((closed(&world, back), ids(&mut world, phone)), (None, vec![1, 2]));
    // And once it is durable it is gone.
    assert!(remove(&mut world, phone, 2).is_ok());
    let again = world.connect_only(ALICE, 2, Resume::Stored);
    world.settle();
    assert_eq!(closed(&world, again), Some(ErrorCode::DeviceRemoved));
}

#[test]
fn what_a_removed_device_has_acknowledged_stays_acknowledged() {
    let mut world = world();
    let bob = world.connect(BOB, 1, Resume::Stored);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    world.send(bob, 1, ALICE, "hello");
    world.settle();
    world.take(bob);
    // Nothing has been written or told of it when the device goes.
    world.acknowledge(lost, 1);
    remove(&mut world, phone, 2).unwrap();
    world.crash(1);
    world.advance(5_000);
    let bob = world.connect(BOB, 1, Resume::After(Seq::ZERO));
    let delivered = |frames: &[ServerFrame]| -> Vec<_> {
        let entries = offered(frames).into_iter();
        entries.filter(|entry| matches!(entry.event, Event::Delivered { up_to: Seq(1), .. })).collect()
    };
    assert_eq!(delivered(&world.take(bob)).len(), 1, "a device had it");
}

/// The case that was seen: 32 ids that merely connected, and then no new device for ever.
#[test]
fn the_device_that_was_not_seen_for_longest_makes_room_after_a_while_and_not_before() {
    let mut world = world();
    for device in 1..=DEVICES_MAX as u64 {
        let link = world.connect(ALICE, device, Resume::Stored);
        world.disconnect(link);
        days_pass(&mut world, 1);
    }
    days_pass(&mut world, UNSEEN_DAYS - DEVICES_MAX as u64 - 1);
    let refused = world.connect(ALICE, 100, Resume::Stored);
    let Some(ServerFrame::Bye { code: ErrorCode::DeviceRefused, devices, detail, .. }) = world.take(refused).pop()
    else {
        panic!("it was let in")
    };
    assert_eq!(devices.iter().map(|info| info.device.0).collect::<Vec<_>>(), (1..=32).collect::<Vec<_>>());
    assert!(detail.contains("1 has not been seen for longest"), "{detail}");
    days_pass(&mut world, 1);
    let newer = world.connect(ALICE, 100, Resume::Stored);
    assert_eq!(closed(&world, newer), None);
    let devices = ids(&mut world, newer);
    assert!(devices.len() == DEVICES_MAX && !devices.contains(&1) && devices.contains(&100), "{devices:?}");
    let another = world.connect(ALICE, 101, Resume::Stored);
    assert_eq!(closed(&world, another), Some(ErrorCode::DeviceRefused), "the next one was seen a day later");
    let gone = world.connect(ALICE, 1, Resume::Stored);
    assert_eq!(closed(&world, gone), Some(ErrorCode::DeviceRemoved));
    let reader = world.connect(ALICE, 2, Resume::After(Seq::ZERO));
    let removed: Vec<_> = told(&world.take(reader)).into_iter().map(|(removed, why, _)| (removed, why)).collect();
    assert_eq!(removed, [(1, Removal::Room)]);
}

#[test]
fn a_device_that_is_connected_makes_no_room_however_long_ago_it_came() {
    let mut world = world();
    let links: Vec<_> = (1..=DEVICES_MAX as u64).map(|device| world.connect(ALICE, device, Resume::Stored)).collect();
    days_pass(&mut world, 10 * UNSEEN_DAYS);
    let refused = world.connect(ALICE, 100, Resume::Stored);
    assert_eq!(closed(&world, refused), Some(ErrorCode::DeviceRefused));
    world.disconnect(links[4]);
    let refused = world.connect(ALICE, 100, Resume::Stored);
    assert_eq!(closed(&world, refused), Some(ErrorCode::DeviceRefused), "it was there until today");
}

#[test]
fn a_clock_that_was_wrong_for_a_while_makes_no_device_the_last_one_to_go() {
    let mut world = world();
    days_pass(&mut world, 10_000);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    world.advance(5_000);
    world.now.wall.0 -= 10_000 * DAY_MS;
    world.disconnect(phone);
    let today = world.now.wall.0 / DAY_MS;
    let laptop = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!(list(&mut world, laptop)[0].seen_day, today);
}

#[test]
fn the_operator_lists_and_removes_the_devices_of_who_is_not_even_there() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    name(&mut world, phone, 1, "phone").unwrap();
    world.disconnect(phone);
    everything_is_stored(&mut world);
    assert_eq!(world.total(|counters| counters.users), 0);
    for (ticket, wish) in [
        (1, DevicesWish::List),
        (2, DevicesWish::Remove(DeviceId(9))),
        (3, DevicesWish::Remove(DeviceId(1))),
        (4, DevicesWish::List),
    ] {
        world.ask_devices(ticket, ALICE, wish);
        world.settle();
    }
    let told: Vec<_> = std::mem::take(&mut world.told);
    let names = |at: usize| told[at].1.clone().map(|infos| infos.into_iter().map(|info| info.name).collect::<Vec<_>>());
    assert_eq!(told.iter().map(|(Ticket(ticket), _)| *ticket).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(names(0), Ok(vec!["phone".to_owned()]));
    assert_eq!(names(1), Err(ErrorCode::NoSuchDevice));
    assert_eq!((names(2), names(3)), (Ok(vec![]), Ok(vec![])));
    let gone = world.connect(ALICE, 1, Resume::Stored);
    assert_eq!(closed(&world, gone), Some(ErrorCode::DeviceRemoved));
}

#[test]
fn the_operator_is_told_when_it_can_not_be_done() {
    let mut world = world();
    world.store_fails = true;
    world.ask_devices(1, ALICE, DevicesWish::List);
    world.settle();
    assert_eq!(world.told, [(Ticket(1), Err(ErrorCode::StorageFailed))]);
    world.store_fails = false;
    let phone = world.connect(ALICE, 1, Resume::Stored);
    world.settle();
    world.ask_devices(2, ALICE, DevicesWish::Remove(DeviceId(1)));
    assert!(world.sync_fails());
    world.settle();
    assert_eq!(world.told[1], (Ticket(2), Err(ErrorCode::StorageFailed)), "nobody knows what became of it");
    assert_eq!(closed(&world, phone), Some(ErrorCode::StorageFailed));
}

#[test]
fn a_store_that_can_not_be_read_lets_nobody_in_who_may_have_been_removed() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    world.disconnect(lost);
    remove(&mut world, phone, 2).unwrap();
    everything_is_stored(&mut world);
    world.store_fails = true;
    let refused = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!(closed(&world, refused), Some(ErrorCode::StorageFailed));
    world.store_fails = false;
    let number = SendNumber(1);
    let newer = world.connect(ALICE, 3, Resume::Stored);
    world.send(newer, number.0, BOB, "hello");
    world.settle();
    assert_eq!(accepted(&world.take(newer)).len(), 1);
}

#[test]
fn a_database_that_acknowledgements_wait_for_changes_nothing_of_that() {
    let mut world = World::of_database(1, 2);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    world.send(lost, 1, BOB, "hello");
    world.settle();
    let left = remove(&mut world, phone, 2).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(closed(&world, lost), Some(ErrorCode::DeviceRemoved));
    world.crash(1);
    let lost = world.connect(ALICE, 2, Resume::Stored);
    assert_eq!(closed(&world, lost), Some(ErrorCode::DeviceRemoved));
}

#[test]
fn a_user_changes_devices_no_faster_than_it_fetches() {
    let limits = Limits { fetches: Rate::per_second(2), device_unseen_days: UNSEEN_DAYS, ..Limits::OFF };
    let mut world = World::limited(1, limits);
    let phone = world.connect(ALICE, 1, Resume::Stored);
    let mut last = Ok(Vec::new());
    let named = (0..100).take_while(|at| {
        last = name(&mut world, phone, 1, &format!("name {at}"));
        last.is_ok()
    });
    assert!(named.count() < 50);
    assert_eq!(last, Err(ErrorCode::RateLimited));
    assert_eq!(closed(&world, phone), None);
}

#[test]
fn a_device_whose_name_is_told_is_there_after_a_crash() {
    let mut world = world();
    let phone = world.connect(ALICE, 1, Resume::Stored);
    name(&mut world, phone, 1, "phone").expect("it is there");
    world.crash(1);
    let laptop = world.connect(ALICE, 2, Resume::Stored);
    let names: Vec<_> = list(&mut world, laptop).into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["phone", ""]);
}
