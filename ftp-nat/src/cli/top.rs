//! The arguments of `ftp-nat top`.

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// The fastest.
    #[default]
    Rate,
    /// The largest.
    Bytes,
    /// The youngest.
    Age,
    /// By address.
    Peer,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Rate, Self::Bytes, Self::Age, Self::Peer];

    /// As the screen names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Peer => "peer",
        }
    }

    pub(crate) fn next(self) -> Self {
        let place = Self::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Self::ALL[(place + 1) % Self::ALL.len()]
    }
}
