//! What the screen's parts look like.

use ratatui::style::{Color, Modifier, Style};

pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const DIM: Style = Style::new().fg(Color::DarkGray);
pub(super) const INWARD: Style = Style::new().fg(Color::Cyan);
pub(super) const OUTWARD: Style = Style::new().fg(Color::Green);
pub(super) const BAD: Style = Style::new().fg(Color::Red);
pub(super) const HEADING: Style = Style::new().add_modifier(Modifier::REVERSED);
