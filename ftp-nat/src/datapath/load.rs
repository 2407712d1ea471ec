//! The datapath into the kernel: maps created or taken over, programs verified, all of it pinned.

use std::{fs, path::Path, thread};

use anyhow::{Context as _, anyhow, bail};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    programs::{ProgramError, SchedClassifier},
};
use ftp_nat_common::abi::map;
use log::{debug, warn};

use super::{guard::Guard, maps, object, pins::Gateway, program::Program, stations};
use crate::{config::Limits, kernel::requirements};

/// The smallest ring that any kernel makes: a page of the largest size.
const SMALLEST_RING: u32 = 1 << 16;

/// Lines of the verifier's log that are shown: the reason is at the end.
const LOG_TAIL: usize = 25;

/// Loads the datapath and pins its maps and programs. Maps that are pinned already are taken over
/// with all that is in them.
///
/// Gives the guard, where this kernel can have one; it lasts as long as that value.
///
/// # Errors
///
/// What was refused and why. What was made by then stays: the caller removes a gateway that was
/// not there before.
pub fn load(
    gateway: &Gateway,
    limits: &Limits,
    publishes: usize,
    pools: usize,
    with_xdp: bool,
) -> anyhow::Result<Option<Guard>> {
    let sizes = sizes(limits, publishes, pools);
    for name in maps::names() {
        if !gateway.map(name).exists() {
            continue;
        }
        let pinned = maps::check(gateway, name)?;
        if let Some((_, wanted)) = sizes.iter().find(|(sized, _)| *sized == name)
            && pinned.max_entries() != *wanted
        {
            warn!(
                "map {name} stays at room for {} entries, not {wanted}: its size can change only \
                 after `ftp-nat unload`",
                pinned.max_entries()
            );
        }
    }
    let mut loader = EbpfLoader::new();
    // The object has no relocations against the kernel's own types.
    loader.btf(None);
    for name in maps::names() {
        loader.map_pin_path(name, gateway.map(name));
    }
    for (name, entries) in &sizes {
        loader.map_max_entries(name, *entries);
    }
    // Only traced programs write to it: see `super::trace`.
    loader.map_max_entries("AYA_LOGS", SMALLEST_RING);
    let mut ebpf = loader.load(object::ebpf_object()?).map_err(refused)?;
    for name in maps::names() {
        if ebpf.map(name).is_none() {
            bail!("the eBPF object has no map {name}: it is not of this ftp-nat");
        }
        maps::check(gateway, name)?;
    }
    verify(&mut ebpf, with_xdp)?;
    enter_stations(gateway, &mut ebpf)?;
    for program in Program::ALL {
        if with_xdp || !program.is_xdp() {
            let name = program.name();
            pin(named(&mut ebpf, name)?, name, &gateway.program(program))?;
        }
    }
    let guard = Guard::set_up(&mut ebpf).inspect_err(|error| {
        warn!(
            "connections will break where an interface is deleted and made anew, as the guard \
             against that cannot be set up: {error:#}"
        );
    });
    Ok(guard.ok())
}

/// Loads all programs at once: each keeps a CPU busy with its verification.
fn verify(ebpf: &mut Ebpf, with_xdp: bool) -> anyhow::Result<()> {
    let loaded = thread::scope(|scope| {
        let threads: Vec<_> = ebpf
            .programs_mut()
            .filter_map(|(name, program)| {
                let thread = match program {
                    aya::programs::Program::SchedClassifier(it) => scope.spawn(|| it.load()),
                    aya::programs::Program::Xdp(it) if with_xdp => scope.spawn(|| it.load()),
                    _ => return None,
                };
                Some((name, thread))
            })
            .collect();
        threads
            .into_iter()
            .map(|(name, thread)| match thread.join() {
                Ok(result) => result.map_err(|error| rejected(name, error)),
                Err(_) => Err(anyhow!("loading program {name} panicked")),
            })
            .collect::<Result<Vec<()>, _>>()
    });
    loaded.map(drop)
}

/// Enters the stations into the program array and pins them. The programs at the hooks may be
/// attached already.
fn enter_stations(gateway: &Gateway, ebpf: &mut Ebpf) -> anyhow::Result<()> {
    for (name, index) in stations::ALL {
        stations::enter(gateway, index, station(ebpf, name)?)?;
        pin(named(ebpf, name)?, name, &gateway.station(name))?;
    }
    Ok(())
}

/// A station of the eBPF object.
///
/// # Errors
///
/// When it has none of this name.
pub(super) fn station<'e>(
    ebpf: &'e mut Ebpf,
    name: &str,
) -> anyhow::Result<&'e mut SchedClassifier> {
    named(ebpf, name)?
        .try_into()
        .with_context(|| format!("program {name} of the eBPF object is no classifier"))
}

fn named<'e>(ebpf: &'e mut Ebpf, name: &str) -> anyhow::Result<&'e mut aya::programs::Program> {
    ebpf.program_mut(name).with_context(|| {
        format!("the eBPF object has no program {name}: it is not of this ftp-nat")
    })
}

/// Entries of the maps that can be sized.
fn sizes(limits: &Limits, publishes: usize, pools: usize) -> [(&'static str, u32); 9] {
    // A connection has two entries, one a direction.
    let flows = limits.connections.saturating_mul(2);
    // And so has what is kept of a session's lines.
    let lines = limits.sessions.saturating_mul(2);
    // Each session may be of another client, and so may those that ended since the last sweep.
    let shares = limits.sessions.saturating_mul(4);
    // Room for a reload with more of them, and for each to be there twice while addresses change.
    let published = u32::try_from(publishes)
        .unwrap_or(u32::MAX)
        // And an entry for each address, beside that of each address and port.
        .saturating_mul(4)
        .max(16_384);
    // For the same reason; a pool takes memory only once it is there.
    let pools = u32::try_from(pools)
        .unwrap_or(u32::MAX)
        .saturating_mul(4)
        .max(256);
    [
        (map::FLOWS4, flows),
        (map::FLOWS6, flows),
        (map::MAPPINGS, limits.mappings),
        (map::SESSIONS, limits.sessions),
        (map::LINES, lines),
        (map::PERMITS, limits.sessions),
        (map::SHARES, shares),
        (map::PUBLISHED, published),
        (map::POOLS, pools),
    ]
}

fn pin(loaded: &mut aya::programs::Program, name: &str, path: &Path) -> anyhow::Result<()> {
    if let Ok(info) = loaded.info() {
        debug!(
            "program {name}: number {}, {} bytes translated, {} instructions verified",
            info.id(),
            info.size_translated().unwrap_or(0),
            info.verified_instruction_count().unwrap_or(0)
        );
    }
    let mut next = path.as_os_str().to_owned();
    next.push("+next");
    drop(fs::remove_file(&next));
    let tried = || format!("cannot pin program {name} as {}", path.display());
    loaded.pin(&next).with_context(tried)?;
    fs::rename(&next, path).with_context(tried)
}

fn refused(error: EbpfError) -> anyhow::Error {
    let why = requirements::why_refused();
    anyhow::Error::new(error).context(format!("the kernel refused the datapath's maps{why}"))
}

/// The verifier's own words, but only their end: a whole log can be megabytes.
pub(super) fn rejected(name: &str, error: ProgramError) -> anyhow::Error {
    let why = requirements::why_refused();
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return anyhow::Error::new(error).context(format!("cannot load program {name}{why}"));
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n  ");
    let said = if tail.is_empty() {
        String::new()
    } else {
        format!("; the end of the verifier's log:\n  {tail}")
    };
    anyhow!("the kernel refused program {name}: {io_error}{why}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_two_entries_and_publishes_leave_room() {
        let limits = Limits {
            connections: 10,
            sessions: 5,
            mappings: 7,
            ..Limits::default()
        };
        let sizes = sizes(&limits, 20_000, 100);
        assert!(sizes.contains(&(map::FLOWS4, 20)));
        assert!(sizes.contains(&(map::SESSIONS, 5)));
        assert!(sizes.contains(&(map::LINES, 10)));
        assert!(sizes.contains(&(map::PUBLISHED, 80_000)));
        assert!(sizes.contains(&(map::POOLS, 400)));
    }
}
