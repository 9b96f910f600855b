//! A trace of messages, `time_ms<TAB>from<TAB>to<TAB>text` a line, sent at the times it names, or faster. Users are made from the
//! names, in the order in which they appear. An open loop: a message that is late counts from when it should have left. A `to` that begins with `#`
//! names a group: there are none yet, so the line is counted and skipped. Between the messages people do what else was asked for.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use proto_spec::limits::{SEND_WINDOW, TEXT_BYTES_MAX};

use super::acts::{Acts, People, Shares};
use crate::{
    devices::Devices,
    draw::{Draw, mix},
    engine::{Asked, Goal, LanePlan, LoginFirst, Next, Plan, Script},
    limits::{PING_AFTER_S, TRACE_BYTES_MAX, TRACE_LINE_BYTES_MAX},
    session::Happened,
    stats::Count,
    verify::{Answered, Crew, StreamId, Text, Written, text::BESIDE_BYTES},
    world::{World, share},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The trace
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
        if acts.change_messages() {
            parameters.extend(acts.parameters());
        }
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
                group_lines: if lane == 0 { trace.group_lines } else { 0 },
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    /// Which text.
    line: u32,
    /// After the first line.
    at_ms: u64,
    from: u32,
    to: u32,
}

#[derive(Debug, Default)]
struct Trace {
    /// By time.
    messages: Vec<Message>,
    texts: Vec<Box<str>>,
    names: usize,
    group_lines: u64,
}

fn parse(text: &str) -> anyhow::Result<Trace> {
    let mut trace = Trace::default();
    let mut names: HashMap<&str, u32> = HashMap::new();
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
        if to.starts_with('#') {
            trace.group_lines += 1;
            continue;
        }
        let bytes = text.len();
        ensure!(
            (1..=TEXT_BYTES_MAX).contains(&bytes),
            "line {number}: the text has {bytes} bytes, 1 to {TEXT_BYTES_MAX} are allowed"
        );
        let mut id = |name| {
            let next = names.len() as u32;
            *names.entry(name).or_insert(next)
        };
        let line = trace.messages.len() as u32;
        trace.messages.push(Message { line, at_ms: time_ms - first_ms, from: id(from), to: id(to) });
        trace.texts.push(text.into());
    }
    trace.names = names.len();
    ensure!(!trace.messages.is_empty(), "there is no message to a user in it");
    Ok(trace)
}

/// What these users write.
fn messages_of(all: &[Message], users: Range<u32>) -> Vec<Message> {
    all.iter().filter(|message| users.contains(&message.from)).copied().collect()
}

/// The messages of the users of one lane, of whom `first` is the first.
#[derive(Debug)]
struct Replay {
    acts: Acts,
    people: People,
    draw: Draw,
    messages: Vec<Message>,
    first: u32,
    group_lines: u64,
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

    /// What people do between two messages.
    fn do_something_else(&mut self, devices: &mut Devices, (from, to): (u32, u32)) {
        while self.draw.below(100) < self.acts.others() {
            let act = self.acts.draw_other(&mut self.draw);
            let slot = from - self.first;
            if devices.is_ready(slot) {
                self.people.act(devices, act, slot, to);
            }
        }
    }
}

impl Script for Replay {
    fn begin(&mut self, devices: &mut Devices) {
        self.start_us.get_or_init(|| devices.now_us());
        devices.stats_mut()[Count::GroupLines] += self.group_lines;
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
            let Message { line, from, to, .. } = message;
            // A user has one device, so users of the trace sit in the order of their names.
            let stream = *self.streams.entry((from, to)).or_insert_with(|| devices.open_to_seat(from - self.first, to));
            let bytes = devices.ledger().line_bytes(line);
            let answers = self.answers(devices, (from, to), bytes);
            devices.send(stream, at_us, Written { text: Text::Line(line), answers });
            self.do_something_else(devices, (from, to));
            self.next += 1;
        }
        self.people.end_at(now_us);
        self.people.come_back(devices);
        Next::Finished
    }

    fn happened(&mut self, devices: &mut Devices, what: &Happened) {
        self.people.happened(devices, what);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{devices::Redirects, limits::LANE_CONNECTIONS_MAX, place::Place, sample::Sight, token::Mint};

    #[test]
    fn users_are_made_from_the_names_and_times_begin_at_the_first_line() {
        let trace = parse("1000\tann\tbob\thi\n1000\tbob\tann\thi\tyou\n\n1500\tann\tcid\tbye\n").unwrap();
        let message = |line, at_ms, from, to| Message { line, at_ms, from, to };
        assert_eq!(trace.messages, [message(0, 0, 0, 1), message(1, 0, 1, 0), message(2, 500, 0, 2)]);
        assert_eq!((trace.names, &*trace.texts[1]), (3, "hi\tyou"));
    }

    #[test]
    fn lines_to_groups_are_counted_and_make_no_users() {
        let trace = parse("5\tann\t#all\thi\n7\tann\tbob\thi\n").unwrap();
        assert_eq!((trace.group_lines, trace.names, trace.messages[0].at_ms), (1, 2, 2));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let long = format!("1\ta\tb\t{}", "x".repeat(TEXT_BYTES_MAX + 1));
        for (text, words) in [
            ("", "no message"),
            ("1\ta\t#g\thi", "no message"),
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
        assert!(trace.messages.len() > 20 && trace.names > 4 && trace.group_lines > 0);
    }
}
