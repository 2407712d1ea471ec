//! TCX links (Linux 6.6): pinned, so that they outlive the daemon.

use std::{io, path::Path};

use anyhow::Context as _;
use aya::programs::{
    LinkOrder, ProgramError, ProgramId, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, TcAttachOptions},
};
use log::{debug, warn};

use super::hook::Hook;
use crate::{
    config::Order,
    datapath::pins::unpin,
    kernel::{bpf, network::Link},
};

/// What became of an attempt.
pub(super) enum Attached {
    /// It is attached.
    Yes,
    /// The kernel does not know of TCX.
    NotInThisKernel(io::Error),
}

/// The program that a pinned link runs on this interface; none when there is no such link, or when
/// its interface has gone.
pub(super) fn program_on(pin: &Path, link: &Link) -> anyhow::Result<Option<u32>> {
    let tried = || format!("cannot read the pinned link {}", pin.display());
    let fd = match bpf::open_pin(pin) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(tried),
    };
    let found = bpf::interface_link(&fd).with_context(tried)?;
    Ok(found
        .filter(|found| found.ifindex == link.index)
        .map(|found| found.program))
}

/// Whether a pinned link is attached to any interface.
pub(super) fn is_live(pin: &Path) -> anyhow::Result<bool> {
    let tried = || format!("cannot read the pinned link {}", pin.display());
    let link = bpf::open_pin(pin).with_context(tried)?;
    let found = bpf::interface_link(&link).with_context(tried)?;
    Ok(found.is_some_and(|found| found.ifindex != 0))
}

/// Puts the program into the pinned link, if that is still attached to the interface.
pub(super) fn swap(pin: &Path, hook: &Hook, program: &mut SchedClassifier) -> anyhow::Result<bool> {
    let Some(running) = program_on(pin, &hook.link)? else {
        unpin(pin).with_context(|| format!("cannot remove {}", pin.display()))?;
        return Ok(false);
    };
    if running == program.info()?.id() {
        return Ok(true);
    }
    let tried = || format!("cannot take over the link {}", pin.display());
    let pinned = PinnedLink::from_pin(pin).with_context(tried)?;
    let link = SchedClassifierLink::try_from(FdLink::from(pinned)).with_context(tried)?;
    let id = program.attach_to_link(link).with_context(tried)?;
    // Closes our descriptor; the pin holds the link.
    drop(program.take_link(id).with_context(tried)?);
    debug!(
        "took over {} on {} (tcx)",
        hook.program.name(),
        hook.link.name
    );
    Ok(true)
}

/// Where in the chain; in front of all where the program that was named is not there.
fn place(hook: &Hook, order: &Order) -> LinkOrder {
    let number = |name: &String| {
        let programs = programs(&hook.link, hook.program.direction());
        let found = programs.into_iter().find(|(_, its)| its == name);
        if found.is_none() {
            warn!(
                "no program {name} is attached to {} where {} is to be: it goes in front of all",
                hook.link.name,
                hook.program.name()
            );
        }
        // SAFETY: the kernel has just given this number.
        found.map(|(id, _)| unsafe { ProgramId::new(id) })
    };
    match order {
        Order::First => LinkOrder::first(),
        Order::Last => LinkOrder::last(),
        Order::Before(name) => {
            number(name).map_or_else(LinkOrder::first, LinkOrder::before_program_id)
        }
        Order::After(name) => {
            number(name).map_or_else(LinkOrder::first, LinkOrder::after_program_id)
        }
    }
}

/// Attaches the program at its place in the chain, and pins the link.
pub(super) fn attach(
    pin: &Path,
    hook: &Hook,
    order: &Order,
    program: &mut SchedClassifier,
) -> anyhow::Result<Attached> {
    let id = match program.attach_with_options(
        &hook.link.name,
        hook.program.direction(),
        TcAttachOptions::TcxOrder(place(hook, order)),
    ) {
        Ok(id) => id,
        // What a kernel says that does not know this type of attachment.
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
        {
            return Ok(Attached::NotInThisKernel(error.io_error));
        }
        Err(error) => return Err(error.into()),
    };
    let link = FdLink::try_from(program.take_link(id)?)?;
    // Dropping the unpinned link would detach it: so it does when pinning fails.
    link.pin(pin)
        .with_context(|| format!("cannot pin the link as {}", pin.display()))?;
    Ok(Attached::Yes)
}

/// Detaches a pinned link and removes the pin; that it is not there is as good.
///
/// Removing the pin alone would do, but only when the kernel comes to free it: until then the
/// program still sees packets, and others see the program.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    match bpf::open_pin(pin) {
        Ok(link) => {
            bpf::detach_link(link)?;
            unpin(pin)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The number and name of each program on one side of an interface; none where the kernel does not
/// tell, for want of TCX or of privileges.
pub(super) fn programs(link: &Link, direction: TcAttachType) -> Vec<(u32, String)> {
    let Ok((_, programs)) = SchedClassifier::query_tcx(&link.name, direction) else {
        return Vec::new();
    };
    programs
        .iter()
        .map(|info| (info.id(), info.name_as_str().unwrap_or("").to_owned()))
        .collect()
}
