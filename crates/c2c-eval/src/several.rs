//! Sharers beside the first, and which of all of them are fused.

use burn::tensor::DType;
use c2c_fuser::{C2c, FuserError, FusionOrder, Link};
use c2c_kernels::KernelBackend;
use c2c_text::PairText;

/// A Sharer beside the first.
#[derive(Debug)]
pub struct FurtherSharer<B: KernelBackend> {
    /// The model, and the Fuser that was trained between it and the Receiver.
    pub link: Link<B>,
    /// How the Receiver and this Sharer read. The Receiver's tokens of a prompt have to be those of the first pair.
    pub text: PairText,
}

/// Who is fused by [`Method::Several`](c2c_recipe::Method::Several) and its control.
#[derive(Debug)]
pub struct SeveralSharers<B: KernelBackend> {
    /// Whether the Sharer of the first pair is among them. If so it comes before the others.
    pub with_first: bool,
    /// The others, in their order.
    pub others: Vec<FurtherSharer<B>>,
    /// How a section is fused with more than one.
    pub order: FusionOrder,
}

/// One of those that are fused together. Weights are shared, not copied.
pub(crate) struct Joined<'a, B: KernelBackend> {
    pub(crate) link: Link<B>,
    pub(crate) text: &'a PairText,
}

impl<'a, B: KernelBackend> Joined<'a, B> {
    /// The pair as one of them.
    pub(crate) fn first(pair: &C2c<B>, text: &'a PairText) -> Self {
        Self { link: Link { sharer: pair.sharer.clone(), fuser: pair.fuser.clone() }, text }
    }

    /// The link with its Fuser ready to work on caches of this dtype.
    pub(crate) fn ready(self, caches: DType) -> Result<Link<B>, FuserError> {
        Ok(Link { fuser: self.link.fuser.for_inference(caches)?, sharer: self.link.sharer })
    }
}

impl<B: KernelBackend> SeveralSharers<B> {
    /// All that are fused, in their order.
    pub(crate) fn joined<'a>(&'a self, first: &C2c<B>, text: &'a PairText) -> Vec<Joined<'a, B>> {
        let own = self.with_first.then(|| Joined::first(first, text));
        let others = self.others.iter().map(|other| Joined { link: other.link.clone(), text: &other.text });
        own.into_iter().chain(others).collect()
    }
}
