//! Link: one connection between two nodes, from its first byte to its last.
//!
//! The node that dials says who it is and whom it takes the other one for; the other one answers likewise, or refuses. Then both are
//! open. What is posted waits here until the core's turn ends ([`Link::take_output`]) and then in the socket; what waits is bounded, and
//! above the bound what asks for something is given back, while an answer has as much room again: it can not be given back, so a link
//! that has no room for it ends, and the other node asks again. What is said of presence may be lost: it goes only while little waits, and
//! takes nobody's room.

use thiserror::Error;

use super::{
    certificate::Certificate,
    presence::PresenceSaid,
    wire::{self, GROUPS_SINCE, Greeting, NOTIFICATIONS_SINCE, Said, VERSIONS, WireError},
};
use crate::{
    cluster::file::{Identity, Nodes},
    limits::{LINK_GREETING_MS, LINK_PING_MS, LINK_PRESENCE_BYTES_MAX, LINK_QUEUE_BYTES_MAX, LINK_SILENCE_MS},
    shard::{
        Envelope, GroupMail, GroupSaid,
        presence::{PresenceMail, To},
        topology::NodeId,
    },
};

impl Identity {
    /// What this node says first to another one.
    pub(crate) fn greeting(&self, to: &str, versions: [u32; 2]) -> Greeting {
        let Nodes { name, .. } = &*self.nodes;
        let node = self.nodes.node(self.own).name.clone();
        Greeting { versions, cluster: name.clone(), node, to: to.to_owned(), digest: self.nodes.digest() }
    }

    /// Whether the other end of a connection is a node that this one talks to. `certified`: what its certificate says, if there is one.
    pub(crate) fn judge(&self, greeting: &Greeting, certified: Option<&Certificate>) -> Result<(NodeId, u32), String> {
        let Greeting { versions: [lowest, highest], cluster, node, to, digest } = greeting;
        let own = &self.nodes.node(self.own).name;
        if *cluster != self.nodes.name {
            return Err(format!("this is a node of the cluster \"{}\", not of \"{cluster}\"", self.nodes.name));
        }
        if certified.is_some_and(|certificate| !certificate.is_of(node)) {
            return Err(format!("it calls itself {node}, and its certificate is another node's"));
        }
        let Some(peer) = self.nodes.find(node).filter(|peer| *peer != self.own) else {
            return Err(format!("{node} is not one of the other nodes of the cluster, as node {own} knows it"));
        };
        if to != own {
            return Err(format!(
                "this is node {own}, not {to}: the address of node {to} is wrong, in the cluster's file or in its own configuration (cluster.mesh)"
            ));
        }
        if *digest != self.nodes.digest() {
            return Err(format!(
                "nodes {own} and {node} have different cluster files: they must be the same everywhere"
            ));
        }
        let version = VERSIONS[1].min(*highest);
        if version < VERSIONS[0].max(*lowest) {
            let [own_lowest, own_highest] = VERSIONS;
            return Err(format!(
                "node {own} speaks versions {own_lowest} to {own_highest} of the mesh, node {node} {lowest} to {highest}"
            ));
        }
        Ok((peer, version))
    }
}

/// What has come of bytes, or of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The link is open: to which node.
    Opened(NodeId),
    /// For a user of this node, or an answer.
    Envelope(Envelope),
    /// Of who is there.
    Presence(PresenceSaid),
    /// Of a group.
    Group(Box<GroupMail>),
}

/// Why a link ends.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// It is not talked to.
    #[error("refused: {0}")]
    Refused(String),
    /// It does not talk to this node.
    #[error("the other node refuses: {0}")]
    RefusedThere(String),
    /// What came is nothing that nodes say.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Something else than a greeting, or one that is out of place.
    #[error("something was said out of its order")]
    Order,
    /// Nothing came for too long.
    #[error("nothing was heard for {0} ms")]
    Silent(u64),
    /// The other node does not take what it is owed.
    #[error("more than {} bytes wait for the other node", 2 * LINK_QUEUE_BYTES_MAX)]
    Full,
}

/// Why an envelope does not go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotPosted {
    /// It asks for something, and enough waits already.
    PutOff,
    /// It is an answer, and there is no room for it either: the link is to end.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Open(NodeId),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Link {
    stage: Stage,
    dialled: Option<NodeId>,
    /// That of the other end, if it has one.
    certified: Option<Certificate>,
    /// What came and is not a whole frame.
    held: Vec<u8>,
    out: Vec<u8>,
    /// Bytes that were taken and have not left.
    leaving: usize,
    /// The version that is spoken, once it is open.
    version: u32,
    /// So many of all these at most are about presence.
    of_presence: usize,
    heard_ms: u64,
    ping_ms: u64,
}

impl Link {
    /// A connection to a node that this one has dialled, or, with none, of somebody who has come.
    #[must_use]
    pub fn new(dialled: Option<NodeId>, certified: Option<Certificate>, identity: &Identity, now_ms: u64) -> Self {
        let mut out = Vec::new();
        if let Some(node) = dialled {
            let greeting = identity.greeting(&identity.nodes.node(node).name, VERSIONS);
            wire::encode(&Said::Greeting(greeting), &mut out);
        }
        let stage = Stage::Greeting;
        Self {
            stage,
            dialled,
            certified,
            held: Vec::new(),
            out,
            leaving: 0,
            version: 0,
            of_presence: 0,
            heard_ms: now_ms,
            ping_ms: now_ms + LINK_PING_MS,
        }
    }

    /// The node at the other end, once it is open.
    #[must_use]
    pub const fn peer(&self) -> Option<NodeId> {
        match self.stage {
            Stage::Open(node) => Some(node),
            Stage::Greeting => None,
        }
    }

    /// The node that was dialled; none: somebody has come.
    #[must_use]
    pub const fn dialled(&self) -> Option<NodeId> {
        self.dialled
    }

    /// Bytes that have come, in any cut.
    ///
    /// # Errors
    /// The link ends; what it has to say about that is in its output.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        identity: &Identity,
        now_ms: u64,
        mut hear: impl FnMut(Heard),
    ) -> Result<(), LinkError> {
        if self.peer().is_some() {
            // Before the greeting is whole a byte now and then is no reason to wait longer.
            self.heard_ms = now_ms;
        }
        let was_held = !self.held.is_empty();
        if was_held {
            self.held.extend_from_slice(bytes);
        }
        let mut held = std::mem::take(&mut self.held);
        let input = if was_held { &held[..] } else { bytes };
        let mut taken = 0;
        while let Some((said, length)) = wire::decode(&input[taken..])? {
            taken += length;
            if let Some(heard) = self.said(said, identity, now_ms)? {
                hear(heard);
            }
        }
        if was_held {
            held.drain(..taken);
        } else {
            held.extend_from_slice(&bytes[taken..]);
        }
        self.held = held;
        Ok(())
    }

    fn said(&mut self, said: Said, identity: &Identity, now_ms: u64) -> Result<Option<Heard>, LinkError> {
        match (said, self.stage) {
            (Said::Greeting(greeting), Stage::Greeting) => {
                let judged = identity.judge(&greeting, self.certified.as_ref());
                let other = |peer| self.dialled.is_some_and(|node| node != peer);
                let judged = match judged {
                    Ok((peer, _)) if other(peer) => Err(format!("at that address is node {}", greeting.node)),
                    judged => judged,
                };
                match judged {
                    Ok((peer, version)) => {
                        if self.dialled.is_none() {
                            let answer = identity.greeting(&greeting.node, [version; 2]);
                            wire::encode(&Said::Greeting(answer), &mut self.out);
                        }
                        self.stage = Stage::Open(peer);
                        self.version = version;
                        self.heard_ms = now_ms;
                        Ok(Some(Heard::Opened(peer)))
                    }
                    Err(words) => {
                        wire::encode(&Said::Refused(words.clone()), &mut self.out);
                        Err(LinkError::Refused(words))
                    }
                }
            }
            (Said::Refused(words), _) => Err(LinkError::RefusedThere(words)),
            (Said::Envelope(envelope), Stage::Open(_)) => Ok(Some(Heard::Envelope(envelope))),
            (Said::Presence(said), Stage::Open(_)) => Ok(Some(Heard::Presence(said))),
            (Said::Group(mail), Stage::Open(_)) => Ok(Some(Heard::Group(mail))),
            (Said::Ping(number), Stage::Open(_)) => {
                wire::encode(&Said::Pong(number), &mut self.out);
                Ok(None)
            }
            (Said::Pong(_), Stage::Open(_)) => Ok(None),
            (
                Said::Greeting(_)
                | Said::Envelope(_)
                | Said::Presence(_)
                | Said::Group(_)
                | Said::Ping(_)
                | Said::Pong(_)
                | Said::Tunnel(_),
                Stage::Greeting | Stage::Open(_),
            ) => Err(LinkError::Order),
        }
    }

    /// Something for the other node.
    ///
    /// # Errors
    /// It does not go; see there.
    pub fn post(&mut self, envelope: &Envelope) -> Result<(), NotPosted> {
        let waits = self.waits() - self.of_presence;
        let is_answer = envelope.put_off().is_none();
        if envelope.is_of_group() && self.version < GROUPS_SINCE {
            // What it asks waits until the other node has been updated; it has asked nothing that would have this answer.
            return if is_answer { Ok(()) } else { Err(NotPosted::PutOff) };
        }
        if envelope.is_of_notifications() && self.version < NOTIFICATIONS_SINCE {
            // It is told again, until the other node has been updated.
            return Ok(());
        }
        if waits > LINK_QUEUE_BYTES_MAX && !is_answer {
            return Err(NotPosted::PutOff);
        }
        if waits > 2 * LINK_QUEUE_BYTES_MAX {
            return Err(NotPosted::Full);
        }
        wire::encode_envelope(envelope, &mut self.out);
        Ok(())
    }

    /// Something about a group for the other node. What is pushed can not be put off: whoever it is for would miss it and not know. Questions and
    /// their answers can be left out, which whoever asked is told after a while: nobody can fill the link by asking.
    ///
    /// # Errors
    /// There is no room for it, and the link is to end: then the other node follows its groups anew.
    pub fn post_group(&mut self, mail: &GroupMail) -> Result<(), NotPosted> {
        if self.version < GROUPS_SINCE {
            return Ok(());
        }
        let is_of_notifications = matches!(mail.said, GroupSaid::Wants { .. } | GroupSaid::Away { .. });
        if is_of_notifications && self.version < NOTIFICATIONS_SINCE {
            return Ok(());
        }
        let waits = self.waits() - self.of_presence;
        match mail.said {
            GroupSaid::Ask { .. } | GroupSaid::Told { .. } | GroupSaid::Types { .. } | GroupSaid::Typing { .. }
                if waits > LINK_QUEUE_BYTES_MAX / 2 =>
            {
                return Ok(());
            }
            _ if waits > 2 * LINK_QUEUE_BYTES_MAX => return Err(NotPosted::Full),
            _ => {}
        }
        wire::encode_group(mail, &mut self.out);
        Ok(())
    }

    /// Something about presence for the other node. False: enough waits already, and it is dropped.
    #[must_use]
    pub fn post_presence(&mut self, mail: &PresenceMail) -> bool {
        let waits = self.waits();
        if waits > LINK_PRESENCE_BYTES_MAX {
            return false;
        }
        let to = match mail.to {
            To::Viewer(viewer) => Some(viewer.core),
            To::Core(_) | To::Homes(_) => None,
        };
        wire::encode_presence((mail.from.core, to), &mail.news, &mut self.out);
        self.of_presence += self.waits() - waits;
        true
    }

    /// Time has passed. `is_deaf`: nothing that came was looked at meanwhile.
    ///
    /// # Errors
    /// The link ends: nothing was heard for too long.
    pub fn tick(&mut self, now_ms: u64, is_deaf: bool) -> Result<(), LinkError> {
        if is_deaf && self.peer().is_some() {
            self.heard_ms = now_ms;
        }
        let patience_ms = if self.peer().is_some() { LINK_SILENCE_MS } else { LINK_GREETING_MS };
        if now_ms >= self.heard_ms + patience_ms {
            return Err(LinkError::Silent(patience_ms));
        }
        if self.peer().is_some() && now_ms >= self.ping_ms {
            self.ping_ms = now_ms + LINK_PING_MS;
            wire::encode(&Said::Ping(now_ms), &mut self.out);
        }
        Ok(())
    }

    /// Bytes that wait for the other node.
    #[must_use]
    pub const fn waits(&self) -> usize {
        self.out.len() + self.leaving
    }

    /// Moves what is to leave to the end of `out`. It counts until [`Link::left`] is told.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        self.leaving += self.out.len();
        out.append(&mut self.out);
    }

    /// So many bytes have left.
    pub const fn left(&mut self, bytes: usize) {
        self.leaving = self.leaving.saturating_sub(bytes);
        if self.of_presence > self.waits() {
            self.of_presence = self.waits();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto_spec::{Content, Seq, UserId};

    use super::*;
    use crate::{
        limits::MESH_FRAME_BYTES_MAX,
        mesh::groups,
        shard::{
            EnvelopeBody, Parcel,
            presence::{CoreAddress, PresenceNews},
            topology::CoreId,
        },
    };

    const NODES: &str = "name = \"chat\"\n[nodes.a]\nmesh = \"127.0.0.1:1\"\nclients = \"127.0.0.1:2\"\n\
                         [nodes.b]\nmesh = \"127.0.0.1:3\"\nclients = \"127.0.0.1:4\"";

    fn identity(own: u16, text: &str) -> Identity {
        Identity { nodes: Arc::new(Nodes::parse(text).unwrap()), own: NodeId(own) }
    }

    fn output(link: &mut Link) -> Vec<u8> {
        let mut out = Vec::new();
        link.take_output(&mut out);
        link.left(out.len());
        out
    }

    fn receive(link: &mut Link, bytes: &[u8], identity: &Identity) -> Result<Vec<Heard>, LinkError> {
        let mut heard = Vec::new();
        // In any cut.
        for piece in bytes.chunks(3) {
            link.receive(piece, identity, 0, |what| heard.push(what))?;
        }
        Ok(heard)
    }

    fn certificate(name: &str) -> Certificate {
        let pair = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        Certificate(params.self_signed(&pair).unwrap().der().to_vec())
    }

    /// Two links that greet each other, and what they find.
    fn greet(a: &Identity, b: &Identity, certified: Option<&str>) -> [Result<Vec<Heard>, LinkError>; 2] {
        let mut dialled = Link::new(Some(NodeId(1)), None, a, 0);
        let mut came = Link::new(None, certified.map(certificate), b, 0);
        let there = receive(&mut came, &output(&mut dialled), b);
        let here = receive(&mut dialled, &output(&mut came), a);
        [here, there]
    }

    fn open() -> (Link, Link) {
        let (a, b) = (identity(0, NODES), identity(1, NODES));
        let (mut dialled, mut came) = (Link::new(Some(NodeId(1)), None, &a, 0), Link::new(None, None, &b, 0));
        receive(&mut came, &output(&mut dialled), &b).unwrap();
        receive(&mut dialled, &output(&mut came), &a).unwrap();
        (dialled, came)
    }

    fn message(text: &str) -> Envelope {
        let parcel = Parcel::Message(Content::text(text));
        let body = EnvelopeBody::Forward { origin: Seq(1), after: Seq(0), parcel };
        Envelope { to: UserId(1), from: UserId(2), body }
    }

    const ANSWER: Envelope = Envelope {
        to: UserId(1),
        from: UserId(2),
        body: EnvelopeBody::Forwarded { origin: Seq(1), is_unwanted: false },
    };

    #[test]
    fn two_nodes_of_a_cluster_open_a_link_and_hear_each_other() {
        let (a, b) = (identity(0, NODES), identity(1, NODES));
        let opened = |node| Ok(vec![Heard::Opened(NodeId(node))]);
        assert_eq!(greet(&a, &b, None), [opened(1), opened(0)]);
        assert_eq!(greet(&a, &b, Some("a")), [opened(1), opened(0)]);
        let (mut here, mut there) = open();
        here.post(&message("one")).unwrap();
        here.post(&message("two")).unwrap();
        let heard = receive(&mut there, &output(&mut here), &b);
        assert_eq!(heard, Ok(["one", "two"].map(|text| Heard::Envelope(message(text))).to_vec()));
    }

    #[test]
    fn whoever_is_not_of_the_cluster_or_goes_by_another_map_is_refused_in_words() {
        let a = identity(0, NODES);
        let more = format!("{NODES}\n[nodes.c]\nmesh = \"127.0.0.1:5\"\nclients = \"127.0.0.1:6\"");
        for (b, certified, words) in [
            (identity(1, &NODES.replace("\"chat\"", "\"other\"")), None, "not of \"chat\""),
            (identity(1, &NODES.replace("nodes.a", "nodes.x")), None, "a is not one of the other nodes"),
            (identity(1, &more), None, "different cluster files"),
            (identity(1, &NODES.replace("2\"\n", "2\"\nweight = 7\n")), None, "different cluster files"),
            (identity(1, NODES), Some("b"), "its certificate is another node's"),
            (identity(0, NODES), None, "a is not one of the other nodes"),
            (identity(1, &NODES.replace("nodes.b", "nodes.c")), None, "this is node c, not b"),
        ] {
            let [here, there] = greet(&a, &b, certified);
            let Err(LinkError::Refused(said)) = there else { panic!("{words}: {there:?}") };
            assert!(said.contains(words), "{said}");
            assert_eq!(here, Err(LinkError::RefusedThere(said)));
        }
    }

    #[test]
    fn what_is_said_before_the_greeting_or_for_a_second_time_ends_the_link() {
        let b = identity(1, NODES);
        let mut bytes = Vec::new();
        wire::encode_envelope(&message("x"), &mut bytes);
        assert_eq!(receive(&mut Link::new(None, None, &b, 0), &bytes, &b), Err(LinkError::Order));
        let (_, mut came) = open();
        let again = output(&mut Link::new(Some(NodeId(1)), None, &identity(0, NODES), 0));
        assert_eq!(receive(&mut came, &again, &b), Err(LinkError::Order));
    }

    #[test]
    fn a_version_in_common_is_spoken_and_without_one_nothing_is() {
        let b = identity(1, NODES);
        let greeting = |versions| Greeting { versions, ..identity(0, NODES).greeting("b", VERSIONS) };
        let [lowest, highest] = VERSIONS;
        assert_eq!(b.judge(&greeting([lowest, highest + 1]), None), Ok((NodeId(0), highest)), "a newer node");
        let words = b.judge(&greeting([highest + 1, highest + 2]), None).unwrap_err();
        assert!(words.contains("versions"), "{words}");
    }

    #[test]
    fn a_node_that_knows_no_groups_is_told_nothing_of_them_and_what_asks_is_put_off() {
        let (a, b) = (identity(0, NODES), identity(1, NODES));
        let mut here = Link::new(Some(NodeId(1)), None, &a, 0);
        output(&mut here);
        let mut greeting = Vec::new();
        wire::encode(&Said::Greeting(b.greeting("a", [1, 1])), &mut greeting);
        receive(&mut here, &greeting, &a).unwrap();
        let asks = EnvelopeBody::GroupSend { origin: Seq(1), after: Seq(0), content: Content::text("x") };
        assert_eq!(here.post(&Envelope { body: asks, ..ANSWER }), Err(NotPosted::PutOff));
        assert_eq!(here.post(&Envelope { body: EnvelopeBody::Stood { at: Seq(1) }, ..ANSWER }), Ok(()));
        let mail = groups::tests::said().remove(0);
        assert_eq!(here.post_group(&mail), Ok(()));
        assert!(output(&mut here).is_empty());
        here.post(&ANSWER).unwrap();
        assert!(!output(&mut here).is_empty());
        let (mut here, mut there) = open();
        here.post_group(&mail).unwrap();
        assert_eq!(receive(&mut there, &output(&mut here), &b), Ok(vec![Heard::Group(Box::new(mail))]));
    }

    #[test]
    fn a_node_that_knows_no_notifications_in_groups_is_told_nothing_of_them() {
        let (a, b) = (identity(0, NODES), identity(1, NODES));
        let mut here = Link::new(Some(NodeId(1)), None, &a, 0);
        output(&mut here);
        let mut greeting = Vec::new();
        wire::encode(&Said::Greeting(b.greeting("a", [1, NOTIFICATIONS_SINCE - 1])), &mut greeting);
        receive(&mut here, &greeting, &a).unwrap();
        let up_to = Seq(1);
        for body in [EnvelopeBody::Reached { up_to }, EnvelopeBody::ReachedTaken { up_to, is_subscribed: true }] {
            assert_eq!(here.post(&Envelope { body, ..ANSWER }), Ok(()));
        }
        let mail = groups::tests::said().split_off(16);
        assert!(matches!(mail[..], [GroupMail { said: GroupSaid::Wants { .. }, .. }, _]), "{mail:?}");
        mail.iter().for_each(|mail| assert_eq!(here.post_group(mail), Ok(())));
        assert!(output(&mut here).is_empty());
        here.post(&Envelope { body: EnvelopeBody::Stood { at: Seq(1) }, ..ANSWER }).unwrap();
        assert!(!output(&mut here).is_empty());
    }

    #[test]
    fn above_the_bound_what_asks_is_put_off_and_answers_have_as_much_room_again() {
        let (mut here, _) = open();
        let text = "x".repeat(10_000);
        let posted = (0..).find(|_| here.post(&message(&text)).is_err()).unwrap();
        assert!(here.waits() > LINK_QUEUE_BYTES_MAX && here.waits() < LINK_QUEUE_BYTES_MAX + 20_000);
        assert!(posted > 0 && here.post(&ANSWER).is_ok());
        let mut out = Vec::new();
        here.take_output(&mut out);
        assert_eq!(here.post(&message("x")), Err(NotPosted::PutOff), "it has not left");
        let answers = (0..).find(|_| here.post(&ANSWER) == Err(NotPosted::Full)).unwrap();
        assert!(answers > 100_000 && here.waits() <= 2 * LINK_QUEUE_BYTES_MAX + 100);
        here.left(out.len());
        assert_eq!(here.post(&ANSWER), Ok(()));
    }

    #[test]
    fn what_is_said_of_presence_goes_while_little_waits_and_puts_no_message_off() {
        let [own, there] = [0, 1].map(|node| CoreAddress { node: NodeId(node), core: CoreId(2) });
        let counts = (1..=500).map(|user| (UserId(user), 1)).collect();
        let news = PresenceNews { counts, ..PresenceNews::default() };
        let to_homes = PresenceMail { from: own, to: To::Homes(NodeId(1)), news: news.clone() };
        let to_viewer = PresenceMail { to: To::Viewer(there), ..to_homes.clone() };
        let (mut here, mut other) = open();
        assert!(here.post_presence(&to_homes) && here.post_presence(&to_viewer));
        let heard = receive(&mut other, &output(&mut here), &identity(1, NODES)).unwrap();
        let said = |to| Heard::Presence(PresenceSaid { from: own.core, to, news: news.clone() });
        assert_eq!(heard, [said(None), said(Some(there.core))]);

        let (mut alone, _) = open();
        let text = "x".repeat(10_000);
        let go = |link: &mut Link| (0..).find(|_| link.post(&message(&text)).is_err()).unwrap();
        let without = go(&mut alone);
        assert!((0..1_000).any(|_| !here.post_presence(&to_homes)));
        assert!(
            here.waits() > LINK_PRESENCE_BYTES_MAX && here.waits() < LINK_PRESENCE_BYTES_MAX + MESH_FRAME_BYTES_MAX
        );
        assert_eq!(go(&mut here), without, "messages have their own room");
        let waits = here.waits();
        assert!(!here.post_presence(&to_homes), "it is the first that is left undone");
        assert_eq!(here.waits(), waits);
        output(&mut here);
        assert!(here.post_presence(&to_homes), "all has left");
        output(&mut here);
        assert_eq!(go(&mut here), without);
    }

    #[test]
    fn silence_ends_a_link_and_pings_break_it() {
        let (mut here, mut there) = open();
        let (a, b) = (identity(0, NODES), identity(1, NODES));
        let mut now_ms = 0;
        for _ in 0..20 {
            now_ms += LINK_PING_MS;
            here.tick(now_ms, false).unwrap();
            there.receive(&output(&mut here), &b, now_ms, |_| {}).unwrap();
            here.receive(&output(&mut there), &a, now_ms, |_| {}).unwrap();
        }
        here.tick(now_ms + LINK_SILENCE_MS - 1, false).unwrap();
        assert_eq!(here.tick(now_ms + LINK_SILENCE_MS, false), Err(LinkError::Silent(LINK_SILENCE_MS)));
        let mut silent = Link::new(None, None, &b, 0);
        let greeting = output(&mut Link::new(Some(NodeId(1)), None, &a, 0));
        for at in 0..10 {
            silent.receive(&greeting[at..=at], &b, LINK_GREETING_MS / 10 * at as u64, |_| {}).unwrap();
        }
        assert_eq!(
            silent.tick(LINK_GREETING_MS, false),
            Err(LinkError::Silent(LINK_GREETING_MS)),
            "it says hardly anything"
        );
    }
}
