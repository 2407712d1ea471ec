//! Network interfaces as packets made by hand need them.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::{namespace::Namespace, process};

/// The hardware address of an interface.
///
/// # Errors
///
/// When the namespace has no such interface, or it has no hardware address.
pub fn mac(namespace: &Namespace, interface: &str) -> anyhow::Result<[u8; 6]> {
    let text = mac_text(namespace, interface)?;
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|b| u8::from_str_radix(b, 16)).collect();
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{interface} has no hardware address"))
}

/// The hardware address of an interface, as iproute2 writes it.
///
/// # Errors
///
/// When the namespace has no such interface.
pub fn mac_text(namespace: &Namespace, interface: &str) -> anyhow::Result<String> {
    let link = link(namespace, interface)?;
    Ok(link["address"].as_str().unwrap_or_default().to_owned())
}

/// The number of an interface.
///
/// # Errors
///
/// When the namespace has no such interface.
pub fn ifindex(namespace: &Namespace, interface: &str) -> anyhow::Result<u32> {
    link(namespace, interface)?["ifindex"]
        .as_u64()
        .and_then(|number| u32::try_from(number).ok())
        .with_context(|| format!("{interface} has no number"))
}

/// Makes a host's interface one as on a real network: it finishes its checksums, and takes XDP's frames.
///
/// # Errors
///
/// When the kernel refuses.
pub fn like_hardware(host: &Namespace, interface: &str) -> anyhow::Result<()> {
    ethtool(host, interface, ["tx", "off"])?;
    ethtool(host, interface, ["gro", "on"])
}

/// Changes a setting of an interface.
///
/// # Errors
///
/// When the kernel refuses.
pub fn ethtool(host: &Namespace, interface: &str, setting: [&str; 2]) -> anyhow::Result<()> {
    let mut ethtool = host.command("ethtool")?;
    ethtool.args(["-K", interface]).args(setting);
    process::run(&mut ethtool, Duration::from_secs(5))?.expect_success()?;
    Ok(())
}

fn link(namespace: &Namespace, interface: &str) -> anyhow::Result<Value> {
    let answer = process::run(
        namespace
            .command("ip")?
            .args(["-json", "link", "show", "dev", interface]),
        Duration::from_secs(5),
    )?
    .expect_success()?;
    let mut links: Value = serde_json::from_slice(&answer.stdout)?;
    Ok(links[0].take())
}
