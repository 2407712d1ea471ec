//! What is usually done about a cause: at the server, and at the gateway.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    diagnosis::finding::{Fault, Finding, Side},
    seen::{Encryption, Mode, Seen},
    server::Program,
};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fix {
    /// Where: a server program, a gateway, or a place.
    pub at: String,
    /// What.
    pub what: String,
}

/// The ports that examples use.
const PORTS: (u16, u16) = (50_000, 50_999);

/// What to do about a finding, this server's own remedy first.
#[must_use]
pub fn fixes(finding: &Finding, seen: &Seen) -> Vec<Fix> {
    let advisor = Advisor {
        address: seen.address.ip(),
        control_port: seen.address.port(),
        program: seen.server.program,
        is_encrypted: seen.encryption != Encryption::None,
        fixes: Vec::new(),
    };
    advisor.advise(finding)
}

/// What holds for encrypted sessions, whatever breaks them.
pub const ENCRYPTED: &str = "This session is encrypted, so no gateway can read or correct what the \
    server announces, nor open what it announces. What helps: the server itself announces the \
    public address, from a fixed range of passive ports, and the gateway lets that whole range \
    through to it (ftp-nat: passive_ports, open only to clients with a live session). EPSV needs \
    no address at all.";

struct Advisor {
    address: IpAddr,
    control_port: u16,
    program: Program,
    is_encrypted: bool,
    fixes: Vec<Fix>,
}

impl Advisor {
    fn advise(mut self, finding: &Finding) -> Vec<Fix> {
        let is_active = finding.modes.iter().all(|mode| !mode.is_passive());
        match (finding.cause, finding.side) {
            (Fault::NatNotTranslating | Fault::ClientSide, Side::Client) if is_active => {
                self.client_active();
            }
            (Fault::ClientSide, _) => self.client_passive(),
            (Fault::NatNotTranslating, _) => {
                self.server_range();
                self.gateway_translates();
            }
            (Fault::FirewallBlocks, _) if is_active => self.server_connects(),
            (Fault::FirewallBlocks, _) => {
                self.server_range();
                self.gateway_lets_in();
            }
            (Fault::AnnouncedAddress, _) => {
                self.server_address();
                self.gateway_rewrites();
            }
            (Fault::PassiveRange, _) => {
                self.server_range();
                self.range_forwarded();
            }
            (Fault::DoubleNat, _) => {
                self.outermost_address();
                self.server_address();
            }
            (Fault::Intercepted, _) => self.intercepted(),
            (Fault::Tls, _) => self.tls(),
            (Fault::Server, _) => self.server(&finding.modes),
        }
        self.fixes
    }

    fn add(&mut self, at: &str, what: impl Into<String>) {
        self.fixes.push(Fix {
            at: at.to_owned(),
            what: what.into(),
        });
    }

    /// For the server that it is; for all that are known, where it does not say.
    fn at_server(&mut self, remedy: impl Fn(Program) -> Option<String>) {
        let known = [self.program];
        let programs: &[Program] = match self.program {
            Program::Unknown => &[Program::Vsftpd, Program::Proftpd, Program::PureFtpd],
            _ => &known,
        };
        for program in programs.iter().copied() {
            if let Some(what) = remedy(program) {
                self.add(program.name(), what);
            }
        }
    }

    fn server_range(&mut self) {
        let (first, last) = PORTS;
        self.at_server(|program| {
            Some(match program {
                Program::Vsftpd => format!(
                    "pasv_min_port={first} and pasv_max_port={last} in vsftpd.conf fix the range, \
                     so that it can be forwarded and opened"
                ),
                Program::Proftpd => {
                    format!("`PassivePorts {first} {last}` in proftpd.conf fixes the range")
                }
                Program::PureFtpd => format!(
                    "-p {first}:{last} fixes the range (Debian: `{first} {last}` in \
                     /etc/pure-ftpd/conf/PassivePortRange)"
                ),
                Program::Pyftpdlib => {
                    format!(
                        "handler.passive_ports = range({first}, {}) fixes the range",
                        last + 1
                    )
                }
                Program::Filezilla => {
                    format!("Server, Configure, Passive mode: use custom port range {first}-{last}")
                }
                Program::Iis => format!(
                    "FTP Firewall Support: Data Channel Port Range {first}-{last} (then restart \
                     the service)"
                ),
                Program::Unknown => return None,
            })
        });
    }

    fn server_address(&mut self) {
        let address = self.address;
        if address.is_ipv6() {
            return;
        }
        self.at_server(|program| {
            Some(match program {
                Program::Vsftpd => format!(
                    "pasv_address={address} in vsftpd.conf (with listen=YES and listen_ipv6=NO: on \
                     a socket for both families it announces 0.0.0.0; for a name, also \
                     pasv_addr_resolve=YES)"
                ),
                Program::Proftpd => format!("`MasqueradeAddress {address}` in proftpd.conf"),
                Program::PureFtpd => format!(
                    "-P {address} (Debian: the address in /etc/pure-ftpd/conf/ForcePassiveIP)"
                ),
                Program::Pyftpdlib => format!("handler.masquerade_address = \"{address}\""),
                Program::Filezilla => format!(
                    "Server, Configure, Passive mode: use the IP address {address} (and not for \
                     local connections)"
                ),
                Program::Iis => {
                    format!("FTP Firewall Support: External IP Address of Firewall {address}")
                }
                Program::Unknown => return None,
            })
        });
    }

    /// How ftp-nat publishes this server.
    fn publish(&self) -> String {
        let public = std::net::SocketAddr::new(self.address, self.control_port);
        let server = match self.address {
            IpAddr::V4(_) => format!("SERVER:{}", self.control_port),
            IpAddr::V6(_) => format!("[SERVER]:{}", self.control_port),
        };
        format!("`ftp-nat run --wan IF --publish {public}={server}`")
    }

    fn gateway_translates(&mut self) {
        let (first, last) = PORTS;
        if self.is_encrypted {
            self.range_forwarded();
            return;
        }
        let publish = self.publish();
        self.add(
            "ftp-nat",
            format!("{publish} translates each announced port, and opens it for its client only"),
        );
        self.kernel_helper("which translates the announced ports");
        self.add(
            "Cisco ASA",
            "`inspect ftp` in the policy map (`policy-map global_policy`, `class \
             inspection_default`)",
        );
        self.add(
            "pfSense, others",
            format!("forward TCP {first}-{last} to the server as well, unchanged"),
        );
    }

    fn gateway_lets_in(&mut self) {
        let (first, last) = PORTS;
        if !self.is_encrypted {
            let publish = self.publish();
            self.add(
                "ftp-nat",
                format!(
                    "{publish} needs no firewall rule for data ports (with `--lan none` one rule: \
                     `meta mark and 0x40 == 0x40 accept`)"
                ),
            );
            self.kernel_helper("and `ct state established,related accept` in the forward chain");
            self.add(
                "Cisco ASA",
                "`inspect ftp` opens what is announced; without it, an access list for the range",
            );
        }
        self.add(
            "nftables",
            format!(
                "`tcp dport {first}-{last} accept` for the server: in the gateway's forward chain, \
                 and in the server's own input chain"
            ),
        );
        self.add(
            "pfSense, others",
            format!("a rule that passes TCP {first}-{last} to the server, in from the WAN"),
        );
    }

    fn gateway_rewrites(&mut self) {
        if self.is_encrypted {
            return;
        }
        let publish = self.publish();
        self.add(
            "ftp-nat",
            format!("{publish} rewrites whatever address the server announces"),
        );
        self.kernel_helper(
            "which rewrites the address, if it is the server's own (not 0.0.0.0, not another)",
        );
        self.add("Cisco ASA", "`inspect ftp` rewrites it");
        self.add(
            "pfSense",
            "does not rewrite it for servers behind it: set it at the server",
        );
    }

    fn kernel_helper(&mut self, why: &str) {
        let port = self.control_port;
        self.add(
            "nf_conntrack",
            format!(
                "`modprobe nf_nat_ftp` and a rule that attaches the helper (`iptables -t raw -A \
                 PREROUTING -p tcp --dport {port} -j CT --helper ftp`, or nft's `ct helper set`), \
                 {why}"
            ),
        );
    }

    fn range_forwarded(&mut self) {
        let (first, last) = PORTS;
        self.add(
            "any gateway",
            format!(
                "forward the very range that the server uses, all of it and unchanged (port \
                 {first} outside to {first} inside), wide enough: a port for each transfer at a \
                 time, and some more while closed ones rest"
            ),
        );
        if self.is_encrypted {
            self.add(
                "ftp-nat",
                format!("passive_ports = \"{first}-{last}\" in the server's [[publish]]"),
            );
        } else {
            let publish = self.publish();
            self.add(
                "ftp-nat",
                format!("{publish} needs no range: ports are opened as they are announced"),
            );
        }
    }

    fn client_passive(&mut self) {
        self.add(
            "this machine",
            "its own firewall, if it has one, must let TCP connections to high ports out",
        );
        self.add(
            "this side's gateway",
            format!(
                "let TCP to ports 1024-65535 of {} out, or have it follow FTP: nf_conntrack_ftp \
                 with `ct state related accept`, ASA `inspect ftp` (not for encrypted sessions)",
                self.address
            ),
        );
        self.add(
            "to be sure",
            "run the same probe from another network: if it works there, the server is not to blame",
        );
    }

    fn client_active(&mut self) {
        self.add("this machine", "use passive mode, which needs nothing here");
        self.add(
            "ftp-nat",
            "on this side's gateway: `ftp-nat run --wan IF --masquerade NET` rewrites PORT and \
             EPRT and lets the server's connection in",
        );
        self.kernel_helper("on this side's gateway");
        self.add("Cisco ASA", "`inspect ftp`");
        self.add("pfSense", "the FTP Client Proxy package");
    }

    fn server_connects(&mut self) {
        self.add(
            "the server's gateway",
            "let the server connect out, from port 20 (or any) to high ports",
        );
    }

    fn outermost_address(&mut self) {
        let address = self.address;
        self.add(
            "ftp-nat",
            format!(
                "on the inner gateway: advertise = \"{address}\" in the server's [[publish]], so \
                 that it announces the outermost address"
            ),
        );
        self.add(
            "the outer NAT",
            format!(
                "hand port {} and the data ports on to the inner gateway, unchanged (or run \
                 ftp-nat there as well: gateways in a chain work)",
                self.control_port
            ),
        );
        self.add(
            "a 1:1 cloud address",
            format!(
                "announce {address} by the server itself, or on the server: `ftp-nat run --wan IF \
                 --publish IF:{}=local` with advertise = \"{address}\"",
                self.control_port
            ),
        );
    }

    fn intercepted(&mut self) {
        self.add(
            "on the way",
            "exempt this server from FTP inspection and proxies (ASA: `inspect ftp` without \
             `strict`, or none; a firewall's FTP proxy; a virus scanner), on both sides",
        );
        if !self.is_encrypted {
            self.add(
                "here",
                "try --tls, or another control port at the server: nobody can interfere with what \
                 he cannot read",
            );
        }
        self.add(
            "to be sure",
            "run the same probe from another network, and on the server's own network",
        );
    }

    fn tls(&mut self) {
        self.at_server(|program| {
            Some(match program {
                Program::Vsftpd => {
                    "require_ssl_reuse=NO in vsftpd.conf, if clients cannot resume sessions".into()
                }
                Program::Proftpd => "`TLSOptions NoSessionReuseRequired` in proftpd.conf".into(),
                _ => return None,
            })
        });
        self.add(
            "on the way",
            "no gateway may touch the data connection: it breaks TLS",
        );
    }

    fn server(&mut self, modes: &[Mode]) {
        if modes.iter().any(|mode| !mode.is_passive()) {
            self.at_server(|program| {
                Some(match program {
                    Program::Vsftpd => "port_enable=YES in vsftpd.conf allows active mode".into(),
                    _ => return None,
                })
            });
        }
        if modes.iter().any(|mode| mode.is_passive()) {
            self.at_server(|program| {
                Some(match program {
                    Program::Vsftpd => "pasv_enable=YES in vsftpd.conf allows passive mode".into(),
                    _ => return None,
                })
            });
        }
        self.add("the server", "its own log says more");
    }
}
