//! What a session transferred or changed, by what its control connection said, as the daemon knows it
//! and as operators are told.

use ftp_nat_common::wire::addr::{Addr, Endpoint};
use serde::{Deserialize, Serialize};

use crate::output::text::printable;

/// A name that a stranger has written: bytes, which must be escaped wherever they are shown.
pub type Name = Box<[u8]>;

/// Which way a transfer's bytes went, or what else was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A file went to the client: RETR.
    Retrieved,
    /// A file came from the client: STOR, STOU, APPE.
    Stored,
    /// The names of files went to the client: LIST, NLST, MLSD.
    Listed,
    /// Bytes went to the client by a data connection whose command is not known: it was said inside TLS,
    /// or its record was lost.
    Sent,
    /// The same from the client.
    Received,
    /// DELE, RMD.
    Deleted,
    /// RNFR and RNTO.
    Renamed,
    /// MKD.
    Created,
}

impl Action {
    /// All of them that use a data connection.
    pub const TRANSFERS: [Self; 5] = [
        Self::Retrieved,
        Self::Stored,
        Self::Listed,
        Self::Sent,
        Self::Received,
    ];

    /// Its name, as people, JSON and metrics see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retrieved => "retrieved",
            Self::Stored => "stored",
            Self::Listed => "listed",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Created => "created",
        }
    }

    /// Whether it uses a data connection.
    pub const fn is_transfer(self) -> bool {
        !matches!(self, Self::Deleted | Self::Renamed | Self::Created)
    }

    /// Whether its bytes go to the client.
    pub const fn is_to_client(self) -> bool {
        matches!(self, Self::Retrieved | Self::Listed | Self::Sent)
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The server said so: 2xx.
    Completed,
    /// The server said that it did not: 4xx or 5xx.
    Failed,
    /// No reply was seen: it was said inside TLS, its record was lost, or the session ended before.
    Unknown,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Completed, Self::Failed, Self::Unknown];

    /// By the reply's code.
    pub const fn of(code: Option<u16>) -> Self {
        match code {
            Some(200..=399) => Self::Completed,
            Some(_) => Self::Failed,
            None => Self::Unknown,
        }
    }

    /// Its name, as people, JSON and metrics see it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// A transfer, or a change of what a server keeps, that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// What was done.
    pub action: Action,
    /// The verb, in upper case; none: not known.
    pub command: Option<String>,
    /// Who had logged in, by what the server has accepted.
    pub user: Option<Name>,
    /// What the command named, as the client wrote it.
    pub path: Option<Name>,
    /// Whether the name is longer than what is known of it.
    pub is_cut: bool,
    /// Of a renaming: what it was named before.
    pub from: Option<Name>,
    /// The session's folder, as far as its client has said: absolute, or relative to that of its login.
    pub directory: Option<Name>,
    /// Bytes of the file or listing, without any headers; none: the data connection does not go through
    /// the gateway's flows, or its start was not seen.
    pub bytes: Option<u64>,
    /// Of a transfer: how long its data connection was used, or else from command to reply.
    pub seconds: f64,
    /// Whether the session spoke TLS.
    pub is_encrypted: bool,
    /// The code of the reply that ended it; none: none was seen.
    pub code: Option<u16>,
    /// The FTP client's address.
    pub client: Addr,
    /// The published server; none: a server outside.
    pub server: Option<Endpoint>,
}

impl Transfer {
    /// Bytes a second; none where time or bytes are not known.
    pub fn rate(&self) -> Option<f64> {
        let bytes = self.bytes? as f64;
        (self.seconds > 0.0).then(|| bytes / self.seconds)
    }

    /// The path with the folder in front of it, if it is relative to one that is known.
    pub fn full_path(&self) -> Option<Vec<u8>> {
        let path = self.path.as_deref()?;
        Some(match self.directory.as_deref() {
            Some(directory) if !path.starts_with(b"/") && !directory.is_empty() => {
                let end = directory.strip_suffix(b"/").unwrap_or(directory);
                [end, b"/", path].concat()
            }
            _ => path.to_vec(),
        })
    }
}

/// A [`Transfer`] as JSON has it, among the fields of its event. Names are escaped by
/// [`printable`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferFields {
    /// What was done.
    pub action: Action,
    /// How it ended.
    pub outcome: Outcome,
    /// The verb; none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who had logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What the command named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether the name is longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub path_cut: bool,
    /// Of a renaming: what it was named before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The session's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Bytes of the file or listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Whether the session spoke TLS.
    pub encrypted: bool,
    /// The code of the reply that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

impl From<&Transfer> for TransferFields {
    fn from(of: &Transfer) -> Self {
        let name = |name: &Option<Name>| name.as_deref().map(printable);
        Self {
            action: of.action,
            outcome: Outcome::of(of.code),
            command: of.command.clone(),
            user: name(&of.user),
            path: name(&of.path),
            path_cut: of.is_cut,
            from: name(&of.from),
            directory: name(&of.directory),
            bytes: of.bytes,
            bytes_per_second: of.rate().map(|rate| rate.round() as u64),
            encrypted: of.is_encrypted,
            code: of.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_stands_behind_its_folder() {
        for (directory, path, full) in [
            (Some("/pub"), "a", "/pub/a"),
            (Some("/"), "a", "/a"),
            (Some("pub"), "a", "pub/a"),
            (Some(""), "a", "a"),
            (Some("/pub"), "/etc/a", "/etc/a"),
            (None, "a", "a"),
        ] {
            let name = |text: &str| Some(text.as_bytes().into());
            let transfer = Transfer {
                path: name(path),
                directory: directory.and_then(name),
                ..example()
            };
            assert_eq!(transfer.full_path().unwrap(), full.as_bytes());
        }
    }

    fn example() -> Transfer {
        Transfer {
            action: Action::Retrieved,
            command: Some("RETR".into()),
            user: None,
            path: None,
            is_cut: false,
            from: None,
            directory: None,
            bytes: Some(1000),
            seconds: 0.5,
            is_encrypted: false,
            code: Some(226),
            client: Addr::default(),
            server: None,
        }
    }

    #[test]
    fn names_are_escaped_in_json() {
        let told = TransferFields::from(&Transfer {
            path: Some(b"a\nb\x1b[2J\"\xff\xe2\x80\xae\\".as_slice().into()),
            ..example()
        });
        assert_eq!(
            told.path.as_deref(),
            Some(r#"a\nb\u{1b}[2J"\xff\u{202e}\\"#)
        );
        assert_eq!(told.bytes_per_second, Some(2000));
    }
}
