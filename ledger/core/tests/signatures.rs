//! The predicate by which a signature is valid, pinned by vectors that lie where verifiers disagree.
//!
//! `ZOS_WRITE_VECTORS=1` writes `docs/format/ed25519.json` anew, for whoever verifies in another language.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
};
use ledger::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha512};

/// The order of the base point, little-endian: a scalar and this added are the same scalar, encoded twice.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Vector {
    /// What is special.
    name: String,
    key: String,
    message: String,
    signature: String,
    valid: bool,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// The scalar by which a signature is bound to its key and message.
fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key);
    hash.update(message);
    let wide: [u8; 64] = hash.finalize().into();
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// A message for which the challenge is `wanted`.
fn message(wanted: impl Fn(Scalar, &[u8]) -> bool, r: &[u8; 32], key: &[u8; 32]) -> Vec<u8> {
    let tried = (0_u32..).map(|number| number.to_le_bytes().to_vec());
    let mut fit = tried.filter(|message| wanted(challenge(r, key, message), message));
    fit.next().unwrap()
}

fn vector(name: &str, key: [u8; 32], message: &[u8], (r, s): ([u8; 32], [u8; 32]), valid: bool) -> Vector {
    Vector {
        name: name.into(),
        key: hex(&key),
        message: hex(message),
        signature: hex(&[r, s].concat()),
        valid,
    }
}

/// A key of a secret scalar, shifted by a point of small order.
fn shifted(secret: Scalar, by: EdwardsPoint) -> EdwardsPoint {
    ED25519_BASEPOINT_POINT * secret + by
}

fn plain(value: u64) -> Scalar {
    Scalar::from(value)
}

fn vectors() -> Vec<Vector> {
    let (secret, nonce) = (plain(1_234_567), plain(7_654_321));
    let torsion = EIGHT_TORSION[1];
    let (a, r) = (
        shifted(secret, EdwardsPoint::default()),
        ED25519_BASEPOINT_POINT * nonce,
    );
    let (key, commitment) = (a.compress().to_bytes(), r.compress().to_bytes());
    let ordinary = message(|_, _| true, &commitment, &key);
    let s = nonce + challenge(&commitment, &key, &ordinary) * secret;
    let mut all = vec![vector(
        "an ordinary signature",
        key,
        &ordinary,
        (commitment, s.to_bytes()),
        true,
    )];

    let mut twice = s.to_bytes();
    let mut carry = 0;
    for (byte, order) in twice.iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    all.push(vector(
        "a scalar above the order",
        key,
        &ordinary,
        (commitment, twice),
        false,
    ));

    for (number, small) in EIGHT_TORSION.iter().enumerate() {
        // For a message whose challenge undoes the key, the equation without a cofactor holds.
        let (key, r) = (small.compress().to_bytes(), commitment);
        let fit = message(|k, _| small * k == EdwardsPoint::default(), &r, &key);
        let name = format!("a key of small order, the point {number}");
        all.push(vector(&name, key, &fit, (r, nonce.to_bytes()), false));
    }
    for (number, small) in EIGHT_TORSION.iter().enumerate() {
        // The key has a part of small order that makes up for that of the commitment.
        let mixed = shifted(secret, torsion);
        let (key, r) = (mixed.compress().to_bytes(), small.compress().to_bytes());
        let fit = message(|k, _| torsion * k + small == EdwardsPoint::default(), &r, &key);
        let s = challenge(&r, &key, &fit) * secret;
        let name = format!("a commitment of small order, the point {number}");
        all.push(vector(&name, key, &fit, (r, s.to_bytes()), false));
    }

    let mixed = shifted(secret, torsion);
    let key = mixed.compress().to_bytes();
    let undone = message(|k, _| torsion * k == EdwardsPoint::default(), &commitment, &key);
    let s = nonce + challenge(&commitment, &key, &undone) * secret;
    let name = "a key with a part of small order that the challenge undoes";
    all.push(vector(name, key, &undone, (commitment, s.to_bytes()), true));
    let left = message(|k, _| torsion * k != EdwardsPoint::default(), &commitment, &key);
    let s = nonce + challenge(&commitment, &key, &left) * secret;
    let name = "valid with a cofactor alone";
    all.push(vector(name, key, &left, (commitment, s.to_bytes()), false));

    // The neutral point with a coordinate above the field's prime.
    let mut above = [0xff; 32];
    above[0] = 0xee;
    above[31] = 0x7f;
    let name = "a key of small order, not canonical";
    all.push(vector(name, above, b"", (commitment, nonce.to_bytes()), false));
    all
}

fn path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/ed25519.json")
}

#[test]
fn the_predicate_is_strict_where_verifiers_disagree() {
    if std::env::var_os("ZOS_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&vectors()).unwrap();
        std::fs::write(path(), text + "\n").unwrap();
    }
    let written: Vec<Vector> = serde_json::from_slice(&std::fs::read(path()).unwrap()).unwrap();
    assert_eq!(
        written,
        vectors(),
        "docs/format/ed25519.json is not what this test makes"
    );
    for vector in written {
        let key = PublicKey::from_bytes(bytes(&vector.key));
        let signature = Signature::from_bytes(bytes(&vector.signature));
        let digits = vector.message.as_bytes().chunks(2);
        let message: Vec<u8> = digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(
            key.verifies_bytes(&message, &signature),
            vector.valid,
            "{}",
            vector.name
        );
    }
}
