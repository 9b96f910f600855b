//! Notifications: devices that subscribe, a provider that takes notices, refuses and forgets them, and what must hold of them
//! (`docs/PUSH.md`). At any time nothing leaves of what is not durable, or was acknowledged, read, muted or decided by then. In the end
//! everybody sleeps once while others write to them, and the node may be killed meanwhile: each device that is subscribed must show the
//! last word of each conversation.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use proto_spec::{Body, Content, ConversationId, Entry, Event, PushState, Seq, Settings, Show, Subscription, UserId};
use push::{Kind, Notice, Outcome, Provider as Address, Refusal, hosts::HostRules};
use server::{
    core::CoreMessage,
    shard::{PushSettings, topology::CoreId},
};
use storage::Record;

use super::{Happening, Simulation, faults::Fault, oracle::DeviceKey};
use crate::rng::Rng;

/// Short, so that it passes often.
const DELAY_MS: u64 = 700;

/// No device subscribes with Web Push.
static NO_HOSTS: HostRules = HostRules::NONE;

/// How long it may take until somebody who sleeps is notified: a restart, reads that fail and notices that are put off.
const NIGHT_MS: u64 = 60_000;

/// The provider, and what the screens of devices show.
pub(super) struct Provider {
    /// Not the simulation's own: what it does is the same with and without notifications.
    rng: Rng,
    is_on: bool,
    /// Notices that the push service takes at a time.
    room: usize,
    /// Those that it has, in this life of the node.
    under_way: BTreeMap<u64, (CoreId, Box<Notice>)>,
    last: u64,
    /// Addresses that the provider does not know any more.
    gone: BTreeSet<String>,
    addresses: u64,
    /// Where notices of each device go, as it was told and has not changed since.
    subscribed: BTreeMap<DeviceKey, String>,
    /// Where they were to go last.
    wanted: BTreeMap<DeviceKey, String>,
    /// What the screen of a device shows of each conversation.
    shown: BTreeMap<(DeviceKey, UserId), Option<String>>,
    /// Who sleeps: their apps do not start.
    pub(super) asleep: Option<UserId>,
}

impl Provider {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x9054);
        Self {
            is_on: rng.chance(75),
            room: if rng.chance(40) { rng.within(1, 3) as usize } else { 1_000 },
            rng,
            under_way: BTreeMap::new(),
            last: 0,
            gone: BTreeSet::new(),
            addresses: 0,
            subscribed: BTreeMap::new(),
            wanted: BTreeMap::new(),
            shown: BTreeMap::new(),
            asleep: None,
        }
    }

    /// For the shards.
    pub(super) const fn settings(&self) -> Option<PushSettings> {
        if self.is_on {
            Some(PushSettings { delay_ms: DELAY_MS, providers: 0b100, server_key: None, hosts: &NO_HOSTS })
        } else {
            None
        }
    }

    fn new_address(&mut self) -> String {
        self.addresses += 1;
        format!("address-{}", self.addresses)
    }

    /// The provider has taken a notice.
    fn take(&mut self, notice: &Notice) {
        let ConversationId::Person(peer) = notice.conversation else { return };
        let of = ((notice.user, notice.device), peer);
        match &notice.kind {
            Kind::Message { text, .. } => drop(self.shown.insert(of, text.clone())),
            Kind::Clear => drop(self.shown.remove(&of)),
        }
    }
}

fn address_of(notice: &Notice) -> &str {
    match &notice.subscription.provider {
        Address::Webhook { token } => token,
        other => unreachable!("nobody subscribes by {other:?}"),
    }
}

/// What a notification shows of a message, or of what it says since it was edited.
pub(crate) fn words(content: &Content) -> Option<String> {
    let edited;
    let content = match content.body().ok()? {
        Body::Edit(edit) => {
            edited = edit.content();
            &edited
        }
        _ => content,
    };
    let text = match content.body().ok()? {
        Body::Text(text) => text,
        Body::Reply(reply) => reply.text,
        Body::Attachment(attachment) => attachment.caption,
        Body::Mention(mention) => mention.text,
        _ => return None,
    };
    (!text.is_empty()).then(|| text.chars().take(256).collect())
}

impl Simulation {
    /// An app is connected: it subscribes, if it has not or does so after each start.
    pub(super) fn subscribe_app(&mut self, index: usize) {
        let key = self.apps[index].key;
        let provider = &mut self.provider;
        let known = provider.wanted.get(&key).cloned();
        if !provider.is_on || (known.is_none() && !provider.rng.chance(70)) {
            return;
        }
        let address = match known {
            Some(address) if provider.rng.chance(80) => address,
            _ => provider.new_address(),
        };
        let unsubscribes = !self.healing && provider.rng.chance(5);
        provider.subscribed.remove(&key);
        provider.wanted.insert(key, address.clone());
        let (key, secret) = (Vec::new(), Vec::new());
        let subscription = Subscription { provider: 2, show: Show::Text, address, key, secret };
        if let Some(state) = &mut self.apps[index].state {
            let asked = state.subscribe((!unsubscribes).then_some(subscription));
            debug_assert!(asked.is_ok() || state.is_ended(), "{asked:?}");
        }
    }

    /// An app is told how it is subscribed.
    pub(super) fn on_subscription(&mut self, key: DeviceKey, state: PushState) {
        self.reached("device subscribed");
        if state.provider == 0 {
            self.provider.subscribed.remove(&key);
        } else {
            self.provider.subscribed.insert(key, state.address);
        }
    }

    /// A device was removed: so was its subscription.
    pub(super) fn subscription_removed(&mut self, key: DeviceKey) {
        self.provider.subscribed.remove(&key);
        self.provider.wanted.remove(&key);
    }

    /// A core hands a notice to the push service.
    pub(super) fn take_notice(&mut self, core: CoreId, notice: Box<Notice>) -> Result<(), Box<Notice>> {
        self.check_notice(&notice);
        let provider = &mut self.provider;
        if provider.under_way.len() >= provider.room {
            self.reached("push service full");
            return Err(notice);
        }
        self.reached(if notice.kind == Kind::Clear { "taken off a screen" } else { "somebody notified" });
        if self.fault == Some(Fault::DropNotices) && self.provider.rng.chance(30) {
            return Ok(());
        }
        let provider = &mut self.provider;
        provider.last += 1;
        let (id, delay) = (provider.last, provider.rng.within(0, 400));
        provider.under_way.insert(id, (core, notice));
        let life = self.machine.life;
        self.schedule(delay, Happening::NoticeEnds { life, id });
        Ok(())
    }

    /// The provider, or the push service itself, says what becomes of a notice.
    pub(super) fn on_notice_ends(&mut self, id: u64) {
        let Some((core, notice)) = self.provider.under_way.remove(&id) else { return };
        let provider = &mut self.provider;
        let is_gone = provider.gone.contains(address_of(&notice));
        let outcome = match provider.rng.within(0, 99) {
            _ if is_gone => Outcome::Gone,
            0..70 => Outcome::Delivered,
            _ if self.healing => Outcome::Delivered,
            70..80 => Outcome::Later(Duration::from_millis(provider.rng.within(100, 1_500))),
            80..84 => Outcome::Expired { last: None },
            84..87 => Outcome::Refused(Refusal::Answer { status: 413, reason: None }),
            87..94 => {
                provider.gone.insert(address_of(&notice).to_owned());
                Outcome::Gone
            }
            _ => {
                provider.gone.insert(address_of(&notice).to_owned());
                Outcome::Replaced(Address::Webhook { token: provider.new_address() })
            }
        };
        match &outcome {
            Outcome::Delivered => provider.take(&notice),
            Outcome::Replaced(_) => {
                provider.take(&notice);
                self.reached("subscription replaced");
            }
            Outcome::Gone => self.reached("subscription gone"),
            _ => self.reached("somebody not notified by their provider"),
        }
        if self.fault == Some(Fault::LoseOutcomes) && self.provider.rng.chance(30) {
            return;
        }
        self.put(core, CoreMessage::Notified(Box::new((*notice, outcome))));
    }

    /// The node has died: of what was under way the provider may have taken some.
    pub(super) fn lose_notices(&mut self) {
        for (_, (_, notice)) in std::mem::take(&mut self.provider.under_way) {
            self.reached("crash with a notice under way");
            if self.provider.rng.chance(50) && !self.provider.gone.contains(address_of(&notice)) {
                self.provider.take(&notice);
            }
        }
    }

    // ---- at any time

    /// Nothing is told that is not durable, or that was dealt with by then for sure.
    fn check_notice(&mut self, notice: &Notice) {
        let Kind::Message { text, .. } = &notice.kind else { return };
        let (user, ConversationId::Person(peer)) = (notice.user, notice.conversation) else {
            return self.oracle.fail(|| format!("{notice:?} is of a group"));
        };
        let undecided = self.machine.undecided_entries(user);
        let log = self.oracle.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX))).map(|(_, entry)| entry);
        let durable: Vec<&Entry> = log.collect();
        let comes = |entry: &&Entry| matches!(&entry.event, Event::Received { from, content, .. } if *from == peer && !matches!(content, Content::Reaction(_)));
        let said = |entry: &Entry| match &entry.event {
            Event::Received { content, .. } => words(content),
            _ => None,
        };
        let last = durable.iter().copied().chain(&undecided).filter(comes).filter_map(Entry::place).max();
        let last = last.unwrap_or_default();
        let kept = durable.iter().rev().find_map(|entry| match &entry.event {
            Event::Settings { conversation, settings } if *conversation == peer.into() => Some(*settings),
            _ => None,
        });
        let is_kept_otherwise = undecided
            .iter()
            .any(|entry| matches!(&entry.event, Event::Settings { conversation, .. } if *conversation == peer.into()));
        let kept = kept.filter(|_| !is_kept_otherwise).unwrap_or_default();
        let read = durable.iter().filter_map(|entry| match &entry.event {
            Event::Read { conversation, up_to, .. } if *conversation == peer.into() => Some(*up_to),
            _ => None,
        });
        let (read, acknowledged) = (read.max().unwrap_or_default(), self.oracle.acknowledged(user));
        let decided = self.oracle.notified.get(&user).copied().unwrap_or_default();
        let wrong = if text.is_some() && !durable.iter().any(|entry| comes(entry) && said(entry) == *text) {
            "which nobody has said, or is not durable"
        } else if !durable.iter().any(comes) {
            "and nothing has come"
        } else if kept.has(Settings::MUTED) || kept.has(Settings::BLOCKED) {
            "who is muted or blocked"
        } else if last <= read {
            "which was read"
        } else if last <= acknowledged {
            "which a device has acknowledged"
        } else if last <= decided {
            "of which it was decided before"
        } else {
            return;
        };
        self.oracle.fail(|| {
            format!(
                "user {user} is notified of what {peer} wrote, {wrong}: {notice:?}, the last at {last}, read up to {read}, \
                 acknowledged up to {acknowledged}, decided up to {decided}"
            )
        });
    }

    // ---- in the end

    /// Somebody with a subscription sleeps, all others write to them, and the node may die.
    pub(super) fn spend_a_night(&mut self) {
        let users: BTreeSet<UserId> = self.provider.subscribed.keys().map(|(user, _)| *user).collect();
        let users: Vec<UserId> =
            users.into_iter().filter(|user| self.apps.iter().any(|app| app.key.0 == *user)).collect();
        if !self.provider.is_on || users.is_empty() {
            return;
        }
        let user = *self.provider.rng.pick(&users);
        self.note(|| format!("user {user} sleeps"));
        self.provider.asleep = Some(user);
        for index in 0..self.apps.len() {
            if self.apps[index].key.0 == user {
                self.crash_app(index);
            }
        }
        let pause = self.provider.rng.within(0, 2_000);
        self.go_on_until(self.now.monotonic_ms + pause);
        for index in 0..self.apps.len() {
            if self.apps[index].key.0 != user && !self.watching.are_parted(self.apps[index].key.0, user) {
                self.write_text_to(index, user);
            }
        }
        if self.provider.rng.chance(60) {
            let pause = self.provider.rng.within(0, 1_500);
            self.go_on_until(self.now.monotonic_ms + pause);
            self.crash();
            self.reached("crash while somebody sleeps");
        }
        let end = self.now.monotonic_ms + NIGHT_MS;
        let mut lacking = Vec::new();
        while self.oracle.failure.is_none() && self.now.monotonic_ms < end {
            self.go_on_until(self.now.monotonic_ms + 970);
            lacking = self.not_notified(user);
            if lacking.is_empty() {
                break;
            }
        }
        if self.oracle.failure.is_none() && !lacking.is_empty() {
            self.oracle.fail(|| format!("user {user} sleeps and is not notified: {lacking:?}"));
        }
        self.provider.asleep = None;
        for index in 0..self.apps.len() {
            self.start_app(index);
        }
    }

    /// What the screens of a user's devices do not show, of conversations whose last message is not acknowledged.
    fn not_notified(&self, user: UserId) -> Vec<(DeviceKey, UserId, Option<String>)> {
        let acknowledged = self.oracle.acknowledged(user);
        let mut last: BTreeMap<UserId, (Seq, Option<String>)> = BTreeMap::new();
        let mut kept: BTreeMap<UserId, Settings> = BTreeMap::new();
        for (_, entry) in self.oracle.durable.range((user, Seq::ZERO)..=(user, Seq(u64::MAX))) {
            match &entry.event {
                Event::Received { from, content, .. } if content.is_message() => {
                    last.insert(*from, (entry.seq, words(content)));
                }
                Event::Settings { conversation: ConversationId::Person(peer), settings } => {
                    kept.insert(*peer, *settings);
                }
                _ => {}
            }
        }
        let unwanted = |kept: &Settings| kept.has(Settings::MUTED) || kept.has(Settings::BLOCKED);
        let is_wanted = |peer: &UserId| !kept.get(peer).is_some_and(unwanted);
        let wanted = last.into_iter().filter(|(peer, (seq, _))| *seq > acknowledged && is_wanted(peer));
        let wanted: Vec<_> = wanted.map(|(peer, (_, text))| (peer, text)).collect();
        let devices = self
            .provider
            .subscribed
            .iter()
            .filter(|((of, _), address)| *of == user && !self.provider.gone.contains(*address));
        let each = devices.flat_map(|(key, _)| wanted.iter().map(|(peer, text)| (*key, *peer, text.clone())));
        each.filter(|(key, peer, text)| self.provider.shown.get(&(*key, *peer)) != Some(text)).collect()
    }
}

/// Entries of a user among records.
pub(super) fn entries_of_user(records: &[Record], of: UserId) -> impl Iterator<Item = &Entry> {
    records.iter().filter_map(move |record| match record {
        Record::Append { user, entry, .. } | Record::Rewrite { user, entry, .. } if *user == of => Some(entry),
        _ => None,
    })
}
