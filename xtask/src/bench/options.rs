//! How thoroughly to measure.

/// What all groups know.
pub(crate) struct Options {
    /// How often each figure is measured, if the user has said so.
    pub(super) runs: Option<u32>,
    /// Small numbers of everything.
    pub(crate) smoke: bool,
    /// The benchmark's programs for the kernel.
    pub(crate) object: Vec<u8>,
}

impl Options {
    /// Everything as often as it suits, by these programs for the kernel.
    pub(crate) const fn plain(object: Vec<u8>) -> Self {
        Self {
            runs: None,
            smoke: false,
            object,
        }
    }

    /// How often to measure, when so often suits the figure.
    pub(crate) fn runs(&self, suits: u32) -> u32 {
        self.runs.unwrap_or(if self.smoke { 1 } else { suits })
    }

    /// How many times something is repeated within a measurement.
    pub(crate) fn turns(&self, suits: u32) -> u32 {
        if self.smoke {
            suits.div_ceil(100)
        } else {
            suits
        }
    }
}
