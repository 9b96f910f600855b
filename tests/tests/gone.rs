//! What was edited, taken back or deleted is gone: not only from every answer, but from every file of the data folder of a server that
//! serves.

use proto_spec::{
    ClientFrame, Content, Direction, MessageName, RequestId, Resume, SendNumber, Seq, ServerFrame, UserId,
};
use tests::{
    connection::Connection,
    process::{Installation, snapshot},
    said::{said, some},
    wait_until,
};

/// What no compression makes smaller.
const SECRETS: [&str; 4] = [
    "qX7#vL2!mZ9@kT4$wR8%jB1^nC6&hF3*",
    "Zt5&Wq8!Lb2#Yv9@Kd4%Rm7^Hx3$Np6*",
    "Gv4@Sc9^Jw1!Xe6%Uo3&Ta8*Fi5#By2$",
    "Pk2^Dn7*Rz5&Mh1%Qs4$Vj8@Lg3!Cx6#",
];

const ALICE: UserId = UserId(1);
const BOB: UserId = UserId(2);

fn holds(installation: &Installation, text: &str) -> bool {
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    snapshot(installation.data()).into_values().flatten().any(|bytes| holds(&bytes))
}

fn send(alice: &mut Connection, number: u64, content: Content) -> Seq {
    let number = SendNumber(number);
    alice.send(&[ClientFrame::Send { number, to: BOB.into(), content }]);
    alice.until(|frame| match frame {
        ServerFrame::Accepted { number: of, seq, .. } if of == number => Some(seq),
        _ => None,
    })
}

fn delete(connection: &mut Connection, with: UserId, place: Seq) {
    let request = RequestId(7);
    connection.send(&[ClientFrame::DeleteMessage { request, conversation: with.into(), place }]);
    connection.until(|frame| (frame == ServerFrame::Marked { request }).then_some(()));
}

#[test]
fn what_was_edited_taken_back_or_deleted_is_in_no_file_of_a_server_that_serves() {
    let mut installation = Installation::new(env!("CARGO_BIN_EXE_tested-ringpost"));
    installation.config.journal.seal_after_ms = 200;
    installation.config.store.purge_after_s = 1;
    let server = installation.start();
    let mut alice = installation.login(ALICE.0, 1, Resume::Live);
    let mut bob = installation.login(BOB.0, 1, Resume::Live);
    let mut places = Vec::new();
    for (number, secret) in (1..).zip(SECRETS) {
        places.push(send(&mut alice, number, Content::text(secret)));
    }
    // Bob's log has nothing else.
    bob.until(|frame| matches!(frame, ServerFrame::Deliver { entry } if entry.seq == Seq(4)).then_some(()));
    wait_until("the store has them", || server.metrics()["ringpost_journal_ingest_rows_total"] > 8.0);
    assert!(SECRETS.iter().all(|secret| holds(&installation, secret)));
    let name = |place: usize| MessageName { author: ALICE, seq: places[place] };
    send(&mut alice, 5, Content::edit(name(0), &Content::text("nothing"), None));
    send(&mut alice, 6, Content::unsend(name(1), None));
    delete(&mut alice, BOB, places[2]);
    delete(&mut bob, ALICE, Seq(3));
    wait_until("what is gone is gone from the disk", || {
        !SECRETS[..3].iter().any(|secret| holds(&installation, secret))
    });
    assert!(holds(&installation, SECRETS[3]), "what was not taken back is there");
    let metrics = server.metrics();
    assert!(metrics["ringpost_journal_purges_total"] >= 1.0, "{metrics:?}");
    wait_until("the disk has the store's tables and no others", || {
        let metrics = server.metrics();
        let [rows, tables] = ["rows", "tables"].map(|of| metrics[&format!("ringpost_store_{of}_bytes")]);
        rows > 0.0 && rows == tables
    });
    let page = ClientFrame::FetchConversation {
        request: RequestId(1),
        conversation: BOB.into(),
        from: Seq(0),
        direction: Direction::Forwards,
        limit: 9,
    };
    let shown: Vec<_> = alice.fetch(1, &page).entries.iter().map(said).collect();
    assert_eq!(shown, [some(1, "nothing"), (2, None), some(4, SECRETS[3])], "and all else is as it was");
    server.stop();
}
