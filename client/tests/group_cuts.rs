//! A client in a group over a network that is cut at any byte: what it holds of the group in the end is the group's log, each message that it
//! sent there is in it once and in order, or was refused by it.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod model;

use client::{
    ClientEvent, ClientState, Config, Content, Direction, Effects, Event, FetchHandle, Groups, Input, MonotonicMs,
    PageTaken, Seq,
};
use model::{
    DEVICE, Pipe,
    group::{GROUP, ME, UNWANTED},
};
use proptest::{collection::vec, prelude::*};

struct World {
    pipe: Pipe,
    client: ClientState,
    groups: Groups,
    now: MonotonicMs,
    /// What is asked for of the group.
    fetching: Option<FetchHandle>,
    sent: Vec<String>,
    refused: usize,
    cuts: usize,
    filled: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Send { count: u8 },
    SendUnwanted,
    OthersWrite { count: u8 },
    Number,
    Tell,
    Commit,
    Push { entries: u8 },
    ToServer { bytes: u16 },
    ToClient { bytes: u16 },
    Cut { bytes: u16 },
    Pass { ms: u16 },
}

/// Nothing fails.
const CALM: [Step; 7] = [
    Step::Pass { ms: 2_000 },
    Step::ToServer { bytes: u16::MAX },
    Step::Commit,
    Step::Push { entries: 20 },
    Step::Number,
    Step::Tell,
    Step::ToClient { bytes: u16::MAX },
];

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0..40u16, 0..400u16];
    prop_oneof![
        3 => (1..4u8).prop_map(|count| Step::Send { count }),
        1 => Just(Step::SendUnwanted),
        4 => (1..6u8).prop_map(|count| Step::OthersWrite { count }),
        3 => Just(Step::Number),
        2 => Just(Step::Tell),
        3 => Just(Step::Commit),
        4 => (1..4u8).prop_map(|entries| Step::Push { entries }),
        8 => bytes.clone().prop_map(|bytes| Step::ToServer { bytes }),
        8 => bytes.clone().prop_map(|bytes| Step::ToClient { bytes }),
        2 => bytes.prop_map(|bytes| Step::Cut { bytes }),
        4 => prop_oneof![0..200u16, 0..20_000u16].prop_map(|ms| Step::Pass { ms }),
    ]
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            pipe: Pipe::new(),
            client: ClientState::new(Config::new("", "token", DEVICE)).unwrap(),
            groups: Groups::default(),
            now: MonotonicMs(0),
            fetching: None,
            sent: Vec::new(),
            refused: 0,
            cuts: 0,
            filled: 0,
        };
        world.turn(Input::Tick);
        world
    }

    fn turn(&mut self, input: Input<'_>) {
        let mut effects = Effects::default();
        self.client.handle(self.now, 7_777, input, &mut effects);
        self.pipe.carry(&mut effects);
        effects.events.into_iter().for_each(|event| self.on_event(event));
    }

    /// An application that looks at the group, and does what SPEC 8.12 says.
    fn on_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Welcome(welcome) => self.groups.welcome(welcome.user),
            ClientEvent::Entry(entry) => {
                self.refused += usize::from(matches!(entry.event, Event::GroupRefused { .. }));
                self.groups.entry(&entry);
            }
            ClientEvent::GroupEntry { group, entry } => self.groups.pushed(group, &entry),
            ClientEvent::GroupPage { fetch, direction, page } => {
                assert_eq!(self.fetching.take(), Some(fetch));
                assert_ne!(self.groups.page(direction, &page), PageTaken::Left);
                self.filled += usize::from(direction == Direction::Forwards);
            }
            ClientEvent::MessageAccepted { .. }
            | ClientEvent::Disconnected { .. }
            | ClientEvent::Epoch(_)
            | ClientEvent::CaughtUp => {}
            other => panic!("{other:?}"),
        }
    }

    fn look(&mut self) {
        let group = self.groups.get(GROUP).cloned().unwrap_or_default();
        let wanted = group.lacks().map(|from| (from, Direction::Forwards));
        let wanted = wanted.or_else(|| group.older().map(|from| (from, Direction::Backwards)));
        if let Some((from, direction)) = wanted.filter(|_| self.fetching.is_none()) {
            self.fetching = Some(self.client.fetch_conversation(GROUP, from, direction, 3).unwrap());
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send { count } => (0..count).for_each(|_| {
                let text = format!("mine {}", self.sent.len());
                self.client.send(GROUP, Content::text(&text)).unwrap();
                self.sent.push(text);
            }),
            Step::SendUnwanted => {
                self.client.send(GROUP, Content::text(UNWANTED)).unwrap();
                self.sent.push(UNWANTED.to_owned());
            }
            Step::OthersWrite { count } => (0..count).for_each(|_| self.pipe.server.others_write_to_group("theirs")),
            Step::Number => self.pipe.server.number_group(),
            Step::Tell => self.pipe.server.tell_of_group(),
            Step::Commit => self.pipe.server.commit(),
            Step::Push { entries } => self.pipe.server.push(entries.into()),
            Step::ToServer { bytes } => self.server_hears(bytes.into()),
            Step::ToClient { bytes } => self.client_hears(bytes.into()),
            Step::Cut { bytes } => {
                self.server_hears(bytes.into());
                self.pipe.cut();
                self.cuts += 1;
                self.turn(Input::Disconnected("cut".into()));
            }
            Step::Pass { ms } => self.now = self.now.after(ms.into()),
        }
        self.look();
        self.turn(Input::Tick);
    }

    fn server_hears(&mut self, bytes: usize) {
        if let Some(input) = self.pipe.server_hears(bytes) {
            self.turn(input);
        }
    }

    fn client_hears(&mut self, bytes: usize) {
        let arriving = self.pipe.client_hears(bytes);
        if !arriving.is_empty() {
            self.turn(Input::Bytes(&arriving));
        }
    }

    /// Nothing fails any more: everything must come to rest.
    fn heal(&mut self) {
        for _ in 0..1_000 {
            CALM.into_iter().for_each(|step| self.run(step));
            if self.pipe.is_quiet() && self.client.unanswered_count() == 0 && self.fetching.is_none() {
                return;
            }
        }
        panic!("never came to rest: {:?}", self.client);
    }

    fn check(&self) {
        let log = &self.pipe.server.group.log;
        let Some(group) = self.groups.get(GROUP) else { return assert!(log.is_empty()) };
        assert!(group.entries().eq(log), "{:?}, in the log {log:?}", group.entries().collect::<Vec<_>>());
        assert_eq!((group.lacks(), group.older(), group.unanswered().len()), (None, None, 0));
        assert_eq!(group.reached(), Seq(log.len() as u64));
        let mine = log.iter().filter(|entry| entry.from == ME).filter_map(|entry| entry.content.as_text());
        assert!(mine.eq(self.sent.iter().filter(|text| *text != UNWANTED)), "once, and in order");
        assert_eq!(self.refused, self.sent.iter().filter(|text| *text == UNWANTED).count());
    }
}

proptest! {
    #[test]
    fn what_is_held_of_a_group_is_its_log_whatever_happens_on_the_way(steps in vec(step(), 0..150)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.run(step));
        world.heal();
        world.check();
    }
}

/// What the property is about does happen.
#[test]
fn a_connection_that_is_lost_in_the_midst_of_pushes_is_made_up_for_by_the_pointer() {
    let mut world = World::new();
    world.run(Step::OthersWrite { count: 3 });
    world.heal();
    world.run(Step::Send { count: 2 });
    world.run(Step::ToServer { bytes: u16::MAX });
    world.run(Step::Commit);
    world.run(Step::OthersWrite { count: 3 });
    // The first of the pushes arrives in part.
    world.run(Step::ToClient { bytes: 40 });
    world.run(Step::Cut { bytes: 0 });
    world.run(Step::OthersWrite { count: 5 });
    world.heal();
    world.check();
    assert_eq!(world.pipe.server.group.log.len(), 13);
    assert!(world.cuts == 1 && world.filled > 0);
}
