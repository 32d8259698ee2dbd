//! The older form of the API: a body of objects `{"method": ..., "params": {...}}`, one behind the
//! other, and an answer a line (protocol, section 2.1).

use serde::Deserialize;
use serde_json::value::RawValue;

use super::batch::Spent;
use super::error::ApiError;
use super::request::parsed;
use super::{Api, ApiReply, At, ErrorMode, Method, wrapped};
use crate::protocol::codes::ErrorCode;

#[derive(Deserialize)]
struct Command<'a> {
    method: String,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Api {
    /// Carries out what the body says, one after the other. The error mode is that of bodies: there
    /// may be many errors, and there is one status.
    ///
    /// # Cancel safety
    ///
    /// As of [`Api::serve`].
    pub async fn serve_lines(&self, body: &[u8], at: impl Into<At<'_>>) -> ApiReply {
        match self.lines(body, at.into()).await {
            Ok(body) => ApiReply { status: 200, body },
            Err(error) => {
                self.metrics.error(error.code());
                error.reply(ErrorMode::Body)
            }
        }
    }

    async fn lines(&self, body: &[u8], at: At<'_>) -> Result<Vec<u8>, ApiError> {
        // All of it is read before anything is done: what is not JSON does nothing.
        let commands = serde_json::Deserializer::from_slice(body).into_iter::<&RawValue>();
        let max = self.limits.batch_commands_max;
        let commands: Result<Vec<_>, _> = commands.take(max + 1).collect();
        let commands = commands.map_err(|error| ApiError::malformed(&error))?;
        if commands.len() > max {
            return Err(ApiError::too_many("commands", commands.len(), max));
        }
        if commands.is_empty() {
            return Err(ApiError::bad_request("no command"));
        }
        let (spent, mut replies) = (Spent::default(), Vec::with_capacity(commands.len()));
        for command in commands {
            let result = self.bounded(&spent, self.line(command, at)).await;
            let mut reply = result.unwrap_or_else(|error| error.body());
            // Outside of strings, where they cannot be, line ends are spaces.
            reply.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|b| *b = b' ');
            replies.push(reply);
        }
        Ok(replies.join(&b'\n'))
    }

    /// The reply to one command.
    async fn line(&self, command: &RawValue, at: At<'_>) -> Result<Vec<u8>, ApiError> {
        let (method, params) = match method_of(command) {
            Ok(found) => found,
            Err(error) => {
                self.metrics.error(error.code());
                return Err(error);
            }
        };
        let result = self.call(method, params, at).await?;
        Ok(if method == Method::Batch { result } else { wrapped(&result) })
    }
}

fn method_of(command: &RawValue) -> Result<(Method, &[u8]), ApiError> {
    let Command { method, params } = parsed(command.get().as_bytes())?;
    let method = Method::parse(&method).ok_or(ErrorCode::MethodNotFound)?;
    Ok((method, params.map_or(&b"{}"[..], |params| params.get().as_bytes())))
}
