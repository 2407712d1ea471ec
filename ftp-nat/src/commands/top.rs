//! `ftp-nat top`: sessions, transfers and counters on a live screen.
//!
//! ```text
//! sample.rs  what the maps hold at one moment
//! rates.rs   two samples make rates, and rates make a history
//! state.rs   what the operator has chosen: sorting, filter, page, pause
//! screen.rs  all of it drawn
//! ```

mod rates;
mod sample;
mod screen;
mod state;

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use ratatui::{DefaultTerminal, crossterm::event};

use self::{rates::Rates, sample::Sample, state::State};
use crate::{cli::TopArgs, client::view::View, output::failure::Failure};

/// How long a signal may wait until it is noticed.
const TICK: Duration = Duration::from_millis(100);

/// Shows the screen until the operator has seen enough.
///
/// # Errors
///
/// When no gateway is loaded, it cannot be read, or there is no terminal.
pub fn run(args: &TopArgs) -> Result<(), Failure> {
    // Before the screen is taken: what is said now stays readable.
    let first = Sample::of(&View::of(&args.selection)?, &args.selection.state_dir)?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(anyhow!(
            "`ftp-nat top` draws on a terminal, and this is none: `ftp-nat status --json` and \
             `ftp-nat flows --json` tell the same to a program"
        )
        .into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot listen for signals")?;
    }
    let mut state = State::new(args.interval, args.sort, args.filter.clone());
    let mut screen = Screen::take()?;
    watch(
        args,
        &mut state,
        Rates::new(first),
        &mut screen.terminal,
        &stop,
    )?;
    Ok(())
}

/// The terminal while it is ours: given back as it was, whatever happens.
struct Screen {
    terminal: DefaultTerminal,
}

impl Screen {
    fn take() -> anyhow::Result<Self> {
        // A panic gives it back as well.
        let terminal = ratatui::try_init().context("cannot take the terminal over")?;
        Ok(Self { terminal })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal has gone (SIGHUP) there is nothing to give back.
        drop(ratatui::try_restore());
    }
}

fn watch(
    args: &TopArgs,
    state: &mut State,
    mut rates: Rates,
    terminal: &mut DefaultTerminal,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let mut looked = Instant::now();
    let mut changed = true;
    while !stop.load(Ordering::Relaxed) && !state.has_quit() {
        if changed {
            terminal
                .draw(|frame| screen::draw(frame, &rates, state))
                .context("cannot draw")?;
            changed = false;
        }
        let left = state.interval().saturating_sub(looked.elapsed());
        if event::poll(left.min(TICK)).context("cannot read the terminal")? {
            state.handle(&event::read().context("cannot read the terminal")?);
            changed = true;
        }
        if looked.elapsed() >= state.interval() {
            looked = Instant::now();
            if !state.is_paused() {
                match View::of(&args.selection) {
                    Ok(view) => {
                        rates.add(Sample::of(&view, &args.selection.state_dir)?);
                        state.set_trouble(None);
                    }
                    // It may come back: an unload and a new start, say.
                    Err(failure) => state.set_trouble(Some(failure.to_string())),
                }
                changed = true;
            }
        }
    }
    Ok(())
}
