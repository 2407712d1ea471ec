//! The configuration file: TOML, every mistake reported with its line, unknown keys included.
//!
//! serde would stop at the first mistake, so the document is walked by hand: each section takes
//! the keys that it knows, and what is left over is unknown.

use std::{
    fs,
    net::IpAddr,
    ops::{Range, RangeInclusive},
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use super::{
    check,
    options::{
        Cluster, Commands, Config, ControlNat, Datapath, FirstPacket, Lan, Masquerade, Networks,
        Order, Peer, Publish, TowardServer,
    },
    origin::{Origin, Problem, Spanned},
    value::{self, MssClamp, PortRange, Public, Server},
};
use crate::model::prefix::Prefix;

/// Reads the file into the configuration and gives what is wrong with it.
pub fn apply(path: &Path, config: &mut Config) -> Vec<Problem> {
    let file: Arc<str> = path.display().to_string().into();
    match fs::read_to_string(path) {
        Ok(text) => parse(&file, &text, config),
        Err(error) => vec![Problem::new(
            &Origin::Flag(format!("--config {file}")),
            format!("cannot be read: {error}"),
        )],
    }
}

pub(super) fn parse(file: &Arc<str>, text: &str, config: &mut Config) -> Vec<Problem> {
    let mut reader = Reader {
        file: Arc::clone(file),
        line_ends: text.match_indices('\n').map(|(end, _)| end).collect(),
        problems: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let origin = reader.origin(error.span().unwrap_or_default(), "");
        reader.problem(&origin, error.message());
    }
    // What follows a syntax error may be anything: its faults would only hide the real one.
    if errors.is_empty() {
        reader.document(document.get_ref(), config);
    }
    reader.problems
}

struct Reader {
    file: Arc<str>,
    /// Where each line ends.
    line_ends: Vec<usize>,
    problems: Vec<Problem>,
}

/// One table of the document; keys are taken out as they are understood.
struct Section<'t> {
    name: String,
    keys: Vec<(&'t str, Range<usize>, &'t toml::Spanned<DeValue<'t>>)>,
    known: Vec<&'static str>,
}

/// A value, where it stands and under what key.
struct Item<'t> {
    value: &'t DeValue<'t>,
    origin: Origin,
}

impl Reader {
    fn origin(&self, span: Range<usize>, key: &str) -> Origin {
        Origin::File {
            file: Arc::clone(&self.file),
            line: self.line_ends.partition_point(|end| *end < span.start) + 1,
            key: key.to_owned(),
        }
    }

    fn problem(&mut self, origin: &Origin, what: impl Into<String>) {
        self.problems.push(Problem::new(origin, what));
    }

    fn keep<T>(&mut self, origin: &Origin, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.problem(origin, what)).ok()
    }

    fn document<'t>(&mut self, table: &'t DeTable<'t>, config: &mut Config) {
        let mut root = Section::new("", table);
        if let Some(item) = self.take(&mut root, "gateway")
            && let Some(table) = self.table(&item)
        {
            self.gateway(Section::new("gateway", table), config);
        }
        let mut unfinished = Vec::new();
        for table in self.tables(&mut root, "publish") {
            match self.publish(table.1, Section::new("publish", table.0)) {
                Ok(publish) => config.publish.push(publish),
                Err(public) => unfinished.extend(public),
            }
        }
        self.published_twice(&unfinished, config);
        for table in self.tables(&mut root, "masquerade") {
            let masquerade = self.masquerade(&table.1, Section::new("masquerade", table.0));
            config.masquerade.push(masquerade);
        }
        if let Some(item) = self.take(&mut root, "timeouts")
            && let Some(table) = self.table(&item)
        {
            self.timeouts(Section::new("timeouts", table), config);
        }
        if let Some(item) = self.take(&mut root, "limits")
            && let Some(table) = self.table(&item)
        {
            self.limits(Section::new("limits", table), config);
        }
        if let Some(item) = self.take(&mut root, "health")
            && let Some(table) = self.table(&item)
        {
            self.health(Section::new("health", table), config);
        }
        if let Some(item) = self.take(&mut root, "cluster")
            && let Some(table) = self.table(&item)
        {
            self.cluster(&item.origin, Section::new("cluster", table), config);
        }
        self.finish(root);
    }

    fn gateway<'t>(&mut self, mut section: Section<'t>, config: &mut Config) {
        if let Some(item) = self.take(&mut section, "wan") {
            config.wan = self.interfaces(&item);
        }
        if let Some(item) = self.take(&mut section, "lan") {
            config.lan = match item.value.as_str() {
                Some("none") => Lan::None,
                _ => Lan::Named(self.interfaces(&item)),
            };
        }
        if let Some(item) = self.take(&mut section, "datapath") {
            let choices = [
                ("auto", Datapath::Auto),
                ("stack", Datapath::Stack),
                ("redirect", Datapath::Redirect),
                ("xdp", Datapath::Xdp),
            ];
            config.datapath = self.choice(&item, &choices).unwrap_or_default();
            let needs_inside = matches!(config.datapath, Datapath::Redirect | Datapath::Xdp);
            if needs_inside && config.lan == Lan::None {
                self.problem(
                    &item.origin,
                    format!(
                        "{} needs a program on the inside interface, and lan is \"none\"",
                        item.value.as_str().unwrap_or_default()
                    ),
                );
            }
        }
        if let Some(item) = self.take(&mut section, "first_packet") {
            let choices = [
                ("redirect", FirstPacket::Redirect),
                ("firewall", FirstPacket::Firewall),
            ];
            config.first_packet = self.choice(&item, &choices).unwrap_or_default();
        }
        if let Some(item) = self.take(&mut section, "standby") {
            config.standby = self.boolean(&item).unwrap_or_default();
        }
        if let Some(item) = self.take(&mut section, "symmetric_return") {
            config.symmetric_return = self.boolean(&item).unwrap_or(true);
        }
        if let Some(item) = self.take(&mut section, "order") {
            config.order = self.order(&item).unwrap_or_default();
        }
        if let Some(item) = self.take(&mut section, "mark") {
            let mark = match item.value {
                DeValue::Integer(_) => {
                    self.integer(&item, "0 to 4294967295, bits of a packet's mark")
                }
                _ => self.string(&item).and_then(|text| {
                    let mark = value::mark(text);
                    self.keep(&item.origin, mark)
                }),
            };
            config.mark = mark.unwrap_or_default();
        }
        if let Some(item) = self.take(&mut section, "remap_ports")
            && let Some(range) = self.parsed::<PortRange>(&item)
        {
            config.remap_ports = range;
        }
        if let Some(item) = self.take(&mut section, "mss_clamp") {
            let given = match item.value {
                DeValue::Integer(_) => self
                    .integer(&item, "a size in bytes")
                    .map(|it| it.to_string()),
                _ => self.string(&item).map(str::to_owned),
            };
            let clamp = given.and_then(|text| self.keep(&item.origin, text.parse::<MssClamp>()));
            config.mss_clamp = clamp.unwrap_or_default();
        }
        if let Some(item) = self.take(&mut section, "metrics_listen")
            && let Some(text) = self.string(&item)
        {
            let address = text
                .parse()
                .map_err(|_| format!("{text:?} is not ADDR:PORT"));
            config.metrics_listen = self.with_origin(&item, address);
        }
        if let Some(item) = self.take(&mut section, "audit_log") {
            config.audit_log = self.log_file(&item);
        }
        if let Some(item) = self.take(&mut section, "transfers")
            && let Some(is_wanted) = self.boolean(&item)
        {
            config.transfers = is_wanted;
        }
        if let Some(item) = self.take(&mut section, "xferlog") {
            config.xferlog = self.log_file(&item);
            if !config.transfers {
                let what = "there is nothing to write: `transfers` is false";
                self.problem(&item.origin, what);
            }
        }
        config.lists = self.networks(&mut section);
        if let Some(item) = self.take(&mut section, "lists_file")
            && let Some(text) = self.string(&item)
        {
            if text.starts_with('/') {
                config.lists_file = Some(text.into());
            } else {
                let what = format!("{text:?} is no absolute path, such as /var/lib/ftp-nat/{text}");
                self.problem(&item.origin, what);
            }
        }
        self.finish(section);
    }

    fn log_file<'t>(&mut self, item: &Item<'t>) -> Option<std::path::PathBuf> {
        let text = self.string(item)?;
        if text.starts_with('/') {
            return Some(text.into());
        }
        let what = format!("{text:?} is no absolute path, such as /var/log/ftp-nat/{text}");
        self.problem(&item.origin, what);
        None
    }

    fn order<'t>(&mut self, item: &Item<'t>) -> Option<Order> {
        const FORMS: &str = "\"first\", \"last\", { before = \"NAME\" } or { after = \"NAME\" }";
        if let Some(text) = item.value.as_str() {
            return match text {
                "first" => Some(Order::First),
                "last" => Some(Order::Last),
                _ => {
                    self.problem(&item.origin, format!("{text:?} is not one of {FORMS}"));
                    None
                }
            };
        }
        let Some(table) = item.value.as_table() else {
            self.wrong_type(item, FORMS);
            return None;
        };
        let mut section = Section::new("gateway.order", table);
        let before = self.take(&mut section, "before");
        let after = self.take(&mut section, "after");
        self.finish(section);
        let (Some(one), None) = (
            before.as_ref().or(after.as_ref()),
            before.as_ref().and(after.as_ref()),
        ) else {
            self.problem(&item.origin, format!("must be {FORMS}"));
            return None;
        };
        let name = self.string(one)?.to_owned();
        // BPF_OBJ_NAME_LEN less the final zero.
        if name.is_empty() || name.len() > 15 {
            let what =
                format!("{name:?} is no program's name: 1 to 15 bytes, as `bpftool net` shows it");
            self.problem(&one.origin, what);
            return None;
        }
        Some(if before.is_some() {
            Order::Before(name)
        } else {
            Order::After(name)
        })
    }

    /// The keys `deny` and `allow`.
    fn networks<'t>(&mut self, section: &mut Section<'t>) -> Networks {
        let [deny, allow] = ["deny", "allow"].map(|key| {
            let Some(item) = self.take(section, key) else {
                return Vec::new();
            };
            let list = self.list(&item);
            list.iter()
                .filter_map(|item| self.parsed::<Prefix>(item))
                .collect()
        });
        Networks { deny, allow }
    }

    /// A published server; or, if one of its two ends is missing or wrong, the public one alone.
    fn publish<'t>(
        &mut self,
        origin: Origin,
        mut section: Section<'t>,
    ) -> Result<Publish, Option<Spanned<Public>>> {
        let public = self
            .take(&mut section, "public")
            .map(|item| self.parsed_with_origin::<Public>(&item));
        let server = self
            .take(&mut section, "server")
            .map(|item| self.server(&item));
        if public.is_none() {
            self.problem(&origin, "`public` is missing");
        }
        // Left out: where clients dial.
        let server = server.unwrap_or_else(|| {
            Some(Spanned {
                value: Server::Itself,
                origin: origin.clone(),
            })
        });
        let advertise = self.take(&mut section, "advertise").and_then(|item| {
            let text = self.string(&item)?;
            let address = text
                .parse::<IpAddr>()
                .map_err(|_| format!("{text:?} is not an IP address"))
                .and_then(value::usable);
            self.with_origin(&item, address)
        });
        let control_nat = self.take(&mut section, "control_nat").and_then(|item| {
            let choices = [("ebpf", ControlNat::Ebpf), ("kernel", ControlNat::Kernel)];
            self.choice(&item, &choices)
        });
        let passive_ports = self
            .take(&mut section, "passive_ports")
            .and_then(|item| self.parsed::<PortRange>(&item));
        let peer = self
            .take(&mut section, "peer")
            .and_then(|item| self.choice(&item, &[("same", Peer::Same), ("any", Peer::Any)]));
        let commands = self.commands(&mut section);
        let choices = [
            ("client", TowardServer::Client),
            ("gateway", TowardServer::Gateway),
        ];
        let toward_server = self
            .take(&mut section, "toward_server")
            .map(|item| Spanned {
                value: self.choice(&item, &choices).unwrap_or_default(),
                origin: item.origin,
            });
        let client_sessions = self.bound(&mut section, "client_sessions");
        let client_connections = self.bound(&mut section, "client_connections");
        let lists = self.networks(&mut section);
        self.finish(section);
        // Whatever else is wrong: its two ends can be held against each other, and against others.
        let (Some(public), Some(server)) = (public.clone().flatten(), server) else {
            return Err(public.flatten());
        };
        Ok(Publish {
            public,
            server,
            advertise,
            control_nat: control_nat.unwrap_or_default(),
            passive_ports,
            peer: peer.unwrap_or_default(),
            commands,
            toward_server: toward_server.unwrap_or(Spanned {
                value: TowardServer::default(),
                origin: Origin::Default,
            }),
            client_sessions,
            client_connections,
            lists,
        })
    }

    /// Addresses of entries whose server is wrong, and that another entry publishes as well. (An
    /// interface may be published for a server of each family.)
    fn published_twice(&mut self, unfinished: &[Spanned<Public>], config: &Config) {
        let mut seen: Vec<_> = config.publish.iter().map(|it| &it.public.value).collect();
        for public in unfinished {
            if matches!(public.value, Public::Address(_)) && seen.contains(&&public.value) {
                let what = format!("{} is published by another entry, too", public.value);
                self.problem(&public.origin, what);
            }
            seen.push(&public.value);
        }
    }

    fn masquerade<'t>(&mut self, origin: &Origin, mut section: Section<'t>) -> Masquerade {
        let clients = match self.take(&mut section, "clients") {
            Some(item) => {
                let list = self.list(&item);
                if list.is_empty() {
                    self.problem(&item.origin, "names nobody: list the clients' networks");
                }
                list.iter()
                    .filter_map(|item| self.parsed_with_origin::<Prefix>(item))
                    .collect()
            }
            None => {
                self.problem(
                    origin,
                    "`clients` is missing: the networks behind this gateway, such as \
                     [\"192.168.0.0/16\"]",
                );
                Vec::new()
            }
        };
        let control_ports = match self.take(&mut section, "control_ports") {
            Some(item) => self
                .list(&item)
                .iter()
                .filter_map(|item| {
                    let number: u32 = self.integer(item, "1 to 65535")?;
                    let port = value::port_number(&number.to_string());
                    self.keep(&item.origin, port)
                })
                .collect(),
            None => vec![21],
        };
        let translate = self
            .take(&mut section, "translate")
            .and_then(|item| self.boolean(&item));
        let commands = self.commands(&mut section);
        self.finish(section);
        Masquerade {
            clients,
            control_ports,
            translate: translate.unwrap_or(true),
            commands,
        }
    }

    /// A server, or a list of those that share the clients.
    fn server<'t>(&mut self, item: &Item<'t>) -> Option<Spanned<Server>> {
        if item.value.as_array().is_none() {
            return self.parsed_with_origin(item);
        }
        let mut servers = Vec::new();
        let before = self.problems.len();
        for item in self.list(item) {
            if let Some(text) = self.string(&item) {
                let joined = Server::join(&mut servers, text);
                self.keep(&item.origin, joined);
            }
        }
        if self.problems.len() > before {
            return None;
        }
        if servers.is_empty() {
            self.problem(&item.origin, "names no server: list at least one ADDR:PORT");
            return None;
        }
        self.with_origin(item, Ok(Server::Pool(servers)))
    }

    /// The keys that refuse commands and hide the greeting.
    fn commands<'t>(&mut self, section: &mut Section<'t>) -> Commands {
        let mut commands = Commands::default();
        if let Some(item) = self.take(section, "deny_commands") {
            for item in self.list(&item) {
                let name = self.string(&item).map(value::command);
                if let Some(name) = name.and_then(|name| self.keep(&item.origin, name)) {
                    commands.deny.push(name);
                }
            }
        }
        for (key, flag) in [
            ("read_only", &mut commands.read_only),
            ("hide_greeting", &mut commands.hide_greeting),
            ("require_tls", &mut commands.require_tls),
        ] {
            if let Some(item) = self.take(section, key) {
                match item.value.as_bool() {
                    Some(value) => *flag = value,
                    None => self.wrong_type(&item, "true or false"),
                }
            }
        }
        commands
    }

    fn timeouts<'t>(&mut self, mut section: Section<'t>, config: &mut Config) {
        let timeouts = &mut config.timeouts;
        for (key, timeout, range) in [
            ("mapping", &mut timeouts.mapping, &check::MAPPING),
            ("data_idle", &mut timeouts.data_idle, &check::IDLE),
            ("control_idle", &mut timeouts.control_idle, &check::IDLE),
        ] {
            if let Some(seconds) = self.within(&mut section, key, range, "seconds") {
                *timeout = Duration::from_secs(seconds.into());
            }
        }
        self.finish(section);
    }

    fn limits<'t>(&mut self, mut section: Section<'t>, config: &mut Config) {
        let limits = &mut config.limits;
        for (key, limit) in [
            ("connections", &mut limits.connections),
            ("sessions", &mut limits.sessions),
            ("mappings", &mut limits.mappings),
        ] {
            if let Some(item) = self.take(&mut section, key)
                && let Some(entries) = self.integer(&item, &check::limit_range())
                && let Some(checked) = self.keep(&item.origin, check::limit(entries))
            {
                *limit = checked;
            }
        }
        for (key, bound) in [
            ("client_half_open", &mut limits.client_half_open),
            ("client_announcements", &mut limits.client_announcements),
            ("session_announcements", &mut limits.session_announcements),
        ] {
            if let Some(given) = self.bound(&mut section, key) {
                *bound = given;
            }
        }
        limits.client_sessions = self.bound(&mut section, "client_sessions");
        limits.client_connections = self.bound(&mut section, "client_connections");
        self.finish(section);
    }

    fn health<'t>(&mut self, mut section: Section<'t>, config: &mut Config) {
        let health = &mut config.health;
        for (key, time, range) in [
            ("interval", &mut health.interval, &check::INTERVAL),
            ("timeout", &mut health.timeout, &check::TIMEOUT),
        ] {
            if let Some(seconds) = self.within(&mut section, key, range, "seconds") {
                *time = Duration::from_secs(seconds.into());
            }
        }
        for (key, count) in [("rise", &mut health.rise), ("fall", &mut health.fall)] {
            if let Some(checks) = self.within(&mut section, key, &check::IN_A_ROW, "checks") {
                *count = checks;
            }
        }
        self.finish(section);
    }

    fn cluster<'t>(&mut self, origin: &Origin, mut section: Section<'t>, config: &mut Config) {
        let engine = self.take(&mut section, "engine").map(|item| {
            let addresses = self.list(&item);
            let addresses = addresses.iter().filter_map(|item| {
                let address = self.string(item)?.to_owned();
                self.keep(&item.origin, check::engine(&address))?;
                Some(address)
            });
            addresses.collect::<Vec<_>>()
        });
        let name = self.take(&mut section, "name").map(|item| {
            let name = self.string(&item).unwrap_or_default().to_owned();
            self.keep(&item.origin, check::cluster_name(&name));
            name
        });
        let node = self.take(&mut section, "node").map(|item| {
            let node = self.integer(&item, "1 to 63").unwrap_or(1);
            self.keep(&item.origin, check::cluster_node(node))
                .unwrap_or(1)
        });
        let ca = self
            .take(&mut section, "ca")
            .and_then(|item| Some(self.string(&item)?.into()));
        for (key, missing) in [
            ("engine", engine.as_ref().is_none_or(Vec::is_empty)),
            ("name", name.is_none()),
            ("node", node.is_none()),
        ] {
            if missing {
                self.problem(origin, format!("`{key}` is missing"));
            }
        }
        if let (Some(engine), Some(name), Some(node)) = (engine, name, node) {
            config.cluster = Some(Cluster {
                engine,
                name,
                node,
                ca,
            });
        }
        self.finish(section);
    }

    /// How much a client or a session may have of something; 0: no bound.
    fn bound<'t>(&mut self, section: &mut Section<'t>, key: &'static str) -> Option<u32> {
        let item = self.take(section, key)?;
        let bound = self.integer(&item, &check::bound_range())?;
        self.keep(&item.origin, check::bound(bound))
    }

    /// A number of this range.
    fn within<'t>(
        &mut self,
        section: &mut Section<'t>,
        key: &'static str,
        range: &RangeInclusive<u32>,
        unit: &str,
    ) -> Option<u32> {
        let item = self.take(section, key)?;
        let number = self.integer(&item, &check::range(range, unit))?;
        self.keep(&item.origin, check::within(number, range, unit))
    }

    fn interfaces<'t>(&mut self, item: &Item<'t>) -> Vec<Spanned<String>> {
        self.list(item)
            .iter()
            .filter_map(|item| {
                let name = value::interface(self.string(item)?);
                self.with_origin(item, name)
            })
            .collect()
    }

    /// Takes a key out of its section.
    fn take<'t>(&self, section: &mut Section<'t>, key: &'static str) -> Option<Item<'t>> {
        section.known.push(key);
        let found = section.keys.iter().position(|(name, ..)| *name == key)?;
        let (_, _, value) = section.keys.swap_remove(found);
        Some(Item {
            value: value.get_ref(),
            origin: self.origin(value.span(), &section.dotted(key)),
        })
    }

    /// Whatever nobody took is unknown.
    fn finish<'t>(&mut self, mut section: Section<'t>) {
        let left = std::mem::take(&mut section.keys);
        for (key, span, _) in left {
            let origin = self.origin(span, &section.dotted(key));
            let nearest = section
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(known, key), *known))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(likeness, _)| *likeness > 0.8);
            let what = match nearest {
                Some((_, known)) => format!("unknown key; did you mean `{known}`?"),
                None => format!("unknown key; known are {}", section.known.join(", ")),
            };
            self.problem(&origin, what);
        }
    }

    fn wrong_type<'t>(&mut self, item: &Item<'t>, wanted: &str) {
        let what = format!("must be {wanted}, not {}", item.value.type_str());
        self.problem(&item.origin, what);
    }

    fn string<'t>(&mut self, item: &Item<'t>) -> Option<&'t str> {
        let text = item.value.as_str();
        if text.is_none() {
            self.wrong_type(item, "a string");
        }
        text
    }

    /// A whole number; `range` is what it may be, for whoever gives another.
    fn integer<'t>(&mut self, item: &Item<'t>, range: &str) -> Option<u32> {
        let Some(number) = item.value.as_integer() else {
            self.wrong_type(item, &format!("a whole number: {range}"));
            return None;
        };
        let parsed = u32::from_str_radix(number.as_str(), number.radix());
        let origin = &item.origin;
        self.keep(
            origin,
            parsed.map_err(|_| format!("{} is out of range: {range}", number.as_str())),
        )
    }

    fn boolean<'t>(&mut self, item: &Item<'t>) -> Option<bool> {
        let value = item.value.as_bool();
        if value.is_none() {
            self.wrong_type(item, "true or false");
        }
        value
    }

    fn table<'t>(&mut self, item: &Item<'t>) -> Option<&'t DeTable<'t>> {
        let table = item.value.as_table();
        if table.is_none() {
            self.wrong_type(item, "a table");
        }
        table
    }

    /// The tables of an array of tables (`[[key]]`), each with its origin.
    fn tables<'t>(
        &mut self,
        section: &mut Section<'t>,
        key: &'static str,
    ) -> Vec<(&'t DeTable<'t>, Origin)> {
        let Some(item) = self.take(section, key) else {
            return Vec::new();
        };
        let Some(array) = item.value.as_array() else {
            let what = format!("must be written [[{key}]], once for each entry");
            self.problem(&item.origin, what);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for entry in array.iter() {
            let origin = self.origin(entry.span(), key);
            match entry.get_ref().as_table() {
                Some(table) => tables.push((table, origin)),
                None => self.problem(&origin, "must be a table"),
            }
        }
        tables
    }

    /// The members of an array; a value alone counts as an array of one.
    fn list<'t>(&mut self, item: &Item<'t>) -> Vec<Item<'t>> {
        let Origin::File { key, .. } = &item.origin else {
            return Vec::new();
        };
        match item.value.as_array() {
            Some(array) => array
                .iter()
                .map(|value| Item {
                    value: value.get_ref(),
                    origin: self.origin(value.span(), key),
                })
                .collect(),
            None => vec![Item {
                value: item.value,
                origin: item.origin.clone(),
            }],
        }
    }

    fn choice<'t, T: Copy>(&mut self, item: &Item<'t>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(item)?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let what = format!("{text:?} is not one of {}", names.join(", "));
            self.problem(&item.origin, what);
        }
        found.map(|(_, value)| *value)
    }

    fn parsed<'t, T: FromStr<Err = String>>(&mut self, item: &Item<'t>) -> Option<T> {
        let text = self.string(item)?;
        self.keep(&item.origin, text.parse())
    }

    fn parsed_with_origin<'t, T: FromStr<Err = String>>(
        &mut self,
        item: &Item<'t>,
    ) -> Option<Spanned<T>> {
        let text = self.string(item)?;
        self.with_origin(item, text.parse())
    }

    fn with_origin<'t, T>(
        &mut self,
        item: &Item<'t>,
        result: Result<T, String>,
    ) -> Option<Spanned<T>> {
        let value = self.keep(&item.origin, result)?;
        Some(Spanned {
            value,
            origin: item.origin.clone(),
        })
    }
}

impl<'t> Section<'t> {
    fn new(name: &str, table: &'t DeTable<'t>) -> Self {
        let keys = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
            .collect();
        Self {
            name: name.to_owned(),
            keys,
            known: Vec::new(),
        }
    }

    fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(text: &str) -> (Config, Vec<String>) {
        let mut config = Config::default();
        let mut problems = parse(&"f.toml".into(), text, &mut config);
        if problems.is_empty() {
            problems = check::check(&config);
        }
        (config, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_whole_of_the_design_is_read() {
        let (config, problems) = read(
            r#"
[gateway]
wan = ["eth0"]
lan = ["eth1"]
datapath = "auto"
metrics_listen = "127.0.0.1:9810"
mark = 0x10

[[publish]]
public = "203.0.113.10:21"
server = "10.0.0.5:21"
advertise = "203.0.113.11"
control_nat = "kernel"
passive_ports = "50000-50999"
peer = "any"

[[publish]]
public = "eth0:990"
server = "local"

[[masquerade]]
clients = ["192.168.0.0/16"]
control_ports = [21, 2121]

[timeouts]
mapping = 30
data_idle = 600
control_idle = 7200

[limits]
connections = 1_000_000
"#,
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(config.wan[0].value, "eth0");
        assert_eq!(config.wan[0].origin.to_string(), "f.toml:3: gateway.wan");
        assert_eq!(config.mark, 16);
        let publish = &config.publish[0];
        assert_eq!(publish.control_nat, ControlNat::Kernel);
        assert_eq!(publish.peer, Peer::Any);
        assert_eq!(publish.passive_ports.unwrap().last, 50999);
        assert_eq!(config.publish[1].server.value, Server::Local);
        assert_eq!(config.masquerade[0].control_ports, [21, 2121]);
        assert_eq!(config.timeouts.data_idle, Duration::from_secs(600));
        assert_eq!(config.limits.connections, 1_000_000);
    }

    #[test]
    fn all_mistakes_are_reported_at_once_each_with_its_line() {
        let (_, problems) = read(
            r#"[gateway]
wann = ["eth0"]
datapath = "fast"
lan = 5

[[publish]]
public = "300.1.1.1:21"
server = "10.0.0.5:21"

[[publish]]
public = "203.0.113.10:21"
passive_ports = "50999-50000"

[timeouts]
mapping = "long"
data_idle = 1

[[masquerade]]
control_ports = [0]

[[masquerade]]
clients = ["192.168.0.0/33"]

[gatway]
"#,
        );
        let all = problems.join("\n");
        for named in [
            "f.toml:2: gateway.wann: unknown key; did you mean `wan`?",
            "f.toml:3: gateway.datapath: \"fast\" is not one of auto, stack, redirect, xdp",
            "f.toml:4: gateway.lan: must be a string, not integer",
            "f.toml:7: publish.public: \"300.1.1.1\" is not an IPv4 address",
            "f.toml:12: publish.passive_ports: \"50999-50000\" is upside down",
            "f.toml:15: timeouts.mapping: must be a whole number: 1 to 1800 seconds, not string",
            "f.toml:16: timeouts.data_idle: 1 is out of range: 10 to",
            "f.toml:18: masquerade: `clients` is missing",
            "f.toml:19: masquerade.control_ports: \"0\" is not a port",
            "f.toml:22: masquerade.clients: \"33\" is not a prefix length",
            "f.toml:24: gatway: unknown key; did you mean `gateway`?",
        ] {
            assert!(all.contains(named), "{named} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 11, "{all}");
    }

    #[test]
    fn contradictions_are_found() {
        let (_, problems) = read(
            r#"
[gateway]
wan = ["eth0", "eth0"]
lan = ["eth0"]
[[publish]]
public = "203.0.113.10:21"
server = "[2001:db8::5]:21"
[[publish]]
public = "203.0.113.10:21"
server = "10.0.0.5:21"
advertise = "2001:db8::7"
"#,
        );
        let all = problems.join("\n");
        for named in [
            "f.toml:3: gateway.wan: eth0 is named twice",
            "f.toml:4: gateway.lan: eth0 cannot be WAN and LAN at once",
            "f.toml:7: publish.server: 203.0.113.10:21 is IPv4 and [2001:db8::5]:21 is IPv6",
            "f.toml:9: publish.public: 203.0.113.10:21 is already published, for [2001:db8::5]:21",
            "f.toml:11: publish.advertise: 2001:db8::7 is not of the same family",
        ] {
            assert!(all.contains(named), "{named} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 5, "{all}");
    }

    #[test]
    fn servers_may_keep_their_addresses() {
        let (config, problems) = read(
            r#"
[gateway]
wan = ["eth0"]
[[publish]]
public = "203.0.113.10:21"
[[publish]]
public = "2001:db8:5::/64:2121"
[[masquerade]]
clients = ["2001:db8:6::/64"]
translate = false
"#,
        );
        assert_eq!(problems, [""; 0]);
        let publics: Vec<_> = config
            .publish
            .iter()
            .map(|it| it.public.value.to_string())
            .collect();
        assert_eq!(publics, ["203.0.113.10:21", "2001:db8:5::/64:2121"]);
        assert!(
            config
                .publish
                .iter()
                .all(|it| it.server.value == Server::Itself)
        );
        assert!(!config.masquerade[0].translate);

        let (_, problems) = read(
            r#"
[gateway]
wan = ["eth0"]
[[publish]]
public = "eth0:21"
[[publish]]
public = "203.0.113.0/24:21"
server = "10.0.0.5:21"
[[publish]]
public = "203.0.114.0/24:21"
advertise = "203.0.113.1"
[[publish]]
public = "203.0.113.9:21"
server = "203.0.113.9:21"
"#,
        );
        let all = problems.join("\n");
        for named in [
            "f.toml:4: publish: `server` is missing: eth0 is an interface of this machine",
            "f.toml:8: publish.server: 203.0.113.0/24:21 is a network, whose servers keep",
            "f.toml:9: publish: 203.0.114.0/24:21 is a network, whose servers announce",
            "f.toml:14: publish.server: 203.0.113.9:21 is its own public address: leave `server` out",
        ] {
            assert!(all.contains(named), "{named} is not in:\n{all}");
        }
        assert_eq!(problems.len(), 4, "{all}");

        for (written, named) in [
            (
                "public = \"[2001:db8::]/64:21\"",
                "f.toml:2: publish.public: \"[2001:db8::]/64:21\" needs no brackets",
            ),
            (
                "public = \"2001:db8::/64\"",
                "has no port: a network with a port is written",
            ),
            (
                "public = \"10.0.0.0/33:21\"",
                "\"33\" is not a prefix length: 0 to 32",
            ),
        ] {
            let (_, problems) = read(&format!("[[publish]]\n{written}\n"));
            assert!(problems[0].contains(named), "{problems:?}");
        }
        let (_, problems) =
            read("[[masquerade]]\nclients = [\"10.0.0.0/8\"]\ntranslate = \"no\"\n");
        assert!(
            problems[0]
                .contains("f.toml:3: masquerade.translate: must be true or false, not string"),
            "{problems:?}"
        );
    }

    #[test]
    fn several_servers_share_a_public_end() {
        let entry = |server: &str, more: &str| {
            format!(
                "[gateway]\nwan = [\"eth0\"]\n[[publish]]\npublic = \"203.0.113.10:21\"\n\
                 server = {server}\n{more}\n"
            )
        };
        let (config, problems) = read(&entry(
            "[\n  \"10.0.0.5:21\",\n  \"10.0.0.6:2121\",\n]",
            "[health]\ninterval = 10\ntimeout = 2\nrise = 1\nfall = 5",
        ));
        assert_eq!(problems, [""; 0]);
        let servers = ["10.0.0.5:21", "10.0.0.6:2121"].map(|it| it.parse().unwrap());
        assert_eq!(config.publish[0].server.value, Server::Pool(servers.into()));
        let health = crate::config::Health {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: 5,
        };
        assert_eq!(config.health, health);
        let (config, problems) = read(&entry("[\"10.0.0.5:21\"]", ""));
        assert_eq!(
            problems, [""; 0],
            "a pool of one is checked and can be drained"
        );
        assert_eq!(config.health, crate::config::Health::default());

        let many: Vec<_> = (0..=64).map(|it| format!("\"10.0.1.{it}:21\"")).collect();
        for (server, more, named) in [
            ("[]", "", "f.toml:5: publish.server: names no server"),
            (
                "[\n\"10.0.0.5:21\",\n\"10.0.0.5:21\"]",
                "",
                "f.toml:7: publish.server: 10.0.0.5:21 is named twice",
            ),
            (
                "[\"10.0.0.5:21\",\n\"[2001:db8::6]:21\"]",
                "",
                "f.toml:6: publish.server: 10.0.0.5:21 and [2001:db8::6]:21 are of two families: \
                 write an entry for each family",
            ),
            (
                "[\"10.0.0.5:21\", \"local\"]",
                "",
                "f.toml:5: publish.server: \"local\" cannot be one of several servers",
            ),
            (
                "[\"10.0.0.0/24:21\"]",
                "",
                "f.toml:5: publish.server: \"10.0.0.0/24:21\" is a network, and a server is one address",
            ),
            (
                "[\"10.0.0.5\"]",
                "",
                "f.toml:5: publish.server: \"10.0.0.5\" has no port",
            ),
            (
                "[21]",
                "",
                "f.toml:5: publish.server: must be a string, not integer",
            ),
            (
                &format!("[{}]", many.join(",\n")),
                "",
                "f.toml:69: publish.server: 10.0.1.64:21 is one server too many: a pool has room for 64",
            ),
            (
                "[\"10.0.0.5:21\", \"10.0.0.6:21\"]",
                "control_nat = \"kernel\"",
                "f.toml:5: publish.server: several servers need `control_nat = \"ebpf\"`",
            ),
            (
                "[\"[2001:db8::5]:21\"]",
                "",
                "f.toml:5: publish.server: 203.0.113.10:21 is IPv4 and [2001:db8::5]:21 is IPv6",
            ),
            (
                "[\"10.0.0.5:21\", \"203.0.113.10:21\"]",
                "",
                "f.toml:5: publish.server: 203.0.113.10:21 is its own public address",
            ),
            (
                "\"10.0.0.5:21\"",
                "[health]\ninterval = 0",
                "f.toml:7: health.interval: 0 is out of range: 1 to 3600 seconds",
            ),
            (
                "\"10.0.0.5:21\"",
                "[health]\ntimeout = 61",
                "f.toml:7: health.timeout: 61 is out of range: 1 to 60 seconds",
            ),
            (
                "\"10.0.0.5:21\"",
                "[health]\nfall = 0",
                "f.toml:7: health.fall: 0 is out of range: 1 to 100 checks",
            ),
            (
                "\"10.0.0.5:21\"",
                "[health]\nraise = 2",
                "f.toml:7: health.raise: unknown key; did you mean `rise`?",
            ),
        ] {
            let (_, problems) = read(&entry(server, more));
            assert!(
                problems.iter().any(|it| it.contains(named)),
                "{named}: {problems:?}"
            );
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
        let (_, problems) = read(
            "[gateway]\nwan = [\"eth0\"]\n[[publish]]\npublic = \"203.0.113.0/24:21\"\n\
             server = [\"10.0.0.5:21\"]\n",
        );
        assert!(
            problems[0].contains("f.toml:5: publish.server: 203.0.113.0/24:21 is a network"),
            "{problems:?}"
        );
    }

    #[test]
    fn programs_stand_where_they_are_told_to() {
        let read = |value: &str| read(&format!("[gateway]\nwan = [\"eth0\"]\norder = {value}\n"));
        for (written, expected) in [
            ("\"first\"", Order::First),
            ("\"last\"", Order::Last),
            (
                "{ before = \"cil_from_netdev\" }",
                Order::Before("cil_from_netdev".into()),
            ),
            ("{ after = \"ingress_rev_snat\" }", Order::default()),
            (
                "{ after = \"egress_snat\" }",
                Order::After("egress_snat".into()),
            ),
        ] {
            assert_eq!(read(written).0.order, expected);
        }
        for (written, named) in [
            (
                "\"middle\"",
                "f.toml:3: gateway.order: \"middle\" is not one of \"first\"",
            ),
            ("7", "f.toml:3: gateway.order: must be \"first\""),
            ("{ }", "f.toml:3: gateway.order: must be \"first\""),
            (
                "{ before = \"a\", after = \"b\" }",
                "f.toml:3: gateway.order: must be \"first\"",
            ),
            (
                "{ behind = \"a\" }",
                "f.toml:3: gateway.order.behind: unknown key",
            ),
            (
                "{ after = \"ingress_rev_snat\" }",
                "is no program's name: 1 to 15 bytes",
            ),
        ] {
            let (_, problems) = read(written);
            assert!(problems.iter().any(|it| it.contains(named)), "{problems:?}");
        }
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let (_, problems) = read("[gateway]\nwan = [\"eth0\"\n[timeouts]\n");
        assert!(problems[0].starts_with("f.toml:"), "{problems:?}");
    }

    #[test]
    fn an_empty_file_says_what_is_needed() {
        let (_, problems) = read("");
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn an_interface_is_published_once_for_each_family() {
        let published = |servers: &[&str]| {
            let entries: String = servers
                .iter()
                .map(|server| format!("[[publish]]\npublic = \"wan:21\"\n{server}\n"))
                .collect();
            let (config, mut problems) = read(&format!("[gateway]\nwan = [\"wan\"]\n{entries}"));
            problems.extend(check::check(&config).iter().map(ToString::to_string));
            problems
        };
        let (v4, v6) = ("server = \"10.0.0.5:21\"", "server = \"[2001:db8::5]:21\"");
        assert_eq!(published(&[v4, v6]), [""; 0]);
        assert_eq!(published(&[v6, v4]), [""; 0]);
        let local = "server = \"local\"";
        for (pair, before) in [
            ([v4, "server = \"10.0.0.6:21\""], "10.0.0.5:21"),
            ([v6, local], "[2001:db8::5]:21"),
            ([local, v4], "local"),
        ] {
            let problem = format!("wan:21 is already published, for {before}");
            let problems = published(&pair);
            assert!(problems.join("\n").contains(&problem), "{problems:?}");
        }
    }

    #[test]
    fn a_standby_names_the_addresses() {
        let problems = |public: &str| {
            let text = format!(
                "[gateway]\nwan = [\"wan\"]\nstandby = true\n[[publish]]\npublic = \"{public}\"\n\
                 server = \"10.0.0.5:21\"\n"
            );
            let (config, mut problems) = read(&text);
            problems.extend(check::check(&config).iter().map(ToString::to_string));
            problems
        };
        assert_eq!(problems("203.0.113.10:21"), [""; 0]);
        let problems = problems("wan:21").join("\n");
        let what = "f.toml:5: publish.public: wan:21: on a standby (gateway.standby)";
        assert!(problems.contains(what), "{problems}");
        assert!(problems.contains("name the address itself"), "{problems}");
    }
}
