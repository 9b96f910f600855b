//! Drafts of this run that can be had again. In memory alone: a file would keep what people write to each other.
//!
//! Invariant: at most `DRAFTS_MAX`, from the newest on, none blank and none twice in a row.

use std::collections::VecDeque;

use super::editor::Editor;

/// Drafts that are kept.
const DRAFTS_MAX: usize = 50;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drafts {
    kept: VecDeque<String>,
    /// Which of them is in the editor.
    recalled: Option<usize>,
}

impl Drafts {
    pub(crate) fn remember(&mut self, draft: String) {
        self.recalled = None;
        if !draft.trim().is_empty() && self.kept.front() != Some(&draft) {
            self.kept.push_front(draft);
            self.kept.truncate(DRAFTS_MAX);
        }
    }

    /// What is in the editor is remembered, and the editor empty.
    pub(crate) fn put_away(&mut self, editor: &mut Editor) {
        self.remember(editor.take());
    }

    pub(crate) fn recall_older(&mut self, editor: &mut Editor) {
        if self.recalled.is_none() && !editor.is_empty() {
            self.put_away(editor);
            self.recalled = Some(0);
        }
        self.recall(self.recalled.map_or(0, |index| index + 1), editor);
    }

    /// The newest one is followed by an empty editor.
    pub(crate) fn recall_newer(&mut self, editor: &mut Editor) {
        match self.recalled {
            Some(0) | None => {
                self.recalled = None;
                editor.replace(String::new());
            }
            Some(index) => self.recall(index - 1, editor),
        }
    }

    fn recall(&mut self, index: usize, editor: &mut Editor) {
        if let Some(draft) = self.kept.get(index) {
            editor.replace(draft.clone());
            self.recalled = Some(index);
        }
    }
}
