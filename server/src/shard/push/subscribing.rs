//! Subscribing: what a device says of where its notifications go (SPEC 4.49 to 4.52).

use proto_spec::{
    ClientKind, DeviceId, ErrorCode, Provider, PushState, RequestId, ServerFrame, Show, Subscription, UserId,
};
use storage::Record;

use super::Dues;
use crate::shard::{ConnId, Shard, Turn, devices::DevicesParked};

/// As the service takes it; none: it is not of a provider that this version knows.
pub(super) fn as_sent(stored: &Subscription) -> Option<push::Subscription> {
    let address = stored.address.clone();
    let provider = match stored.provider()? {
        Provider::WebPush => push::Provider::WebPush {
            endpoint: address,
            p256dh: stored.key.as_slice().try_into().ok()?,
            auth: stored.secret.as_slice().try_into().ok()?,
        },
        Provider::Webhook => push::Provider::Webhook { token: address },
        Provider::Fcm => push::Provider::Fcm { token: address },
        Provider::Apns => push::Provider::Apns { token: address },
    };
    let show = match stored.show {
        Show::Nothing => push::Show::Nothing,
        Show::Sender => push::Show::Sender,
        Show::Text => push::Show::Text,
    };
    Some(push::Subscription { provider, show })
}

/// As it is stored; none: the address is longer than one of this protocol.
pub(super) fn as_stored(sent: &push::Subscription) -> Option<Subscription> {
    let (provider, address, key, secret) = match &sent.provider {
        push::Provider::WebPush { endpoint, p256dh, auth } => {
            (Provider::WebPush, endpoint, p256dh.to_vec(), auth.to_vec())
        }
        push::Provider::Webhook { token } => (Provider::Webhook, token, Vec::new(), Vec::new()),
        push::Provider::Fcm { token } => (Provider::Fcm, token, Vec::new(), Vec::new()),
        push::Provider::Apns { token } => (Provider::Apns, token, Vec::new(), Vec::new()),
    };
    let show = match sent.show {
        push::Show::Nothing => Show::Nothing,
        push::Show::Sender => Show::Sender,
        push::Show::Text => Show::Text,
    };
    let is_short = address.len() <= proto_spec::limits::PUSH_ADDRESS_BYTES_MAX;
    let (provider, address) = (provider.byte().into(), address.clone());
    is_short.then_some(Subscription { provider, show, address, key, secret })
}

impl Shard {
    /// A device says where its notifications go from now on; none: nowhere.
    pub(in crate::shard) fn subscribe(
        &mut self,
        (conn, request): (ConnId, RequestId),
        kind: ClientKind,
        subscription: Option<Subscription>,
        cx: &mut Turn<'_>,
    ) {
        let Some(push) = self.settings.push else { return self.not_pushed(conn, kind, cx) };
        let Some(device_id) = self.sessions.get_mut(conn).map(|session| session.device) else { return };
        let Some(user_id) = self.may_change(conn, kind, request, device_id, cx) else { return };
        if let Some(detail) = subscription.as_ref().and_then(|subscription| push.fault(subscription)) {
            return self.send_error(conn, ErrorCode::BadSubscription, kind.byte(), request, 0, &detail, cx);
        }
        let at = self.lane_of(user_id);
        self.cut_batch_if_full(at, cx);
        let is_new = self
            .users
            .resident(user_id)
            .and_then(|user| user.device(device_id))
            .is_some_and(|device| device.subscription.as_deref() != subscription.as_ref());
        if is_new {
            self.set_subscription(user_id, device_id, subscription, cx);
        }
        self.answer_once_unchanged(user_id, DevicesParked::Subscription(conn, request), cx);
    }

    /// A device asks how it is subscribed.
    pub(in crate::shard) fn fetch_subscription(&mut self, conn: ConnId, request: RequestId, cx: &mut Turn<'_>) {
        let kind = ClientKind::FetchSubscription;
        if self.settings.push.is_none() {
            return self.not_pushed(conn, kind, cx);
        }
        if let Some(user_id) = self.may_ask(conn, kind, request, cx) {
            self.answer_once_unchanged(user_id, DevicesParked::Subscription(conn, request), cx);
        }
    }

    /// This server sends no notifications: it does not know these frames.
    fn not_pushed(&mut self, conn: ConnId, kind: ClientKind, cx: &mut Turn<'_>) {
        let detail = "this server sends no notifications";
        self.send_error(conn, ErrorCode::UnknownKind, kind.byte(), RequestId(0), 0, detail, cx);
    }

    /// Where notifications for a device go from now on. What is there is not due: the first subscription of a user says nothing of what
    /// came before.
    pub(super) fn set_subscription(
        &mut self,
        user_id: UserId,
        device_id: DeviceId,
        subscription: Option<Subscription>,
        cx: &mut Turn<'_>,
    ) {
        // There is no subscription without its device.
        self.write_cursors(user_id, cx);
        if subscription.is_none() {
            self.take_back_from(user_id, device_id, cx);
        }
        let at = self.lane_of(user_id);
        let Some(user) = self.users.resident(user_id) else { return };
        let was_subscribed = user.is_subscribed();
        let Some(device) = user.device(device_id) else { return };
        let is_another = device.subscription.is_some() && subscription.is_some();
        device.subscription = subscription.clone().map(Box::new);
        if let Some(dues) = user.dues.as_mut().filter(|_| is_another) {
            dues.offer_anew(cx.now.monotonic_ms);
        }
        let batch = &mut cx.effects.filling[at].batch;
        batch.push(&Record::Subscribed { user: user_id, device: device_id, subscription });
        if !was_subscribed && user.is_subscribed() {
            let notified = storage::Notified { up_to: user.head, told: Vec::new() };
            batch.push(&Record::Notified { user: user_id, notified });
            user.dues = Some(Box::new(Dues::after(user.head)));
        }
        let groups: Vec<_> = match !was_subscribed {
            true => user.groups.iter().filter(|(_, row)| row.standing.is_member()).map(|(group, _)| *group).collect(),
            false => Vec::new(),
        };
        self.lanes[at].change_user(user_id, &mut user.changed_in);
        groups.into_iter().for_each(|group| self.say_wants(user_id, group, None, cx));
        self.subscriptions_changed(user_id, cx);
        self.set_wake(user_id, cx);
    }

    /// A subscription has gone: without any there is nothing to notify of.
    pub(in crate::shard) fn subscriptions_changed(&mut self, user_id: UserId, cx: &mut Turn<'_>) {
        let Some(user) = self.users.resident(user_id) else { return };
        if !user.is_subscribed()
            && let Some(dues) = user.dues.take()
        {
            dues.wakes_ms.map(|at_ms| self.notifying.wakes.remove(&(at_ms, user_id)));
            if dues.waits_for_room {
                self.notifying.for_room.retain(|waiting| *waiting != user_id);
            }
            self.mark_dirty(user_id, cx.now.monotonic_ms);
        }
    }

    /// Tells a device how it is subscribed.
    pub(in crate::shard) fn tell_subscription(&mut self, conn: ConnId, request: RequestId, cx: &mut Turn<'_>) {
        let Some(push) = self.settings.push else { return };
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let (user_id, device_id) = (session.user, session.device);
        let device = self.users.resident(user_id).and_then(|user| user.device(device_id));
        let subscription = device.and_then(|device| device.subscription.as_deref());
        let state = PushState {
            providers: push.providers,
            server_key: push.server_key.map(|key| key.to_vec()).unwrap_or_default(),
            provider: subscription.map_or(0, |of| of.provider),
            show: subscription.map_or(Show::Nothing, |of| of.show),
            address: subscription.map(|of| of.address.clone()).unwrap_or_default(),
        };
        self.send(conn, &ServerFrame::Subscription { request, state }, cx);
    }
}
