//! The draft of a message: its text, the cursor in it, what can be undone. Knows neither keys nor the screen.
//!
//! Invariants: the cursor is between two characters as a reader sees them; `text.len() <= TEXT_BYTES_MAX`.

use client::TEXT_BYTES_MAX;
use unicode_segmentation::UnicodeSegmentation as _;

use crate::wrap::{self, Row};

/// Edits that can be undone. At most 2 MiB of drafts, and more than anybody remembers.
const UNDO_MAX: usize = 128;

/// Why an insertion was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong {
    /// Bytes that the draft would have.
    pub(crate) bytes: usize,
}

/// Where text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Typed,
    /// Never a command.
    Pasted,
}

/// How an edit goes together with the one before, so that both are undone at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    /// Letters of one word.
    Letter,
    Erase,
    Other,
}

#[derive(Clone, Debug, Default)]
struct Draft {
    text: String,
    cursor: usize,
    /// Some of it was not typed.
    has_pasted: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Editor {
    draft: Draft,
    undo: Vec<Draft>,
    last: Option<Edit>,
    /// The column that moving up and down tries to keep.
    column: Option<u16>,
}

impl Editor {
    pub(crate) fn text(&self) -> &str {
        &self.draft.text
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.draft.text.is_empty()
    }

    /// So it is no command.
    pub(crate) const fn has_pasted(&self) -> bool {
        self.draft.has_pasted
    }

    /// The rows of the draft, and row and column of the cursor.
    pub(crate) fn layout(&self, width: u16) -> (Vec<Row<'_>>, usize, u16) {
        let mut rows = wrap::rows(&self.draft.text, width);
        let row = self.row_of_cursor(&rows);
        let column = rows[row].column_of(self.draft.cursor);
        if column >= width {
            // Behind a full row, which is where the next one begins.
            rows.push(Row { bytes: self.draft.text.len()..self.draft.text.len(), ..Row::default() });
            return (rows, row + 1, 0);
        }
        (rows, row, column)
    }

    fn row_of_cursor(&self, rows: &[Row<'_>]) -> usize {
        rows.iter().position(|row| self.draft.cursor < row.bytes.end).unwrap_or(rows.len() - 1)
    }

    pub(crate) fn insert(&mut self, new: &str, source: Source) -> Result<(), TooLong> {
        // What ends a line on a keyboard or in somebody's file ends it here.
        let new = new.replace("\r\n", "\n").replace('\r', "\n");
        let bytes = self.draft.text.len() + new.len();
        if bytes > TEXT_BYTES_MAX {
            return Err(TooLong { bytes });
        }
        let is_letter = source == Source::Typed && !new.chars().any(char::is_whitespace);
        self.remember(if is_letter { Edit::Letter } else { Edit::Other });
        self.draft.text.insert_str(self.draft.cursor, &new);
        self.draft.cursor += new.len();
        self.draft.has_pasted |= source == Source::Pasted;
        self.settle();
        Ok(())
    }

    pub(crate) fn erase_left(&mut self) {
        self.erase(self.left_of(self.draft.cursor), self.draft.cursor, Edit::Erase);
    }

    pub(crate) fn erase_right(&mut self) {
        self.erase(self.draft.cursor, self.right_of(self.draft.cursor), Edit::Erase);
    }

    pub(crate) fn erase_word_left(&mut self) {
        self.erase(self.word_left_of(self.draft.cursor), self.draft.cursor, Edit::Other);
    }

    pub(crate) fn erase_to_line_start(&mut self) {
        self.erase(self.line_start(), self.draft.cursor, Edit::Other);
    }

    pub(crate) fn erase_to_line_end(&mut self) {
        self.erase(self.draft.cursor, self.line_end(), Edit::Other);
    }

    pub(crate) fn go_left(&mut self) {
        self.go(self.left_of(self.draft.cursor));
    }

    pub(crate) fn go_right(&mut self) {
        self.go(self.right_of(self.draft.cursor));
    }

    pub(crate) fn go_word_left(&mut self) {
        self.go(self.word_left_of(self.draft.cursor));
    }

    pub(crate) fn go_word_right(&mut self) {
        let words = self.draft.text[self.draft.cursor..].unicode_word_indices();
        let end = words.map(|(at, word)| self.draft.cursor + at + word.len()).next();
        self.go(end.unwrap_or(self.draft.text.len()));
    }

    pub(crate) fn go_to_line_start(&mut self) {
        self.go(self.line_start());
    }

    pub(crate) fn go_to_line_end(&mut self) {
        self.go(self.line_end());
    }

    /// False: it is in the first row already.
    pub(crate) fn go_up(&mut self, width: u16) -> bool {
        self.go_rows(width, |row, _| row.checked_sub(1))
    }

    /// False: it is in the last row already.
    pub(crate) fn go_down(&mut self, width: u16) -> bool {
        self.go_rows(width, |row, rows| (row + 1 < rows).then_some(row + 1))
    }

    /// Takes the last edit back.
    pub(crate) fn undo(&mut self) {
        if let Some(draft) = self.undo.pop() {
            self.draft = draft;
            self.last = None;
            self.column = None;
        }
    }

    /// Takes the draft away; it can be undone.
    pub(crate) fn take(&mut self) -> String {
        self.remember(Edit::Other);
        std::mem::take(&mut self.draft).text
    }

    /// Puts another draft in place of this one, which is never a command; it can be undone.
    pub(crate) fn replace(&mut self, text: String) {
        self.remember(Edit::Other);
        self.draft = Draft { cursor: text.len(), has_pasted: !text.is_empty(), text };
    }

    fn go(&mut self, to: usize) {
        self.draft.cursor = to;
        self.last = None;
        self.column = None;
    }

    fn go_rows(&mut self, width: u16, to: impl Fn(usize, usize) -> Option<usize>) -> bool {
        let (rows, row, column) = self.layout(width);
        let Some(to) = to(row, rows.len()) else { return false };
        let column = self.column.unwrap_or(column);
        let last = to + 1 == rows.len();
        let cursor = rows[to].byte_at(column);
        // Behind the last character there is one more place, and only there.
        let is_behind = last && rows[to].column_of(self.draft.text.len()) <= column;
        self.go(if is_behind { self.draft.text.len() } else { cursor });
        // What is shown apart may belong together.
        self.settle();
        self.column = Some(column);
        true
    }

    fn erase(&mut self, from: usize, to: usize, edit: Edit) {
        if from == to {
            return;
        }
        self.remember(edit);
        self.draft.text.replace_range(from..to, "");
        self.draft.cursor = from;
        self.draft.has_pasted &= !self.draft.text.is_empty();
        self.settle();
    }

    fn remember(&mut self, edit: Edit) {
        if edit == Edit::Other || self.last != Some(edit) {
            if self.undo.len() == UNDO_MAX {
                self.undo.remove(0);
            }
            self.undo.push(self.draft.clone());
        }
        self.last = Some(edit);
        self.column = None;
    }

    /// To the end of the character that the cursor is in: what was typed may have grown together with what is behind it.
    fn settle(&mut self) {
        let boundary = self.draft.text.grapheme_indices(true).map(|(at, _)| at).find(|at| *at >= self.draft.cursor);
        self.draft.cursor = boundary.unwrap_or(self.draft.text.len());
    }

    fn left_of(&self, at: usize) -> usize {
        self.draft.text[..at].graphemes(true).next_back().map_or(0, |cluster| at - cluster.len())
    }

    fn right_of(&self, at: usize) -> usize {
        self.draft.text[at..].graphemes(true).next().map_or(at, |cluster| at + cluster.len())
    }

    fn word_left_of(&self, at: usize) -> usize {
        self.draft.text[..at].unicode_word_indices().next_back().map_or(0, |(start, _)| start)
    }

    fn line_start(&self) -> usize {
        self.draft.text[..self.draft.cursor].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.draft.text[self.draft.cursor..].find('\n').map_or(self.draft.text.len(), |at| self.draft.cursor + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Editor {
        let mut editor = Editor::default();
        text.chars().for_each(|c| editor.insert(&c.to_string(), Source::Typed).expect("it is short"));
        editor
    }

    fn cursor(editor: &Editor, width: u16) -> (usize, u16) {
        let (_, row, column) = editor.layout(width);
        (row, column)
    }

    #[test]
    fn the_cursor_moves_over_characters_as_a_reader_sees_them() {
        let mut editor = typed("a中👩‍🚀e\u{301}");
        assert_eq!(cursor(&editor, 20), (0, 6));
        let mut columns = Vec::new();
        for _ in 0..5 {
            editor.go_left();
            columns.push(cursor(&editor, 20).1);
        }
        assert_eq!(columns, [5, 3, 1, 0, 0]);
        editor.erase_right();
        assert_eq!(editor.text(), "中👩‍🚀e\u{301}");
    }

    #[test]
    fn up_and_down_keep_the_column_over_wrapped_and_broken_lines() {
        let mut editor = typed("abcdefgh\nij\nklmnop");
        editor.go_left();
        assert_eq!(cursor(&editor, 5), (4, 0));
        let mut editor = typed("abcd\nij\nklmnop");
        assert_eq!(cursor(&editor, 10), (2, 6));
        assert!(editor.go_up(10));
        assert_eq!(cursor(&editor, 10), (1, 2));
        assert!(editor.go_up(10));
        assert_eq!(cursor(&editor, 10), (0, 4));
        assert!(!editor.go_up(10));
        assert!(editor.go_down(10) && editor.go_down(10) && !editor.go_down(10));
        assert_eq!(cursor(&editor, 10), (2, 6));
    }

    #[test]
    fn the_cursor_behind_a_full_row_stands_in_the_next() {
        let editor = typed("中中中");
        assert_eq!(cursor(&editor, 6), (1, 0));
        assert_eq!(cursor(&typed("abc "), 4), (1, 0));
    }

    #[test]
    fn words_and_lines_are_erased_and_everything_can_be_undone() {
        let mut editor = typed("one two\nthree four");
        editor.erase_word_left();
        assert_eq!(editor.text(), "one two\nthree ");
        editor.erase_to_line_start();
        assert_eq!(editor.text(), "one two\n");
        editor.undo();
        editor.undo();
        assert_eq!(editor.text(), "one two\nthree four");
        editor.take();
        assert!(editor.is_empty());
        editor.undo();
        assert_eq!(editor.text(), "one two\nthree four");
        for _ in 0..20 {
            editor.undo();
        }
        assert!(editor.is_empty());
    }

    #[test]
    fn what_would_be_too_long_leaves_the_draft_as_it_was() {
        let mut editor = typed("ab");
        let long = "x".repeat(TEXT_BYTES_MAX - 1);
        assert_eq!(editor.insert(&long, Source::Pasted), Err(TooLong { bytes: TEXT_BYTES_MAX + 1 }));
        assert_eq!(editor.text(), "ab");
        assert!(!editor.has_pasted());
        editor.insert(&long[1..], Source::Pasted).expect("it just fits");
        assert!(editor.has_pasted());
    }

    #[test]
    fn no_sequence_of_edits_leaves_the_cursor_inside_a_character() {
        let mut editor = Editor::default();
        let parts = ["a", "\u{301}", "👩", "\u{200d}", "🚀", " ", "\n", "中", "\u{1f1e9}", "\u{1f1ea}", "\r", "\n"];
        let mut random = 1_u64;
        for _ in 0..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match random >> 59 {
                0..=11 => _ = editor.insert(parts[(random >> 33) as usize % parts.len()], Source::Typed),
                12..=13 => editor.erase_left(),
                14 => editor.erase_right(),
                15..=17 => editor.go_left(),
                18 => editor.go_right(),
                19 => editor.go_word_left(),
                20 => editor.go_word_right(),
                21 => _ = editor.go_up(7),
                22 => _ = editor.go_down(7),
                23 => editor.erase_word_left(),
                24 => editor.go_to_line_start(),
                25 => editor.go_to_line_end(),
                26 => editor.undo(),
                27 => editor.erase_to_line_end(),
                _ => {}
            }
            let at = editor.draft.cursor;
            let text = editor.text();
            let is_boundary = text.grapheme_indices(true).any(|(start, _)| start == at) || at == text.len();
            assert!(is_boundary, "{text:?} at {at}");
            let (rows, row, column) = editor.layout(7);
            assert!(row < rows.len() && column < 7);
        }
    }
}
