//! What is done to messages of a group: edits, reactions, taking back, deletion for oneself.

use proto_spec::{
    Body, ClientFrame, Content, ErrorCode, Event, RequestId, Rules, Seq, ServerFrame, UserId, limits::REACTIONS_MAX,
};

use crate::people::{GROUP, People, name};

#[test]
fn a_message_is_changed_and_taken_back_by_its_author_and_reacted_to_by_all_wherever_it_is() {
    for is_stored in [false, true] {
        let mut people = People::group(3, 3, Rules::default());
        people.say(2, "helo");
        people.say(1, "something else");
        if is_stored {
            people.world.ingest();
        }
        people.say_only(1, Content::reaction(name(2, 4), "+", None));
        people.say_only(2, Content::edit(name(2, 4), &Content::text("hello"), None));
        people.say_only(1, Content::reaction(name(2, 4), "!", None));
        people.say_only(1, Content::text("behind it"));
        people.say_only(3, Content::edit(name(2, 4), &Content::text("mine"), None));
        people.say_only(3, Content::reaction(name(1, 4), "?", None));
        people.say_only(3, Content::unsend(name(3, 99), None));
        people.world.settle();
        let codes: Vec<_> = people.refused(3).into_iter().map(|(_, code)| code).collect();
        assert_eq!(codes, [ErrorCode::NotTheAuthor, ErrorCode::NoSuchMessage, ErrorCode::NoSuchMessage]);
        let check = |people: &mut People, user| {
            let history = people.history(user);
            let of_message: Vec<_> = history.iter().filter(|entry| entry.content.about().is_some()).collect();
            let says = of_message.iter().find(|entry| entry.place() == Some(Seq(4))).expect("it was edited");
            let Ok(Body::Edit(edit)) = says.content.body() else { panic!("{says:?}") };
            assert_eq!(edit.content(), Content::text("hello"));
            assert_eq!(edit.stands.map(|stands| stands.place), Some(Seq(4)));
            let reactions: Vec<_> = of_message.iter().filter(|entry| entry.place().is_none()).collect();
            assert!(matches!(reactions[..], [entry] if entry.from == UserId(1)), "{reactions:?}");
            assert!(history.iter().all(|entry| entry.seq != Seq(4)), "what it said first is gone");
            assert!(history.is_sorted_by_key(|entry| entry.seq));
        };
        check(&mut people, 3);
        people.world.ingest();
        check(&mut people, 3);
        people.say(2, "one more");
        people.say_only(2, Content::unsend(name(2, 4), None));
        people.say_only(1, Content::reaction(name(2, 4), "*", None));
        people.say_only(2, Content::edit(name(2, 4), &Content::text("again"), None));
        people.world.settle();
        let refused: Vec<_> = [1, 2].map(|user| people.refused(user).pop().map(|(_, code)| code)).to_vec();
        assert_eq!(refused, [Some(ErrorCode::TakenBack); 2]);
        for _ in 0..2 {
            let history = people.history(3);
            let of_message: Vec<_> = history.iter().filter(|entry| entry.content.about().is_some()).collect();
            assert!(matches!(of_message[..], [entry] if entry.content.is_unsend()), "{of_message:?}");
            people.world.ingest();
        }
        let texts = people.texts(3);
        assert_eq!(texts, ["something else", "behind it", "one more"], "in the order of the author");
    }
}

#[test]
fn a_message_has_so_many_reactions_and_who_has_one_may_change_it() {
    for is_stored in [false, true] {
        let members = REACTIONS_MAX as u64 + 1;
        let mut people = People::group(members as usize, members as usize, Rules::HISTORY);
        people.say(1, "hello");
        let message = name(1, members + 1);
        for user in 1..members {
            people.say_only(user, Content::reaction(message, &format!("{user}"), None));
            people.world.settle();
        }
        if is_stored {
            people.world.ingest();
        }
        people.say_only(members, Content::reaction(message, "too many", None));
        people.world.settle();
        let codes =
            |people: &mut People, user| people.refused(user).into_iter().map(|(_, code)| code).collect::<Vec<_>>();
        assert_eq!(codes(&mut people, members), [ErrorCode::ReactionsFull]);
        people.say_only(1, Content::reaction(message, "another", None));
        people.world.settle();
        // Who takes it back makes room, and comes back as one more.
        people.say_only(2, Content::reaction(message, "", None));
        people.world.settle();
        if is_stored {
            people.world.ingest();
        }
        people.say_only(members, Content::reaction(message, "one more", None));
        people.world.settle();
        assert_eq!(codes(&mut people, members), [ErrorCode::ReactionsFull], "no more than before");
        people.say_only(2, Content::reaction(message, "again", None));
        people.world.settle();
        assert_eq!(codes(&mut people, 2), [ErrorCode::ReactionsFull]);
        for user in (1..members).filter(|user| *user != 2) {
            assert_eq!(codes(&mut people, user), [], "{user}");
        }
        let history = people.history(members);
        let reactions = history.iter().filter_map(|entry| match entry.content.body() {
            Ok(Body::Reaction(reaction)) => Some((entry.from.0, reaction.reaction.to_owned())),
            _ => None,
        });
        let mut expected: Vec<_> = (3..members).map(|user| (user, format!("{user}"))).collect();
        expected.extend([(1, "another"), (2, ""), (members, "one more")].map(|(user, says)| (user, says.to_owned())));
        assert!(reactions.eq(expected), "{history:?}");
    }
}

#[test]
fn a_message_is_deleted_for_oneself_once_and_the_others_keep_it() {
    let mut people = People::group(2, 2, Rules::default());
    people.say(1, "hello");
    people.forget();
    let delete = |request, place| ClientFrame::DeleteMessage {
        request: RequestId(request),
        conversation: GROUP.into(),
        place: Seq(place),
    };
    for (request, place) in [(1, 3), (2, 3), (3, 99), (4, 0)] {
        people.world.frame(people.link(2), &delete(request, place));
        people.world.settle();
        if request == 1 {
            people.world.ingest();
        }
    }
    let frames = people.take(2);
    let marked = frames.iter().filter(|frame| matches!(frame, ServerFrame::Marked { .. })).count();
    assert_eq!(marked, 4, "{frames:?}");
    let log = people.world.log(2);
    let deleted: Vec<_> = log.iter().filter(|entry| matches!(entry.event, Event::Deleted { .. })).collect();
    assert!(
        matches!(deleted[..], [entry] if matches!(entry.event, Event::Deleted { place: Seq(3), .. })),
        "{deleted:?}"
    );
    assert_eq!((people.texts(1), people.texts(2)), (vec!["hello".to_owned()], vec!["hello".to_owned()]));
}
