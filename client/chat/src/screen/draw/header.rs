//! The first row: whom one writes to, what came from others, and the connection.

use client::{ConversationId, Visibility};
use ratatui_core::{buffer::Buffer, layout::Rect};
use unicode_width::UnicodeWidthStr as _;

use super::{bold, dim, presence, put};
use crate::{
    screen::{
        effect::Now,
        model::{Link, Model},
    },
    visible::tame,
};

/// Columns for how many messages have come from others, and before them.
const OTHERS_COLUMNS: u16 = 24;

/// Of an address that is shown: a line of 80 columns has room for whom one writes to beside it.
const ADDRESS_CHARS: usize = 30;

pub(super) fn draw(model: &Model, now: Now, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let link = match model.link {
        Link::Connecting => "connecting".to_owned(),
        Link::Connected => match &model.elsewhere {
            None => "connected".to_owned(),
            Some(address) => format!("connected to {}", short(address)),
        },
        Link::Down { until } => match until.since(now.monotonic).div_ceil(1000) {
            0 => "connecting again".to_owned(),
            seconds => format!("connecting again in {seconds} s"),
        },
    };
    let hidden = if model.people.hidden.has(Visibility::INVISIBLE) { "invisible · " } else { "" };
    let status = model.me.map_or(link.clone(), |me| format!("you are {me} · {hidden}{link}"));
    let left = match model.me.map(ConversationId::Person) == Some(model.peer) {
        _ if model.list.is_open => "Conversations".to_owned(),
        true => "Notes to yourself".to_owned(),
        false => format!("To {}", model.called(model.peer)),
    };
    let style = if model.link == Link::Connected { dim() } else { bold() };
    let mut end = put(buffer, area.x, area.y, area.right(), &left, bold());
    if !model.list.is_open {
        let others = if model.unread.is_empty() { 0 } else { OTHERS_COLUMNS };
        end = put_presence(model, now, (end, area), status.width() as u16 + others, buffer);
    }
    let start = area.right().saturating_sub(status.width() as u16).max(end + 2);
    put(buffer, start, area.y, area.right(), &status, style);
    let mut unread = String::new();
    for (user, count) in model.unread.iter().filter(|_| !model.list.is_open) {
        if !unread.is_empty() {
            unread.push_str(" · ");
        }
        unread += &format!("{count} new from {user} (/to {user})");
    }
    if !unread.is_empty() && unread.width() as u16 > start.saturating_sub(end + 5) {
        let count: u64 = model.unread.values().sum();
        unread = format!("{count} new from others");
    }
    if !unread.is_empty() {
        put(buffer, end + 3, area.y, start.saturating_sub(2), &unread, bold());
    }
}

/// So much of an address as a header has room for. Its end is the port, which says less than its beginning.
fn short(address: &str) -> String {
    let tamed = tame(address);
    match tamed.char_indices().nth(ADDRESS_CHARS) {
        None => tamed,
        Some((at, _)) => format!("{}…", &tamed[..at]),
    }
}

/// Whether the other is there, behind their name; in words too, if so many columns are left then. Where it ends.
fn put_presence(model: &Model, now: Now, (end, area): (u16, Rect), reserved: u16, buffer: &mut Buffer) -> u16 {
    let (dot, style) = presence::dot(model, model.peer);
    let words = presence::words(model, now, model.peer);
    let end = if dot.is_empty() { end } else { put(buffer, end + 1, area.y, area.right(), dot, style) };
    let is_room = area.right() >= end + 1 + words.width() as u16 + 2 + reserved;
    if words.is_empty() || !is_room { end } else { put(buffer, end + 1, area.y, area.right(), &words, dim()) }
}
