//! Moves: what the operator wants of who owns what, as a request over admin.sock, in words, and in the audit log. PURE.

use std::time::Duration;

use proto_spec::TimestampMs;
use serde_json::Value;

use super::{
    audit::{Event, What},
    survey::Survey,
};
use crate::cluster::{map::Slot, steward::Wish};

/// A node that gives away what it owns: `POST`, and `DELETE` for one that takes its share again; `?node=b`.
pub const DRAIN: &str = "/drain";
/// A slot that goes to a node and stays there: `POST` with `?slot=7&node=b`; `DELETE` with `?slot=7` for one that stays nowhere in particular.
pub const MOVE: &str = "/move";

/// How often `ringpost drain --wait` looks how much is left.
pub const DRAIN_LOOK: Duration = Duration::from_millis(200);
/// How often it looks before the node that it asks has to know of the drain: the roll is read again at once, from a database that may be slow.
pub const DRAIN_LOOKS_UNTOLD_MAX: u32 = 50;

/// What a node has left that is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Slots that it owns.
    pub slots: u64,
    /// Whether it still gives them away.
    pub is_leaving: bool,
}

/// The method and the path of a request.
#[must_use]
pub fn request(wish: &Wish) -> String {
    match wish {
        Wish::Leave(node, true) => format!("POST {DRAIN}?node={node}"),
        Wish::Leave(node, false) => format!("DELETE {DRAIN}?node={node}"),
        Wish::Pin(Slot(slot), Some(node)) => format!("POST {MOVE}?slot={slot}&node={node}"),
        Wish::Pin(Slot(slot), None) => format!("DELETE {MOVE}?slot={slot}"),
    }
}

/// What a request with one of the paths wants.
///
/// # Errors
/// It is none, in words.
pub fn parse(method: &str, path: &str, query: &str) -> Result<Wish, &'static str> {
    const DRAINS: &str = "which node? POST /drain?node=b, DELETE /drain?node=b\n";
    const MOVES: &str = "which slot, and where? POST /move?slot=7&node=b, DELETE /move?slot=7\n";
    let node = |part: &str| part.strip_prefix("node=").filter(|name| !name.is_empty()).map(str::to_owned);
    let slot = |part: &str| part.strip_prefix("slot=").and_then(parse_slot);
    match (method, path, query.split_once('&')) {
        ("POST" | "DELETE", DRAIN, None) => Ok(Wish::Leave(node(query).ok_or(DRAINS)?, method == "POST")),
        ("POST", MOVE, Some((at, to))) => Ok(Wish::Pin(slot(at).ok_or(MOVES)?, Some(node(to).ok_or(MOVES)?))),
        ("DELETE", MOVE, None) => Ok(Wish::Pin(slot(query).ok_or(MOVES)?, None)),
        (_, DRAIN, _) => Err(DRAINS),
        _ => Err(MOVES),
    }
}

/// A slot as people write it.
#[must_use]
pub fn parse_slot(text: &str) -> Option<Slot> {
    let slot = text.parse().ok()?;
    (u8::to_string(&slot) == text).then_some(Slot(slot))
}

/// Why a wish comes to nothing where slots do not move, in words.
#[must_use]
pub const fn nothing_moves(survey: Option<&Survey>) -> &'static str {
    match survey {
        None => "this server is alone: there is no other node that could own anything",
        Some(_) => {
            "nothing moves in this cluster, whose map is a file (cluster.file): it does where the nodes share a database (cluster.name)"
        }
    }
}

/// Why a wish would come to nothing, or be undone at once, as far as a node knows; that there is no such node it says itself.
#[must_use]
pub fn objection(wish: &Wish, survey: Option<&Survey>) -> Option<String> {
    let nodes = survey.map(|survey| &*survey.nodes).unwrap_or_default();
    let is_alive = |name: &str| nodes.iter().any(|node| node.name == name && node.is_alive != Some(false));
    let is_leaving = |name: &str| nodes.iter().any(|node| node.name == name && node.is_leaving);
    let stays = |name: &&str| is_alive(name) && !is_leaving(name);
    let others = |but: &str| {
        let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).filter(|name| *name != but).collect();
        names.into_iter().filter(stays).collect::<Vec<_>>().join(", ")
    };
    match wish {
        Wish::Leave(name, true) if nodes.iter().any(|node| node.name == *name) && others(name).is_empty() => {
            Some(format!("nobody could take what node {name} owns: no other node is alive and stays"))
        }
        Wish::Pin(_, Some(name)) if is_leaving(name) => Some(format!(
            "node {name} gives away what it owns: give it its share again with `ringpost drain {name} --undo`, or name another; there are {}",
            others(name)
        )),
        Wish::Pin(_, Some(name)) if nodes.iter().any(|node| node.name == *name) && !is_alive(name) => {
            Some(format!("node {name} is dead, and a slot stays where a node is alive; there are {}", others(name)))
        }
        Wish::Leave(..) | Wish::Pin(..) => None,
    }
}

/// What has been done, for whoever wanted it.
#[must_use]
pub fn describe(wish: &Wish) -> String {
    match wish {
        Wish::Leave(node, true) => format!(
            "node {node} gives away what it owns and takes nothing, until `ringpost drain {node} --undo` or until it is started again"
        ),
        Wish::Leave(node, false) => format!("node {node} takes its share again"),
        Wish::Pin(Slot(slot), Some(node)) => {
            format!(
                "slot {slot} is node {node}'s, and stays there while that is alive, or until `ringpost move {slot} --unpin`"
            )
        }
        Wish::Pin(Slot(slot), None) => format!("slot {slot} goes where the map has it"),
    }
}

/// What the audit log is told.
#[must_use]
pub fn event(wish: &Wish, uid: u32, now: TimestampMs) -> Event {
    let (what, node, slot) = match wish.clone() {
        Wish::Leave(node, true) => (What::Drained, Some(node), None),
        Wish::Leave(node, false) => (What::DrainUndone, Some(node), None),
        Wish::Pin(Slot(slot), node @ Some(_)) => (What::SlotMoved, node, Some(slot)),
        Wish::Pin(Slot(slot), None) => (What::SlotUnpinned, None, Some(slot)),
    };
    Event { node, slot, uid: Some(uid), ..Event::new(now, what) }
}

/// What a node has left, by what a server tells programs of its cluster (`ringpost nodes --json`).
///
/// # Errors
/// It owns some, and nobody is there who could take them; or there is no such node. In words.
pub fn left(told: &str, name: &str) -> Result<Left, String> {
    let told: Value = serde_json::from_str(told).map_err(|error| format!("the server's answer: {error}"))?;
    let nodes = told["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let own =
        nodes.iter().find(|node| node["name"] == name).ok_or_else(|| format!("there is no node {name} any more"))?;
    let slots = own["slots"].as_u64().unwrap_or_default();
    let stays = |node: &&Value| node["is_alive"] != false && node["is_leaving"] != true && node["name"] != name;
    if slots > 0 && !nodes.iter().any(|node| stays(&node)) {
        return Err(format!(
            "node {name} still owns {slots} slots, and nobody could take them: no other node is alive and stays"
        ));
    }
    Ok(Left { slots, is_leaving: own["is_leaving"] == true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::survey::{Form, NodeKnown, Part, Reach, SlotOwned, tell};

    fn wishes() -> [Wish; 4] {
        let b = || "b".to_owned();
        [Wish::Leave(b(), true), Wish::Leave(b(), false), Wish::Pin(Slot(7), Some(b())), Wish::Pin(Slot(255), None)]
    }

    fn survey(nodes: &[(&str, bool, bool)]) -> Survey {
        let known = |(name, is_alive, is_leaving): &(&str, bool, bool)| NodeKnown {
            name: (*name).to_owned(),
            mesh: "10.0.0.1:7650".parse().unwrap(),
            clients: None,
            clients_tls: None,
            weight: 1,
            slots: vec![SlotOwned { slot: Slot(1), is_pinned: false }],
            reach: Reach::Linked,
            is_leaving: *is_leaving,
            is_alive: Some(*is_alive),
        };
        Survey { cluster: "chat".to_owned(), digest: 1, version: Some(1), nodes: nodes.iter().map(known).collect() }
    }

    #[test]
    fn a_wish_comes_over_the_socket_as_it_was() {
        for wish in wishes() {
            let request = request(&wish);
            let (method, target) = request.split_once(' ').unwrap();
            let (path, query) = target.split_once('?').unwrap();
            assert_eq!(parse(method, path, query), Ok(wish), "{request}");
        }
        for (method, path, query) in [
            ("GET", DRAIN, "node=b"),
            ("POST", DRAIN, ""),
            ("POST", DRAIN, "node="),
            ("POST", DRAIN, "slot=7"),
            ("POST", MOVE, "slot=7"),
            ("POST", MOVE, "node=b&slot=7"),
            ("POST", MOVE, "slot=256&node=b"),
            ("POST", MOVE, "slot=07&node=b"),
            ("POST", MOVE, "slot=+7&node=b"),
            ("DELETE", MOVE, "slot=7&node=b"),
            ("GET", MOVE, "slot=7"),
        ] {
            let said = parse(method, path, query).unwrap_err();
            assert!(said.contains(path), "{method} {path}?{query}: {said}");
        }
    }

    #[test]
    fn what_would_come_to_nothing_is_refused_with_the_nodes_that_there_are() {
        let b = "b".to_owned();
        let objects = |wish: &Wish, nodes: &[(&str, bool, bool)]| objection(wish, Some(&survey(nodes)));
        let all = [("a", true, false), ("b", true, false), ("c", true, false)];
        for wish in wishes() {
            assert_eq!(objects(&wish, &all), None, "{wish:?}");
        }
        let leaving = [("a", true, false), ("b", true, true), ("c", true, false)];
        let said = objects(&Wish::Pin(Slot(7), Some(b.clone())), &leaving).unwrap();
        assert!(said.contains("`ringpost drain b --undo`") && said.ends_with("there are a, c"), "{said}");
        let dead = [("a", true, false), ("b", false, false), ("c", true, false)];
        let said = objects(&Wish::Pin(Slot(7), Some(b.clone())), &dead).unwrap();
        assert!(said.contains("b is dead") && said.ends_with("there are a, c"), "{said}");
        for others in [[("a", false, false), ("c", true, true)], [("a", true, true), ("c", false, true)]] {
            let said = objects(&Wish::Leave(b.clone(), true), &[&others[..], &[("b", true, false)]].concat());
            assert!(said.unwrap().contains("nobody could take"), "{others:?}");
        }
        // That there is no such node is known where the roll is.
        assert_eq!(objects(&Wish::Leave("d".to_owned(), true), &all), None);
        assert_eq!(objects(&Wish::Pin(Slot(7), Some("d".to_owned())), &all), None);
    }

    #[test]
    fn where_nothing_moves_it_is_said_why() {
        assert!(nothing_moves(None).contains("alone"));
        assert!(nothing_moves(Some(&survey(&[]))).contains("cluster.file"));
    }

    #[test]
    fn how_much_a_node_has_left_is_read_from_what_programs_are_told() {
        let told = |nodes: &[(&str, bool, bool)], owns: bool| {
            let mut survey = survey(nodes);
            if !owns {
                survey.nodes[0].slots.clear();
            }
            left(&tell(Some(&survey), Part::Nodes, Form::Json), "a")
        };
        let left = |slots, is_leaving| Ok(Left { slots, is_leaving });
        assert_eq!(told(&[("a", true, true), ("b", true, false)], true), left(1, true));
        assert_eq!(told(&[("a", true, false), ("b", true, false)], true), left(1, false));
        assert_eq!(told(&[("a", true, true), ("b", true, false)], false), left(0, true));
        assert_eq!(told(&[("a", false, true), ("b", false, false)], false), left(0, true));
        for (nodes, words) in [
            (&[("a", true, true), ("b", false, false)][..], "nobody could take"),
            (&[("a", true, true), ("b", true, true)], "nobody could take"),
            (&[("c", true, true), ("b", true, false)], "no node a"),
        ] {
            let said = told(nodes, true).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn the_audit_log_is_told_who_wanted_what() {
        let lines = wishes().map(|wish| serde_json::to_value(event(&wish, 1000, TimestampMs(0))).unwrap());
        let told = lines.each_ref().map(|line| (line["event"].as_str(), line["node"].as_str(), line["slot"].as_u64()));
        assert_eq!(
            told,
            [
                (Some("drained"), Some("b"), None),
                (Some("drain_undone"), Some("b"), None),
                (Some("slot_moved"), Some("b"), Some(7)),
                (Some("slot_unpinned"), None, Some(255)),
            ]
        );
        assert!(lines.iter().all(|line| line["uid"] == 1000));
    }
}
