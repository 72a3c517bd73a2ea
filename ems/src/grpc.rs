//! gRPC over HTTP/2, for services that hand their bytes straight to the HTTP server: tonic's encoder would copy them.

pub(crate) mod http;

/// Bytes before a message: whether it is compressed, and its length.
pub(crate) const PREFIX: usize = 5;

/// What goes before a message of this many bytes, which is not compressed. No message of EMS comes near 4 GiB.
pub(crate) fn prefix(len: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        for (len, expected) in [
            (0, [0, 0, 0, 0, 0]),
            (258, [0, 0, 0, 1, 2]),
            (0x0102_0304, [0, 1, 2, 3, 4]),
            (usize::MAX, [0, 255, 255, 255, 255]),
        ] {
            assert_eq!(prefix(len), expected, "{len}");
        }
    }
}
