//! Generates manual pages and shell completions from the command lines that the programs parse.
//!
//! `cargo run -p loadgen --example pages -- DIR` writes man/, bash/, zsh/ and fish/ below DIR. This
//! example is not part of onward or loadgen; only the package build runs it.

use clap::Command;
use clap_complete::Shell;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The programs, and the sections of the manual that they belong to.
fn programs() -> [(&'static str, Command, &'static str); 2] {
    [("onward", onward::command(), "8"), ("loadgen", loadgen::cli::command(), "1")]
}

/// Shells, and what they expect a completion to be called.
fn shells(program: &str) -> [(Shell, &'static str, String); 3] {
    [
        (Shell::Bash, "bash", program.to_owned()),
        (Shell::Zsh, "zsh", format!("_{program}")),
        (Shell::Fish, "fish", format!("{program}.fish")),
    ]
}

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("usage: pages DIRECTORY"))?;
    for (name, command, section) in programs() {
        for (shell, place, file) in shells(name) {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), name, &mut text);
            write(&directory.join(place).join(file), &text)?;
        }
        manual(&directory.join("man"), command.disable_help_subcommand(true), name, section)?;
    }
    Ok(())
}

/// A page for the program, and one for each of its commands.
fn manual(directory: &Path, command: Command, title: &str, section: &str) -> io::Result<()> {
    let command = command.version(env!("CARGO_PKG_VERSION"));
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        let title = format!("{title}-{}", part.get_name());
        manual(directory, part.clone(), &title, section)?;
    }
    // Names are borrowed for as long as the program runs, of which this is the end.
    let name: &'static str = Box::leak(title.to_owned().into_boxed_str());
    let page = clap_mangen::Man::new(command.name(name).display_name(name))
        .title(title.to_uppercase())
        .section(section)
        // No date: the same sources make the same bytes.
        .date("")
        .source(concat!("onward ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    write(&directory.join(format!("{title}.{section}")), &text)
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("it has a directory"))?;
    fs::write(path, text)
}
