//! Names that no key has: what was probably meant. PURE.

use super::Config;

/// Share of a name that may be mistyped, one in so many characters.
const TYPO_ONE_IN: usize = 3;

fn known() -> Vec<&'static str> {
    Config::default().keys().iter().map(|key| key.name).collect()
}

fn section_of(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(section, _)| section)
}

/// Whether keys stand below this name.
pub(super) fn is_section(name: &str) -> bool {
    known().iter().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// What to do about a key or a section that there is not.
pub(super) fn advice(name: &str, is_section: bool) -> String {
    let known = known();
    let short = name.rsplit('.').next().unwrap_or(name);
    if is_section {
        let sections: Vec<_> = known.iter().map(|key| section_of(key)).filter(|section| !section.is_empty()).collect();
        return match nearest(name, sections.into_iter()) {
            Some(section) => format!("there is no such section; probably [{section}] is meant"),
            None => "there is no such section; `ringpost serve --check-config` prints all there are".to_owned(),
        };
    }
    // The right name in the wrong section is the commonest mistake.
    if let Some(key) = known.iter().find(|key| key.rsplit('.').next() == Some(short)) {
        return match section_of(key) {
            "" => format!("there is no such key in [{}]: `{short}` stands above the first section", section_of(name)),
            section => format!("there is no such key here: `{short}` stands below the line [{section}]"),
        };
    }
    match nearest(name, known.iter().copied()) {
        Some(key) => format!("there is no such key; probably {key} is meant"),
        None => "there is no such key; `ringpost serve --check-config` prints all there are".to_owned(),
    }
}

/// The name that differs least, as a whole or in its last part.
fn nearest<'a>(name: &str, all: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &'a str| name.rsplit('.').next().unwrap_or(name);
    let name = &name.to_lowercase();
    let short = name.rsplit('.').next().unwrap_or(name);
    let distance =
        |other: &'a str| strsim::damerau_levenshtein(name, other).min(strsim::damerau_levenshtein(short, last(other)));
    let best = all.min_by_key(|other| distance(other))?;
    (distance(best) * TYPO_ONE_IN <= short.len()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_there_is_not_is_told_which_one_was_meant() {
        for (name, said) in [
            ("lisen", "probably listen is meant"),
            ("LISTEN", "probably listen is meant"),
            ("data-dir", "probably data_dir is meant"),
            ("limits.fetch_per_s", "probably limits.fetches_per_s is meant"),
            ("journal.listen", "`listen` stands above the first section"),
            ("fetches_per_s", "stands below the line [limits]"),
            ("store.lanes", "stands below the line [store.foundationdb]"),
            ("smtp_host", "prints all there are"),
        ] {
            assert!(advice(name, false).contains(said), "{name}: {}", advice(name, false));
        }
        assert!(advice("limit", true).contains("probably [limits] is meant"));
        assert!(advice("postgres", true).contains("prints all there are"));
    }
}
