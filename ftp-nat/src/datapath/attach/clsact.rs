//! Filters of the clsact qdisc, for kernels without TCX.
//!
//! A filter needs no pin to stay, but must be found again among those of others. So the program
//! that it runs is pinned under the hook's name, and the filter that runs just that program is
//! ours.

use std::{fs, io, path::Path};

use anyhow::{Context as _, bail};
use aya::programs::{
    ProgramInfo, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact},
};
use log::{debug, warn};

use super::hook::Hook;
use crate::{
    config::Order,
    datapath::{
        pins::{Folder, Gateway, unpin},
        program::Program,
    },
    kernel::{
        netlink::{Netlink, attributes, message, number, text},
        network::{Link, Network},
    },
};

/// `struct tcmsg` of linux/rtnetlink.h.
const TCMSG: usize = 20;
/// TC_H_CLSACT, and its two halves as parents of filters.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// A BPF filter on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    handle: u32,
    /// The number of the program that it runs.
    pub(super) program: u32,
    /// The name that its maker gave it: the program's.
    pub(super) name: String,
}

const fn parent(direction: TcAttachType) -> u32 {
    match direction {
        TcAttachType::Ingress => INGRESS,
        TcAttachType::Egress => EGRESS,
        TcAttachType::Custom(parent) => parent,
    }
}

fn tcmsg(ifindex: u32, handle: u32, parent: u32) -> [u8; TCMSG] {
    let mut bytes = [0; TCMSG];
    bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes
}

/// The BPF filters on one side of an interface.
pub(super) fn filters(link: &Link, direction: TcAttachType) -> io::Result<Vec<Filter>> {
    const OPTIONS: u16 = 2;
    const BPF_NAME: u16 = 7;
    const BPF_ID: u16 = 11;
    let request = tcmsg(link.index, 0, parent(direction));
    Netlink::open()?.dump(
        message::GET_FILTER,
        &request,
        |filters: &mut Vec<_>, kind, payload| {
            if kind != message::NEW_FILTER {
                return;
            }
            let (Some(handle), Some(info)) = (number(payload, 8), number(payload, 16)) else {
                return;
            };
            let (mut program, mut name) = (None, String::new());
            for (_, options) in attributes(payload, TCMSG).filter(|(kind, _)| *kind == OPTIONS) {
                for (kind, value) in attributes(options, 0) {
                    match kind {
                        BPF_ID => program = number(value, 0),
                        BPF_NAME => name = text(value),
                        _ => {}
                    }
                }
            }
            if let Some(program) = program {
                filters.push(Filter {
                    priority: (info >> 16) as u16,
                    handle,
                    program,
                    name,
                });
            }
        },
    )
}

fn program_id(pin: &Path) -> anyhow::Result<Option<u32>> {
    if !pin.exists() {
        return Ok(None);
    }
    let info = ProgramInfo::from_pin(pin)
        .with_context(|| format!("cannot read the pinned program {}", pin.display()))?;
    Ok(Some(info.id()))
}

/// The filter that runs the program pinned for this hook.
pub(super) fn find(pin: &Path, link: &Link, program: Program) -> anyhow::Result<Option<Filter>> {
    let ids = [program_id(pin)?, program_id(&next(pin))?];
    let filters = filters(link, program.direction())
        .with_context(|| format!("cannot list the filters on {}", link.name))?;
    Ok(filters
        .into_iter()
        .find(|filter| ids.contains(&Some(filter.program))))
}

/// Where a program is pinned before it takes the place of another: whenever the daemon is killed,
/// the program that the filter runs is pinned under one of the two names.
fn next(pin: &Path) -> std::path::PathBuf {
    let mut name = pin.as_os_str().to_owned();
    name.push("+next");
    name.into()
}

/// Pins another handle to the gateway's program.
fn pin_program(gateway: &Gateway, program: Program, pin: &Path) -> anyhow::Result<()> {
    unpin(pin).with_context(|| format!("cannot remove {}", pin.display()))?;
    let source = gateway.program(program);
    SchedClassifier::from_pin(&source)?
        .pin(pin)
        .with_context(|| format!("cannot pin {} as {}", source.display(), pin.display()))
}

/// Puts the program into our filter, if it is there: the kernel replaces it in one step.
pub(super) fn swap(
    pin: &Path,
    hook: &Hook,
    gateway: &Gateway,
    program: &mut SchedClassifier,
) -> anyhow::Result<bool> {
    let Some(filter) = find(pin, &hook.link, hook.program)? else {
        unpin(pin).with_context(|| format!("cannot remove {}", pin.display()))?;
        return Ok(false);
    };
    if filter.program == program.info()?.id() {
        return Ok(true);
    }
    pin_program(gateway, hook.program, &next(pin))?;
    let ours = SchedClassifierLink::attached(
        &hook.link.name,
        hook.program.direction(),
        filter.priority,
        TcHandle::from(filter.handle),
        None,
    )?;
    let id = program
        .attach_to_link(ours)
        .context("cannot swap the filter's program")?;
    // Dropping the link would remove the filter.
    std::mem::forget(program.take_link(id)?);
    fs::rename(next(pin), pin).with_context(|| format!("cannot rename to {}", pin.display()))?;
    debug!(
        "took over {} on {} (clsact)",
        hook.program.name(),
        hook.link.name
    );
    Ok(true)
}

/// The priority for a new filter: lower ones see packets earlier. 0: the kernel chooses one in front of
/// all. Beside the program that was named it is the next number, or that one's own where it is taken.
fn priority(hook: &Hook, order: &Order) -> anyhow::Result<u16> {
    let filters = filters(&hook.link, hook.program.direction())
        .with_context(|| format!("cannot list the filters on {}", hook.link.name))?;
    let beside = |name: &String| {
        let found = filters.iter().find(|filter| filter.name == *name);
        if found.is_none() {
            warn!(
                "no program {name} is attached to {} where {} is to be: it goes in front of all",
                hook.link.name,
                hook.program.name()
            );
        }
        found.map(|filter| filter.priority)
    };
    Ok(match order {
        Order::First => 0,
        Order::Last => u16::MAX,
        Order::Before(name) => beside(name).map_or(0, |it| it.saturating_sub(1).max(1)),
        Order::After(name) => beside(name).map_or(0, |it| it.saturating_add(1)),
    })
}

/// Attaches the program by a new filter, at its place among those that are there.
pub(super) fn attach(
    pin: &Path,
    hook: &Hook,
    gateway: &Gateway,
    order: &Order,
    program: &mut SchedClassifier,
) -> anyhow::Result<()> {
    add_qdisc(gateway, hook)?;
    let options = NlOptions {
        priority: priority(hook, order)?,
        ..NlOptions::default()
    };
    pin_program(gateway, hook.program, pin)?;
    let id = program
        .attach_with_options(
            &hook.link.name,
            hook.program.direction(),
            TcAttachOptions::Netlink(options),
        )
        .inspect_err(|_| drop(unpin(pin)))?;
    // Dropping the link would remove the filter.
    std::mem::forget(program.take_link(id)?);
    Ok(())
}

/// Makes sure that there is a clsact qdisc, and marks it if it is ours to remove.
fn add_qdisc(gateway: &Gateway, hook: &Hook) -> anyhow::Result<()> {
    let name = &hook.link.name;
    match qdisc(&hook.link)?.as_deref() {
        Some("clsact") => return Ok(()),
        // Its one side would take filters meant for egress as well.
        Some(other) => bail!(
            "{name} has a qdisc {other} where clsact must be: replace it with `tc qdisc replace \
             dev {name} clsact`"
        ),
        None => {}
    }
    match qdisc_add_clsact(name) {
        Ok(()) => pin_program(gateway, hook.program, &gateway.qdisc(name)),
        // Somebody was faster.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error).context("cannot add a clsact qdisc"),
    }
}

/// The kind of the qdisc on the interface's clsact hook, if there is one.
fn qdisc(link: &Link) -> anyhow::Result<Option<String>> {
    const KIND: u16 = 1;
    let request = tcmsg(link.index, 0, 0);
    Netlink::open()?
        .dump(
            message::GET_QDISC,
            &request,
            |found: &mut Option<_>, kind, payload| {
                let (ifindex, parent) = (number(payload, 4), number(payload, 12));
                // Before Linux 5.19 a dump has the qdiscs of all interfaces.
                if kind == message::NEW_QDISC
                    && ifindex == Some(link.index)
                    && parent == Some(CLSACT)
                {
                    let kind = attributes(payload, TCMSG).find(|(kind, _)| *kind == KIND);
                    *found = kind.map(|(_, value)| text(value));
                }
            },
        )
        .with_context(|| format!("cannot list the qdiscs of {}", link.name))
}

/// Removes the filter, its pin, and the qdisc if it was ours and nobody else uses it.
pub(super) fn detach(gateway: &Gateway, interface: &str, program: Program) -> anyhow::Result<()> {
    let pin = gateway.hook(Folder::Filters, interface, program);
    let network = Network::read([], &[])?;
    if let Some(link) = network.named(interface) {
        if let Some(filter) = find(&pin, link, program)? {
            // Dropping the link removes the filter, but would keep an error to itself.
            use aya::programs::links::Link as _;
            SchedClassifierLink::attached(
                interface,
                program.direction(),
                filter.priority,
                TcHandle::from(filter.handle),
                None,
            )?
            .detach()?;
        }
        remove_qdisc(gateway, link)?;
    } else {
        unpin(&gateway.qdisc(interface))?;
    }
    unpin(&next(&pin))?;
    unpin(&pin)?;
    Ok(())
}

fn remove_qdisc(gateway: &Gateway, link: &Link) -> anyhow::Result<()> {
    let mark = gateway.qdisc(&link.name);
    if !mark.exists() {
        return Ok(());
    }
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        if has_filters(link, parent(direction))? {
            return Ok(());
        }
    }
    let request = tcmsg(link.index, CLSACT_HANDLE, CLSACT);
    match Netlink::open()?.ask(message::DEL_QDISC, &request, |_, _| {}) {
        Ok(()) => {}
        // Somebody was faster.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot remove the clsact qdisc of {}", link.name));
        }
    }
    unpin(&mark)?;
    Ok(())
}

/// Whether there is any filter, of whatever kind.
fn has_filters(link: &Link, parent: u32) -> io::Result<bool> {
    let request = tcmsg(link.index, 0, parent);
    Netlink::open()?.dump(message::GET_FILTER, &request, |any, kind, _| {
        *any |= kind == message::NEW_FILTER;
    })
}
