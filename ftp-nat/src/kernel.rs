//! The kernel's interfaces: bpf(2), the BPF file system, netlink, clocks, namespaces, capabilities.

pub mod bpf;
pub mod bpffs;
pub mod clock;
pub mod conntrack;
pub mod features;
pub mod namespace;
pub mod namespaces;
pub mod netlink;
pub mod network;
pub mod nftables;
pub mod privileges;
pub mod realtime;
pub mod requirements;
pub mod reset;
pub mod sockets;
pub mod sysctl;
pub mod table;
