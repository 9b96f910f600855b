//! How the modules of the web page become one script, which the build does.

#[path = "../build/join.rs"]
mod join;

use join::join;

fn joined(scripts: &[(&str, &str)]) -> Result<String, String> {
    let scripts = scripts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    join("/app/main.js", &scripts).map_err(|fault| fault.to_string())
}

#[test]
fn modules_are_joined_in_the_order_in_which_they_run_and_each_keeps_its_names_and_lines() {
    let main = "import * as b from './lib/b.js';\nimport {\n    one as first,\n    later,\n} from '/client/a.js';\n\nlater(b.two, first);\n";
    let scripts = [
        ("/app/main.js", main),
        (
            "/app/lib/b.js",
            "import { one } from '../../client/a.js';\nexport * as all from '/client/a.js';\nconst x = one;\nexport const two = x + one;\n",
        ),
        (
            "/client/a.js",
            "export { NAMES as names } from './c.js';\nexport const one = 1;\nfunction later() {}\nexport { later };\n",
        ),
        ("/client/c.js", "export class NAMES {}\nconst kept = await import('node:crypto');\n"),
    ];
    let script = "\
// /client/c.js
const $client$c$js = await (async () => {
class NAMES {}
const kept = await import('node:crypto');
return { NAMES };
})();
// /client/a.js
const $client$a$js = (() => {

const one = 1;
function later() {}

return { later, names: $client$c$js.NAMES, one };
})();
// /app/lib/b.js
const $app$lib$b$js = (() => {
const { one } = $client$a$js;

const x = one;
const two = x + one;
return { all: $client$a$js, two };
})();
// /app/main.js
const $app$main$js = (() => {
const b = $app$lib$b$js;
const { one: first, later } = $client$a$js;




later(b.two, first);
return {  };
})();
";
    assert_eq!(joined(&scripts).unwrap(), script);
}

#[test]
fn what_it_does_not_understand_ends_the_build_with_its_place() {
    let other = ("/app/other.js", "export const known = 1;\n");
    let cases = [
        ("import { lost } from './other.js';", 1, "/app/other.js exports no lost"),
        ("\n\nimport { known } from './nowhere.js';", 3, "there is no /app/nowhere.js"),
        ("import { known } from 'react';", 1, "the path is in single quotes and begins with /, ./ or ../"),
        ("import known from './other.js';", 1, "what is named here is neither { a, b as c } nor * as name"),
        (
            "import { default as known } from './other.js';",
            1,
            "what is imported or exported goes by a plain name, and never by default",
        ),
        ("import './other.js';", 1, "an import is { a, b as c } or * as name, from a path in single quotes"),
        ("import { known } from './other.js'", 1, "it does not end with a semicolon"),
        ("export * from './other.js';", 1, "what is named here is neither { a, b as c } nor * as name"),
        ("export let known = 1;", 1, "of declarations, const, function and class are exported, by a name"),
        ("export default class {}", 1, "of declarations, const, function and class are exported, by a name"),
        ("export const [a, b] = [1, 2];", 1, "what is declared here has no name of its own; declare each by itself"),
        (
            "const later = () => import('./other.js');",
            1,
            "import() and import.meta would mean something else in the script that it becomes a part of",
        ),
        (
            "import { main } from './main.js';",
            1,
            "/app/main.js imports itself by way of this; take apart what both need",
        ),
    ];
    for (script, line, why) in cases {
        let fault = joined(&[("/app/main.js", script), other]).unwrap_err();
        assert_eq!(fault, format!("/app/main.js, line {line}: {why}"), "{script}");
    }
}
