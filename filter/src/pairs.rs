//! Header maps as the host serializes them: a count, then the lengths of each name and value, then the texts, each
//! followed by a zero byte. All numbers are 32 bits, little end first.
//!
//! Reading never panics and never looks past the end, whatever the bytes are.

/// A header: name and value.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

const NUMBER: usize = 4;

/// The pairs in some bytes. Ends early where the bytes do not add up; ask [`Pairs::is_broken`] afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Pairs<'a> {
    lengths: &'a [u8],
    texts: &'a [u8],
    broken: bool,
}

impl<'a> Pairs<'a> {
    /// Reads the count and finds the two parts. No bytes at all are no pairs.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::split(bytes).unwrap_or(Self {
            lengths: &[],
            texts: &[],
            broken: !bytes.is_empty(),
        })
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = read_number(bytes)?;
        let (lengths, texts) = rest.split_at_checked(count.checked_mul(2 * NUMBER)?)?;
        Some(Self {
            lengths,
            texts,
            broken: false,
        })
    }

    /// Whether the bytes did not add up. A request whose headers were seen only in part must not be routed.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    fn read(&mut self) -> Option<Pair<'a>> {
        let (name_size, rest) = read_number(self.lengths)?;
        let (value_size, lengths) = read_number(rest)?;
        let (name, texts) = read_text(self.texts, name_size)?;
        let (value, texts) = read_text(texts, value_size)?;
        self.lengths = lengths;
        self.texts = texts;
        Some((name, value))
    }
}

impl<'a> Iterator for Pairs<'a> {
    type Item = Pair<'a>;

    fn next(&mut self) -> Option<Pair<'a>> {
        if self.lengths.is_empty() {
            return None;
        }
        let pair = self.read();
        if pair.is_none() {
            self.lengths = &[];
            self.broken = true;
        }
        pair
    }
}

fn read_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<NUMBER>()?;
    Some((usize::try_from(u32::from_le_bytes(*number)).ok()?, rest))
}

/// A text and what follows its zero byte.
fn read_text(bytes: &[u8], size: usize) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(size)?;
    let (&zero, rest) = rest.split_first()?;
    (zero == 0).then_some((text, rest))
}

/// Writes pairs the way the host reads them.
pub(crate) fn write(pairs: &[(&str, &str)]) -> Vec<u8> {
    let texts: usize = pairs
        .iter()
        .map(|(name, value)| name.len() + value.len() + 2)
        .sum();
    let mut bytes = Vec::with_capacity(NUMBER + pairs.len() * 2 * NUMBER + texts);
    // A refusal has three headers or four, and none is near 4 GiB.
    let put_number =
        |n: usize, bytes: &mut Vec<u8>| bytes.extend(u32::try_from(n).unwrap_or(0).to_le_bytes());
    put_number(pairs.len(), &mut bytes);
    for (name, value) in pairs {
        put_number(name.len(), &mut bytes);
        put_number(value.len(), &mut bytes);
    }
    for (name, value) in pairs {
        for text in [name, value] {
            bytes.extend(text.as_bytes());
            bytes.push(0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests;
