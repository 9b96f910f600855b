//! Pushes to the members who are connected: in turns, to those who do not keep up, and what is left out.

use proto_spec::{Act, Content, Event, Rules, ServerFrame, Standing, UserId};
use server::{
    core::CoreMessage,
    limits,
    shard::{EnvelopeBody, GroupSaid},
};
use storage::group::beside;
use tests::world::World;

use crate::people::{GROUP, People, text, texts};

#[test]
fn a_connection_that_does_not_read_is_told_afterwards_what_it_lacks() {
    let mut people = People::group(2, 2, Rules::default());
    let link = people.link(2).0;
    people.world.clients[link].stuck = true;
    let long = "x".repeat(16_000);
    (0..20).for_each(|_| people.say(1, &long));
    people.say(1, "the last one");
    people.world.clients[link].stuck = false;
    people.world.settle();
    let frames = people.take(2);
    let pointer = frames.iter().rev().find_map(|frame| match frame {
        ServerFrame::Deliver { entry } => match entry.event {
            Event::Group { up_to, .. } => Some(up_to.0),
            _ => None,
        },
        _ => None,
    });
    let last = texts(&frames).last().map(|(seq, _)| *seq);
    assert!(people.world.total(|counters| counters.fell_behind) > 0, "it took everything");
    assert_eq!(pointer, Some(23));
    assert!(last.is_some_and(|last| (3..23).contains(&last)), "{last:?} was the last that was pushed");
    people.say(1, "live again");
    assert_eq!(people.pushed(2), [text(24, "live again")]);
}

#[test]
fn an_entry_for_very_many_takes_several_turns_and_comes_to_each_of_them_once() {
    let members = 2 * limits::FANOUT_TURN_MAX + 100;
    let mut people = People::many(1, members);
    let delivered = |world: &World| world.total(|counters| counters.group_delivered);
    let (before, mut turns) = (delivered(&people.world), Vec::new());
    people.say_only(1, Content::text("to all"));
    assert_eq!(delivered(&people.world), before, "it is not durable");
    loop {
        let before = delivered(&people.world);
        let world = &mut people.world;
        if !(world.sync_one() || world.answer_one() || world.deliver_one() || world.work_one()) {
            break;
        }
        let in_turn = delivered(world) - before;
        turns.extend((in_turn > 0).then_some(in_turn));
    }
    assert_eq!(turns, [limits::FANOUT_TURN_MAX as u64, limits::FANOUT_TURN_MAX as u64, 100]);
    people.say(2, "and once more");
    let at = members as u64;
    let expected = [text(at + 1, "to all"), text(at + 2, "and once more")];
    assert!((1..=members as u64).all(|user| people.pushed(user) == expected));
}

#[test]
fn what_is_too_much_to_keep_is_left_out_and_pointed_at_and_who_goes_by_it_is_pushed_nothing() {
    let members = 2 * limits::FANOUT_TURN_MAX + 200;
    let mut people = People::many(2, members);
    let home = people.world.home_of(beside(GROUP));
    let elsewhere: Vec<_> = (2..=members as u64).filter(|user| people.world.home_of(UserId(*user)) != home).collect();
    // Those of a core get a push by their numbers, so that these two are left for a later turn.
    let [.., stays, goes] = elsewhere[..] else { panic!("there are two cores") };
    assert!(elsewhere.len() > limits::FANOUT_TURN_MAX + 2, "{} are at the other core", elsewhere.len());
    let core = people.world.home_of(UserId(goes));
    let removal = members as u64 + 1;
    let long = "x".repeat(16_000);
    let many = limits::PUSHES_KEPT_BYTES_MAX / long.len() + 4;
    people.say_only(1, Content::act(&Act::Remove { user: UserId(goes) }));
    // The other core hears all at once of what happened, and not yet from the group how the one who goes stands.
    let (mut pushes, mut standings) = (Vec::new(), Vec::new());
    for _ in 0..many {
        people.say_only(1, Content::text(&long));
        let world = &mut people.world;
        loop {
            let mut moved = world.sync_one() || world.answer_one();
            for at in world.with_mail() {
                let message = world.take_mail(at).expect("there is some");
                match &message {
                    CoreMessage::Group(mail) if at == core && matches!(mail.said, GroupSaid::Pushed(_)) => {
                        pushes.push(message);
                    }
                    CoreMessage::Envelope(of) if at == core && matches!(of.body, EnvelopeBody::Stand { .. }) => {
                        standings.push(message);
                    }
                    _ => world.hear(at, message),
                }
                moved = true;
            }
            moved |= world.work_one();
            if !moved {
                break;
            }
        }
    }
    assert_eq!((pushes.len(), standings.len()), (many + 1, 1));
    people.world.hear_at_once(core, pushes);
    assert_eq!((people.pushed(stays), people.pushed(goes)), (vec![], vec![]), "they are behind the others");
    people.world.settle();
    assert_eq!(people.pushed(goes), [], "what sends them away was left out");
    let pushed: Vec<_> = people.pushed(stays).into_iter().map(|(seq, _)| seq).collect();
    let left_out = pushed.first().expect("something was kept") - removal;
    assert!(left_out > 0 && pushed.is_sorted(), "{pushed:?} behind {removal}");
    let head = removal + many as u64;
    assert_eq!(people.pointer(stays), Some((Standing::Member, stays, head)), "{pushed:?}");
    standings.into_iter().for_each(|message| people.world.hear(core, message));
    people.world.settle();
    assert_eq!(people.pointer(goes), Some((Standing::Removed, goes, removal)));
    people.say(1, "live again");
    assert_eq!(people.pushed(stays), [text(head + 1, "live again")]);
    assert_eq!(people.pushed(goes), []);
}
