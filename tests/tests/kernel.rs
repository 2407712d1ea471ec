//! What a kernel makes of the eBPF object by itself: its verifier takes every program, at what cost,
//! and every program can be attached. Nothing here knows the programs' maps or their meaning.

use std::{
    env, fs,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{
        LinkOrder, Program, ProgramError, SchedClassifier, TcAttachType, XdpMode,
        tc::{self, NlOptions, TcAttachOptions},
    },
};
use ftp_nat_tests::lab::{LAN, Lab, WAN};

/// Names the eBPF object; `cargo xtask test` sets it.
const OBJECT_VARIABLE: &str = "FTP_NAT_EBPF_OBJECT";

/// Far below what a kernel takes; a program that comes near it has grown out of hand.
const MOST: u32 = 100_000;

/// Lines of the verifier's log that are shown.
const LOG_TAIL: usize = 60;

/// Bytes of one instruction.
const INSTRUCTION: u32 = 8;

/// Prints a line. Unlike `println!`, a test that succeeds shows it.
fn tell(line: &str) {
    let mut output = io::stdout();
    writeln!(output, "{line}").unwrap();
}

/// Whether the programs trace: see `ftp-nat-ebpf/src/trace.rs`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tracing {
    Off,
    On,
}

/// The object's maps in the kernel, and none of its programs yet.
fn open(tracing: Tracing) -> Ebpf {
    let path = env::var_os(OBJECT_VARIABLE)
        .unwrap_or_else(|| panic!("{OBJECT_VARIABLE} is not set: use `cargo xtask test`"));
    let object = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // The object has no relocations against the kernel's own types.
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    if tracing == Tracing::On {
        loader.override_global("TRACE", &1_u8, true);
    }
    loader.load(&object).unwrap()
}

/// Has the kernel verify a program: how long that takes, or its reason not to.
fn load(name: &str, program: &mut Program) -> Result<Duration, String> {
    let start = Instant::now();
    match program {
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => panic!("{name} is of no type that is known"),
    }
    .map_err(|error| refusal(name, error))?;
    Ok(start.elapsed())
}

/// What the kernel said, and the end of the verifier's log: the whole can be megabytes.
fn refusal(name: &str, error: ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return format!("{name}: {error}");
    };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
    format!("{name}: {io_error}; the end of the verifier's log:\n{tail}")
}

#[test]
fn every_program_loads_and_stays_below_its_budget() {
    let loaded = load_all(Tracing::Off);
    assert!(!loaded.is_empty());
}

/// What only traced programs need, the verifier cuts off the others.
#[test]
fn traced_stations_load_and_the_others_do_not_have_their_code() {
    let (off, on) = (load_all(Tracing::Off), load_all(Tracing::On));
    for ((name, untraced), (_, traced)) in off.iter().zip(&on) {
        if ["gateway", "icmp"].contains(&name.as_str()) {
            assert!(untraced + 500 < *traced, "{name}: {untraced} and {traced}");
        } else {
            assert_eq!(untraced, traced, "{name} is no station");
        }
    }
}

/// Loads all programs, and tells how large they are. Gives their names and their instructions as
/// loaded.
fn load_all(tracing: Tracing) -> Vec<(String, u32)> {
    let mut ebpf = open(tracing);
    let mut programs: Vec<_> = ebpf.programs_mut().collect();
    programs.sort_by_key(|(name, _)| *name);
    let (mut sizes, mut refused) = (Vec::new(), Vec::new());
    for (name, program) in programs {
        let took = match load(name, program) {
            Ok(took) => took.as_secs_f64() * 1000.0,
            Err(reason) => {
                refused.push(reason);
                continue;
            }
        };
        let info = program.info().unwrap();
        let loaded = info.size_translated().unwrap() / INSTRUCTION;
        // Since Linux 5.16.
        let verified = info.verified_instruction_count().unwrap();
        let how = if tracing == Tracing::On {
            ", traced"
        } else {
            ""
        };
        tell(&format!(
            "program {name}{how}: {loaded} instructions as loaded, {verified} as verified, in \
             {took:.1} ms"
        ));
        assert!(loaded < MOST, "{name} has {loaded} instructions");
        sizes.push((name.to_owned(), loaded));
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    sizes
}

#[test]
fn every_program_attaches() {
    let lab = Lab::new().unwrap();
    let mut ebpf = open(Tracing::Off);
    let attach_all = || {
        for (name, program) in ebpf.programs_mut() {
            load(name, program).unwrap();
            match program {
                Program::Xdp(program) => {
                    for interface in [WAN, LAN] {
                        let link = program.attach(interface, XdpMode::Driver);
                        let link = link.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                        program.detach(link).unwrap();
                    }
                    tell(&format!("attached {name} by xdp"));
                }
                Program::SchedClassifier(program) => {
                    let by = [TcAttachType::Ingress, TcAttachType::Egress]
                        .map(|direction| attach(name, program, direction));
                    tell(&format!("attached {name} by {}", by[0]));
                }
                Program::SkLookup(program) => {
                    let namespace = fs::File::open("/proc/thread-self/ns/net").unwrap();
                    let link = program.attach(namespace);
                    let link = link.unwrap_or_else(|error| panic!("{name}: {error:?}"));
                    program.detach(link).unwrap();
                    tell(&format!("attached {name} to the network namespace"));
                }
                _ => unreachable!("it was loaded"),
            }
        }
        Ok(())
    };
    lab.router.run(attach_all).unwrap();
}

/// Attaches to the WAN as the daemon does, and detaches: by TCX, or by clsact where the kernel says
/// that it does not know TCX.
fn attach(name: &str, program: &mut SchedClassifier, direction: TcAttachType) -> &'static str {
    let tcx = TcAttachOptions::TcxOrder(LinkOrder::default());
    let (link, by) = match program.attach_with_options(WAN, direction, tcx) {
        Err(ProgramError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
        {
            // It may be there from the program before.
            drop(tc::qdisc_add_clsact(WAN));
            let filter = TcAttachOptions::Netlink(NlOptions::default());
            let link = program.attach_with_options(WAN, direction, filter);
            (link, "clsact")
        }
        link => (link, "tcx"),
    };
    let link = link.unwrap_or_else(|error| panic!("{name} by {by}: {error:?}"));
    program.detach(link).unwrap();
    by
}
