//! Many live connections at once.

use std::net::SocketAddrV4;

use anyhow::Context as _;
use aya::maps::{HashMap, MapData};
use ftp_nat_common::{
    abi::{Flow, FlowKey4},
    wire::addr::{Addr, Port, PortPair},
};

use super::{
    programs::layout::{flow_address, flow_port},
    session::{self, Pair},
};

/// ftp-nat's flows.
pub(crate) type Flows = HashMap<MapData, FlowKey4, Flow>;

/// The key of packets between two ends.
pub(crate) fn key(from: SocketAddrV4, to: SocketAddrV4) -> FlowKey4 {
    FlowKey4 {
        src: u32::from_ne_bytes(from.ip().octets()),
        dst: u32::from_ne_bytes(to.ip().octets()),
        ports: PortPair::new(Port::new(from.port()), Port::new(to.port())),
    }
}

/// In jiffies, whose number a second is at least 100.
const HOUR: u32 = 360_000;

/// Makes so many connections, both directions of each: copies of one that is real, so that they
/// carry just what the datapath itself puts into them. Gives the inbound flow that was copied.
///
/// A flow looks its way up again every second. Those that have packets all the time do so for one
/// of many thousands; the copies seldom have any, and so need not for an hour.
pub(crate) fn fill(flows: &mut Flows, data: &mut Pair, number: u32) -> anyhow::Result<Flow> {
    data.exchange()?;
    let (client, public) = session::ends(&data.client)?;
    let (server, _) = session::ends(&data.server)?;
    let inbound_key = key(client, public);
    let outbound_key = key(server, client);
    let mut inbound = flows.get(&inbound_key, 0).context("no inbound flow")?;
    let mut outbound = flows.get(&outbound_key, 0).context("no outbound flow")?;
    for flow in [&mut inbound, &mut outbound] {
        flow.fresh_until = flow.fresh_until.wrapping_add(HOUR);
    }
    for number in 0..number {
        let (address, port) = (flow_address(number), Port(flow_port(number)));
        let one = FlowKey4 {
            src: address,
            ports: PortPair::new(port, inbound_key.ports.destination()),
            ..inbound_key
        };
        let other = FlowKey4 {
            dst: address,
            ports: PortPair::new(outbound_key.ports.source(), port),
            ..outbound_key
        };
        (inbound.src, inbound.ports) = (Addr::from_v4(address), inbound.ports.from(port));
        (outbound.dst, outbound.ports) = (inbound.src, outbound.ports.to(port));
        flows
            .insert(one, inbound, 0)
            .and_then(|()| flows.insert(other, outbound, 0))
            .with_context(|| format!("no room for connection {number}"))?;
    }
    Ok(inbound)
}
