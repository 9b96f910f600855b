//! The list of conversations: how each is kept, its last message, and when that was written.

use client::{ConversationId, Event, InboxRow, TimestampMs, UNREAD_MAX};
use ratatui_core::{
    buffer::Buffer,
    layout::Rect,
    style::{Modifier, Style},
};
use unicode_width::UnicodeWidthStr as _;

use super::{bold, dim, local, presence, put};
use crate::{
    content::shown,
    screen::{
        effect::Now,
        model::{Link, Model},
    },
    visible::tame,
    words,
};

/// Columns for the number of unread messages.
const UNREAD_COLUMNS: usize = 4;

pub(super) fn draw(model: &Model, now: Now, area: Rect, buffer: &mut Buffer) {
    let rows = model.list.iter();
    if rows.len() == 0 && area.height > 0 {
        let words = match (model.list.is_here, model.link) {
            (true, _) => "No conversations yet: /to USER begins one.",
            (false, Link::Connected) => "Asking for your conversations.",
            (false, Link::Connecting | Link::Down { .. }) => "",
        };
        put(buffer, area.x, area.y, area.right(), words, dim());
    }
    let first = first_row(model, area.height.into());
    let names = rows.map(|row| name_of(model, row.conversation).width()).max().unwrap_or(0);
    for (at, row, y) in
        model.list.iter().enumerate().skip(first).zip(area.top()..area.bottom()).map(|((at, row), y)| (at, row, y))
    {
        let is_chosen = at == model.list.chosen;
        let style = if row.unread > 0 { bold() } else { Style::new() };
        let unread = match row.unread {
            0 => String::new(),
            count if count > UNREAD_MAX => format!("{UNREAD_MAX}+"),
            count => count.to_string(),
        };
        let x = put(buffer, area.x, y, area.right(), if is_chosen { "▸ " } else { "  " }, bold());
        let x = put(buffer, x, y, area.right(), &format!("{unread:>UNREAD_COLUMNS$} "), style);
        let (dot, dot_style) = presence::dot(model, row.conversation);
        let x = put(buffer, x, y, area.right(), &format!("{dot:1} "), dot_style);
        let x = put(buffer, x, y, area.right(), &format!("{:<names$}  ", name_of(model, row.conversation)), style);
        let when = when(model, now, row.last.time);
        let end = area.right().saturating_sub(when.width() as u16);
        if end > x {
            put(buffer, end, y, area.right(), &when, dim());
        }
        let end = if end > x { end.saturating_sub(2) } else { area.right() };
        let kept = words::kept(row.settings);
        let x = if kept == "-" { x } else { put(buffer, x, y, end, &format!("[{}] ", kept.replace(',', ", ")), dim()) };
        match presence::typing(model, row.conversation) {
            Some(words) => _ = put(buffer, x, y, end, &words, dim()),
            None => put_last(row, buffer, (x, y), end),
        }
        if is_chosen {
            (area.left()..area.right())
                .for_each(|x| _ = buffer[(x, y)].set_style(Style::new().add_modifier(Modifier::REVERSED)));
        }
    }
}

/// The first conversation that is shown in so many rows.
pub(crate) fn first_row(model: &Model, rows: usize) -> usize {
    (model.list.chosen + 1).saturating_sub(rows)
}

/// The last message of a conversation, on one line.
fn put_last(row: &InboxRow, buffer: &mut Buffer, (x, y): (u16, u16), end: u16) {
    let (who, content) = match &row.last.event {
        Event::Received { content, .. } => ("", content),
        Event::Sent { content, .. } => ("you: ", content),
        _ => return,
    };
    let x = put(buffer, x, y, end, who, dim());
    let mut text = shown(content).replace('\n', " ");
    if row.left_out > 0 {
        text.push('…');
    }
    put(buffer, x, y, end, &tame(&text), Style::new());
}

fn name_of(model: &Model, conversation: ConversationId) -> String {
    match model.me.map(ConversationId::Person) == Some(conversation) {
        true => "you".to_owned(),
        false => conversation.to_string(),
    }
}

/// The time of today, the day of what is older.
pub(super) fn when(model: &Model, now: Now, time: TimestampMs) -> String {
    let (time, today) = (local(model, time), local(model, now.wall));
    let format = match (time.date() == today.date(), time.year() == today.year()) {
        (true, _) => "%H:%M",
        (false, true) => "%-d %b",
        (false, false) => "%-d %b %Y",
    };
    time.strftime(format).to_string()
}
