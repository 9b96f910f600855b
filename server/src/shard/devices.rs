//! Devices: which of them a user has, what they are called and when they were last seen, and how one goes for ever.
//!
//! A removal is one step: the entry that tells of it, the end of the device's rows, and the row that remembers its id are records of
//! one batch. When that is released the device's connection is closed and whoever asked is answered; so nobody is told of a removal
//! that a crash takes back. In between the device is *leaving*: nothing that it still says is taken.
//!
//! Invariants: an id that was removed is never a device again, since its numbers have been used; what was acknowledged stays
//! acknowledged ([`User::acknowledged`]); what a device was called and when it was seen is written as a whole, once a day and device
//! unless somebody changes it.

use proto_spec::{
    ClientKind, DeviceId, DeviceInfo, ErrorCode, Event, Removal, RequestId, Seq, ServerFrame, TimestampMs, UserId,
};
use storage::{BatchId, DeviceNote, DeviceNotes, Query, Record};

use super::{
    ConnId, Connected, Shard, Turn,
    input::{DevicesWish, Ticket},
    ledger::Parked,
    loading::UserWaiting,
    question::Question,
    sequencer::some,
    shedding::{Class, Reason},
    user::{Device, User},
};
use crate::limits::{DEVICES_MAX, RETRY_BUSY_MS, RETRY_STORAGE_MS};

/// What is left of the devices that a user has removed.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// The entry that tells of the last of them; zero: none was ever removed.
    pub(super) told_at: Seq,
    /// Those of whom the store may not know yet, with the batch that removed them.
    lately: Vec<(DeviceId, BatchId)>,
}

impl Gone {
    /// As the store has it.
    pub(super) const fn of_notes(notes: &DeviceNotes) -> Self {
        Self { told_at: notes.told_at, lately: Vec::new() }
    }

    fn has_lately(&self, id: DeviceId) -> bool {
        self.lately.iter().any(|(device, _)| *device == id)
    }

    /// The store knows of those that were removed by `ingested`.
    pub(super) fn trim(&mut self, ingested: BatchId) {
        self.lately.retain(|(_, batch)| *batch > ingested);
    }
}

/// What a device's rows and connection wait for after its removal, or who is to be answered then.
#[derive(Clone, Copy, Debug)]
pub(super) enum DevicesParked {
    /// The removal is durable: the device goes.
    Removed(UserId, DeviceId),
    /// A client has asked for the list, or has changed something that is durable now.
    List(ConnId, RequestId),
    /// The operator has removed one of this user's.
    Operator(Ticket, UserId),
    /// A device asks how it is subscribed to notifications, or has changed that.
    Subscription(ConnId, RequestId),
}

/// The day of a moment, as days since 1970.
const fn day_of(moment: TimestampMs) -> u64 {
    const DAY_MS: u64 = 24 * 3_600_000;
    moment.0 / DAY_MS
}

impl Device {
    /// The device is connected at this moment, or was until now. Whether that is another day than is known.
    fn see(&mut self, now: TimestampMs) -> bool {
        // Not only a later one: the clock may have been wrong, and a day to come would count for longer than any other.
        std::mem::replace(&mut self.seen_day, day_of(now)) != day_of(now)
    }

    fn info(&self) -> DeviceInfo {
        DeviceInfo {
            device: self.id,
            seen_day: self.seen_day,
            is_connected: self.session.is_some(),
            cursor: self.cursor,
            name: self.name.to_string(),
        }
    }
}

impl User {
    /// Whether a removal of this device is under way that a crash may take back.
    fn is_leaving(&self, id: DeviceId) -> bool {
        self.devices.iter().any(|device| device.id == id && device.is_leaving)
    }

    /// The devices of this user. One that is leaving is none of them any more.
    fn own_devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|device| !device.is_leaving)
    }

    /// As a list shows them: by ascending id.
    fn device_infos(&self) -> Vec<DeviceInfo> {
        let mut infos: Vec<_> = self.own_devices().map(Device::info).collect();
        infos.sort_unstable_by_key(|info| info.device);
        infos
    }

    fn device_notes(&self) -> DeviceNotes {
        let note =
            |device: &Device| DeviceNote { device: device.id, seen_day: device.seen_day, name: device.name.clone() };
        let mut devices: Vec<_> = self.own_devices().map(note).collect();
        devices.sort_unstable_by_key(|note| note.device);
        DeviceNotes { devices, told_at: self.gone.told_at, acknowledged: self.acknowledged }
    }

    /// The device that has not been seen for longest, and for how many days. None that is connected.
    fn longest_unseen(&self, now: TimestampMs) -> Option<(DeviceId, u64)> {
        let away = self.own_devices().filter(|device| device.session.is_none() && device.in_flight == 0);
        let longest = away.min_by_key(|device| (device.seen_day, device.id))?;
        Some((longest.id, day_of(now).saturating_sub(longest.seen_day)))
    }

    /// A device is connected, or was until now; the day is noted with the next flush. Whether there is something to note.
    pub(super) fn see(&mut self, id: DeviceId, now: TimestampMs) -> bool {
        let mut has_changed = false;
        for device in self.devices.iter_mut().filter(|device| !device.is_leaving) {
            // One without a day was there before days were noted: it counts from now on.
            if device.id == id || device.seen_day == 0 {
                has_changed |= device.see(now);
            }
        }
        self.notes_dirty |= has_changed;
        has_changed
    }
}

impl Shard {
    /// A device connects that is none of the user's: it becomes one, unless its id was removed before.
    pub(super) fn join(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device, .. } = connected;
        let Some(user) = self.users.resident(user_id) else { return };
        if user.is_leaving(device) {
            self.refuse_leaving(conn, cx);
        } else if user.gone.has_lately(device) {
            self.refuse_removed(conn, cx);
        } else if user.gone.told_at > Seq::ZERO {
            // Held, so that what is removed meanwhile is not forgotten.
            user.loading += 1;
            self.ask(Query::IsRemoved { user: user_id, device }, Question::IsRemoved(connected), cx);
        } else {
            self.take_in(connected, cx);
        }
    }

    /// The store has looked whether the id was removed.
    pub(super) fn removal_looked_up(&mut self, connected: Connected, is_removed: Option<bool>, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device, .. } = connected;
        if self.sessions.get_mut(conn).is_some()
            && let Some(user) = self.users.resident(user_id)
        {
            match is_removed {
                None => {
                    let detail = "the store can not be read";
                    self.close(conn, ErrorCode::StorageFailed, RETRY_STORAGE_MS, detail, cx);
                }
                Some(false) if user.is_leaving(device) => self.refuse_leaving(conn, cx),
                Some(is_removed) if is_removed || user.gone.has_lately(device) => self.refuse_removed(conn, cx),
                Some(_) if user.device(device).is_some() => self.seat(connected, cx),
                Some(_) => self.take_in(connected, cx),
            }
        }
        self.loading_ended(user_id);
    }

    fn refuse_leaving(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        let detail = "this device is being removed";
        self.close(conn, ErrorCode::Overloaded, RETRY_BUSY_MS, detail, cx);
    }

    fn refuse_removed(&mut self, conn: ConnId, cx: &mut Turn<'_>) {
        let detail = "this device has been removed, and its id is not taken again";
        self.close(conn, ErrorCode::DeviceRemoved, 0, detail, cx);
    }

    /// The user gets one more device; if there are enough, the one that has not been seen for longest makes room.
    fn take_in(&mut self, connected: Connected, cx: &mut Turn<'_>) {
        let Connected { conn, user: user_id, device, .. } = connected;
        let unseen_days_max = self.settings.limits.device_unseen_days;
        let Some(user) = self.users.resident(user_id) else { return };
        if user.own_devices().count() >= DEVICES_MAX {
            match user.longest_unseen(cx.now.wall) {
                Some((oldest, days)) if unseen_days_max > 0 && days >= unseen_days_max => {
                    if let Some(refusal) = self.refuse_admission() {
                        let detail = "nothing can be written that makes room for a new device";
                        return self.close(conn, ErrorCode::Overloaded, refusal.retry_after_ms, detail, cx);
                    }
                    self.remove(user_id, oldest, Removal::Room, cx);
                }
                _ => return self.refuse_device(conn, user_id, cx),
            }
        }
        let Some(user) = self.users.resident(user_id) else { return };
        // Most have one or two.
        user.devices.reserve_exact(1);
        user.devices.push(Device { cursor_dirty: true, ..Device::new(device) });
        self.seat(connected, cx);
    }

    /// There are too many devices: says which could go, first the one that was not seen for longest.
    fn refuse_device(&mut self, conn: ConnId, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        let mut devices = user.device_infos();
        devices.sort_by_key(|info| (info.is_connected, info.seen_day));
        let oldest = devices.first().map_or(DeviceId(0), |info| info.device);
        let detail = format!(
            "the user has {DEVICES_MAX} devices, which is as many as there may be: one has to be removed from another \
             device, {oldest} has not been seen for longest"
        );
        let bye = ServerFrame::Bye { code: ErrorCode::DeviceRefused, retry_after_ms: 0, detail, devices };
        self.send(conn, &bye, cx);
        self.end(conn, Some(ErrorCode::DeviceRefused), cx);
    }

    /// A client asks which devices its user has.
    pub(super) fn fetch_devices(&mut self, conn: ConnId, request: RequestId, cx: &mut Turn<'_>) {
        if let Some(user_id) = self.may_ask(conn, ClientKind::FetchDevices, request, cx) {
            self.list_once_durable(user_id, conn, request, cx);
        }
    }

    /// A client removes a device of its user.
    pub(super) fn remove_device(&mut self, conn: ConnId, request: RequestId, device: DeviceId, cx: &mut Turn<'_>) {
        let Some(user_id) = self.may_change(conn, ClientKind::RemoveDevice, request, device, cx) else { return };
        self.remove(user_id, device, Removal::User, cx);
        // Not seen by a device that has removed itself: its connection ends with the removal.
        self.list_once_durable(user_id, conn, request, cx);
    }

    /// A client gives a device of its user a name.
    pub(super) fn name_device(
        &mut self,
        conn: ConnId,
        request: RequestId,
        device_id: DeviceId,
        name: &str,
        cx: &mut Turn<'_>,
    ) {
        let Some(user_id) = self.may_change(conn, ClientKind::NameDevice, request, device_id, cx) else { return };
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        if let Some(device) = user.device(device_id)
            && *device.name != *name
        {
            device.name = name.into();
            self.write_notes(user_id, cx);
        }
        self.list_once_durable(user_id, conn, request, cx);
    }

    /// Whose devices a client asks for, unless it has to wait: then it is told so.
    pub(super) fn may_ask(
        &mut self,
        conn: ConnId,
        kind: ClientKind,
        request: RequestId,
        cx: &mut Turn<'_>,
    ) -> Option<UserId> {
        let user_id = self.sessions.get_mut(conn)?.user;
        let user = self.users.resident(user_id)?;
        if let Err(wait_ms) = self.settings.limits.fetches.take(&mut user.buckets.fetches, cx.now.monotonic_ms) {
            self.counters.shed.count(Class::Read, Reason::Rate);
            let detail = "too many fetches of this user";
            self.send_error(conn, ErrorCode::RateLimited, kind.byte(), request, wait_ms, detail, cx);
            return None;
        }
        Some(user_id)
    }

    /// The same for a change of one of them.
    pub(super) fn may_change(
        &mut self,
        conn: ConnId,
        kind: ClientKind,
        request: RequestId,
        device: DeviceId,
        cx: &mut Turn<'_>,
    ) -> Option<UserId> {
        let user_id = self.may_ask(conn, kind, request, cx)?;
        let session = self.sessions.get_mut(conn)?;
        let own = session.device;
        let user = self.users.resident(user_id)?;
        // One that is leaving itself changes nothing any more.
        user.device(own)?;
        let is_leaving = user.is_leaving(device);
        let refusal = match user.device(device) {
            None if is_leaving => {
                Some((ErrorCode::Overloaded, RETRY_BUSY_MS, format!("device {device} is being removed")))
            }
            None => Some((ErrorCode::NoSuchDevice, 0, format!("the user has no device {device}"))),
            Some(_) => self.refuse_admission().map(|refusal| {
                (refusal.code, refusal.retry_after_ms, "nothing can be written at the moment".to_owned())
            }),
        };
        let Some((code, retry_after_ms, detail)) = refusal else { return Some(user_id) };
        self.send_error(conn, code, kind.byte(), request, retry_after_ms, &detail, cx);
        None
    }

    /// The operator asks for a user's devices, or removes one.
    pub(super) fn operator_asks(&mut self, ticket: Ticket, user_id: UserId, wish: DevicesWish, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else {
            return self.wait_for_user(user_id, UserWaiting::Operator(ticket, wish), cx);
        };
        let DevicesWish::Remove(device) = wish else {
            return cx.effects.told.push((ticket, Ok(user.device_infos())));
        };
        if user.device(device).is_none() {
            let code = if user.is_leaving(device) { ErrorCode::Overloaded } else { ErrorCode::NoSuchDevice };
            return cx.effects.told.push((ticket, Err(code)));
        }
        if let Some(refusal) = self.refuse_admission() {
            return cx.effects.told.push((ticket, Err(refusal.code)));
        }
        self.remove(user_id, device, Removal::Operator, cx);
        let at = self.lane_of(user_id);
        self.lanes[at].park(Parked::Devices(DevicesParked::Operator(ticket, user_id)));
    }

    /// Removes a device that the user has. See the head of this file.
    fn remove(&mut self, user_id: UserId, device_id: DeviceId, why: Removal, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        self.take_back_from(user_id, device_id, cx);
        let Some(user) = self.users.resident(user_id) else { return };
        let Some(device) = user.device(device_id) else { return };
        device.is_leaving = true;
        device.cursor_dirty = false;
        let cursor = device.cursor;
        user.acknowledged = user.acknowledged.max(cursor);
        user.gone.lately.push((device_id, self.lanes[at].filling()));
        let mut devices: Vec<_> = user.own_devices().map(|device| device.id).collect();
        devices.sort_unstable();
        let replaces = some(user.gone.told_at);
        let event = Event::Devices { removed: device_id, why, devices };
        let seq = Self::append(user_id, user, event, replaces, 0, (at, &mut self.lanes[at]), cx);
        user.gone.told_at = seq;
        // What it acknowledged may not have been reported.
        user.unfinished = true;
        cx.effects.filling[at].batch.push(&Record::Removed { user: user_id, device: device_id });
        self.counters.entries += 1;
        self.write_notes(user_id, cx);
        self.park_entry(at, user_id, seq, None);
        self.lanes[at].park(Parked::Devices(DevicesParked::Removed(user_id, device_id)));
        self.subscriptions_changed(user_id, cx);
        self.mark_dirty(user_id, cx.now.monotonic_ms);
    }

    /// Writes the cursors that have moved; that of a device which has never connected before makes it one of the user's.
    pub(super) fn write_cursors(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        for device in user.devices.iter_mut().filter(|device| device.cursor_dirty) {
            device.cursor_dirty = false;
            // It is there, and something is written anyway.
            user.notes_dirty |= device.see(cx.now.wall);
            user.unfinished = true;
            cx.effects.filling[at].batch.push(&Record::Cursor { user: user_id, device: device.id, seq: device.cursor });
            self.lanes[at].change_user(user_id, &mut user.changed_in);
        }
    }

    /// Writes what devices are called and when they were seen, and the cursors, without which there are no devices.
    pub(super) fn write_notes(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        self.write_cursors(user_id, cx);
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        user.notes_dirty = false;
        cx.effects.filling[at].batch.push(&Record::Devices { user: user_id, notes: user.device_notes() });
        self.lanes[at].change_user(user_id, &mut user.changed_in);
    }

    /// Answers with the list, as soon as all that it says is durable.
    fn list_once_durable(&mut self, user_id: UserId, conn: ConnId, request: RequestId, cx: &mut Turn<'_>) {
        self.answer_once_unchanged(user_id, DevicesParked::List(conn, request), cx);
    }

    /// Answers as soon as all that is known of the user is durable.
    pub(super) fn answer_once_unchanged(&mut self, user_id: UserId, answer: DevicesParked, cx: &mut Turn<'_>) {
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        if self.lanes[at].is_released(user.changed_in) {
            self.devices_released(answer, cx);
        } else {
            self.lanes[at].park_behind(user.changed_in, Parked::Devices(answer));
        }
    }

    /// What waited for a batch that is released.
    pub(super) fn devices_released(&mut self, parked: DevicesParked, cx: &mut Turn<'_>) {
        match parked {
            DevicesParked::Removed(user, device) => self.device_gone(user, device, cx),
            DevicesParked::List(conn, request) => {
                let Some(session) = self.sessions.get_mut(conn) else { return };
                let Some(user) = self.users.resident(session.user) else { return };
                let devices = user.device_infos();
                self.send(conn, &ServerFrame::Devices { request, devices }, cx);
            }
            DevicesParked::Subscription(conn, request) => self.tell_subscription(conn, request, cx),
            DevicesParked::Operator(ticket, user) => {
                let devices = self.users.resident(user).map(|user| user.device_infos());
                cx.effects.told.push((ticket, Ok(devices.unwrap_or_default())));
            }
        }
    }

    /// The removal is durable: the device's connections end, those that wait for something among them. Looks at every connection: it is
    /// rare, and no index is kept for it.
    fn device_gone(&mut self, user_id: UserId, device_id: DeviceId, cx: &mut Turn<'_>) {
        let is_of = |user: UserId, device: DeviceId| user == user_id && device == device_id;
        for conn in self.sessions.conns_where(|session| is_of(session.user, session.device)) {
            self.refuse_removed(conn, cx);
        }
        if let Some(user) = self.users.resident(user_id) {
            user.devices.retain(|device| device.id != device_id);
        }
    }

    /// The journal has failed: what waited for it is not known to have happened. Which connections end.
    pub(super) fn devices_abandoned(&mut self, parked: DevicesParked, cx: &mut Turn<'_>) -> Option<ConnId> {
        match parked {
            DevicesParked::Removed(user, device) => {
                self.users.resident(user)?.devices.iter().find(|of| of.id == device)?.session
            }
            DevicesParked::List(conn, _) | DevicesParked::Subscription(conn, _) => Some(conn),
            DevicesParked::Operator(ticket, _) => {
                cx.effects.told.push((ticket, Err(ErrorCode::StorageFailed)));
                None
            }
        }
    }
}
