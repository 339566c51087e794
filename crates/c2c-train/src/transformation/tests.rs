//! What the loss is of: each token of a fused section once, whatever it is padded with; and its gradient.

#![allow(clippy::unwrap_used)]

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::{Dispatch, DispatchDevice};
use c2c_fuser::{CachePairs, Fuser, FuserConfig, FuserMode, FuserParts, LayerMapping, PairBatch};
use c2c_lm::{Activation, Family, GenerationDefaults, Lm, LmConfig, init_random};
use c2c_text::{Prompt, Section, SectionKind};

use super::task::mean_squared_error;
use crate::loss::scalar;

type B = Dispatch;

fn plain() -> DispatchDevice {
    DispatchDevice::Flex(burn_flex::FlexDevice)
}

fn model(layers: usize, kv_heads: usize, seed: u64) -> Lm<B> {
    let config = LmConfig {
        family: Family::Qwen3,
        vocab_size: 23,
        hidden_size: 12,
        intermediate_size: 10,
        num_layers: layers,
        num_heads: 4,
        num_kv_heads: kv_heads,
        head_dim: 4,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        rope_scaling: None,
        rope_local_theta: 1e4,
        tie_embeddings: true,
        qkv_bias: true,
        o_bias: false,
        activation: Activation::Silu,
        attention_scale: 0.5,
        sliding_windows: vec![None; layers],
        max_position: 32,
        generation: GenerationDefaults { eos: vec![1], pad: Some(0) },
    };
    init_random(&config, seed, &plain()).no_grad()
}

fn pair() -> (Lm<B>, Lm<B>, Fuser<B>) {
    let (receiver, sharer) = (model(3, 2, 5), model(2, 4, 6));
    let config = FuserConfig {
        hidden_dim: 9,
        intermediate_dim: 7,
        dropout: 0.0,
        parts: FuserParts { weights: false, gates: false, receiver: false },
        ..FuserConfig::between(receiver.config(), sharer.config(), LayerMapping::LastAligned)
    };
    let fuser = Fuser::init(&config, 3, &plain()).unwrap();
    (receiver, sharer, fuser)
}

/// A section of these ids on both sides; a 0 of either is padding.
fn section(receiver: &[u32], sharer: &[u32], fuse: bool) -> Section {
    let real = |ids: &[u32]| ids.iter().map(|id| *id != 0).collect();
    Section {
        kind: SectionKind::Template,
        receiver: receiver.to_vec(),
        sharer: sharer.to_vec(),
        receiver_mask: real(receiver),
        sharer_mask: real(sharer),
        labels: vec![None; receiver.len()],
        fuse,
    }
}

/// Two fused sections in one row, one in the other, of other lengths.
fn prompts() -> [Prompt; 2] {
    let long = vec![
        section(&[3, 9], &[8, 4], false),
        section(&[14, 2, 7, 11], &[5, 6, 0, 7], true),
        section(&[4], &[4], false),
        section(&[5, 0, 6], &[9, 3, 2], true),
        section(&[8], &[8], false),
    ];
    let short = vec![section(&[13, 3], &[3, 3], true), section(&[4], &[0], false)];
    [Prompt::new(long).unwrap(), Prompt::new(short).unwrap()]
}

fn caches(prompts: &[Prompt]) -> CachePairs<B> {
    let (receiver, sharer, fuser) = pair();
    let batch = PairBatch::collate(prompts, 0, 0).unwrap();
    CachePairs::compute(&receiver, &sharer, fuser.config().sharer_depth(), &batch).unwrap().unwrap()
}

#[test]
fn padding_of_a_batch_is_no_part_of_the_loss() {
    let (.., fuser) = pair();
    let [long, short] = prompts();
    let loss = |caches: &CachePairs<B>| scalar(mean_squared_error(&fuser, caches, FuserMode::Infer).unwrap());
    let (a, b, both) =
        (caches(std::slice::from_ref(&long)), caches(std::slice::from_ref(&short)), caches(&[long, short]));
    assert_eq!((a.tokens(), b.tokens()), (6, 2), "a slot where the Receiver has no token is none");
    let places: Vec<(usize, usize)> = (0..6).map(|token| (0, token)).chain([(1, 0), (1, 1)]).collect();
    assert_eq!(both.places, places);
    // The Sharer has no token beside the long prompt's 7.
    assert_eq!(both.shared, [true, true, false, true, true, true, true, true]);
    let mean = (6.0 * loss(&a) + 2.0 * loss(&b)) / 8.0;
    let found = loss(&both);
    assert!((found - mean).abs() < 1e-5 * mean && mean > 1e-3, "{found} in a batch, {mean} alone");
}

/// Each of the two vectors of a token against those of the models' own caches, which know nothing of slots.
#[test]
fn the_caches_are_those_of_the_two_models_alone() {
    let (receiver, sharer, _) = pair();
    let prompt = Prompt::new(vec![section(&[14, 2, 7], &[5, 6, 9], true), section(&[8], &[8], false)]).unwrap();
    let found = caches(&[prompt]);
    let alone = |model: &Lm<B>, ids: &[u32]| {
        let tokens = c2c_lm::TokenBatch::new(vec![ids.to_vec()], 0).unwrap();
        let mut cache = model.new_cache(1);
        model.fill_cache(&tokens, &mut cache, model.config().num_layers).unwrap();
        cache
    };
    let values = |x: Tensor<B, 4>| x.into_data().iter::<f32>().collect::<Vec<_>>();
    for (layers, cache) in
        [(&found.receiver, alone(&receiver, &[14, 2, 7])), (&found.sharer, alone(&sharer, &[5, 6, 9]))]
    {
        assert_eq!(layers.len(), cache.num_layers());
        for (layer, kv) in layers.iter().enumerate() {
            let own = cache.layer(layer).unwrap();
            assert_eq!(values(kv.key.clone()), values(own.key));
            assert_eq!(values(kv.value.clone()), values(own.value));
        }
    }
}

#[test]
fn the_gradient_is_that_of_finite_differences() {
    let (.., fuser) = pair();
    let caches = caches(&prompts());
    let trained = Fuser::<B>::init(fuser.config(), 3, &DispatchDevice::autodiff(plain())).unwrap();
    let loss = mean_squared_error(&trained, &caches.clone().map(Tensor::from_inner), FuserMode::Infer).unwrap();
    let grads = GradientsParams::from_grads(loss.backward(), &trained);
    // Each parameter is moved by one step in each of its entries, upwards along the gradient: slopes add up there.
    let moved = |name: &str, ways: &[f32], by: f32| {
        let moved = Fuser::load(fuser.config(), &plain(), |other, _| {
            let params = fuser.named_params();
            let (_, param) = params.iter().find(|(own, _)| own == other).ok_or("no such parameter")?;
            let values: Vec<f32> = param.val().into_data().iter::<f32>().collect();
            let along = |i: usize| if other == name { by * ways[i] } else { 0.0 };
            Ok(values.into_iter().enumerate().map(|(i, value)| value + along(i)).collect())
        });
        scalar(mean_squared_error(&moved.unwrap(), &caches, FuserMode::Infer).unwrap())
    };
    let mut steepest = 0.0f64;
    for (name, param) in &trained.named_params() {
        let grad = grads.get::<B, 3>(param.id).unwrap_or_else(|| panic!("{name} has no gradient"));
        let grad: Vec<f32> = grad.into_data().iter::<f32>().collect();
        let ways: Vec<f32> = grad.iter().map(|g| g.signum()).collect();
        let slope: f64 = grad.iter().map(|g| f64::from(g.abs())).sum();
        let step = 1e-3;
        let difference = (moved(name, &ways, step) - moved(name, &ways, -step)) / (2.0 * f64::from(step));
        let bound = 1e-4 + 1e-3 * slope;
        assert!((difference - slope).abs() < bound, "{name}: {slope} by the gradient, {difference} by differences");
        steepest = steepest.max(slope);
    }
    assert!(steepest > 0.1, "flat everywhere, which shows nothing: {steepest}");
}
