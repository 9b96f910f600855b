//! Placement at the planned size: all users, one after the other, in their partitions; partitions and slots on nodes; nodes that fail.

use thiserror::Error;

use crate::{
    activity::{Activity, mix},
    balance::{Balance, PARTITIONS, SLOTS, Weights, even_up_to},
    failure::{Failure, fullest, fullest_rack},
    inputs::{Input as I, Inputs},
    mesh::{Shape, designs},
    model::{Figure, Model},
    placement::{Node, Placement, Ranks},
    routes::{self, Routes},
};

/// Numbers of nodes that are looked at, up to the planned one.
const NODES: [u32; 9] = [3, 10, 30, 80, 100, 256, 1_000, 3_000, 10_000];

/// Of these numbers, and of the planned one, it is told what failures do.
const FAILING: [u32; 2] = [80, 1_000];

/// Most nodes that can be simulated: nodes have numbers of 16 bits, and with more some own no partition.
pub const NODES_MAX: u32 = PARTITIONS - 1;

/// Most users: each is drawn, some ten nanoseconds each, so this takes minutes.
pub const USERS_MAX: f64 = 1e10;

/// Bounds that are compared; the last one is none.
const BOUNDS: [f64; 4] = [1.0, 1.1, 1.25, 1e9];

/// What the fullest node may have against the mean for a unit to count as fine enough: a quarter more.
pub const UNEVEN: f64 = 1.25;

/// Logins a second of a node at which it is told how long everybody takes to come back.
pub const LOGINS: [f64; 4] = [100.0, 300.0, 1_000.0, 3_000.0];

/// By what a node is given its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitKind {
    /// [`SLOTS`] of them.
    Slot,
    /// [`PARTITIONS`] of them.
    Partition,
}

/// Why nothing is simulated.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum SimulationError {
    /// Too few or too many nodes.
    #[error(
        "{nodes} nodes of {connections} connections: the simulation takes 3 to {NODES_MAX}; set node_connections or users"
    )]
    Nodes {
        /// How many there would be.
        nodes: f64,
        /// Connections of each.
        connections: f64,
    },
    /// Too many users.
    #[error("{users} users: the simulation draws each of them, and takes {USERS_MAX} at most")]
    Users {
        /// How many there would be.
        users: f64,
    },
}

/// How even a number of nodes is, by slots and by partitions.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes, each with as many users as planned.
    pub nodes: u32,
    /// By slots.
    pub slots: Balance,
    /// By partitions.
    pub partitions: Balance,
}

/// What a bound does, with partitions on all nodes.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    /// Times its share that a node may own.
    pub bound: f64,
    /// How even that is.
    pub balance: Balance,
    /// The fullest node dies, and all are placed anew.
    pub anew: Failure,
    /// The same, and what lives stays where it is.
    pub kept: Failure,
}

/// A failure of one node or of a rack.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Nodes before.
    pub nodes: u32,
    /// What is placed.
    pub kind: UnitKind,
    /// What follows.
    pub failure: Failure,
}

/// What others pass on, when all live, when a rack fails, and when as many nodes fail here and there.
#[derive(Clone, Copy, Debug)]
pub struct Passing {
    /// How nodes are linked.
    pub shape: Shape,
    /// All live.
    pub whole: Routes,
    /// A rack has failed; of relays one.
    pub rack: Routes,
    /// As many nodes as a rack has, anywhere; of relays the two that some nodes have.
    pub scattered: Routes,
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// Users.
    pub users: f64,
    /// Which part of all messages the hundredth part of users writes that writes most.
    pub first_share: f64,
    /// The part of them that is connected.
    pub online: f64,
    /// Nodes up to which slots, and partitions, are fine enough: the fullest has [`UNEVEN`] times the mean at most.
    pub even_up_to: [u32; 2],
    /// By number of nodes.
    pub sizes: Vec<Size>,
    /// By bound.
    pub bounds: Vec<Bounded>,
    /// By number of nodes: a node, and a rack, fails.
    pub cases: Vec<Case>,
    /// Relays, and groups.
    pub passing: [Passing; 2],
}

/// Places the users of the inputs, and lets nodes fail.
///
/// # Errors
/// There would be too few or too many nodes, or too many users.
pub fn simulate(inputs: &Inputs) -> Result<Simulation, SimulationError> {
    let (users, connections) = (inputs.get(I::Users), inputs.get(I::NodeConnections));
    let nodes = Model::of(inputs).get(Figure::Nodes);
    let planned = (nodes * (1.0 - 1e-12)).ceil();
    if !(3.0..=f64::from(NODES_MAX)).contains(&planned) {
        return Err(SimulationError::Nodes { nodes, connections });
    }
    if users > USERS_MAX {
        return Err(SimulationError::Users { users });
    }
    let (planned, bound) = (planned as u32, inputs.get(I::Bound));
    let node_users = users / nodes;
    let activity = Activity::new(inputs.get(I::Messages), inputs.get(I::Spread));
    let (mut weights, mut drawn) = (Weights::new(), 0);
    let (mut sizes, mut cases) = (Vec::new(), Vec::new());
    let rack = inputs.get(I::Rack) as Node;
    for nodes in NODES.into_iter().filter(|&nodes| nodes < planned).chain([planned]) {
        let up_to = if nodes == planned { users as u64 } else { (f64::from(nodes) * node_users) as u64 };
        weights.add(drawn + 1..=up_to, &activity);
        drawn = up_to;
        let [slots, partitions] = [UnitKind::Slot, UnitKind::Partition].map(|kind| {
            let weights = kind.weights(&weights);
            let ranks = Ranks::new(kind.units(), nodes as Node);
            let before = ranks.place(&[], bound);
            if FAILING.contains(&nodes) || nodes == planned {
                let racks = (nodes > rack.into()).then(|| fullest_rack(&before, &weights, rack));
                for dead in [Some(vec![fullest(&before, &weights)]), racks].into_iter().flatten() {
                    let failure = Failure::of(&before, &before.after(&ranks, &dead, bound), &weights);
                    cases.push(Case { nodes, kind, failure });
                }
            }
            Balance::of(&before, &weights)
        });
        sizes.push(Size { nodes, slots, partitions });
    }
    let ranks = Ranks::new(PARTITIONS, planned as Node);
    let bounds = BOUNDS.iter().map(|&bound| bounded(&ranks, &weights, bound)).collect();
    Ok(Simulation {
        users,
        first_share: activity.share_of_first(0.01),
        online: inputs.get(I::Online),
        even_up_to: [SLOTS, PARTITIONS].map(|units| even_up_to(units, UNEVEN)),
        sizes,
        bounds,
        cases,
        passing: passing(inputs, &ranks.place(&[], bound), &weights, rack.into()),
    })
}

impl UnitKind {
    const fn units(self) -> u32 {
        match self {
            Self::Slot => SLOTS,
            Self::Partition => PARTITIONS,
        }
    }

    fn weights(self, weights: &Weights) -> Weights {
        weights.gathered(self.units())
    }
}

fn bounded(ranks: &Ranks, weights: &Weights, bound: f64) -> Bounded {
    let before = ranks.place(&[], bound);
    let dead = [fullest(&before, weights)];
    Bounded {
        bound,
        balance: Balance::of(&before, weights),
        anew: Failure::of(&before, &ranks.place(&dead, bound), weights),
        kept: Failure::of(&before, &before.after(ranks, &dead, bound), weights),
    }
}

fn passing(inputs: &Inputs, placement: &Placement, weights: &Weights, rack: usize) -> [Passing; 2] {
    let nodes = placement.alive.len();
    let Weights { users, messages } = weights.by_node(placement);
    let [_, relays, groups] = designs(inputs, nodes as f64).map(|design| design.shape);
    let Shape::Relays { relays: count } = relays else { unreachable!("the second design is that of relays") };
    let by_relays = |dead: &[usize]| routes::relays(&messages, &users, count as usize, dead);
    let by_groups = |is_dead: &dyn Fn(usize) -> bool| {
        let alive: Vec<bool> = (0..nodes).map(|node| !is_dead(node)).collect();
        routes::groups(&messages, &users, &alive)
    };
    let rack = rack.min(nodes / 2);
    let scattered: Vec<usize> = (0..rack as u64).map(|at| (mix(at) % nodes as u64) as usize).collect();
    [
        Passing { shape: relays, whole: by_relays(&[]), rack: by_relays(&[0]), scattered: by_relays(&[0, 1]) },
        Passing {
            shape: groups,
            whole: by_groups(&|_| false),
            rack: by_groups(&|node| node < rack),
            scattered: by_groups(&|node| scattered.contains(&node)),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Simulation {
        let mut inputs = Inputs::default();
        for set in ["users=3e6", "node_connections=10000"] {
            inputs.set(set).unwrap();
        }
        simulate(&inputs).unwrap()
    }

    /// What is said of the planned size, at a smaller one: 300 nodes of 10,000 users.
    #[test]
    fn slots_are_too_coarse_for_many_nodes_and_partitions_are_not() {
        let found = small();
        let sizes: Vec<u32> = found.sizes.iter().map(|size| size.nodes).collect();
        assert_eq!(sizes, [3, 10, 30, 80, 100, 256, 300]);
        for size in &found.sizes {
            assert!(size.partitions.users < 1.35 && size.partitions.idle == 0, "{size:?}");
            let rounded = f64::from(size.nodes) * (256.0 / f64::from(size.nodes)).ceil() / 256.0;
            assert!(size.slots.units <= rounded + 1e-9, "{size:?}");
        }
        let last = found.sizes.last().unwrap();
        assert!(last.slots.idle == 44 && last.slots.users > 1.15, "{last:?}");
    }

    #[test]
    fn a_bound_is_paid_with_moves_unless_who_lives_keeps_what_it_has() {
        let found = small();
        let (tight, free) = (found.bounds.first().unwrap(), found.bounds.last().unwrap());
        assert!(tight.balance.units < 1.01 && free.balance.units > 1.1, "{tight:?} {free:?}");
        assert!(tight.anew.units_moved > 2 * tight.anew.units_dead && free.anew.units_moved == free.anew.units_dead);
        assert!(found.bounds.iter().all(|bounded| bounded.kept.units_moved == bounded.kept.units_dead));
    }

    #[test]
    fn partitions_spread_a_failure_over_many_and_slots_over_few() {
        let found = small();
        let case = |kind, dead| {
            let of = |case: &&Case| case.nodes == 300 && case.kind == kind && case.failure.dead == dead;
            found.cases.iter().find(of).unwrap().failure
        };
        let (slot, partition) = (case(UnitKind::Slot, 1), case(UnitKind::Partition, 1));
        assert!(slot.receivers < 10 && partition.receivers > 100, "{slot:?} {partition:?}");
        assert!(slot.back_s(1.0, 100.0) > 10.0 * partition.back_s(1.0, 100.0));
        let rack = case(UnitKind::Partition, 40);
        assert!(rack.users > 0.1 * 3e6 && rack.users_most < 10_000.0, "{rack:?}");
    }

    /// A square that is full, and a rack that is part of one row.
    #[test]
    fn both_designs_of_the_mesh_lose_nobody_when_a_rack_fails() {
        let mut inputs = Inputs::default();
        for set in ["users=2.89e6", "node_connections=10000", "rack=15"] {
            inputs.set(set).unwrap();
        }
        let passing = simulate(&inputs).unwrap().passing;
        assert_eq!(passing[1].shape, Shape::Groups { columns: 17, rows: 17 });
        for Passing { whole, rack, scattered, .. } in passing {
            assert_eq!((whole.cut_off, rack.cut_off), (0, 0));
            assert!(whole.uneven < 1.6 && rack.uneven < 3.0 && scattered.cut_off > 0, "{whole:?} {rack:?}");
        }
    }

    #[test]
    fn what_can_not_be_simulated_is_said() {
        let mut inputs = Inputs::default();
        inputs.set("users=1e5").unwrap();
        assert!(simulate(&inputs).unwrap_err().to_string().contains("takes 3 to 65535"));
        inputs.set("users=1e12").unwrap();
        inputs.set("node_connections=1e9").unwrap();
        assert!(simulate(&inputs).unwrap_err().to_string().contains("at most"));
    }
}
