//! The contestants: what stands between client and server.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context as _;
use ftp_nat_tests::{
    firewall, fleet,
    gateway::Gateway,
    lab::{HOST_INTERFACE, Host, LAN, LAN_ADDRESS, Lab, WAN, WAN_ADDRESS},
    link::mac_text,
    namespace::Namespace,
    process::{self, Running},
    scratch::Scratch,
};

/// The engine's socket in a scene's folder.
const SOCKET: &str = "engine.sock";

/// Who carries the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    /// The kernel forwards; nobody translates. The client connects to the server's own address.
    Plain,
    /// nftables translates, and the kernel's FTP helper reads the control connection.
    KernelHelper,
    /// ftp-nat translates, and the stack forwards.
    Stack,
    /// ftp-nat sends packets from interface to interface, by TC.
    Redirect,
    /// The same, and those of data connections by XDP.
    Xdp,
}

impl Router {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::KernelHelper,
        Self::Stack,
        Self::Redirect,
        Self::Xdp,
    ];

    /// Its word in the JSON's keys.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::KernelHelper => "kernel_helper",
            Self::Stack => "stack",
            Self::Redirect => "redirect",
            Self::Xdp => "xdp",
        }
    }

    /// Its name for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain forwarding",
            Self::KernelHelper => "nftables + kernel helper",
            Self::Stack => "ftp-nat, stack",
            Self::Redirect => "ftp-nat, redirect",
            Self::Xdp => "ftp-nat, XDP",
        }
    }

    /// The value of the configuration's `datapath`; none: another program carries the packets.
    pub(crate) const fn datapath(self) -> Option<&'static str> {
        match self {
            Self::Plain | Self::KernelHelper => None,
            Self::Stack => Some("stack"),
            Self::Redirect => Some("redirect"),
            Self::Xdp => Some("xdp"),
        }
    }
}

/// A lab with one of the contestants as its router.
pub(crate) struct Scene<'lab> {
    /// The contestant.
    pub(crate) router: Router,
    /// The lab.
    pub(crate) lab: &'lab Lab,
    /// ftp-nat, where it is the router.
    pub(crate) gateway: Option<Gateway<'lab>>,
    /// What it shares its sessions through, if it does.
    _engine: Option<Running>,
    /// Where its configuration and the engine's socket are.
    _scratch: Scratch,
}

/// What ftp-nat is told besides its datapath.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Connections that there must be room for.
    pub(crate) connections: Option<u32>,
    /// Mappings that there must be room for.
    pub(crate) mappings: Option<u32>,
    /// Where the daemon serves its metrics.
    pub(crate) metrics: Option<&'static str>,
    /// Whether it shares its sessions through an engine, which runs beside it.
    pub(crate) is_shared: bool,
}

impl<'lab> Scene<'lab> {
    /// Sets the contestant up in a lab that nobody has used yet.
    pub(crate) fn new(lab: &'lab Lab, router: Router, settings: &Settings) -> anyhow::Result<Self> {
        // A veth takes frames from XDP only while it polls, which it does for GRO; and ftp-nat looks
        // for that when it starts.
        offload(lab, &["gro", "on"])?;
        introduce(lab)?;
        let scratch = Scratch::new()?;
        let engine = match settings.is_shared {
            true => Some(fleet::redis_at(&lab.router, &scratch.path().join(SOCKET))?),
            false => None,
        };
        let gateway = match router.datapath() {
            Some(datapath) => Some(start(lab, datapath, settings, &scratch)?),
            None => None,
        };
        match router {
            Router::Plain => lab
                .client()
                .namespace
                .ip(&format!("route add 10.0.0.0/24 via {WAN_ADDRESS}"))?,
            Router::KernelHelper => lab.router.nft(firewall::KERNEL_HELPER)?,
            Router::Stack | Router::Redirect | Router::Xdp => {}
        }
        Ok(Self {
            router,
            lab,
            gateway,
            _engine: engine,
            _scratch: scratch,
        })
    }

    /// Where the client finds the server's control port.
    pub(crate) fn control(&self) -> std::net::SocketAddr {
        match self.router {
            Router::Plain => self.lab.server().at(21),
            _ => (WAN_ADDRESS, 21).into(),
        }
    }

    /// The folder of ftp-nat's pins, which has `maps` and `programs`.
    pub(crate) fn pins(&self) -> anyhow::Result<PathBuf> {
        let gateway = self.gateway.as_ref().context("no ftp-nat runs here")?;
        let mut folder = gateway.state_dir().to_owned();
        // STATE/v<layout>/netns-<cookie>/<gateway>: there is one of each.
        for _ in 0..3 {
            folder = fs::read_dir(&folder)
                .with_context(|| format!("cannot read {}", folder.display()))?
                .next()
                .with_context(|| format!("nothing is pinned in {}", folder.display()))??
                .path();
        }
        Ok(folder)
    }
}

/// Tells everybody the others' hardware addresses for good: nobody has to ask in the middle of a
/// measurement.
fn introduce(lab: &Lab) -> anyhow::Result<()> {
    for (host, interface, router) in [
        (lab.client(), WAN, WAN_ADDRESS),
        (lab.server(), LAN, LAN_ADDRESS),
    ] {
        let host_mac = mac_text(&host.namespace, HOST_INTERFACE)?;
        let router_mac = mac_text(&lab.router, interface)?;
        let host_address = host.v4;
        lab.router.ip(&format!(
            "neigh replace {host_address} lladdr {host_mac} dev {interface} nud permanent"
        ))?;
        host.namespace.ip(&format!(
            "neigh replace {router} lladdr {router_mac} dev {HOST_INTERFACE} nud permanent"
        ))?;
    }
    Ok(())
}

/// Sets features (`ethtool -K`) of every interface in a lab.
pub(crate) fn offload(lab: &Lab, features: &[&str]) -> anyhow::Result<()> {
    for (namespace, interface) in interfaces(lab) {
        process::run(
            namespace
                .command("ethtool")?
                .args(["-K", interface])
                .args(features),
            Duration::from_secs(5),
        )?
        .expect_success()?;
    }
    Ok(())
}

/// Every interface in a lab, with its namespace.
pub(crate) fn interfaces(lab: &Lab) -> [(&Namespace, &'static str); 4] {
    [
        (&lab.client().namespace, HOST_INTERFACE),
        (&lab.router, WAN),
        (&lab.router, LAN),
        (&lab.server().namespace, HOST_INTERFACE),
    ]
}

fn start<'lab>(
    lab: &'lab Lab,
    datapath: &str,
    settings: &Settings,
    scratch: &Scratch,
) -> anyhow::Result<Gateway<'lab>> {
    let mut text =
        format!("[gateway]\nwan = [\"{WAN}\"]\nlan = [\"{LAN}\"]\ndatapath = \"{datapath}\"\n");
    if let Some(address) = settings.metrics {
        text += &format!("metrics_listen = \"{address}\"\n");
    }
    if settings.is_shared {
        let socket = scratch.path().join(SOCKET);
        text += &format!(
            "[cluster]\nengine = [\"unix://{}\"]\nname = \"bench\"\nnode = 1\n",
            socket.display()
        );
    }
    let mut limits = "[limits]\n".to_owned();
    text += &format!(
        "[[publish]]\npublic = \"{WAN_ADDRESS}:21\"\nserver = \"{}\"\n",
        lab.server().at(21)
    );
    // One client does what a thousand would.
    for bound in [
        "client_sessions",
        "client_connections",
        "client_announcements",
        "session_announcements",
    ] {
        limits += &format!("{bound} = 0\n");
    }
    text += &limits;
    let path = scratch.write("ftp-nat.toml", text)?;
    let path = path.to_string_lossy();
    let mut arguments = vec!["--config", &path];
    let limits = [
        ("--max-connections", settings.connections),
        ("--max-mappings", settings.mappings),
    ]
    .map(|(flag, limit)| (flag, limit.map(|limit| limit.to_string())));
    for (flag, limit) in &limits {
        if let Some(limit) = limit {
            arguments.extend([*flag, limit]);
        }
    }
    Gateway::start(&lab.router, &arguments)
}

/// The address of a host as frames want it.
pub(crate) fn at(host: &Host, port: u16) -> std::net::SocketAddrV4 {
    std::net::SocketAddrV4::new(host.v4, port)
}
