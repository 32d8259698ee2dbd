//! The page that shows weir's channels: its files, which are part of the program, and the service that
//! gives them out. It reads nothing from a disk, and knows nothing of channels: the page does, by the
//! official SDK.

mod files;

use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use weir_core::context::RequestId;
use weir_core::service::{Actions, Answer, Document, Message, Opening, Service, Session, Ticket};

use files::{FILES, File};

/// What every file comes with. The page may load, and connect to, what is of its own origin, and
/// nothing else; nobody may frame it. It is asked for again each time, so that it is never older than
/// the program.
static HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    ),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// A route that is the page.
pub struct Demo {
    route: String,
    documents: Vec<(&'static str, Document)>,
}

impl Demo {
    /// The route of this name.
    pub fn new(route: String) -> Self {
        let documents = FILES.iter().map(|file| (file.name, document(file))).collect();
        Self { route, documents }
    }
}

impl Service for Demo {
    fn route(&self) -> &str {
        &self.route
    }

    /// Looks a file up by what stands behind the last `/`; the page itself has no name. A name that
    /// is not one of the list is nothing, whatever it looks like.
    fn document(&self, path: &str) -> Option<Document> {
        let (_, asked) = path.rsplit_once('/')?;
        let mut documents = self.documents.iter();
        documents.find(|(name, _)| *name == asked).map(|(_, document)| document.clone())
    }

    fn open(&self, _opening: &Opening<'_>) -> Box<dyn Session> {
        Box::new(Silent)
    }
}

/// The program's version of a file does not change while it runs, so its tag is worked out once.
fn document(file: &File) -> Document {
    let mut hasher = DefaultHasher::new();
    hasher.write(file.bytes);
    let tag = HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish()));
    Document {
        content_type: file.content_type,
        body: Bytes::from_static(file.bytes),
        etag: tag.ok(),
        headers: &HEADERS,
    }
}

/// A page is read and not talked to: the configuration names no other path for it.
struct Silent;

impl Session for Silent {
    fn on_message(
        &mut self,
        _message: Message<'_>,
        _request: &RequestId,
        _now: Instant,
        _actions: &mut Actions,
    ) {
    }

    fn on_answer(
        &mut self,
        _ticket: Ticket,
        _answer: Answer,
        _request: &RequestId,
        _now: Instant,
        _actions: &mut Actions,
    ) {
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn demo() -> Demo {
        Demo::new("demo".to_owned())
    }

    #[test]
    fn a_file_is_found_by_its_name_and_nothing_else_is_found() {
        let demo = demo();
        let body = |path| demo.document(path).map(|document| document.body);
        assert_eq!(body("/").as_deref(), Some(FILES[0].bytes));
        assert!(body("/demo/main.js").is_some());
        for nothing in ["", "/index.html", "/demo/../Cargo.toml", "/demo/%2e%2e", "/demo/main.js/x"]
        {
            assert_eq!(body(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn files_that_differ_have_tags_that_differ() {
        let demo = demo();
        let tags = demo.documents.iter().map(|(_, document)| document.etag.clone().unwrap());
        assert_eq!(tags.collect::<std::collections::HashSet<_>>().len(), FILES.len());
    }

    /// What the page and its modules name: `src="demo/x"`, `href="demo/x"`, `from "./x"`.
    fn named() -> BTreeSet<String> {
        let own = FILES.iter().filter(|file| file.name != "centrifuge.js");
        let texts = own.map(|file| std::str::from_utf8(file.bytes).unwrap());
        texts
            .flat_map(|text| ["=\"demo/", "from \"./"].map(|mark| text.split(mark).skip(1)))
            .flatten()
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect()
    }

    #[test]
    fn the_page_names_the_files_there_are_and_all_of_them() {
        let served = FILES.iter().skip(1).map(|file| file.name.to_owned()).collect();
        assert_eq!(named(), served);
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let list = |folder: &Path| {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
            let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
            files.map(|file| file.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let there: BTreeSet<String> =
            [list(&folder), list(&folder.join("vendor"))].concat().into_iter().collect();
        let served = FILES.iter().skip(1).map(|file| file.name.to_owned());
        let beside = ["index.html", "README.md"].map(str::to_owned);
        assert_eq!(there, served.chain(beside).collect());
    }
}
