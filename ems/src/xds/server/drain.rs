//! Sending everybody away.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::{Instant, sleep};

use super::Server;
use crate::xds::drain::moment;

/// How often it is looked whose moment has come.
const STEP: Duration = Duration::from_millis(10);

impl Server {
    /// Lets no stream in any more and ends those that are there, spread over some time, so that their clients do not
    /// all come back somewhere else at once. Clients see `UNAVAILABLE` and reconnect.
    pub async fn drain(&self, over: Duration) {
        self.draining.store(true, Ordering::Release);
        let begin = Instant::now();
        let mut until = Duration::ZERO;
        while until < over && self.streams() > 0 {
            let from = until;
            until = begin.elapsed();
            self.hub
                .close(|stream| (from..until).contains(&moment(stream, over)));
            sleep(STEP).await;
        }
        // Those that came in just before the door was closed.
        self.hub.close(|_| true);
    }

    /// Whether streams are being sent away, and none let in.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}
