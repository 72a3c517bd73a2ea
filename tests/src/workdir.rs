//! A folder for one test's or one demo's files: bootstraps, data, logs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};

use crate::{artifact, process};

/// A folder that goes when its last owner does. A failing test keeps it, and so does the variable `ISTHMUS_KEEP`.
#[derive(Clone, Debug)]
pub struct WorkDir(Arc<Owned>);

#[derive(Debug)]
struct Owned(PathBuf);

static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

impl WorkDir {
    /// Makes `target/run/<label>-<pid>-<n>`.
    pub fn new(label: &str) -> Result<WorkDir> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = artifact::target_dir()?
            .join("run")
            .join(format!("{label}-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        process::at_exit();
        live().push(path.clone());
        Ok(WorkDir(Arc::new(Owned(path))))
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.0.0
    }

    /// Writes a file in it and returns its path.
    pub fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        live().retain(|path| *path != self.0);
        if thread::panicking() {
            eprintln!("files are kept in {}", self.0.display());
        } else {
            remove(&self.0);
        }
    }
}

fn live() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove(path: &Path) {
    if env::var_os("ISTHMUS_KEEP").is_none() {
        // Nothing depends on it any more, so a failure to remove it is not worth a word.
        let _ = fs::remove_dir_all(path);
    }
}

/// Removes what statics still own when the program ends.
pub(crate) fn remove_all() {
    if let Ok(live) = LIVE.try_lock() {
        live.iter().for_each(|path| remove(path));
    }
}
