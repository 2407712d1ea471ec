//! What happened, step by step: printed as it happens for people, kept for JSON.

use std::{cell::RefCell, time::Instant};

use serde::Serialize;

use super::limits::since;
use crate::output::print::print;

/// So much of the conversation is kept.
const DIALOGUE_KEPT: usize = 2000;
/// Where the times stand.
const WIDTH: usize = 92;

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Which.
    pub step: String,
    /// Whether it went well.
    pub ok: bool,
    /// What came of it.
    pub text: String,
    /// How long it took, in milliseconds; none for what was concluded only.
    pub ms: Option<f64>,
}

/// One line of the control connection.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `client` or `server`.
    pub from: &'static str,
    /// Without its end; a password is masked.
    pub line: String,
    /// Milliseconds since the probe began.
    pub at_ms: f64,
}

/// The whole story.
#[derive(Debug)]
pub struct Story {
    is_told: bool,
    is_verbose: bool,
    start: Instant,
    steps: RefCell<Vec<Step>>,
    dialogue: RefCell<Vec<Line>>,
}

impl Story {
    /// Begins it. `is_told`: print what happens; `is_verbose`: the conversation too.
    #[must_use]
    pub fn new(is_told: bool, is_verbose: bool) -> Self {
        Self {
            is_told,
            is_verbose,
            start: Instant::now(),
            steps: RefCell::default(),
            dialogue: RefCell::default(),
        }
    }

    /// A line of its own.
    pub fn tell(&self, text: &str) {
        if self.is_told {
            // Where nobody listens, the exit code still tells.
            drop(print(&format!("{text}\n")));
        }
    }

    /// A step.
    pub fn step(&self, step: &str, ok: bool, text: impl Into<String>, ms: f64) {
        self.add("", step, ok, text.into(), Some(ms));
    }

    /// A part of the step before it.
    pub fn detail(&self, step: &str, ok: bool, text: impl Into<String>, ms: f64) {
        self.add("  ", step, ok, text.into(), Some(ms));
    }

    /// What became clear meanwhile; a part of the step before it, or a step.
    pub fn fact(&self, is_part: bool, step: &str, ok: bool, text: impl Into<String>) {
        let indent = if is_part { "  " } else { "" };
        self.add(indent, step, ok, text.into(), None);
    }

    fn add(&self, indent: &str, step: &str, ok: bool, text: String, ms: Option<f64>) {
        let mark = if ok { ' ' } else { '!' };
        let line = format!("{mark} {indent}{step:<9}  {text}");
        match ms {
            None => self.tell(&line),
            Some(ms) => {
                let pad = WIDTH.saturating_sub(line.chars().count()).max(2);
                self.tell(&format!("{line}{:pad$}{ms:>7.1} ms", ""));
            }
        }
        self.steps.borrow_mut().push(Step {
            step: step.to_owned(),
            ok,
            text,
            ms,
        });
    }

    /// A line that was sent or came.
    pub fn said(&self, from: &'static str, line: &str) {
        if self.is_verbose {
            let mark = if from == "client" { '>' } else { '<' };
            self.tell(&format!("      {mark} {line}"));
        }
        let mut dialogue = self.dialogue.borrow_mut();
        if dialogue.len() < DIALOGUE_KEPT {
            dialogue.push(Line {
                from,
                line: line.to_owned(),
                at_ms: since(self.start),
            });
        }
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.steps.borrow().clone()
    }

    /// The conversation so far, where it is wanted.
    #[must_use]
    pub fn dialogue(&self) -> Option<Vec<Line>> {
        self.is_verbose.then(|| self.dialogue.borrow().clone())
    }
}
