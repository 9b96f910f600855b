//! What leaves the node is looked at: every frame can be decoded, and says no more of durability than the node knows. Draws no
//! random numbers and changes nothing of the node.

use proto_spec::{
    Content, Decoder, Durability, ErrorCode, Event, RawFrame, Recipient, Seq, ServerFrame, UserId,
    limits::SERVER_FRAME_BYTES_MAX,
};
use server::shard::{Promise, topology::CoreId};

use super::{
    super::{Simulation, faults::Fault, network::LinkId},
    Machine,
};

impl Simulation {
    /// Everything that leaves the server passes here.
    pub(super) fn check_frames(&mut self, core: CoreId, link: LinkId, bytes: &[u8]) {
        let id = link;
        let Some(link) = self.links.get(link) else { return };
        let token_at = link.token_at;
        let (user, device) = self.apps[link.app].key;
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
                        ServerFrame::Refused { code: ErrorCode::RateLimited, .. } => {
                            self.reached("message put off for its conversation");
                        }
                        ServerFrame::Bye { .. } => {}
                        ServerFrame::GivenUp { number, seq: Seq::ZERO } => {
                            self.reached("number given up");
                            if !self.oracle.void.contains(&(user, device, number))
                                && !self.machine.is_void(user, device, number)
                            {
                                self.oracle
                                    .fail(|| format!("user {user} device {device}: {number} is void and not durable"));
                            }
                        }
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
                    self.check_presence(core, id, user, &frame);
                }
                Err(error) => self.oracle.fail(|| format!("user {user}: {error}")),
            }
        }
    }

    /// A deliberate fault in what leaves the node.
    pub(super) fn tamper(&mut self, core: CoreId, link: LinkId, mut bytes: Vec<u8>) -> Vec<u8> {
        let is_away = self.machine.alive.as_ref().is_some_and(|life| life.told_away.contains_key(&core));
        match self.fault {
            Some(Fault::WelcomeTakesBack) if is_away => {}
            Some(
                Fault::LoseEpoch | Fault::AcceptEveryRetry | Fault::KeepUnedited | Fault::SkipUntold | Fault::PushAgain,
            ) => {}
            _ => return bytes,
        }
        let Some((user, device)) = self.links.get(link).map(|link| self.apps[link.app].key) else { return bytes };
        let mut sent = None;
        let decoded = Decoder::new(SERVER_FRAME_BYTES_MAX as u32).decode(&bytes, |raw| {
            sent = ServerFrame::decode(raw).ok();
            std::ops::ControlFlow::Continue(())
        });
        decoded.expect("a shard's own frame can be read");
        if self.fault == Some(Fault::PushAgain) {
            return self.trick_push(link, sent.as_ref(), bytes);
        }
        if self.fault == Some(Fault::LoseEpoch) {
            return if matches!(sent, Some(ServerFrame::Epoch { .. })) { Vec::new() } else { bytes };
        }
        if self.fault == Some(Fault::SkipUntold)
            && let Some(mut frame) = sent.clone()
            && let ServerFrame::Welcome { skipped, .. } = &mut frame
        {
            *skipped = 0;
            bytes.clear();
            frame.encode(&mut bytes);
            return bytes;
        }
        if self.fault == Some(Fault::KeepUnedited) {
            return self.unedited(user, sent, bytes);
        }
        if self.fault == Some(Fault::AcceptEveryRetry)
            && let Some(ServerFrame::Refused { number, code: ErrorCode::NumberUsed, .. }) = sent
            && let Some(entry) = self.oracle.sent_as(user, device, number)
        {
            let (seq, time, durability, recipient) = (entry.seq, entry.time, Durability::Local, Recipient::Offline);
            bytes.clear();
            ServerFrame::Accepted { number, seq, time, durability, recipient }.encode(&mut bytes);
            return bytes;
        }
        if self.fault == Some(Fault::WelcomeTakesBack)
            && let Some(mut frame) = sent
            && let ServerFrame::Welcome { committed, .. } = &mut frame
        {
            *committed = self.machine.stored_up_to(user).min(*committed);
            bytes.clear();
            frame.encode(&mut bytes);
        }
        bytes
    }

    /// A list of conversations that says of each last message what a device was told of it first.
    fn unedited(&mut self, user: UserId, sent: Option<ServerFrame>, bytes: Vec<u8>) -> Vec<u8> {
        match sent {
            Some(ServerFrame::Deliver { entry }) => {
                if let Some(place) = entry.place() {
                    self.first_told.entry((user, place)).or_insert(entry);
                }
            }
            Some(ServerFrame::Inbox(mut inbox)) => {
                for last in inbox.rows.iter_mut().map(|row| &mut row.last) {
                    let first = last.place().and_then(|place| self.first_told.get(&(user, place)));
                    if let Some(first) = first.filter(|first| first.seq != last.seq) {
                        last.clone_from(first);
                        // The kernel takes no more than was queued.
                        if let Event::Received { content, .. } | Event::Sent { content, .. } = &mut last.event {
                            *content = Content::text("");
                        }
                    }
                }
                let mut stale = Vec::new();
                ServerFrame::Inbox(inbox).encode(&mut stale);
                return stale;
            }
            _ => {}
        }
        bytes
    }

    /// What a frame says of durability is no more than the node knows (contract 1).
    fn check_level(&mut self, core: CoreId, user: UserId, frame: &ServerFrame) {
        let Some(life) = &self.machine.alive else { return };
        let before = match (self.machine.promise, life.told_away.get(&core)) {
            (Promise::Disk, None) => None,
            (Promise::Disk, Some(heads)) => Some(heads.get(&user).copied().unwrap_or_default()),
            // Of a database the journal's sync says nothing.
            (Promise::Journal | Promise::Store, _) => Some(Seq::ZERO),
        };
        let is_away = before.is_some();
        self.oracle.level(user, frame, is_away, || self.machine.stored_up_to(user));
        let is_unfounded =
            |machine: &Machine, seq: Seq| before.is_some_and(|before| seq > before) && seq > machine.stored_up_to(user);
        match frame {
            ServerFrame::Accepted { seq, durability: Durability::Committed, .. }
                if is_unfounded(&self.machine, *seq) =>
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
            ServerFrame::Committed { up_to } if is_unfounded(&self.machine, *up_to) => {
                self.oracle.fail(|| format!("user {user}: {up_to} is committed and not in the store"));
            }
            ServerFrame::Committed { .. } => self.reached("told later that a message is committed"),
            ServerFrame::Welcome { committed, head, .. } if committed < head => {
                self.reached("welcome while messages are not committed");
                if is_unfounded(&self.machine, *committed) {
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
