//! Which input a figure depends on most: each input is made a tenth larger in turn, all others stay.

use crate::{
    inputs::{ABOUT, Input, Inputs},
    model::{FIGURES, Figure, Model},
};

/// By what part of itself an input is changed.
const STEP: f64 = 0.1;

/// An elasticity below this is none: what is left of a difference of equal numbers.
const NOTHING: f64 = 1e-9;

/// Elasticities that are the same when multiplied by this and rounded are alike.
const ALIKE: f64 = 1e6;

/// How a figure follows an input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Elasticity {
    /// The input.
    pub input: Input,
    /// By how many percent the figure grows when the input grows by ten percent, divided by ten: 1 is in proportion.
    pub value: f64,
}

/// Of each figure the inputs that change it, those that change it most first.
#[must_use]
pub fn sensitivity(inputs: &Inputs) -> Vec<(Figure, Vec<Elasticity>)> {
    let now = Model::of(inputs);
    let changed: Vec<(Input, f64, Model)> = ABOUT
        .iter()
        .filter_map(|about| {
            let step = |step: f64| Some((step, inputs.with(about.input, inputs.get(about.input) * (1.0 + step))?));
            // What can not be more is made less.
            let (step, changed) = step(STEP).or_else(|| step(-STEP))?;
            Some((about.input, step, Model::of(&changed)))
        })
        .collect();
    let of = |figure: Figure| {
        let mut found: Vec<Elasticity> = changed
            .iter()
            .map(|(input, step, model)| Elasticity {
                input: *input,
                value: (model.get(figure) / now.get(figure) - 1.0) / step,
            })
            .filter(|elasticity| elasticity.value.abs() > NOTHING)
            .collect();
        // Stable: equal ones stay in the order of the inputs.
        found.sort_by_key(|elasticity| (-elasticity.value.abs() * ALIKE).round() as i64);
        (figure, found)
    };
    FIGURES.iter().map(|&(figure, ..)| of(figure)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(figure: Figure) -> Vec<(Input, f64)> {
        let all = sensitivity(&Inputs::default());
        let (_, found) = all.into_iter().find(|(of, _)| *of == figure).unwrap();
        found.iter().map(|elasticity| (elasticity.input, (elasticity.value * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn a_product_follows_each_factor_in_proportion_and_nothing_else() {
        assert_eq!(of(Figure::Sends), [(Input::Users, 1.0), (Input::Messages, 1.0)]);
        // One divided by 1.1 is nine percent less.
        let nodes = [(Input::Users, 1.0), (Input::Online, 1.0), (Input::NodeConnections, -0.909_091)];
        assert_eq!(of(Figure::Nodes), nodes);
    }

    #[test]
    fn a_sum_follows_its_larger_part_more() {
        let stored = of(Figure::Stored);
        let value = |input| stored.iter().find(|(of, _)| *of == input).map_or(0.0, |(_, value)| *value);
        // 180 bytes of texts and 145 of rows.
        assert_eq!((value(Input::TextBytes), value(Input::RowBytes)), (0.553_846, 0.446_154));
        assert_eq!(value(Input::Replication), 0.0);
    }
}
