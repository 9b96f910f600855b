//! A trace of messages, `time_ms<TAB>from<TAB>to<TAB>text` a line, sent at the times it names, or faster. Users are made from the
//! names, in the order in which they appear. An open loop: a message that is late counts from when it should have left. Between the messages
//! people do what else was asked for.
//!
//! A `to` that begins with `#` names a group. A trace does not say who is in it, but that who writes there is. So before the load whoever
//! writes to it first creates it and adds all others who ever do; there are no other members, and nobody comes or goes.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read as _,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use proto_spec::{
    UserId,
    limits::{SEND_WINDOW, TEXT_BYTES_MAX},
};

use super::{
    acts::{Acts, People, Shares},
    founding::{announce, create, group_id},
    settle::Settle,
};
use crate::{
    devices::Devices,
    draw::{Draw, mix},
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::{PING_AFTER_S, TRACE_BYTES_MAX, TRACE_LINE_BYTES_MAX},
    session::Happened,
    verify::{Answered, Crew, StreamId, Text, Written, groups::Said, text::BESIDE_BYTES},
    world::{World, share},
};

const FORMAT: &str = "\
The trace, a message a line, by time, with tabs between:
  time_ms  from  to  text
  20       ann   bob       Are you there?
  45       bob   #friends  Lunch at twelve?
Users are made from the names, in the order in which they appear. A `to` that begins with `#` is a group: whoever writes to it first in
the trace creates it before the load, and everybody who ever writes to it is a member from then on, and nobody else. What people do
between the messages (--edits 5 and its like) follows the message before: if that went to a group they edit, take back, react and answer
there; the rest they do with one person.";

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = FORMAT)]
pub struct Arguments {
    /// The trace: see below
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How many times as fast as it says
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,

    #[command(flatten)]
    shares: Shares,
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if speed > 0.0 && speed.is_finite() { Ok(speed) } else { Err("the speed must be above 0".to_owned()) }
}

impl Arguments {
    pub(super) fn plan(&self, world: &World) -> anyhow::Result<Plan> {
        let acts = self.shares.of_a_trace()?;
        let name = self.file.display();
        let mut text = String::new();
        let file = File::open(&self.file).with_context(|| format!("{name}"))?;
        file.take(TRACE_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| format!("{name}"))?;
        ensure!(text.len() as u64 <= TRACE_BYTES_MAX, "{name} has more than {TRACE_BYTES_MAX} bytes");
        let trace = parse(&text).with_context(|| format!("{name}"))?;
        drop(text);
        let users = trace.names as u64;
        let lanes = world.lanes_for(users)?.min(trace.names);
        let length_ms = trace.messages.last().map_or(0, |last| last.at_ms);
        let length = Duration::from_secs_f64((length_ms as f64 / 1e3 / self.speed).max(1e-3));
        let mut parameters = vec![
            ("file", name.to_string()),
            ("speed", self.speed.to_string()),
            ("users", trace.names.to_string()),
            ("messages", trace.messages.len().to_string()),
        ];
        if !trace.groups.is_empty() {
            let to_groups = trace.messages.iter().filter(|message| matches!(message.to, To::Group(_))).count();
            parameters.push(("groups", trace.groups.len().to_string()));
            parameters.push(("of the messages, to groups", to_groups.to_string()));
        }
        if acts.change_messages() {
            parameters.extend(acts.parameters());
        }
        let groups = Arc::new(Groups { run: world.run, members: trace.groups, places: OnceLock::new() });
        let start_us = Arc::new(OnceLock::new());
        let mut plans = Vec::new();
        let mut first = 0;
        for lane in 0..lanes {
            let end = first + share(users, lane, lanes) as u32;
            let mut crew = Crew::default();
            for user in first..end {
                crew.add(world.user(user.into()), 1);
            }
            let mut draw = Draw::new(mix(world.run) ^ lane as u64);
            let script = Replay {
                acts,
                people: People::new(world.user(0), (0..users as u32).collect(), Draw::new(draw.number())),
                draw,
                messages: messages_of(&trace.messages, first..end),
                first,
                groups: Arc::clone(&groups),
                is_founded: false,
                compares: world.compares_histories,
                settle: Settle::default(),
                speed: self.speed,
                next: 0,
                start_us: Arc::clone(&start_us),
                streams: HashMap::new(),
            };
            plans.push(LanePlan { crew, script: Box::new(script) });
            first = end;
        }
        Ok(Plan {
            scenario: "replay",
            parameters,
            lanes: plans,
            trace: Some(Arc::new(trace.texts)),
            goal: Goal::Time(length),
            login: LoginFirst::Everybody,
            window: SEND_WINDOW as u16,
            handshakes_max: None,
            logins_a_second: None,
            asked: Asked::OwnTimes,
            ping_after_s: PING_AFTER_S,
            eras: &[],
            stages: None,
            notes: Vec::new(),
        })
    }
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    User(u32),
    Group(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    /// Which text.
    line: u32,
    /// After the first line.
    at_ms: u64,
    from: u32,
    to: To,
}

#[derive(Debug, Default)]
struct Trace {
    /// By time.
    messages: Vec<Message>,
    texts: Vec<Box<str>>,
    names: usize,
    /// The members of each, in the order in which they wrote first.
    groups: Vec<Vec<u32>>,
}

fn parse(text: &str) -> anyhow::Result<Trace> {
    let mut trace = Trace::default();
    let mut names: HashMap<&str, u32> = HashMap::new();
    let mut groups: HashMap<&str, u32> = HashMap::new();
    let mut members: HashSet<(u32, u32)> = HashSet::new();
    let mut last_ms = None;
    let mut first_ms = 0;
    for (number, line) in (1..).zip(text.lines()) {
        ensure!(line.len() <= TRACE_LINE_BYTES_MAX, "line {number} has more than {TRACE_LINE_BYTES_MAX} bytes");
        if line.is_empty() {
            continue;
        }
        let mut columns = line.splitn(4, '\t');
        let mut column = || columns.next();
        let (Some(time), Some(from), Some(to), Some(text)) = (column(), column(), column(), column()) else {
            bail!("line {number} is not time_ms, from, to and text with tabs between them");
        };
        let time_ms: u64 =
            time.parse().with_context(|| format!("line {number}: `{time}` is no time in milliseconds"))?;
        ensure!(last_ms.is_none_or(|last| last <= time_ms), "line {number} lies before the line above it in time");
        first_ms = if last_ms.is_none() { time_ms } else { first_ms };
        last_ms = Some(time_ms);
        ensure!(!from.is_empty() && !to.is_empty(), "line {number} lacks a name");
        ensure!(
            !from.starts_with('#'),
            "line {number} is from the group `{from}`: a group does not write, name the user who does"
        );
        ensure!(to != "#", "line {number} is to a group without a name: put one behind the `#`");
        let bytes = text.len();
        ensure!(
            (1..=TEXT_BYTES_MAX).contains(&bytes),
            "line {number}: the text has {bytes} bytes, 1 to {TEXT_BYTES_MAX} are allowed"
        );
        let mut id = |name| {
            let next = names.len() as u32;
            *names.entry(name).or_insert(next)
        };
        let (line, from) = (trace.messages.len() as u32, id(from));
        let to = if to.starts_with('#') {
            let next = groups.len() as u32;
            let group = *groups.entry(to).or_insert(next);
            trace.groups.resize_with(groups.len(), Vec::new);
            if members.insert((group, from)) {
                trace.groups[group as usize].push(from);
            }
            To::Group(group)
        } else {
            To::User(id(to))
        };
        trace.messages.push(Message { line, at_ms: time_ms - first_ms, from, to });
        trace.texts.push(text.into());
    }
    trace.names = names.len();
    ensure!(!trace.messages.is_empty(), "there is no message in it");
    Ok(trace)
}

/// What these users write.
fn messages_of(all: &[Message], users: Range<u32>) -> Vec<Message> {
    all.iter().filter(|message| users.contains(&message.from)).copied().collect()
}

/// The groups of a trace, whose members may be in any lanes.
#[derive(Debug)]
struct Groups {
    run: u64,
    /// Seats of the members; the first one is the owner's.
    members: Vec<Vec<u32>>,
    /// Among the groups of the ledger that all lanes share, once it knows them.
    places: OnceLock<Vec<u32>>,
}

impl Groups {
    /// Their places among the groups of the ledger, which is told of them first.
    fn announce(&self, devices: &Devices) -> &[u32] {
        self.places.get_or_init(|| {
            let mut ledger = devices.ledger();
            (0..)
                .zip(&self.members)
                .map(|(at, all)| announce(&mut ledger, group_id(self.run, at), all.clone()))
                .collect()
        })
    }

    fn place(&self, group: u32) -> u32 {
        self.places.get().expect("groups are made before the load")[group as usize]
    }
}

/// The messages of the users of one lane, of whom `first` is the first.
#[derive(Debug)]
struct Replay {
    acts: Acts,
    people: People,
    draw: Draw,
    messages: Vec<Message>,
    first: u32,
    groups: Arc<Groups>,
    /// What makes the groups whose owners are here was sent.
    is_founded: bool,
    compares: bool,
    settle: Settle,
    speed: f64,
    next: usize,
    /// When the load began. All lanes go by the lane that began first.
    start_us: Arc<OnceLock<u64>>,
    streams: HashMap<(u32, u32), StreamId>,
}

impl Replay {
    fn at_us(&self, message: &Message) -> u64 {
        let start_us = self.start_us.get().expect("the load has begun");
        start_us + (message.at_ms as f64 * 1e3 / self.speed) as u64
    }

    /// The last message of the other side, if this one is to answer it and has room for that.
    fn answers(&mut self, devices: &Devices, (from, to): (u32, u32), text_bytes: usize) -> Option<Box<Answered>> {
        let is_answer = self.acts.is_answer(&mut self.draw) && text_bytes <= TEXT_BYTES_MAX - BESIDE_BYTES;
        let ledger = devices.ledger();
        let user = |seat| ledger.crew().member(seat).user;
        let kept = ledger.last_of_trace(user(to), user(from)).filter(|_| is_answer)?;
        ledger.answered(kept, from).map(Box::new)
    }

    fn send(&mut self, devices: &mut Devices, message: Message, at_us: u64) {
        let Message { line, from, to, .. } = message;
        match to {
            To::User(to) => {
                // A user has one device, so users of the trace sit in the order of their names.
                let stream =
                    *self.streams.entry((from, to)).or_insert_with(|| devices.open_to_seat(from - self.first, to));
                let bytes = devices.ledger().line_bytes(line);
                let answers = self.answers(devices, (from, to), bytes);
                devices.send(stream, at_us, Written { text: Text::Line(line), answers });
            }
            To::Group(group) => {
                let (slot, place, text) = (from - self.first, self.groups.place(group), Text::Line(line));
                let bytes = devices.ledger().line_bytes(line);
                let is_answer = self.acts.is_answer(&mut self.draw) && bytes <= TEXT_BYTES_MAX - BESIDE_BYTES;
                let answered = is_answer.then(|| self.people.answerable_in_group(devices, slot, place)).flatten();
                let said = answered.map_or(Said::Message(text), |message| Said::Reply(text, message));
                devices.send_to_group(slot, place, said, at_us);
            }
        }
    }

    /// What people do between two messages. What changes a message is in the group, if the message before was; what else is with somebody
    /// is with whom they wrote to, or with somebody of the group.
    fn do_something_else(&mut self, devices: &mut Devices, (from, to): (u32, To)) {
        while self.draw.below(100) < self.acts.others() {
            let act = self.acts.draw_other(&mut self.draw);
            let slot = from - self.first;
            let peer = match to {
                To::User(user) => user,
                To::Group(group) => {
                    let members = &self.groups.members[group as usize];
                    members[self.draw.below(members.len() as u64) as usize]
                }
            };
            match to {
                To::Group(group) if act.is_change() => {
                    self.people.change_in_group(devices, act, slot, self.groups.place(group));
                }
                To::User(_) | To::Group(_) if devices.is_ready(slot) => self.people.act(devices, act, slot, peer),
                To::User(_) | To::Group(_) => {}
            }
        }
    }
}

impl Script for Replay {
    fn prepare(&mut self, devices: &mut Devices) -> bool {
        if !std::mem::replace(&mut self.is_founded, true) {
            let groups = Arc::clone(&self.groups);
            for (place, members) in groups.announce(devices).iter().zip(&groups.members) {
                if let Some(owner) = devices.slot(members[0]) {
                    let user = |seat: &u32| devices.ledger().crew().member(*seat).user;
                    let others: Vec<UserId> = members[1..].iter().map(user).collect();
                    create(devices, owner, *place, others);
                }
            }
        }
        devices.under_way() == 0
    }

    fn begin(&mut self, devices: &mut Devices) {
        self.start_us.get_or_init(|| devices.now_us());
        if self.acts.change_messages() {
            devices.ledger().change_messages();
        }
    }

    fn drive(&mut self, devices: &mut Devices) -> Next {
        let now_us = devices.now_us();
        while let Some(&message) = self.messages.get(self.next) {
            let at_us = self.at_us(&message);
            if at_us > now_us {
                return Next::At(at_us);
            }
            self.send(devices, message, at_us);
            self.do_something_else(devices, (message.from, message.to));
            self.next += 1;
        }
        self.people.end_at(now_us);
        self.people.come_back(devices);
        Next::Finished
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        if let Happened::GroupPage { slot, fetch, page } = what {
            self.settle.take(devices, *slot, fetch, page);
        }
        self.people.happened(devices, what);
    }

    fn settle(&mut self, devices: &mut Devices) -> bool {
        let groups = if self.compares { &self.groups.members[..] } else { &[] };
        let id = |at| group_id(self.groups.run, at);
        self.settle.drive(devices, |devices| {
            let here = |members: &Vec<u32>| members.iter().filter_map(|seat| devices.slot(*seat)).collect::<Vec<_>>();
            (0..)
                .zip(groups)
                .flat_map(|(at, members)| here(members).into_iter().map(move |slot| (slot, id(at))))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        devices::Redirects, limits::LANE_CONNECTIONS_MAX, place::Place, sample::Sight, token::Mint, web::Carrier,
    };

    #[test]
    fn users_are_made_from_the_names_and_times_begin_at_the_first_line() {
        let trace = parse("1000\tann\tbob\thi\n1000\tbob\tann\thi\tyou\n\n1500\tann\tcid\tbye\n").unwrap();
        let message = |line, at_ms, from, to| Message { line, at_ms, from, to: To::User(to) };
        assert_eq!(trace.messages, [message(0, 0, 0, 1), message(1, 0, 1, 0), message(2, 500, 0, 2)]);
        assert_eq!((trace.names, &*trace.texts[1]), (3, "hi\tyou"));
    }

    #[test]
    fn who_writes_to_a_group_is_a_member_and_who_is_only_written_to_is_not() {
        let trace =
            parse("5\tbob\t#7\thi\n7\tann\tcid\thi\n8\tann\t#7\thi\n9\tbob\t#7\thi\n9\tann\t#all\thi\n").unwrap();
        assert_eq!((&trace.groups, trace.names), (&vec![vec![0, 1], vec![1]], 3));
        let to: Vec<To> = trace.messages.iter().map(|message| message.to).collect();
        assert_eq!(to, [To::Group(0), To::User(2), To::Group(0), To::Group(0), To::Group(1)]);
        let alone = parse("1\ta\t#g\thi").unwrap();
        assert_eq!((alone.groups, alone.names), (vec![vec![0]], 1));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let long = format!("1\ta\tb\t{}", "x".repeat(TEXT_BYTES_MAX + 1));
        for (text, words) in [
            ("", "no message"),
            ("1\ta\tb\thi\n2\ta\t#\thi", "line 2 is to a group without a name: put one behind the `#`"),
            ("1\t#g\ta\thi", "line 1 is from the group `#g`: a group does not write, name the user who does"),
            ("1\ta\t#g\t", "line 1: the text has 0 bytes"),
            ("1\ta\tb\thi\n2\ta\tb", "line 2 is not"),
            ("soon\ta\tb\thi", "line 1: `soon`"),
            ("2\ta\tb\thi\n1\ta\tb\thi", "line 2 lies before"),
            ("1\t\tb\thi", "line 1 lacks a name"),
            ("1\ta\tb\t", "line 1: the text has 0 bytes"),
            (&long, "line 1: the text has 16385 bytes"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_users_write_stays_in_the_order_of_the_trace_whatever_their_lane() {
        let trace = parse("1\tann\tbob\thi\n2\tbob\tann\thi\n3\tcid\tann\thi\n4\tbob\tcid\thi\n").unwrap();
        let lines = |users| messages_of(&trace.messages, users).iter().map(|message| message.line).collect::<Vec<_>>();
        assert_eq!([lines(0..2), lines(2..3)], [vec![0, 1, 3], vec![2]]);
    }

    #[test]
    fn a_trace_of_more_people_than_a_lane_holds_takes_several() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("big.trace"), folder.path().join("secret"));
        let users = LANE_CONNECTIONS_MAX as u64 * 2 + 2;
        let line = |user: u64| format!("{user}\tu{user}\tu{}\thi\n", (user + 1) % users);
        fs::write(&file, (0..users).map(line).collect::<String>()).unwrap();
        fs::write(&secret, [b'x'; 64]).unwrap();
        let world = World {
            server: Place::find("127.0.0.1:1", 1).unwrap(),
            redirects: Redirects::ToThisMachine,
            trust: None,
            carrier: Carrier::Bytes,
            mint: Arc::new(Mint::hs256(&secret).unwrap()),
            first_user: 1,
            tolerates_disconnects: false,
            by_node: false,
            compares_histories: true,
            stall_after: Duration::from_secs(1),
            sight: Sight::default(),
            run: 1,
            lanes: None,
            stops: Arc::default(),
        };
        let plan = Arguments { file, speed: 1.0, shares: Shares::default() }.plan(&world).unwrap();
        assert!(plan.lanes.len() >= 3);
        assert_eq!(plan.lanes.iter().map(|lane| lane.crew.len() as u64).sum::<u64>(), users);
        assert_eq!(plan.lanes[1].crew.member(0).user.0, 1 + plan.lanes[0].crew.len() as u64);
    }

    #[test]
    fn a_speed_is_above_zero() {
        assert_eq!(speed("2.5"), Ok(2.5));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_sample_is_a_trace() {
        let trace = parse(include_str!("../../sample.trace")).unwrap();
        assert!(trace.messages.len() > 20 && trace.names > 4 && trace.groups.concat().len() > 1);
    }
}
