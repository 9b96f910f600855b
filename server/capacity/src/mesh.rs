//! Up to how many nodes each can have a link with each, and what else there is: relays, and groups of nodes.
//!
//! A full mesh has one link for each pair of nodes. Three things grow with the links of a node: what may wait in them, the pings by
//! which each side knows that the other lives, and the handshakes of a node that starts.

use crate::{
    inputs::{Input as I, Inputs},
    model::envelopes_at_peak,
};

/// What ends a full mesh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// What grows with the links.
    pub what: &'static str,
    /// Links of a node at which it reaches its bound.
    pub links: f64,
}

impl Stop {
    /// Nodes of the largest full mesh that it allows: one more than links of each.
    #[must_use]
    pub const fn nodes(&self) -> f64 {
        self.links.floor() + 1.0
    }
}

/// What ends a full mesh, the earliest first.
#[must_use]
pub fn stops(inputs: &Inputs) -> [Stop; 3] {
    let get = |input| inputs.get(input);
    let queue_bytes = get(I::LinkQueueBytes) + get(I::ConnectionBytes) + get(I::SocketBytes);
    let memory = Stop { what: "memory of links, each full to its bound", links: get(I::MeshMemoryBytes) / queue_bytes };
    let [first, second] = stops_of_work(inputs);
    let mut stops = [memory, first, second];
    stops.sort_by(|a, b| a.links.total_cmp(&b.links));
    stops
}

/// The same without that bound: if what waits for all nodes had one bound together, whatever the number of links.
#[must_use]
pub fn stops_of_work(inputs: &Inputs) -> [Stop; 2] {
    let get = |input| inputs.get(input);
    let mut stops = [
        Stop { what: "handshakes of a node that starts", links: get(I::LinksReturn) * 1e6 / get(I::HandshakeCpu) },
        Stop {
            what: "pings on all links",
            links: get(I::LinkPingShare) * 1e6 / (get(I::LinkPings) * get(I::FrameCpu)),
        },
    ];
    stops.sort_by(|a, b| a.links.total_cmp(&b.links));
    stops
}

/// How nodes are linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each with each.
    Full,
    /// Each with two relays, of which it uses one; relays each with each.
    Relays {
        /// How many.
        relays: u32,
    },
    /// A square: each with all of its row, which is its group, and with all of its column, which is one node of every other group.
    Groups {
        /// Nodes of a group.
        columns: u32,
        /// Groups.
        rows: u32,
    },
}

/// What a way to link nodes costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Design {
    /// Which way.
    pub shape: Shape,
    /// Links of a node.
    pub node_links: f64,
    /// Links of a relay, if there are any.
    pub relay_links: f64,
    /// All links.
    pub links: f64,
    /// Links that an envelope passes, in the mean of all pairs of two nodes.
    pub hops: f64,
    /// Envelopes a second that those in between take and pass on, at the peak.
    pub passed_on: f64,
    /// Cores that this keeps busy, and pings with it.
    pub cores_busy: f64,
}

/// The three ways for so many nodes, a whole number of two and more.
#[must_use]
pub fn designs(inputs: &Inputs, nodes: f64) -> [Design; 3] {
    let get = |input| inputs.get(input);
    let envelopes = envelopes_at_peak(inputs) * (nodes - 1.0) / nodes;
    let design = |shape, node_links: f64, relay_links: f64, links: f64, hops: f64| {
        let passed_on = envelopes * (hops - 1.0);
        let frames = passed_on + 2.0 * links * get(I::LinkPings);
        let cores_busy = frames * get(I::FrameCpu) / 1e6;
        Design { shape, node_links, relay_links, links, hops, passed_on, cores_busy }
    };
    let relays = relays(inputs, nodes, envelopes);
    // Two nodes of one relay are two links apart, all others three.
    let of_a_relay = nodes / relays;
    let relay_hops = 3.0 - (of_a_relay - 1.0).max(0.0) / (nodes - 1.0);
    let (columns, rows) = square(nodes);
    let near = f64::from(columns - 1) + f64::from(rows - 1);
    [
        design(Shape::Full, nodes - 1.0, 0.0, nodes * (nodes - 1.0) / 2.0, 1.0),
        design(
            Shape::Relays { relays: relays as u32 },
            2.0,
            2.0 * of_a_relay + relays - 1.0,
            2.0 * nodes + relays * (relays - 1.0) / 2.0,
            relay_hops,
        ),
        design(Shape::Groups { columns, rows }, near, 0.0, nodes * near / 2.0, 2.0 - (near / (nodes - 1.0)).min(1.0)),
    ]
}

/// How many relays pass on what the nodes have to say, with one core each that is as busy as a core may be, and no more links than work
/// allows. Three at least, so that one may fail.
fn relays(inputs: &Inputs, nodes: f64, envelopes: f64) -> f64 {
    // Each envelope passes two of them.
    let by_load = 2.0 * envelopes * inputs.get(I::FrameCpu) / 1e6 / inputs.get(I::CoreShare);
    // A relay has 2 * nodes / relays + relays - 1 links: with more relays fewer, and the fewest at the root of 2 * nodes.
    let half = f64::midpoint(stops_of_work(inputs)[0].links, 1.0);
    let by_links = half - (half * half - 2.0 * nodes).sqrt();
    let by_links = if by_links.is_nan() { (2.0 * nodes).sqrt() } else { by_links };
    by_load.max(by_links).ceil().clamp(3.0, nodes.max(3.0))
}

/// Columns and rows of the smallest square, or nearly square, that has room for so many nodes.
pub(crate) fn square(nodes: f64) -> (u32, u32) {
    let columns = nodes.sqrt().ceil();
    (columns as u32, (nodes / columns).ceil() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_bound_ends_a_full_mesh() {
        let mut inputs = Inputs::default();
        for set in ["mesh_memory=1e6", "link_queue=8000", "connection=1000", "socket=1000"] {
            inputs.set(set).unwrap();
        }
        for set in ["links_return=2", "handshake_cpu=1e4", "ping_share=0.1", "link_pings=2", "frame_cpu=100"] {
            inputs.set(set).unwrap();
        }
        // 1,000,000 / 10,000; 2 s of 10 ms each; a tenth of a second for two pings a second of 100 us.
        let links: Vec<f64> = stops(&inputs).iter().map(|stop| stop.links.round()).collect();
        assert_eq!(links, [100.0, 200.0, 500.0]);
        assert_eq!(stops(&inputs)[0].nodes(), 101.0);
        inputs.set("link_pings=20").unwrap();
        assert_eq!((stops(&inputs)[0].what, stops(&inputs)[0].links.round()), ("pings on all links", 50.0));
        inputs.set("link_pings=0").unwrap();
        assert_eq!(stops(&inputs)[2].links, f64::INFINITY);
    }

    #[test]
    fn a_square_of_nine_and_three_relays_are_counted_by_hand() {
        let mut inputs = Inputs::default();
        // One message a second at the peak, six envelopes each, 8 of 9 to another node.
        for set in
            ["users=86400", "messages=1", "peak=1", "group_share=0", "user_groups=0", "link_pings=0", "frame_cpu=1e5"]
        {
            inputs.set(set).unwrap();
        }
        let envelopes = 6.0 * 8.0 / 9.0;
        let [full, relays, groups] = designs(&inputs, 9.0);
        assert_eq!((full.node_links, full.links, full.hops, full.passed_on), (8.0, 36.0, 1.0, 0.0));
        // 2 * 5.33 * 0.1 s / 0.5: 2.13, so three relays with three nodes each, of whose eight others two are of the same relay.
        assert_eq!(relays.shape, Shape::Relays { relays: 3 });
        assert_eq!((relays.relay_links, relays.links, relays.hops), (8.0, 21.0, 2.75));
        // Two in the row, two in the column, four behind one other.
        assert_eq!(groups.shape, Shape::Groups { columns: 3, rows: 3 });
        assert_eq!((groups.node_links, groups.links, groups.hops), (4.0, 18.0, 1.5));
        assert!((groups.cores_busy - envelopes * 0.5 * 0.1).abs() < 1e-9);
        assert_eq!(square(10.0), (4, 3));
    }

    #[test]
    fn relays_have_no_more_links_than_a_mesh_allows() {
        let mut inputs = Inputs::default();
        inputs.set("messages=0.001").unwrap();
        inputs.set("user_groups=0").unwrap();
        let links_max = stops_of_work(&inputs)[0].links;
        // 5,952 links: 357 relays for a million nodes would have 2,000,000 / 357 + 356 = 5,958.
        for (nodes, count) in [(100.0, 3), (1e4, 4), (1e6, 358)] {
            let [_, relays, _] = designs(&inputs, nodes);
            assert_eq!(relays.shape, Shape::Relays { relays: count });
            assert!(relays.relay_links <= links_max, "{nodes}");
        }
        // So many can not be had with so few links; they are as few as can be.
        assert_eq!(designs(&inputs, 1e8)[1].shape, Shape::Relays { relays: 14_143 });
    }
}
