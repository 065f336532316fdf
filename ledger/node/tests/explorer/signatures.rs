//! The page's predicate for signatures and that of the chain.

use crate::{chromium::Chromium, world::World};
use ledger::{PublicKey, Signature};
use ledger_node::HttpLimits;
use serde::Deserialize;
use serde_json::{Value, json};

/// Signatures that honest and other people make, each with what the page thinks of it, and what its library alone would.
const CRAFTED: &str = "(async () => {
  const explorer = new URL('.', document.querySelector('script').src);
  const { Point, getPublicKey, hashes, sign, verify } = await import(`${explorer}vendor/noble-ed25519/index.js`);
  const { sha512 } = await import(`${explorer}vendor/noble-hashes/sha2.js`);
  const { verifyStrict } = await import(`${explorer}verify/ed25519.js`);
  const { concat, hex, integer, littleEndian, utf8 } = await import(`${explorer}verify/bytes.js`);
  hashes.sha512 = sha512;
  const ORDER = Point.CURVE().n;
  const multiply = (point, scalar) => point.multiply(scalar % ORDER, false);
  // A point of order eight: what the order of the base point leaves of one outside its group.
  const torsion = (() => {
    for (let seed = 0; ; seed += 1) {
      try {
        const point = Point.fromBytes(sha512(Uint8Array.of(seed)).slice(0, 32));
        const rest = multiply(point, ORDER - 1n).add(point);
        if (!rest.add(rest).add(rest).add(rest).is0()) return rest;
      } catch { /* Not on the curve. */ }
    }
  })();
  const small = [Point.ZERO, torsion, torsion.add(torsion), torsion.add(torsion).add(torsion), torsion.negate()];
  const secret = 123456789n;
  const A = multiply(Point.BASE, secret);
  const challenge = (r, key, message) => integer(sha512(concat(r, key, message))) % ORDER;
  const answer = (R, key, message, r) => {
    const bytes = R.toBytes();
    return concat(bytes, littleEndian((r + challenge(bytes, key, message) * secret) % ORDER, 32));
  };
  const cases = [];
  const add = (name, key, message, signature) => {
    let loose = false;
    try { loose = verify(signature, message, key); } catch { /* It does not even read it. */ }
    cases.push({ name, key: hex(key), message: hex(message), signature: hex(signature), strict: verifyStrict(key, message, signature), loose });
  };
  const message = utf8('a message');
  const seed = new Uint8Array(32).fill(5);
  const good = sign(message, seed);
  const key = getPublicKey(seed);
  add('honest', key, message, good);
  add('another message', key, utf8('another'), good);
  for (const at of [0, 31, 32, 63]) {
    const flipped = good.slice();
    flipped[at] ^= 1;
    add(`flipped at ${at}`, key, message, flipped);
  }
  add('s and the order', key, message, concat(good.slice(0, 32), littleEndian(integer(good.slice(32)) + ORDER, 32)));
  const r = 987654321n;
  add('by hand', A.toBytes(), message, answer(multiply(Point.BASE, r), A.toBytes(), message, r));
  small.forEach((point, index) => {
    add(`R with torsion ${index}`, A.toBytes(), message, answer(multiply(Point.BASE, r).add(point), A.toBytes(), message, r));
    add(`small R ${index}`, A.toBytes(), message, answer(point, A.toBytes(), message, 0n));
    add(`small A ${index}`, point.toBytes(), message, concat(multiply(Point.BASE, r).toBytes(), littleEndian(r, 32)));
    add(`small both ${index}`, point.toBytes(), message, concat(point.toBytes(), new Uint8Array(32)));
    // Keys with torsion are valid where the challenge takes it away.
    const mixed = A.add(point).toBytes();
    const R = multiply(Point.BASE, r);
    for (let number = 0; number < 16; number += 1) {
      const text = utf8(`message ${number}`);
      add(`A with torsion ${index}, ${number}`, mixed, text, answer(R, mixed, text, r));
    }
  });
  // The neutral element, written as y = p + 1, and as one with a sign.
  const p = Point.CURVE().p;
  for (const bytes of [littleEndian(p + 1n, 32), littleEndian(1n + (1n << 255n), 32)]) {
    add('R not canonical', A.toBytes(), message, concat(bytes, littleEndian((challenge(bytes, A.toBytes(), message) * secret) % ORDER, 32)));
    add('A not canonical', bytes, message, concat(multiply(Point.BASE, r).toBytes(), littleEndian(r, 32)));
  }
  return cases;
})()";

/// What the page thinks of vectors.
const VECTORS: &str = "(async (vectors) => {
  const explorer = new URL('.', document.querySelector('script').src);
  const { verifyStrict } = await import(`${explorer}verify/ed25519.js`);
  const { unhex } = await import(`${explorer}verify/bytes.js`);
  return vectors.map(({ key, message, signature }) => verifyStrict(unhex(key), unhex(message), unhex(signature)));
})";

#[derive(Deserialize)]
struct Crafted {
    name: String,
    key: PublicKey,
    message: String,
    signature: Signature,
    strict: bool,
    loose: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_chain_hold_the_same_signatures_valid() {
    let world = World::start(HttpLimits::default()).await;
    let browser = Chromium::start().await;
    browser.open(&world.page("")).await;
    browser.see("#blocks li").await;
    let crafted: Vec<Crafted> = serde_json::from_value(browser.eval(CRAFTED).await).unwrap();
    assert!(crafted.len() > 100);
    for case in &crafted {
        let message = data_encoding::HEXLOWER.decode(case.message.as_bytes()).unwrap();
        let valid = case.key.verifies_bytes(&message, &case.signature);
        assert_eq!(case.strict, valid, "{}", case.name);
    }
    let count = |want: &dyn Fn(&Crafted) -> bool| crafted.iter().filter(|case| want(case)).count();
    assert!(count(&|case| case.strict && case.name.starts_with("A with torsion")) > 16);
    assert!(
        count(&|case| case.loose && !case.strict) > 16,
        "crafted to part the two predicates"
    );
    let pinned = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format/ed25519.json"));
    let pinned: Vec<Value> = serde_json::from_str(pinned).unwrap();
    let page = browser.eval(&format!("{VECTORS}({})", json!(pinned))).await;
    for (index, vector) in pinned.iter().enumerate() {
        assert_eq!(page[index], vector["valid"], "{}", vector["name"]);
    }
    world.running.stop().await.unwrap();
}
