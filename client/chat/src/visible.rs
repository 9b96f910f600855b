//! Which characters of a text are not shown as they are: those that a terminal obeys, that change the order of what stands
//! beside them, or that can not be seen. A message must neither move somebody's cursor nor look like what it is not.
//!
//! Invariant: what [`pieces`] calls text has a width, and no terminal does anything with it but to show it.

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

/// Characters that are shown on top of each other. The longest emoji of families and flags have eleven; a tower of accents has more.
const CLUSTER_CHARS_MAX: usize = 16;

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// What a reader takes for one character, and the columns that it fills: 1 or 2.
    Text(&'a str, u16),
    /// To be shown by its number.
    Hidden(char),
    /// The end of a line.
    Break,
}

/// A text in the order in which it is shown.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::with_capacity(text.len());
    for cluster in text.graphemes(true) {
        match cluster {
            "\n" | "\r\n" => pieces.push(Piece::Break),
            _ => split(cluster, &mut pieces),
        }
    }
    pieces
}

/// Cuts what belongs together where something hides in it.
fn split<'a>(cluster: &'a str, pieces: &mut Vec<Piece<'a>>) {
    let mut rest = cluster;
    while let Some(first) = rest.chars().next() {
        let mut previous = None;
        let shown = rest.char_indices().enumerate().find_map(|(count, (at, c))| {
            let is_hidden = count == CLUSTER_CHARS_MAX || hides(c, previous, first);
            previous = Some(c);
            is_hidden.then_some(at)
        });
        let (text, left) = rest.split_at(shown.unwrap_or(rest.len()));
        match u16::try_from(text.width()) {
            Ok(width @ 1..) => {
                // Some scripts have letters of three columns; no terminal agrees with another about them.
                pieces.push(Piece::Text(text, width.min(2)));
                rest = left;
            }
            _ => {
                pieces.push(Piece::Hidden(first));
                rest = &rest[first.len_utf8()..];
            }
        }
    }
}

/// Whether `c`, behind `previous` in a cluster that begins with `first`, is not to be shown as it is.
fn hides(c: char, previous: Option<char>, first: char) -> bool {
    match c {
        _ if c.is_control() => true,
        // Joiners make emoji of several, and Persian words of their letters; between other letters they are only not seen.
        '\u{200c}' | '\u{200d}' => previous.is_none_or(|previous| previous.is_ascii()),
        // How the character before is to look.
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => previous.is_none(),
        // The letters of a flag.
        '\u{e0020}'..='\u{e007f}' => first != '\u{1f3f4}',
        // Order of writing: marks, embeddings, overrides, isolates.
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Ends of lines that no terminal takes for one.
        '\u{2028}' | '\u{2029}' => true,
        // Without width, or blank though they count as letters.
        '\u{00ad}' | '\u{034f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' => true,
        '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{2800}' | '\u{3164}' => true,
        '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e001f}' => true,
        '\u{e0080}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// On one line, and reversible: for a script.
pub(crate) fn escaped(text: &str) -> String {
    written(text, "\\\\", "\\n")
}

/// On one line, for a person.
pub(crate) fn tame(text: &str) -> String {
    written(text, "\\", " ⏎ ")
}

fn written(text: &str, backslash: &str, line_break: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text("\\", _) => out.push_str(backslash),
            Piece::Text(text, _) => out.push_str(text),
            Piece::Hidden(c) => out.extend(c.escape_unicode()),
            Piece::Break => out.push_str(line_break),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Vec<char> {
        let hidden = |piece| if let Piece::Hidden(c) = piece { Some(c) } else { None };
        pieces(text).into_iter().filter_map(hidden).collect()
    }

    #[test]
    fn a_text_can_not_command_a_terminal() {
        assert_eq!(escaped("\u{1b}[2Jgone\u{9b}1m\u{7f}\u{0}\t"), r"\u{1b}[2Jgone\u{9b}1m\u{7f}\u{0}\u{9}");
        assert_eq!(hidden("a\rb"), ['\r']);
    }

    #[test]
    fn a_text_can_not_turn_what_stands_beside_it() {
        for c in
            "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}".chars()
        {
            assert_eq!(hidden(&format!("invoice{c}fdp.exe")), [c]);
        }
        assert_eq!(hidden("שלום, العالم"), []);
    }

    #[test]
    fn what_can_not_be_seen_is_made_visible() {
        for c in
            "\u{200b}\u{2060}\u{feff}\u{ad}\u{2028}\u{2029}\u{3164}\u{115f}\u{180e}\u{e0041}\u{34f}\u{2062}".chars()
        {
            assert_eq!(hidden(&format!("pay{c}pal")), [c]);
        }
        assert_eq!(hidden("pay\u{200d}pal"), ['\u{200d}']);
        assert_eq!(hidden("\u{301}accent on nothing"), ['\u{301}']);
        let tower = format!("e{}", "\u{301}".repeat(40));
        assert_eq!(hidden(&tower).len(), 25);
    }

    #[test]
    fn emoji_and_scripts_that_need_joiners_are_left_alone() {
        for text in ["👩‍🚀", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "❤️", "می‌خواهم", "é e\u{301}", "中文", "Привет"]
        {
            assert_eq!(hidden(text), [], "{text}");
        }
        assert_eq!(pieces("👩‍🚀"), [Piece::Text("👩‍🚀", 2)]);
    }

    #[test]
    fn line_breaks_are_line_breaks() {
        let [a, b] = [Piece::Text("a", 1), Piece::Text("b", 1)];
        assert_eq!(pieces("a\nb\r\n\na"), [a, Piece::Break, b, Piece::Break, Piece::Break, a]);
        assert_eq!(escaped("a\\\nb"), r"a\\\nb");
    }

    #[test]
    fn every_character_is_shown_or_named() {
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let text = format!("a{c}b");
            let shown: usize =
                pieces(&text).iter().map(|piece| usize::from(matches!(piece, Piece::Text(_, 1..=2)))).sum();
            assert!(shown >= 2, "{c:?}");
        }
    }
}
