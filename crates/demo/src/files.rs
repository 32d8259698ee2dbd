//! The files of the page, each under the name that it is asked for by.

/// A file of the page.
pub(crate) struct File {
    /// What stands behind the last `/` of its path.
    pub(crate) name: &'static str,
    /// Its content type.
    pub(crate) content_type: &'static str,
    /// What is in it.
    pub(crate) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! files {
    ($($name:literal $content_type:ident $path:literal)*) => {
        &[$(File { name: $name, content_type: $content_type, bytes: include_bytes!($path) }),*]
    };
}

/// All of them; the first is the page itself.
pub(crate) static FILES: &[File] = files! {
    "" HTML "../page/index.html"
    "demo.css" CSS "../page/demo.css"
    "icon.svg" SVG "../page/icon.svg"
    "main.js" SCRIPT "../page/main.js"
    "line.js" SCRIPT "../page/line.js"
    "ledger.js" SCRIPT "../page/ledger.js"
    "measure.js" SCRIPT "../page/measure.js"
    "chart.js" SCRIPT "../page/chart.js"
    "sparkline.js" SCRIPT "../page/sparkline.js"
    "sensors.js" SCRIPT "../page/sensors.js"
    "quotes.js" SCRIPT "../page/quotes.js"
    "chat.js" SCRIPT "../page/chat.js"
    "status.js" SCRIPT "../page/status.js"
    "outages.js" SCRIPT "../page/outages.js"
    "centrifuge.js" SCRIPT "../page/vendor/centrifuge.js"
    "centrifuge.LICENSE.txt" TEXT "../page/vendor/centrifuge.LICENSE.txt"
    "events.LICENSE.txt" TEXT "../page/vendor/events.LICENSE.txt"
};
