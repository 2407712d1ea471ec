//! The machine that was measured on.

use std::fs;

use serde_json::{Value, json};

/// What its numbers depend on.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    /// A virtual machine's hypervisor, if it is one.
    pub(crate) is_virtual: bool,
}

/// What stands for network cards.
pub(crate) const NIC: &str = "veth, between network namespaces";

impl Machine {
    /// This one.
    pub(crate) fn this() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, value)| value.trim().to_owned())
        };
        let kib: u64 = read("/proc/meminfo")
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.parse().ok())
            .unwrap_or_default();
        Self {
            cpu: field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            is_virtual: field("flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// For the JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_gib": self.memory_gib,
            "kernel": self.kernel,
            "virtual": self.is_virtual,
            "nic": NIC,
        })
    }

    /// In a sentence.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} cores of {}{}, {} GiB of memory, {}; the network is {NIC}.",
            self.cores,
            self.cpu,
            if self.is_virtual {
                " (a virtual machine)"
            } else {
                ""
            },
            self.memory_gib,
            self.kernel,
        )
    }
}
