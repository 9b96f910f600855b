//! A client against a model server over a network that is cut at any byte: each message is in the log once and in order,
//! each entry is handed out once and in order, whatever happens on the way.
#![expect(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod model;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use client::{
    Acknowledging, ClientEvent, ClientState, Config, Content, ConversationId, DisconnectReason, Effects, Entry,
    EpochId, ErrorCode, Event, Input, Keeping, MonotonicMs, Resume, SendHandle, SendNumber, Seq, Unanswered, UserId,
};
use model::{DEVICE, GivingUp, NOBODY, OTHER, PEER, Pipe, Saved};
use proptest::prelude::*;

/// What the application keeps. With `Keeping::ByApplication` it is all that survives its crash.
#[derive(Default)]
struct Kept {
    entries: Vec<Entry>,
    /// The newest that it was told of.
    epoch: EpochId,
    unanswered: VecDeque<(SendHandle, Unanswered)>,
}

struct World {
    pipe: Pipe,
    client: ClientState,
    keeping: Keeping,
    kept: Kept,
    now: MonotonicMs,
    texts_sent: Vec<(UserId, String)>,
    accepted: BTreeMap<String, Seq>,
    refused: Vec<String>,
    cancelled: Vec<String>,
    /// Those that were to be cancelled in a run, and in runs that crashed: their numbers may be void, and their places in the order with them.
    cancelling: Vec<String>,
    misplaced: BTreeSet<String>,
    /// What a copy has that was superseded in the log it replaces: a device to which that log was told without it lacks it.
    undone: BTreeSet<Seq>,
    pages: usize,
    disconnects: usize,
    /// Those of them that led to another node, with messages without an answer.
    moves: usize,
    crash_after_events: Option<usize>,
    /// A copy of the server's data.
    saved: Option<Saved>,
    times_set_back: u32,
    /// Accepted, as the application was told, by a log that is no more.
    lost: BTreeSet<String>,
    replaced: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Send { count: u8 },
    SendToNobody,
    SendToOther { count: u8 },
    Cancel { back: u8 },
    Close { is_closed: bool },
    Fetch,
    OthersWrite { count: u8 },
    Receipt,
    Commit,
    Push { entries: u8 },
    Ping,
    Refuse { count: u8 },
    ToServer { bytes: u16 },
    ToClient { bytes: u16 },
    Cut { bytes: u16 },
    Pass { ms: u16 },
    Crash { after_events: u8 },
    Suspend,
    Resume,
    NetworkChanged,
    Save,
    SetBack,
    Redirect { after_ms: u16 },
    RedirectHellos { count: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0..40u16, 0..400u16];
    prop_oneof![
        4 => (1..9u8).prop_map(|count| Step::Send { count }),
        1 => Just(Step::SendToNobody),
        2 => (1..4u8).prop_map(|count| Step::SendToOther { count }),
        1 => (0..6u8).prop_map(|back| Step::Cancel { back }),
        2 => any::<bool>().prop_map(|is_closed| Step::Close { is_closed }),
        1 => Just(Step::Fetch),
        2 => (1..6u8).prop_map(|count| Step::OthersWrite { count }),
        1 => Just(Step::Receipt),
        4 => Just(Step::Commit),
        4 => (1..4u8).prop_map(|entries| Step::Push { entries }),
        1 => Just(Step::Ping),
        1 => (1..4u8).prop_map(|count| Step::Refuse { count }),
        8 => bytes.clone().prop_map(|bytes| Step::ToServer { bytes }),
        8 => bytes.clone().prop_map(|bytes| Step::ToClient { bytes }),
        2 => bytes.prop_map(|bytes| Step::Cut { bytes }),
        4 => prop_oneof![0..200u16, 0..20_000u16].prop_map(|ms| Step::Pass { ms }),
        1 => (0..5u8).prop_map(|after_events| Step::Crash { after_events }),
    ]
}

fn config(keeping: Keeping, kept: &Kept) -> Config {
    let mut config = Config::new("", "token", DEVICE);
    config.keeping = keeping;
    if keeping == Keeping::ByApplication {
        config.acknowledging = Acknowledging::ByApplication;
        config.epoch = kept.epoch;
        config.resume = Resume::After(kept.entries.last().map_or(Seq::ZERO, |entry| entry.seq));
        config.unanswered = kept.unanswered.iter().map(|(_, message)| message.clone()).collect();
    }
    config
}

impl World {
    fn new(keeping: Keeping) -> Self {
        let kept = Kept::default();
        let mut world = Self {
            pipe: Pipe::new(),
            client: ClientState::new(config(keeping, &kept)).unwrap(),
            keeping,
            kept,
            now: MonotonicMs(0),
            texts_sent: Vec::new(),
            accepted: BTreeMap::new(),
            refused: Vec::new(),
            cancelled: Vec::new(),
            cancelling: Vec::new(),
            misplaced: BTreeSet::new(),
            undone: BTreeSet::new(),
            pages: 0,
            disconnects: 0,
            moves: 0,
            crash_after_events: None,
            saved: None,
            times_set_back: 0,
            lost: BTreeSet::new(),
            replaced: 0,
        };
        world.turn(Input::Tick);
        world
    }

    fn turn(&mut self, input: Input<'_>) {
        let mut effects = Effects::default();
        self.client.handle(self.now, 7_777, input, &mut effects);
        // Bytes may leave before the application has seen the events of the same turn.
        self.pipe.carry(&mut effects);
        for event in effects.events {
            if self.crash_after_events == Some(0) {
                return self.restart();
            }
            self.crash_after_events = self.crash_after_events.map(|left| left - 1);
            self.on_event(event);
        }
    }

    /// The application has crashed and starts again with what it has kept.
    fn restart(&mut self) {
        self.crash_after_events = None;
        self.misplaced.extend(self.cancelling.drain(..));
        // The worst case: what the application did not live to note has arrived.
        if let Some(on_the_way) = self.pipe.to_server.take() {
            self.pipe.server.receive(&on_the_way);
        }
        self.pipe.cut();
        self.client = ClientState::new(config(self.keeping, &self.kept)).unwrap();
        let handles = self.client.unanswered().into_iter().map(|(handle, _)| handle);
        self.kept.unanswered.iter_mut().zip(handles).for_each(|(message, handle)| message.0 = handle);
        self.turn(Input::Tick);
    }

    fn on_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Numbered { handle, number } => {
                let message = self.kept.unanswered.iter_mut().find(|(h, _)| *h == handle).unwrap();
                message.1.number = number;
                if let Some(number) = number {
                    self.client.kept(handle, number);
                }
            }
            ClientEvent::MessageAccepted { handle, seq, .. } => {
                let text = self.answered(handle);
                assert_eq!(self.accepted.insert(text, seq), None, "accepted twice");
            }
            ClientEvent::MessageRefused { handle, code } => {
                assert_eq!(code, ErrorCode::Recipient);
                let text = self.answered(handle);
                self.refused.push(text);
            }
            ClientEvent::MessageCancelled { handle } => {
                let text = self.answered(handle);
                self.cancelled.push(text);
            }
            ClientEvent::Entry(entry) => {
                assert!(self.kept.entries.last().is_none_or(|last| last.seq < entry.seq), "order, or twice");
                self.client.acknowledge(entry.seq);
                self.kept.entries.push(entry);
            }
            ClientEvent::Page { page, .. } => {
                let log = &self.pipe.server.log[page.first.0 as usize - 1..page.last.0 as usize];
                assert!(page.entries.len() >= log.iter().flatten().count());
                self.pages += 1;
            }
            ClientEvent::Disconnected { reason, .. } => {
                self.disconnects += 1;
                let has_moved = matches!(reason, DisconnectReason::Redirected { .. });
                self.moves += usize::from(has_moved && !self.kept.unanswered.is_empty());
            }
            ClientEvent::Welcome(welcome) => self.kept.epoch = welcome.epoch,
            ClientEvent::Epoch(epoch) => self.kept.epoch = epoch,
            ClientEvent::LogReplaced { dropped, .. } => {
                assert!(dropped.is_empty(), "there are no changes here");
                self.kept.entries.clear();
                self.kept.epoch = EpochId(0);
                self.client.log_discarded();
                self.replaced += 1;
            }
            // It named a place of a log that is no more.
            ClientEvent::FetchRefused { code: ErrorCode::OtherLog, .. } if self.times_set_back > 0 => {}
            ClientEvent::Committed { .. } | ClientEvent::Suspended | ClientEvent::CaughtUp => {}
            other @ (ClientEvent::MessageReturned { .. }
            | ClientEvent::Skipped { .. }
            | ClientEvent::Inbox { .. }
            | ClientEvent::GroupEntry { .. }
            | ClientEvent::GroupPage { .. }
            | ClientEvent::Groups { .. }
            | ClientEvent::Members { .. }
            | ClientEvent::Marked { .. }
            | ClientEvent::Devices { .. }
            | ClientEvent::Subscription { .. }
            | ClientEvent::Digest { .. }
            | ClientEvent::Presence(_)
            | ClientEvent::Presences { .. }
            | ClientEvent::Typing { .. }
            | ClientEvent::TypingEnded { .. }
            | ClientEvent::FetchRefused { .. }
            | ClientEvent::ServerError { .. }
            | ClientEvent::TokenExpiring { .. }
            | ClientEvent::TokenRefreshed { .. }
            | ClientEvent::TokenRefused { .. }
            | ClientEvent::TokenWanted { .. }
            | ClientEvent::Ended(_)) => {
                panic!("{other:?}")
            }
        }
    }

    fn answered(&mut self, handle: SendHandle) -> String {
        let index = self.kept.unanswered.iter().position(|(h, _)| *h == handle).expect("answered once");
        self.kept.unanswered.remove(index).unwrap().1.content.as_text().unwrap().to_owned()
    }

    fn send(&mut self, to: UserId) {
        let text = format!("message {}", self.texts_sent.len());
        let content = Content::text(&text);
        let handle = self.client.send(to, content.clone()).unwrap();
        self.kept.unanswered.push_back((handle, Unanswered { number: None, to: to.into(), content }));
        self.texts_sent.push((to, text));
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

    /// The server is set back to its copy, if there is one, and not more often than a client goes along with.
    fn set_back(&mut self) {
        // For a while nothing fails: then there is something to be lost.
        (0..20).flat_map(|_| CALM).for_each(|step| self.run(step));
        let Some(saved) = self.saved.take().filter(|_| self.times_set_back + 1 < client::limits::ANEW_MAX) else {
            return;
        };
        self.times_set_back += 1;
        self.pipe.cut();
        let superseded = self.pipe.server.log.iter().map(Option::is_none).collect::<Vec<_>>();
        self.pipe.server.set_back(saved);
        let is_back = self.pipe.server.log.iter().flatten().map(|entry| entry.seq);
        self.undone.extend(is_back.filter(|seq| superseded.get(seq.0 as usize - 1) == Some(&true)));
        let in_log: BTreeSet<String> = self.pipe.server.log.iter().flatten().filter_map(own_text).collect();
        let told = self.accepted.keys().filter(|text| !in_log.contains(*text));
        self.lost.extend(told.cloned());
        self.turn(Input::Disconnected("the server was stopped".into()));
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send { count } => (0..count).for_each(|_| self.send(PEER)),
            Step::SendToNobody => self.send(NOBODY),
            Step::SendToOther { count } => (0..count).for_each(|_| self.send(OTHER)),
            Step::Cancel { back } => {
                let at = self.kept.unanswered.len().checked_sub(1 + usize::from(back));
                if let Some((handle, kept)) = at.map(|at| self.kept.unanswered[at].clone()) {
                    self.cancelling.extend(kept.content.as_text().map(str::to_owned));
                    assert!(self.client.cancel(handle), "what has no answer can be cancelled");
                }
            }
            Step::Close { is_closed } => {
                self.pipe.server.closed.clear();
                self.pipe.server.closed.extend(is_closed.then_some(ConversationId::Person(OTHER)));
            }
            Step::Fetch => {
                let _ = self.client.fetch_log(Seq(1), client::Direction::Forwards, 3);
            }
            Step::OthersWrite { count } => (0..count).for_each(|n| self.pipe.server.others_write(&n.to_string())),
            Step::Receipt => self.pipe.server.receipt(),
            Step::Commit => self.pipe.server.commit(),
            Step::Push { entries } => self.pipe.server.push(entries.into()),
            Step::Ping => self.pipe.server.ping(),
            Step::Redirect { after_ms } => self.pipe.server.redirect(after_ms.into()),
            Step::RedirectHellos { count } => self.pipe.server.redirects = count,
            Step::Refuse { count } => self.pipe.server.refusals = count,
            Step::ToServer { bytes } => self.server_hears(bytes.into()),
            Step::ToClient { bytes } => self.client_hears(bytes.into()),
            Step::Cut { bytes } => {
                self.server_hears(bytes.into());
                self.pipe.cut();
                self.turn(Input::Disconnected("cut".into()));
            }
            Step::Pass { ms } => self.now = self.now.after(ms.into()),
            Step::Crash { after_events } if self.keeping == Keeping::ByApplication => {
                self.crash_after_events = Some(after_events.into());
            }
            Step::Crash { .. } => {}
            Step::Suspend => self.client.suspend(),
            Step::Resume => self.client.resume(),
            Step::NetworkChanged => self.client.network_changed(),
            Step::Save => self.saved = Some(self.pipe.server.save()),
            Step::SetBack => self.set_back(),
        }
        self.turn(Input::Tick);
        self.check_kept_numbers();
    }

    /// What the application would start with after a crash has the numbers that the client goes by.
    fn check_kept_numbers(&self) {
        if self.keeping == Keeping::InMemory {
            return;
        }
        for (handle, Unanswered { number, .. }) in self.client.unanswered() {
            let kept = self.kept.unanswered.iter().find(|(of, _)| *of == handle);
            assert_eq!(kept.map(|(_, message)| message.number), Some(number), "{handle}");
        }
    }

    /// Nothing fails any more: everything must be answered and handed out.
    fn heal(&mut self) {
        self.pipe.server.refusals = 0;
        self.pipe.server.redirects = 0;
        self.pipe.server.closed.clear();
        self.crash_after_events = None;
        self.client.resume();
        for _ in 0..10_000 {
            CALM.into_iter().for_each(|step| self.run(step));
            if self.client.unanswered_count() == 0 && self.pipe.is_quiet() {
                self.run(Step::Pass { ms: 100 });
                self.run(Step::ToServer { bytes: u16::MAX });
                return;
            }
        }
        panic!("never came to rest: {:?}", self.client);
    }

    fn check(&self) {
        assert!(self.kept.unanswered.is_empty());
        let sent = |entry: &&Entry| matches!(entry.event, Event::Sent { .. });
        let text = |entry: &Entry| match &entry.event {
            Event::Sent { content, .. } => content.as_text().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        let log: Vec<&Entry> = self.pipe.server.log.iter().flatten().collect();
        for peer in [PEER, OTHER] {
            let with_peer = |entry: &&Entry| sent(entry) && entry.event.conversation() == Some(peer.into());
            let stored: Vec<String> = log.iter().copied().filter(with_peer).map(text).collect();
            let is_wanted = |(to, text): &&(UserId, String)| {
                *to == peer && !self.cancelled.contains(text) && !self.lost.contains(text)
            };
            let wanted: Vec<String> = self.texts_sent.iter().filter(is_wanted).map(|(_, text)| text.clone()).collect();
            let is_placed = |text: &&String| !self.misplaced.contains(*text);
            assert!(
                stored.iter().filter(is_placed).eq(wanted.iter().filter(is_placed)),
                "not in the order of the conversation: {stored:?}, wanted {wanted:?}"
            );
            let (mut stored, mut wanted) = (stored, wanted);
            stored.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(stored, wanted, "in the log: each that was not cancelled once");
        }
        let is_refused = |(to, text): &&(UserId, String)| *to == NOBODY && !self.cancelled.contains(text);
        let refused = self.texts_sent.iter().filter(is_refused).count();
        assert_eq!(self.refused.len(), refused);
        for entry in log.iter().copied().filter(sent) {
            // After a crash the acceptance may have been seen by the run that crashed, or by the next one.
            assert_eq!(self.accepted.get(&text(entry)), Some(&entry.seq));
        }
        // What was superseded may or may not have been seen; all the rest must have been.
        let handed_out: Vec<&Entry> =
            self.kept.entries.iter().filter(|entry| self.pipe.server.log[entry.seq.0 as usize - 1].is_some()).collect();
        let is_sure = |entry: &&&Entry| !self.undone.contains(&entry.seq);
        assert!(handed_out.iter().filter(is_sure).eq(log.iter().filter(is_sure)), "{handed_out:?}, in the log {log:?}");
        assert_eq!(self.client.unasked_answers(), 0);
        assert_eq!(self.pipe.server.acknowledged, self.client.position().unwrap().0);
    }
}

/// The text, if this user wrote it.
fn own_text(entry: &Entry) -> Option<String> {
    match &entry.event {
        Event::Sent { content, .. } => content.as_text().map(str::to_owned),
        _ => None,
    }
}

fn run(keeping: Keeping, giving_up: GivingUp, steps: Vec<Step>) {
    let mut world = World::new(keeping);
    world.pipe.server.giving_up = giving_up;
    steps.into_iter().for_each(|step| world.run(step));
    world.heal();
    world.check();
}

/// What goes on when nothing fails.
const CALM: [Step; 5] = [
    Step::ToServer { bytes: u16::MAX },
    Step::Commit,
    Step::Push { entries: 3 },
    Step::ToClient { bytes: u16::MAX },
    Step::Pass { ms: 100 },
];

/// A copy is put back seldom enough for something to be lost with it.
fn step_or_set_back() -> impl Strategy<Value = Step> {
    prop_oneof![40 => step(), 1 => Just(Step::Save), 1 => Just(Step::SetBack)]
}

/// A user who is moved, and connections that do not begin where the user is.
fn step_or_redirect() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => step(),
        1 => prop_oneof![Just(0), 0..2_000u16].prop_map(|after_ms| Step::Redirect { after_ms }),
        1 => (1..4u8).prop_map(|count| Step::RedirectHellos { count }),
    ]
}

/// A device that stands still, comes back, and changes its network.
fn step_or_pause() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => step(),
        1 => Just(Step::Suspend),
        2 => Just(Step::Resume),
        1 => Just(Step::NetworkChanged),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_loss_of_connection_loses_or_doubles_anything(steps in prop::collection::vec(step(), 0..120)) {
        run(Keeping::InMemory, GivingUp::Known, steps);
    }

    #[test]
    fn an_application_that_keeps_its_numbers_may_crash_as_well(steps in prop::collection::vec(step(), 0..120)) {
        run(Keeping::ByApplication, GivingUp::Known, steps);
    }

    #[test]
    fn a_server_that_has_no_give_up_holds_nothing_up_for_ever(
        keeping in prop::sample::select(vec![Keeping::InMemory, Keeping::ByApplication]),
        giving_up in prop::sample::select(vec![GivingUp::Untold, GivingUp::Mistold]),
        steps in prop::collection::vec(step(), 0..120),
    ) {
        run(keeping, giving_up, steps);
    }

    #[test]
    fn a_server_that_is_set_back_to_a_copy_loses_no_message_without_an_answer_and_nothing_is_shown_twice(
        keeping in prop::sample::select(vec![Keeping::InMemory, Keeping::ByApplication]),
        steps in prop::collection::vec(step_or_set_back(), 0..300),
    ) {
        run(keeping, GivingUp::Known, steps);
    }

    #[test]
    fn nodes_that_send_a_client_on_lose_and_double_nothing(
        keeping in prop::sample::select(vec![Keeping::InMemory, Keeping::ByApplication]),
        steps in prop::collection::vec(step_or_redirect(), 0..120),
    ) {
        run(keeping, GivingUp::Known, steps);
    }

    #[test]
    fn a_device_that_stands_still_and_changes_its_network_loses_and_doubles_nothing(
        keeping in prop::sample::select(vec![Keeping::InMemory, Keeping::ByApplication]),
        steps in prop::collection::vec(step_or_pause(), 0..120),
    ) {
        run(keeping, GivingUp::Known, steps);
    }

    #[test]
    fn noise_never_panics_and_is_never_believed(noise in prop::collection::vec(any::<u8>(), 1..300), cut in 1..20usize) {
        let mut client = ClientState::new(Config::new("", "token", DEVICE)).unwrap();
        let mut effects = Effects::default();
        for at in 0..50 {
            let now = MonotonicMs(at * 40_000);
            client.handle(now, at, Input::Tick, &mut effects);
            client.handle(now, at, Input::Connected, &mut effects);
            for bytes in noise.chunks(cut) {
                client.handle(now, at, Input::Bytes(bytes), &mut effects);
            }
        }
        let has_answer = effects.events.iter().any(|event| matches!(event, ClientEvent::MessageAccepted { .. }));
        prop_assert!(!has_answer);
    }
}

#[test]
fn numbers_go_on_where_a_device_without_memory_left_off() {
    let mut world = World::new(Keeping::InMemory);
    world.run(Step::Send { count: 3 });
    world.heal();
    world.client = ClientState::new(Config::new("", "token", DEVICE)).unwrap();
    world.pipe.cut();
    world.run(Step::Send { count: 2 });
    world.heal();
    let number = |entry: &Option<Entry>| match entry.as_ref().unwrap().event {
        Event::Sent { number, .. } => number,
        ref other => panic!("{other:?}"),
    };
    let numbers: Vec<SendNumber> = world.pipe.server.log.iter().map(number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5].map(SendNumber));
}

#[test]
fn a_conversation_keeps_its_order_when_a_message_becomes_void_behind_others_that_are_sent_again() {
    let mut world = World::new(Keeping::InMemory);
    let connects = [
        Step::Pass { ms: 20_000 },
        // The link, the hello, and what follows the welcome.
        Step::ToServer { bytes: u16::MAX },
        Step::ToServer { bytes: u16::MAX },
        Step::ToClient { bytes: u16::MAX },
        Step::ToServer { bytes: u16::MAX },
    ];
    world.run(Step::SendToOther { count: 1 });
    world.heal();
    // The conversation is open, so both leave at once; they are lost, and sent again.
    world.run(Step::SendToOther { count: 2 });
    world.run(Step::Cut { bytes: 0 });
    connects.iter().cloned().for_each(|step| world.run(step));
    // If the next one left before they are answered, it would be refused and void, and the device would hear nothing of that.
    world.run(Step::Close { is_closed: true });
    world.run(Step::SendToOther { count: 1 });
    world.run(Step::Send { count: 1 });
    world.run(Step::Cut { bytes: u16::MAX });
    world.run(Step::Close { is_closed: false });
    connects.iter().cloned().for_each(|step| world.run(step));
    world.run(Step::SendToOther { count: 1 });
    world.heal();
    world.check();
}

#[test]
fn the_random_runs_reach_refusals_disconnects_and_pages() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut disconnects, mut pages, mut cancelled, mut void) = (0, 0, 0, 0, 0);
    for _ in 0..100 {
        let steps = prop::collection::vec(step(), 100).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(Keeping::InMemory);
        steps.into_iter().for_each(|step| world.run(step));
        refused += world.refused.len();
        disconnects += world.disconnects;
        pages += world.pages;
        cancelled += world.cancelled.len();
        void += world.pipe.server.void.len();
    }
    assert!(refused > 5 && disconnects > 100 && pages > 20, "{refused} {disconnects} {pages}");
    assert!(cancelled > 20 && void > 20, "{cancelled} {void}");
}

#[test]
fn the_random_runs_reach_moves_with_messages_on_their_way() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let mut moves = 0;
    for _ in 0..100 {
        let steps = prop::collection::vec(step_or_redirect(), 100).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(Keeping::InMemory);
        steps.into_iter().for_each(|step| world.run(step));
        moves += world.moves;
    }
    assert!(moves > 50, "{moves}");
}

#[test]
fn the_random_runs_reach_logs_that_are_replaced_and_messages_that_are_lost_with_them() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut replaced, mut lost) = (0, 0);
    for _ in 0..60 {
        let steps = prop::collection::vec(step_or_set_back(), 300).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(Keeping::InMemory);
        steps.into_iter().for_each(|step| world.run(step));
        world.heal();
        replaced += world.replaced;
        lost += world.lost.len();
    }
    assert!(replaced > 10 && lost > 5, "{replaced} {lost}");
}
