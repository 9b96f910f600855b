//! What the inputs come to: rates, machines, memory, links, the database and its disks.

use crate::inputs::{Input as I, Inputs};

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

/// Days of a year.
const YEAR_DAYS: f64 = 365.0;

/// A figure that comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "FIGURES says of each what it is and in which unit")]
pub enum Figure {
    Sends,
    SendsPeak,
    TextDay,
    Text,
    Stored,
    Replicated,
    Connections,
    Nodes,
    Cores,
    CoresBusy,
    NodeMemory,
    Memory,
    NodeLinks,
    Links,
    NodeEnvelopes,
    NodeTraffic,
    NodeWaiting,
    ProcessesRate,
    Processes,
}

/// Figures, in their order: name in JSON, unit, what it is.
pub const FIGURES: [(Figure, &str, &str, &str); 19] = [
    (Figure::Sends, "sends", "/s", "messages in the mean"),
    (Figure::SendsPeak, "sends_peak", "/s", "messages at the peak"),
    (Figure::TextDay, "text_day", "B", "texts of a day"),
    (Figure::Text, "text", "B", "texts of all years"),
    (Figure::Stored, "stored", "B", "rows of all years, one copy"),
    (Figure::Replicated, "replicated", "B", "rows of all years, all copies"),
    (Figure::Connections, "connections", "", "connections at a time"),
    (Figure::Nodes, "nodes", "", "nodes"),
    (Figure::Cores, "cores", "", "cores: one a node at least"),
    (Figure::CoresBusy, "cores_busy", "", "cores kept busy at the peak"),
    (Figure::NodeMemory, "node_memory", "B", "memory of a node's server"),
    (Figure::Memory, "memory", "B", "memory of all servers"),
    (Figure::NodeLinks, "node_links", "", "mesh links of a node, all with all"),
    (Figure::Links, "links", "", "mesh links of all nodes"),
    (Figure::NodeEnvelopes, "node_envelopes", "/s", "envelopes that a node sends at the peak"),
    (Figure::NodeTraffic, "node_traffic", "B/s", "bytes that a node sends to nodes at the peak"),
    (Figure::NodeWaiting, "node_waiting", "B", "of them, what waits while all other nodes are silent"),
    (Figure::ProcessesRate, "processes_rate", "", "database processes that the peak needs"),
    (Figure::Processes, "processes", "", "database processes, one on each disk"),
];

/// What the model says of some inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Model([f64; FIGURES.len()]);

/// One year of several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Year {
    /// From 1 on.
    pub number: u32,
    /// Messages a second, in the mean of the year.
    pub sends: f64,
    /// Nodes for the users of that year.
    pub nodes: f64,
    /// Texts of all years up to its end, in bytes.
    pub text: f64,
    /// Rows of all years up to its end, all copies, in bytes.
    pub replicated: f64,
    /// Processes and disks of the database at its end.
    pub processes: f64,
}

impl Model {
    /// What follows from the inputs. Rates, nodes and memory are those of the first year, what is stored that of all years.
    #[must_use]
    pub fn of(inputs: &Inputs) -> Self {
        let get = |input| inputs.get(input);
        let sends_day = get(I::Users) * get(I::Messages);
        let sends = sends_day / DAY_S;
        let sends_peak = sends * get(I::PeakFactor);
        let text_day = sends_day * get(I::TextBytes);
        let days = YEAR_DAYS * grown_years(inputs, get(I::Years));
        let text = text_day * days;
        // Both sides of a conversation have the text in their logs; of a group the group alone, once it has answered.
        let texts = 2.0 - get(I::GroupShare);
        let stored = sends_day * days * (get(I::RowBytes) + texts * get(I::TextBytes));
        let replicated = stored * get(I::Replication);
        let connections = get(I::Users) * get(I::Online);
        let nodes = connections / get(I::NodeConnections);

        let elsewhere = (nodes - 1.0).max(0.0) / nodes;
        let envelopes = envelopes_at_peak(inputs) * elsewhere;
        let pushes = sends_peak * get(I::GroupShare) * (get(I::GroupMembers) - 2.0);
        let opens = opens_at_peak(inputs);
        let links = (nodes - 1.0).max(0.0);
        let pings = nodes * links * get(I::LinkPings);
        let cpu_us = sends_peak * get(I::MessageCpu)
            + opens * get(I::OpenCpu)
            + pushes * get(I::PushCpu)
            + (envelopes + pings) * get(I::FrameCpu);
        let cores_busy = cpu_us / 1e6;

        let link_bytes = get(I::ConnectionBytes) + get(I::SocketBytes);
        let user_bytes = link_bytes + get(I::CacheBytes);
        let node_memory = get(I::ProcessBytes) + get(I::NodeConnections) * user_bytes + links * link_bytes;
        let envelope_bytes = get(I::EnvelopeBytes) + get(I::PacketBytes);
        let node_envelopes = envelopes / nodes;
        let node_texts = sends_peak * texts_a_send(inputs) * elsewhere / nodes;
        let node_traffic = node_envelopes * envelope_bytes + node_texts * get(I::TextBytes);

        let node_waiting = (node_traffic * get(I::LinkSilence)).min(links * get(I::LinkQueueBytes));

        let (processes_rate, processes) = processes(inputs, sends_peak, replicated);
        Self([
            sends,
            sends_peak,
            text_day,
            text,
            stored,
            replicated,
            connections,
            nodes,
            nodes.max(cores_busy / get(I::CoreShare)),
            cores_busy,
            node_memory,
            nodes * node_memory,
            links,
            nodes * links / 2.0,
            node_envelopes,
            node_traffic,
            node_waiting,
            processes_rate,
            processes,
        ])
    }

    /// A figure, not rounded.
    #[must_use]
    pub const fn get(&self, figure: Figure) -> f64 {
        self.0[figure as usize]
    }
}

/// What each year needs, of the years that are planned for.
#[must_use]
pub fn years(inputs: &Inputs) -> Vec<Year> {
    let whole = Model::of(inputs);
    let all_days = grown_years(inputs, inputs.get(I::Years));
    let year = |number: u32| {
        let growth = inputs.get(I::UsersGrowth).powi(number as i32 - 1);
        let part = grown_years(inputs, f64::from(number)) / all_days;
        let replicated = whole.get(Figure::Replicated) * part;
        Year {
            number,
            sends: whole.get(Figure::Sends) * growth,
            nodes: whole.get(Figure::Nodes) * growth,
            text: whole.get(Figure::Text) * part,
            replicated,
            processes: processes(inputs, whole.get(Figure::SendsPeak) * growth, replicated).1,
        }
    };
    (1..=inputs.get(I::Years).ceil() as u32).map(year).collect()
}

/// Envelopes a second between homes at the peak, if each is on a node of its own: those of messages, and a question and an answer for each
/// group of a user whose app opens.
pub(crate) fn envelopes_at_peak(inputs: &Inputs) -> f64 {
    let get = |input| inputs.get(input);
    let sends_peak = get(I::Users) * get(I::Messages) / DAY_S * get(I::PeakFactor);
    sends_peak * envelopes_a_send(inputs) + opens_at_peak(inputs) * 2.0 * get(I::UserGroups)
}

/// Apps that open, a second at the peak.
fn opens_at_peak(inputs: &Inputs) -> f64 {
    inputs.get(I::Users) * inputs.get(I::Opens) / DAY_S * inputs.get(I::PeakFactor)
}

/// Envelopes between homes that a message causes. One to a group goes to its home, which answers, and pushes it to each other member's.
fn envelopes_a_send(inputs: &Inputs) -> f64 {
    let group = inputs.get(I::GroupShare);
    (1.0 - group) * inputs.get(I::MessageEnvelopes) + group * (inputs.get(I::GroupMembers) + 1.0)
}

/// How many of these have the text in them.
fn texts_a_send(inputs: &Inputs) -> f64 {
    let group = inputs.get(I::GroupShare);
    (1.0 - group) + group * inputs.get(I::GroupMembers)
}

/// So many years, in years with as many users as the first.
fn grown_years(inputs: &Inputs, years: f64) -> f64 {
    let growth = inputs.get(I::UsersGrowth);
    let whole = years.floor() as i32;
    (0..whole).map(|year| growth.powi(year)).sum::<f64>() + years.fract() * growth.powi(whole)
}

/// Processes of the database that the rate needs, and those that rate and disks need, one on each disk.
fn processes(inputs: &Inputs, sends_peak: f64, replicated: f64) -> (f64, f64) {
    let rate = sends_peak * inputs.get(I::Replication) / inputs.get(I::DatabaseMessages);
    let disks = replicated / (inputs.get(I::DiskBytes) * inputs.get(I::DiskShare));
    (rate, rate.max(disks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, by_hand: f64) {
        assert!((found / by_hand - 1.0).abs() < 1e-9, "{found}, by hand {by_hand}");
    }

    #[test]
    fn figures_stand_at_their_places() {
        for (at, (figure, ..)) in FIGURES.iter().enumerate() {
            assert_eq!(*figure as usize, at);
        }
    }

    /// The planning figures: 230,000 a second, 2 TB a day, 3.65 PB, 10,000 nodes.
    #[test]
    fn the_defaults_are_the_plan() {
        let model = Model::of(&Inputs::default());
        near(model.get(Figure::Sends), 20e9 / 86_400.0);
        assert_eq!((model.get(Figure::Sends) / 1e4).floor(), 23.0);
        near(model.get(Figure::TextDay), 2e12);
        near(model.get(Figure::Text), 3.65e15);
        near(model.get(Figure::Nodes), 10_000.0);
    }

    #[test]
    fn every_figure_is_what_a_hand_makes_of_small_inputs() {
        let mut inputs = Inputs::default();
        for set in [
            "users=864000",
            "online=0.5",
            "messages=20",
            "text=50",
            "years=2",
            "peak=2",
            "group_share=0.25",
            "group_members=4",
            "user_groups=3",
            "opens=10",
            "replication=2",
            "node_connections=10800",
            "core_share=0.5",
            "message_cpu=100",
            "frame_cpu=10",
            "push_cpu=20",
            "open_cpu=500",
            "connection=1000",
            "socket=1000",
            "user_cache=3000",
            "process=1e6",
            "rows=100",
            "process_messages=10",
            "disk=1e12",
            "disk_share=0.5",
            "envelopes=6",
            "envelope=60",
            "packet=40",
            "link_pings=2",
            "link_queue=100",
        ] {
            inputs.set(set).unwrap();
        }
        let model = Model::of(&inputs);
        let hand = [
            (Figure::Sends, 200.0), // 864,000 * 20 / 86,400
            (Figure::SendsPeak, 400.0),
            (Figure::TextDay, 864e6),    // 17.28 million of 50 bytes
            (Figure::Text, 630.72e9),    // 730 days
            (Figure::Stored, 2_365.2e9), // 100 + (0.75 * 2 + 0.25) * 50 bytes, 3.75 times the text
            (Figure::Replicated, 4_730.4e9),
            (Figure::Connections, 432_000.0),
            (Figure::Nodes, 40.0),
            // Messages 40,000 us. Opens 200 a second, 100,000 us. Envelopes (400 * (0.75 * 6 + 0.25 * 5) + 200 * 2 * 3) * 39 / 40 = 3,412.5;
            // pings 40 * 39 * 2 = 3,120: 65,325 us. Pushes 400 * 0.25 * 2 = 200: 4,000 us.
            (Figure::CoresBusy, 0.209325),
            (Figure::Cores, 40.0),
            (Figure::NodeMemory, 55_078_000.0), // 1,000,000 + 10,800 * 5,000 + 39 * 2,000
            (Figure::Memory, 2_203_120_000.0),
            (Figure::NodeLinks, 39.0),
            (Figure::Links, 780.0),
            (Figure::NodeEnvelopes, 85.3125), // 3,412.5 / 40
            // 100 bytes each; 0.75 + 0.25 * 4 = 1.75 for a message have its 50 bytes, 39 of 40 of these on another node.
            (Figure::NodeTraffic, 8_531.25 + 400.0 * 1.75 * 39.0 / 1_600.0 * 50.0),
            (Figure::NodeWaiting, 3_900.0), // 39 links of 100 bytes: what is sent in five seconds is more
            (Figure::ProcessesRate, 80.0),  // 400 * 2 / 10
            (Figure::Processes, 80.0),      // the disks alone: 4,730.4e9 / 0.5e12 = 9.5
        ];
        assert_eq!(hand.len(), FIGURES.len());
        hand.iter().for_each(|&(figure, by_hand)| near(model.get(figure), by_hand));
        inputs.set("disk=1e10").unwrap();
        near(Model::of(&inputs).get(Figure::Processes), 946.08);
        inputs.set("message_cpu=1e6").unwrap();
        near(Model::of(&inputs).get(Figure::Cores), 2.0 * (400.0 + 0.169325));
    }

    #[test]
    fn what_grows_is_added_up_year_by_year() {
        let mut inputs = Inputs::default();
        let five = years(&inputs);
        assert_eq!(five.len(), 5);
        near(five[0].text, 0.73e15);
        near(five[4].text, 3.65e15);
        near(five[4].replicated, Model::of(&inputs).get(Figure::Replicated));
        near(five[4].processes, Model::of(&inputs).get(Figure::Processes));
        inputs.set("users_growth=2").unwrap();
        inputs.set("years=2.5").unwrap();
        let grown = years(&inputs);
        // 1 + 2 + 4 years of the first one's texts, of which the plan ends after half of the last.
        near(grown[2].text, 7.0 * 0.73e15);
        near(Model::of(&inputs).get(Figure::Text), 5.0 * 0.73e15);
        near(grown[2].nodes, 40_000.0);
    }
}
