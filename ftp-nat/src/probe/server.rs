//! Which FTP server it is: by what it says of itself, or else by its manners.

use serde::Serialize;

use super::reply::Reply;

/// Server programs whose remedies are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// vsftpd.
    Vsftpd,
    /// ProFTPD.
    Proftpd,
    /// Pure-FTPd.
    PureFtpd,
    /// pyftpdlib.
    Pyftpdlib,
    /// FileZilla Server.
    Filezilla,
    /// Microsoft's IIS.
    Iis,
    /// Another, or one that does not say.
    #[default]
    Unknown,
}

impl Program {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vsftpd => "vsftpd",
            Self::Proftpd => "ProFTPD",
            Self::PureFtpd => "Pure-FTPd",
            Self::Pyftpdlib => "pyftpdlib",
            Self::Filezilla => "FileZilla Server",
            Self::Iis => "Microsoft IIS",
            Self::Unknown => "unknown",
        }
    }

    /// How its 227 begins, up to the numbers: where nobody can have changed that but a gateway.
    fn words_of_227(self) -> Option<&'static str> {
        match self {
            Self::Vsftpd | Self::Proftpd | Self::PureFtpd => Some("227 Entering Passive Mode ("),
            Self::Pyftpdlib => Some("227 Entering passive mode ("),
            Self::Filezilla | Self::Iis | Self::Unknown => None,
        }
    }
}

/// What is known of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Server {
    /// The program.
    pub program: Program,
    /// What it greeted with.
    pub greeting: String,
    /// The answer to SYST, if it was given.
    pub system: Option<String>,
    /// The lines of FEAT, if it was given.
    pub features: Option<Vec<String>>,
    /// An address that it calls its own in its greeting (ProFTPD does).
    pub own_address: Option<std::net::IpAddr>,
    /// Whether the greeting is that of a proxy or a firewall, or was masked by one.
    pub is_proxy: bool,
}

impl Server {
    /// From the greeting alone.
    #[must_use]
    pub fn greeting(reply: &Reply) -> Self {
        const SIGNS: [&str; 9] = [
            "proxy",
            "firewall",
            "forefront",
            "web gateway",
            "security gateway",
            "fortigate",
            "jftpgw",
            "frox",
            "zorp",
        ];
        let text = reply.lowercase();
        let masked = text.chars().filter(|character| *character == '*').count();
        Self {
            program: by_name(&text),
            greeting: reply.last().to_owned(),
            own_address: address_in_brackets(reply),
            is_proxy: SIGNS.iter().any(|sign| text.contains(sign)) || masked * 2 > text.len(),
            system: None,
            features: None,
        }
    }

    /// Takes the answer to SYST.
    pub fn take_system(&mut self, reply: &Reply) {
        if reply.code != 215 {
            return;
        }
        let text = reply.last().get(4..).unwrap_or_default().to_owned();
        if self.program == Program::Unknown {
            let lower = text.to_lowercase();
            self.program = match &lower {
                _ if lower.contains("filezilla") => Program::Filezilla,
                _ if lower.contains("windows_nt") => Program::Iis,
                _ => Program::Unknown,
            };
        }
        self.system = Some(text);
    }

    /// Takes the answer to FEAT.
    pub fn take_features(&mut self, reply: &Reply) {
        if reply.code != 211 {
            return;
        }
        let features: Vec<String> = reply
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix("211-").or(line.strip_prefix(' ')))
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty() && !line.ends_with(':'))
            .collect();
        if self.program == Program::Unknown {
            self.program = by_features(&features);
        }
        self.features = Some(features);
    }

    /// Whether it says that it knows `feature`; none: it did not say anything.
    #[must_use]
    pub fn offers(&self, feature: &str) -> Option<bool> {
        let features = self.features.as_ref()?;
        Some(
            features
                .iter()
                .any(|line| line.to_ascii_uppercase().starts_with(feature)),
        )
    }

    /// Whether a 227 has words that this server never uses: somebody on the way has rewritten it.
    #[must_use]
    pub fn is_rewritten(&self, reply: &str) -> bool {
        let Some(words) = self.program.words_of_227() else {
            return false;
        };
        reply.starts_with("227") && !reply.starts_with(words)
    }
}

fn by_name(greeting: &str) -> Program {
    const NAMES: [(&str, Program); 6] = [
        ("vsftpd", Program::Vsftpd),
        ("proftpd", Program::Proftpd),
        ("pure-ftpd", Program::PureFtpd),
        ("pyftpdlib", Program::Pyftpdlib),
        ("filezilla", Program::Filezilla),
        ("microsoft ftp", Program::Iis),
    ];
    let found = NAMES.iter().find(|(name, _)| greeting.contains(name));
    found.map_or(Program::Unknown, |(_, program)| *program)
}

/// Servers that hide their name still show their features.
fn by_features(features: &[String]) -> Program {
    let has = |name: &str| features.iter().any(|line| line.starts_with(name));
    match () {
        () if has("ESTA") || has("SPSV") => Program::PureFtpd,
        () if has("MFF modify;UNIX") => Program::Proftpd,
        () if has("EPRT") && has("PASV") && has("TVFS") && !has("MLST") => Program::Vsftpd,
        () => Program::Unknown,
    }
}

/// `220 ProFTPD Server (Debian) [::ffff:10.0.0.5]`
fn address_in_brackets(reply: &Reply) -> Option<std::net::IpAddr> {
    reply.lines.iter().find_map(|line| {
        let (_, rest) = line.rsplit_once('[')?;
        let (inside, _) = rest.split_once(']')?;
        let address: std::net::IpAddr = inside.parse().ok()?;
        Some(address.to_canonical())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::reply::Reader;

    fn reply(text: &str) -> Reply {
        let mut reader = Reader::default();
        for byte in text.bytes() {
            reader.feed(byte);
        }
        reader.into_reply()
    }

    #[test]
    fn servers_are_known_by_their_greetings() {
        for (greeting, program) in [
            ("220 (vsFTPd 3.0.3)\r\n", Program::Vsftpd),
            (
                "220 ProFTPD Server (Debian) [::ffff:10.0.0.5]\r\n",
                Program::Proftpd,
            ),
            (
                "220---------- Welcome to Pure-FTPd [privsep] [TLS] ----------\r\n220 bye\r\n",
                Program::PureFtpd,
            ),
            ("220 pyftpdlib 1.5.7 ready.\r\n", Program::Pyftpdlib),
            (
                "220-FileZilla Server 1.8.1\r\n220 hello\r\n",
                Program::Filezilla,
            ),
            ("220 Microsoft FTP Service\r\n", Program::Iis),
            ("220 hello\r\n", Program::Unknown),
        ] {
            let server = Server::greeting(&reply(greeting));
            assert_eq!(server.program, program, "{greeting}");
            assert!(!server.is_proxy, "{greeting}");
        }
        let proftpd = Server::greeting(&reply("220 ProFTPD Server [::ffff:10.0.0.5]\r\n"));
        assert_eq!(proftpd.own_address, "10.0.0.5".parse().ok());
    }

    #[test]
    fn servers_that_hide_their_names_are_known_by_their_features() {
        for (features, program) in [
            (
                "EPRT\r\n EPSV\r\n MDTM\r\n PASV\r\n SIZE\r\n TVFS",
                Program::Vsftpd,
            ),
            (
                "MFF modify;UNIX.group;UNIX.mode;\r\n EPSV",
                Program::Proftpd,
            ),
            ("EPSV\r\n ESTA\r\n ESTP", Program::PureFtpd),
            ("EPSV\r\n UTF8", Program::Unknown),
        ] {
            let mut server = Server::greeting(&reply("220 hello\r\n"));
            server.take_features(&reply(&format!(
                "211-Features:\r\n {features}\r\n211 End\r\n"
            )));
            assert_eq!(server.program, program, "{features}");
            assert_eq!(server.offers("MLSD"), Some(false));
        }
        let mut server = Server::greeting(&reply("220 hello\r\n"));
        assert_eq!(server.offers("EPSV"), None);
        server.take_system(&reply("215 UNIX emulated by FileZilla.\r\n"));
        assert_eq!(server.program, Program::Filezilla);
    }

    #[test]
    fn proxies_and_masks_are_seen() {
        for greeting in [
            "220 Frox transparent ftp proxy. Login with username[@host[:port]]\r\n",
            "220 Check Point FireWall-1 Secure FTP server running on fw\r\n",
            "220 ****************************************\r\n",
        ] {
            assert!(Server::greeting(&reply(greeting)).is_proxy, "{greeting}");
        }
    }

    #[test]
    fn words_that_a_server_never_uses_are_a_gateways() {
        let vsftpd = Server::greeting(&reply("220 (vsFTPd 3.0.3)\r\n"));
        assert!(!vsftpd.is_rewritten("227 Entering Passive Mode (10,0,0,5,1,2)."));
        assert!(vsftpd.is_rewritten("227 Entering Passive Mod (198,51,100,1,1,2)."));
        assert!(vsftpd.is_rewritten("227 Entering Passive Mode   (10,0,0,5,1,2)."));
        assert!(!vsftpd.is_rewritten("500 OOPS"));
    }
}
