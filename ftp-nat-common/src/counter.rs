//! The one table of counters: what the datapath counts, how metrics name it and what it means.

/// What a counter counts, for Prometheus.
pub struct Description {
    /// The metric's name without `ftp_nat_` in front and `_total` behind.
    pub family: &'static str,
    /// The label's name; empty: none.
    pub label: &'static str,
    /// The label's value.
    pub value: &'static str,
    /// What it means, for an operator.
    pub help: &'static str,
    /// Whether bytes are counted beside packets.
    pub bytes: bool,
}

macro_rules! counters {
    ($($name:ident = $family:literal $label:literal $value:literal $bytes:literal, $help:literal;)*) => {
        /// Something that is counted: its number is its place in the COUNTERS map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Counter {
            $(#[doc = $help] $name,)*
        }

        impl Counter {
            /// Every counter, in the map's order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// What it means.
            pub const fn description(self) -> Description {
                match self {
                    $(Self::$name => Description {
                        family: $family,
                        label: $label,
                        value: $value,
                        help: $help,
                        bytes: $bytes,
                    },)*
                }
            }
        }
    };
}

counters! {
    InboundRedirected = "inbound" "path" "redirect" true,
        "Translated from the WAN and sent straight to the inside interface";
    InboundXdp = "inbound" "path" "xdp" true,
        "Translated from the WAN by XDP, before the stack had a packet of it";
    InboundStack = "inbound" "path" "stack" true,
        "Translated from the WAN and handed to the stack";
    OutboundRedirected = "outbound" "path" "redirect" true,
        "Translated from the inside and sent straight to the WAN interface";
    OutboundXdp = "outbound" "path" "xdp" true,
        "Translated from the inside by XDP, before the stack had a packet of it";
    OutboundStack = "outbound" "path" "stack" true,
        "Translated from the inside on its way through the stack";
    IcmpInbound = "icmp_errors" "direction" "inbound" false,
        "ICMP errors about a flow, from outside, translated";
    IcmpOutbound = "icmp_errors" "direction" "outbound" false,
        "ICMP errors about a flow, from the inside or this gateway, translated";
    MssClamped = "mss_clamped" "" "" false,
        "SYNs of redirected connections whose segment size was cut to what fits";

    HandshakeStarted = "handshakes_started" "" "" false,
        "SYNs to control ports: handshakes that wait for their end in the half-open table";
    HandshakeBeyond = "handshakes_beyond_share" "" "" false,
        "SYNs to control ports of addresses that had their share of the half-open table: they wait in a table of their own";
    HandshakeUnchecked = "handshakes_unchecked" "" "" false,
        "SYNs sent to a server of a pool while none of the pool's servers passes its check";
    SessionOpened = "sessions_opened" "" "" false,
        "Control connections taken on";
    Replaced = "connections_replaced" "" "" false,
        "Connections that ended because their ends began a new one in their place";
    SessionEncrypted = "sessions_encrypted" "" "" false,
        "Control connections that went over to TLS";
    SessionCleared = "sessions_cleared" "" "" false,
        "Control connections that came back from TLS to clear text";
    PassiveOpened = "mappings_opened" "kind" "passive" false,
        "Data connections announced by a server and let in";
    ActiveOpened = "mappings_opened" "kind" "active" false,
        "Data connections announced by a client and let through";
    PassiveUsed = "mappings_used" "kind" "passive" false,
        "Data connections announced by a server that its client made";
    ActiveUsed = "mappings_used" "kind" "active" false,
        "Data connections announced by a client that its server made";
    PermitGranted = "tls_permits" "" "" false,
        "Answers of servers inside TLS, each of which permits one data connection to passive_ports";
    PermitUsed = "tls_permits_used" "" "" false,
        "Data connections to passive_ports that clients with a live TLS session made";
    TakenOver = "connections_taken_over" "" "" false,
        "Data connections that another gateway of the cluster had let in and not told of";
    Remapped = "mappings_remapped" "" "" false,
        "Announced ports replaced because the peer already had them";

    Rewrote227 = "rewritten" "text" "227" false,
        "Replies to PASV rewritten";
    Rewrote229 = "rewritten" "text" "229" false,
        "Replies to EPSV rewritten";
    RewrotePort = "rewritten" "text" "port" false,
        "PORT commands rewritten";
    RewroteEprt = "rewritten" "text" "eprt" false,
        "EPRT commands rewritten";
    HidGreeting = "rewritten" "text" "greeting" false,
        "Greetings whose words were taken out (hide_greeting): once for each segment of one";
    EditEqual = "edits" "length" "equal" false,
        "Rewritten texts that kept their length";
    EditAdjusted = "edits" "length" "adjusted" false,
        "Rewritten texts that changed their length: sequence numbers are adjusted";
    Unchanged = "rewritten" "text" "unchanged" false,
        "Announcements that were right as they stood";

    CommandWithheld = "lines" "happening" "withheld" false,
        "PASV and EPSV kept back until the answer before them has ended beyond doubt";
    Refused227 = "rewritten" "text" "refusal" false,
        "227 and 229 that open nothing, turned into 425: the client hears at once";
    LineHeld = "lines" "happening" "held" false,
        "Unfinished lines held until they are whole";
    LineMerged = "lines" "happening" "merged" false,
        "Held lines sent on together with their end";
    LineAcknowledged = "lines" "happening" "acknowledged" false,
        "Held lines acknowledged ahead of delivery, because their sender waited for that";
    LineReleased = "lines" "happening" "released" false,
        "Held lines that never ended and were let go unread";
    SegmentCut = "lines" "happening" "cut" false,
        "Control segments sent on up to a line's end: the sender repeats the rest";
    GapDropped = "lines" "happening" "gap" false,
        "Control segments dropped because one before them is missing: the sender repeats them";
    HeldUntold = "lines" "happening" "untold" false,
        "Segments with a change of length, withheld once so that other gateways of the cluster know of it first";
    HopsLimited = "hops_limited" "" "" false,
        "Control segments that leave with no more time to live than the text before them had, so that none gets further than what the gateway has read";
    Resynced = "lines" "happening" "resynced" false,
        "Gaps that were never filled: inspection goes on behind them";

    PassedTruncated = "passed" "reason" "truncated" true,
        "Passed as they were: headers cut short or with a length that lies";
    PassedFragment = "passed" "reason" "fragment" true,
        "Passed as they were: IP fragments";
    PassedVlan = "passed" "reason" "vlan" true,
        "Passed as they were: of a VLAN, whose own interface this is not";
    PassedNoStation = "passed" "reason" "no_station" false,
        "Passed as they were: the program for them is not loaded";
    PassedNoFlow = "passed" "reason" "no_flow" true,
        "Passed as they were: on a port of FTP, but of no known connection";
    PassedEncrypted = "passed" "reason" "encrypted" true,
        "Passed as they were: segments of an encrypted control connection";
    PassedUnasked = "passed" "reason" "unasked" false,
        "Passed as they were: 227 or 229 that nobody asked for";
    PassedNoAddress = "passed" "reason" "no_address" false,
        "Passed as they were: 227, 229, PORT or EPRT without an address in it";
    PassedInside = "passed" "reason" "inside" false,
        "Passed as they were: 227 or 229 inside another reply of several lines";
    PassedUnread = "passed" "reason" "unread" false,
        "Passed as they were: 227 or 229 whose start had been sent on before it was read, or whose end never came";
    PassedTooLong = "passed" "reason" "too_long" false,
        "Passed as they were: 227, 229, PORT or EPRT too long to be held";
    PassedMapFull = "passed" "reason" "map_full" false,
        "Passed as they were: no room for another session, flow or mapping";
    PassedOutOfWindow = "passed" "reason" "out_of_window" true,
        "Segments that TCP would not believe: passed on for their receiver to judge, and noted nowhere";
    PassedUntakable = "passed" "reason" "untakable" true,
        "Control segments that their receiver will not take: a wrong checksum, a time to live that ends here, a foreign signature; not read";
    PassedTtl = "passed" "reason" "ttl" true,
        "Handed to the stack: their time to live ends here";
    PassedTooBig = "passed" "reason" "too_big" true,
        "Handed to the stack: larger than the next interface's MTU";
    PassedNoRoute = "passed" "reason" "no_route" false,
        "Flows left to the stack: no route or interface to redirect to";

    DroppedCut = "dropped" "reason" "ended" true,
        "Dropped: packets of connections that an operator has ended";
    DroppedLearning = "dropped" "reason" "learning" true,
        "Dropped: of no known connection, while not all is learned yet that other gateways of the cluster know";
    DroppedUnwritable = "dropped" "reason" "unwritable" true,
        "Dropped: packets that could not be changed";

    DroppedNoWay = "dropped" "reason" "no_way" true,
        "Dropped: packets with this machine's own address in place of their client's that could not be sent straight on: too big for the next interface, too old, or without a way";

    DroppedUnattached = "dropped" "reason" "unattached" false,
        "Dropped: packets of a connection that came in by an interface which has no programs yet, or none any more; without that, this machine would have reset the connection";

    DeniedUnannounced = "denied" "reason" "unannounced" true,
        "Not translated: connections to a port that was not announced to that peer";
    DeniedUninvited = "denied" "reason" "uninvited" true,
        "Not translated: connections of a server to its client that the client has not announced where the gateway can read it";
    DeniedNoTls = "denied" "reason" "no_tls_session" true,
        "Not translated: connections into passive_ports by somebody without a live TLS session";
    DeniedNoPermit = "denied" "reason" "nothing_said" true,
        "Not translated: connections into passive_ports by a client to whom the server has said nothing inside TLS since its last one, or not within the time for mappings";
    DeniedOutsideRange = "denied" "reason" "outside_range" true,
        "Not translated: connections of a client with a live TLS session to a port outside its server's passive_ports";
    DeniedNoServer = "denied" "reason" "no_server" true,
        "Not translated: connections to a pool all of whose servers are drained";
    DeniedBounce = "denied" "reason" "bounce" false,
        "PORT and EPRT that name somebody else's address (RFC 2577)";
    DeniedUnknownClient = "denied" "reason" "unknown_client" false,
        "PORT and EPRT of a masqueraded client whose own address is not known: its first packet came by no interface of the inside, and connection tracking was not asked or knows no such connection";
    DeniedPort = "denied" "reason" "port" false,
        "Announced ports below 1024 or outside the server's range";
    DeniedUnreadable = "denied" "reason" "unreadable" false,
        "PORT and EPRT whose address cannot be read, but perhaps by the server";
    DeniedNotFtp = "denied" "reason" "not_ftp" false,
        "Announcements on a control connection that did not begin as FTP does";
    DeniedDoubtful = "denied" "reason" "doubtful" false,
        "PASV and EPSV behind a command whose answer never ended beyond doubt: their replies open nothing";
    DeniedCommand = "denied" "reason" "command" false,
        "Commands refused because the policy denies them (deny_commands, read_only)";
    DeniedClearText = "denied" "reason" "clear_text" false,
        "USER, PASS and ACCT in clear text, refused because TLS is required (require_tls)";
    DeniedHidden = "denied" "reason" "hidden" false,
        "NUL, bare carriage returns and PORT within an over-long line, made harmless in commands from outside";
    DeniedNoPort = "denied" "reason" "no_free_port" false,
        "Announcements for which no public port was free";
    DeniedFragment = "denied" "reason" "fragment" true,
        "Dropped: first fragments of packets to control ports, which nobody could read";
    DeniedExtension = "denied" "reason" "extension" true,
        "Dropped: packets of control connections with IPv4 options, and to control ports behind IPv6 extension headers, fragments among them, which the gateway does not read";
    DeniedSynText = "denied" "reason" "syn_text" true,
        "Dropped: SYNs to control ports with text in them, which the gateway would not read; their client repeats them without";
    DeniedTimestamp = "denied" "reason" "timestamp" true,
        "Dropped: text on control connections with a TCP timestamp that is older than the last one, with two or with none, which its receiver may drop unread; its sender repeats it";
    DeniedSource = "denied" "reason" "source" true,
        "Dropped: SYNs from outside with a source that nobody there can have: martian, this machine's own, or routed inside";
    DeniedBanned = "denied" "reason" "banned" true,
        "Dropped: first packets of sessions and announced connections of peers on the deny list";
    DeniedNotAllowed = "denied" "reason" "not_allowed" true,
        "Dropped: first packets of sessions of clients that an allow list does not have";
    DeniedNoRoom = "denied" "reason" "no_room" true,
        "Dropped: connections for which there is no room; their sender tries again";
    DeniedClientSessions = "denied" "reason" "client_sessions" true,
        "Dropped: SYNs of clients that have their share of sessions; they try again";
    DeniedClientConnections = "denied" "reason" "client_connections" true,
        "Dropped: SYNs of announced connections of clients that have their share of those; they try again";
    DeniedRate = "denied" "reason" "rate" false,
        "Announcements beyond what a client, or a session, may make in a second";
    DeniedExpired = "denied" "reason" "expired" true,
        "Not translated: announced connections that came too late";

    EventsWithheld = "events_withheld" "" "" false,
        "Events about what was denied that were not told, because there were too many at once";
    EventsLost = "events_lost" "" "" false,
        "Events that found the ring full";
    CommandsUntold = "commands_untold" "" "" false,
        "Commands and replies that `ftp-nat transfers` lacks: a client sent too many at once, or the ring was half full";
}

/// How many there are.
pub const COUNTERS: usize = Counter::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counters_number_is_its_place() {
        for (place, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, place);
        }
    }

    #[test]
    fn no_two_counters_share_a_name() {
        let names: std::collections::HashSet<_> = Counter::ALL
            .iter()
            .map(|counter| {
                let it = counter.description();
                (it.family, it.label, it.value)
            })
            .collect();
        assert_eq!(names.len(), COUNTERS);
    }
}
