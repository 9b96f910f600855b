//! Any bytes from a node, before and after its greeting, in pieces: nothing panics, the cut does not change what is heard, and what is heard
//! says the same when it is said again.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use server::{
    cluster::file::{Identity, Nodes},
    mesh::{
        link::{Heard, Link, LinkError},
        wire::{self, Said},
    },
    shard::topology::NodeId,
};

const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\n\
                     [nodes.b]\nmesh = \"127.0.0.1:3\"\nclients = \"127.0.0.1:4\"";

static NODE_A: LazyLock<Identity> = LazyLock::new(|| identity(0));
static NODE_B: LazyLock<Identity> = LazyLock::new(|| identity(1));

fn identity(own: u16) -> Identity {
    Identity { nodes: Arc::new(Nodes::parse(NODES).expect("they are nodes")), own: NodeId(own) }
}

fn run(has_greeted: bool, pieces: &[&[u8]]) -> (Vec<Heard>, Result<(), LinkError>) {
    let mut link = Link::new(None, None, &NODE_B, 0);
    let mut greeting = Vec::new();
    if has_greeted {
        Link::new(Some(NodeId(1)), None, &NODE_A, 0).take_output(&mut greeting);
    }
    let mut heard = Vec::new();
    for piece in [&greeting[..]].iter().chain(pieces) {
        if let Err(error) = link.receive(piece, &NODE_B, 0, |what| heard.push(what)) {
            return (heard, Err(error));
        }
    }
    (heard, Ok(()))
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, input)) = data.split_first() else { return };
    let (head, tail) = input.split_at(usize::from(cut >> 1).min(input.len()));
    let has_greeted = cut & 1 == 1;
    let whole = run(has_greeted, &[input]);
    assert_eq!(run(has_greeted, &[head, tail]), whole);
    for heard in whole.0 {
        let said = match heard {
            Heard::Opened(_) => continue,
            Heard::Envelope(envelope) => Said::Envelope(envelope),
            Heard::Presence(said) => Said::Presence(said),
            Heard::Group(mail) => Said::Group(mail),
        };
        let mut bytes = Vec::new();
        wire::encode(&said, &mut bytes);
        assert_eq!(wire::decode(&bytes), Ok(Some((said, bytes.len()))));
    }
});
