//! One key that tokens are checked with. What kind a key is decides which algorithms it may be used
//! with, whatever a token says: so a public key is never taken for a shared secret.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, encode};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Shortest shared secret, in bytes: what SHA-256 gives (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// The kind of a key, with its curve where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// A shared secret.
    Hmac,
    /// An RSA public key of at least 2048 bits.
    Rsa,
    /// A public key on the curve P-256.
    EcdsaP256,
    /// A public key on the curve P-384.
    EcdsaP384,
    /// An Ed25519 public key.
    EdDsa,
}

impl KeyKind {
    /// What a key of this kind may have signed with (RFC 7518, section 3.1; RFC 8037).
    pub const fn algorithms(self) -> &'static [Algorithm] {
        match self {
            Self::Hmac => &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512],
            Self::Rsa => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            Self::EcdsaP256 => &[Algorithm::ES256],
            Self::EcdsaP384 => &[Algorithm::ES384],
            Self::EdDsa => &[Algorithm::EdDSA],
        }
    }
}

/// The family that a PEM file is said to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemKind {
    /// An RSA public key.
    Rsa,
    /// An ECDSA public key, on P-256 or P-384.
    Ecdsa,
    /// An Ed25519 public key.
    EdDsa,
}

/// Why something is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A shared secret that could be searched for.
    #[error("shorter than {SECRET_BYTES_MIN} bytes")]
    ShortSecret,
    /// Not PEM, or not of a public key of this kind.
    #[error("not a PEM public key of this kind")]
    Pem,
    /// A private key, which does not belong here.
    #[error("a private key; weir needs the public one only")]
    Private,
    /// A curve that weir does not take.
    #[error("not on the curve P-256 or P-384")]
    Curve,
    /// An RSA key that is too small or too big.
    #[error("not an RSA key of 2048 to 8192 bits")]
    RsaSize,
    /// A key of a set that is not for checking signatures, or of a kind that weir does not take.
    #[error("not a public signature key that weir can use")]
    Unusable,
}

/// A key, its name and what it may be used for.
pub struct Key {
    id: Option<String>,
    kind: KeyKind,
    /// The only algorithm it is for, when it says so itself.
    only: Option<Algorithm>,
    /// When what it has signed stops being good.
    until: Option<SystemTime>,
    /// What a check with it takes at most, in microseconds.
    cost: u32,
    decoding: DecodingKey,
}

/// Never shows the key.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A shared secret.
    ///
    /// # Errors
    /// When it is shorter than [`SECRET_BYTES_MIN`].
    pub fn from_secret(id: &str, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self::from_any_secret(id, secret))
    }

    /// A shared secret of any length, for tokens that open nothing: one that is shorter than
    /// [`SECRET_BYTES_MIN`] can be found by whoever has a token that it signed.
    pub fn from_any_secret(id: &str, secret: &[u8]) -> Self {
        Self::new(Some(id.to_owned()), KeyKind::Hmac, DecodingKey::from_secret(secret))
    }

    /// A public key in PEM (`BEGIN PUBLIC KEY`, for RSA also `BEGIN RSA PUBLIC KEY`).
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_pem(id: &str, kind: PemKind, pem: &[u8]) -> Result<Self, KeyError> {
        if pem.windows(b"PRIVATE KEY".len()).any(|window| window == b"PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let decoding = match kind {
            PemKind::Rsa => DecodingKey::from_rsa_pem(pem),
            PemKind::Ecdsa => DecodingKey::from_ec_pem(pem),
            PemKind::EdDsa => DecodingKey::from_ed_pem(pem),
        };
        let decoding = decoding.map_err(|_| KeyError::Pem)?;
        let mut cost = None;
        let kind = match kind {
            PemKind::Rsa => match decoding.try_get_as_bytes().map(<[u8]>::len) {
                // A modulus of 2048 bits and a little DER around it.
                Ok(len @ 256..) => {
                    cost = Some(cost_of_rsa(len.saturating_sub(RSA_DER_BYTES_MAX)));
                    KeyKind::Rsa
                }
                Ok(_) | Err(_) => return Err(KeyError::RsaSize),
            },
            PemKind::EdDsa => KeyKind::EdDsa,
            PemKind::Ecdsa => match decoding.try_get_as_bytes().map(<[u8]>::len) {
                // SEC 1: a byte that says "uncompressed", and two coordinates.
                Ok(65) => KeyKind::EcdsaP256,
                Ok(97) => KeyKind::EcdsaP384,
                Ok(_) | Err(_) => return Err(KeyError::Curve),
            },
        };
        let key = Self::new(Some(id.to_owned()), kind, decoding);
        Ok(Self { cost: cost.unwrap_or(key.cost), ..key })
    }

    /// A key of a key set (RFC 7517).
    ///
    /// # Errors
    /// When it is not for checking signatures, of a kind that weir does not take, or broken. Shared
    /// secrets are not taken: a key set is public.
    pub(crate) fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
        if !for_signatures || !jwk.key_ops.as_ref().is_none_or(verifies) {
            return Err(KeyError::Unusable);
        }
        let mut cost = None;
        let (kind, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref(), &jwk.x, &jwk.y) {
            ("RSA", _, _, _) => {
                let (decoding, modulus) = rsa(jwk)?;
                cost = Some(cost_of_rsa(modulus));
                (KeyKind::Rsa, decoding)
            }
            ("EC", Some("P-256"), Some(x), Some(y)) => (KeyKind::EcdsaP256, ec(x, y, 32)?),
            ("EC", Some("P-384"), Some(x), Some(y)) => (KeyKind::EcdsaP384, ec(x, y, 48)?),
            ("OKP", Some("Ed25519"), Some(x), _) => {
                bytes(x, 32)?;
                let decoding = DecodingKey::from_ed_components(x);
                (KeyKind::EdDsa, decoding.map_err(|_| KeyError::Unusable)?)
            }
            _ => return Err(KeyError::Unusable),
        };
        let only = match &jwk.alg {
            None => None,
            Some(name) => {
                let known = kind.algorithms().iter().copied();
                let named =
                    name.parse().ok().filter(|named| known.clone().any(|one| one == *named));
                Some(named.ok_or(KeyError::Unusable)?)
            }
        };
        let key = Self::new(jwk.kid.clone(), kind, decoding);
        Ok(Self { only, cost: cost.unwrap_or(key.cost), ..key })
    }

    fn new(id: Option<String>, kind: KeyKind, decoding: DecodingKey) -> Self {
        let cost = match kind {
            KeyKind::Hmac => 4,
            KeyKind::Rsa => cost_of_rsa(RSA_BYTES_MAX),
            KeyKind::EcdsaP256 => 60,
            KeyKind::EcdsaP384 => 230,
            KeyKind::EdDsa => 43,
        };
        Self { id, kind, only: None, until: None, cost, decoding }
    }

    /// The same key, which is none any more from `end` on: while it is being replaced by another.
    #[must_use]
    pub fn until(self, end: SystemTime) -> Self {
        Self { until: Some(end), ..self }
    }

    /// Whether it is a key at `wall`.
    pub fn holds(&self, wall: SystemTime) -> bool {
        self.until.is_none_or(|end| wall < end)
    }

    /// Its name: the `kid` of tokens that it has signed.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What kind it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether it may have signed with `algorithm`.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.kind.algorithms().contains(&algorithm)
            && self.only.is_none_or(|only| only == algorithm)
    }

    /// What a check with it takes, in microseconds of an ordinary core: measured by
    /// `examples/token_time.rs`.
    pub(crate) fn cost(&self) -> u32 {
        self.cost
    }

    /// A token that says this, signed with it and naming it; `None` when it is a public key.
    pub fn sign(&self, claims: &Map<String, Value>) -> Option<String> {
        if self.kind != KeyKind::Hmac {
            return None;
        }
        let secret = self.decoding.try_get_as_bytes().ok()?;
        let header = Header { kid: self.id.clone(), ..Header::new(Algorithm::HS256) };
        encode(&header, claims, &EncodingKey::from_secret(secret)).ok()
    }

    /// Whether it has signed `message` with `algorithm`, which it allows. `signature` is base64.
    pub(crate) fn has_signed(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        debug_assert!(self.allows(algorithm));
        matches!(crypto::verify(signature, message.as_bytes(), &self.decoding, algorithm), Ok(true))
    }
}

/// One entry of a key set, as far as it matters (RFC 7517, section 4; RFC 7518, section 6).
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Biggest RSA modulus, in bytes.
const RSA_BYTES_MAX: usize = 8192 / 8;

/// Most that DER adds to a modulus in `RSAPublicKey` (RFC 8017, appendix A.1.1), beside an exponent
/// of three bytes.
const RSA_DER_BYTES_MAX: usize = 14;

/// What a check takes with a modulus of so many bytes: it grows with the square.
fn cost_of_rsa(modulus: usize) -> u32 {
    match modulus {
        0..=256 => 25,
        257..=512 => 77,
        _ => 280,
    }
}

/// The key, and the bytes of its modulus.
fn rsa(jwk: &Jwk) -> Result<(DecodingKey, usize), KeyError> {
    let (Some(n), Some(e)) = (&jwk.n, &jwk.e) else { return Err(KeyError::Unusable) };
    let modulus = URL_SAFE_NO_PAD.decode(n).map_err(|_| KeyError::Unusable)?;
    let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
    if !(2048 / 8..=RSA_BYTES_MAX).contains(&significant) {
        return Err(KeyError::RsaSize);
    }
    let decoding = DecodingKey::from_rsa_components(n, e).map_err(|_| KeyError::Unusable)?;
    Ok((decoding, significant))
}

fn ec(x: &str, y: &str, coordinate: usize) -> Result<DecodingKey, KeyError> {
    bytes(x, coordinate)?;
    bytes(y, coordinate)?;
    DecodingKey::from_ec_components(x, y).map_err(|_| KeyError::Unusable)
}

/// Checks that `text` is this many bytes in base64.
fn bytes(text: &str, expected: usize) -> Result<(), KeyError> {
    match URL_SAFE_NO_PAD.decode(text) {
        Ok(bytes) if bytes.len() == expected => Ok(()),
        Ok(_) | Err(_) => Err(KeyError::Unusable),
    }
}
