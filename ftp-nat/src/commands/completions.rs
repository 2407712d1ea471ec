//! `ftp-nat completions`: what a shell needs to complete our commands, options and values.

use clap::CommandFactory as _;

use crate::{
    cli::{Cli, CompletionsArgs},
    output::{failure::Failure, print::print},
};

/// Prints the script for one shell.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "ftp-nat", &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_s_script_has_every_command() {
        for shell in clap_complete::Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "ftp-nat", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command()
                .get_subcommands()
                .filter(|it| !it.is_hide_set())
            {
                let name = command.get_name();
                assert!(script.contains(name), "{shell}: no {name}");
            }
        }
    }

    use clap::ValueEnum as _;
}
