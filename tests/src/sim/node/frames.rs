//! What leaves the node is looked at: every frame can be decoded, and says no more of durability than the node knows. Draws no
//! random numbers and changes nothing of the node.

use proto_spec::{Decoder, Durability, ErrorCode, RawFrame, Seq, ServerFrame, UserId, limits::SERVER_FRAME_BYTES_MAX};
use server::shard::Promise;

use super::{
    super::{Simulation, network::LinkId},
    Machine,
};

impl Simulation {
    /// Everything that leaves the server passes here.
    pub(super) fn check_frames(&mut self, core: usize, link: LinkId, bytes: &[u8]) {
        let Some(link) = self.links.get(link) else { return };
        let token_at = link.token_at;
        let user = self.apps[link.app].key.0;
        let revoked_at = self.machine.alive.as_ref().and_then(|life| life.revoked.get(&user).copied());
        let is_revoked = revoked_at.is_some_and(|at| at > token_at);
        let mut frames = Vec::new();
        let result = Decoder::new(SERVER_FRAME_BYTES_MAX as u32).decode(bytes, |raw: RawFrame<'_>| {
            frames.push(ServerFrame::decode(raw));
            std::ops::ControlFlow::Continue(())
        });
        if result.is_err() {
            self.oracle.fail(|| format!("user {user}: the server sent what is not a frame"));
        }
        for frame in frames {
            match frame {
                Ok(frame) => {
                    if matches!(frame, ServerFrame::Refused { .. }) {
                        self.reached("send refused");
                    }
                    match frame {
                        ServerFrame::Bye { code: ErrorCode::Replaced, .. } => self.reached("device replaced by itself"),
                        ServerFrame::Bye { code: ErrorCode::Revoked, .. } => {
                            self.reached("token revoked under a live connection");
                        }
                        ServerFrame::Bye { code: ErrorCode::IdleTimeout, .. } => {
                            self.reached("connection closed for silence");
                        }
                        ServerFrame::Bye { .. } => {}
                        ref frame if is_revoked => self
                            .oracle
                            .fail(|| format!("user {user}: the tokens are revoked, and a connection gets {frame:?}")),
                        ServerFrame::Welcome { .. } => {
                            let welcomed = self.welcomed.entry(user).or_default();
                            *welcomed += 1;
                            if self.audited.get(&user).copied().unwrap_or_default() < *welcomed {
                                self.oracle.fail(|| format!("user {user}: let in without a line in the audit log"));
                            }
                        }
                        _ => {}
                    }
                    self.check_level(core, user, &frame);
                    self.oracle.leaves(user, &frame);
                }
                Err(error) => self.oracle.fail(|| format!("user {user}: {error}")),
            }
        }
    }

    /// What a frame says of durability is no more than the node knows (contract 1).
    fn check_level(&mut self, core: usize, user: UserId, frame: &ServerFrame) {
        let Some(life) = &self.machine.alive else { return };
        // Of a database the journal's sync says nothing.
        let is_away = life.told_away[core] || self.machine.promise != Promise::Disk;
        let stored = |machine: &Machine| machine.stored_log(user).last().map_or(Seq::ZERO, |entry| entry.seq);
        match frame {
            ServerFrame::Accepted { seq, durability: Durability::Committed, .. }
                if is_away && *seq > stored(&self.machine) =>
            {
                self.oracle.fail(|| format!("user {user}: {seq} is committed, says a core that knows of an outage"));
            }
            ServerFrame::Accepted { durability: Durability::Local, .. } => self.reached(match self.machine.promise {
                Promise::Disk => "accepted while the store is away",
                Promise::Journal => "accepted by the journal",
                Promise::Store => "accepted by the journal while the database is away",
            }),
            ServerFrame::Accepted { durability: Durability::Committed, .. }
                if self.machine.promise == Promise::Store =>
            {
                self.reached("accepted by the database");
            }
            ServerFrame::Committed { up_to } if *up_to > stored(&self.machine) => {
                self.oracle.fail(|| format!("user {user}: {up_to} is committed and not in the store"));
            }
            ServerFrame::Committed { .. } => self.reached("told later that a message is committed"),
            ServerFrame::Welcome { committed, head, .. } if committed < head => {
                self.reached("welcome while messages are not committed");
                if *committed > stored(&self.machine) {
                    self.oracle.fail(|| format!("user {user}: a welcome takes {committed} for committed"));
                }
            }
            ServerFrame::Refused { code: ErrorCode::StorageFailed, .. } if is_away => {
                self.reached("refused because the store is away");
            }
            _ => {}
        }
    }
}
