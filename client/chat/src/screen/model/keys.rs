//! What a key does, and what is pasted. Enter is in `commands.rs`.

use client::TEXT_BYTES_MAX;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Model, NOBODY};
use crate::screen::{
    draw,
    editor::Source,
    effect::{Effect, Now},
    notice::About,
};

impl Model {
    pub(super) fn on_key(&mut self, now: Now, key: KeyEvent, effects: &mut Vec<Effect>) {
        self.notice.take_if(|notice| notice.about == About::Typing);
        let covers = std::mem::take(&mut self.shows_help) | self.listing.take().is_some();
        if covers && key.code == KeyCode::Esc {
            return;
        }
        let has = |modifier| key.modifiers.contains(modifier);
        let (control, alt) = (has(KeyModifiers::CONTROL), has(KeyModifiers::ALT));
        let columns = draw::editor_columns(self.size.0);
        let page = usize::from(draw::message_rows(self)).saturating_sub(1).max(1);
        if self.list.is_open && self.on_list_key(key.code, page, effects) {
            return;
        }
        match key.code {
            KeyCode::Tab if self.editor.is_empty() => self.list.is_open = true,
            KeyCode::Enter if alt || has(KeyModifiers::SHIFT) => self.typed("\n"),
            KeyCode::Enter => self.enter(now, effects),
            KeyCode::Char('j') if control => self.typed("\n"),
            KeyCode::Char('c') if control => {
                if self.editor.is_empty() || self.leaving.is_some() {
                    self.leave(now, effects);
                } else {
                    self.drafts.put_away(&mut self.editor);
                    self.say("The draft was put away: Ctrl-P brings it back, Ctrl-C again leaves.");
                }
            }
            KeyCode::Char('d') if control && self.editor.is_empty() => self.leave(now, effects),
            KeyCode::Char('d') if control => self.editor.erase_right(),
            KeyCode::Char('z') if control => effects.push(Effect::Suspend),
            KeyCode::Char('a') if control => self.editor.go_to_line_start(),
            KeyCode::Char('e') if control => self.editor.go_to_line_end(),
            KeyCode::Char('b') if control => self.editor.go_left(),
            KeyCode::Char('f') if control => self.editor.go_right(),
            KeyCode::Char('h') if control => self.editor.erase_left(),
            KeyCode::Char('k') if control => self.editor.erase_to_line_end(),
            KeyCode::Char('u') if control => self.editor.erase_to_line_start(),
            KeyCode::Char('w') if control => self.editor.erase_word_left(),
            // What terminals send for Ctrl-_ and Ctrl-/.
            KeyCode::Char('_' | '/' | '7') if control => self.editor.undo(),
            KeyCode::Char('p') if control => self.drafts.recall_older(&mut self.editor),
            KeyCode::Char('n') if control => self.drafts.recall_newer(&mut self.editor),
            KeyCode::Char('b') if alt => self.editor.go_word_left(),
            KeyCode::Char('f') if alt => self.editor.go_word_right(),
            KeyCode::Char(c) if !control && !alt => self.typed(c.encode_utf8(&mut [0; 4])),
            KeyCode::Tab => self.typed("\t"),
            KeyCode::Backspace if alt || control => self.editor.erase_word_left(),
            KeyCode::Backspace => self.editor.erase_left(),
            KeyCode::Delete => self.editor.erase_right(),
            KeyCode::Left if alt || control => self.editor.go_word_left(),
            KeyCode::Right if alt || control => self.editor.go_word_right(),
            KeyCode::Left => self.editor.go_left(),
            KeyCode::Right => self.editor.go_right(),
            KeyCode::Home if control => self.scroll_up(usize::MAX, effects),
            KeyCode::End if control => self.follow(),
            KeyCode::Home => self.editor.go_to_line_start(),
            KeyCode::End => self.editor.go_to_line_end(),
            // Most terminals make these of the wheel.
            KeyCode::Up => {
                let has_moved = self.editor.go_up(columns);
                if !has_moved {
                    self.scroll_up(1, effects);
                }
            }
            KeyCode::Down => {
                let has_moved = self.editor.go_down(columns);
                if !has_moved {
                    self.scroll_down(1);
                }
            }
            KeyCode::PageUp => self.scroll_up(page, effects),
            KeyCode::PageDown => self.scroll_down(page),
            KeyCode::Esc => self.follow(),
            _ => {}
        }
    }

    /// A key while the list is shown. False: it means what it always means.
    fn on_list_key(&mut self, code: KeyCode, page: usize, effects: &mut Vec<Effect>) -> bool {
        let rows = self.size.1;
        match code {
            KeyCode::Up => self.list.up(1),
            KeyCode::PageUp => self.list.up(page),
            KeyCode::Down => effects.extend(self.list.down(1, rows).map(Effect::FetchInbox)),
            KeyCode::PageDown => effects.extend(self.list.down(page, rows).map(Effect::FetchInbox)),
            KeyCode::Tab | KeyCode::Esc if self.peer != NOBODY => self.list.is_open = false,
            KeyCode::Tab | KeyCode::Esc => {}
            _ => return false,
        }
        true
    }

    fn typed(&mut self, text: &str) {
        self.insert(text, Source::Typed);
    }

    pub(super) fn on_paste(&mut self, text: &str) {
        self.notice.take_if(|notice| notice.about == About::Typing);
        self.shows_help = false;
        self.listing = None;
        self.insert(text, Source::Pasted);
    }

    fn insert(&mut self, text: &str, source: Source) {
        self.people.typed();
        if let Err(too_long) = self.editor.insert(text, source) {
            let what = match source {
                Source::Typed => "",
                Source::Pasted => " The pasted text was left out, the draft is as it was: paste it in parts.",
            };
            let bytes = too_long.bytes;
            self.say(format!("A message has at most {TEXT_BYTES_MAX} bytes, with this it would have {bytes}.{what}"));
        }
    }
}
