//! Where a program is wanted, and how it is attached.

use serde::Serialize;

use crate::{
    datapath::{pins::Folder, program::Program},
    kernel::network::Link,
};

/// A program wanted on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The interface.
    pub link: Link,
    /// The program.
    pub program: Program,
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A TCX link (Linux 6.6).
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
    /// XDP, in the interface's driver.
    Xdp,
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Xdp => "xdp",
        }
    }
}

impl Kind {
    /// That of a program whose pin is in this folder.
    pub(super) const fn in_folder(folder: Folder, program: Program) -> Self {
        match folder {
            Folder::Links => Self::of_link(program),
            Folder::Filters => Self::Clsact,
        }
    }

    /// That of a pinned link.
    pub(super) const fn of_link(program: Program) -> Self {
        if program.is_xdp() {
            Self::Xdp
        } else {
            Self::Tcx
        }
    }
}

/// A program that is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The interface's name.
    pub interface: String,
    /// Which program.
    pub program: Program,
    /// How.
    pub kind: Kind,
    /// The program's number in the kernel.
    pub id: u32,
}
