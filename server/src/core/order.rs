//! Orders: what a core asks of its rim about connections and the node, beside what its shard asks for. Carried out at once, in order.

use std::net::SocketAddr;

use proto_spec::UserId;

use super::{greetings::Guest, links::LinkId, origins::Origin};
use crate::{
    operator::audit,
    shard::{
        ConnId, DevicesTold, PushTold, Ticket,
        topology::{CoreId, NodeId},
    },
};

/// One thing to do.
#[derive(Debug)]
pub enum Order {
    /// Receive what a connection says first.
    Greet(ConnId),
    /// A balancer has told where the connection comes from: it is counted off there when its place is free again.
    Locate(ConnId, Origin),
    /// The connection is the shard's: from now on its bytes are.
    Serve(ConnId, UserId),
    /// Nothing more is read of the connection; its descriptor goes to another core. Answered with [`super::Core::moved`].
    Move {
        /// Which connection.
        conn: ConnId,
        /// Where to.
        home: CoreId,
        /// This core's number of the move, for [`super::Core::arrived`] there.
        ticket: u32,
    },
    /// A connection from another core is whole. Answered with [`super::Core::welcome`].
    Open {
        /// Its place in the table of this core.
        slot: u32,
        /// Who it is.
        guest: Box<Guest>,
    },
    /// The connection gets these bytes and is closed.
    Dismiss(ConnId, Vec<u8>),
    /// The connection is cut: nothing more is sent.
    Cut(ConnId),
    /// All connections that are not at their end are cut.
    CutAll,
    /// Connect to another node. Answered with [`super::Core::link_began`] or [`super::Core::dial_failed`].
    Dial(NodeId, SocketAddr),
    /// A connection to another node gets these bytes and is closed.
    CutLink(LinkId, Vec<u8>),
    /// Connect to this node and give it the opening of a tunnel, then carry what the client says and is told. Nothing more is read of
    /// the client before the node has answered. Answered with [`super::Core::tunnel_opened`] or [`super::Core::tunnel_failed`], and with
    /// [`super::Core::tunnel_ended`] when either side has ended it.
    Tunnel {
        /// Whose client.
        conn: ConnId,
        /// Where nodes reach that one.
        address: SocketAddr,
        /// Its name, which its certificate has, too.
        name: String,
        /// The bytes to begin with.
        opening: Vec<u8>,
    },
    /// A tunnel and the connection of its client end, which gets these bytes: a bye, if it has been told nothing yet, and nothing if what it
    /// was told last may not be whole.
    EndTunnel(ConnId, Vec<u8>),
    /// Look whether the store is still this server's.
    CheckFence,
    /// The store is another server's: the node stops, and says why.
    Lose(String),
    /// The answer to a question of the operator.
    Tell(Ticket, DevicesTold),
    /// The answer to a question of the operator about notifications.
    TellPush(Ticket, PushTold),
    /// For the audit log.
    Report(audit::Event),
}
