//! What the traced datapath tells of a packet: three records of names and values, and what they mean.

use std::{collections::HashMap, net::Ipv6Addr};

use ftp_nat_common::{
    counter::Counter,
    wire::addr::{Addr, Endpoint, Port},
};
use serde::Serialize;

use crate::{
    model::flow::kind_name,
    output::text::{address, end_text, port, session_name},
};

/// A packet and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Packet {
    /// `wan_ingress`, `wan_egress` or `lan_ingress`.
    pub hook: &'static str,
    pub source: Option<String>,
    pub source_port: Option<u16>,
    pub destination: Option<String>,
    pub destination_port: Option<u16>,
    /// TCP's, by their names.
    pub flags: Vec<&'static str>,
    pub seq: u32,
    pub ack: u32,
    /// Bytes of payload.
    pub len: u32,
    /// The payload's first four letters where a line begins with it.
    pub text: Option<String>,
    /// Its connection, where it is of a known one.
    pub flow: Option<Flow>,
    /// `stack`, `dropped` or `redirected`.
    pub verdict: &'static str,
    /// Why, and what else it has moved: the counters.
    pub reasons: Vec<Reason>,
    #[serde(skip)]
    ends: [Endpoint; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Flow {
    pub kind: &'static str,
    pub session: String,
    /// The interface that its packets are redirected to; none: the stack forwards them.
    pub out_ifindex: Option<u32>,
    /// Bytes of the line that is under way in this direction.
    pub line: u32,
    /// Bytes of it that are held.
    pub held: u32,
    /// Packets of this direction so far.
    pub packets: u64,
}

/// A counter that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    pub family: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub value: &'static str,
    pub help: &'static str,
}

/// Joins the records of packets, which come from several CPUs at once.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: HashMap<u64, Packet>,
}

impl Joiner {
    /// Takes a record; gives its packet if this was the last one of it.
    pub(super) fn add(&mut self, record: &str) -> Option<Packet> {
        let words: Vec<_> = record.split(' ').collect();
        let [what, number, fields @ ..] = &words[..] else {
            return None;
        };
        let number: u64 = number.parse().ok()?;
        let value = |name: &str| {
            let at = fields.iter().position(|word| *word == name)?;
            fields.get(at + 1).copied()
        };
        let is = |name| value(name)?.parse::<u64>().ok();
        match *what {
            "packet" => {
                let end = |name| {
                    let at = fields.iter().position(|word| *word == name)?;
                    let addr: Ipv6Addr = fields.get(at + 1)?.parse().ok()?;
                    let port = fields.get(at + 2)?.parse().ok()?;
                    Some(Endpoint::new(
                        Addr::from(std::net::IpAddr::V6(addr)),
                        Port::new(port),
                    ))
                };
                let ends = [end("from")?, end("to")?];
                let text = (is("text")? as u32).to_ne_bytes();
                let packet = Packet {
                    hook: hook_name(is("hook")?),
                    source: address(ends[0].addr),
                    source_port: port(&ends[0]),
                    destination: address(ends[1].addr),
                    destination_port: port(&ends[1]),
                    flags: flag_names(is("flags")?),
                    seq: is("seq")? as u32,
                    ack: is("ack")? as u32,
                    len: is("len")? as u32,
                    text: (text != [0; 4]).then(|| text.escape_ascii().to_string()),
                    ends,
                    ..Packet::default()
                };
                self.open.insert(number, packet);
                None
            }
            "flow" => {
                let out = is("out")? as u32;
                self.open.get_mut(&number)?.flow = Some(Flow {
                    kind: kind_name(is("kind")? as u8),
                    session: session_name(is("session")? as u32),
                    out_ifindex: (out != 0).then_some(out),
                    line: is("line")? as u32,
                    held: is("held")? as u32,
                    packets: is("packets")?,
                });
                None
            }
            "verdict" => {
                let mut packet = self.open.remove(&number)?;
                packet.verdict = match value("is")? {
                    "2" => "dropped",
                    "7" => "redirected",
                    _ => "stack",
                };
                let at = fields.iter().position(|word| *word == "counted")?;
                let words: Vec<u64> = fields[at + 1..]
                    .iter()
                    .filter_map(|word| word.parse().ok())
                    .collect();
                packet.reasons = reasons(&words);
                Some(packet)
            }
            _ => None,
        }
    }
}

const fn hook_name(number: u64) -> &'static str {
    match number {
        0 => "wan_ingress",
        1 => "wan_egress",
        _ => "lan_ingress",
    }
}

fn flag_names(flags: u64) -> Vec<&'static str> {
    ["FIN", "SYN", "RST", "PSH", "ACK", "URG"]
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| flags & 1 << bit != 0)
        .map(|(_, name)| name)
        .collect()
}

fn reasons(words: &[u64]) -> Vec<Reason> {
    Counter::ALL
        .iter()
        .enumerate()
        .filter(|(at, _)| {
            words
                .get(at / 64)
                .is_some_and(|word| word >> (at % 64) & 1 != 0)
        })
        .map(|(_, counter)| {
            let it = counter.description();
            Reason {
                family: it.family,
                value: it.value,
                help: it.help,
            }
        })
        .collect()
}

impl Packet {
    /// For people; `interface` gives an interface's name.
    pub(super) fn text(&self, interface: impl Fn(u32) -> String) -> String {
        let hook = match self.hook {
            "wan_ingress" => "from outside",
            "wan_egress" => "to the outside",
            _ => "from inside ",
        };
        let [source, destination] = self.ends.each_ref().map(end_text);
        let mut text = format!(
            "{hook}  {source} > {destination}  {} seq {} ack {} len {}",
            self.flags.join(","),
            self.seq,
            self.ack,
            self.len
        );
        if let Some(line) = &self.text {
            text += &format!(" \"{line}..\"");
        }
        text += "\n    ";
        match &self.flow {
            None => text += "of no known connection",
            Some(flow) => {
                text += &format!(
                    "{} of session {}, packet {}",
                    flow.kind, flow.session, flow.packets
                );
                if flow.line > 0 || flow.held > 0 {
                    text += &format!(", {} bytes of a line, {} held", flow.line, flow.held);
                }
            }
        }
        let out = self.flow.as_ref().and_then(|flow| flow.out_ifindex);
        text += &match (self.verdict, out) {
            ("redirected", Some(index)) => format!(": redirected to {}", interface(index)),
            ("redirected", None) => ": redirected".to_owned(),
            ("dropped", _) => ": dropped".to_owned(),
            _ => ": on to the stack".to_owned(),
        };
        for reason in &self.reasons {
            let value = if reason.value.is_empty() {
                String::new()
            } else {
                format!(" {}", reason.value)
            };
            text += &format!("\n    {}{value}: {}", reason.family, reason.help);
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_a_packet_become_one_account_of_it() {
        let denied = Counter::DeniedUnannounced as usize;
        let mut words = [0_u64; 2];
        words[denied / 64] |= 1 << (denied % 64);
        let mut joiner = Joiner::default();
        let text = u32::from_ne_bytes(*b"PASV");
        let head = format!(
            "packet 7 hook 0 from ::ffff:198.51.100.20 40000 to ::ffff:198.51.100.1 21 flags 24 \
             seq 5 ack 6 len 6 text {text}"
        );
        assert_eq!(joiner.add(&head), None);
        // Of another CPU, in between.
        assert_eq!(joiner.add("verdict 9 is -1 counted 0 0"), None);
        let flow = "flow 7 kind 1 session 171 out 3 line 0 held 0 packets 12";
        assert_eq!(joiner.add(flow), None);
        let verdict = format!("verdict 7 is 7 counted {} {}", words[0], words[1]);
        let packet = joiner.add(&verdict).unwrap();
        assert_eq!(
            packet.text(|index| format!("lan{index}")),
            "from outside  198.51.100.20:40000 > 198.51.100.1:21  PSH,ACK seq 5 ack 6 len 6 \
             \"PASV..\"\n    control of session 000000ab, packet 12: redirected to lan3\n    denied \
             unannounced: Not translated: connections to a port that was not announced to that \
             peer\n"
        );
        for nonsense in [
            "",
            "packet",
            "packet x",
            "flow 1 kind",
            "packet 1 hook 0 from",
        ] {
            assert_eq!(joiner.add(nonsense), None, "{nonsense}");
        }
    }
}
