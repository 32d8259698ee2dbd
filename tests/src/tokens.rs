//! Issuers of tokens that are not weir: keys made by `openssl`, tokens signed here, and a server
//! that publishes keys and can be told to fail.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The shared secret of [`Issuer::hmac`].
pub const SECRET: &str = "a-shared-secret-that-nobody-must-see";

/// Somebody who signs tokens with one key.
pub struct Issuer {
    key: EncodingKey,
    algorithm: Algorithm,
    key_id: Option<String>,
    public: String,
}

impl Issuer {
    /// Signs with [`SECRET`].
    pub fn hmac(algorithm: Algorithm) -> Self {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        Self { key, algorithm, key_id: None, public: String::new() }
    }

    /// Signs with a new RSA key of 2048 bits.
    pub fn rsa(algorithm: Algorithm) -> Self {
        let (private, public) =
            key_pair(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let key = EncodingKey::from_rsa_pem(private.as_bytes()).expect("openssl writes RSA in PEM");
        Self { key, algorithm, key_id: None, public }
    }

    /// Signs with a new key on `P-256` or `P-384`.
    pub fn ecdsa(algorithm: Algorithm, curve: &str) -> Self {
        let option = format!("ec_paramgen_curve:{curve}");
        let (private, public) = key_pair(&["-algorithm", "EC", "-pkeyopt", &option]);
        let key = EncodingKey::from_ec_pem(private.as_bytes()).expect("openssl writes EC in PEM");
        Self { key, algorithm, key_id: None, public }
    }

    /// Signs with a new Ed25519 key.
    pub fn eddsa() -> Self {
        let (private, public) = key_pair(&["-algorithm", "ED25519"]);
        let key = EncodingKey::from_ed_pem(private.as_bytes()).expect("openssl writes Ed25519");
        Self { key, algorithm: Algorithm::EdDSA, key_id: None, public }
    }

    /// Signs with a secret of its own choice, for those who try something.
    pub fn forger(secret: &[u8], algorithm: Algorithm) -> Self {
        let key = EncodingKey::from_secret(secret);
        Self { key, algorithm, key_id: None, public: String::new() }
    }

    /// Names its key in every token.
    pub fn named(mut self, key_id: &str) -> Self {
        self.key_id = Some(key_id.to_owned());
        self
    }

    /// The public key in PEM.
    pub fn public_key(&self) -> &str {
        &self.public
    }

    /// A file with the public key, for a configuration.
    pub fn public_key_file(&self) -> PathBuf {
        temporary_file("pem", &self.public)
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = self.key_id.clone();
        encode(&header, claims, &self.key).expect("a key signs")
    }

    /// A token of somebody, good for an hour.
    pub fn token(&self, subject: &str) -> String {
        self.sign(&json!({"sub": subject, "exp": in_seconds(3600)}))
    }

    /// The key as a key set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        jwk.common.key_id = self.key_id.clone();
        serde_json::to_value(jwk).expect("a key is JSON")
    }
}

/// A time as a token has it, so many seconds from now.
pub fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs().cast_signed() + seconds
}

/// A new file with this text.
pub fn temporary_file(extension: &str, text: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("weir-tests-{}-{number}.{extension}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("the temporary folder is writable");
    path
}

/// A private key and its public one, in PEM.
fn key_pair(options: &[&str]) -> (String, String) {
    let private = openssl(&[&["genpkey"], options].concat(), "");
    let public = openssl(&["pkey", "-pubout"], &private);
    (private, public)
}

fn openssl(arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("openssl starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // One that asks for nothing may have closed it already.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output().expect("openssl ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    String::from_utf8(output.stdout).expect("PEM is text")
}

/// A server that publishes a key set at every path, and counts who asks.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    answer: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl KeyServer {
    /// Publishes these keys.
    ///
    /// # Panics
    ///
    /// When there is no free port.
    pub async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let answer = Arc::new(Mutex::new(Some(key_set(keys))));
        let asked = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(listener, Arc::clone(&answer), Arc::clone(&asked)));
        Self { address, answer, asked, task }
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// Publishes other keys from now on.
    pub fn publish(&self, keys: &[Value]) {
        self.answer_with(Some(key_set(keys)));
    }

    /// Answers with this body from now on; `None` closes every connection without an answer.
    pub fn answer_with(&self, body: Option<String>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<Option<String>>>, asked: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if !matches!(stream.read_buf(&mut head).await, Ok(1..)) {
                break;
            }
        }
        if head.is_empty() {
            continue;
        }
        asked.fetch_add(1, Ordering::SeqCst);
        let body = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(body) = body {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // Whoever has gone does not want it.
            stream.write_all((head + &body).as_bytes()).await.ok();
        }
    }
}
