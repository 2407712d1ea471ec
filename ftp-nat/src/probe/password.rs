//! Who logs in, and with which password.

use std::{
    env, fmt, fs,
    io::{self, BufRead as _, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;

use crate::{cli::ProbeArgs, output::failure::Failure};

/// The environment variable with the password.
const VARIABLE: &str = "FTP_NAT_PASSWORD";

/// A user and a password, which is never shown.
#[derive(Clone)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: String,
    /// Whether these were given, and not the usual anonymous ones.
    pub is_given: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// As the arguments say.
    ///
    /// # Errors
    ///
    /// When there is no password to be found, or one that cannot be sent.
    pub fn of(args: &ProbeArgs) -> Result<Self, Failure> {
        let Some(user) = &args.user else {
            return Ok(Self {
                user: "anonymous".into(),
                password: "ftp-nat-probe@".into(),
                is_given: false,
            });
        };
        let password = match (&args.password_file, env::var(VARIABLE)) {
            (Some(file), _) => first_line(file)?,
            (None, Ok(password)) => password,
            (None, Err(_)) if io::stdin().is_terminal() => {
                rpassword::prompt_password(format!("Password of {user}: "))
                    .context("cannot ask for the password")?
            }
            (None, Err(_)) => {
                return Err(Failure::usage(format!(
                    "no password for {user}: use --password-file FILE or the environment \
                     variable {VARIABLE}, or run it on a terminal to be asked"
                )));
            }
        };
        for (what, text) in [("the user's name", user), ("the password", &password)] {
            if text.contains(['\r', '\n', '\0']) {
                return Err(Failure::usage(format!(
                    "{what} has a line end in it, which FTP cannot send"
                )));
            }
        }
        Ok(Self {
            user: user.clone(),
            password,
            is_given: true,
        })
    }
}

fn first_line(file: &Path) -> Result<String, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    } else {
        fs::read_to_string(file)
    };
    let text = read
        .map_err(|error| Failure::usage(format!("--password-file {}: {error}", file.display())))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
