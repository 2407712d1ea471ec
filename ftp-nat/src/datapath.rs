//! The eBPF datapath as user space handles it: its object, programs, maps and pins, and where it is
//! attached.

pub mod attach;
pub mod cut;
pub mod guard;
pub mod handles;
pub mod load;
pub mod maps;
pub mod object;
pub mod pins;
pub mod pools;
pub mod ports;
pub mod program;
pub mod shares;
pub mod stations;
pub mod trace;
