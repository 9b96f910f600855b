//! Every number of docs/CAPACITY.md is what the program says now. Places 500 million users for it.

use std::{collections::BTreeSet, fs, path::Path};

use capacity::{inputs::Inputs, show, simulation::simulate};

/// Numbers of a text, as they are written: with commas and a point inside. A digit that is part of a word is none.
fn numbers(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_alphanumeric() || ",._/".contains(c)));
    let words = words.map(|word| word.trim_matches([',', '.', '/']).trim_end_matches("/s"));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).collect()
}

#[test]
fn every_number_of_the_document_is_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CAPACITY.md");
    let document = fs::read_to_string(file).unwrap();
    let inputs = Inputs::default();
    let said = format!("{}\n{}", show::model(&inputs), show::simulation(&simulate(&inputs).unwrap()));
    let mut parts = document.split("```");
    let (mut prose, mut blocks) = (parts.next().unwrap().to_owned(), 0);
    while let (Some(block), Some(more)) = (parts.next(), parts.next()) {
        let lines = block.strip_prefix("text\n").expect("a block of text");
        for line in lines.lines() {
            assert!(said.lines().any(|said| said == line), "docs/CAPACITY.md says\n{line}\nand the program\n{said}");
        }
        assert!(said.contains(lines), "the lines of this block are not the program's, one after the other:\n{lines}");
        prose += more;
        blocks += 1;
    }
    assert!(blocks >= 8, "{blocks} blocks: are they still there?");
    let said = numbers(&said);
    let unsaid: Vec<&str> = numbers(&prose).into_iter().filter(|number| !said.contains(number)).collect();
    assert!(unsaid.is_empty(), "numbers of docs/CAPACITY.md that the program does not print: {unsaid:?}");
}

#[test]
fn numbers_are_found_as_they_are_written() {
    let found = numbers("A. 10,000 nodes, 1.98 hops (231,482/s), 37 % of p99, 0.39.");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["0.39", "1.98", "10,000", "231,482", "37"]);
}
