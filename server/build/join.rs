//! Joins the modules that a script imports with it into one, so that a browser asks once instead of once for each.
//!
//! Each module becomes a function that gives what it exports, in the order in which a browser would run them:
//!
//! ```text
//! // /client/lease.js
//! const $client$lease$js = (() => {
//! …
//! return { LEASE_MS, isFree };
//! })();
//! ```
//!
//! So names stay a module's own, and line n of a module is line n below its `(() => {`: a stack trace leads back to it. It reads what is
//! written in `web/`, and no more of JavaScript: a declaration stands at the start of a line, what is imported is `{ a, b as c }` or
//! `* as name` of a path in quotes, what is exported never changes, and no module imports itself by way of others. Whatever else begins
//! with `import` or `export` is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Display, Write as _},
};

/// Why scripts can not be joined.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The path of the script.
    path: String,
    /// From 1 on.
    line: usize,
    why: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: {}", self.path, self.line, self.why)
    }
}

/// The script of a path together with all that it imports. `scripts`: all there are, by their paths.
///
/// # Errors
/// There is something in it that is not understood, or not there.
pub(crate) fn join(entry: &str, scripts: &BTreeMap<String, String>) -> Result<String, Fault> {
    let mut joiner = Joiner { scripts, exports: BTreeMap::new(), begun: BTreeSet::new(), joined: String::new() };
    joiner.add(entry, (entry, 0))?;
    Ok(joiner.joined)
}

struct Joiner<'a> {
    scripts: &'a BTreeMap<String, String>,
    /// What each module exports that is whole in `joined`.
    exports: BTreeMap<String, BTreeSet<String>>,
    /// The modules that are whole, and those that wait for what they import.
    begun: BTreeSet<String>,
    joined: String,
}

impl Joiner<'_> {
    /// Adds a module behind all that it imports, once. `by`: where it is imported.
    fn add(&mut self, path: &str, by: (&str, usize)) -> Result<(), Fault> {
        if self.exports.contains_key(path) {
            return Ok(());
        }
        let fault = |why| Fault { path: by.0.to_owned(), line: by.1, why };
        let Some(script) = self.scripts.get(path) else { return Err(fault(format!("there is no {path}"))) };
        if !self.begun.insert(path.to_owned()) {
            return Err(fault(format!("{path} imports itself by way of this; take apart what both need")));
        }
        let module = Module::of(path, script)?;
        for Import { from, line, names } in &module.imports {
            self.add(from, (path, *line))?;
            if let Some(missing) = names.iter().find(|name| !self.exports[from].contains(*name)) {
                return Err(Fault { path: path.to_owned(), line: *line, why: format!("{from} exports no {missing}") });
            }
        }
        let exported: Vec<_> = module
            .exports
            .iter()
            .map(|(name, value)| if name == value { name.clone() } else { format!("{name}: {value}") })
            .collect();
        let (variable, body, exported) = (variable(path), &module.body, exported.join(", "));
        let begin = if module.waits() { "await (async () => {" } else { "(() => {" };
        writeln!(self.joined, "// {path}\nconst {variable} = {begin}\n{body}return {{ {exported} }};\n}})();")
            .expect("a string takes all");
        self.exports.insert(path.to_owned(), module.exports.into_keys().collect());
        Ok(())
    }
}

/// What a module is called where others are joined with it: no name in `web/` begins so.
fn variable(path: &str) -> String {
    path.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "$")
}

struct Import {
    from: String,
    line: usize,
    /// What must be there.
    names: Vec<String>,
}

#[derive(Default)]
struct Module {
    imports: Vec<Import>,
    /// What it exports: by name, what gives it.
    exports: BTreeMap<String, String>,
    /// The script without its imports and exports, with as many lines.
    body: String,
}

impl Module {
    fn of(path: &str, script: &str) -> Result<Self, Fault> {
        let mut module = Self::default();
        let mut lines = script.lines().enumerate();
        while let Some((at, line)) = lines.next() {
            let fault = |why: &str| Fault { path: path.to_owned(), line: at + 1, why: why.to_owned() };
            if ["import(", "import.meta"].iter().any(|word| line.contains(word)) && !line.contains("import('node:") {
                return Err(fault(
                    "import() and import.meta would mean something else in the script that it becomes a part of",
                ));
            }
            let is_list = ["import", "export {", "export *"].iter().any(|start| line.starts_with(start));
            if !is_list {
                let line = if line.starts_with("export") { module.declaration(line).map_err(fault)? } else { line };
                module.body += line;
                module.body.push('\n');
                continue;
            }
            let mut list = line.to_owned();
            let mut height = 1;
            while !list.ends_with(';') {
                let Some((_, more)) = lines.next() else { return Err(fault("it does not end with a semicolon")) };
                list += more;
                height += 1;
            }
            let bound = module.list(path, at + 1, list.trim_end_matches(';')).map_err(fault)?;
            module.body += &bound;
            module.body += &"\n".repeat(height);
        }
        Ok(module)
    }

    /// Whether a statement of its own, in no function, waits for something.
    fn waits(&self) -> bool {
        self.body.lines().any(|line| !line.starts_with(' ') && line.contains("await ") && !line.contains("async "))
    }

    /// Takes `export const NAME = …` and its like; gives the line as it is without `export`.
    fn declaration<'a>(&mut self, line: &'a str) -> Result<&'a str, &'static str> {
        let plain = line.trim_start_matches("export ");
        let kinds = ["const ", "function ", "async function ", "class "];
        let named = kinds.iter().find_map(|kind| plain.strip_prefix(kind));
        let named = named.ok_or("of declarations, const, function and class are exported, by a name")?;
        let name = named.split(|c: char| !is_of_name(c)).next().unwrap_or_default();
        if name.is_empty() {
            return Err("what is declared here has no name of its own; declare each by itself");
        }
        self.exports.insert(name.to_owned(), name.to_owned());
        Ok(plain)
    }

    /// Takes `import … from '…'`, `export … from '…'` or `export { … }`, without its semicolon; gives what stands in its place.
    fn list(&mut self, path: &str, line: usize, list: &str) -> Result<String, &'static str> {
        let (what, from) = match list.rsplit_once(" from ") {
            Some((what, quoted)) => (what, Some(resolved(path, quoted)?)),
            None if list.starts_with("export {") => (list, None),
            None => return Err("an import is { a, b as c } or * as name, from a path in single quotes"),
        };
        let source = from.as_deref().map(variable);
        let (word, what) = what.split_once(' ').ok_or("nothing is named")?;
        let is_import = word == "import";
        let mut names = Vec::new();
        let mut bound = Vec::new();
        if let Some(name) = what.strip_prefix("* as ") {
            let source = source.ok_or("* needs a path that it comes from")?;
            if is_import {
                bound.push(format!("const {} = {source};", checked(name)?));
            } else {
                self.exports.insert(checked(name)?.to_owned(), source);
            }
        } else {
            let inner = what.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let inner = inner.ok_or("what is named here is neither { a, b as c } nor * as name")?;
            let mut taken = Vec::new();
            for item in inner.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                let (name, here) = item.split_once(" as ").unwrap_or((item, item));
                let (name, here) = (checked(name)?, checked(here)?);
                taken.push(if name == here { name.to_owned() } else { format!("{name}: {here}") });
                names.push(name.to_owned());
                if !is_import {
                    let value = source.as_ref().map_or(name.to_owned(), |source| format!("{source}.{name}"));
                    self.exports.insert(here.to_owned(), value);
                }
            }
            if let (true, Some(source)) = (is_import, &source) {
                bound.push(format!("const {{ {} }} = {source};", taken.join(", ")));
            }
        }
        if let Some(from) = from {
            self.imports.push(Import { from, line, names });
        }
        Ok(bound.concat())
    }
}

const fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn checked(name: &str) -> Result<&str, &'static str> {
    let is_name = !name.is_empty() && name.chars().all(is_of_name) && name != "default";
    if is_name { Ok(name) } else { Err("what is imported or exported goes by a plain name, and never by default") }
}

/// The path that a module names in quotes.
fn resolved(path: &str, quoted: &str) -> Result<String, &'static str> {
    const FORM: &str = "the path is in single quotes and begins with /, ./ or ../";
    let to = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')).ok_or(FORM)?;
    if to.starts_with('/') {
        return Ok(to.to_owned());
    }
    if !to.starts_with("./") && !to.starts_with("../") {
        return Err(FORM);
    }
    let mut parts: Vec<_> = path.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
