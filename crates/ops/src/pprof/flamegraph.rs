//! A flamegraph: one SVG file that needs nothing else. Outermost functions are at the top, widths
//! are shares of the value that the profile shows first; a click zooms, the top bar zooms out.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::profile::Profile;
use super::symbols::Symbols;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 18.0;
const HEAD: f64 = 28.0;
/// Average width of a character, in pixels: as many are shown as surely fit.
const CHARACTER: f64 = 7.2;
/// Bars narrower than this are left out, in pixels.
const BAR_MIN: f64 = 0.4;

/// A function with those it called, in the order of their names so that two profiles compare.
#[derive(Default)]
struct Node {
    value: i64,
    calls: BTreeMap<String, Node>,
}

/// Draws `profile`.
pub(super) fn draw(profile: &Profile, symbols: &Symbols) -> String {
    let root = tree(profile, symbols);
    let height = HEAD + ROW * (depth(&root) + 1) as f64 + 8.0;
    let unit = profile.kinds[1];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\">\n\
         <style>text{{font:12px ui-monospace,monospace;pointer-events:none}}\
         rect{{stroke:#fff;stroke-width:.5}}g{{cursor:pointer}}</style>\n\
         <text x=\"4\" y=\"18\">{} in {}, {:.1} s</text>\n",
        unit.name,
        unit.unit,
        profile.duration.as_secs_f64(),
    );
    let whole = root.value.max(1) as f64;
    bar(&mut svg, "all", &root, &Place { left: 0.0, row: 0, scale: WIDTH / whole, whole });
    svg.push_str(ZOOM);
    svg.push_str("</svg>\n");
    svg
}

fn tree(profile: &Profile, symbols: &Symbols) -> Node {
    let mut root = Node::default();
    for sample in &profile.samples {
        let value = sample.values[1];
        let functions = sample.stack.iter().rev().flat_map(|address| {
            symbols.at(*address).iter().rev().map(|symbol| symbol.name.as_str())
        });
        root.value += value;
        let mut node = &mut root;
        for name in sample.thread.as_deref().into_iter().chain(functions) {
            node = node.calls.entry(name.to_owned()).or_default();
            node.value += value;
        }
    }
    root
}

fn depth(node: &Node) -> usize {
    1 + node.calls.values().map(depth).max().unwrap_or(0)
}

struct Place {
    left: f64,
    row: usize,
    scale: f64,
    whole: f64,
}

fn bar(svg: &mut String, name: &str, node: &Node, place: &Place) {
    let width = node.value as f64 * place.scale;
    if width < BAR_MIN {
        return;
    }
    let top = HEAD + place.row as f64 * ROW;
    let share = node.value as f64 * 100.0 / place.whole;
    let (shown, whole) = (fitting(name, width), escaped(name));
    let color = color(name);
    let text = top + 13.0;
    let left = place.left;
    // Writing to a String cannot fail.
    let _written: std::fmt::Result = writeln!(
        svg,
        "<g data-x=\"{left:.2}\" data-w=\"{width:.2}\" data-n=\"{whole}\"><title>{whole} {share:.2}% \
         ({value})</title><rect x=\"{left:.2}\" y=\"{top}\" width=\"{width:.2}\" height=\"{ROW}\" \
         fill=\"{color}\"/><text x=\"{x:.2}\" y=\"{text}\">{shown}</text></g>",
        value = node.value,
        x = left + 3.0,
    );
    let mut left = left;
    for (name, call) in &node.calls {
        bar(svg, name, call, &Place { left, row: place.row + 1, ..*place });
        left += call.value as f64 * place.scale;
    }
}

/// As much of `name` as fits.
fn fitting(name: &str, width: f64) -> String {
    let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    match name.chars().count() <= room {
        true => escaped(name),
        false if room < 3 => String::new(),
        false => escaped(&name.chars().take(room - 1).chain(['…']).collect::<String>()),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A warm colour that depends on the name alone, so that a function looks the same everywhere.
fn color(name: &str) -> String {
    // FNV-1a.
    let hash = name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("hsl({} {}% {}%)", 10 + hash % 45, 70 + hash / 64 % 25, 62 + hash / 4096 % 14)
}

/// Moves bars so that the one that was clicked fills the width, and shows as much of each name as
/// then fits.
const ZOOM: &str = r#"<script><![CDATA[
const bars = [...document.querySelectorAll("g")].map(g => ({
  g, x: +g.dataset.x, w: +g.dataset.w, n: g.dataset.n,
  rect: g.querySelector("rect"), text: g.querySelector("text") }));
const zoom = to => bars.forEach(b => {
  const k = 1200 / to.w, l = Math.max(0, (b.x - to.x) * k), r = Math.min(1200, (b.x + b.w - to.x) * k);
  b.g.style.display = r - l > .3 ? "" : "none";
  b.rect.setAttribute("x", l); b.rect.setAttribute("width", Math.max(0, r - l));
  b.text.setAttribute("x", l + 3);
  const room = Math.floor((r - l - 6) / 7.2);
  b.text.textContent = b.n.length <= room ? b.n : room < 3 ? "" : b.n.slice(0, room - 1) + "…";
});
bars.forEach(b => b.g.addEventListener("click", () => zoom(b)));
]]></script>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_to_fit_and_cannot_leave_their_place() {
        assert_eq!(fitting("short", 100.0), "short");
        assert_eq!(fitting("a_very_long_name", 50.0), "a_ver…");
        assert_eq!(fitting("a_very_long_name", 10.0), "");
        assert_eq!(escaped("<&\">"), "&lt;&amp;&quot;&gt;");
        assert_eq!(color("a"), color("a"));
    }
}
