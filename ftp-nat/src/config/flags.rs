//! The command line's half of the configuration: what is given there replaces what the file says.

use std::net::SocketAddr;

use super::{
    arguments::RunArgs,
    options::{
        Commands, Config, ControlNat, Datapath, Lan, Masquerade, Networks, Peer, Publish,
        TowardServer,
    },
    origin::{Origin, Problem, Spanned},
    value::{self, MssClamp, PortRange, Public, Server},
};

/// Puts the arguments into the configuration and gives what is wrong with them.
pub fn apply(args: &RunArgs, config: &mut Config) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    if !args.wan.is_empty() {
        config.wan = interfaces("--wan", &args.wan, &mut problems);
    }
    if let Some(datapath) = args.datapath {
        config.datapath = datapath;
    }
    if let Some(way) = args.first_packet {
        config.first_packet = way;
    }
    match args.lan.as_slice() {
        [] => {}
        [one] if one == "none" => {
            config.lan = Lan::None;
            if matches!(args.datapath, Some(Datapath::Redirect | Datapath::Xdp)) {
                problems.add(
                    "--lan none",
                    "contradicts --datapath, which needs a program on the inside interface",
                );
            } else if config.datapath != Datapath::Stack {
                config.datapath = Datapath::Auto;
            }
        }
        names if names.iter().any(|name| name == "none") => problems.add(
            "--lan none",
            "contradicts the other --lan: `none` stands alone",
        ),
        names => config.lan = Lan::Named(interfaces("--lan", names, &mut problems)),
    }
    if !args.publish.is_empty() {
        config.publish = args
            .publish
            .iter()
            .filter_map(|text| problems.keep(format!("--publish {text}"), publish(text)))
            .collect();
    }
    if !args.masquerade.is_empty() {
        config.masquerade = args
            .masquerade
            .iter()
            .filter_map(|text| problems.keep(format!("--masquerade {text}"), masquerade(text)))
            .collect();
    }
    if let Some(dir) = &args.state_dir {
        config.state_dir.clone_from(dir);
    }
    if let Some(text) = &args.mark {
        let mark = problems.keep(format!("--mark {text}"), value::mark(text));
        config.mark = mark.unwrap_or_default();
    }
    if let Some(text) = &args.remap_ports
        && let Some(range) =
            problems.keep(format!("--remap-ports {text}"), text.parse::<PortRange>())
    {
        config.remap_ports = range;
    }
    if let Some(text) = &args.mss_clamp
        && let Some(clamp) = problems.keep(format!("--mss-clamp {text}"), text.parse::<MssClamp>())
    {
        config.mss_clamp = clamp;
    }
    if let Some(text) = &args.metrics_listen {
        let flag = format!("--metrics-listen {text}");
        let address = text
            .parse::<SocketAddr>()
            .map_err(|_| format!("{text:?} is not ADDR:PORT"));
        config.metrics_listen = problems.keep(flag.clone(), address).map(|value| Spanned {
            value,
            origin: Origin::Flag(flag),
        });
    }
    if let Some(file) = &args.audit_log {
        config.audit_log = Some(file.clone());
    }
    if let Some(file) = &args.lists_file {
        config.lists_file = Some(file.clone());
    }
    if args.no_transfers {
        config.transfers = false;
        config.xferlog = None;
    }
    if let Some(file) = &args.xferlog {
        config.transfers = true;
        config.xferlog = Some(file.clone());
    }
    if let Some(attach) = args.attach {
        config.attach = attach;
    }
    for (flag, given, limit) in [
        (
            "--max-connections",
            args.max_connections,
            &mut config.limits.connections,
        ),
        (
            "--max-sessions",
            args.max_sessions,
            &mut config.limits.sessions,
        ),
        (
            "--max-mappings",
            args.max_mappings,
            &mut config.limits.mappings,
        ),
    ] {
        if let Some(given) = given {
            let checked = super::check::limit(given);
            *limit = problems
                .keep(format!("{flag} {given}"), checked)
                .unwrap_or(*limit);
        }
    }
    problems.0
}

struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, flag: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem::new(&Origin::Flag(flag.into()), what));
    }

    fn keep<T>(&mut self, flag: String, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.add(flag, what)).ok()
    }
}

fn interfaces(flag: &str, names: &[String], problems: &mut Problems) -> Vec<Spanned<String>> {
    names
        .iter()
        .filter_map(|name| {
            let flag = format!("{flag} {name}");
            let value = problems.keep(flag.clone(), value::interface(name))?;
            Some(Spanned {
                value,
                origin: Origin::Flag(flag),
            })
        })
        .collect()
}

fn masquerade(text: &str) -> Result<Masquerade, String> {
    let (value, port) = value::clients(text)?;
    let origin = Origin::Flag(format!("--masquerade {text}"));
    Ok(Masquerade {
        clients: vec![Spanned { value, origin }],
        control_ports: vec![port],
        translate: true,
        commands: Commands::default(),
    })
}

fn publish(text: &str) -> Result<Publish, String> {
    let (public, server) = match text.split_once('=') {
        Some((public, servers)) if servers.contains(',') => {
            let mut pool = Vec::new();
            for server in servers.split(',') {
                Server::join(&mut pool, server)?;
            }
            (public, Server::Pool(pool))
        }
        Some((public, server)) => (public, server.parse::<Server>()?),
        None => (text, Server::Itself),
    };
    let origin = Origin::Flag(format!("--publish {text}"));
    Ok(Publish {
        public: Spanned {
            value: public.parse::<Public>()?,
            origin: origin.clone(),
        },
        server: Spanned {
            value: server,
            origin,
        },
        advertise: None,
        control_nat: ControlNat::default(),
        passive_ports: None,
        peer: Peer::default(),
        commands: Commands::default(),
        toward_server: Spanned {
            value: TowardServer::default(),
            origin: Origin::Default,
        },
        client_sessions: None,
        client_connections: None,
        lists: Networks::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(args: &[&str]) -> (Config, Vec<String>) {
        use clap::Parser as _;
        let all = ["ftp-nat", "run"].iter().chain(args);
        let crate::cli::Command::Run(args) = crate::cli::Cli::parse_from(all).command else {
            unreachable!("`run` was given")
        };
        let mut config = Config::default();
        let problems = apply(&args, &mut config);
        (config, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn arguments_become_a_configuration() {
        let (config, problems) = given(&[
            "--wan",
            "wan",
            "--publish",
            "198.51.100.1:21=10.0.0.5:21",
            "--publish",
            "198.51.100.1:2121=10.0.0.5:21,10.0.0.6:21",
            "--masquerade",
            "192.168.0.0/16:2121",
            "--lan",
            "none",
            "--mark",
            "0x10",
        ]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.wan[0].value, "wan");
        assert_eq!(config.lan, Lan::None);
        assert_eq!(config.mark, 16);
        assert_eq!(
            config.publish[0].public.value.to_string(),
            "198.51.100.1:21"
        );
        assert_eq!(config.publish[0].server.value.to_string(), "10.0.0.5:21");
        assert_eq!(
            config.publish[1].server.value.to_string(),
            "10.0.0.5:21, 10.0.0.6:21"
        );
        let clients = &config.masquerade[0].clients[0];
        assert_eq!(clients.value.to_string(), "192.168.0.0/16");
        assert_eq!(config.masquerade[0].control_ports, [2121]);
    }

    #[test]
    fn every_mistake_is_named_with_its_argument() {
        let (_, problems) = given(&[
            "--wan",
            "a/b",
            "--publish",
            "300.1.1.1:21=10.0.0.5:21",
            "--publish",
            "1.2.3.4:21=10.0.0.5:0",
            "--publish",
            "1.2.3.4:22=10.0.0.5:21,10.0.0.5:21",
            "--masquerade",
            "192.168.0.0/40",
            "--mark",
            "red",
            "--lan",
            "none",
            "--lan",
            "eth1",
            "--max-sessions",
            "0",
        ]);
        let all = problems.join("\n");
        for named in [
            "--wan a/b: \"a/b\" is not an interface name",
            "--publish 300.1.1.1:21=10.0.0.5:21: \"300.1.1.1\" is not an IPv4 address",
            "--publish 1.2.3.4:21=10.0.0.5:0: \"0\" is not a port",
            "--publish 1.2.3.4:22=10.0.0.5:21,10.0.0.5:21: 10.0.0.5:21 is named twice",
            "--masquerade 192.168.0.0/40: \"40\" is not a prefix length",
            "--mark red: \"red\" is not a mark",
            "--lan none: contradicts",
            "--max-sessions 0: ",
        ] {
            assert!(all.contains(named), "{named} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 8, "{all}");
    }
}
