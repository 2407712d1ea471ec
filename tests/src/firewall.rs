//! Rule sets of the router, as `nft -f` reads them.

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
        meta mark 0x667470 accept
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

/// Five of a hundred packets that come to a host are lost.
pub const LOSE_FIVE_PERCENT: &str = "
table inet loss {
    chain input {
        type filter hook input priority raw; policy accept;
        iifname \"eth0\" numgen random mod 100 < 5 drop
    }
}
";

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
