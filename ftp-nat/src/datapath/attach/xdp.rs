//! XDP links: pinned, so that they outlive the daemon. XDP is a shortcut: where it cannot be had, that
//! is said, and everything goes by TC.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use aya_obj::programs::XdpAttachType;
use log::{debug, warn};

use super::{hook::Hook, tcx};
use crate::datapath::pins::{Folder, Gateway, unpin};

/// Attaches the program in the interface's driver, or says why not. Gives whether it was attached
/// newly.
pub(super) fn attach(gateway: &Gateway, hook: &Hook) -> bool {
    let pin = gateway.hook(Folder::Links, &hook.link.name, hook.program);
    try_to_attach(gateway, hook, &pin).unwrap_or_else(|error| {
        warn!(
            "no XDP on {}: {error:#}; its data connections go by TC, which works the same and \
             costs more for each packet",
            hook.link.name
        );
        false
    })
}

/// Whether it was attached newly; false: it was there, and is the newest program now.
fn try_to_attach(gateway: &Gateway, hook: &Hook, pin: &Path) -> anyhow::Result<bool> {
    let name = hook.program.name();
    let mut program = Xdp::from_pin(gateway.program(hook.program), XdpAttachType::Interface)
        .with_context(|| format!("cannot open the pinned program {name}"))?;
    if let Some(running) = tcx::program_on(pin, &hook.link)? {
        if running != program.info()?.id() {
            let link = XdpLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
            let id = program.attach_to_link(link)?;
            // Closes our descriptor; the pin holds the link.
            drop(program.take_link(id)?);
            debug!("took over {name} on {} (xdp)", hook.link.name);
        }
        return Ok(false);
    }
    unpin(pin).with_context(|| format!("cannot remove {}", pin.display()))?;
    let id = program
        .attach(&hook.link.name, XdpMode::Driver)
        .map_err(refused)?;
    // What the kernel attached without a link ends here: dropped, it is detached.
    let link = FdLink::try_from(program.take_link(id)?)
        .context("the kernel has no links for XDP, which came with Linux 5.9")?;
    link.pin(pin)
        .with_context(|| format!("cannot pin the link as {}", pin.display()))?;
    Ok(true)
}

/// Why the kernel attached nothing, in an operator's words.
fn refused(error: ProgramError) -> anyhow::Error {
    let number = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match number {
        Some(libc::EOPNOTSUPP) => anyhow!("its driver has none, or not as it is set up now"),
        Some(libc::EBUSY | libc::EEXIST) => anyhow!("another XDP program runs there"),
        Some(libc::ERANGE | libc::EINVAL) => {
            anyhow!("its driver takes no XDP at this MTU or with these offloads")
        }
        _ => error.into(),
    }
}
