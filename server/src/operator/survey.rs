//! Survey: what a node knows of its cluster, as plain data, and how the operator is told: for people and for programs. PURE.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::cluster::map::Slot;

/// What a node knows of its cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What the cluster is called.
    pub cluster: String,
    /// Of the map, if it is the same for ever: see [`crate::cluster::map::Map::digest`].
    pub digest: u64,
    /// Of the map, if it changes while nodes run: a later one is higher.
    pub version: Option<u64>,
    /// All nodes, in the order in which they are told.
    pub nodes: Vec<NodeKnown>,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKnown {
    /// What it is called.
    pub name: String,
    /// Where other nodes reach it.
    pub mesh: SocketAddr,
    /// Where clients reach it without TLS, if they can.
    pub clients: Option<String>,
    /// Where clients reach it with TLS, if they can.
    pub clients_tls: Option<String>,
    /// How much it owns, in proportion to others.
    pub weight: u16,
    /// What it owns, in the order of the slots.
    pub slots: Vec<SlotOwned>,
    /// How this node reaches it.
    pub reach: Reach,
    /// It is to own nothing any more.
    pub is_leaving: bool,
    /// Whether it does its work; none: nobody watches that.
    pub is_alive: Option<bool>,
}

/// A slot of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOwned {
    /// Which one.
    pub slot: Slot,
    /// It stays there, whatever the map that is proposed says.
    pub is_pinned: bool,
}

/// How a node is reached from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is this one.
    Here,
    /// There is a link.
    Linked,
    /// There is none at this moment.
    Away,
}

impl Reach {
    const fn name(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Linked => "linked",
            Self::Away => "away",
        }
    }
}

/// What of it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Which nodes there are, and how they are.
    Nodes,
    /// Who owns which slots.
    Map,
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// People.
    Text,
    /// Programs: JSON.
    Json,
}

/// Slots side by side that are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u8,
    last: u8,
    is_pinned: bool,
}

/// One part of what is known; none: the server has no others beside it.
#[must_use]
pub fn tell(survey: Option<&Survey>, part: Part, form: Form) -> String {
    match (survey, part, form) {
        (None, _, Form::Text) => "this server is alone: there is no cluster, and it serves all users\n".to_owned(),
        (None, _, Form::Json) => format!("{:#}\n", json!({ "cluster": null, "nodes": [] })),
        (Some(survey), Part::Nodes, Form::Text) => survey.head() + &survey.nodes_text(),
        (Some(survey), Part::Map, Form::Text) => survey.head() + &survey.map_text(),
        (Some(survey), part, Form::Json) => format!("{:#}\n", survey.json(part)),
    }
}

impl Survey {
    fn head(&self) -> String {
        let Self { cluster, digest, version, nodes } = self;
        let map = version.map_or_else(|| format!("{digest:016x}"), |version| format!("version {version}"));
        format!("cluster {cluster}, nodes: {}, map: {map}\n", nodes.len())
    }

    fn nodes_text(&self) -> String {
        let head = ["node", "nodes reach it", "clients", "clients with TLS", "weight", "slots", "link", "state"];
        let rows = self.nodes.iter().map(|node| {
            let NodeKnown { name, mesh, clients, clients_tls, weight, slots, reach, .. } = node;
            let place = |place: &Option<String>| place.clone().unwrap_or_else(|| "-".to_owned());
            let [weight, slots] = [usize::from(*weight), slots.len()].map(|number| number.to_string());
            let (mesh, reach, state) = (mesh.to_string(), reach.name().to_owned(), node.state().to_owned());
            [name.clone(), mesh, place(clients), place(clients_tls), weight, slots, reach, state]
        });
        aligned(head, rows)
    }

    fn map_text(&self) -> String {
        let row = |name: &str, slots: &[SlotOwned]| [name.to_owned(), slots.len().to_string(), in_words(slots)];
        let owned = self.nodes.iter().map(|node| row(&node.name, &node.slots));
        let nobodys = self.nobodys();
        let nobody = (!nobodys.is_empty()).then(|| row("(nobody)", &nobodys));
        aligned(["node", "slots", "which"], owned.chain(nobody))
    }

    /// Slots that no node owns: for a moment, when a cluster begins.
    fn nobodys(&self) -> Vec<SlotOwned> {
        let is_owned = |slot| self.nodes.iter().any(|node| node.slots.iter().any(|owned| owned.slot == slot));
        Slot::all().filter(|slot| !is_owned(*slot)).map(|slot| SlotOwned { slot, is_pinned: false }).collect()
    }

    fn json(&self, part: Part) -> Value {
        let node = |node: &NodeKnown| {
            let NodeKnown { name, mesh, clients, clients_tls, weight, slots, reach, is_leaving, is_alive } = node;
            match part {
                Part::Nodes => json!({
                    "name": name, "mesh": mesh, "clients": clients, "clients_tls": clients_tls, "weight": weight,
                    "slots": slots.len(), "link": reach.name(), "is_leaving": is_leaving, "is_alive": is_alive,
                }),
                Part::Map => json!({ "name": name, "slots": slots.len(), "ranges": ranges_json(slots) }),
            }
        };
        let mut all = json!({
            "cluster": self.cluster,
            "map": self.version.is_none().then(|| format!("{:016x}", self.digest)),
            "version": self.version,
            "nodes": self.nodes.iter().map(node).collect::<Vec<_>>(),
        });
        if part == Part::Map {
            all["nobody"] = ranges_json(&self.nobodys());
        }
        all
    }
}

impl NodeKnown {
    const fn state(&self) -> &'static str {
        match (self.is_alive, self.is_leaving) {
            (None, false) => "-",
            (None, true) => "leaving",
            (Some(true), false) => "alive",
            (Some(true), true) => "alive, leaving",
            (Some(false), false) => "dead",
            (Some(false), true) => "dead, leaving",
        }
    }
}

fn ranges(slots: &[SlotOwned]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for &SlotOwned { slot: Slot(slot), is_pinned } in slots {
        match ranges.last_mut() {
            Some(range) if range.is_pinned == is_pinned && slot.checked_sub(1) == Some(range.last) => range.last = slot,
            _ => ranges.push(Range { first: slot, last: slot, is_pinned }),
        }
    }
    ranges
}

fn ranges_json(slots: &[SlotOwned]) -> Value {
    let range = |Range { first, last, is_pinned }| json!({ "first": first, "last": last, "is_pinned": is_pinned });
    ranges(slots).into_iter().map(range).collect()
}

fn in_words(slots: &[SlotOwned]) -> String {
    let words = ranges(slots).into_iter().map(|Range { first, last, is_pinned }| {
        let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
        if is_pinned { format!("{range} (pinned)") } else { range }
    });
    let words = words.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "-".to_owned() } else { words }
}

/// A table with columns as wide as what is in them.
fn aligned<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let line = |row: &[String; N]| {
        let cells: String = row.iter().enumerate().map(|(at, cell)| format!("{cell:<0$}", width(at) + 2)).collect();
        cells.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, port: u16, slots: impl Iterator<Item = u8>, reach: Reach) -> NodeKnown {
        NodeKnown {
            name: name.to_owned(),
            mesh: SocketAddr::from(([10, 0, 0, 1], port)),
            clients: Some("10.0.0.1:7600".to_owned()),
            clients_tls: None,
            weight: 1,
            slots: slots.map(|slot| SlotOwned { slot: Slot(slot), is_pinned: false }).collect(),
            reach,
            is_leaving: false,
            is_alive: None,
        }
    }

    /// Of two nodes and one that owns nothing.
    fn survey() -> Survey {
        let is_a = |slot: &u8| [0, 1, 2, 40, 77, 78, 255].contains(slot);
        let mut nodes = vec![
            node("a", 7650, (0..=255).filter(is_a), Reach::Here),
            node("long-name", 7651, (0..=255).filter(|slot| !is_a(slot)), Reach::Linked),
            node("c", 7652, std::iter::empty(), Reach::Away),
        ];
        nodes[1].clients_tls = Some("b.example.org:7443".to_owned());
        Survey { cluster: "chat".to_owned(), digest: 0xab, version: None, nodes }
    }

    #[test]
    fn nodes_are_told_one_a_line_with_how_they_are_reached() {
        let mut survey = survey();
        let expected = "\
cluster chat, nodes: 3, map: 00000000000000ab
node       nodes reach it  clients        clients with TLS    weight  slots  link    state
a          10.0.0.1:7650   10.0.0.1:7600  -                   1       7      here    -
long-name  10.0.0.1:7651   10.0.0.1:7600  b.example.org:7443  1       249    linked  -
c          10.0.0.1:7652   10.0.0.1:7600  -                   1       0      away    -
";
        assert_eq!(tell(Some(&survey), Part::Nodes, Form::Text), expected);
        survey.version = Some(17);
        (survey.nodes[0].is_leaving, survey.nodes[0].is_alive) = (true, Some(true));
        (survey.nodes[1].is_alive, survey.nodes[2].is_alive) = (Some(true), Some(false));
        let told = tell(Some(&survey), Part::Nodes, Form::Text);
        assert!(told.starts_with("cluster chat, nodes: 3, map: version 17\n"), "{told}");
        for end in ["here    alive, leaving\n", "linked  alive\n", "away    dead\n"] {
            assert!(told.contains(end), "{end}: {told}");
        }
    }

    #[test]
    fn a_map_is_told_as_ranges_and_what_is_nobodys_is_not_left_out() {
        let mut survey = survey();
        let expected = "\
cluster chat, nodes: 3, map: 00000000000000ab
node       slots  which
a          7      0-2, 40, 77-78, 255
long-name  249    3-39, 41-76, 79-254
c          0      -
";
        assert_eq!(tell(Some(&survey), Part::Map, Form::Text), expected);
        survey.nodes[0].slots[1].is_pinned = true;
        survey.nodes[1].slots.retain(|owned| owned.slot != Slot(60));
        let told = tell(Some(&survey), Part::Map, Form::Text);
        assert!(told.contains("0, 1 (pinned), 2, 40, 77-78, 255\n"), "{told}");
        assert!(told.ends_with("(nobody)   1      60\n"), "{told}");
    }

    #[test]
    fn programs_are_told_the_same() {
        let mut survey = survey();
        survey.nodes[0].slots[3].is_pinned = true;
        let told = |part| serde_json::from_str::<Value>(&tell(Some(&survey), part, Form::Json)).unwrap();
        let nodes = told(Part::Nodes);
        assert_eq!(nodes["nodes"].as_array().unwrap().len(), 3);
        assert_eq!(
            nodes["nodes"][1],
            json!({
                "name": "long-name", "mesh": "10.0.0.1:7651", "clients": "10.0.0.1:7600",
                "clients_tls": "b.example.org:7443", "weight": 1, "slots": 249, "link": "linked",
                "is_leaving": false, "is_alive": null,
            })
        );
        let map = told(Part::Map);
        assert_eq!((&map["cluster"], &map["map"]), (&json!("chat"), &json!("00000000000000ab")));
        assert_eq!(map["nodes"][0]["ranges"][1], json!({ "first": 40, "last": 40, "is_pinned": true }));
        assert_eq!((&map["nodes"][2]["ranges"], &map["nobody"]), (&json!([]), &json!([])));
        survey.version = Some(17);
        let map: Value = serde_json::from_str(&tell(Some(&survey), Part::Map, Form::Json)).unwrap();
        assert_eq!((&map["version"], &map["map"]), (&json!(17), &Value::Null));
    }

    #[test]
    fn a_server_without_others_says_so() {
        for part in [Part::Nodes, Part::Map] {
            assert!(tell(None, part, Form::Text).contains("alone"));
            let told: Value = serde_json::from_str(&tell(None, part, Form::Json)).unwrap();
            assert_eq!((&told["cluster"], &told["nodes"]), (&Value::Null, &json!([])));
        }
    }
}
