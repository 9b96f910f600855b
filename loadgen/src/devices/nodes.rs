//! Which node each device of a lane connects to (SPEC 8.11). Written from the specification, and suspicious: redirects that lead in a
//! circle, or to where no load may go, are faults.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::SocketAddr,
};

use proto_spec::limits::REDIRECTS_MAX;
use rustls::pki_types::ServerName;

use crate::{
    limits::{NODES_MAX, RETRY_AFTER_MAX_MS},
    place::Place,
    session::Redirect,
    tls::Trust,
};

/// Which redirects the devices of a run follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    /// None: their hellos say so, and they stay at the first node.
    Refused,
    /// Those to this machine.
    ToThisMachine,
    /// All of them.
    ToAnywhere,
}

/// Where a link leads.
#[derive(Clone, Debug)]
pub struct Node {
    /// As redirects write it.
    pub address: String,
    /// Where that is.
    pub target: SocketAddr,
    /// The name that its certificate must have, if it speaks TLS.
    pub name: Option<ServerName<'static>>,
}

/// How a device came to its node.
#[derive(Clone, Copy, Debug, Default)]
struct Route {
    /// The next connection is not made earlier, in microseconds.
    not_before_us: u64,
    /// The newest map of the redirects in a row.
    map_version: u64,
    /// Which of the known nodes.
    node: u16,
    /// Redirects in a row, without a welcome between.
    redirects: u8,
}

/// The nodes of all devices of a lane.
#[derive(Debug)]
pub struct Nodes {
    /// The first address, and those that redirects have named.
    known: Vec<Node>,
    routes: Vec<Route>,
    /// Of devices that are served until the time has come, in microseconds.
    moves: HashMap<u32, (u64, Redirect)>,
    trust: Option<Trust>,
    redirects: Redirects,
}

impl Nodes {
    /// For so many devices, all of which begin at the first node.
    ///
    /// # Errors
    /// No certificate can have its name.
    pub fn new(first: &Place, trust: Option<Trust>, redirects: Redirects, count: usize) -> Result<Self, String> {
        let name = trust.as_ref().map(|trust| trust.name_at(&first.host)).transpose()?;
        let first = Node { address: first.to_string(), target: first.address, name };
        Ok(Self { known: vec![first], routes: vec![Route::default(); count], moves: HashMap::new(), trust, redirects })
    }

    /// Where a device connects.
    #[must_use]
    pub fn of(&self, slot: u32) -> &Node {
        &self.known[usize::from(self.routes[slot as usize].node)]
    }

    /// Whether that is not the first node.
    #[must_use]
    pub fn is_elsewhere(&self, slot: u32) -> bool {
        self.routes[slot as usize].node > 0
    }

    /// Whether redirects are followed at all.
    #[must_use]
    pub fn are_followed(&self) -> bool {
        self.redirects != Redirects::Refused
    }

    /// What the hello says of how the device came there; 0: it follows no redirects.
    #[must_use]
    pub fn hops(&self, slot: u32) -> u64 {
        if self.are_followed() { 1 + u64::from(self.routes[slot as usize].redirects) } else { 0 }
    }

    /// When the device may connect there, in microseconds.
    #[must_use]
    pub fn not_before_us(&self, slot: u32) -> u64 {
        self.routes[slot as usize].not_before_us
    }

    /// The device is welcome: what follows is of another row.
    pub fn welcome(&mut self, slot: u32) {
        let route = &mut self.routes[slot as usize];
        *route = Route { node: route.node, ..Route::default() };
    }

    /// The device goes back to the first node.
    pub fn begin_again(&mut self, slot: u32) {
        self.routes[slot as usize] = Route::default();
    }

    /// The device is served for a while, and then elsewhere. Until when, in microseconds.
    pub fn will_move(&mut self, slot: u32, now_us: u64, redirect: Redirect) -> u64 {
        let due_us = due_us(now_us, &redirect);
        self.moves.insert(slot, (due_us, redirect));
        due_us
    }

    /// Whether the device was told to move and is still there.
    #[must_use]
    pub fn is_moving(&self, slot: u32) -> bool {
        self.moves.contains_key(&slot)
    }

    /// Whether its time has come.
    #[must_use]
    pub fn is_move_due(&self, slot: u32, now_us: u64) -> bool {
        self.moves.get(&slot).is_some_and(|(due_us, _)| *due_us <= now_us)
    }

    /// The connection on which a device was told to move has ended. Whether it was told so.
    ///
    /// # Errors
    /// It can not go there, and why. It goes back to the first node.
    pub fn moved(&mut self, slot: u32) -> Result<bool, String> {
        let Entry::Occupied(told) = self.moves.entry(slot) else { return Ok(false) };
        let (due_us, redirect) = told.remove();
        self.go(slot, due_us, &redirect).map(|()| true)
    }

    /// The device was sent on in place of a welcome.
    ///
    /// # Errors
    /// It does not follow, and why. It goes back to the first node.
    pub fn follow(&mut self, slot: u32, now_us: u64, redirect: &Redirect) -> Result<(), String> {
        self.go(slot, due_us(now_us, redirect), redirect)
    }

    fn go(&mut self, slot: u32, not_before_us: u64, redirect: &Redirect) -> Result<(), String> {
        let route = self.routes[slot as usize];
        let Redirect { address, map_version, .. } = redirect;
        let found = if u64::from(route.redirects) >= REDIRECTS_MAX {
            Err(format!("{} redirects in a row, at last to {address:?}: the nodes do not agree", REDIRECTS_MAX + 1))
        } else if *map_version < route.map_version {
            Err(format!("a redirect to {address:?} by map {map_version}, after one by map {}", route.map_version))
        } else {
            self.find(address)
        };
        match found {
            Ok(node) => {
                let redirects = route.redirects + 1;
                self.routes[slot as usize] = Route { not_before_us, map_version: *map_version, node, redirects };
                Ok(())
            }
            Err(words) => {
                self.begin_again(slot);
                Err(words)
            }
        }
    }

    /// The node with this address. One that is named for the first time is looked up, while the lane waits.
    fn find(&mut self, address: &str) -> Result<u16, String> {
        if let Some(at) = self.known.iter().position(|node| node.address == address) {
            return Ok(at as u16);
        }
        let refused = |why: &str| Err(format!("a redirect to {address:?}: {why}"));
        if self.known.len() == NODES_MAX {
            return refused(&format!("{NODES_MAX} nodes are known already"));
        }
        // There is no port that could be meant.
        let place = match Place::find(address, 0) {
            Ok(place) if place.address.port() > 0 => place,
            Ok(_) => return refused("it names no port"),
            Err(error) => return refused(&format!("{error:#}")),
        };
        if !place.address.ip().is_loopback() && self.redirects != Redirects::ToAnywhere {
            return refused("it is not on this machine; --allow-remote if you may put load on it");
        }
        let name = match self.trust.as_ref().map(|trust| trust.name_at(&place.host)).transpose() {
            Ok(name) => name,
            Err(why) => return refused(&why),
        };
        self.known.push(Node { address: address.to_owned(), target: place.address, name });
        Ok((self.known.len() - 1) as u16)
    }
}

fn due_us(now_us: u64, redirect: &Redirect) -> u64 {
    now_us + redirect.after_ms.min(RETRY_AFTER_MAX_MS) * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        Nodes::new(&Place::find("127.0.0.1:1", 0).unwrap(), None, Redirects::ToThisMachine, 2).unwrap()
    }

    fn to(port: u16, after_ms: u64, map_version: u64) -> Redirect {
        Redirect { address: format!("127.0.0.1:{port}"), after_ms, map_version }
    }

    fn at(nodes: &Nodes, slot: u32) -> (u16, u64) {
        (nodes.of(slot).target.port(), nodes.hops(slot))
    }

    #[test]
    fn a_device_goes_where_it_is_sent_alone_and_not_before_its_time() {
        let mut nodes = nodes();
        nodes.follow(1, 5_000, &to(2, 7, 1)).unwrap();
        assert_eq!((at(&nodes, 1), nodes.not_before_us(1)), ((2, 2), 12_000));
        assert_eq!((at(&nodes, 0), nodes.not_before_us(0)), ((1, 1), 0));
        nodes.welcome(1);
        assert_eq!((at(&nodes, 1), nodes.not_before_us(1)), ((2, 1), 0));
        assert!(nodes.is_elsewhere(1) && !nodes.is_elsewhere(0));
        nodes.begin_again(1);
        assert_eq!(at(&nodes, 1), (1, 1));
    }

    #[test]
    fn a_circle_is_told_and_leads_back_to_the_first_node() {
        let mut nodes = nodes();
        for n in 0..REDIRECTS_MAX as u16 {
            nodes.follow(0, 0, &to(2 + n % 2, 0, 1)).unwrap();
        }
        let words = nodes.follow(0, 0, &to(2, 0, 1)).unwrap_err();
        assert!(words.contains("5 redirects in a row, at last to \"127.0.0.1:2\""), "{words}");
        assert_eq!(at(&nodes, 0), (1, 1));
        nodes.follow(0, 0, &to(2, 0, 4)).unwrap();
        let words = nodes.follow(0, 0, &to(3, 0, 3)).unwrap_err();
        assert!(words.contains("by map 3, after one by map 4"), "{words}");
        assert_eq!(at(&nodes, 0), (1, 1));
    }

    #[test]
    fn a_device_that_is_served_moves_when_its_time_has_come_or_its_connection_has_ended() {
        let mut nodes = nodes();
        assert_eq!(nodes.moved(0), Ok(false));
        assert_eq!(nodes.will_move(0, 0, to(2, 9, 1)), 9_000);
        assert_eq!(nodes.will_move(0, 1_000, to(3, 4, 1)), 5_000, "the last one counts");
        assert!(!nodes.is_move_due(0, 4_999) && nodes.is_move_due(0, 5_000) && !nodes.is_move_due(1, 5_000));
        assert_eq!(at(&nodes, 0), (1, 1), "until then it is served");
        assert_eq!(nodes.moved(0), Ok(true));
        assert_eq!((at(&nodes, 0), nodes.not_before_us(0)), ((3, 2), 5_000));
        assert_eq!(nodes.moved(0), Ok(false));
    }

    #[test]
    fn no_load_goes_to_another_machine_or_to_nowhere() {
        for (address, why) in [
            ("192.0.2.1:7600", "--allow-remote"),
            ("127.0.0.1", "it names no port"),
            ("127.0.0.1:0", "a port is a number"),
            ("a b:1", "no name or address"),
        ] {
            let mut nodes = nodes();
            let redirect = Redirect { address: address.to_owned(), after_ms: 0, map_version: 0 };
            let words = nodes.follow(0, 0, &redirect).unwrap_err();
            assert!(words.contains(why), "{words}");
            assert_eq!(at(&nodes, 0), (1, 1));
        }
    }

    #[test]
    fn a_certificate_is_for_the_host_of_the_redirect_unless_a_name_was_chosen() {
        for (chosen, first, other) in
            [(None, "localhost", "127.0.0.1"), (Some("chat.example"), "chat.example", "chat.example")]
        {
            let place = Place { host: "localhost".to_owned(), address: "127.0.0.1:1".parse().unwrap() };
            let mut nodes = Nodes::new(&place, Some(Trust::in_nobody(chosen)), Redirects::ToThisMachine, 1).unwrap();
            let name = |nodes: &Nodes| nodes.of(0).name.as_ref().map(|name| name.to_str().into_owned());
            assert_eq!(name(&nodes).as_deref(), Some(first));
            nodes.follow(0, 0, &to(2, 0, 1)).unwrap();
            assert_eq!(name(&nodes).as_deref(), Some(other));
        }
    }

    #[test]
    fn so_many_nodes_are_known_and_no_more() {
        let mut nodes = nodes();
        for port in 2..=NODES_MAX as u16 {
            nodes.follow(0, 0, &to(port, 0, 1)).unwrap();
            nodes.welcome(0);
        }
        let words = nodes.follow(0, 0, &to(9_999, 0, 1)).unwrap_err();
        assert!(words.contains("64 nodes are known already"), "{words}");
        nodes.follow(1, 0, &to(2, 0, 1)).unwrap();
    }
}
