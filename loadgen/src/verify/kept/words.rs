//! Kept messages in words, for who looks for what went wrong.

use super::{Answer, Change, Kept, Says, Shown};

impl Kept {
    /// What is missing, in words.
    pub(in crate::verify) fn what_is_missing(&self) -> String {
        let open = self.said.iter().enumerate().filter(|(_, said)| said.answer == Answer::Open);
        let open = open.map(|(which, _)| format!("{} was never answered", self.words(Says::Change(which as u8))));
        let deleting = self.sides.iter().filter(|side| side.deletions.0 != side.deletions.1);
        let deleting = deleting.map(|side| format!("its deletion by user {} was never answered", side.user));
        let differ =
            self.devices().filter(|(_, _, shown, wanted)| shown != wanted).map(|(user, device, shown, wanted)| {
                format!(
                    "user {user} device {device} was told {}, not {}",
                    self.shown_words(shown),
                    self.shown_words(wanted)
                )
            });
        open.chain(deleting).chain(differ).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn shown_words(&self, shown: Shown) -> String {
        if shown.is_deleted {
            return "that it was deleted".to_owned();
        }
        let mut words = self.words(shown.says);
        for which in shown.reactions.into_iter().flatten() {
            words += " with ";
            words += &self.words(Says::Change(which));
        }
        words
    }

    /// A change, in words.
    pub(in crate::verify) fn change_words(&self, which: u8) -> String {
        self.words(Says::Change(which))
    }

    fn words(&self, says: Says) -> String {
        match says {
            Says::Nothing => "nothing".to_owned(),
            Says::Written => "what it said at first".to_owned(),
            Says::Change(which) => {
                let (change, edits) = self.change(which);
                let user = self.sides[self.said[usize::from(which)].by].user;
                match change {
                    Change::Edit => format!("edit {}", edits + 1),
                    Change::Unsend => "that it was taken back".to_owned(),
                    Change::React("") => format!("no reaction of user {user}"),
                    Change::React(reaction) => format!("the reaction {reaction} of user {user}"),
                }
            }
        }
    }
}
