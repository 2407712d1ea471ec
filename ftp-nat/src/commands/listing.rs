//! What the commands that list things have in common: as JSON, as a table, or only counted.

use serde::Serialize;

use crate::{
    cli::Form,
    output::{
        columns::{Columns, Side},
        failure::Failure,
        print::{print, print_json},
    },
};

/// How things of one kind are listed.
pub(super) struct Listing<'l, T, Row: Serialize> {
    /// The table's headings.
    pub headings: &'l [(&'static str, Side)],
    /// A thing's line in the table.
    pub cells: &'l dyn Fn(&T) -> Vec<String>,
    /// A thing, for JSON.
    pub row: &'l dyn Fn(&T) -> Row,
    /// What is said where there is none.
    pub none: &'l str,
}

impl<T, Row: Serialize> Listing<'_, T, Row> {
    /// Prints them in the form that is asked for.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(super) fn print(&self, form: &Form, things: &[T]) -> Result<(), Failure> {
        if form.count {
            print(&format!("{}\n", things.len()))?;
        } else if form.json {
            print_json(&things.iter().map(self.row).collect::<Vec<_>>())?;
        } else if things.is_empty() {
            print(&format!("{}\n", self.none))?;
        } else {
            let mut columns = Columns::new(self.headings);
            for thing in things {
                columns.row((self.cells)(thing));
            }
            print(&columns.text())?;
        }
        Ok(())
    }
}
