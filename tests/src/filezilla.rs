//! FileZilla, from Debian's package, with a screen that nobody sees (Xvfb) and with keys that a
//! program presses (xdotool): all unpacked and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    client::Target,
    lab::Host,
    namespace::Namespace,
    process::{self, Running},
    scratch::Scratch,
    tools::Tools,
    unpacked::{library_path, unpacked_program},
};

/// The folder beside those of the servers.
pub const NAME: &str = "filezilla";

/// The packages that are unpacked there, with the libraries that the machine lacks.
pub const PACKAGES: &[&str] = &[
    NAME,
    "filezilla-common",
    "xvfb",
    "xserver-common",
    "x11-xkb-utils",
    "xdotool",
];

/// How long it may take until something has happened on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A FileZilla that was told to go to a server.
#[derive(Debug)]
pub struct FileZilla<'h> {
    // Fields are dropped in this order.
    program: Running,
    _screen: Running,
    /// The value of DISPLAY.
    display: String,
    namespace: &'h Namespace,
    folder: PathBuf,
    home: Scratch,
}

impl<'h> FileZilla<'h> {
    /// Starts it on `host` with the folder `path` of a server. It asks for AUTH TLS by itself.
    ///
    /// # Errors
    ///
    /// When it is not unpacked, or there is no screen.
    pub fn open(host: &'h Host, target: &Target, path: &str) -> anyhow::Result<Self> {
        let folder = Tools::get()?.servers.join(NAME);
        if !folder.is_dir() {
            bail!("{NAME} was not unpacked: use `cargo xtask test`");
        }
        let namespace = &host.namespace;
        let home = Scratch::new()?;
        for name in [".config", ".config/filezilla", "fetched"] {
            fs::create_dir(home.path().join(name))?;
        }
        // It is greeted already, and writes its messages into a file.
        let settings = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<FileZilla3><Settings>\n\
             <Setting name=\"Greeting version\">99.0.0</Setting>\n\
             <Setting name=\"Logging file\" platform=\"unix\">{}</Setting>\n\
             </Settings></FileZilla3>\n",
            home.path().join("log").display()
        );
        home.write(".config/filezilla/filezilla.xml", settings)?;
        let (screen, display) = screen(namespace, &folder, &home)?;
        let mut command = unpacked_program(namespace, &folder, "usr/bin/filezilla")?;
        let address = format!(
            "ftp://{}:{}@{}{path}",
            target.user,
            target.password.replace('@', "%40"),
            target.address
        );
        command
            .env("DISPLAY", &display)
            .env("HOME", home.path())
            .env("FZ_DATADIR", folder.join("usr/share/filezilla"))
            .env("LC_ALL", "C.UTF-8")
            .arg(format!("--local={}", home.path().join("fetched").display()))
            .arg(address);
        Ok(Self {
            program: Running::start(&mut command)?,
            _screen: screen,
            display,
            namespace,
            folder,
            home,
        })
    }

    /// Waits until it shows a certificate that it does not know, and accepts it.
    ///
    /// # Errors
    ///
    /// When it does not ask.
    pub fn accept_certificate(&mut self) -> anyhow::Result<()> {
        let window = self.window("^Unknown certificate$")?;
        self.xdotool(&["windowfocus", "--sync", &window, "key", "Return"])?;
        Ok(())
    }

    /// Waits for the listing of the folder that it was told to go to.
    ///
    /// # Errors
    ///
    /// When there is none; the message has FileZilla's own.
    pub fn wait_for_listing(&mut self, path: &str) -> anyhow::Result<()> {
        self.wait_for(&format!("Directory listing of \"{path}\" successful"))
    }

    /// Fetches the only file of the folder, and gives its content.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub fn fetch_the_file(&mut self, name: &str) -> anyhow::Result<Vec<u8>> {
        let window = self.window(" - FileZilla$")?;
        // Where nothing stands in the list of the server's files, which is the window's right half.
        self.xdotool(&["mousemove", "--window", &window, "695", "440", "click", "1"])?;
        // The entry below the one for the folder above.
        self.xdotool(&["key", "Home", "Down", "Return"])?;
        self.wait_for("File transfer successful")?;
        let path = self.home.path().join("fetched").join(name);
        fs::read(&path).with_context(|| format!("{} is not there\n{}", path.display(), self.log()))
    }

    /// FileZilla's messages.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default() + &self.program.log()
    }

    /// Waits for a message.
    fn wait_for(&mut self, message: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let log = self.log();
            if log.contains(message) {
                return Ok(());
            }
            if start.elapsed() > LIMIT || log.contains("Error:") || !self.program.is_alive()? {
                bail!("FileZilla does not say {message:?}:\n{log}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The window whose title matches this pattern, once it is there.
    fn window(&self, title: &str) -> anyhow::Result<String> {
        let words = ["search", "--sync", "--onlyvisible", "--name", title];
        let windows = self.xdotool(&words)?;
        let first = windows.lines().next();
        Ok(first.context("xdotool names no window")?.to_owned())
    }

    fn xdotool(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = unpacked_program(self.namespace, &self.folder, "usr/bin/xdotool")?;
        command.env("DISPLAY", &self.display).args(words);
        let outcome = process::run(&mut command, LIMIT)?.expect_success();
        Ok(outcome.with_context(|| self.log())?.text())
    }
}

/// A screen of its own; gives the value of DISPLAY too.
///
/// Xvfb runs /usr/bin/xkbcomp and looks nowhere else for it: so it sees the unpacked programs there,
/// by a mount that nobody else has.
fn screen(
    namespace: &Namespace,
    folder: &Path,
    home: &Scratch,
) -> anyhow::Result<(Running, String)> {
    const SCRIPT: &str = "mount -t overlay -o \"lowerdir=$1:/usr/bin\" overlay /usr/bin && \
         exec Xvfb -displayfd 1 -screen 0 1000x700x24 -nolisten tcp 2>\"$2\"";
    let mut command = namespace.command("unshare")?;
    command
        .env("LD_LIBRARY_PATH", library_path(folder)?)
        .args(["--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(folder.join("usr/bin"))
        .arg(home.path().join("screen"));
    let mut screen = Running::start(&mut command)?;
    let start = Instant::now();
    loop {
        let said = screen.log();
        // The number, once it takes clients.
        if let Some(number) = said
            .lines()
            .next()
            .filter(|line| line.parse::<u16>().is_ok())
        {
            return Ok((screen, format!(":{number}")));
        }
        if start.elapsed() > LIMIT || !screen.is_alive()? {
            let errors = fs::read_to_string(home.path().join("screen")).unwrap_or_default();
            bail!("Xvfb does not start: {said}{errors}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
