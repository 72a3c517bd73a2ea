//! Envoy's counters of limits, and the list of those that have any in the data that Envoy's VMs of one id share.

use crate::{
    abi::{self, Level},
    budgets::CREATE,
    counts::limits::{Counters, MOST},
};

/// No budget is kept under this name: theirs begin otherwise.
const LIST: &[u8] = b"ist1names";

/// The counters of this Envoy.
pub(crate) struct EnvoyCounters;

impl Counters for EnvoyCounters {
    fn define(&mut self, name: &str) -> Option<u32> {
        abi::define_counter(name).ok()
    }

    fn list(&mut self) -> Option<(Vec<u8>, u32)> {
        let list = abi::shared_data(LIST).ok()?;
        Some(list.unwrap_or((Vec::new(), CREATE)))
    }

    fn replace_list(&mut self, list: &[u8], version: u32) -> Option<bool> {
        abi::set_shared_data(LIST, list, version).ok()
    }

    fn full(&mut self) {
        let text = format!(
            "isthmus: {MOST} rate limits have counters of their own, which is the most there can be: all that meet their \
             first request from now on are counted together, as service=\"other\",limit=\"other\", until Envoy is restarted"
        );
        abi::log(Level::Warning, &text);
    }
}
