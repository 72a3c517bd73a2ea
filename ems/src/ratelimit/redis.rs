//! Windows in a Redis, which several EMS of a region share: the shell around the script that charges them.
//!
//! One script looks at all budgets of a request and charges all or none, at once, so what passes is exact however many ask.
//! Redis keeps the time. A Redis that fails or takes too long makes budgets unknown, and each limit says what then; nobody
//! waits for one that did not answer several times in a row.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    Client, ErrorKind, IntoConnectionInfo, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use isthmus_model::{RegionName, limit::LimitMode};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Claim, State, breaker::Breaker, denied::Denied, window::Window};

/// How long Redis may take: less than Envoy waits for EMS.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Budgets that were found used up and are remembered.
const DENIED: usize = 131_072;

/// Keys are budgets. Arguments: how many requests, and for each key how many pass in a window, its length in milliseconds,
/// and 1 if it refuses what is too much. The answer has for each key what was used before, and how long that still counts
/// where it is too much.
const CHARGE: &str = r"
local hits = tonumber(ARGV[1])
local found, full, refused = {}, {}, false
for i, key in ipairs(KEYS) do
  local used = tonumber(redis.call('GET', key) or 0)
  found[2 * i - 1] = used
  found[2 * i] = 0
  if used + hits > tonumber(ARGV[3 * i - 1]) then
    full[i] = true
    found[2 * i] = redis.call('PTTL', key)
    if ARGV[3 * i + 1] == '1' then refused = true end
  end
end
if not refused then
  for i, key in ipairs(KEYS) do
    if not full[i] and redis.call('INCRBY', key, hits) == hits then
      redis.call('PEXPIRE', key, ARGV[3 * i])
    end
  end
end
return found
";

/// See the module.
pub struct Redis {
    client: Client,
    connection: Mutex<ConnectionManager>,
    script: Script,
    /// What all keys begin with.
    prefix: String,
    breaker: Mutex<Breaker>,
    denied: Denied,
    counts: Counts,
}

/// What became of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// It was answered.
    Answered,
    /// It failed, or took too long.
    Failed,
    /// The breaker did not let it out.
    HeldBack,
    /// It was not needed: the budget is known to be used up.
    Spared,
}

impl Call {
    /// All.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::HeldBack, Self::Spared];

    /// The word that metrics have for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::HeldBack => "held_back",
            Self::Spared => "spared",
        }
    }
}

#[derive(Debug, Default)]
struct Counts([AtomicU64; Call::ALL.len()]);

impl Redis {
    /// The Redis of a URL, for a region: others may have theirs in it as well. It is connected to when it is needed.
    ///
    /// # Errors
    /// The URL makes no sense.
    pub fn new(url: &str, region: &RegionName) -> Result<Self, RedisError> {
        let client = Client::open(url)?;
        Ok(Self {
            connection: Mutex::new(connection(&client)?),
            client,
            script: Script::new(CHARGE),
            prefix: format!("isthmus:{region}"),
            breaker: Mutex::default(),
            denied: Denied::new(DENIED),
            counts: Counts::default(),
        })
    }

    /// Says so if it cannot be reached: a name that is wrong is better known at the start than by what a limit does later.
    pub(crate) async fn greet(&self) {
        let mut connection = self.connection();
        let ping = ::redis::cmd("PING");
        let answer = timeout(TIMEOUT, ping.query_async::<String>(&mut connection)).await;
        let error = match answer {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        warn!(
            error,
            "the Redis of --redis does not answer: until it does, each limit of the region does what its onError says"
        );
    }

    /// Looks at the budgets of all claims, which are of one service, and if none of them is against it charges those that
    /// fit.
    pub(super) async fn charge(
        &self,
        service: &str,
        claims: &mut [Claim<'_>],
        hits: u64,
        now: u64,
    ) {
        let keys = self.keys(service, claims);
        if self.denied.refuse(&keys, claims, hits, now) {
            self.count(Call::Spared);
            return;
        }
        if !self.breaker().lets_out(now) {
            self.count(Call::HeldBack);
            return;
        }
        match self.call(&keys, claims, hits).await {
            Ok(found) => {
                self.count(Call::Answered);
                if self.breaker().succeeded() {
                    info!("Redis answers again: limits of the region are kept");
                }
                take(claims, now, &found);
                self.denied.note(&keys, claims, hits, now);
            }
            Err(error) => {
                self.count(Call::Failed);
                if self.breaker().failed(now) {
                    warn!(%error, "Redis does not answer: each limit of the region does what its onError says");
                }
                if self.is_open() {
                    self.reconnect();
                }
            }
        }
    }

    /// What was used of the budgets of claims, which are of one service. Charges nothing, and is nobody's request: it
    /// counts for nothing.
    pub(super) async fn look(&self, service: &str, claims: &mut [Claim<'_>], now: u64) {
        if self.is_open() {
            return;
        }
        let mut pipe = ::redis::pipe();
        for key in self.keys(service, claims) {
            pipe.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        }
        let mut connection = self.connection();
        let answer = timeout(TIMEOUT, pipe.query_async(&mut connection)).await;
        let Ok(Ok(found)) = answer else {
            return;
        };
        let found: Vec<Option<i64>> = found;
        let (pairs, _) = found.as_chunks::<2>();
        for (claim, [used, left]) in claims.iter_mut().zip(pairs) {
            let number = |n: Option<i64>| u64::try_from(n.unwrap_or(0)).unwrap_or(0);
            claim.state = State::Known(Window {
                used: number(*used),
                ends: now.saturating_add(number(*left)),
            });
        }
    }

    fn keys(&self, service: &str, claims: &[Claim<'_>]) -> Vec<String> {
        // Braces keep the budgets of a service together where keys are spread over several Redis.
        let key = |claim: &Claim<'_>| format!("{}:{{{service}}}:{}", self.prefix, claim.key);
        claims.iter().map(key).collect()
    }

    async fn call(
        &self,
        keys: &[String],
        claims: &[Claim<'_>],
        hits: u64,
    ) -> Result<Vec<i64>, RedisError> {
        let mut call = self.script.prepare_invoke();
        call.arg(hits);
        for (key, claim) in keys.iter().zip(claims) {
            let refuses = claim.entry.limit().mode() == LimitMode::Enforce;
            call.key(key)
                .arg(claim.entry.requests())
                .arg(claim.entry.window())
                .arg(u8::from(refuses));
        }
        let mut connection = self.connection();
        let answer = timeout(TIMEOUT, async {
            match call.invoke_async(&mut connection).await {
                // It was closed while nobody asked, or just now: then the request may count twice, and no more may pass.
                Err(error) if error.is_connection_dropped() => {
                    call.invoke_async(&mut connection).await
                }
                answer => answer,
            }
        });
        answer
            .await
            .unwrap_or_else(|_| Err((ErrorKind::Io, "no answer in time").into()))
    }

    /// Forgets what counts no longer.
    pub(super) fn sweep(&self, now: u64) {
        self.denied.sweep(now);
    }

    /// Whether calls are held back.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.breaker().is_open()
    }

    /// How many calls ended so.
    #[must_use]
    pub fn counted(&self, call: Call) -> u64 {
        let count = self.counts.0.get(call as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn count(&self, call: Call) {
        if let Some(count) = self.counts.0.get(call as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn connection(&self) -> ConnectionManager {
        let connection = self.connection.lock();
        connection.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tries no more by a connection on which nothing came: if the other side is gone without a word, the kernel takes many
    /// minutes to find out, and until then every answer would be waited for in vain.
    fn reconnect(&self) {
        // A URL that was understood once is understood again.
        if let Ok(fresh) = connection(&self.client) {
            let connection = self.connection.lock();
            *connection.unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is made when it is first needed.
fn connection(client: &Client) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT))
        // Who asks next is who tries again; when, the breaker says.
        .set_number_of_retries(0);
    ConnectionManager::new_lazy_with_config(client.clone(), config)
}

/// What Redis found, into the claims.
fn take(claims: &mut [Claim<'_>], now: u64, found: &[i64]) {
    let (pairs, _) = found.as_chunks::<2>();
    for (claim, [used, left]) in claims.iter_mut().zip(pairs) {
        let number = |n: i64| u64::try_from(n).unwrap_or(0);
        claim.state = State::Known(Window {
            used: number(*used),
            // Redis has only what counts, so it does here.
            ends: now.saturating_add(number(*left).max(1)),
        });
    }
}

/// Whether a text is the URL of a Redis.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), String> {
    // Another scheme, such as that of TLS, would need what is not built in.
    if !url.starts_with("redis://") && !url.starts_with("redis+unix://") {
        return Err("must be redis://[USER:PASSWORD@]HOST[:PORT][/DB]".to_owned());
    }
    let info = url.into_connection_info();
    info.map(drop).map_err(|error| error.to_string())
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the connection, which knows the password.
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}
