//! Devices of a user, as a server lists them (SPEC 2.2), and why one is removed (SPEC 5.8).

use crate::{
    ids::{DeviceId, Seq},
    limits::NAME_BYTES_MAX,
    listed::listed,
    wire::{DecodeError, Reader, put_bytes, put_sized, put_varint},
};

listed! {
    /// Why a device was removed (SPEC 5.8).
    Removal {
        /// A device of the user asked for it.
        User = 1 "user",
        /// It made room for a new device: it had not been seen for long.
        Room = 2 "room",
        /// The operator did it.
        Operator = 3 "operator",
    }
}

/// One device of a user, as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Which device.
    pub device: DeviceId,
    /// The day on which it was last connected, as days since 1970 by the server's clock; zero if that is not known.
    pub seen_day: u64,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// It has acknowledged everything up to here.
    pub cursor: Seq,
    /// What people call it; empty if it has no name. At most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
}

impl DeviceInfo {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.device.0);
        put_varint(out, self.seen_day);
        out.push(u8::from(self.is_connected));
        put_varint(out, self.cursor.0);
        put_bytes(out, self.name.as_bytes());
    }

    /// Reads a device that fills `bytes`. What follows the known fields is of a newer version and is passed over.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(Self {
            device: DeviceId(r.varint("device")?),
            seen_day: r.varint("seen_day")?,
            is_connected: r.listed("connected", |byte| [false, true].get(usize::from(byte)).copied())?,
            cursor: Seq(r.varint("cursor")?),
            name: r.str("name", NAME_BYTES_MAX)?.to_owned(),
        })
    }
}

pub(crate) fn put_devices(out: &mut Vec<u8>, devices: &[DeviceInfo]) {
    put_varint(out, devices.len() as u64);
    for device in devices {
        put_sized(out, |out| device.encode(out));
    }
}

pub(crate) fn devices(r: &mut Reader<'_>) -> Result<Vec<DeviceInfo>, DecodeError> {
    let count = count(r, ITEM_BYTES_MIN)?;
    let mut devices = Vec::with_capacity(count);
    for _ in 0..count {
        devices.push(DeviceInfo::decode(r.bytes("devices", usize::MAX)?)?);
    }
    Ok(devices)
}

pub(crate) fn put_ids(out: &mut Vec<u8>, ids: &[DeviceId]) {
    put_varint(out, ids.len() as u64);
    ids.iter().for_each(|id| put_varint(out, id.0));
}

pub(crate) fn ids(r: &mut Reader<'_>) -> Result<Vec<DeviceId>, DecodeError> {
    let count = count(r, 1)?;
    (0..count).map(|_| r.varint("devices").map(DeviceId)).collect()
}

/// A device in a list has at least its length, three varints, a byte and the length of its name.
const ITEM_BYTES_MIN: u64 = 6;

/// How many items follow. A count that lies is found before anything is allocated: the items must be there.
fn count(r: &mut Reader<'_>, item_bytes_min: u64) -> Result<usize, DecodeError> {
    let count = r.varint("devices")?;
    if count > r.rest().len() as u64 / item_bytes_min {
        return Err(DecodeError::Truncated { field: "devices" });
    }
    Ok(count as usize)
}
