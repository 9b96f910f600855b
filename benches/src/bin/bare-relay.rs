//! `bare-relay ADDRESS:PORT [CONNECTIONS]`: the floor that the server is reported against (see `benches::relay`), on one thread.

use std::{env, net::SocketAddr};

use anyhow::Context as _;
use benches::relay;
use rim::rlimit::raise_descriptor_limit;
use server::io::listeners::listen;

/// Places in the ring's table when nobody asks for a number, if the process may have as many: a server's default.
const CONNECTIONS: u64 = 20_000;

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: bare-relay ADDRESS:PORT [CONNECTIONS]";
    let address: SocketAddr = arguments.next().context(usage)?.parse().context(usage)?;
    let limit = raise_descriptor_limit();
    let connections = match arguments.next() {
        Some(number) => number.parse().context(usage)?,
        None => CONNECTIONS.min(limit) as u32,
    };
    let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
    eprintln!("relaying on {}, {connections} connections at most", listener.local_addr()?);
    match relay::run(&listener, connections)? {}
}
