//! What SPEC.md says, for tests that show that it is so.

const SPEC: &str = include_str!("../../proto-spec/SPEC.md");

/// SPEC.md has these words, wherever its lines are broken: a test that begins with this shows that they are true.
///
/// # Panics
/// It does not, or not any more: the test is to be looked at again.
#[track_caller]
pub fn says(words: &str) {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat(SPEC).contains(&flat(words)), "SPEC.md does not say: {words}");
}
