//! Why a command failed: a code of the protocol, its text and what was wrong in this case; and which
//! HTTP status that is (protocol, section 2.1).

use std::borrow::Cow;

use serde::Serialize;

use super::ApiReply;
use super::reply::json;
use crate::broker::BrokerError;
use crate::namespace::NameError;
use crate::protocol::codes::ErrorCode;

/// How an error travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// Status 200, and `{"error":{...}}`.
    #[default]
    Body,
    /// The HTTP status that is most like it, and the same body.
    Transport,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    code: ErrorCode,
    /// What was wrong in this case; may be empty.
    detail: Cow<'static, str>,
    /// The whole request was not JSON: 400 in either mode.
    malformed: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    error: &'a ApiError,
}

impl ApiError {
    pub(super) fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), malformed: false }
    }

    pub(super) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, detail)
    }

    /// A feature that the channel's namespace does not have.
    pub(super) fn not_available(detail: &'static str) -> Self {
        Self::new(ErrorCode::NotAvailable, detail)
    }

    /// More than a limit allows: refused before anything was done.
    pub(super) fn too_many(what: &str, given: usize, max: usize) -> Self {
        Self::bad_request(format!("{given} {what}, and at most {max} are allowed"))
    }

    pub(super) fn malformed(error: &serde_json::Error) -> Self {
        Self { malformed: true, ..Self::bad_request(error.to_string()) }
    }

    pub(super) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The status in the transport mode.
    fn status(&self) -> u16 {
        match self.code {
            ErrorCode::UnknownChannel | ErrorCode::MethodNotFound => 404,
            ErrorCode::BadRequest
            | ErrorCode::NotAvailable
            | ErrorCode::AlreadySubscribed
            | ErrorCode::TokenExpired
            | ErrorCode::Expired => 400,
            ErrorCode::UnrecoverablePosition => 416,
            ErrorCode::ConcurrentPagination => 409,
            ErrorCode::LimitExceeded | ErrorCode::TooManyRequests => 429,
            ErrorCode::Unauthorized => 401,
            ErrorCode::PermissionDenied => 403,
            ErrorCode::Internal => 500,
        }
    }

    /// The answer to a request that failed with it.
    pub(super) fn reply(&self, mode: ErrorMode) -> ApiReply {
        let status = match mode {
            ErrorMode::Body if self.malformed => 400,
            ErrorMode::Body => 200,
            ErrorMode::Transport => self.status(),
        };
        ApiReply { status, body: self.body() }
    }

    /// `{"error":{...}}`.
    pub(super) fn body(&self) -> Vec<u8> {
        json(&Body { error: self })
    }
}

impl Serialize for ApiError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let (text, detail) = (self.code.text(), &*self.detail);
        let message: Cow<'_, str> =
            if detail.is_empty() { text.into() } else { format!("{text}: {detail}").into() };
        let mut error = serializer.serialize_struct("Error", 2)?;
        error.serialize_field("code", &self.code.number())?;
        error.serialize_field("message", &message)?;
        error.end()
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code, "")
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        let code = match error {
            BrokerError::Refused(_) => ErrorCode::LimitExceeded,
            BrokerError::WrongEpoch => ErrorCode::UnrecoverablePosition,
            BrokerError::Silent => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_status_only_in_the_transport_mode() {
        for (code, status) in [
            (ErrorCode::Internal, 500),
            (ErrorCode::UnknownChannel, 404),
            (ErrorCode::MethodNotFound, 404),
            (ErrorCode::LimitExceeded, 429),
            (ErrorCode::BadRequest, 400),
            (ErrorCode::NotAvailable, 400),
            (ErrorCode::UnrecoverablePosition, 416),
            (ErrorCode::ConcurrentPagination, 409),
        ] {
            let error = ApiError::from(code);
            assert_eq!(error.reply(ErrorMode::Body).status, 200, "{code}");
            assert_eq!(error.reply(ErrorMode::Transport).status, status, "{code}");
            let bodies = [ErrorMode::Body, ErrorMode::Transport].map(|mode| error.reply(mode).body);
            assert_eq!(bodies[0], bodies[1]);
        }
    }

    #[test]
    fn an_error_says_its_code_its_text_and_what_was_wrong() {
        let body = |error: ApiError| String::from_utf8(error.body()).unwrap();
        let plain = body(ErrorCode::UnknownChannel.into());
        assert_eq!(plain, r#"{"error":{"code":102,"message":"unknown channel"}}"#);
        let detailed = body(ApiError::bad_request("no \"channel\""));
        let expected = r#"{"error":{"code":107,"message":"bad request: no \"channel\""}}"#;
        assert_eq!(detailed, expected);
    }

    #[test]
    fn what_is_not_json_is_400_in_either_mode() {
        let error = serde_json::from_str::<u8>("{").unwrap_err();
        let error = ApiError::malformed(&error);
        assert_eq!(error.reply(ErrorMode::Body).status, 400);
        assert_eq!(error.reply(ErrorMode::Transport).status, 400);
    }
}
