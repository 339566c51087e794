//! How strongly a router's weights are held back: as predicts best what a fit hasn't seen.

/// Parts that the examples are cut into.
const FOLDS: usize = 5;

/// Of these penalties, ascending, the one whose fits lose least on the part that was left out of them; of equally good ones the
/// stronger. 1 if there is none.
pub(super) fn best_penalty<E: Copy, F>(
    examples: &[E],
    penalties: &[f64],
    fit: impl Fn(&[E], f64) -> F,
    loss: impl Fn(&F, E) -> f64,
) -> f64 {
    let folds = FOLDS.min(examples.len());
    let left_out_loss = |penalty: f64| -> f64 {
        let fold = |fold: usize| -> f64 {
            let part = |held: bool| {
                let places = examples.iter().enumerate();
                places.filter(move |(place, _)| (place % folds == fold) == held).map(|(_, example)| *example)
            };
            let fitted = fit(&part(false).collect::<Vec<_>>(), penalty);
            part(true).map(|example| loss(&fitted, example)).sum()
        };
        (0..folds).map(fold).sum()
    };
    let tried = penalties.iter().map(|penalty| (left_out_loss(*penalty), *penalty));
    tried.reduce(|best, next| if next.0 <= best.0 { next } else { best }).map_or(1.0, |(_, penalty)| penalty)
}
