//! Holds the tree to what ARCHITECTURE.md and CONTRIBUTING.md promise, so that nobody has to look for it in a review.
//!
//! Each rule is one test that lists every offender. Only files that git knows (or would add) are looked at.

#![allow(clippy::expect_used, clippy::panic)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Cores: functions of values, which know of no I/O, clock, randomness or environment. A name ending in `/` is a
/// folder; tests beside a core may use what they like.
const PURE: &[&str] = &[
    "ems/src/bootstrap.rs",
    "ems/src/cli/diff.rs",
    "ems/src/cli/document.rs",
    "ems/src/cli/table.rs",
    "ems/src/explain.rs",
    "ems/src/explain/",
    "ems/src/identity/wallet.rs",
    "ems/src/lease.rs",
    "ems/src/lease/",
    "ems/src/ratelimit.rs",
    "ems/src/ratelimit/",
    "ems/src/record.rs",
    "ems/src/record/",
    "ems/src/registry.rs",
    "ems/src/registry/",
    "ems/src/resources.rs",
    "ems/src/resources/",
    "ems/src/xds.rs",
    "ems/src/xds/",
    "model/src/",
];

/// What lies among the cores and is a shell all the same.
const SHELLS: &[&str] = &[
    "ems/src/lease/server.rs",
    "ems/src/ratelimit/front.rs",
    "ems/src/ratelimit/redis.rs",
    "ems/src/ratelimit/report.rs",
    "ems/src/ratelimit/server.rs",
    "ems/src/xds/server.rs",
    "ems/src/xds/server/",
];

const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "proxy_wasm",
    "std::env",
    "std::fs",
    "std::net::Tcp",
    "Instant::now",
    "SystemTime::now",
    "rand::",
    "getrandom",
];

const MOST_LINES: usize = 600;

const MOST_LINES_OF_THE_MAP: usize = 150;

#[test]
fn every_module_says_what_it_is_for() {
    let offenders = rust_files().filter(|file| {
        let text = read(file);
        let first = text
            .lines()
            .find(|line| !line.trim().is_empty() && !line.starts_with("#!"))
            .unwrap_or_default();
        !first.starts_with("//!")
    });
    expect_none("without //! at the top", offenders);
}

#[test]
fn cores_are_pure() {
    let mut offenders = Vec::new();
    for file in
        rust_files().filter(|file| is_in(file, PURE) && !is_in(file, SHELLS) && !is_test(file))
    {
        for (number, line) in code(&read(&file)) {
            for word in IMPURE.iter().filter(|word| names(line, word)) {
                offenders.push(format!("{file}:{number}: {word}"));
            }
        }
    }
    expect_none("in a pure module", offenders);
}

#[test]
fn only_the_filter_knows_the_wasm_host() {
    let others =
        rust_files().filter(|file| !is_in(file, &["filter/", "bench/", "xtask/tests/tidy.rs"]));
    let offenders =
        others.filter(|file| code(&read(file)).any(|(_, line)| names(line, "proxy_wasm")));
    expect_none("naming proxy_wasm outside filter/ and bench/", offenders);
}

/// It has type URLs, names, versions and bytes, and is told how much time passed.
#[test]
fn the_xds_engine_knows_no_services_and_no_clock() {
    let engine = &["ems/src/xds.rs", "ems/src/xds/"];
    let foreign = [
        "isthmus_model",
        "isthmus_proto",
        "crate::record",
        "crate::registry",
        "crate::resources",
    ];
    let mut offenders = Vec::new();
    for file in rust_files().filter(|file| is_in(file, engine)) {
        let is_core = !is_in(&file, SHELLS) && !is_test(&file);
        let clocks: &[&str] = if is_core {
            &["Instant", "SystemTime"]
        } else {
            &[]
        };
        for (number, line) in code(&read(&file)) {
            let words = foreign.iter().chain(clocks);
            for word in words.filter(|word| names(line, word)) {
                offenders.push(format!("{file}:{number}: {word}"));
            }
        }
    }
    expect_none("in the xDS engine", offenders);
}

#[test]
fn no_file_is_too_long() {
    let sources = files()
        .filter(|file| has_extension(file, &["rs", "md", "py", "proto", "yaml", "yml", "toml"]));
    let offenders = sources.filter_map(|file| {
        let lines = read(&file).lines().count();
        (lines > MOST_LINES).then(|| format!("{file}: {lines} lines"))
    });
    expect_none("over 600 lines: split by idea", offenders);
}

#[test]
fn modules_lie_beside_their_folder() {
    let offenders = rust_files().filter(|file| {
        let name = Path::new(file)
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        ["mod.rs", "utils.rs", "util.rs", "misc.rs"].contains(&name)
    });
    expect_none("named mod.rs, or for nothing in particular", offenders);
}

#[test]
fn the_map_is_short_and_true() {
    let map = read("ARCHITECTURE.md");
    let lines = map.lines().count();
    assert!(
        lines <= MOST_LINES_OF_THE_MAP,
        "ARCHITECTURE.md has {lines} lines, at most {MOST_LINES_OF_THE_MAP}"
    );
    let missing = paths_in(&map)
        .into_iter()
        .filter(|path| !root().join(path).exists());
    expect_none("named in ARCHITECTURE.md and not there", missing);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut offenders = Vec::new();
    for file in files().filter(|file| has_extension(file, &["md"])) {
        let folder = root()
            .join(&file)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for target in links(&read(&file)) {
            if !folder.join(&target).exists() {
                offenders.push(format!("{file}: {target}"));
            }
        }
    }
    expect_none("linked to and not there", offenders);
}

/// Where packages come from is a matter of each machine's configuration.
#[test]
fn no_package_registry_is_named() {
    let hosts = [
        concat!("pypi", ".org"),
        concat!("python", "hosted"),
        concat!("index.crates", ".io"),
        concat!("static.crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("arti", "factory"),
        concat!("deb.debian", ".org"),
    ];
    let mut offenders = Vec::new();
    for file in files() {
        let Ok(text) = std::fs::read_to_string(root().join(&file)) else {
            continue;
        };
        offenders.extend(
            hosts
                .iter()
                .filter(|host| text.contains(**host))
                .map(|host| format!("{file}: {host}")),
        );
    }
    expect_none("naming a package registry", offenders);
}

#[test]
fn paths_are_found_in_prose() {
    let text = "`ems/src/xds.rs` (and filter/): see [the page](xtask/api.md), `POST /v1/regions`, x-mesh-service/region, \
                `spiffe://a/b`, `application/grpc`, docs/*.md, std::env, ems/src/none.";
    assert_eq!(
        paths_in(text),
        ["ems/src/xds.rs", "filter/", "xtask/api.md", "ems/src/none"]
    );
}

/// Words that mean a path: with a known ending, or below a folder of ours.
fn paths_in(text: &str) -> Vec<String> {
    let folders: Vec<String> = std::fs::read_dir(root())
        .expect("the clone can be read")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let part_of_path = |c: char| c.is_ascii_alphanumeric() || "-_./*:<{}>".contains(c);
    text.split(|c: char| !part_of_path(c))
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| !word.contains(['*', ':', '<', '{']))
        .filter(|word| match word.split_once('/') {
            Some((first, _)) => folders.iter().any(|folder| folder == first),
            None => {
                has_extension(word, &["rs", "md", "yaml", "yml", "toml", "proto"])
                    && word.contains(|c: char| c != '.')
            }
        })
        .map(str::to_owned)
        .collect()
}

/// Targets of Markdown links that are files.
fn links(text: &str) -> Vec<String> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#', ' ']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .map(str::to_owned)
        .collect()
}

/// Whether the line names the word as a word of its own (`tokio` is not named by `tokio_free`).
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        // `std::net::Tcp` stands for what begins so.
        !before.is_some_and(part_of_name)
            && (word.ends_with("Tcp") || !after.is_some_and(part_of_name))
    })
}

/// Lines that are not comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_in(file: &str, places: &[&str]) -> bool {
    places.iter().any(|place| {
        if place.ends_with('/') {
            file.starts_with(place)
        } else {
            file == *place
        }
    })
}

/// Written by programs.
fn is_generated(file: &str) -> bool {
    file == "Cargo.lock" || file.contains("/generated/")
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/") || file.ends_with("_tests.rs")
}

fn has_extension(file: &str, extensions: &[&str]) -> bool {
    let extension = Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| extensions.contains(&extension))
}

fn rust_files() -> impl Iterator<Item = String> {
    files().filter(|file| has_extension(file, &["rs"]))
}

/// Every file of the project that people write.
fn files() -> impl Iterator<Item = String> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root());
    let output = git.output().expect("git is there");
    assert!(
        output.status.success(),
        "git ls-files: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let list = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let files: Vec<String> = list
        .lines()
        .filter(|file| !is_generated(file))
        .map(str::to_owned)
        .collect();
    assert!(!files.is_empty(), "git knows no files here");
    files.into_iter().filter(|file| root().join(file).is_file())
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the clone")
        .to_path_buf()
}

fn expect_none(what: &str, offenders: impl IntoIterator<Item = String>) {
    let list = offenders
        .into_iter()
        .fold(String::new(), |mut list, offender| {
            let _ = writeln!(list, "  {offender}");
            list
        });
    assert!(list.is_empty(), "{what}:\n{list}");
}
