//! What strangers and bad clients do, at random.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use fastrand::Rng;
use ftp_nat_tests::{
    attack::{
        segment::{ACK, FIN, PSH, RST, SYN, Segment},
        wire::Wire,
    },
    control::Control,
    lab::{Host, Lab, WAN_ADDRESS},
    server::FtpServer,
};

use super::record::Record;

/// One kind of attack.
type Attack = (&'static str, fn(&mut Attacker<'_>) -> anyhow::Result<()>);

const ATTACKS: [Attack; 15] = [
    ("SYNs to ports that nobody announced", |it| it.unannounced()),
    ("resets at a guess", |it| it.resets()),
    ("FINs at a guess", |it| it.ends()),
    ("text at a guess", |it| it.text()),
    ("handshakes that never end", |it| it.half_open()),
    ("sources that nobody has", |it| it.martians()),
    ("SYNs with text", |it| it.syn_text()),
    ("fragments of commands", |it| it.fragments()),
    ("PORT for somebody else", |it| it.bounce()),
    ("PORT in many spellings", |it| it.spellings()),
    ("lines that never end", |it| it.long_lines()),
    ("commands byte by byte", |it| it.byte_by_byte()),
    ("announcements that nobody uses", |it| it.unused()),
    ("names that look like replies", |it| it.names()),
    ("sessions that are reset", |it| it.broken_off()),
];

/// Attacks until it is calm.
pub(super) fn work(lab: &Lab, server: &FtpServer, seed: u64, record: &Record, calm: &AtomicBool) {
    let mut attacker = Attacker {
        lab,
        server,
        host: &lab.outside[2],
        random: Rng::with_seed(seed ^ 0xa77a),
    };
    while !calm.load(Ordering::Relaxed) {
        let (name, attack) = ATTACKS[attacker.random.usize(..ATTACKS.len())];
        // Whether the server, or an interface that is away just now, takes part is not of interest.
        if attack(&mut attacker).is_ok() {
            record.attack(name);
        }
        thread::sleep(Duration::from_millis(attacker.random.u64(100..900)));
    }
}

struct Attacker<'l> {
    lab: &'l Lab,
    server: &'l FtpServer,
    host: &'l Host,
    random: Rng,
}

impl Attacker<'_> {
    fn public(port: u16) -> SocketAddr {
        (WAN_ADDRESS, port).into()
    }

    /// A source: the attacker's own, or an honest client's that it has no right to.
    fn source(&mut self) -> SocketAddr {
        let hosts = &self.lab.outside;
        let ip = hosts[self.random.usize(..hosts.len())].v4;
        (ip, self.random.u16(1024..)).into()
    }

    /// Sends some segments that `make` makes.
    fn send(&mut self, count: usize, make: fn(&mut Self) -> Segment) -> anyhow::Result<()> {
        let wire = Wire::from_outside(self.lab, self.host)?;
        for _ in 0..count {
            let segment = make(self);
            wire.send(&segment)?;
        }
        Ok(())
    }

    fn blind(&mut self, flags: u8) -> Segment {
        let (seq, ack) = (self.random.u32(..), self.random.u32(..));
        Segment::new(self.source(), Self::public(21), flags, seq, ack)
    }

    fn unannounced(&mut self) -> anyhow::Result<()> {
        self.send(20, |it| {
            let port = it.random.u16(1024..);
            let from = (it.host.v4, it.random.u16(1024..)).into();
            Segment::syn(from, Self::public(port), it.random.u32(..))
        })
    }

    fn resets(&mut self) -> anyhow::Result<()> {
        self.send(50, |it| it.blind(RST))
    }

    fn ends(&mut self) -> anyhow::Result<()> {
        self.send(50, |it| it.blind(FIN | ACK))
    }

    fn text(&mut self) -> anyhow::Result<()> {
        self.send(20, |it| {
            it.blind(PSH | ACK)
                .with("PORT 198,51,100,22,200,1\r\nRETR x\r\n")
        })
    }

    fn half_open(&mut self) -> anyhow::Result<()> {
        self.send(100, |it| {
            let last = it.random.u8(100..250);
            let from = Ipv4Addr::new(198, 51, 100, last);
            let from = (from, it.random.u16(1024..)).into();
            Segment::syn(from, Self::public(21), it.random.u32(..))
        })
    }

    fn martians(&mut self) -> anyhow::Result<()> {
        self.send(10, |it| {
            let sources = [
                [127, 0, 0, 1],
                [10, 0, 0, 5],
                [224, 0, 0, 1],
                [198, 51, 100, 1],
            ];
            let ip = IpAddr::from(sources[it.random.usize(..sources.len())]);
            Segment::syn((ip, 4000).into(), Self::public(21), it.random.u32(..))
        })
    }

    fn syn_text(&mut self) -> anyhow::Result<()> {
        self.send(5, |it| {
            let from = (it.host.v4, it.random.u16(1024..)).into();
            Segment::syn(from, Self::public(21), it.random.u32(..)).with("USER a\r\n")
        })
    }

    fn fragments(&mut self) -> anyhow::Result<()> {
        let wire = Wire::from_outside(self.lab, self.host)?;
        let number = self.random.u16(..);
        let segment = self.blind(SYN | ACK | PSH).with(vec![b'x'; 200]);
        for packet in segment.fragments(48, number) {
            wire.send_packet(&packet)?;
        }
        Ok(())
    }

    /// A session of the attacker's own.
    fn session(&self) -> anyhow::Result<Control> {
        Control::log_in(self.host, &self.server.target_at(Self::public(21)))
    }

    fn bounce(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for line in [
            "PORT 198,51,100,20,200,1",
            "EPRT |1|198.51.100.20|51201|",
            "PORT 10,0,0,6,0,22",
            "PORT 198,51,100,22,0,25",
        ] {
            control.command(line)?;
        }
        Ok(())
    }

    fn spellings(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for line in [
            "PORT 0306,51,100,22,200,1",
            "port 198,51,100,22,200",
            "PORT  198 , 51,100,22,200,1",
            "EPRT |1|198.51.100.22|99999|",
            "EPRT x1x198.51.100.22x51201x",
            "PASV\0",
            "PO\rRT 198,51,100,22,200,1",
            "P@SW",
        ] {
            control.command(line)?;
        }
        Ok(())
    }

    fn long_lines(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for _ in 0..self.random.u8(1..8) {
            control.send(vec![b'A'; 1400])?;
        }
        control.send("\r\nPASV\r\n")
    }

    fn byte_by_byte(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for byte in b"NOOP\r\nPASV\r\nEPSV\r\nPORT 198,51,100,22,200,1\r\n" {
            control.send([*byte])?;
            thread::sleep(Duration::from_millis(2));
        }
        for _ in 0..4 {
            control.reply()?;
        }
        Ok(())
    }

    fn unused(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for _ in 0..20 {
            let verb = ["PASV", "EPSV"][self.random.usize(..2)];
            control.announce(verb)?;
        }
        Ok(())
    }

    fn names(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        for line in [
            "MKD 227 Entering Passive Mode (10,0,0,5,200,1)",
            "STAT 227 Entering Passive Mode (10,0,0,5,200,1)",
            "HELP 229 Entering Extended Passive Mode (|||51201|)",
            "CWD 227 (10,0,0,5,200,1)",
        ] {
            control.command(line)?;
        }
        Ok(())
    }

    fn broken_off(&mut self) -> anyhow::Result<()> {
        let mut control = self.session()?;
        let address = control.announce("PASV")?;
        let data = ftp_nat_tests::control::connect(self.host, address)?;
        control.send("RETR /download/slow.bin\r\n")?;
        thread::sleep(Duration::from_millis(self.random.u64(..200)));
        // Closed with a reset (`SO_LINGER` of zero).
        rustix::net::sockopt::set_socket_linger(&data, Some(Duration::ZERO))?;
        rustix::net::sockopt::set_socket_linger(control.stream(), Some(Duration::ZERO))?;
        Ok(())
    }
}
