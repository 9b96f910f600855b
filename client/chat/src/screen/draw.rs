//! How the model looks: in a buffer of so many columns and rows, with the terminal's own colours.
//!
//! ```text
//! To 8                     2 new from 9: /to 9       you are 7 · connected
//!                        Saturday, 28 November 2026
//! 12:01         8  Hello, are you there?
//! 12:02 ✓✓    you  Yes.
//! ──────────────────────────────────── Enter sends · Alt-Enter: new line ──
//! what is said once
//! > the draft
//! ```
//!
//! Every size is drawn without a panic; what does not fit is left out from the top. In `draw/`: the header, and the list of conversations.

mod header;
mod list;
mod presence;

use client::{ConversationId, TimestampMs};
use jiff::{Timestamp, Zoned, civil::Date};
use ratatui_core::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::{Color, Modifier, Style},
};
use unicode_width::UnicodeWidthStr as _;

use super::{
    effect::Now,
    messages::{Author, Place, Shown, Tick},
    model::{Anchor, Link, Model},
};
use crate::{
    visible::{Piece, pieces, tame},
    words,
    wrap::{self, Row},
};

pub(crate) use self::{list::first_row, presence::deadline};

/// Before the draft.
const PROMPT: &str = "> ";

/// A notice is not to hide the conversation.
const NOTICE_ROWS_MAX: usize = 3;

/// Columns that a text has at least beside its time and author; in narrower windows it stands below them.
const TEXT_COLUMNS_MIN: u16 = 16;

const HELP: &str = "\
Enter               send; Alt-Enter, Ctrl-J: a new line in the message
PageUp, PageDown    older and newer messages; also Up and Down, and the wheel
Esc, Ctrl-End       back to the newest message
Tab                 your conversations: arrows and Enter open one, Tab goes back
Ctrl-P, Ctrl-N      what you wrote before
Ctrl-_, -W, -U      undo; erase a word, a line
Ctrl-Z, Ctrl-C      suspend; put the draft away, without one leave (also /quit)

/reply TEXT         answer the last message of the other
/react EMOJI        react to it; without EMOJI: take that back
/edit TEXT          say something else in your last message
/unsend             take your last message back; /cancel, while ◷ stands there
/delete             take the last message out of your own history alone
/attach URL file=PATH   tell of a file that is uploaded; /attach alone says more
/to USER or #ID     write to somebody else or a group; /history [N]: older ones
/group NAME         begin a group; /groups: yours; in it /members, /add, /leave
/mute, /archive, /pin, /block   keep this conversation so; /unmute and so on
/invisible, /visible   hide that you are here; /lastseen off, on: when you were
/devices            your devices; /check: has the server what you were shown?
◷ waits   ✓ the server has it   ✓✓ a device of the other has it   ● it was read
A message that begins with / is typed with // in front. A paste is no command.";

/// One row of the conversation.
#[derive(Clone, Debug, Default)]
struct Line {
    spans: Vec<(String, Style)>,
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

/// Columns of the draft.
pub(crate) fn editor_columns(columns: u16) -> u16 {
    columns.saturating_sub(PROMPT.len() as u16).max(1)
}

/// How the rows of the window are divided.
struct Parts {
    header: u16,
    messages: u16,
    rule: u16,
    notice: u16,
    editor: u16,
}

impl Parts {
    fn of(model: &Model) -> Self {
        let (columns, rows) = model.size;
        let draft = model.editor.layout(editor_columns(columns)).0.len();
        let editor = draft.min(usize::from(rows / 3).max(1)) as u16;
        let editor = editor.min(rows);
        let rule = u16::from(rows >= editor + 2);
        let header = u16::from(rows >= editor + rule + 2);
        let left = rows - editor - rule - header;
        let notice = model.notice.as_ref().map_or(0, |notice| wrap::rows(&notice.text, columns).len());
        let notice = (notice.min(NOTICE_ROWS_MAX) as u16).min(left.saturating_sub(1));
        Self { header, messages: left - notice, rule, notice, editor }
    }
}

/// Rows of the conversation.
pub(crate) fn message_rows(model: &Model) -> u16 {
    Parts::of(model).messages
}

/// Draws everything; where the cursor is to be.
pub(crate) fn draw(model: &Model, now: Now, buffer: &mut Buffer) -> Option<Position> {
    let area = buffer.area;
    let parts = Parts::of(model);
    let mut y = area.y;
    let mut part = |rows: u16| {
        let part = Rect { x: area.x, y, width: area.width, height: rows }.intersection(area);
        y = part.bottom();
        part
    };
    let (header, messages, rule) = (part(parts.header), part(parts.messages), part(parts.rule));
    let (notice, editor) = (part(parts.notice), part(parts.editor));
    header::draw(model, now, header, buffer);
    match (model.shows_help, model.list.is_open) {
        (true, _) => draw_text(HELP, messages, buffer),
        _ if model.listing.is_some() => draw_text(model.listing.as_deref().unwrap_or_default(), messages, buffer),
        (false, true) => list::draw(model, now, messages, buffer),
        (false, false) => draw_messages(model, messages, buffer),
    }
    draw_rule(model, parts.editor, rule, buffer);
    draw_notice(model, notice, buffer);
    draw_editor(model, editor, buffer)
}

/// Puts text into a row, as far as it fits; where it ends.
fn put(buffer: &mut Buffer, x: u16, y: u16, end: u16, text: &str, style: Style) -> u16 {
    let mut x = x;
    for piece in pieces(text) {
        let Piece::Text(symbol, width) = piece else { continue };
        if x + width > end {
            break;
        }
        buffer[(x, y)].set_symbol(symbol).set_style(style);
        // What a wide character covers is no place of its own. Unlike every other place: some terminals put a part of the character
        // there (tmux the second letter of a flag), which has to be drawn over when the character goes.
        for covered in x + 1..x + width {
            buffer[(covered, y)].reset();
            buffer[(covered, y)].modifier = Modifier::HIDDEN;
        }
        x += width;
    }
    x
}

fn put_row(buffer: &mut Buffer, x: u16, y: u16, end: u16, row: &Row<'_>) {
    let mut x = x;
    for glyph in &row.glyphs {
        let style = if glyph.is_hidden { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        x = put(buffer, x, y, end, &glyph.text, style);
    }
}

fn draw_rule(model: &Model, shown: u16, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    (area.left()..area.right()).for_each(|x| _ = buffer[(x, area.y)].set_symbol("─").set_style(dim()));
    let draft = model.editor.layout(editor_columns(area.width)).0.len();
    let hint = match (model.anchor, model.unseen) {
        _ if model.list.is_open => " Enter opens · Tab goes back · /to USER · /help ".to_owned(),
        (Some(_), 0) => " older messages · Esc: newest ".to_owned(),
        (Some(_), unseen) => format!(" {unseen} new below · Esc: newest "),
        (None, _) if draft > usize::from(shown) => {
            format!(" a draft of {draft} rows · Enter sends · Ctrl-C: put away ")
        }
        (None, _) => " Enter sends · Alt-Enter: new line · Tab: conversations · /help ".to_owned(),
    };
    let width = hint.width() as u16;
    if area.width > width + 2 {
        let style = if model.anchor.is_some() { bold() } else { dim() };
        put(buffer, area.right() - width - 1, area.y, area.right(), &hint, style);
    }
}

fn draw_notice(model: &Model, area: Rect, buffer: &mut Buffer) {
    let Some(notice) = &model.notice else { return };
    for (row, y) in wrap::rows(&notice.text, area.width).iter().zip(area.top()..area.bottom()) {
        put_row(buffer, area.x, y, area.right(), row);
    }
}

fn draw_editor(model: &Model, area: Rect, buffer: &mut Buffer) -> Option<Position> {
    if area.is_empty() {
        return None;
    }
    let (rows, row, column) = model.editor.layout(editor_columns(area.width));
    let first = row.saturating_sub(usize::from(area.height) - 1);
    let x = put(buffer, area.x, area.y, area.right(), if first == 0 { PROMPT } else { "… " }, bold());
    for (row, y) in rows.iter().skip(first).zip(area.top()..area.bottom()) {
        put_row(buffer, x, y, area.right(), row);
    }
    let at = Position { x: (x + column).min(area.right() - 1), y: area.y + (row - first) as u16 };
    Some(at)
}

/// Instead of the conversation, until the next key.
fn draw_text(text: &str, area: Rect, buffer: &mut Buffer) {
    let rows = text.lines().flat_map(|line| wrap::rows(line, area.width));
    for (row, y) in rows.zip(area.top()..area.bottom()) {
        put_row(buffer, area.x, y, area.right(), &row);
    }
}

fn draw_messages(model: &Model, area: Rect, buffer: &mut Buffer) {
    let mut above = Above::new(model, bottom(model));
    let mut y = area.bottom();
    while y > area.top() {
        let Some(line) = above.next() else { break };
        y -= 1;
        let mut x = area.x;
        for (text, style) in &line.spans {
            x = put(buffer, x, y, area.right(), text, *style);
        }
    }
    if y == area.bottom() && area.height > 0 && model.link == Link::Connected {
        put(buffer, area.x, area.bottom() - 1, area.right(), "Nothing here yet.", dim());
    }
}

/// The lowest row that is shown: that of the anchor, or the last one.
fn bottom(model: &Model) -> Option<Anchor> {
    let anchored = model.anchor.filter(|anchor| model.messages.at(anchor.place).is_some());
    anchored.or_else(|| {
        let place = model.messages.last()?;
        Some(Anchor { place, row: usize::MAX })
    })
}

/// The rows of the conversation from one upwards.
struct Above<'a> {
    model: &'a Model,
    next: Option<Place>,
    /// Of the message that is being shown, those that are still to come.
    lines: Vec<Line>,
}

impl<'a> Above<'a> {
    fn new(model: &'a Model, from: Option<Anchor>) -> Self {
        let mut above = Self { model, next: from.map(|anchor| anchor.place), lines: Vec::new() };
        if let Some(anchor) = from {
            above.load();
            above.lines.truncate(anchor.row.saturating_add(1));
        }
        above
    }

    fn load(&mut self) {
        if let Some(place) = self.next {
            self.lines = lines(self.model, place);
            self.next = self.model.messages.before(place);
        }
    }
}

impl Iterator for Above<'_> {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.lines.is_empty() {
            self.load();
        }
        self.lines.pop()
    }
}

/// The anchor so many rows higher, and whether that is as high as it goes.
pub(crate) fn up(model: &Model, rows: usize) -> (Option<Anchor>, bool) {
    let Some(from) = bottom(model) else { return (None, true) };
    let height = usize::from(message_rows(model)).max(1);
    // The rows from the top of the conversation to the bottom of the window, lowest first.
    let mut seen: Vec<Anchor> = Vec::new();
    let mut place = Some(from.place);
    while let Some(at) = place {
        let count = lines(model, at).len();
        let shown = if at == from.place { count.min(from.row.saturating_add(1)) } else { count };
        seen.extend((0..shown).rev().map(|row| Anchor { place: at, row }));
        if seen.len() >= rows.saturating_add(height) {
            break;
        }
        place = model.messages.before(at);
    }
    let highest = seen.len().saturating_sub(height);
    let is_top = rows >= highest && place.is_none();
    let anchor = seen.get(rows.min(highest)).copied();
    // In a conversation that the window shows whole there is nothing to scroll.
    (anchor.filter(|_| highest > 0).or(model.anchor), is_top)
}

/// The anchor so many rows lower; none when that is the last row.
pub(crate) fn down(model: &Model, rows: usize) -> Option<Anchor> {
    let mut anchor = model.anchor?;
    let mut left = rows;
    loop {
        let below = lines(model, anchor.place).len().saturating_sub(anchor.row + 1);
        let next = model.messages.after(anchor.place);
        if left <= below {
            let is_last = left == below && next.is_none();
            return (!is_last).then_some(Anchor { row: anchor.row + left, ..anchor });
        }
        // The first row of the next message is one further.
        left -= below + 1;
        anchor = Anchor { place: next?, row: 0 };
    }
}

/// All rows of one message, with the day above it where that changes.
fn lines(model: &Model, place: Place) -> Vec<Line> {
    let Some(message) = model.messages.at(place) else { return Vec::new() };
    let columns = model.size.0;
    let time = local(model, message.time);
    let before = model.messages.before(place).and_then(|place| model.messages.at(place));
    let mut lines = Vec::new();
    if before.is_none_or(|before| local(model, before.time).date() != time.date()) {
        lines.push(day(time.date(), columns));
    }
    let (tick, tick_style) = match message.tick {
        Tick::None => ("", Style::new()),
        Tick::Waiting => ("◷", Style::new()),
        Tick::InTheLog => ("✓", Style::new()),
        Tick::Delivered => ("✓✓", Style::new()),
        Tick::Seen => ("●", Style::new()),
        Tick::Refused(_) => ("✗", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)),
    };
    let (author, author_style) = match message.author {
        Author::Me => ("you".to_owned(), Style::new()),
        Author::Other(user) => (user.to_string(), bold()),
    };
    let names = name_columns(model);
    let head = vec![
        (time.strftime("%H:%M").to_string(), dim()),
        (format!(" {tick:<2} "), tick_style),
        (format!("{author:>names$}"), author_style),
        ("  ".to_owned(), Style::new()),
    ];
    let indent: u16 = head.iter().map(|(text, _)| text.width() as u16).sum();
    let is_beside = columns >= indent + TEXT_COLUMNS_MIN;
    let left = if is_beside { indent } else { 0 };
    let mut head = Some(head);
    if !is_beside {
        lines.extend(head.take().map(|spans| Line { spans }));
    }
    for row in wrap::rows(message.text, columns.saturating_sub(left)) {
        let mut spans = head.take().unwrap_or_else(|| vec![(" ".repeat(left.into()), Style::new())]);
        spans.extend(row.glyphs.iter().map(|glyph| {
            let style = if glyph.is_hidden { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
            (glyph.text.to_string(), style)
        }));
        lines.push(Line { spans });
    }
    lines.extend(refusal(&message, left));
    lines
}

/// Columns of the names beside the messages, so that they do not move when the first one comes.
fn name_columns(model: &Model) -> usize {
    let names = match model.peer {
        ConversationId::Person(_) => model.peer.to_string().len(),
        ConversationId::Group(_) => model.messages.name_columns(),
    };
    names.max("you".len())
}

fn refusal(message: &Shown<'_>, left: u16) -> Option<Line> {
    let Tick::Refused(code) = message.tick else { return None };
    let words = format!("{}(not sent: {})", " ".repeat(left.into()), tame(words::refused(code)));
    Some(Line { spans: vec![(words, dim())] })
}

fn day(date: Date, columns: u16) -> Line {
    let text = date.strftime("%A, %-d %B %Y").to_string();
    let left = usize::from(columns).saturating_sub(text.len()) / 2;
    Line { spans: vec![(" ".repeat(left), Style::new()), (text, dim())] }
}

fn local(model: &Model, time: TimestampMs) -> Zoned {
    let ms = i64::try_from(time.0).ok();
    let time = ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
    time.to_zoned(model.zone.clone())
}
