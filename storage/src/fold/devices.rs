//! The rows of devices and of what they have sent.

use proto_spec::{DeviceId, GroupId, SendNumber, Seq, UserId};

use crate::{
    codec,
    run::{Run, Value},
    schema::{Key, RowKey, SendsBlock, SendsBlockNumber},
};

/// The sends of one block: number and seq.
pub(super) type Sends = [((DeviceId, SendNumber), Seq)];

/// The rows of a user's devices, each with that of its last sends behind it, if it has begun some or is gone, and that of its subscription;
/// and between these how the user stands to groups, behind the device with the same number.
pub(super) fn put_devices(
    run: &mut Run,
    user: UserId,
    devices: &[(DeviceId, Option<Seq>)],
    sends: &Sends,
    standings: &[(GroupId, Value)],
    subscriptions: &[(DeviceId, Option<Value>)],
) {
    let (mut devices, mut standings) = (devices.iter().copied().peekable(), standings.iter().copied().peekable());
    let mut subscriptions = subscriptions.iter().copied().peekable();
    let mut begun = begun(sends).peekable();
    loop {
        let device = [devices.peek().map(|(device, _)| device.0), begun.peek().map(|(device, _)| device.0)];
        let group = standings.peek().map(|(group, _)| group.0);
        let subscribed = subscriptions.peek().map(|(device, _)| device.0);
        let Some(number) = device.into_iter().chain([group, subscribed]).flatten().min() else { return };
        let device = DeviceId(number);
        let mut is_gone = false;
        if let Some((_, cursor)) = devices.next_if(|(of, _)| *of == device) {
            let key = RowKey::Device { user, device }.encode();
            is_gone = cursor.is_none();
            match cursor {
                Some(seq) => run.put(key, |out| codec::put_seq(out, seq)),
                None => run.push(key, Value::DELETED),
            }
        }
        let block = begun.next_if(|(of, _)| *of == device).map(|(_, block)| block);
        let key = RowKey::LastSends { user, device }.encode();
        match block {
            _ if is_gone => run.push(key, Value::DELETED),
            Some(block) => run.put(key, |out| codec::put_last_sends(out, block)),
            None => {}
        }
        if let Some((group, value)) = standings.next_if(|(group, _)| group.0 == number) {
            run.push(RowKey::Standing { user, group }.encode(), value);
        }
        if let Some((_, value)) = subscriptions.next_if(|(of, _)| *of == device) {
            run.push(RowKey::Subscription { user, device }.encode(), value.unwrap_or(Value::DELETED));
        }
    }
}

/// The last block that each device begins with these sends, of those that begin one.
fn begun(sends: &Sends) -> impl Iterator<Item = (DeviceId, SendsBlockNumber)> {
    let of_devices = sends.chunk_by(|((a, _), _), ((b, _), _)| a == b);
    of_devices.filter_map(|sends| sends.iter().rev().find(|((_, number), _)| is_first(*number)).map(block_of))
}

/// The sends of a user by block, with the key of each.
pub(super) fn blocks(user: UserId, sends: &Sends) -> impl Iterator<Item = (Key, &Sends)> {
    sends.chunk_by(|a, b| block_of(a) == block_of(b)).map(move |sends| {
        let (device, block) = block_of(&sends[0]);
        (RowKey::Sends { user, device, block }.encode(), sends)
    })
}

fn block_of(&((device, number), _): &((DeviceId, SendNumber), Seq)) -> (DeviceId, SendsBlockNumber) {
    (device, SendsBlock::place(number).0)
}

/// Whether the store may have sends of this block from an earlier run: numbers begin at one and have no gaps.
pub(super) fn needs_base(sends: &Sends) -> bool {
    !sends.iter().any(|&((_, number), _)| is_first(number))
}

/// Whether a block begins with this number.
fn is_first(number: SendNumber) -> bool {
    SendsBlock::place(number).1 == 0 || number == SendNumber(1)
}
