//! Metrics, as Prometheus and Grafana see them.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use ftp_nat_tests::{
    control::Control,
    lab::Lab,
    process,
    prometheus::{self, Prometheus},
};
use serde_json::Value;

use crate::{CONTENT, ConfigFile, ONE_SERVER, PUBLIC, SMALL, vsftpd, wait_for};

const DASHBOARD: &str = include_str!("../../../packaging/grafana/ftp-nat.json");

/// Every query of the dashboard, with the words that Grafana would put in.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(query)) = fields.get("expr") {
                    found.insert(query.clone());
                }
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found
        .iter()
        .map(|query| {
            query
                .replace("$__rate_interval", "30s")
                .replace("$instance", ".*")
        })
        .collect()
}

#[test]
fn prometheus_scrapes_them_its_tool_finds_no_fault_and_every_query_of_the_dashboard_has_an_answer()
{
    let lab = Lab::new().unwrap();
    let server = vsftpd(lab.server(), CONTENT);
    let listen: SocketAddr = "127.0.0.1:9810".parse().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run_with(&lab, &["--metrics-listen", &listen.to_string()]);
    let prometheus = Prometheus::start(&lab.router, listen).unwrap();
    let mut control = Control::log_in(lab.client(), &server.target_at(PUBLIC)).unwrap();
    assert_eq!(control.fetch(lab.client(), "PASV", SMALL).unwrap(), CONTENT);

    let value = |query: &str| {
        let results = prometheus.query(query).unwrap();
        results.first().map(|(_, value)| *value)
    };
    wait_for("the scrape of a used mapping", || {
        (value("ftp_nat_mappings_used_total{kind=\"passive\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(value("up"), Some(1.0));
    for (query, expected) in [
        ("sum(ftp_nat_sessions)", 1.0),
        ("ftp_nat_sessions{state=\"established\"}", 1.0),
        ("ftp_nat_mappings_opened_total{kind=\"passive\"}", 1.0),
        ("ftp_nat_rewritten_total{text=\"227\"}", 1.0),
        (
            "ftp_nat_connections{family=\"ipv4\",kind=\"control\",state=\"established\"}",
            1.0,
        ),
        (
            "sum(ftp_nat_connections{family=\"ipv4\",kind=\"passive\"})",
            1.0,
        ),
        (
            "ftp_nat_connections{family=\"ipv4\",kind=\"passive\",state=\"closed\"}",
            1.0,
        ),
        ("ftp_nat_map_entries{map=\"flows4\"}", 4.0),
        ("ftp_nat_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(value(query), Some(expected), "{query}");
    }
    let sent = value("ftp_nat_outbound_bytes_total{path=\"redirect\"}").unwrap();
    assert!(sent > 500.0, "{sent}");

    let queries = queries();
    assert!(queries.len() > 25, "{}", queries.len());
    // A rate takes two scrapes.
    wait_for("a rate", || value("rate(ftp_nat_sweeps_total[30s])"));
    for query in &queries {
        assert_ne!(value(query), None, "no answer to {query}");
    }

    let mut curl = lab.router.command("curl").unwrap();
    curl.args(["--silent", "http://127.0.0.1:9810/metrics"]);
    let patience = Duration::from_secs(10);
    let served = process::run(&mut curl, patience).unwrap().text();
    let shown = gateway.ask(&["metrics"]).unwrap().expect_success().unwrap();
    // The command has all that the daemon serves.
    let names = |text: &str| -> BTreeSet<String> {
        let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        named.map(str::to_owned).collect()
    };
    assert_eq!(names(&served), names(&shown.text()));
    for text in [served, shown.text()] {
        let outcome = prometheus::check_metrics(&lab.router, &text).unwrap();
        assert!(outcome.success(), "{outcome:?}");
        assert_eq!(outcome.stderr, "", "its advice");
    }
    // It does find fault where there is one.
    let faulty = "# TYPE ftp_nat_x counter\nftp_nat_x 1\n";
    let outcome = prometheus::check_metrics(&lab.router, faulty).unwrap();
    assert!(!outcome.success(), "{outcome:?}");
}

#[test]
fn without_a_daemon_it_is_said_what_is_missing() {
    let lab = Lab::new().unwrap();
    let mut gateway = ConfigFile::new(ONE_SERVER).run(&lab);
    let with = gateway.ask(&["metrics"]).unwrap().expect_success().unwrap();
    assert!(with.text().contains("ftp_nat_sweeps_total "), "{with:?}");
    gateway.kill().unwrap();
    let without = gateway.ask(&["metrics"]).unwrap().expect_success().unwrap();
    let text = without.text();
    let note = text.lines().next().unwrap();
    assert!(
        note.starts_with("# no daemon runs; these are not known"),
        "{note}"
    );
    let names = |text: &str| -> BTreeSet<String> {
        let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        named
            .map(|it| it.split(' ').next().unwrap().to_owned())
            .collect()
    };
    let missing: BTreeSet<_> = names(&with.text())
        .difference(&names(&text))
        .cloned()
        .collect();
    let said: BTreeSet<_> = note
        .rsplit_once(": ")
        .unwrap()
        .1
        .split(' ')
        .map(str::to_owned)
        .collect();
    assert_eq!(missing, said);
    let outcome = prometheus::check_metrics(&lab.router, &text).unwrap();
    assert!(outcome.success(), "{outcome:?}");
    // As JSON, the note goes elsewhere.
    let json = gateway
        .ask(&["metrics", "--json"])
        .unwrap()
        .expect_success()
        .unwrap();
    serde_json::from_slice::<Value>(&json.stdout).unwrap();
    assert!(
        json.stderr.contains("not known without it"),
        "{}",
        json.stderr
    );
}

#[test]
fn connections_that_ask_for_nothing_keep_no_scrape_out() {
    let lab = Lab::new().unwrap();
    let listen: SocketAddr = "127.0.0.1:9810".parse().unwrap();
    let file = ConfigFile::new(ONE_SERVER);
    let gateway = file.run_with(&lab, &["--metrics-listen", &listen.to_string()]);
    let silent: Vec<TcpStream> = lab
        .router
        .run(|| {
            let silent = (0..200).map(|_| Ok(TcpStream::connect(listen)?));
            silent.collect::<anyhow::Result<_>>()
        })
        .unwrap();
    for _ in 0..5 {
        let mut curl = lab.router.command("curl").unwrap();
        curl.args(["-s", "--max-time", "2", "http://127.0.0.1:9810/metrics"]);
        let outcome = process::run(&mut curl, Duration::from_secs(10)).unwrap();
        let text = outcome.expect_success().unwrap().text();
        assert!(text.contains("ftp_nat_build_info"), "{text}");
    }
    drop(silent);
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}
