//! Presence between nodes: to the core that has the link there, and from the link to the cores that are meant.
//!
//! A node speaks for its own users alone: who of them looks, how many do, who is there and who types. The rest is not taken.

use std::collections::BTreeMap;

use super::Core;
use crate::{
    mesh::presence::PresenceSaid,
    shard::{
        PresenceMail,
        presence::{Ask, CoreAddress, PresenceNews, To},
        topology::{CoreId, Home, NodeId},
    },
};

impl Core {
    /// This node.
    pub(super) fn own_node(&self) -> NodeId {
        self.homes.cluster.as_ref().map(|cluster| cluster.own).unwrap_or_default()
    }

    /// The core of this node that what is said goes to: for another node the one that has the link there, if there is one.
    pub(super) fn place_of(&self, to: To) -> Option<CoreId> {
        match to {
            To::Core(core) => Some(core),
            To::Homes(node) | To::Viewer(CoreAddress { node, .. }) => self.common.mesh.as_ref()?.host(node),
        }
    }

    /// What is said of presence goes to another node. False: the link is not here, or has no room, and it is dropped.
    pub(super) fn presence_to_link(&mut self, mail: &PresenceMail) -> bool {
        let open = mail.to.node().and_then(|node| self.links.open.get(&node));
        let link = open.and_then(|(id, _)| self.links.links.get_mut(id));
        link.is_some_and(|link| link.post_presence(mail))
    }

    /// Another node says something of presence. Each thing goes to the core that it is about, or to the one that has asked.
    pub(super) fn presence_from(&mut self, node: NodeId, said: PresenceSaid) {
        let PresenceSaid { from, to, news } = said;
        let viewer = to.filter(|core| core.0 < self.common.topology.cores());
        let mut sorted = BTreeMap::new();
        let astray = self.sort_presence(node, viewer, news, &mut sorted);
        self.counters().mesh_astray.add(astray);
        for (core, news) in sorted {
            let mail = PresenceMail { from: CoreAddress { node, core: from }, to: To::Core(core), news };
            self.effects.presence.push(Box::new(mail));
        }
    }

    /// By core. How much was not for here, or not that node's to say.
    fn sort_presence(
        &self,
        node: NodeId,
        viewer: Option<CoreId>,
        news: PresenceNews,
        sorted: &mut BTreeMap<CoreId, PresenceNews>,
    ) -> u64 {
        let PresenceNews { asks, mut answers, mut changes, counts, typing } = news;
        let is_theirs = |user| self.homes.elsewhere(user) == Some(node);
        let mut astray = 0;
        for Ask { look, looks, users } in asks {
            let mut of_core: BTreeMap<CoreId, Vec<_>> = BTreeMap::new();
            for asked in users {
                match self.homes.of(asked.user) {
                    Home::Here(core) if is_theirs(looks) => of_core.entry(core).or_default().push(asked),
                    Home::Here(_) | Home::Elsewhere(_) => astray += 1,
                }
            }
            for (core, users) in of_core {
                sorted.entry(core).or_default().asks.push(Ask { look, looks, users });
            }
        }
        for (user, count) in counts {
            match self.homes.of(user) {
                Home::Here(core) => sorted.entry(core).or_default().counts.push((user, count)),
                Home::Elsewhere(_) => astray += 1,
            }
        }
        for typing in typing {
            match self.homes.of(typing.to) {
                Home::Here(core) if is_theirs(typing.from) => sorted.entry(core).or_default().typing.push(typing),
                Home::Here(_) | Home::Elsewhere(_) => astray += 1,
            }
        }
        for told in answers.iter_mut().filter_map(|answer| answer.told.as_mut()) {
            let before = told.len();
            told.retain(|told| is_theirs(told.user));
            astray += before - told.len();
        }
        let before = changes.len();
        changes.retain(|change| is_theirs(change.user));
        astray += before - changes.len();
        match viewer {
            Some(core) if !(answers.is_empty() && changes.is_empty()) => {
                let news = sorted.entry(core).or_default();
                (news.answers, news.changes) = (answers, changes);
            }
            Some(_) => {}
            None => astray += answers.len() + changes.len(),
        }
        astray as u64
    }
}
