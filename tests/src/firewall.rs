//! Rule sets of the router, as `nft -f` reads them.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::{namespace::Namespace, process};

/// Forwards nothing at all, with no rule for FTP and none for connections under way: what passes
/// nevertheless did not pass through the forward chain. The chain counts what it drops.
pub const DROP_FORWARDED: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy drop;
        counter
    }
}
";

/// A router without a firewall.
pub const ACCEPT_ALL: &str = "
table inet lab {
    chain forward {
        type filter hook forward priority filter; policy accept;
    }
}
";

/// What an administrator writes who knows NAT but not FTP: port 21 is translated to the server, and
/// what was translated may pass.
pub const TRANSLATE_PORT_21: &str = "
table inet lab {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" tcp dport 21 dnat ip to 10.0.0.5
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct status dnat accept
    }
}
";

/// The same, with the kernel's own FTP helper on port 21.
pub const KERNEL_HELPER: &str = "
table inet lab {
    ct helper ftp {
        type \"ftp\" protocol tcp;
    }
    chain helper {
        type filter hook prerouting priority filter; policy accept;
        tcp dport 21 ct helper set \"ftp\"
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" tcp dport 21 dnat ip to 10.0.0.5
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct status dnat accept
    }
}
";

/// What an administrator of a network writes whose hosts reach the outside by one address: the
/// kernel translates what goes out, and nothing comes in that does not belong to it.
pub const MASQUERADE: &str = "
table inet lab {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" oifname \"wan\" accept
    }
}
";

/// A rule more, for what ftp-nat gives to the stack (`--lan none`).
pub const ACCEPT_MARKED: &str = "
table inet lab {
    chain forward {
        meta mark and 0x40 == 0x40 accept
    }
}
";

/// [`MASQUERADE`] with that rule.
pub const MASQUERADE_MARKED: &str = "
table inet lab {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" oifname \"wan\" accept
        meta mark and 0x40 == 0x40 accept
    }
}
";

/// [`MASQUERADE`] with the kernel's own FTP helper on port 21.
pub const MASQUERADE_WITH_HELPER: &str = "
table inet lab {
    ct helper ftp {
        type \"ftp\" protocol tcp;
    }
    chain helper {
        type filter hook prerouting priority filter; policy accept;
        tcp dport 21 ct helper set \"ftp\"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan\" masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname \"lan\" oifname \"wan\" accept
    }
}
";

/// Five of a hundred packets that come to a host are lost, and counted: [`losses`]. A packet here
/// is what the kernel hands up at once: [`single_segments`] keeps it from being 64 KiB.
pub const LOSE_FIVE_PERCENT: &str = "
table inet loss {
    counter seen { }
    counter lost { }
    chain input {
        type filter hook input priority raw; policy accept;
        iifname \"eth0\" counter name seen
        iifname \"eth0\" numgen random mod 100 < 5 counter name lost drop
    }
}
";

/// How many packets came to a host since it has [`LOSE_FIVE_PERCENT`], and how many of them were
/// lost.
///
/// # Errors
///
/// When it has no such counters.
pub fn losses(namespace: &Namespace) -> anyhow::Result<[u64; 2]> {
    let words = ["-j", "list", "counters", "table", "inet", "loss"];
    let mut command = namespace.command("nft")?;
    let answer = process::run(command.args(words), Duration::from_secs(10))?.expect_success()?;
    let answer: Value = serde_json::from_slice(&answer.stdout)?;
    let counter = |name: &str| {
        let all = answer["nftables"].as_array()?;
        let counters = all.iter().filter_map(|it| it.get("counter"));
        let mut wanted = counters.filter(|it| it["name"] == name);
        wanted.next()?["packets"].as_u64()
    };
    let counter = |name: &str| counter(name).with_context(|| format!("no counter {name}"));
    Ok([counter("seen")?, counter("lost")?])
}

/// What an interface sends is cut into segments before it leaves, as on a wire.
///
/// # Errors
///
/// What iproute2 said.
pub fn single_segments(namespace: &Namespace, interface: &str) -> anyhow::Result<()> {
    namespace.ip(&format!("link set dev {interface} gso_max_segs 1"))
}

/// What an administrator writes who has read that FTP needs a range: the server's control port and
/// its passive ports 50000-50009 are translated, and may pass.
pub const TRANSLATE_RANGE: &str = "
table inet lab {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        iifname \"wan\" tcp dport { 21, 50000-50009 } dnat ip to 10.0.0.5
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ct status dnat accept
    }
}
";
