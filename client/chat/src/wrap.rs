//! Text in rows of so many columns. What is measured is what a terminal shows: columns, not bytes or characters.
//!
//! Invariant: no row is wider than asked for, but for one blank at its end, which is not drawn.

use std::{borrow::Cow, ops::Range};

use crate::visible::{Piece, pieces};

/// What stands for a tab.
const TAB: &str = "    ";

/// One thing that stands in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glyph<'a> {
    /// Where it begins in the text, in bytes.
    pub(crate) at: usize,
    pub(crate) text: Cow<'a, str>,
    pub(crate) width: u16,
    /// The number of a character that is not shown as it is.
    pub(crate) is_hidden: bool,
}

/// One row, and which bytes of the text it shows; a line break at its end is one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) glyphs: Vec<Glyph<'a>>,
    pub(crate) bytes: Range<usize>,
    pub(crate) ends_in_break: bool,
}

impl Row<'_> {
    fn width(&self) -> u16 {
        self.glyphs.iter().map(|glyph| glyph.width).sum()
    }

    /// Columns before what begins at this byte of the text.
    pub(crate) fn column_of(&self, at: usize) -> u16 {
        self.glyphs.iter().take_while(|glyph| glyph.at < at).map(|glyph| glyph.width).sum()
    }

    /// The byte of the text that begins in this column, or the last place of the row.
    pub(crate) fn byte_at(&self, column: u16) -> usize {
        let mut left = 0;
        for glyph in &self.glyphs {
            if left + glyph.width > column {
                return glyph.at;
            }
            left += glyph.width;
        }
        let last = self.glyphs.last().map_or(self.bytes.start, |glyph| glyph.at);
        // Behind the last glyph is the next row, unless the line ends here.
        if self.ends_in_break { self.bytes.end - 1 } else { last }
    }

    #[cfg(test)]
    fn text(&self) -> String {
        self.glyphs.iter().map(|glyph| &*glyph.text).collect()
    }
}

/// The rows of a text: at least one. Broken behind a blank or beside a wide character where there is one, else anywhere.
pub(crate) fn rows(text: &str, width: u16) -> Vec<Row<'_>> {
    let width = width.max(1);
    let mut rows = Vec::new();
    let mut row = Row::default();
    let mut at = 0;
    for piece in pieces(text) {
        let (glyph, bytes) = match piece {
            Piece::Break => {
                let bytes = if text[at..].starts_with('\r') { 2 } else { 1 };
                at += bytes;
                rows.push(Row { bytes: row.bytes.start..at, ends_in_break: true, glyphs: row.glyphs });
                row = Row { bytes: at..at, ..Row::default() };
                continue;
            }
            Piece::Text(text, wide) if wide > width => (glyph(at, "…".into(), false), text.len()),
            Piece::Text(text, _) => (glyph(at, text.into(), false), text.len()),
            Piece::Hidden('\t') => (glyph(at, TAB[..TAB.len().min(width.into())].into(), false), 1),
            Piece::Hidden(c) => {
                let mut name = format!("U+{:04X}", u32::from(c));
                name.truncate(width.into());
                (glyph(at, name.into(), true), c.len_utf8())
            }
        };
        let may_hang = glyph.text == " " && row.width() == width;
        while !may_hang && !row.glyphs.is_empty() && row.width() + glyph.width > width {
            let keep = break_before(&row.glyphs, &glyph);
            let moved = row.glyphs.split_off(keep);
            let begins = moved.first().map_or(at, |first| first.at);
            rows.push(Row { bytes: row.bytes.start..begins, ends_in_break: false, glyphs: row.glyphs });
            row = Row { bytes: begins..at, glyphs: moved, ends_in_break: false };
        }
        row.glyphs.push(glyph);
        at += bytes;
        row.bytes.end = at;
    }
    rows.push(row);
    rows
}

fn glyph<'a>(at: usize, text: Cow<'a, str>, is_hidden: bool) -> Glyph<'a> {
    let width = match &*text {
        "…" => 1,
        text => unicode_width::UnicodeWidthStr::width(text).clamp(1, usize::from(u16::MAX)) as u16,
    };
    Glyph { at, text, width, is_hidden }
}

/// How many glyphs of a full row stay in it when `next` does not fit.
fn break_before(row: &[Glyph<'_>], next: &Glyph<'_>) -> usize {
    let may_break = |before: &Glyph<'_>, after: &Glyph<'_>| before.text == " " || before.width == 2 || after.width == 2;
    let pairs = row.iter().zip(row.iter().skip(1).chain([next]));
    let place =
        pairs.enumerate().filter(|(_, (before, after))| may_break(before, after)).map(|(place, _)| place + 1).last();
    place.unwrap_or(row.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, width: u16) -> Vec<String> {
        rows(text, width).iter().map(Row::text).collect()
    }

    #[test]
    fn words_stay_whole_where_they_fit() {
        assert_eq!(texts("the quick brown fox", 10), ["the quick ", "brown fox"]);
        assert_eq!(texts("extraordinarily", 6), ["extrao", "rdinar", "ily"]);
        assert_eq!(texts("", 10), [""]);
        assert_eq!(texts("a\n\nb\n", 10), ["a", "", "b", ""]);
    }

    #[test]
    fn columns_are_counted_and_not_bytes() {
        assert_eq!(texts(&"й".repeat(12), 6), ["йййййй", "йййййй"]);
        assert_eq!(texts(&"中".repeat(7), 5), ["中中", "中中", "中中", "中"]);
        assert_eq!(texts("ab中c", 3), ["ab", "中c"]);
    }

    #[test]
    fn no_row_is_wider_than_asked_for_and_nothing_is_left_out() {
        let text = "a 中文 🏴󠁧󠁢󠁳󠁣󠁴󠁿\u{202e}  tab\tthe end\r\nnext   blanks    here";
        for width in 1..40 {
            let rows = rows(text, width);
            let mut at = 0;
            for row in &rows {
                let blank = row.glyphs.last().filter(|glyph| glyph.text == " ").map_or(0, |glyph| glyph.width);
                assert!(row.width() <= width + blank, "{width}: {row:?}");
                assert_eq!(row.bytes.start, at);
                at = row.bytes.end;
            }
            assert_eq!(at, text.len());
        }
    }

    #[test]
    fn what_is_hidden_is_named() {
        assert_eq!(texts("a\u{202e}b", 20), ["aU+202Eb"]);
    }
}
