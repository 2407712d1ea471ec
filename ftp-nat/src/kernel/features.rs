//! Which of the kernel's features are there, found out by trying. A version says little: vendors
//! carry features back (RHEL 9 says 5.14 and has bpf_loop), and kernels are built without some.

use std::{fmt, io, os::fd::AsFd as _};

use anyhow::bail;
use aya::{
    maps::{MapData, MapType},
    programs::{ProgramError, ProgramType, SchedClassifier, TcAttachType},
    sys::{is_helper_supported, is_map_supported, is_program_supported},
};
use aya_obj::generated::bpf_func_id;

use super::{
    bpf::{self, Cursor},
    namespace,
};

/// The kernel's `ENOTSUPP`, which the C library has no name for.
const ENOTSUPP: i32 = 524;

/// Something that not every kernel has.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    name: &'static str,
    /// The first version of Linux that has it.
    since: &'static str,
    probe: Probe,
}

/// How to find out.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// Load a program of TC that calls this function.
    Helper(bpf_func_id),
    /// Make a map of this type.
    Map(MapType),
    /// Load a program of this type.
    Program(ProgramType),
    /// Take a key out of an empty hash map.
    Taking,
    /// Read an empty hash map, many elements at a time.
    Batches,
    /// Ask for this network namespace's number.
    NamespaceCookie,
    /// Ask for the programs that TCX has on the loopback interface.
    Tcx,
}

/// What datapath and daemon cannot do without, the latest first. Functions older than Linux 5.1 are not
/// among them: every kernel that has the others has those.
pub const NEEDED: [Feature; 16] = [
    Feature::helper(bpf_func_id::BPF_FUNC_loop, "bpf_loop", "5.17"),
    Feature {
        name: "BPF_MAP_LOOKUP_AND_DELETE_ELEM for hash maps",
        since: "5.14",
        probe: Probe::Taking,
    },
    Feature {
        name: "SO_NETNS_COOKIE",
        since: "5.14",
        probe: Probe::NamespaceCookie,
    },
    Feature::helper(
        bpf_func_id::BPF_FUNC_redirect_neigh,
        "bpf_redirect_neigh",
        "5.10",
    ),
    Feature::helper(
        bpf_func_id::BPF_FUNC_ringbuf_reserve,
        "bpf_ringbuf_reserve",
        "5.8",
    ),
    Feature::helper(
        bpf_func_id::BPF_FUNC_ringbuf_submit,
        "bpf_ringbuf_submit",
        "5.8",
    ),
    Feature::helper(
        bpf_func_id::BPF_FUNC_ringbuf_discard,
        "bpf_ringbuf_discard",
        "5.8",
    ),
    Feature::helper(
        bpf_func_id::BPF_FUNC_ringbuf_output,
        "bpf_ringbuf_output",
        "5.8",
    ),
    Feature::helper(
        bpf_func_id::BPF_FUNC_ringbuf_query,
        "bpf_ringbuf_query",
        "5.8",
    ),
    Feature::helper(bpf_func_id::BPF_FUNC_csum_level, "bpf_csum_level", "5.8"),
    Feature::map(MapType::RingBuf, "ring buffers", "5.8"),
    Feature::helper(bpf_func_id::BPF_FUNC_sk_assign, "bpf_sk_assign", "5.7"),
    Feature {
        name: "BPF_MAP_LOOKUP_BATCH",
        since: "5.6",
        probe: Probe::Batches,
    },
    Feature::helper(bpf_func_id::BPF_FUNC_jiffies64, "bpf_jiffies64", "5.5"),
    Feature::map(MapType::SockMap, "socket maps", "4.14"),
    Feature::map(MapType::LpmTrie, "longest-prefix maps", "4.11"),
];

/// Attachments that several programs share and that are swapped at once; clsact does without.
pub const TCX: Feature = Feature {
    name: "TCX",
    since: "6.6",
    probe: Probe::Tcx,
};

/// Programs that choose the socket a packet is for: the guard of connections whose interface is made
/// anew.
pub const SK_LOOKUP: Feature = Feature {
    name: "sk_lookup programs",
    since: "5.9",
    probe: Probe::Program(ProgramType::SkLookup),
};

impl Feature {
    const fn helper(helper: bpf_func_id, name: &'static str, since: &'static str) -> Self {
        Self {
            name,
            since,
            probe: Probe::Helper(helper),
        }
    }

    const fn map(map: MapType, name: &'static str, since: &'static str) -> Self {
        Self {
            name,
            since,
            probe: Probe::Map(map),
        }
    }

    /// Whether this kernel has it.
    ///
    /// # Errors
    ///
    /// When it cannot be found out: mostly for want of CAP_BPF or CAP_NET_ADMIN (`EPERM`).
    pub fn is_there(&self) -> anyhow::Result<bool> {
        match self.probe {
            Probe::Helper(helper) => Ok(is_helper_supported(ProgramType::SchedClassifier, helper)?),
            Probe::Map(map) => Ok(is_map_supported(map)?),
            Probe::Program(kind) => Ok(is_program_supported(kind)?),
            Probe::Taking => can_take_out(&empty_map(MapType::Hash)?),
            Probe::Batches => can_read_batches(&empty_map(MapType::Hash)?),
            Probe::NamespaceCookie => match namespace::ask() {
                Ok(_) => Ok(true),
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Probe::Tcx => match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
                Ok(_) => Ok(true),
                Err(ProgramError::SyscallError(error))
                    if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
                {
                    Ok(false)
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// A map of 4-byte keys and values to try commands on, which goes away with its value.
fn empty_map(kind: MapType) -> anyhow::Result<MapData> {
    let map = aya_obj::Map::new_from_params(kind as u32, 4, 4, 1, 0);
    Ok(MapData::create(map, "probe", None)?)
}

/// Whether a key can be taken out of such a map.
fn can_take_out(map: &MapData) -> anyhow::Result<bool> {
    has_command(&bpf::take(map.fd().as_fd(), &0_u32, &mut 0_u32))
}

/// Whether such a map can be read many elements at a time.
fn can_read_batches(map: &MapData) -> anyhow::Result<bool> {
    let (mut keys, mut values) = ([0_u32], [0_u32]);
    let mut cursor = Cursor::default();
    has_command(&bpf::lookup_batch(
        map.fd().as_fd(),
        &mut cursor,
        &mut keys,
        &mut values,
    ))
}

/// Whether the kernel has a command of bpf(2), by what it answered. `EINVAL`: it does not know the
/// number; `ENOTSUPP`: not for this type of map.
fn has_command<T>(answer: &io::Result<T>) -> anyhow::Result<bool> {
    let Err(error) = answer else {
        return Ok(true);
    };
    match error.raw_os_error() {
        Some(libc::EINVAL | ENOTSUPP) => Ok(false),
        _ => bail!("{error}"),
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (since Linux {})", self.name, self.since)
    }
}

/// Those of the needed features that this kernel lacks; what cannot be found out is not among them.
pub fn missing() -> Vec<Feature> {
    NEEDED
        .into_iter()
        .filter(|feature| feature.is_there().is_ok_and(|is_there| !is_there))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::requirements::missing_privileges;

    #[test]
    fn a_feature_says_since_when_there_is_such_a_thing() {
        assert_eq!(NEEDED[0].to_string(), "bpf_loop (since Linux 5.17)");
        assert_eq!(TCX.to_string(), "TCX (since Linux 6.6)");
    }

    #[test]
    fn whatever_is_needed_is_found_here() {
        if let Some(missing) = missing_privileges() {
            panic!("this test loads programs and makes maps: {missing}");
        }
        for feature in NEEDED.iter().chain([&SK_LOOKUP]) {
            assert!(feature.is_there().unwrap(), "{feature}");
        }
    }

    /// A kernel that lacks a function for programs of TC refuses it in the words in which every kernel
    /// refuses these for programs of sockets.
    #[test]
    fn a_function_that_the_kernel_refuses_is_missing() {
        for helper in [
            bpf_func_id::BPF_FUNC_redirect_neigh,
            bpf_func_id::BPF_FUNC_csum_level,
            bpf_func_id::BPF_FUNC_sk_assign,
        ] {
            assert!(!is_helper_supported(ProgramType::SocketFilter, helper).unwrap());
        }
    }

    /// Every kernel refuses these for other maps in the words in which older ones refuse them for hash maps.
    #[test]
    fn a_command_that_the_kernel_refuses_is_missing() {
        assert!(!can_take_out(&empty_map(MapType::Array).unwrap()).unwrap());
        assert!(!can_read_batches(&empty_map(MapType::DevMap).unwrap()).unwrap());
    }

    /// The datapath's own calls, in the object that this binary has inside. Functions are numbered
    /// in the order in which they came.
    #[cfg(ebpf_object)]
    #[test]
    fn every_function_that_the_datapath_calls_is_looked_for_unless_all_kernels_have_it() {
        use std::collections::BTreeSet;
        /// The last of Linux 5.0.
        const OLD: u32 = bpf_func_id::BPF_FUNC_spin_unlock as u32;
        /// `BPF_JMP | BPF_CALL` of linux/bpf.h; the source register says what is called.
        const CALL: u8 = 0x85;
        let object = crate::datapath::object::ebpf_object().unwrap();
        let object = aya_obj::Object::parse(object).unwrap();
        let called: BTreeSet<u32> = object
            .functions
            .values()
            .flat_map(|function| &function.instructions)
            .filter(|it| it.code == CALL && it.src_reg() == 0)
            .map(|it| it.imm.cast_unsigned())
            .filter(|number| *number > OLD)
            .collect();
        let looked_for: BTreeSet<u32> = NEEDED
            .iter()
            .filter_map(|feature| match feature.probe {
                Probe::Helper(helper) => Some(helper as u32),
                _ => None,
            })
            .collect();
        assert_eq!(called, looked_for);
    }
}
