//! A document as a response, for whoever reads a path. Which documents there are is the service's.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;

use crate::service::Document;

/// The methods of a path of documents, as in `Allow`. Hyper leaves the body of a HEAD out.
pub(super) const METHODS: &str = "GET, HEAD";

/// The response with this document; without its body when the reader says that it has it.
pub(super) fn show(document: Document, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let has_it = document.etag.as_ref().is_some_and(|etag| has(asked, etag));
    let mut response = Response::new(match has_it {
        true => Full::default(),
        false => Full::new(document.body),
    });
    let headers = response.headers_mut();
    headers.extend(document.headers.iter().cloned());
    if let Some(etag) = document.etag {
        headers.insert(ETAG, etag);
    }
    if has_it {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(document.content_type));
    }
    response
}

/// Whether `If-None-Match` names this tag. The comparison is the weak one (RFC 9110, section 13.1.2).
fn has(asked: &HeaderMap, etag: &HeaderValue) -> bool {
    let lists = asked.get_all(IF_NONE_MATCH).into_iter();
    let mut tags = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    tags.any(|tag| {
        let tag = tag.trim_ascii();
        tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG_OF_IT: HeaderValue = HeaderValue::from_static("\"a1\"");

    fn status(if_none_match: &[&'static str]) -> u16 {
        let mut asked = HeaderMap::new();
        for list in if_none_match {
            asked.append(IF_NONE_MATCH, HeaderValue::from_static(list));
        }
        let document = Document::new("text/plain", Bytes::from_static(b"read me"));
        let response = show(Document { etag: Some(ETAG_OF_IT), ..document }, &asked);
        assert_eq!(response.headers().get(ETAG), Some(&ETAG_OF_IT));
        let typed = response.headers().contains_key(CONTENT_TYPE);
        assert_eq!(typed, response.status() == StatusCode::OK);
        response.status().as_u16()
    }

    #[test]
    fn a_reader_that_has_the_document_is_not_given_it_again() {
        for has in
            [&["\"a1\""][..], &["W/\"a1\""], &["\"b\", \"a1\""], &["\"b\"", "\"a1\""], &["*"]]
        {
            assert_eq!(status(has), 304, "{has:?}");
        }
        for has_not in [&[][..], &["\"b\""], &["a1"], &[""]] {
            assert_eq!(status(has_not), 200, "{has_not:?}");
        }
    }
}
