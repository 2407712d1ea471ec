//! Programs on interfaces: attached by TCX or by a clsact filter, found again, swapped without a
//! gap, detached.

mod clsact;
mod frames;
mod hook;
mod tcx;
mod xdp;

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, bail};
use aya::programs::SchedClassifier;
use ftp_nat_common::abi::interface_flag;
use log::{debug, info};

use super::{
    maps::Maps,
    pins::{Folder, Gateway},
    program::Program,
};
use crate::{
    config::{Attach, Placing},
    kernel::{network::Network, requirements},
};

pub use self::hook::{Attachment, Hook, Kind};

/// What of a gateway is attached, as the kernel has it: pins whose interface is gone do not count.
///
/// # Errors
///
/// When a pin cannot be opened (`EPERM`: no CAP_BPF) or the filters of an interface cannot be
/// listed.
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
                kind: Kind::of_link(program),
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
pub fn refuse_foreign_programs(
    own: &[&Gateway],
    network: &Network,
    wanted: &[Hook],
) -> anyhow::Result<()> {
    let mut ours = Vec::new();
    for gateway in own {
        ours.extend(attached(gateway, network)?);
    }
    for Hook { link, program } in wanted {
        // Gateways on several WANs may well share a LAN interface.
        if program.is_inside() || program.is_xdp() {
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

/// Somebody else's programs that see packets in front of one of ours, by name, in their order. One
/// that ends the chain (any verdict but TCX_NEXT or TC_ACT_UNSPEC) keeps them from ours.
///
/// # Errors
///
/// When what is attached cannot be listed.
pub fn in_front(
    gateway: &Gateway,
    network: &Network,
) -> anyhow::Result<Vec<(Attachment, Vec<String>)>> {
    let own = attached(gateway, network)?;
    let mut found = Vec::new();
    for ours in own.iter().filter(|it| it.kind != Kind::Xdp) {
        let Some(link) = network.named(&ours.interface) else {
            continue;
        };
        let direction = ours.program.direction();
        let mut chain = tcx::programs(link, direction);
        // What TCX leaves goes on to clsact's filters, the lowest priority first.
        if ours.kind == Kind::Clsact {
            let mut filters = clsact::filters(link, direction)
                .with_context(|| format!("cannot list the filters on {}", link.name))?;
            filters.sort_by_key(|it| it.priority);
            chain.extend(filters.into_iter().map(|it| (it.program, it.name)));
        }
        let before = chain.into_iter().take_while(|(id, _)| *id != ours.id);
        let names: Vec<_> = before
            .filter(|(id, _)| !own.iter().any(|it| it.id == *id))
            .map(|(_, name)| name)
            .collect();
        if !names.is_empty() {
            found.push((ours.clone(), names));
        }
    }
    Ok(found)
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
/// (those pinned by [`crate::datapath::load`]) in place of older ones, detaches what is too much.
///
/// # Errors
///
/// What could not be attached; `changes` has what was attached by then.
pub fn reconcile(
    gateway: &Gateway,
    network: &Network,
    wanted: &[Hook],
    placing: Placing<'_>,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    add(gateway, wanted, placing, changes)?;
    for folder in [Folder::Links, Folder::Filters] {
        for (interface, program) in gateway.hooks(folder) {
            let kind = Kind::in_folder(folder, program);
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

/// Attaches what is missing of what is wanted, and puts the newest programs in place of older ones.
///
/// # Errors
///
/// As [`reconcile`].
pub fn add(
    gateway: &Gateway,
    wanted: &[Hook],
    placing: Placing<'_>,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    for hook in wanted {
        if hook.program.is_xdp() {
            if xdp::attach(gateway, hook) {
                changes.made.push((Kind::Xdp, hook.clone()));
            }
            continue;
        }
        attach(gateway, hook, placing, changes).with_context(|| {
            let why = requirements::why_refused();
            format!("cannot attach {}{why}", describe(hook))
        })?;
    }
    Ok(())
}

/// What of a gateway is attached to interfaces that had other names when it was: their names of that time
/// (those of the pins) with the interfaces' numbers, for [`follow_names`].
///
/// # Errors
///
/// See [`attached`].
pub fn renamed(gateway: &Gateway, network: &Network) -> anyhow::Result<Vec<Hook>> {
    let mut found = Vec::new();
    for folder in [Folder::Links, Folder::Filters] {
        for (interface, program) in gateway.hooks(folder) {
            if network.named(&interface).is_some() {
                continue;
            }
            let pin = gateway.hook(folder, &interface, program);
            for link in network.links() {
                let is_there = match folder {
                    Folder::Filters => clsact::find(&pin, link, program)?.is_some(),
                    Folder::Links => tcx::program_on(&pin, link)?.is_some(),
                };
                if is_there {
                    let mut link = link.clone();
                    link.name.clone_from(&interface);
                    found.push(Hook { link, program });
                }
            }
        }
    }
    Ok(found)
}

/// Renames the pins of programs whose interface has another name now: what is attached follows the
/// interface, and pins are found by its name.
///
/// # Errors
///
/// `EACCES`: the folder belongs to another user.
pub fn follow_names(gateway: &Gateway, network: &Network, known: &[Hook]) -> anyhow::Result<()> {
    for Hook { link: old, program } in known {
        let Some(link) = network.numbered(old.index) else {
            continue;
        };
        if link.name == old.name || network.named(&old.name).is_some() {
            continue;
        }
        let renamed = [Folder::Links, Folder::Filters]
            .map(|folder| [&old.name, &link.name].map(|name| gateway.hook(folder, name, *program)))
            .into_iter()
            .chain([[&old.name, &link.name].map(|name| gateway.qdisc(name))]);
        for [from, to] in renamed.filter(|[from, _]| from.exists()) {
            fs::rename(&from, &to)
                .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))?;
        }
        info!(
            "{} is called {} now: {} stays attached to it",
            old.name,
            link.name,
            program.name()
        );
    }
    Ok(())
}

fn describe(hook: &Hook) -> String {
    format!("{} to {}", hook.program.name(), hook.link.name)
}

fn attach(
    gateway: &Gateway,
    hook: &Hook,
    placing: Placing<'_>,
    changes: &mut Changes,
) -> anyhow::Result<()> {
    let Placing { attach: how, order } = placing;
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
        match tcx::attach(&link, hook, order, &mut program)? {
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
    clsact::attach(&filter, hook, gateway, order, &mut program)?;
    changes.made.push((Kind::Clsact, hook.clone()));
    Ok(())
}

fn detach(gateway: &Gateway, kind: Kind, interface: &str, program: Program) -> anyhow::Result<()> {
    let result = match kind {
        Kind::Tcx | Kind::Xdp => {
            tcx::detach(&gateway.hook(Folder::Links, interface, program)).map_err(Into::into)
        }
        Kind::Clsact => clsact::detach(gateway, interface, program),
    };
    result.with_context(|| format!("cannot detach {} from {interface}", program.name()))
}

/// Tells the datapath which interfaces send XDP's frames; gives what is to be said of those that
/// have XDP and do not.
///
/// # Errors
///
/// When the INTERFACES map cannot be read or written: see [`crate::kernel::table::Table`].
pub fn mark_fast(
    gateway: &Gateway,
    network: &Network,
    maps: &Maps,
) -> anyhow::Result<BTreeSet<String>> {
    let attached = attached(gateway, network)?;
    let tried = "cannot write the interfaces";
    let mut slow = BTreeSet::new();
    for (index, mut interface) in maps.interfaces.all().context(tried)? {
        let Some(link) = network.numbered(index) else {
            continue;
        };
        let has_xdp = attached
            .iter()
            .any(|it| it.kind == Kind::Xdp && it.interface == link.name);
        let old = interface.flags;
        interface.flags &= !interface_flag::XDP;
        if has_xdp && frames::are_sent_by(link) {
            interface.flags |= interface_flag::XDP;
        } else if has_xdp {
            slow.insert(format!(
                "{} does not send XDP's frames (a veth does if its other end has GRO on): data \
                 that leaves by it goes by TC",
                link.name
            ));
        }
        if interface.flags != old {
            maps.interfaces.set(&index, &interface).context(tried)?;
        }
    }
    Ok(slow)
}

/// Whether any link of a gateway is still attached, in whichever network namespace.
///
/// # Errors
///
/// When a link cannot be read: `EPERM`: no CAP_BPF.
pub fn has_live_link(gateway: &Gateway) -> anyhow::Result<bool> {
    for (interface, program) in gateway.hooks(Folder::Links) {
        if tcx::is_live(&gateway.hook(Folder::Links, &interface, program))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Detaches a gateway's XDP programs.
///
/// # Errors
///
/// As [`detach_all`].
pub fn detach_xdp(gateway: &Gateway) -> anyhow::Result<()> {
    for (interface, program) in gateway.hooks(Folder::Links) {
        if program.is_xdp() {
            detach(gateway, Kind::Xdp, &interface, program)?;
        }
    }
    Ok(())
}

/// Detaches all of a gateway, whichever interfaces are still there; gives how many programs.
///
/// # Errors
///
/// `EPERM`: no CAP_NET_ADMIN. The message says which program could not be detached.
pub fn detach_all(gateway: &Gateway) -> anyhow::Result<usize> {
    let mut count = 0;
    for folder in [Folder::Links, Folder::Filters] {
        for (interface, program) in gateway.hooks(folder) {
            detach(
                gateway,
                Kind::in_folder(folder, program),
                &interface,
                program,
            )?;
            count += 1;
        }
    }
    Ok(count)
}
