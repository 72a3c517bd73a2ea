//! Ctrl-C of the demo, by the command that people run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::{fs, path::Path, process::Command, time::Duration};

use isthmus_tests::{Process, WorkDir, within};
use signal_hook::consts::SIGINT;

/// It may have to build first.
const UP_WITHIN: Duration = Duration::from_secs(600);

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let dir = WorkDir::new("demo").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("demo");
    let mut demo = Process::start("demo", &dir, command).unwrap();
    within(UP_WITHIN, "the demo to be up", || {
        demo.check_running()?;
        let up = demo.log_text().contains("Ctrl-C stops everything");
        anyhow::ensure!(up, "{}", demo.log_tail());
        Ok(())
    })
    .unwrap();
    let children = children(demo.id());
    let folders = folders(dir.path().parent().unwrap(), demo.id());
    // Two regions of an EMS, a gateway, a host Envoy and two databases, and a sidecar.
    assert_eq!((children.len(), folders.len()), (11, 2), "{folders:?}");

    demo.signal(SIGINT).unwrap();
    let status = demo.wait_end(Duration::from_secs(60)).unwrap();
    assert!(status.success(), "{status}");
    let left: Vec<_> = children.iter().filter(|id| runs(id)).collect();
    assert!(left.is_empty(), "{left:?} of {children:?} still run");
    let left: Vec<_> = folders.iter().filter(|folder| folder.exists()).collect();
    assert!(left.is_empty(), "{left:?} are still there");
}

/// The processes that any thread of a process started.
fn children(parent: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let lists = threads.map(|thread| {
        let list = thread.unwrap().path().join("children");
        fs::read_to_string(list).unwrap_or_default()
    });
    let lists: Vec<String> = lists.collect();
    let ids = lists.iter().flat_map(|list| list.split_whitespace());
    ids.map(str::to_owned).collect()
}

fn runs(id: &str) -> bool {
    Path::new("/proc").join(id).exists()
}

/// The work folders of a process, which have its id in their names.
fn folders(all: &Path, owner: u32) -> Vec<std::path::PathBuf> {
    let owner = format!("-{owner}-");
    let entries = fs::read_dir(all).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains(&owner))
        .collect()
}
