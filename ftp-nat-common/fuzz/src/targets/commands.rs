//! Any bytes as a client's commands: an outside client sends the server nowhere but to itself,
//! however leniently the server reads.

use crate::conversation::Conversation;
use ftp_nat_common::ftp::policy::bit_of;
use ftp_nat_common::host::{Call, Spoken};
use std::net::{IpAddr, Ipv4Addr};

/// Commands that a policy denies where the first byte says so.
const DENIED: [&[u8]; 4] = [b"DELE", b"SITE", b"MKD", b"PASV"];

/// The first byte chooses the role and the policy; the rest is what the client says.
pub fn run(data: &[u8]) {
    let Some((choice, said)) = data.split_first() else {
        return;
    };
    let said = [&said[..said.len().min(4000)], b"\r\n"].concat();
    if choice & 4 != 0 {
        denying(Conversation::publish(), &said);
        denying(Conversation::masquerade(), &said);
        return;
    }
    match choice % 4 {
        0 => publish(Conversation::publish(), &said),
        1 => publish(Conversation::publish_v6(), &said),
        2 => masquerade(Conversation::masquerade(), &said),
        _ => masquerade(Conversation::masquerade_v6(), &said),
    }
}

fn publish(mut it: Conversation, said: &[u8]) {
    let client = it.session.outside.addr.to_ip();
    it.gate.spoken = Some(Vec::new());
    let heard = it.client_bytes(said);
    is_told_as_heard(&it, &heard);
    // Denied commands are made unknown by as many bytes, telnet's are made signals; nothing else
    // changes.
    assert_eq!(heard.len() + it.withheld.len(), said.len());
    for (told, heard) in said.iter().zip(&heard) {
        assert!(told == heard || matches!(heard, b'X' | 241 | 6));
    }
    for happening in &it.gate.calls {
        if let Call::Opened(opening, _) = happening {
            assert_eq!(opening.addr.to_ip(), client);
            assert!(opening.port.number() >= 1024);
        }
    }
    for line in heard.split(|byte| *byte == b'\n') {
        if let Some((addr, port)) = lenient(line) {
            let text = line.escape_ascii();
            assert_eq!(addr, client, "{text}");
            assert!(port >= 1024, "{text}");
        }
    }
}

/// What is told of commands is what the server has heard, and of a password nothing.
fn is_told_as_heard(it: &Conversation, heard: &[u8]) {
    let heard = heard.to_ascii_uppercase();
    for spoken in it.gate.spoken.iter().flatten() {
        let Spoken::Command(_, line, _) = spoken else {
            continue;
        };
        let line = line.to_ascii_uppercase();
        let text = line.escape_ascii();
        if line.starts_with(b"PASS") || line.starts_with(b"ACCT") {
            assert_eq!(line.len(), 4, "{text}");
        }
        assert!(heard.windows(line.len()).any(|it| it == line), "{text}");
    }
}

/// No line that the server hears begins with a denied command.
fn denying(mut it: Conversation, said: &[u8]) {
    it.gate.spoken = Some(Vec::new());
    let names = DENIED.map(|name| std::str::from_utf8(name).unwrap_or_default());
    it.session.deny = names
        .into_iter()
        .filter_map(bit_of)
        .fold(0, |all, bit| all | bit);
    let heard = it.client_bytes(said);
    for line in heard.split(|byte| *byte == b'\n') {
        let line = without_telnet(line).trim_ascii_start().to_ascii_uppercase();
        for name in DENIED {
            let behind = line.strip_prefix(name);
            let is_it = behind
                .is_some_and(|rest| matches!(rest.first(), None | Some(b' ' | b'\r' | b'\t')));
            assert!(!is_it, "{}", line.escape_ascii());
        }
    }
}

fn masquerade(mut it: Conversation, said: &[u8]) {
    let heard = it.client_bytes(said);
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines(&heard), lines(said));
    if it.session.commands.edits.count == 0 {
        assert_eq!(heard, said);
    }
    let growth = heard.len() as i64 - said.len() as i64;
    assert_eq!(growth, i64::from(it.session.commands.edits.growth));
}

/// Where a server would connect that takes whatever it can make sense of: telnet commands are
/// taken out, any blank ends the verb, numbers are read as far as they go.
fn lenient(line: &[u8]) -> Option<(IpAddr, u16)> {
    let line = without_telnet(line);
    let line = line.trim_ascii_start();
    let verb = line.get(..4)?.to_ascii_uppercase();
    let rest = line.get(4..)?;
    if !matches!(rest.first()?, b' ' | 9..=13 | 0) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    match verb.as_slice() {
        b"PORT" => six(rest),
        b"EPRT" => extended(rest),
        _ => None,
    }
}

/// RFC 854: IAC and a command; with an option behind WILL, WONT, DO and DONT.
fn without_telnet(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        if *byte != 255 {
            out.push(*byte);
            continue;
        }
        match bytes.next() {
            Some(251..=254) => drop(bytes.next()),
            Some(255) => out.push(255),
            _ => {}
        }
    }
    out
}

/// `%u,%u,%u,%u,%u,%u` of scanf.
fn six(text: &[u8]) -> Option<(IpAddr, u16)> {
    let mut rest = text;
    let mut fields = [0_u8; 6];
    for (place, field) in fields.iter_mut().enumerate() {
        if place > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&rest[..digits]).unwrap();
        *field = number.parse().ok()?;
        rest = &rest[digits..];
    }
    let [a, b, c, d, high, low] = fields;
    Some((
        Ipv4Addr::new(a, b, c, d).into(),
        u16::from_be_bytes([high, low]),
    ))
}

/// Any first character delimits; the address as inet_aton or inet_pton reads it, the port as atoi
/// does.
fn extended(text: &[u8]) -> Option<(IpAddr, u16)> {
    let (delimiter, rest) = text.split_first()?;
    let mut parts = rest.split(|byte| byte == delimiter);
    let [protocol, addr, port] = [parts.next()?, parts.next()?, parts.next()?];
    let addr = std::str::from_utf8(addr).ok()?;
    let addr = match protocol {
        b"1" => IpAddr::V4(inet_aton(addr)?),
        b"2" => IpAddr::V6(addr.parse().ok()?),
        _ => return None,
    };
    let digits = port.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let port: u32 = std::str::from_utf8(&port[..digits]).unwrap().parse().ok()?;
    Some((addr, u16::try_from(port).ok()?))
}

/// Four octets; a leading zero means octal.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let octet = |field: &str| {
        let radix = if field.len() > 1 && field.starts_with('0') {
            8
        } else {
            10
        };
        u8::from_str_radix(field, radix).ok()
    };
    let octets: Option<Vec<u8>> = text.split('.').map(octet).collect();
    let octets: [u8; 4] = octets?.try_into().ok()?;
    Some(octets.into())
}
