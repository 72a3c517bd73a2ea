//! Configs by root context. Envoy runs plugins of equal code in one VM, and an updated plugin beside its predecessor
//! while that one's streams end, so one VM may hold several configs.
//!
//! Whose a stream is Envoy would tell when it makes the stream's context, which is one more call into the VM for every
//! request. Nearly always there is one config and nothing to tell apart, so it is asked where there are several.

/// Values by root context.
#[derive(Debug)]
pub(crate) struct Roots<T> {
    roots: Vec<(u32, T)>,
}

impl<T> Default for Roots<T> {
    fn default() -> Self {
        Self { roots: Vec::new() }
    }
}

impl<T> Roots<T> {
    /// Sets a root's value.
    pub(crate) fn put(&mut self, root: u32, value: T) {
        self.roots.retain(|(id, _)| *id != root);
        self.roots.push((root, value));
    }

    /// Whether this root has a value.
    pub(crate) fn has(&self, root: u32) -> bool {
        self.roots.iter().any(|(id, _)| *id == root)
    }

    /// Whether there are several.
    pub(crate) fn are_several(&self) -> bool {
        self.roots.len() > 1
    }

    /// Keeps only the roots that are still there. A root that is there must be kept: the only one is taken for every
    /// stream's.
    pub(crate) fn retain(&mut self, mut alive: impl FnMut(u32) -> bool) {
        self.roots.retain(|(id, _)| alive(*id));
    }

    /// The value for a stream. `ask` says which root the stream is of; it is called only where there are several.
    pub(crate) fn of_stream(&self, ask: impl FnOnce() -> Option<u32>) -> Option<&T> {
        match self.roots.as_slice() {
            [] => None,
            [(_, only)] => Some(only),
            several => {
                let root = ask()?;
                several
                    .iter()
                    .find(|(id, _)| *id == root)
                    .map(|(_, value)| value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_sees_its_own_root() {
        let mut roots = Roots::default();
        assert_eq!(roots.of_stream(|| Some(1)), None, "none yet");
        roots.put(1, "old");
        let nobody = || panic!("asked for nothing");
        assert_eq!(roots.of_stream(nobody), Some(&"old"));
        assert!(roots.has(1) && !roots.has(2));
        roots.put(2, "new");
        assert!(roots.are_several());
        assert_eq!(roots.of_stream(|| Some(1)), Some(&"old"));
        assert_eq!(roots.of_stream(|| Some(2)), Some(&"new"));
        assert_eq!(roots.of_stream(|| Some(3)), None, "never configured");
        assert_eq!(roots.of_stream(|| None), None, "nobody can tell");
        roots.put(2, "newer");
        assert_eq!(roots.of_stream(|| Some(2)), Some(&"newer"));
        roots.retain(|root| root != 1);
        assert!(!roots.are_several());
        assert_eq!(roots.of_stream(nobody), Some(&"newer"));
    }
}
