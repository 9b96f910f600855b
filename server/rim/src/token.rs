//! Token: what an operation of the ring carries, so that its completion says what it was and whose.

/// The kinds of operations. The number is part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// One accept on a listening socket; the slot is its place.
    Accept = 1,
    /// One receive, during the handshake.
    Hello = 2,
    /// Multishot receive.
    Receive = 3,
    /// Send.
    Send = 4,
    /// Close of a direct descriptor.
    Close = 5,
    /// Cancel of something; its own outcome says nothing.
    Cancel = 6,
    /// Shutdown of the sending half; a failure shows at the next receive. Its slot must not be closed before.
    Shutdown = 7,
    /// A descriptor that this ring sends to another ring.
    Move = 8,
    /// A descriptor that another ring sent to this one. Not an operation of this ring.
    Arrival = 9,
    /// A connection that this side opens. The server never does; the load generator does nothing else.
    Connect = 10,
    /// A descriptor of the process that is put into the table; the slot is its place among those that are.
    Adopt = 11,
}

impl Op {
    const ALL: [Self; 11] = [
        Self::Accept,
        Self::Hello,
        Self::Receive,
        Self::Send,
        Self::Close,
        Self::Cancel,
        Self::Shutdown,
        Self::Move,
        Self::Arrival,
        Self::Connect,
        Self::Adopt,
    ];
}

/// An operation, the slot it is about, and which life of that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What was asked for.
    pub op: Op,
    /// A direct descriptor, at most [`Token::SLOT_MAX`]; of an accept or an adoption, its place; in an arrival, the core that it comes from.
    pub slot: u32,
    /// Which life of that slot; in an arrival, the ticket.
    pub generation: u32,
}

impl Token {
    /// Slots have 28 bits beside the 4 of the kind.
    pub const SLOT_MAX: u32 = (1 << 28) - 1;

    /// A token about a slot.
    #[must_use]
    pub const fn new(op: Op, slot: u32, generation: u32) -> Self {
        assert!(slot <= Self::SLOT_MAX, "the descriptor table has at most 2^28 slots");
        Self { op, slot, generation }
    }

    /// A token about nothing in particular.
    #[must_use]
    pub const fn of(op: Op) -> Self {
        Self { op, slot: 0, generation: 0 }
    }

    /// As the ring carries it.
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.op as u64) << 60 | (self.slot as u64) << 32 | self.generation as u64
    }

    /// From a completion; `None` if this code never packed it.
    #[must_use]
    pub fn unpack(data: u64) -> Option<Self> {
        let number = (data >> 60) as usize;
        let op = *Op::ALL.get(number.checked_sub(1)?)?;
        Some(Self { op, slot: (data >> 32) as u32 & Self::SLOT_MAX, generation: data as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_comes_back_as_it_was() {
        for op in Op::ALL {
            for slot in [0, 1, 70_000, Token::SLOT_MAX] {
                for generation in [0, 1, u32::MAX] {
                    let token = Token::new(op, slot, generation);
                    assert_eq!(Token::unpack(token.pack()), Some(token));
                }
            }
        }
        assert_eq!(Token::unpack(0), None);
        assert_eq!(Token::unpack(u64::MAX), None);
    }
}
