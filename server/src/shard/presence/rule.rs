//! The rule: who may see whether a user is there. One place, asked at the home of who is looked at, with what the two logs say.
//! An application that wants another one adds it here, and its name to `presence.shown_to`.

/// `presence.shown_to`: to whom users are shown who do not hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownTo {
    /// To those with whom they have a conversation, whoever wrote in it, and whom they do not block.
    #[default]
    Conversation,
    /// To those to whom they have written, and whom they do not block.
    Written,
    /// To nobody: then there is no presence and no typing.
    Nobody,
}

/// What the log of who is looked at says of their conversation with who looks, and the other way round who blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Relation {
    /// The one who is looked at has written to who looks.
    pub(super) has_written: bool,
    /// The one who looks has written to them.
    pub(super) has_received: bool,
    /// One of the two blocks the other: then neither sees.
    pub(super) is_blocked: bool,
}

/// Whether who looks may see what there is to see.
pub(super) const fn may_see(shown_to: ShownTo, relation: Relation) -> bool {
    let is_known = match shown_to {
        ShownTo::Conversation => relation.has_written || relation.has_received,
        ShownTo::Written => relation.has_written,
        ShownTo::Nobody => false,
    };
    is_known && !relation.is_blocked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_see_is_what_the_operator_and_the_user_say() {
        for (has_written, has_received, is_blocked) in
            [(true, true, false), (true, false, false), (false, true, false), (false, false, false), (true, true, true)]
        {
            let relation = Relation { has_written, has_received, is_blocked };
            assert_eq!(may_see(ShownTo::Conversation, relation), (has_written || has_received) && !is_blocked);
            assert_eq!(may_see(ShownTo::Written, relation), has_written && !is_blocked);
            assert!(!may_see(ShownTo::Nobody, relation));
        }
    }
}
