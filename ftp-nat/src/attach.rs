//! Programs on interfaces: attached by TCX or by a clsact filter, found again, swapped without a
//! gap, detached.

mod clsact;
mod tcx;

use std::{fs, io, path::Path};

use anyhow::{Context as _, bail};
use aya::programs::{SchedClassifier, TcAttachType};
use log::{debug, info};
use serde::Serialize;

use crate::{
    config::Attach,
    kernel,
    network::{Link, Network},
    pins::{Folder, Gateway},
};

/// The datapath's programs, by where they are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// What comes in from outside.
    WanIngress,
    /// What leaves for the outside.
    WanEgress,
    /// What comes from the inside.
    LanIngress,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WanIngress, Self::WanEgress, Self::LanIngress];

    /// Its name in the eBPF object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WanIngress => "wan_ingress",
            Self::WanEgress => "wan_egress",
            Self::LanIngress => "lan_ingress",
        }
    }

    /// The program of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|program| program.name() == name)
    }

    const fn direction(self) -> TcAttachType {
        match self {
            Self::WanEgress => TcAttachType::Egress,
            Self::WanIngress | Self::LanIngress => TcAttachType::Ingress,
        }
    }
}

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
}

impl Kind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
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

/// What of a gateway is attached, as the kernel has it: pins whose interface is gone do not count.
///
/// # Errors
///
/// What the kernel said.
pub fn attached(gateway: &Gateway, network: &Network) -> anyhow::Result<Vec<Attachment>> {
    let mut found = Vec::new();
    for (interface, program) in gateway.hooks(Folder::Links) {
        let pin = gateway.hook(Folder::Links, &interface, program);
        if let Some(link) = network.named(&interface)
            && let Some(id) = tcx::program_on(&pin, link)?
        {
            found.push(Attachment {
                interface,
                program,
                kind: Kind::Tcx,
                id,
            });
        }
    }
    for (interface, program) in gateway.hooks(Folder::Filters) {
        let pin = gateway.hook(Folder::Filters, &interface, program);
        if let Some(link) = network.named(&interface)
            && let Some(filter) = clsact::find(&pin, link, program)?
        {
            found.push(Attachment {
                interface,
                program,
                kind: Kind::Clsact,
                id: filter.program,
            });
        }
    }
    Ok(found)
}

/// Refuses where somebody else's programs of the same name are attached: a packet must not be
/// translated twice.
///
/// # Errors
///
/// Which programs those are, and what to do about them.
pub fn refuse_strangers(
    gateway: &Gateway,
    network: &Network,
    wanted: &[Hook],
) -> anyhow::Result<()> {
    let ours = attached(gateway, network)?;
    for Hook { link, program } in wanted {
        // Gateways on several WANs may well share a LAN interface.
        if *program == Program::LanIngress {
            continue;
        }
        let filters = clsact::filters(link, program.direction())
            .with_context(|| format!("cannot list the filters on {}", link.name))?;
        let all = tcx::programs(link, program.direction()).into_iter().chain(
            filters
                .into_iter()
                .map(|filter| (filter.program, filter.name)),
        );
        for (id, name) in all {
            if name == program.name() && !ours.iter().any(|own| own.id == id) {
                bail!(
                    "another gateway's program {name} (number {id}) is attached to {}: stop that \
                     gateway, and unload it with the --state-dir that it was loaded with",
                    link.name
                );
            }
        }
    }
    Ok(())
}

/// Changes that can be taken back until they are kept.
#[derive(Debug, Default)]
pub struct Changes {
    made: Vec<(Kind, Hook)>,
}

impl Changes {
    /// Takes back what was newly attached. Programs that were swapped stay swapped: they are of
    /// the same layout and work on the same maps.
    pub fn undo(self, gateway: &Gateway) {
        for (kind, hook) in self.made.into_iter().rev() {
            if let Err(error) = detach(gateway, kind, &hook.link.name, hook.program) {
                log::warn!("cannot take back {}: {error:#}", describe(&hook));
            }
        }
    }
}

/// Brings the kernel to just what is wanted: attaches what is missing, puts the newest programs
/// (those pinned by [`crate::load`]) in place of older ones, detaches what is too much.
///
/// # Errors
///
/// What could not be attached; `changes` has what was attached by then.
pub fn reconcile(
    gateway: &Gateway,
    network: &Network,
    wanted: &[Hook],
    how: Attach,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    for hook in wanted {
        attach(gateway, hook, how, changes).with_context(|| {
            let why = kernel::why_refused();
            format!("cannot attach {}{why}", describe(hook))
        })?;
    }
    for (folder, kind) in [(Folder::Links, Kind::Tcx), (Folder::Filters, Kind::Clsact)] {
        for (interface, program) in gateway.hooks(folder) {
            let is_wanted = wanted
                .iter()
                .any(|hook| hook.link.name == interface && hook.program == program);
            if is_wanted {
                continue;
            }
            if network.named(&interface).is_some() {
                info!("detaching {} from {interface}", program.name());
            }
            detach(gateway, kind, &interface, program)?;
        }
    }
    Ok(())
}

fn describe(hook: &Hook) -> String {
    format!("{} to {}", hook.program.name(), hook.link.name)
}

fn attach(
    gateway: &Gateway,
    hook: &Hook,
    how: Attach,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    let mut program = SchedClassifier::from_pin(gateway.program(hook.program))
        .with_context(|| format!("cannot open the pinned program {}", hook.program.name()))?;
    let own = |folder| gateway.hook(folder, &hook.link.name, hook.program);
    let (link, filter) = (own(Folder::Links), own(Folder::Filters));
    // What is there already is swapped; on the other kind of hook it must not run as well.
    match how {
        Attach::Auto | Attach::Tcx => {
            if tcx::swap(&link, hook, &mut program)? {
                return Ok(());
            }
            if how == Attach::Tcx {
                detach(gateway, Kind::Clsact, &hook.link.name, hook.program)?;
            }
        }
        Attach::Clsact => detach(gateway, Kind::Tcx, &hook.link.name, hook.program)?,
    }
    if how != Attach::Tcx && clsact::swap(&filter, hook, gateway, &mut program)? {
        return Ok(());
    }
    if how != Attach::Clsact {
        match tcx::attach(&link, hook, &mut program)? {
            tcx::Attached::Yes => {
                changes.made.push((Kind::Tcx, hook.clone()));
                return Ok(());
            }
            tcx::Attached::NotInThisKernel(error) if how == Attach::Tcx => {
                bail!("the kernel has no TCX ({error}): it came with Linux 6.6; use --attach auto");
            }
            tcx::Attached::NotInThisKernel(error) => {
                debug!("the kernel has no TCX ({error}): falling back to clsact");
            }
        }
    }
    clsact::attach(&filter, hook, gateway, &mut program)?;
    changes.made.push((Kind::Clsact, hook.clone()));
    Ok(())
}

fn detach(gateway: &Gateway, kind: Kind, interface: &str, program: Program) -> anyhow::Result<()> {
    let result = match kind {
        Kind::Tcx => {
            tcx::detach(&gateway.hook(Folder::Links, interface, program)).map_err(Into::into)
        }
        Kind::Clsact => clsact::detach(gateway, interface, program),
    };
    result.with_context(|| format!("cannot detach {} from {interface}", program.name()))
}

/// Detaches all of a gateway, whichever interfaces are still there; gives how many programs.
///
/// # Errors
///
/// What the kernel said.
pub fn detach_all(gateway: &Gateway) -> anyhow::Result<usize> {
    let mut count = 0;
    for (folder, kind) in [(Folder::Links, Kind::Tcx), (Folder::Filters, Kind::Clsact)] {
        for (interface, program) in gateway.hooks(folder) {
            detach(gateway, kind, &interface, program)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Removes a pin; that it is not there is as good.
fn unpin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
