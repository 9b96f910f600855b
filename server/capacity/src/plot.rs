//! Plots as SVG, drawn here: a page of them needs no script.

use std::fmt::Write as _;

use crate::show::number;

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero, in equal steps.
    Even,
    /// Each line is ten times the one before.
    Tens,
}

/// One axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    pub(crate) scale: Scale,
    pub(crate) unit: &'static str,
    pub(crate) name: &'static str,
}

/// Lines over the same axes: at most four.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) about: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// The picture, and the room around the plot in it, in pixels.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 74.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 44.0;

/// Where values stand on an axis.
struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Ruler {
    fn new(scale: Scale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        match scale {
            Scale::Even => Self { scale, low: 0.0, high: high * 1.05 },
            Scale::Tens => {
                let low = low.log10().floor();
                Self { scale, low, high: high.log10().ceil().max(low + 1.0) }
            }
        }
    }

    /// From 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Tens { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Tens => (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power)).collect(),
            Scale::Even => {
                let power = 10f64.powf((self.high / 5.0).log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|by| by * power).into_iter().find(|step| self.high / step <= 6.0);
                let step = step.unwrap_or(self.high);
                (0..=(self.high / step) as u32).map(|at| f64::from(at) * step).collect()
            }
        }
    }
}

impl Plot {
    /// Title, legend and picture. Values on an axis of tens are above zero.
    pub(crate) fn html(&self) -> String {
        let points = || self.lines.iter().flat_map(|(_, points)| points.iter().copied());
        let x = Ruler::new(self.x.scale, points().map(|(x, _)| x));
        let y = Ruler::new(self.y.scale, points().map(|(_, y)| y));
        let at_x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * x.part(value);
        let at_y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y.part(value);
        let mut out =
            format!("<section><h3>{}</h3><p class=\"soft\">{}</p><p class=\"legend\">", self.title, self.about);
        // Writing to a String can not fail.
        for (colour, (name, _)) in self.lines.iter().enumerate() {
            let _ = write!(out, "<span><i class=\"b{colour}\"></i>{name}</span>");
        }
        let _ = write!(out, "</p><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", self.title);
        for tick in y.ticks() {
            let (at, end) = (at_y(tick), WIDTH - RIGHT);
            let _ = write!(out, "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
            let (left, at) = (LEFT - 6.0, at + 4.0);
            let _ =
                write!(out, "<text x=\"{left}\" y=\"{at:.1}\" text-anchor=\"end\">{}</text>", short(tick, self.y.unit));
        }
        for tick in x.ticks() {
            let (at, below) = (at_x(tick), HEIGHT - BOTTOM + 16.0);
            let anchor = if at > WIDTH - 2.0 * RIGHT { "end" } else { "middle" };
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{}</text>",
                short(tick, self.x.unit)
            );
        }
        let (middle, below) = (f64::midpoint(LEFT, WIDTH), HEIGHT - 6.0);
        let _ = write!(out, "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{}</text>", self.x.name);
        for (colour, (_, points)) in self.lines.iter().enumerate() {
            let path: Vec<String> = points.iter().map(|&(x, y)| format!("{:.1} {:.1}", at_x(x), at_y(y))).collect();
            let _ = write!(out, "<polyline class=\"c{colour}\" points=\"{}\"/>", path.join(" "));
            for (&(x, y), place) in points.iter().zip(&path) {
                let (cx, cy) = place.split_once(' ').unwrap_or_default();
                let (x, y) = (number(x, self.x.unit), number(y, self.y.unit));
                let _ = write!(
                    out,
                    "<circle class=\"b{colour}\" cx=\"{cx}\" cy=\"{cy}\" r=\"3\"><title>{x}: {y}</title></circle>"
                );
            }
        }
        out + "</svg></section>\n"
    }
}

/// A tick's number, without digits that say nothing.
fn short(value: f64, unit: &str) -> String {
    let text = number(value, unit);
    let (digits, rest) = text.split_at(text.find([' ', '/']).unwrap_or(text.len()));
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    format!("{digits}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, unit: &'static str) -> Axis {
        Axis { scale, unit, name: "nodes" }
    }

    #[test]
    fn a_line_goes_from_one_corner_to_the_other_and_its_points_say_what_they_are() {
        let lines = vec![("links".to_owned(), vec![(1.0, 10.0), (10.0, 1e3)])];
        let (x, y) = (axis(Scale::Tens, ""), axis(Scale::Tens, "B"));
        let html = Plot { title: "t", about: String::new(), x, y, lines }.html();
        assert!(html.contains("points=\"74.0 216.0 696.0 10.0\""), "{html}");
        assert!(html.contains("<title>10: 1.00 kB</title>") && html.contains(">1 kB</text>"), "{html}");
    }

    #[test]
    fn an_even_axis_begins_at_zero_and_has_round_steps() {
        assert_eq!(Ruler::new(Scale::Even, [3.0, 40.0].into_iter()).ticks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(Ruler::new(Scale::Tens, [3.0, 40.0].into_iter()).ticks(), [1.0, 10.0, 100.0]);
        assert_eq!((short(0.5, ""), short(2e6, "B"), short(20.0, "/s")), ("0.5".into(), "2 MB".into(), "20/s".into()));
    }
}
