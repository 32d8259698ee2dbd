//! What `weir print-config` and `weir check` print: every key with its doc and default, and what a
//! configuration comes to.

use super::auth::{ApiKeyKeys, TokenKeyKeys};
use super::changes::needs_restart;
use super::channels::NamespaceKeys;
use super::listener::{LengthKeys, LinesKeys, ListenerKeys, PagesKeys, PathKeys, PostKeys, Wire};
use super::route::{ChannelsApiKeys, EchoKeys, PublishKeys, RouteKeys, UpstreamRouteKeys};
use super::section::{Key, Section};
use super::tls::{CertificateKeys, TlsKeys};
use super::units::Grace;
use super::upstream::Upstream;
use super::values::Target;
use super::{BUILT_IN_CHANNELS, BUILT_IN_LISTS, Config, SECTIONS};

const HEAD: &str = "\
# weir's configuration without a file: every key, with its default where it has another one. Keys that
# keep their default may be left out.
# Durations are \"250ms\", \"30s\", \"1m30s\"; sizes are \"64KiB\", \"1MiB\" or bytes.
# A variable WEIR_SECTION__KEY wins over the file (WEIR_LIMITS__CONNECTIONS_MAX=1000), in a list by
# name (WEIR_LISTENERS__HTTP__ADDRESS=0.0.0.0:8080). \"weir check\" reads all of it and starts nothing.
# SIGHUP and POST /reload read it again; what is marked \"restart\" is read when weir starts.
";

const LISTS_HEAD: &str = "\
# ---- Every key of listeners, paths, routes, upstreams, keys and namespaces; \"required\" ones have no default. ----
";

const BUILT_IN_HEAD: &str = "\
# ---- The listeners and routes that weir has without a file. ----

";

/// The default configuration with comments, complete.
pub fn default_config() -> String {
    let mut text = String::from(HEAD);
    for section in SECTIONS {
        text.push('\n');
        comment(&mut text, "", section.about);
        let note = if needs_restart(section.name) { "  # restart" } else { "" };
        text.push_str(&format!("[{}]{note}\n", section.name));
        keys(&mut text, "", section.name, section.keys);
    }
    text.push('\n');
    text.push_str(LISTS_HEAD);
    reference::<ListenerKeys>(&mut text, "[[listeners]]  # restart");
    reference::<LinesKeys>(&mut text, "");
    reference::<LengthKeys>(&mut text, "");
    reference::<TlsKeys>(&mut text, "[listeners.tls]");
    reference::<CertificateKeys>(&mut text, "[[listeners.tls.certificates]]");
    reference::<PathKeys>(&mut text, "[[listeners.paths]]");
    reference::<PagesKeys>(&mut text, "");
    reference::<PostKeys>(&mut text, "");
    reference::<RouteKeys>(&mut text, "[[routes]]");
    reference::<EchoKeys>(&mut text, "");
    reference::<UpstreamRouteKeys>(&mut text, "");
    reference::<ChannelsApiKeys>(&mut text, "");
    reference::<PublishKeys>(&mut text, "");
    reference::<Upstream>(&mut text, "[[upstreams]]");
    reference::<TokenKeyKeys>(&mut text, "[[auth.keys]]");
    reference::<ApiKeyKeys>(&mut text, "[[auth.api_keys]]");
    reference::<NamespaceKeys>(&mut text, "[[channels.namespaces]]");
    reference::<TokenKeyKeys>(&mut text, "[[channels.token.keys]]");
    reference::<TokenKeyKeys>(&mut text, "[[channels.subscription_token.keys]]");
    text.push('\n');
    text.push_str(BUILT_IN_HEAD);
    text.push_str(BUILT_IN_LISTS);
    text
}

/// The keys of a table that may stand many times, all in comments.
fn reference<S: Section>(text: &mut String, header: &str) {
    text.push_str("#\n");
    comment(text, "", S::ABOUT);
    if !header.is_empty() {
        text.push_str(&format!("# {header}\n"));
    }
    keys(text, "# ", "", S::KEYS);
}

fn keys(text: &mut String, prefix: &str, section: &str, keys: &[Key]) {
    for key in keys {
        comment(text, prefix, key.doc);
        // Of a whole section it is said once.
        let alone = !needs_restart(section) && needs_restart(&format!("{section}.{}", key.name));
        let note = match key.required {
            true => "  # required",
            false if alone => "  # restart",
            false => "",
        };
        match built_in(section, key.name) {
            Some(value) => {
                let note = format!("  # default: {}", key.default);
                text.push_str(&format!("{prefix}{} = {value}{note}\n", key.name));
            }
            None => text.push_str(&format!("{prefix}{} = {}{note}\n", key.name, key.default)),
        }
    }
}

/// What a key is without a file, where that is not its default.
fn built_in(section: &str, key: &str) -> Option<String> {
    let mut lines = BUILT_IN_CHANNELS.lines().skip_while(|line| *line != format!("[{section}]"));
    lines.next()?;
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    lines.find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(" = ")?.to_owned()))
}

fn comment(text: &mut String, prefix: &str, doc: &str) {
    for line in doc.lines() {
        text.push_str(&format!("{prefix}# {}\n", line.trim()));
    }
}

/// What `weir check` prints of a good configuration.
pub fn summary(config: &Config) -> String {
    let mut text = format!("{}: ok\n", config.source);
    for listener in &config.listeners {
        let keys = &listener.keys;
        let what = match &listener.wire {
            Wire::Lines(keys) => format!("lines to {}", keys.route),
            Wire::Length(keys) => format!("length to {}", keys.route),
            Wire::Http(routes) => {
                let routes = routes.iter().map(|http| format!("{} to {}", http.path, http.route));
                format!("http, {}", routes.collect::<Vec<_>>().join(", "))
            }
        };
        let tls = if listener.tls.is_some() { ", tls" } else { "" };
        text.push_str(&format!("  listener {} on {}: {what}{tls}\n", keys.name, keys.address));
    }
    for upstream in &config.upstreams {
        let targets: Vec<String> = upstream.targets.iter().map(Target::to_string).collect();
        text.push_str(&format!("  upstream {}: {}\n", upstream.name, targets.join(", ")));
    }
    text.push_str(&format!("  side port on {}\n", config.ops.address));
    text.push_str(&format!(
        "  at most {} connections on {} event loops\n",
        config.admission.connections_max, config.runtime.workers
    ));
    let total = Grace(config.shutdown.total());
    text.push_str(&format!("  a stop takes at most {total}; let nothing kill weir before\n"));
    for warning in &config.warnings {
        text.push_str(&format!("  warning: {warning}\n"));
    }
    text
}
