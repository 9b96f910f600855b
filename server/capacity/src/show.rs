//! What the model and the simulation say, on a terminal and as JSON. PURE.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    balance::Balance,
    inputs::{ABOUT, About, Inputs, Source},
    mesh::{Shape, designs, stops},
    model::{FIGURES, Figure, Model, years},
    sensitivity::{Elasticity, sensitivity},
    simulation::{LOGINS, Simulation, UNEVEN, UnitKind},
};

/// Inputs that are named as those that a figure depends on most.
const FIRST: usize = 4;

/// Columns of a terminal: one less than the narrowest has.
const WIDTH: usize = 79;

/// Writing to a String can not fail.
macro_rules! line {
    ($out:expr, $($words:tt)*) => { _ = writeln!($out, "{}", format!($($words)*).trim_end()) };
}

/// What the model says.
#[must_use]
pub fn model(inputs: &Inputs) -> String {
    let mut out = String::from("inputs\n");
    for about in &ABOUT {
        let value = format!("{} {}", number(inputs.get(about.input), ""), about.unit);
        line!(out, "  {:<18}{value:<28}{}", about.name, origin(inputs, about));
    }
    out += "\nassumed, not measured\n";
    for about in ABOUT.iter().filter(|about| about.source == Source::Assumed) {
        wrapped(&mut out, &format!("  {:<18}", about.name), about.why);
    }
    let model = Model::of(inputs);
    out += "\nwhat follows\n";
    for (figure, _, unit, what) in FIGURES {
        line!(out, "  {what:<46}{:>12}", number(model.get(figure), unit));
    }
    out += "\nyear by year\n";
    line!(
        out,
        "  {:<6}{:>14}{:>10}{:>12}{:>18}{:>16}",
        "year",
        "messages",
        "nodes",
        "texts",
        "all copies",
        "db processes"
    );
    for year in years(inputs) {
        let (sends, nodes) = (number(year.sends, "/s"), number(year.nodes, ""));
        let (text, replicated) = (number(year.text, "B"), number(year.replicated, "B"));
        line!(
            out,
            "  {:<6}{sends:>14}{nodes:>10}{text:>12}{replicated:>18}{:>16}",
            year.number,
            number(year.processes, "")
        );
    }
    out += "\nwhich input each figure depends on most: 1 is in proportion\n";
    for (figure, found) in sensitivity(inputs) {
        let (_, name, ..) = FIGURES[figure as usize];
        wrapped(&mut out, &format!("  {name:<18}"), &strongest(&found).join(", "));
    }
    out += "\na full mesh ends\n";
    for stop in stops(inputs) {
        line!(out, "  {:<58}{:>10} nodes", stop.what, number(stop.nodes(), ""));
    }
    let nodes = model.get(Figure::Nodes).ceil().max(2.0);
    line!(out, "\n{} nodes, linked in three ways", number(nodes, ""));
    line!(out, "  {:<24}{:>11}{:>13}{:>8}{:>13}{:>8}", "", "node links", "all links", "hops", "passed on", "cores");
    for design in designs(inputs, nodes) {
        let (links, all) = (number(design.node_links, ""), number(design.links, ""));
        let (passed, cores) = (number(design.passed_on, "/s"), number(design.cores_busy, ""));
        line!(out, "  {:<24}{links:>11}{all:>13}{:>8.2}{passed:>13}{cores:>8}", shape(design.shape), design.hops);
    }
    out
}

/// What the simulation has found.
#[must_use]
pub fn simulation(found: &Simulation) -> String {
    let mut out = String::new();
    let [slots, partitions] = found.even_up_to.map(|nodes| number(nodes.into(), ""));
    line!(out, "{} users, of whom 1 in 100 writes {:.0} % of all", number(found.users, ""), 100.0 * found.first_share);
    line!(out, "the fullest node owns at most {UNEVEN} times the mean up to");
    line!(out, "  {slots} nodes by slots, {partitions} by partitions");
    out += "\nthe fullest node against the mean: units, users, messages; nodes with nothing\n";
    line!(out, "  {:<10}{:^34}{:^34}", "nodes", "256 slots", "65,536 partitions");
    for size in &found.sizes {
        line!(out, "  {:<10}{}{}", number(size.nodes.into(), ""), balance(&size.slots), balance(&size.partitions));
    }
    let nodes = number(found.sizes.last().map_or(0.0, |size| size.nodes.into()), "");
    line!(out, "\n{nodes} nodes by partitions: the bound, the same, and what moves when a node fails");
    line!(
        out,
        "  {:<10}{:>8}{:>8}{:>10}{:>14}{:>12}{:>13}",
        "bound",
        "units",
        "users",
        "messages",
        "its units",
        "anew",
        "others kept"
    );
    for bounded in &found.bounds {
        let Balance { units, users, messages, .. } = bounded.balance;
        let bound = if bounded.bound > 1e6 { "none".to_owned() } else { format!("{:.2}", bounded.bound) };
        let (dead, anew, kept) = (bounded.anew.units_dead, bounded.anew.units_moved, bounded.kept.units_moved);
        line!(out, "  {bound:<10}{units:>8.2}{users:>8.2}{messages:>10.2}{dead:>14}{anew:>12}{kept:>13}");
    }
    out += "\nnodes fail; users who connect anew, nodes that get them, most on one\n";
    line!(
        out,
        "  {:<8}{:<11}{:>5}{:>12}{:>9}{:>12}   {}",
        "nodes",
        "by",
        "dead",
        "users",
        "nodes",
        "on one",
        "fullest after"
    );
    for case in &found.cases {
        let failure = &case.failure;
        let (nodes, receivers) = (number(case.nodes.into(), ""), number(failure.receivers as f64, ""));
        let (users, most) = (number(failure.users, ""), number(failure.users_most, ""));
        let by = kind(case.kind);
        line!(
            out,
            "  {nodes:<8}{by:<11}{:>5}{users:>12}{receivers:>9}{most:>12}   {:>13.2}",
            failure.dead,
            failure.uneven
        );
    }
    out += "\nseconds until all are back, by logins a second that a node lets in\n";
    let rates: String = LOGINS.iter().map(|&rate| format!("{:>12}", number(rate, ""))).collect();
    line!(out, "  {:<8}{:<11}{:>5}{rates}", "nodes", "by", "dead");
    for case in &found.cases {
        let back = |&rate: &f64| format!("{:>12}", number(case.failure.back_s(found.online, rate), ""));
        let times: String = LOGINS.iter().map(back).collect();
        line!(out, "  {:<8}{:<11}{:>5}{times}", number(case.nodes.into(), ""), kind(case.kind), case.failure.dead);
    }
    line!(out, "\nwhat is passed on, {nodes} nodes: hops, the busiest against the mean, pairs cut off");
    line!(out, "  {:<24}{:^18}{:^18}{:^18}", "", "all live", "a rack fails", "as many anywhere");
    for passing in &found.passing {
        let cells = [passing.whole, passing.rack, passing.scattered].map(|routes| {
            let cut_off = number(routes.cut_off as f64, "");
            format!("{:^18}", format!("{:.2} {:.2} {cut_off}", routes.hops, routes.uneven))
        });
        line!(out, "  {:<24}{}", shape(passing.shape), cells.concat().trim_end());
    }
    out += "  of relays one fails, and two that are some nodes' only ones\n";
    out
}

/// Everything, for a machine: numbers are not rounded.
#[must_use]
pub fn json(inputs: &Inputs, found: Option<&Simulation>) -> Value {
    let model = Model::of(inputs);
    let input = |about: &About| {
        let value = json!({
            "value": inputs.get(about.input), "unit": about.unit, "from": origin(inputs, about), "what": about.why,
        });
        (about.name.to_owned(), value)
    };
    let figure = |&(figure, name, unit, what): &(Figure, &str, &str, &str)| {
        (name.to_owned(), json!({ "value": model.get(figure), "unit": unit, "what": what }))
    };
    let depends = |(figure, found): (Figure, Vec<Elasticity>)| {
        let inputs = found.iter().map(|of| (ABOUT[of.input as usize].name.to_owned(), json!(of.value)));
        (FIGURES[figure as usize].1.to_owned(), Value::Object(inputs.collect()))
    };
    let years = years(inputs).into_iter().map(|year| {
        json!({ "year": year.number, "sends": year.sends, "nodes": year.nodes, "text": year.text,
            "replicated": year.replicated, "processes": year.processes })
    });
    let nodes = model.get(Figure::Nodes).ceil().max(2.0);
    let designs = designs(inputs, nodes).map(|design| {
        json!({ "shape": shape(design.shape), "node_links": design.node_links, "relay_links": design.relay_links,
            "links": design.links, "hops": design.hops, "passed_on": design.passed_on, "cores_busy": design.cores_busy })
    });
    json!({
        "inputs": Value::Object(ABOUT.iter().map(input).collect()),
        "figures": Value::Object(FIGURES.iter().map(figure).collect()),
        "years": years.collect::<Vec<_>>(),
        "depends": Value::Object(sensitivity(inputs).into_iter().map(depends).collect()),
        "mesh_ends": stops(inputs).map(|stop| json!({ "what": stop.what, "nodes": stop.nodes() })),
        "designs": designs,
        "placement": found.map(placement_json),
    })
}

fn placement_json(found: &Simulation) -> Value {
    let balance =
        |of: &Balance| json!({ "units": of.units, "users": of.users, "messages": of.messages, "idle": of.idle });
    let sizes = found.sizes.iter().map(
        |size| json!({ "nodes": size.nodes, "slots": balance(&size.slots), "partitions": balance(&size.partitions) }),
    );
    let bounds = found.bounds.iter().map(|of| {
        json!({ "bound": of.bound, "balance": balance(&of.balance), "units_dead": of.anew.units_dead,
            "moved_anew": of.anew.units_moved, "moved_kept": of.kept.units_moved })
    });
    let cases = found.cases.iter().map(|case| {
        let of = &case.failure;
        json!({ "nodes": case.nodes, "by": kind(case.kind), "dead": of.dead, "units_dead": of.units_dead,
            "units_moved": of.units_moved, "users": of.users, "receivers": of.receivers, "users_most": of.users_most,
            "uneven": of.uneven, "back_s": LOGINS.map(|rate| json!([rate, of.back_s(found.online, rate)])) })
    });
    let passing = found.passing.map(|passing| {
        let cases = [passing.whole, passing.rack, passing.scattered];
        let cases = cases.map(|of| json!({ "hops": of.hops, "uneven": of.uneven, "cut_off": of.cut_off }));
        json!({ "shape": shape(passing.shape), "whole": cases[0], "rack": cases[1], "scattered": cases[2] })
    });
    json!({
        "users": found.users, "first_share": found.first_share, "even_up_to": found.even_up_to,
        "sizes": sizes.collect::<Vec<_>>(), "bounds": bounds.collect::<Vec<_>>(), "cases": cases.collect::<Vec<_>>(),
        "passing": passing,
    })
}

fn balance(of: &Balance) -> String {
    format!("{:>8.2}{:>8.2}{:>8.2}{:>8}  ", of.units, of.users, of.messages, number(of.idle as f64, ""))
}

pub(crate) const fn kind(of: UnitKind) -> &'static str {
    match of {
        UnitKind::Slot => "slots",
        UnitKind::Partition => "partitions",
    }
}

pub(crate) fn shape(of: Shape) -> String {
    match of {
        Shape::Full => "all with all".to_owned(),
        Shape::Relays { relays } => format!("{relays} relays"),
        Shape::Groups { columns, rows } => format!("{rows} groups of {columns}"),
    }
}

/// Where the value of an input is from.
pub(crate) fn origin(inputs: &Inputs, about: &About) -> String {
    if inputs.get(about.input) != about.default {
        return "set".to_owned();
    }
    match about.source {
        Source::Planned => "planned".to_owned(),
        Source::Assumed => "assumed".to_owned(),
        Source::Result(_) => "measured: benches/results".to_owned(),
        Source::Quoted { file, .. } if file.starts_with("benches") => format!("measured: {file}"),
        Source::Quoted { file, .. } => file.to_owned(),
        Source::Computed => "the server's code".to_owned(),
    }
}

/// Inputs that a figure depends on most, with how much.
pub(crate) fn strongest(found: &[Elasticity]) -> Vec<String> {
    let name = |of: &Elasticity| format!("{} {:.2}", ABOUT[of.input as usize].name, of.value);
    found.iter().filter(|of| of.value.abs() >= 0.005).take(FIRST).map(name).collect()
}

/// A number as people read it. Bytes have a prefix; of things that come in whole ones a part is one more.
pub(crate) fn number(value: f64, unit: &str) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    if !value.is_finite() {
        return "any".to_owned();
    }
    let from = if unit.starts_with('B') { 1e3 } else { 1e7 };
    if value >= from {
        let thousands = ((value * (1.0 + 1e-12)).log10() / 3.0).floor().min(5.0);
        let scaled = value / 1000f64.powf(thousands);
        let digits = 2usize.saturating_sub(scaled.log10().max(0.0) as usize);
        return format!("{scaled:.digits$} {}{unit}", PREFIXES[thousands as usize]);
    }
    let text = match value {
        // Whole, but for what is left of a division.
        _ if (value - value.round()).abs() < 1e-6 => grouped(value.round() as u64),
        _ if value >= 100.0 => grouped((value * (1.0 - 1e-12)).ceil() as u64),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if unit.is_empty() || unit.starts_with('/') { text + unit } else { format!("{text} {unit}") }
}

/// With a comma between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Words behind a name, in lines as wide as a terminal, indented below the first word.
fn wrapped(out: &mut String, name: &str, words: &str) {
    let mut line = name.to_owned();
    for word in words.split(' ') {
        if line.len() + word.len() > WIDTH && line.len() > name.len() {
            line!(out, "{}", line.trim_end());
            line = " ".repeat(name.len());
        }
        line += word;
        line.push(' ');
    }
    line!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::simulate;

    #[test]
    fn numbers_are_as_people_write_them() {
        let cases = [
            (3.65e15, "B", "3.65 PB"),
            (2e12, "B", "2.00 TB"),
            (1.5e3, "B/s", "1.50 kB/s"),
            (132.0, "B", "132 B"),
            (231_481.48, "/s", "231,482/s"),
            (500e6, "", "500 M"),
            (10_000.000_000_000_2, "", "10,000"),
            (1_985.0, "", "1,985"),
            (0.6, "", "0.60"),
            (23.148, "/s", "23.1/s"),
            (999.999, "B", "1,000 B"),
            (4.9995e7, "", "50.0 M"),
            (f64::INFINITY, "", "any"),
            (1e15, "B", "1.00 PB"),
        ];
        for (value, unit, text) in cases {
            assert_eq!(number(value, unit), text);
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_and_every_input_and_figure_is_there() {
        let mut inputs = Inputs::default();
        for set in ["users=5e6", "users_growth=1.3"] {
            inputs.set(set).unwrap();
        }
        let (model, found) = (model(&inputs), simulation(&simulate(&inputs).unwrap()));
        for line in model.lines().chain(found.lines()) {
            assert!(line.len() <= 82, "{line}");
        }
        assert!(ABOUT.iter().all(|about| model.contains(&format!("\n  {:<18}", about.name))));
        assert!(FIGURES.iter().all(|(.., what)| model.contains(what)));
        assert!(model.contains("times a year           set\n") && found.contains("65,536 partitions"));
    }

    #[test]
    fn json_has_what_the_table_has_not_rounded() {
        let mut inputs = Inputs::default();
        inputs.set("users=5e6").unwrap();
        let value = json(&inputs, Some(&simulate(&inputs).unwrap()));
        assert_eq!(value["figures"]["sends"]["value"], 5e6 * 40.0 / 86_400.0);
        assert_eq!(value["inputs"]["users"]["from"], "set");
        let depends = value["depends"]["sends"].as_object().unwrap();
        assert!(depends.len() == 2 && depends.values().all(|value| (value.as_f64().unwrap() - 1.0).abs() < 1e-9));
        assert_eq!(value["placement"]["sizes"].as_array().unwrap().len(), 5);
        assert_eq!(json(&inputs, None)["placement"], Value::Null);
    }
}
