//! Devices on a real ring that are sent from node to node. The nodes are threads that say what they are told to.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    ops::ControlFlow,
    thread::{self, JoinHandle},
};

use proto_spec::{
    Capabilities, ClientFrame, Decoder, EpochId, ErrorCode, RedirectReason, SendNumber, ServerFrame, TimestampMs,
    UserId, Visibility, limits,
};

use super::*;
use crate::{homes::Homes, verify::Text, web::Carrier};

const USER: UserId = UserId(7);

struct Listening {
    listener: TcpListener,
    address: String,
}

fn listen() -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    Listening { listener, address }
}

/// Says these frames to the hello of each connection, one after the other, and waits for its end. The hops of all hellos.
fn node(listener: TcpListener, answers: Vec<Vec<ServerFrame>>) -> JoinHandle<Vec<u64>> {
    thread::spawn(move || {
        let on_connection = |answers: Vec<ServerFrame>| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hops = None;
            let mut decoder = Decoder::new(limits::CLIENT_FRAME_BYTES_MAX as u32);
            let mut buffer = [0; 512];
            while hops.is_none() {
                let size = stream.read(&mut buffer).unwrap();
                let on_frame = |raw: proto_spec::RawFrame<'_>| {
                    if let Ok(ClientFrame::Hello { hops: said, .. }) = ClientFrame::decode(raw) {
                        hops = Some(said);
                    }
                    ControlFlow::Continue(())
                };
                decoder.decode(&buffer[..size], on_frame).unwrap();
                assert!(size > 0, "no hello");
            }
            let mut bytes = Vec::new();
            answers.iter().for_each(|frame| frame.encode(&mut bytes));
            stream.write_all(&bytes).unwrap();
            // It may be ended with a reset.
            let _ = stream.read_to_end(&mut Vec::new());
            hops.unwrap()
        };
        answers.into_iter().map(on_connection).collect()
    })
}

fn redirect(to: &Listening, after_ms: u64) -> ServerFrame {
    ServerFrame::Redirect { address: to.address.clone(), reason: RedirectReason::Moving, after_ms, map_version: 1 }
}

fn welcome() -> ServerFrame {
    ServerFrame::Welcome {
        version: 1,
        user: USER,
        server_time: TimestampMs(1),
        head: Seq(0),
        cursor: Seq(0),
        last_number: SendNumber(0),
        send_window: 256,
        text_bytes_max: 16_384,
        page_entries_max: 500,
        idle_timeout_ms: 120_000,
        committed: Seq(0),
        epoch: EpochId(0),
        capabilities: Capabilities::default(),
        skipped: 0,
        visibility: Visibility::default(),
        ping_after_ms: 25_000,
    }
}

fn bye_elsewhere(detail: &str) -> ServerFrame {
    let detail = detail.to_owned();
    ServerFrame::Bye { code: ErrorCode::Elsewhere, retry_after_ms: 1, detail, devices: Vec::new() }
}

fn device(first: &Listening) -> Devices {
    device_with(first, None, Redirects::ToThisMachine)
}

/// One device, which is to be connected.
fn device_with(first: &Listening, trust: Option<Trust>, redirects: Redirects) -> Devices {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, [b'x'; 64]).unwrap();
    let mut crew = Crew::default();
    crew.add(USER, 1);
    let manners = Manners {
        server: Place::find(&first.address, 0).unwrap(),
        redirects,
        trust,
        carrier: Carrier::Bytes,
        mint: Arc::new(Mint::hs256(&secret).unwrap()),
        tolerates_disconnects: false,
        compares_histories: false,
        window: 2,
        handshakes_max: 8,
        logins_a_second: None,
        ping_after_s: 20,
        run: 5,
        lane: 0,
        ledger: SharedLedger::new(Ledger::new(5, 0, crew.clone(), None)),
        first_seat: 0,
        clock: Instant::now(),
    };
    let mut devices = Devices::new(manners, crew).unwrap();
    devices.connect_at(0, 0);
    devices
}

impl Devices {
    fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        while !is_so(self) {
            assert!(self.fatal().is_none(), "{:?}", self.fatal());
            let until_us = self.due();
            self.wait(until_us).unwrap();
        }
    }

    fn close(mut self) -> (Stats, Vec<String>) {
        self.close_all();
        self.until(Self::is_closed);
        let faults = self.ledger().faults.kept().to_vec();
        (self.stats, faults)
    }
}

#[test]
fn a_device_goes_from_node_to_node_and_nothing_is_wrong_with_that() {
    let (first, other) = (listen(), listen());
    let mut devices = device(&first);
    let answers = [vec![redirect(&other, 0)], vec![welcome()]];
    let others = vec![vec![welcome(), redirect(&first, 1)]];
    let (first, other) = (node(first.listener, answers.into()), node(other.listener, others));
    devices.until(|devices| devices.ready() == 1 && devices.stats[Count::Redirects] == 2);
    let (stats, faults) = devices.close();
    assert_eq!(faults, Vec::<String>::new());
    assert_eq!((first.join().unwrap(), other.join().unwrap()), (vec![1, 2], vec![2]));
    let counts = [Count::Redirects, Count::Logins, Count::Disconnects, Count::LoginsRefused];
    assert_eq!(counts.map(|count| stats[count]), [2, 2, 0, 0]);
}

#[test]
fn a_device_that_is_sent_in_a_circle_tells_it_and_begins_again() {
    let (first, other) = (listen(), listen());
    let mut devices = device(&first);
    let to_other = vec![redirect(&other, 0)];
    let answers = vec![to_other.clone(), to_other.clone(), to_other, vec![welcome()]];
    let others = vec![vec![redirect(&first, 0)]; 2];
    let (first, other) = (node(first.listener, answers), node(other.listener, others));
    devices.until(|devices| devices.ready() == 1);
    let (stats, faults) = devices.close();
    assert_eq!((first.join().unwrap(), other.join().unwrap()), (vec![1, 3, 5, 1], vec![2, 4]));
    assert!(faults.iter().any(|fault| fault.contains("5 redirects in a row")), "{faults:?}");
    assert_eq!(stats[Count::Redirects], 4);
}

#[test]
fn a_node_that_is_gone_or_does_not_know_the_user_leads_back_to_the_first_one() {
    let (first, other, gone) = (listen(), listen(), listen());
    let mut devices = device(&first);
    let answers = [vec![redirect(&gone, 0)], vec![redirect(&other, 0)], vec![welcome()]];
    let bye = bye_elsewhere("of another node");
    drop(gone);
    let (first, other) = (node(first.listener, answers.into()), node(other.listener, vec![vec![bye]]));
    devices.until(|devices| devices.ready() == 1);
    let (stats, faults) = devices.close();
    assert_eq!((first.join().unwrap(), other.join().unwrap()), (vec![1, 1, 1], vec![2]));
    let [refused, bye] = &faults[..] else { panic!("{faults:?}") };
    assert!(refused.contains("refused") && bye.contains("bye elsewhere (of another node)"), "{faults:?}");
    assert_eq!(stats[Count::LoginsRefused], 2);
}

#[test]
fn where_nodes_come_and_go_one_that_does_not_know_the_user_yet_is_no_fault() {
    let (first, other) = (listen(), listen());
    let mut devices = device(&first);
    devices.manners.tolerates_disconnects = true;
    let answers = [vec![redirect(&other, 0)], vec![welcome()]];
    let bye = bye_elsewhere("of another node");
    let (first, other) = (node(first.listener, answers.into()), node(other.listener, vec![vec![bye]]));
    devices.until(|devices| devices.ready() == 1);
    let (stats, faults) = devices.close();
    assert_eq!((first.join().unwrap(), other.join().unwrap()), (vec![1, 1], vec![2]));
    assert_eq!((stats[Count::LoginsRefused], faults), (1, Vec::new()));
}

#[test]
fn a_device_that_follows_no_redirects_says_so_and_comes_again_where_it_was() {
    let first = listen();
    let mut devices = device_with(&first, None, Redirects::Refused);
    let answers = [vec![bye_elsewhere("before")], vec![welcome(), bye_elsewhere("while ready")], vec![welcome()]];
    let first = node(first.listener, answers.into());
    devices.until(|devices| devices.ready() == 1 && devices.stats[Count::Logins] == 2);
    let (stats, faults) = devices.close();
    assert_eq!(first.join().unwrap(), [0, 0, 0]);
    // To lose a connection that was welcome is a fault of a run that expects none to be lost; to be asked to come again is not.
    assert!(matches!(&faults[..], [lost] if lost.contains("bye elsewhere (while ready)")), "{faults:?}");
    let counts = [Count::Redirects, Count::Logins, Count::Disconnects, Count::LoginsRefused];
    assert_eq!(counts.map(|count| stats[count]), [0, 2, 1, 1]);
}

#[test]
fn a_message_of_a_user_who_has_moved_counts_for_the_node_that_served_them_when_the_load_began() {
    let (first, other) = (listen(), listen());
    let home = first.address.clone();
    let mut devices = device(&first);
    devices.ledger().homes = Some(Homes::default());
    let accepted = ServerFrame::Accepted {
        number: SendNumber(1),
        seq: Seq(1),
        time: TimestampMs(1),
        durability: proto_spec::Durability::Committed,
        recipient: proto_spec::Recipient::Online,
    };
    let answers = [vec![welcome(), redirect(&other, 1)], vec![welcome(), accepted]];
    let others = vec![vec![welcome(), redirect(&first, 1)]];
    let (first, other) = (node(first.listener, answers.into()), node(other.listener, others));
    devices.until(|devices| devices.ready() == 1);
    devices.ledger().homes.as_mut().unwrap().begin();
    let to_oneself = devices.open(0, 0);
    devices.send(to_oneself, 0, Written::text(Text::Made(40)));
    devices.until(|devices| devices.stats[Count::Accepted] == 1);
    let homes = devices.ledger().homes.take().unwrap();
    assert!(matches!(&homes.rows()[..], [(author, recipient, between)]
        if *author == home && *recipient == home && between.accepted.count() == 1));
    let (stats, faults) = devices.close();
    assert_eq!((stats[Count::Redirects], faults), (2, Vec::new()));
    first.join().unwrap();
    other.join().unwrap();
}

#[test]
fn a_device_that_speaks_tls_speaks_it_wherever_it_is_sent() {
    let (first, other) = (listen(), listen());
    let mut devices = device_with(&first, Some(Trust::in_nobody(None)), Redirects::ToThisMachine);
    let redirect = crate::session::Redirect { address: other.address, after_ms: 0, map_version: 1 };
    devices.nodes.follow(0, 0, &redirect).unwrap();
    let heard = thread::spawn(move || {
        let (mut stream, _) = other.listener.accept().unwrap();
        let mut first = [0; 2];
        stream.read_exact(&mut first).unwrap();
        first
    });
    devices.until(|devices| devices.stats[Count::LoginsRefused] == 1);
    assert_eq!(heard.join().unwrap(), [0x16, 0x03], "a handshake of TLS");
}
