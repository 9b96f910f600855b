//! The first row: whom one writes to, what came from others, and the connection.

use client::ConversationId;
use ratatui_core::{buffer::Buffer, layout::Rect};
use unicode_width::UnicodeWidthStr as _;

use super::{bold, dim, put};
use crate::screen::{
    effect::Now,
    model::{Link, Model},
};

pub(super) fn draw(model: &Model, now: Now, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let link = match model.link {
        Link::Connecting => "connecting".to_owned(),
        Link::Connected => "connected".to_owned(),
        Link::Down { until } => match until.since(now.monotonic).div_ceil(1000) {
            0 => "connecting again".to_owned(),
            seconds => format!("connecting again in {seconds} s"),
        },
    };
    let status = model.me.map_or(link.clone(), |me| format!("you are {me} · {link}"));
    let left = match model.me.map(ConversationId::Person) == Some(model.peer) {
        _ if model.list.is_open => "Conversations".to_owned(),
        true => "Notes to yourself".to_owned(),
        false => format!("To {}", model.peer),
    };
    let style = if model.link == Link::Connected { dim() } else { bold() };
    let end = put(buffer, area.x, area.y, area.right(), &left, bold());
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
