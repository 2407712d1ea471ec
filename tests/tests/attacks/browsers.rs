//! A connection inside that was never meant as FTP, steered by a page: it opens nothing
//! ("NAT slipstreaming").

use super::{
    guests::masquerade,
    recorder::Recorder,
    secret::{Secret, knock},
    *,
};

/// The port of the victim that nobody outside may reach.
const SECRET: u16 = 8080;

#[test]
fn a_browser_opens_no_port_of_its_host() {
    let lab = lab();
    let victim = lab.server();
    let publisher = masquerade(&lab, &[]);
    let secret = Secret::at(&victim.namespace, victim.at(SECRET), "victim");
    let server = Recorder::start(attacker(&lab), 21, false);
    let [a, b, c, d] = victim.v4.octets();
    let port = format!("PORT {a},{b},{c},{d},31,144\r\n");
    let header = "Host: 198.51.100.21:21\r\nContent-Length: 9999\r\n\r\n";
    let hello = "\u{16}\u{3}\u{1}\0";
    let cases: Vec<(&str, Vec<String>)> = vec![
        ("POST", vec![format!("POST / HTTP/1.1\r\n{header}{port}")]),
        (
            "POST, the body in a segment of its own",
            vec![format!("POST / HTTP/1.1\r\n{header}"), port.clone()],
        ),
        (
            "PUT",
            vec![format!("PUT / HTTP/1.1\r\n{header}"), port.clone()],
        ),
        (
            "POST of a whole session",
            vec![
                format!("POST / HTTP/1.1\r\n{header}"),
                "USER x\r\n".to_owned(),
                "PASS x\r\n".to_owned(),
                port.clone(),
            ],
        ),
        (
            "HTTP/2",
            vec!["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), port.clone()],
        ),
        ("SMTP", vec!["EHLO x\r\n".to_owned(), port.clone()]),
        (
            "SIP",
            vec![format!("REGISTER sip:x SIP/2.0\r\n{header}"), port.clone()],
        ),
        ("TLS", vec![format!("{hello}{port}"), port.clone()]),
        (
            "an empty line first",
            vec![
                "\r\n".to_owned(),
                format!("POST / HTTP/1.1\r\n{header}"),
                port.clone(),
            ],
        ),
        ("binary first", vec!["\0\0\0\n".to_owned(), port.clone()]),
        (
            "a number first",
            vec!["0\r\n".to_owned(), "USER x\r\n".to_owned(), port.clone()],
        ),
        (
            "JSON",
            vec![
                "{\"a\":\n".to_owned(),
                "USER x\r\n".to_owned(),
                port.clone(),
            ],
        ),
        (
            "STUN over TCP",
            vec!["\0\u{3}\0\u{8}!\u{12}\n".to_owned(), port.clone()],
        ),
    ];
    let mut failures = Failures::default();
    for (name, segments) in cases {
        let mut control = Control::connect(victim, attacker(&lab).at(21)).unwrap();
        for segment in segments {
            control.send(segment).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        settle();
        knock(attacker(&lab), (WAN_ADDRESS, SECRET).into());
        failures.note(name, secret.keep());
        let mappings = publisher.count("mappings").unwrap_or_default();
        if mappings != 0 {
            failures.note(name, Err(anyhow::anyhow!("{mappings} mappings")));
        }
    }
    drop(server);
    failures.assert_none();
}
