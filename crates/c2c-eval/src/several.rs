//! Sharers beside the first, and which of all of them are fused.

use c2c_fuser::{C2c, FusionOrder, Link};
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

/// Who is fused by [`Method::Several`](c2c_recipe::Method::Several).
#[derive(Debug)]
pub struct SeveralSharers<B: KernelBackend> {
    /// Whether the Sharer of the first pair is among them. If so it comes before the others.
    pub with_first: bool,
    /// The others, in their order.
    pub others: Vec<FurtherSharer<B>>,
    /// How a section is fused with more than one.
    pub order: FusionOrder,
}

impl<B: KernelBackend> SeveralSharers<B> {
    /// All that are fused, each with how it reads. Weights are shared, not copied.
    pub(crate) fn links<'a>(&'a self, first: &C2c<B>, text: &'a PairText) -> Vec<(Link<B>, &'a PairText)> {
        let own = || Link { sharer: first.sharer.clone(), fuser: first.fuser.clone() };
        let own = self.with_first.then(|| (own(), text));
        own.into_iter().chain(self.others.iter().map(|other| (other.link.clone(), &other.text))).collect()
    }
}
