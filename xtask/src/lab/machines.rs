//! The namespaces of the lab that stays.

use ftp_nat_tests::netns;

/// The lab that stays until it is taken down; there is one on a machine.
pub(super) const NAME: &str = "ftpnat-lab";

/// The namespace of one of the lab's machines.
pub(super) fn machine_name(machine: &str) -> String {
    format!("{NAME}-{machine}")
}

/// The namespaces of the lab that stays.
pub(super) fn standing() -> Vec<String> {
    let prefix = machine_name("");
    let mut names = netns::list();
    names.retain(|name| name.starts_with(&prefix));
    names.sort();
    names
}
