//! Everything as one page that needs no network and no script.

use crate::{
    inputs::{ABOUT, Input as I, Inputs},
    mesh::{designs, stops, stops_of_work},
    model::{FIGURES, Figure, Model, years},
    plot::{Axis, Plot, Scale},
    sensitivity::sensitivity,
    show::{kind, number, origin, simulation},
    simulation::{LOGINS, Simulation},
};

const PAGE: &str = include_str!("page.html");

/// Inputs of which a bar is drawn for a figure.
const BARS: usize = 4;

/// Pixels of a bar for what grows in proportion.
const BAR: f64 = 40.0;

/// The whole page; with what the simulation has found, if there is one.
#[must_use]
pub fn page(inputs: &Inputs, found: Option<&Simulation>) -> String {
    let mut plots = model_plots(inputs);
    plots.extend(found.into_iter().flat_map(simulation_plots));
    let text = found.map_or_else(String::new, |found| {
        format!("<h2>Placement and failures</h2>\n<pre>{}</pre>", escape(&simulation(found)))
    });
    let replacements = [
        ("{{figures}}", figures(inputs)),
        ("{{plots}}", plots.iter().map(Plot::html).collect()),
        ("{{depends}}", depends(inputs)),
        ("{{inputs}}", inputs_table(inputs)),
        ("{{simulation}}", text),
    ];
    replacements.iter().fold(PAGE.to_owned(), |page, (place, text)| page.replace(place, text))
}

fn figures(inputs: &Inputs) -> String {
    let model = Model::of(inputs);
    let row = |(figure, _, unit, what): &(Figure, &str, &str, &str)| {
        format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(what), number(model.get(*figure), unit))
    };
    FIGURES.iter().map(row).collect()
}

fn inputs_table(inputs: &Inputs) -> String {
    let row = |about: &crate::inputs::About| {
        let (value, from) = (number(inputs.get(about.input), ""), origin(inputs, about));
        let unit = escape(about.unit);
        let words = format!("<td class=\"words\">{unit}</td><td class=\"words\">{from}</td>");
        format!(
            "<tr><th>{}</th><td>{value}</td>{words}<td class=\"words\">{}</td></tr>\n",
            about.name,
            escape(about.why)
        )
    };
    ABOUT.iter().map(row).collect()
}

fn depends(inputs: &Inputs) -> String {
    let bar = |of: &crate::sensitivity::Elasticity| {
        let (width, name) = ((of.value.abs() * BAR).min(2.0 * BAR), ABOUT[of.input as usize].name);
        let colour = if of.value < 0.0 { "bar less" } else { "bar" };
        format!(
            "<td class=\"words\"><span class=\"{colour}\" style=\"width:{width:.0}px\"></span> {name} {:.2}</td>",
            of.value
        )
    };
    let row = |(figure, found): (Figure, Vec<_>)| {
        let bars: String = found.iter().take(BARS).map(bar).collect();
        format!("<tr><th>{}</th>{bars}</tr>\n", escape(FIGURES[figure as usize].3))
    };
    sensitivity(inputs).into_iter().map(row).collect()
}

const fn even(name: &'static str, unit: &'static str) -> Axis {
    Axis { scale: Scale::Even, unit, name }
}

const fn tens(name: &'static str, unit: &'static str) -> Axis {
    Axis { scale: Scale::Tens, unit, name }
}

fn model_plots(inputs: &Inputs) -> Vec<Plot> {
    let years = years(inputs);
    let by_year = |name: &str, of: fn(&crate::model::Year) -> f64| {
        (name.to_owned(), years.iter().map(|year| (f64::from(year.number), of(year))).collect())
    };
    let storage = vec![by_year("texts", |year| year.text), by_year("rows, all copies", |year| year.replicated)];
    // From a fifth of the planned connections to twenty times as many.
    let connections: Vec<f64> =
        [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0].map(|by| by * inputs.get(I::NodeConnections)).into();
    let of_connections = |figure: Figure| {
        let at = |&of: &f64| Some((of, Model::of(&inputs.with(I::NodeConnections, of)?).get(figure)));
        connections.iter().filter_map(at).collect::<Vec<_>>()
    };
    let machines = vec![
        ("nodes".to_owned(), of_connections(Figure::Nodes)),
        ("cores kept busy".to_owned(), of_connections(Figure::CoresBusy)),
    ];
    let memory = vec![("memory of a node".to_owned(), of_connections(Figure::NodeMemory))];
    let sizes = [10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4];
    let links = |at: usize| sizes.iter().map(|&nodes| (nodes, designs(inputs, nodes)[at].node_links)).collect();
    let linked =
        vec![("all with all".to_owned(), links(0)), ("relays".to_owned(), links(1)), ("groups".to_owned(), links(2))];
    let ends = [stops(inputs)[0], stops_of_work(inputs)[0]];
    let [first, then] = ends.map(|stop| format!("{} nodes: {}", number(stop.nodes(), ""), stop.what));
    vec![
        Plot {
            title: "What is stored",
            about: "At the end of each year.".to_owned(),
            x: even("year", ""),
            y: even("", "B"),
            lines: storage,
        },
        Plot {
            title: "Nodes, and cores kept busy at the peak",
            about: "By connections of a node. Where the lines meet a node has one core to do.".to_owned(),
            x: tens("connections of a node", ""),
            y: tens("", ""),
            lines: machines,
        },
        Plot {
            title: "Memory of a node",
            about: "By connections of a node.".to_owned(),
            x: tens("connections of a node", ""),
            y: tens("", "B"),
            lines: memory,
        },
        Plot {
            title: "Links of a node",
            about: format!("A full mesh ends at {first}. With one bound for all links of a node it ends at {then}."),
            x: tens("nodes", ""),
            y: tens("", ""),
            lines: linked,
        },
    ]
}

fn simulation_plots(found: &Simulation) -> Vec<Plot> {
    let by_size = |name: &str, of: fn(&crate::simulation::Size) -> f64| {
        (name.to_owned(), found.sizes.iter().map(|size| (f64::from(size.nodes), of(size))).collect())
    };
    let uneven = vec![
        by_size("users, by slots", |size| size.slots.users),
        by_size("users, by partitions", |size| size.partitions.users),
        by_size("messages, by partitions", |size| size.partitions.messages),
    ];
    let last = found.sizes.last().map_or(0, |size| size.nodes);
    let cases = found.cases.iter().filter(|case| case.nodes == last);
    let back = cases.map(|case| {
        let name = format!("{} of {}, by {}", case.failure.dead, number(last.into(), ""), kind(case.kind));
        (name, LOGINS.iter().map(|&rate| (rate, case.failure.back_s(found.online, rate))).collect())
    });
    vec![
        Plot {
            title: "The fullest node against the mean",
            about: "By number of nodes. 1 is even.".to_owned(),
            x: tens("nodes", ""),
            y: tens("times the mean", ""),
            lines: uneven,
        },
        Plot {
            title: "Seconds until everybody is back",
            about: "After nodes have failed, by logins a second that each node lets in.".to_owned(),
            x: tens("logins a second of a node", ""),
            y: tens("s", ""),
            lines: back.collect(),
        },
    ]
}

/// Text for a place between tags.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::simulate;

    /// Nothing panics, nothing takes for ever, and no plot has a point that is nowhere.
    #[test]
    fn no_value_that_an_input_may_have_breaks_anything() {
        for about in &ABOUT {
            for value in [about.range.0, about.range.1] {
                let inputs = Inputs::default().with(about.input, value).unwrap();
                let (page, text) = (page(&inputs, None), crate::show::model(&inputs));
                for nowhere in ["NaN", "inf ", "inf\"", "inf/"] {
                    let found = page.contains(nowhere) || text.contains(nowhere);
                    assert!(!found, "{nowhere}: {} {value}", about.name);
                }
            }
        }
    }

    #[test]
    fn the_page_stands_alone_and_has_a_plot_for_all_that_is_found() {
        let mut inputs = Inputs::default();
        inputs.set("users=5e6").unwrap();
        let without = page(&inputs, None);
        let page = page(&inputs, Some(&simulate(&inputs).unwrap()));
        for outside in ["http://", "https://", "src=", "@import", "url(", "<script", "{{", "NaN", "inf\""] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!((without.matches("<svg").count(), page.matches("<svg").count()), (4, 6));
        assert!(page.contains("prefers-color-scheme: dark") && page.contains("65,536 partitions"));
        assert!(ABOUT.iter().all(|about| page.contains(&escape(about.why))));
        assert_eq!(escape("a<b & c>d"), "a&lt;b &amp; c&gt;d");
    }
}
