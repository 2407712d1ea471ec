//! What the operator has chosen: page, sorting, filter, pause.

use std::time::Duration;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::cli::Sort;

/// What the screen is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Transfers and sessions.
    Traffic,
    /// Announced connections that have not come, and denials.
    Openings,
    /// All counters.
    Counters,
}

impl Page {
    pub const ALL: [Self; 3] = [Self::Traffic, Self::Openings, Self::Counters];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Traffic => "traffic",
            Self::Openings => "openings",
            Self::Counters => "counters",
        }
    }
}

/// The shortest and the longest time between two looks.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// All that is chosen.
#[derive(Debug)]
pub(super) struct State {
    pub page: Page,
    pub sort: Sort,
    pub reversed: bool,
    pub filter: String,
    /// Whether those that have ended are shown too.
    pub all: bool,
    /// Whether keys go into the filter.
    pub typing: bool,
    pub helping: bool,
    /// Rows that are scrolled away.
    pub scrolled: usize,
    /// Why the last look failed.
    pub trouble: Option<String>,
    interval: Duration,
    paused: bool,
    quit: bool,
}

impl State {
    pub fn new(interval: Duration, sort: Sort, filter: String) -> Self {
        Self {
            page: Page::Traffic,
            sort,
            reversed: false,
            filter,
            all: false,
            typing: false,
            helping: false,
            scrolled: 0,
            trouble: None,
            interval,
            paused: false,
            quit: false,
        }
    }

    pub fn interval(&self) -> Duration {
        self.interval
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn has_quit(&self) -> bool {
        self.quit
    }

    pub fn set_trouble(&mut self, trouble: Option<String>) {
        self.trouble = trouble;
    }

    /// Whether a row with these words is to be shown.
    pub fn shows(&self, words: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        words
            .iter()
            .any(|word| word.to_lowercase().contains(&wanted))
    }

    /// Takes a key; anything else (a new size) only asks for a new picture.
    pub fn handle(&mut self, event: &Event) {
        let Event::Key(key) = event else {
            return;
        };
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            self.quit |= matches!(key.code, KeyCode::Char('c' | 'd'));
        } else if self.typing {
            self.type_filter(key);
        } else if self.helping {
            self.helping = false;
            self.quit = key.code == KeyCode::Char('q');
        } else {
            self.command(key);
        }
    }

    fn type_filter(&mut self, key: &KeyEvent) {
        match key.code {
            KeyCode::Char(letter) => self.filter.push(letter),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.typing = false;
            }
            _ => {}
        }
        self.scrolled = 0;
    }

    fn command(&mut self, key: &KeyEvent) {
        match key.code {
            KeyCode::Char('q') => self.quit = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('a') => self.all = !self.all,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('?' | 'h') => self.helping = true,
            KeyCode::Char('+') => self.interval = (self.interval * 2).min(INTERVALS.1),
            KeyCode::Char('-') => self.interval = (self.interval / 2).max(INTERVALS.0),
            KeyCode::Char(digit @ '1'..='3') => {
                self.turn_to(digit as usize - '1' as usize);
            }
            KeyCode::Tab | KeyCode::Right => {
                let place = Page::ALL
                    .iter()
                    .position(|it| *it == self.page)
                    .unwrap_or(0);
                self.turn_to((place + 1) % Page::ALL.len());
            }
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(10),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
    }

    fn turn_to(&mut self, place: usize) {
        self.page = Page::ALL[place];
        self.scrolled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(state: &mut State, codes: &[KeyCode]) {
        for code in codes {
            state.handle(&Event::Key(KeyEvent::new(*code, KeyModifiers::NONE)));
        }
    }

    fn state() -> State {
        State::new(Duration::from_secs(1), Sort::Rate, String::new())
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut state = state();
        let slash = KeyCode::Char('/');
        pressed(
            &mut state,
            &[
                slash,
                KeyCode::Char('q'),
                KeyCode::Char('5'),
                KeyCode::Backspace,
            ],
        );
        assert!(!state.has_quit() && state.typing);
        assert!(state.shows(&["Q"]) && !state.shows(&["a", "b"]));
        pressed(&mut state, &[KeyCode::Enter]);
        assert_eq!((state.filter.as_str(), state.typing), ("q", false));
        pressed(&mut state, &[slash, KeyCode::Esc]);
        assert_eq!(state.filter, "");
        assert!(state.shows(&["anything"]));
    }

    #[test]
    fn keys_do_what_the_help_says() {
        let mut state = state();
        pressed(
            &mut state,
            &[KeyCode::Char('s'), KeyCode::Char('r'), KeyCode::Char('p')],
        );
        assert_eq!(
            (state.sort, state.reversed, state.is_paused()),
            (Sort::Bytes, true, true)
        );
        pressed(
            &mut state,
            &[KeyCode::Tab, KeyCode::Down, KeyCode::Down, KeyCode::Up],
        );
        assert_eq!((state.page, state.scrolled), (Page::Openings, 1));
        pressed(&mut state, &[KeyCode::Char('3')]);
        assert_eq!((state.page, state.scrolled), (Page::Counters, 0));
        pressed(&mut state, &[KeyCode::Char('-'); 9]);
        assert_eq!(state.interval(), INTERVALS.0);
        pressed(&mut state, &[KeyCode::Char('?'), KeyCode::Char('x')]);
        assert!(!state.helping && !state.has_quit());
        pressed(&mut state, &[KeyCode::Char('q')]);
        assert!(state.has_quit());
    }

    #[test]
    fn control_c_quits_even_while_typing() {
        let mut state = state();
        pressed(&mut state, &[KeyCode::Char('/')]);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        state.handle(&Event::Key(control_c));
        assert!(state.has_quit());
    }
}
