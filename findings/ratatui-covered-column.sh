#!/usr/bin/env bash
# ratatui-core 0.1.2, `Buffer::diff`.
#
# Guess: when a character of two columns goes, the diff writes both of its columns anew, whatever stands there now, since a terminal
# may have drawn something in each.
#
# Behaviour: the second column is written only if the character that goes had a background colour or a modifier that shows on blanks
# (underlined, reversed). In plain style it is left as it is, because a blank stood there before and a blank stands there now.
#
# Why it matters here: terminals that draw the two letters of a flag one by one (tmux) keep the second letter on the screen, over
# whatever the chat shows next. The chat marks covered columns, so that they differ from every other place.
#
# Needs cargo. Takes about a minute.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"

[dependencies]
ratatui-core = "=0.1.2"
TOML
cat >src/main.rs <<'RS'
use ratatui_core::{buffer::Buffer, layout::Rect, style::{Modifier, Style}};

/// The columns that are written when a flag in this style gives way to blanks.
fn written(style: Style) -> Vec<u16> {
    let area = Rect::new(0, 0, 4, 1);
    let (mut old, new) = (Buffer::empty(area), Buffer::empty(area));
    old.set_string(0, 0, "\u{1f1e9}\u{1f1ea}", style);
    old.diff(&new).into_iter().map(|(x, ..)| x).collect()
}

fn main() {
    let plain = written(Style::new());
    let underlined = written(Style::new().add_modifier(Modifier::UNDERLINED));
    println!("columns written when a plain flag goes: {plain:?}; when an underlined one does: {underlined:?}");
    std::process::exit(i32::from(plain != [0] || underlined != [0, 1]));
}
RS
cargo run --quiet
