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

/// Writes a page for the program, and one for each of its commands.
fn manual(directory: &Path, command: Command, title: &str, section: &str) -> io::Result<()> {
    let command = command.version(env!("CARGO_PKG_VERSION"));
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        let title = format!("{title}-{}", part.get_name());
        manual(directory, part.clone(), &title, section)?;
    }
    // Names are borrowed for as long as the program runs, of which this is the end.
    let name: &'static str = Box::leak(title.to_owned().into_boxed_str());
    let after_help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let has_commands = command.get_subcommands().any(|part| !part.is_hide_set());
    let page = clap_mangen::Man::new(command.name(name).display_name(name))
        .title(title.to_uppercase())
        .section(section)
        // No date: the same sources make the same bytes.
        .date("")
        .source(concat!("onward ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if has_commands {
        page.render_subcommands_section(&mut text)?;
    }
    for (heading, body) in sections(&after_help).chain(more_sections(name)) {
        text.extend(section_text(&heading, &body).into_bytes());
    }
    page.render_version_section(&mut text)?;
    write(&directory.join(format!("{title}.{section}")), &text)
}

/// Sections that only the manual page of a program has.
fn more_sections(page: &str) -> impl Iterator<Item = (String, String)> {
    let sections: &[(&str, &str)] = match page {
        "onward" => &ONWARD_SECTIONS,
        "loadgen" => &[("SEE ALSO", "loadgen-run(1), loadgen-upstream(1), onward(8)")],
        _ if page.starts_with("onward") => &[("SEE ALSO", "onward(8)")],
        _ => &[("SEE ALSO", "loadgen(1)")],
    };
    sections.iter().map(|(heading, body)| ((*heading).to_owned(), (*body).to_owned()))
}

const ONWARD_SECTIONS: [(&str, &str); 3] = [
    (
        "SIGNALS",
        "  SIGTERM, SIGINT  stop; outstanding queries are finished\n  \
         SIGHUP, SIGUSR1  reload the Corefile without losing a query\n  \
         SIGUSR2          upgrade to the binary on disk without losing a query",
    ),
    (
        "FILES",
        "  /etc/onward/Corefile                  configuration of the systemd unit\n  \
         /usr/share/doc/onward/COREFILE.md.gz  all directives of the Corefile\n  \
         /usr/share/doc/onward/LOG.md.gz       all log lines, with what to do\n  \
         /usr/share/onward/                    settings for the host, alert rules, dashboard",
    ),
    ("SEE ALSO", "onward-check(8), onward-doctor(8), onward-top(8), loadgen(1), systemd.unit(5)"),
];

/// Splits a text that follows the options in `--help` at its headings, such as `Examples:`.
fn sections(help: &str) -> impl Iterator<Item = (String, String)> {
    let mut sections = vec![("NOTES".to_owned(), String::new())];
    for line in help.lines() {
        match line.strip_suffix(':') {
            Some(heading) if !line.starts_with(' ') && heading.split(' ').count() <= 2 => {
                let heading = heading.to_uppercase().replace("EXIT CODES", "EXIT STATUS");
                sections.push((heading, String::new()));
            }
            _ => {
                // A paragraph at the margin behind indented lines is no part of their section.
                let is_note = !line.is_empty() && !line.starts_with(' ');
                let at = if is_note { 0 } else { sections.len() - 1 };
                let body = &mut sections[at].1;
                body.push_str(line);
                body.push('\n');
            }
        }
    }
    // Notes come last, as in most manual pages.
    sections.rotate_left(1);
    sections.into_iter().filter(|(_, body)| !body.trim().is_empty())
}

/// A section with its lines as they are.
fn section_text(heading: &str, body: &str) -> String {
    let mut text = format!(".SH \"{heading}\"\n.nf\n");
    for line in body.trim_matches('\n').lines() {
        // `\&` keeps a dot or quote at the start of a line from being a request.
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        text.push_str(&format!("{guard}{escaped}\n"));
    }
    text.push_str(".fi\n");
    text
}

fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("it has a directory"))?;
    fs::write(path, text)
}
