//! `weir token`: what it makes is good for an implementation that is not weir's, and it says what
//! becomes of a token that somebody else has made.

use std::path::PathBuf;

use serde_json::{Value, json};
use weir_tests::Issuer;
use weir_tests::tokens::{SECRET, in_seconds, temporary_file};
use weir_tests::tools::{self, Finished};

/// A configuration with [`SECRET`] for tokens of connections, and more.
fn config(more: &str) -> PathBuf {
    let keys = format!(
        "[[channels.token.keys]]\nname = \"main\"\nalgorithm = \"hmac\"\nkey = \"{SECRET}\"\n"
    );
    let built_in = "[[listeners]]\nname = \"lines\"\naddress = \"127.0.0.1:7001\"\n\
                    wire = \"lines\"\nroute = \"echo\"\n[[routes]]\nname = \"echo\"\nkind = \"echo\"\n";
    temporary_file("toml", &format!("{built_in}{keys}{more}"))
}

async fn weir(config: &PathBuf, arguments: &[&str]) -> Finished {
    let mut command = weir_tests::gateway::weir_command().await;
    command.arg("token").args(arguments).arg("--config").arg(config);
    tools::run(command, "").await
}

/// What PyJWT reads in a token: header and claims.
async fn read(secret: &str, token: &str) -> (Value, Value) {
    let arguments = ["tests/clients/pyjwt.py", "read", secret, token];
    let printed = tools::python(&arguments, "").await.succeeded();
    serde_json::from_str(&printed).expect("python prints JSON")
}

/// A token that PyJWT has signed.
async fn sign(secret: &str, claims: &Value) -> String {
    let claims = claims.to_string();
    let arguments = ["tests/clients/pyjwt.py", "sign", secret, &claims];
    tools::python(&arguments, "").await.succeeded().trim().to_owned()
}

async fn make(config: &PathBuf, arguments: &[&str]) -> String {
    let made = weir(config, &[&["make"], arguments].concat()).await.succeeded();
    made.trim().to_owned()
}

#[tokio::test]
async fn what_weir_signs_pyjwt_reads() {
    let config =
        config("[channels.token]\nissuer = \"https://id.example\"\naudience = [\"weir\"]\n");
    let begun = in_seconds(0);
    let token = make(&config, &["--user", "ann", "--ttl", "1h", "--info", "{\"role\":\"admin\"}"]);
    let (header, mut claims) = read(SECRET, &token.await).await;
    assert_eq!(header, json!({"typ": "JWT", "alg": "HS256", "kid": "main"}));
    let issued = claims["iat"].as_i64().expect("a time");
    assert!((begun..=in_seconds(0)).contains(&issued), "{issued}");
    assert_eq!(claims["exp"].take(), json!(issued + 3600));
    let expected = json!({
        "sub": "ann", "iat": issued, "exp": null, "info": {"role": "admin"},
        "iss": "https://id.example", "aud": "weir",
    });
    assert_eq!(claims, expected);
    let token = make(&config, &["--channel", "news", "--client", "c-1", "--ttl", "off"]).await;
    let (_, claims) = read(SECRET, &token).await;
    assert_eq!((&claims["sub"], &claims["channel"]), (&json!(""), &json!("news")));
    assert_eq!((&claims["client"], &claims["exp"]), (&json!("c-1"), &Value::Null));
}

#[tokio::test]
async fn what_pyjwt_signs_weir_judges() {
    let config = config("");
    let good = json!({"sub": "ann", "exp": in_seconds(3600), "subs": {"news": {}}});
    let said = weir(&config, &["check", &sign(SECRET, &good).await]).await.succeeded();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["a good connection token", "  user: \"ann\""], "{said}");
    assert!(lines[2].starts_with("  expires: in 59m") || lines[2] == "  expires: in 1h", "{said}");
    assert_eq!(lines[3..], ["  subscribed to: \"news\""]);
    let nobody = json!({"channel": "news", "client": "c-1"});
    let said = weir(&config, &["check", &sign(SECRET, &nobody).await]).await.succeeded();
    let expected = "a good subscription token\n  channel: \"news\"\n  user: nobody\n  \
                    expires: never\n  only for the connection: \"c-1\"\n";
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_told_why_and_what_its_client_would_be() {
    let config = config("");
    let check = async |secret: &str, claims: Value, expected: &str| {
        let finished = weir(&config, &["check", &sign(secret, &claims).await]).await;
        let said = (finished.code, finished.stdout.as_str(), finished.stderr.trim());
        assert_eq!(said, (1, "", expected));
    };
    let late = json!({"sub": "ann", "exp": in_seconds(-60)});
    let expired = "weir: not good: expired; a client is told: error 109 token expired";
    check(SECRET, late, expired).await;
    let forged = "weir: not good: signature; a client is told: disconnect 3500 invalid token";
    check("another-secret-that-nobody-was-told", json!({"sub": "ann"}), forged).await;
    let denied = "weir: not good: signature; a client is told: error 103 permission denied";
    let of_channel = json!({"sub": "ann", "channel": "news"});
    check("another-secret-that-nobody-was-told", of_channel, denied).await;
    let finished = weir(&config, &["check", "no.token.atall"]).await;
    assert_eq!((finished.code, finished.stderr.trim()), (1, "weir: token: not a token"));
}

#[tokio::test]
async fn a_token_of_a_big_key_is_checked_too_and_a_public_key_signs_nothing() {
    let issuer = Issuer::rsa(jsonwebtoken::Algorithm::RS256);
    let file = issuer.public_key_file();
    let keys = format!(
        "[[channels.subscription_token.keys]]\nname = \"public\"\nalgorithm = \"rsa\"\n\
         key = \"file:{}\"\n",
        file.display()
    );
    let config = config(&keys);
    let token = issuer.sign(&json!({"sub": "ann", "channel": "news"}));
    let said = weir(&config, &["check", &token]).await.succeeded();
    assert!(said.starts_with("a good subscription token\n"), "{said}");
    let finished = weir(&config, &["make", "--user", "ann", "--channel", "news"]).await;
    let nothing =
        "weir: no shared secret is configured for such tokens, and public keys sign nothing";
    assert_eq!((finished.code, finished.stderr.trim()), (1, nothing));
    assert!(!make(&config, &["--user", "ann"]).await.is_empty(), "a connection token is another's");
}

#[tokio::test]
async fn there_is_no_token_for_a_channel_that_cannot_be() {
    let config = config("[[channels.namespaces]]\nname = \"chat\"\n");
    for (channel, reason) in [
        ("other:room", "--channel: no namespace of that name"),
        ("chat:\n", "--channel: the channel's name has a control character"),
    ] {
        let finished = weir(&config, &["make", "--user", "ann", "--channel", channel]).await;
        assert_eq!((finished.code, &*finished.stderr), (1, &*format!("weir: {reason}\n")));
    }
    assert!(!make(&config, &["--user", "ann", "--channel", "chat:room"]).await.is_empty());
}

#[tokio::test]
async fn what_is_no_json_or_no_time_is_a_fault_of_the_arguments() {
    let config = config("");
    for arguments in [["make", "--info", "{"], ["make", "--ttl", "soon"], ["make", "--ttl", "0s"]] {
        assert_eq!(weir(&config, &arguments).await.code, 2, "{arguments:?}");
    }
}
