//! Writes the bindings for a language from the built library: see README.md beside this crate.

fn main() {
    uniffi::uniffi_bindgen_main();
}
