//! `ftp-nat list`: all gateways of this machine.

use serde::Serialize;

use crate::{
    cli::ListArgs,
    client::machine::{Home, State, homes},
    datapath::pins::Gateway,
    ipc::{lock, runtime_dir::RuntimeDir, trust::Trust},
    output::{
        columns::{Columns, Side},
        failure::Failure,
        print::{print, print_json},
    },
};

/// A gateway, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    namespace: String,
    /// The namespace's name in `ip netns`, or one of its processes; none for this one and for
    /// those that are not found.
    namespace_name: Option<String>,
    gateway: String,
    wan: Vec<String>,
    state: GatewayState,
    /// The daemon's process, while it runs.
    daemon: Option<u32>,
    path: String,
}

/// How a gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum GatewayState {
    /// A daemon runs it.
    Running,
    /// It is loaded, and no daemon runs.
    NoDaemon,
    /// Its network namespace is gone.
    Gone,
}

impl GatewayState {
    const fn text(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::NoDaemon => "no daemon",
            Self::Gone => "gone",
        }
    }
}

/// Shows them.
///
/// # Errors
///
/// When the namespaces or the pins cannot be read.
pub fn run(args: &ListArgs) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for home in homes(&args.state_dir)? {
        for gateway in home.gateways()? {
            rows.push(row(&home, &gateway));
        }
    }
    if args.json {
        print_json(&rows)?;
        return Ok(());
    }
    if rows.is_empty() {
        print(&format!(
            "no gateway is loaded on this machine below {}\n",
            args.state_dir.display()
        ))?;
        return Ok(());
    }
    let mut columns = Columns::new(&[
        ("NAMESPACE", Side::Left),
        ("GATEWAY", Side::Left),
        ("WAN", Side::Left),
        ("STATE", Side::Left),
        ("DAEMON", Side::Right),
        ("PINS", Side::Left),
    ]);
    for row in rows {
        columns.row(vec![
            match (row.state, row.namespace_name) {
                (GatewayState::Gone, _) => format!("{} (gone)", row.namespace),
                (_, Some(name)) => name,
                (_, None) => row.namespace,
            },
            row.gateway,
            row.wan.join(","),
            row.state.text().into(),
            row.daemon.map_or("-".into(), |pid| pid.to_string()),
            row.path,
        ]);
    }
    print(&columns.text())?;
    Ok(())
}

fn row(home: &Home, gateway: &Gateway) -> Row {
    let (dir, trust) = (
        RuntimeDir::of(home.cookie),
        Trust::of(home.pins.state_dir()),
    );
    let wan = gateway.wans();
    let daemon = wan
        .iter()
        .find_map(|wan| lock::holder(&dir, wan, trust))
        .map(|holder| holder.pid);
    Row {
        namespace: home.pins.namespace().to_owned(),
        namespace_name: match &home.state {
            State::Alive(namespace) => namespace.name.clone(),
            State::Hidden | State::Gone => None,
        },
        gateway: gateway.name().to_owned(),
        state: match (&home.state, daemon) {
            (State::Gone, _) => GatewayState::Gone,
            (_, Some(_)) => GatewayState::Running,
            (_, None) => GatewayState::NoDaemon,
        },
        wan,
        daemon,
        path: gateway.dir().display().to_string(),
    }
}
