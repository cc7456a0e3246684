// SPDX-License-Identifier: GPL-2.0

//! Finds the CPU that all hosts of a fleet can give to their VMs, so that VMs can move between
//! hosts whose CPUs differ.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

mod diff;
mod dump;
mod errata;
mod host;
#[cfg(target_arch = "aarch64")]
mod kvm;
mod merge;
mod output;
mod registers;
#[cfg(test)]
mod tests;
mod text;
mod words;

use host::{Fleet, Host, FORMAT};
use merge::{Baseline, Policy};
use output::Format;
use text::Text;

/// Why a command has failed: one line.
#[derive(Debug, PartialEq)]
pub struct Error(pub String);

/// Finds the CPU that all hosts of a fleet can give to their VMs.
///
/// A VM can move between hosts only if it has a CPU that all of them can offer. "probe" asks KVM on
/// each host what it can give to VMs; "merge" finds what all have in common, and writes it for the
/// kernel (kvm.baseline=), for VMMs, or as a report; "check" tells on a host whether it accepts the
/// result.
#[derive(Parser)]
#[command(version, name = "baseline")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Asks KVM on this host what it can give to VMs.
    ///
    /// Tries every value of every field of the ID registers in scratch VMs. Needs Linux 6.7 or
    /// later, and a user that may open /dev/kvm. Takes up to a minute.
    Probe {
        /// The name of the host in the result, if not its hostname.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        out: Out,
    },
    /// Finds the CPU that all these hosts can give to VMs.
    ///
    /// Each field gets the default of a host which all others accept; if there is none, the best
    /// value that all accept.
    Merge(Merge),
    /// Tells whether this host accepts a merged CPU, or the text for the kernel.
    ///
    /// Gives the CPU to a scratch VM, runs the VM, and names the first field that KVM refuses. Run
    /// this before the VMM's daemon starts.
    Check {
        /// The output of "merge", as JSON or for the kernel.
        file: PathBuf,
        /// Also checks that VMs have the CPU without their VMM's help, as with kvm.baseline=.
        #[arg(long)]
        applied: bool,
    },
    /// Compares two hosts, fleets or texts for the kernel, and prints the differences.
    ///
    /// Exits with 1 if they differ. A field that only one of them names may be of a newer kernel.
    Diff {
        /// A file of this program, or a text for the kernel.
        a: PathBuf,
        /// Another such file or text.
        b: PathBuf,
    },
    /// Prints what hosts have, a field a line: KVM's identifier and the bits, the name, the value,
    /// and all values that KVM accepts.
    Show {
        /// What "probe", "dump" or "merge --format json" has written.
        file: PathBuf,
    },
    /// Describes a host that is not at hand, from a dump of its ID registers.
    ///
    /// Reads what Firecracker's cpu-template-helper writes, or lines with a register and its value.
    /// What KVM accepts there is derived from that kernel's masks: run "check" on the host later.
    Dump(Dump),
    /// Writes the manual pages.
    #[command(hide = true)]
    Man { directory: PathBuf },
}

#[derive(clap::Args)]
struct Merge {
    /// Files that "probe", "dump" or "merge --format json" has written.
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<PathBuf>,
    /// What to write. The other options do not change JSON, from which all else is computed.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Chooses a CPU even if guests then do not know of errata of other hosts.
    #[arg(long)]
    accept_errata: bool,
    /// Names only fields in which the hosts differ, for a short command line of the kernel: enough
    /// for these hosts, and not for another one that joins them.
    #[arg(long)]
    fewest: bool,
    #[command(flatten)]
    out: Out,
}

#[derive(clap::Args)]
struct Dump {
    /// The dump.
    file: PathBuf,
    /// The name of the host.
    #[arg(long)]
    name: String,
    /// A host with the same kernel that was probed.
    #[arg(long, value_name = "HOST")]
    like: PathBuf,
    #[command(flatten)]
    out: Out,
}

#[derive(clap::Args)]
struct Out {
    /// The file to write; the standard output if not given.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Out {
    /// Writes the whole text, or nothing. Writes directly to a file that is not a regular one.
    fn write(&self, text: &str) -> Result<(), Error> {
        let Some(path) = &self.output else {
            return print(text);
        };
        let wrong = |error| Error(format!("{}: {error}", path.display()));
        if fs::metadata(path).is_ok_and(|what| !what.is_file()) {
            return fs::write(path, text).map_err(wrong);
        }
        // A link stays, and what it leads to is written.
        let path = &fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let mut part = path.clone().into_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let mut new = fs::OpenOptions::new();
        new.write(true)
            .create_new(true)
            .open(&part)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&part, path))
            .map_err(|error| {
                let _ = fs::remove_file(&part);
                wrong(error)
            })
    }
}

/// Writes to the standard output. A closed pipe is not an error.
fn print(text: &str) -> Result<(), Error> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error(format!("the standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<(String, String), Error> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| Error(format!("{name}: {error}")))?;
    Ok((name, text))
}

fn fleet(paths: &[PathBuf]) -> Result<Fleet, Error> {
    let files = paths.iter().map(|path| {
        let (name, text) = read(path)?;
        let fleet = Fleet::parse(&name, &text)?;
        Ok((name, fleet))
    });
    Fleet::join(files.collect::<Result<_, Error>>()?)
}

fn merged(fleet: &Fleet, policy: Policy) -> Result<Baseline, Error> {
    merge::merge(fleet, policy)
        .map_err(|reasons| Error(format!("no common CPU: {}", reasons.join("; "))))
}

fn one(host: Host) -> Result<String, Error> {
    host.check()?;
    let hosts = vec![host];
    let format = FORMAT;
    Ok(Fleet { format, hosts }.write())
}

#[cfg(target_arch = "aarch64")]
fn probe(name: Option<String>) -> Result<Host, Error> {
    kvm::probe(name)
}

#[cfg(target_arch = "aarch64")]
fn check(text: &Text) -> Result<(), Error> {
    kvm::check(text)
}

#[cfg(target_arch = "aarch64")]
fn check_applied(text: &Text) -> Result<(), Error> {
    kvm::applied(text)
}

#[cfg(not(target_arch = "aarch64"))]
fn probe(_: Option<String>) -> Result<Host, Error> {
    Err(Error("probe asks KVM on arm64: run it on the host".into()))
}

#[cfg(not(target_arch = "aarch64"))]
fn check(_: &Text) -> Result<(), Error> {
    Err(Error("check asks KVM on arm64: run it on the host".into()))
}

#[cfg(not(target_arch = "aarch64"))]
fn check_applied(text: &Text) -> Result<(), Error> {
    check(text)
}

impl Merge {
    /// Writes the CPU that the hosts have in common.
    fn run(&self) -> Result<(), Error> {
        let fleet = fleet(&self.hosts)?;
        let policy = Policy {
            // JSON keeps all hosts: others that are merged later may have the CPU to choose.
            accept_errata: self.accept_errata || self.format == Format::Json,
            plain: self.format == Format::Firecracker,
        };
        let baseline = merged(&fleet, policy)?;
        for note in self.notes(&fleet, &baseline) {
            eprintln!("baseline: note: {note}");
        }
        let text = output::write(&fleet, &baseline, self.format, self.fewest);
        self.out.write(&text)
    }

    /// Returns what the user has to know beside what is written.
    fn notes(&self, fleet: &Fleet, baseline: &Baseline) -> Vec<String> {
        // Reports have the notes in them.
        let is_report = [Format::Markdown, Format::Html].contains(&self.format);
        let notes = baseline.notes.iter().filter(|_| !is_report);
        let of_format = match self.format {
            Format::Kernel => too_long(&Text::of(baseline, fleet, self.fewest).write()),
            Format::Firecracker => left_alone(fleet),
            _ => None,
        };
        notes.cloned().chain(of_format).collect()
    }
}

/// Returns a note if a text for the kernel takes much of a command line.
fn too_long(text: &str) -> Option<String> {
    (text.len() > text::COMMAND_LINE / 2).then(|| {
        format!(
            "{} bytes; a command line has {} for all parameters: \
             use --fewest there, or /sys/module/kvm/parameters/baseline",
            text.len(),
            text::COMMAND_LINE
        )
    })
}

/// Returns a note if hosts differ in what a template of Firecracker does not set.
fn left_alone(fleet: &Fleet) -> Option<String> {
    let who: HashSet<_> = fleet.hosts.iter().map(|host| host.implementation).collect();
    let note = "MIDR_EL1, REVIDR_EL1 and AIDR_EL1 differ, and are left as they are";
    (who.len() > 1).then(|| note.into())
}

/// Returns the text for the kernel that a file has, or that of the hosts in it.
fn text_of(file: &Path) -> Result<Text, Error> {
    let (name, content) = read(file)?;
    if !content.trim_start().starts_with('{') {
        return Text::parse(&name, &content);
    }
    let fleet = Fleet::parse(&name, &content)?;
    let policy = Policy {
        accept_errata: true,
        ..Policy::default()
    };
    Ok(Text::of(&merged(&fleet, policy)?, &fleet, false))
}

/// Checks that this host accepts what a file says, and with `applied` that VMs have it.
fn check_file(file: &Path, applied: bool) -> Result<(), Error> {
    let text = text_of(file)?;
    check(&text)?;
    if !applied {
        return print("This host accepts it.\n");
    }
    check_applied(&text)?;
    print("VMs of this host have it.\n")
}

/// Prints in what two files differ. Returns the program's exit status.
fn print_differences(files: [PathBuf; 2]) -> Result<ExitCode, Error> {
    let [a, b] = files.map(|path| {
        let (name, text) = read(&path)?;
        diff::Side::read(&name, &text)
    });
    let lines = diff::lines(&a?, &b?);
    for line in &lines {
        print(&format!("{line}\n"))?;
    }
    Ok(match lines[..] {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn show(file: PathBuf) -> Result<(), Error> {
    for host in &fleet(&[file])?.hosts {
        print(&output::fields(host))?;
    }
    Ok(())
}

impl Dump {
    /// Writes the host that the dump describes.
    fn run(&self) -> Result<(), Error> {
        let (path, text) = read(&self.file)?;
        let registers = dump::read(&path, &text)?;
        let known = fleet(std::slice::from_ref(&self.like))?;
        let [like] = &known.hosts[..] else {
            return Err(Error("--like takes the file of one host".into()));
        };
        let host = dump::derive(&self.name, registers, like);
        self.out.write(&one(host)?)
    }
}

fn man(directory: &Path) -> Result<(), Error> {
    clap_mangen::generate_to(Args::command(), directory)
        .map_err(|error| Error(format!("{}: {error}", directory.display())))
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Probe { name, out } => out.write(&one(probe(name)?)?)?,
        Command::Merge(merge) => merge.run()?,
        Command::Check { file, applied } => check_file(&file, applied)?,
        Command::Diff { a, b } => return print_differences([a, b]),
        Command::Show { file } => show(file)?,
        Command::Dump(dump) => dump.run()?,
        Command::Man { directory } => man(&directory)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(Error(what)) => {
            eprintln!("baseline: {what}");
            ExitCode::FAILURE
        }
    }
}
