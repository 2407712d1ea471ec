//! VLAN tags, which the kernel takes out of a frame into the packet's metadata before TC sees it.
//!
//! BPF_PROG_TEST_RUN does not: so a program of a few instructions pushes the tag, and goes on into
//! the one to be tested.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
};

use aya::programs::SchedClassifier;
use ftp_nat_common::counter::Counter;

use crate::{
    loaded::{Datapath, Hook, NEXT, REDIRECT, on_router},
    packet::Packet,
    scene::{control_v4, control_v6, hop},
    skb::{self, Outcome, Summed},
};

// linux/bpf.h
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_MAP_TYPE_PROG_ARRAY: u64 = 3;
const BPF_PROG_TYPE_SCHED_CLS: u64 = 3;

/// bpf(2), whose attribute is as many words; gives what it answers.
fn bpf(command: libc::c_int, attr: &[u64]) -> i32 {
    let mut attr = attr.to_vec();
    // SAFETY: the attribute is of the size given, and its pointers are to what outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attr.as_mut_ptr(),
            size_of_val(attr.as_slice()),
        )
    };
    assert!(
        result >= 0,
        "bpf({command}): {}",
        io::Error::last_os_error()
    );
    result as i32
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr().expose_provenance() as u64
}

/// Two numbers of 32 bits, as they lie one behind the other.
fn pair(first: u64, second: u64) -> u64 {
    u64::from_ne_bytes({
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&(first as u32).to_ne_bytes());
        bytes[4..].copy_from_slice(&(second as u32).to_ne_bytes());
        bytes
    })
}

/// An instruction: its code, registers, offset (none here) and number (`struct bpf_insn`).
const fn instruction(code: u8, to: u8, from: u8, number: i32) -> [u8; 8] {
    let [a, b, c, d] = number.to_ne_bytes();
    [code, to | from << 4, 0, 0, a, b, c, d]
}

/// A program that pushes a tag of this VLAN and goes on into `then`; and the array that it finds
/// that in.
fn pushing(vlan: u16, then: &SchedClassifier) -> [OwnedFd; 2] {
    const MOVE: u8 = 0xbf;
    const SET: u8 = 0xb7;
    const LOAD_MAP: u8 = 0x18;
    const MAP_BY_DESCRIPTOR: u8 = 1;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    const TAIL_CALL: i32 = 12;
    const VLAN_PUSH: i32 = 18;
    // 802.1Q's EtherType, in network byte order.
    let protocol = i32::from(0x8100_u16.to_be());
    let array = bpf(
        BPF_MAP_CREATE,
        &[pair(BPF_MAP_TYPE_PROG_ARRAY, 4), pair(4, 1)],
    );
    let (key, value) = ([0_u32], [then.fd().unwrap().as_fd().as_raw_fd()]);
    bpf(
        BPF_MAP_UPDATE_ELEM,
        &[array as u64, address(&key), address(&value), 0],
    );
    let instructions = [
        instruction(MOVE, 6, 1, 0),
        instruction(SET, 2, 0, protocol),
        instruction(SET, 3, 0, vlan.into()),
        instruction(CALL, 0, 0, VLAN_PUSH),
        instruction(MOVE, 1, 6, 0),
        instruction(LOAD_MAP, 2, MAP_BY_DESCRIPTOR, array),
        instruction(0, 0, 0, 0),
        instruction(SET, 3, 0, 0),
        instruction(CALL, 0, 0, TAIL_CALL),
        instruction(SET, 0, 0, 99),
        instruction(EXIT, 0, 0, 0),
    ];
    let program = bpf(
        BPF_PROG_LOAD,
        &[
            pair(BPF_PROG_TYPE_SCHED_CLS, instructions.len() as u64),
            address(&instructions),
            address(b"GPL\0"),
        ],
    );
    // SAFETY: descriptors that nobody else has.
    [program, array].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a packet with a tag of this VLAN at the WAN's ingress.
fn run_tagged(datapath: &Datapath, vlan: u16, packet: &Packet) -> Outcome {
    let name = Hook::WanIngress.program();
    let ingress = datapath.ebpf.program(name).unwrap().try_into().unwrap();
    let [program, _array] = pushing(vlan, ingress);
    let context = skb::Context {
        ingress_ifindex: datapath.wan,
        ifindex: datapath.wan,
        gso_size: 0,
    };
    skb::test_run(program.as_fd(), &packet.bytes(), &context, Summed::No).unwrap()
}

#[test]
fn a_priority_without_a_vlan_goes_and_a_vlan_is_left_to_its_own_interface() {
    on_router(|datapath| {
        for control in [control_v4(), control_v6()] {
            let data = control.data(50_111, 50_000, 50_000);
            data.announce_passive(datapath);
            datapath.run(Hook::WanIngress, &data.inbound().syn().bytes());
            let packet = data.inbound().payload("tagged");
            let untagged = datapath.run(Hook::WanIngress, &packet.bytes());
            assert_eq!(untagged.verdict, REDIRECT);
            assert_eq!(untagged.frame, hop(data.inwards(&packet)).bytes());

            // Priority 5, no VLAN.
            let outcome = run_tagged(datapath, 5 << 13, &packet);
            assert_eq!(outcome, untagged);

            let before = datapath.counts();
            let outcome = run_tagged(datapath, 5 << 13 | 7, &packet);
            assert_eq!((outcome.verdict, outcome.frame), (NEXT, packet.bytes()));
            let [(counter, by)] = datapath.counted_since(&before)[..] else {
                panic!("not one counter moved");
            };
            assert_eq!((counter, by.packets), (Counter::PassedVlan, 1));
        }
    });
}
