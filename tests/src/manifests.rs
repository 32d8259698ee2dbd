//! What lies in `deploy/`, as the tools that read it in production see it.

use serde_json::Value;

use crate::tools::{self, repository};

/// The ways to install weir into Kubernetes, as folders of `deploy/kubernetes`.
pub const OVERLAYS: [&str; 3] = ["base", "overlays/operator", "overlays/production"];

/// The resources that `kubectl kustomize` makes of a folder.
///
/// # Panics
///
/// When it makes none.
pub async fn render(folder: &str) -> Vec<Value> {
    let command = format!("kubectl kustomize deploy/kubernetes/{folder}");
    let yaml = tools::shell(&command, "").await.succeeded();
    let resources = tools::yaml(&yaml).await;
    assert!(resources.len() >= 4, "{folder}: {} resources", resources.len());
    resources
}

/// The one resource of a kind.
///
/// # Panics
///
/// When there is none.
pub fn of_kind<'a>(resources: &'a [Value], kind: &str) -> &'a Value {
    let found = resources.iter().find(|resource| resource["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} among the resources"))
}

/// The value of an environment variable of a container.
pub fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    container["env"].as_array()?.iter().find(|variable| variable["name"] == name)
}

/// Seconds in "250ms", "90s" or "1m".
///
/// # Panics
///
/// When it is none of these.
pub fn seconds(text: &str) -> f64 {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => panic!("not a duration: {text:?}"),
    };
    number.parse::<f64>().expect("digits are a number") * unit
}

/// The sum of the stages that a configuration has, with the defaults of those it has not.
pub fn stages(config: &str) -> f64 {
    let shutdown = |text: &str| {
        let mut document: toml::Table = text.parse().expect("a configuration is TOML");
        document.remove("shutdown")
    };
    let (config, defaults) = (shutdown(config), shutdown(&tools::read("tests/golden/weir.toml")));
    let of = |section: &Option<toml::Value>, stage| {
        Some(seconds(section.as_ref()?.get(stage)?.as_str()?))
    };
    let stage = |stage| of(&config, stage).or_else(|| of(&defaults, stage));
    let stages = ["unready", "drain", "force", "flush"];
    stages.map(|one| stage(one).expect("every stage has a default")).iter().sum()
}

/// Every `weir.toml` in `deploy/`, as paths in the repository.
pub fn configurations() -> Vec<String> {
    let files = [
        "deploy/kubernetes/base/weir.toml",
        "deploy/compose/weir.toml",
        "deploy/haproxy/weir.toml",
        "deploy/nginx/weir.toml",
    ];
    for file in files {
        assert!(repository().join(file).exists(), "{file}");
    }
    files.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_that_are_left_out_have_their_defaults() {
        assert_eq!(stages(""), 35.0);
        assert_eq!(stages("[shutdown]\nunready = \"500ms\"\ndrain = \"1m\"\n[ops]\n"), 70.5);
    }
}
