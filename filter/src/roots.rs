//! Configs by root context. Envoy runs plugins of equal code in one VM, and an updated plugin beside its predecessor
//! while that one's streams end, so one VM may hold several configs.

/// Values by root context, and which root the stream at hand belongs to.
#[derive(Debug)]
pub(crate) struct Roots<T> {
    roots: Vec<(u32, T)>,
    /// The youngest stream and its root. Envoy creates a stream's context immediately before it passes on the headers,
    /// so one place is enough, and none has to be cleared.
    stream: (u32, u32),
}

impl<T> Default for Roots<T> {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            stream: (0, 0),
        }
    }
}

impl<T> Roots<T> {
    /// Notes a stream.
    pub(crate) fn open(&mut self, stream: u32, root: u32) {
        self.stream = (stream, root);
    }

    /// Sets a root's value.
    pub(crate) fn put(&mut self, root: u32, value: T) {
        self.roots.retain(|(id, _)| *id != root);
        self.roots.push((root, value));
    }

    /// Keeps only the roots that are still there.
    pub(crate) fn retain(&mut self, mut alive: impl FnMut(u32) -> bool) {
        self.roots.retain(|(id, _)| alive(*id));
    }

    /// The value for a stream.
    pub(crate) fn of(&self, stream: u32) -> Option<&T> {
        let (youngest, root) = self.stream;
        if youngest != stream {
            return None;
        }
        self.roots
            .iter()
            .find(|(id, _)| *id == root)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_sees_its_own_root() {
        let mut roots = Roots::default();
        roots.put(1, "old");
        roots.put(2, "new");
        roots.open(10, 1);
        assert_eq!(roots.of(10), Some(&"old"));
        assert_eq!(roots.of(11), None, "not opened");
        roots.open(11, 2);
        assert_eq!(roots.of(11), Some(&"new"));
        roots.retain(|root| root == 1);
        assert_eq!(roots.of(11), None, "its root is gone");
        roots.open(12, 1);
        roots.put(1, "newer");
        assert_eq!(roots.of(12), Some(&"newer"));
    }
}
