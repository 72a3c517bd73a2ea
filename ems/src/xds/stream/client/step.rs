//! What may happen to a stream, for the model client.

/// What comes with a change of the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Nothing.
    Nothing,
    /// The acceptance of the response in flight.
    Ack,
    /// Its rejection.
    Nack,
    /// Its rejection by words that name the first thing that is new in it, if there is one and nothing has a TTL. A list of
    /// clusters or listeners is Envoy's own, which takes the rest.
    Blame,
    /// The nonce of a response that is answered already, or was never sent.
    Stale(u64),
}

/// What may happen to a stream.
#[derive(Clone, Debug)]
pub enum Step {
    /// The client subscribes to and unsubscribes from names of a type.
    Ask(usize, Vec<u8>, Vec<u8>, With),
    /// Resources (type, name, version) are set or removed at once.
    Write(Vec<(usize, u8, u8)>),
    /// The client answers the response in flight of a type.
    Answer(usize, With),
    /// A write whose news do not come through, only that there were some.
    Lost(usize, u8, u8),
    /// Names come and go that nobody knows by name.
    Churn(usize, u8),
    /// The client asks for a type that nobody serves.
    Foreign(u8),
    /// Some seconds pass.
    Wait(u8),
    /// The client comes back on a new stream.
    Reconnect,
    /// So many of the things that happen next are heard before anything is said.
    Hold(u8),
}
