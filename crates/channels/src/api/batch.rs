//! `batch`: many commands in one request. Each has an answer of its own, whatever becomes of the
//! others.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::request::{BatchRequest, parsed};
use super::{Api, At, Method};
use crate::protocol::codes::ErrorCode;

/// Commands of one parallel batch that are carried out at a time.
const AT_ONCE: usize = 16;

/// The bytes of the answers so far.
#[derive(Debug, Default)]
pub(super) struct Spent(AtomicUsize);

impl Api {
    pub(super) async fn batch(&self, params: &[u8], at: At<'_>) -> Result<Vec<u8>, ApiError> {
        let request: BatchRequest<'_> = parsed(params)?;
        let (commands, max) = (request.commands.len(), self.limits.batch_commands_max);
        if commands > max {
            return Err(ApiError::too_many("commands", commands, max));
        }
        let spent = Spent::default();
        let at_once = if request.parallel.unwrap_or_default() { AT_ONCE } else { 1 };
        let one = |command| self.element(command, &spent, at);
        let replies = in_order(request.commands.iter().copied().map(one), at_once).await;
        Ok([br#"{"replies":["#, &replies.join(&b","[..])[..], b"]}"].concat())
    }

    /// The reply to one command of a batch: `{"<method>":{...}}`, or an error.
    async fn element(&self, command: &RawValue, spent: &Spent, at: At<'_>) -> Vec<u8> {
        let result = match parsed_element(command) {
            Ok((method, params)) => {
                let result = self.bounded(spent, self.command(method, params, at)).await;
                result.map(|result| {
                    [b"{\"", method.as_str().as_bytes(), b"\":", &result[..], b"}"].concat()
                })
            }
            Err(error) => {
                self.metrics.error(error.code());
                Err(error)
            }
        };
        result.unwrap_or_else(|error| error.body())
    }

    /// Carries a command out, unless the answers before it are as many bytes as one request may have.
    pub(super) async fn bounded(
        &self,
        spent: &Spent,
        command: impl Future<Output = Result<Vec<u8>, ApiError>>,
    ) -> Result<Vec<u8>, ApiError> {
        let max = self.limits.batch_reply_bytes_max;
        if spent.0.load(Ordering::Relaxed) > max {
            let detail = format!("not begun: the answers before it are more than {max} bytes");
            self.metrics.error(ErrorCode::LimitExceeded);
            return Err(ApiError::new(ErrorCode::LimitExceeded, detail));
        }
        let result = command.await?;
        spent.0.fetch_add(result.len(), Ordering::Relaxed);
        Ok(result)
    }
}

/// The one method that a command names, and what it is asked.
fn parsed_element(command: &RawValue) -> Result<(Method, &[u8]), ApiError> {
    let fields: BTreeMap<String, &RawValue> = parsed(command.get().as_bytes())?;
    let mut named = fields.iter().filter_map(|(name, params)| Some((Method::parse(name)?, params)));
    match (named.next(), named.next()) {
        (Some((method, params)), None) => Ok((method, params.get().as_bytes())),
        (None, _) => Err(ApiError::new(ErrorCode::MethodNotFound, "")),
        (Some(_), Some(_)) => Err(ApiError::bad_request("a command has one method")),
    }
}

/// Runs these at most so many at a time, in the order they come in; gives what they end with in the
/// same order.
pub(super) async fn in_order<F: Future>(
    futures: impl Iterator<Item = F>,
    at_once: usize,
) -> Vec<F::Output> {
    let mut running = FuturesOrdered::new();
    let mut done = Vec::with_capacity(futures.size_hint().0);
    for future in futures {
        if running.len() >= at_once {
            done.extend(running.next().await);
        }
        running.push_back(future);
    }
    while let Some(one) = running.next().await {
        done.push(one);
    }
    done
}
