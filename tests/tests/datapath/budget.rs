//! What the programs cost the verifier and the kernel's memory.

use std::io::{self, Write as _};

use crate::loaded::{PROGRAMS, XDP_PROGRAMS, on_router};

/// Far below what a kernel takes; a program that comes near it has grown out of hand.
const MOST: u32 = 100_000;

/// Bytes of one instruction.
const INSTRUCTION: u32 = 8;

#[test]
fn every_program_stays_below_its_budget() {
    on_router(|datapath| {
        for name in PROGRAMS.into_iter().chain(XDP_PROGRAMS) {
            let info = datapath.ebpf.program(name).unwrap().info().unwrap();
            let loaded = info.size_translated().unwrap() / INSTRUCTION;
            let verified = info.verified_instruction_count().unwrap();
            // Not println: a test that succeeds would show nothing of it.
            writeln!(
                io::stdout(),
                "{name}: {loaded} instructions as loaded, {verified} as verified"
            )
            .unwrap();
            assert!(loaded < MOST, "{name} has {loaded} instructions");
        }
    });
}
