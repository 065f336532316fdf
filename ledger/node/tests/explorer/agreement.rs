//! The light client of the page and that of the chain, side by side: whatever bytes both are given, both say the same.

use borsh::BorshDeserialize;
use ledger::{
    Certificate, CertifiedHeader, Genesis, Hash, Header, Id, Kind, LightClient, Record, RecordKey, SigningKey,
    Timestamp, Tokens, Validator, ValidatorSet,
    consensus::{CommitSignature, VoteKind, vote_bytes},
    encoding::encode,
    genesis::Issuance,
    light::RecordProof,
    store::MemoryStore,
    text::Text,
    tree,
};
use ledger_node::HttpLimits;
use serde_json::{Value, json};

use crate::{
    bodies::{bodies, record},
    chromium::Chromium,
    world::World,
};

/// What the page makes of each case.
const OUTCOMES: &str = "(async (cases) => {
  const explorer = new URL('.', document.querySelector('script').src);
  const { LightClient, Refused, read } = await import(`${explorer}verify/light.js`);
  const schema = await import(`${explorer}verify/schema.js`);
  const { unhex } = await import(`${explorer}verify/bytes.js`);
  const outcome = async ({ chain, genesis, handovers, proven, kind, id }) => {
    const client = new LightClient(chain, unhex(genesis));
    for (const one of handovers) await client.advance(read(schema.certifiedHeader, unhex(one)));
    const { head, proof } = read(schema.provenRecord, unhex(proven));
    await client.advance(head);
    return client.verifyRecord(kind, id, proof)?.hash ?? 'absent';
  };
  const outcomes = [];
  for (const one of cases) {
    outcomes.push(await outcome(one).catch((error) => {
      if (error instanceof Refused) return error.check;
      throw error;
    }));
  }
  return outcomes;
})";

/// What the page reads of records, integers that no number says exactly as texts.
const READ: &str = "(async (records) => {
  const explorer = new URL('.', document.querySelector('script').src);
  const { decode } = await import(`${explorer}verify/borsh.js`);
  const { record } = await import(`${explorer}verify/schema.js`);
  const { unhex } = await import(`${explorer}verify/bytes.js`);
  const values = records.map((bytes) => decode(record, unhex(bytes)));
  return JSON.parse(JSON.stringify(values, (_, value) => (typeof value === 'bigint' ? String(value) : value)));
})";

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

pub(crate) fn hash(seed: u8) -> Hash {
    Hash::from_bytes([seed; 32])
}

pub(crate) fn id(seed: u8) -> Id {
    Id::from_hash(hash(seed))
}

fn hex(value: &impl borsh::BorshSerialize) -> String {
    data_encoding::HEXLOWER.encode(&encode(value))
}

/// The validators with these seeds and powers.
pub(crate) fn set(members: &[(u8, u64)]) -> ValidatorSet {
    let validator = |&(seed, power): &(u8, u64)| Validator {
        key: key(seed).public(),
        link: key(seed).public(),
        power,
    };
    ValidatorSet::new(members.iter().map(validator).collect()).unwrap()
}

/// Puts what no number of JavaScript says exactly into quotes.
fn quoted(value: Value) -> Value {
    match value {
        Value::Number(number) if number.as_u64().is_some_and(|number| number >= 1 << 53) => number.to_string().into(),
        Value::Array(values) => values.into_iter().map(quoted).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, quoted(value))).collect(),
        value => value,
    }
}

/// What a light client is given, as bytes.
#[derive(Clone)]
struct Case {
    chain: Hash,
    genesis: Vec<u8>,
    handovers: Vec<Vec<u8>>,
    proven: Vec<u8>,
    key: RecordKey,
}

impl Case {
    /// What the chain's own light client makes of it.
    fn outcome(&self) -> String {
        let read = || -> Result<String, String> {
            let genesis: Genesis = decoded(&self.genesis)?;
            let mut client = LightClient::new(self.chain, &genesis).map_err(|error| error.check())?;
            for handover in &self.handovers {
                let handover = decoded(handover)?;
                client.advance(&handover).map_err(|error| error.check())?;
            }
            let (head, proof): (CertifiedHeader, RecordProof) = decoded(&self.proven)?;
            client.advance(&head).map_err(|error| error.check())?;
            let record = client.verify_record(self.key, proof).map_err(|error| error.check())?;
            Ok(record.map_or_else(|| "absent".to_owned(), |record| record.hash().to_string()))
        };
        read().unwrap_or_else(|check| check)
    }

    fn json(&self) -> Value {
        let hex = |bytes: &Vec<u8>| data_encoding::HEXLOWER.encode(bytes);
        json!({
            "chain": self.chain,
            "genesis": hex(&self.genesis),
            "handovers": self.handovers.iter().map(hex).collect::<Vec<_>>(),
            "proven": hex(&self.proven),
            "kind": self.key.kind.name(),
            "id": self.key.id,
        })
    }

    /// The same with some byte of some part changed, taken away or added.
    fn spoiled(&self, random: &mut fastrand::Rng) -> Self {
        let mut spoiled = self.clone();
        let part = match random.u8(0..8) {
            0 => &mut spoiled.genesis,
            1..=2 => random.choice(&mut spoiled.handovers).unwrap(),
            _ => &mut spoiled.proven,
        };
        let at = random.usize(..part.len());
        match random.u8(0..10) {
            0 => drop(part.remove(at)),
            1 => part.insert(at, random.u8(..)),
            _ => part[at] ^= 1 << random.u8(0..8),
        }
        spoiled
    }
}

fn decoded<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, String> {
    T::try_from_slice(bytes).map_err(|_| "malformed".to_owned())
}

/// A chain whose validators change at block 2, and then again at block 4.
struct Chain {
    genesis: Genesis,
    sets: [(ValidatorSet, Vec<u8>); 3],
    records: Vec<Record>,
    store: MemoryStore,
}

impl Chain {
    fn new() -> Self {
        let sets = [vec![(1, 1)], vec![(1, 3), (2, 3), (3, 1)], vec![(3, 4), (4, 2)]];
        let sets = sets.map(|members| (set(&members), members.iter().map(|(seed, _)| *seed).collect()));
        let genesis = Genesis {
            name: Text::lossy("test"),
            time: Timestamp::from_millis(1),
            block_interval_ms: 1_000,
            attest_ms: 3_600_000,
            name_deposit: Tokens::ZERO,
            validators: sets[0].0.clone(),
            entities: vec![],
            issuance: Issuance::Fixed,
        };
        let records: Vec<Record> = (1..).zip(bodies()).map(|(seed, body)| record(seed, body)).collect();
        let mut store = MemoryStore::default();
        let mut changes: Vec<_> = records
            .iter()
            .map(|record| (record.key().path(), Some(record.hash())))
            .collect();
        changes.sort();
        let (root, nodes) = tree::update(&store, Hash::ZERO, &changes).unwrap();
        store.nodes.extend(nodes);
        store.root = root;
        Self {
            genesis,
            sets,
            records,
            store,
        }
    }

    /// A block that one set certifies, by the members with some seeds, and the next one follows.
    fn block(&self, height: u64, [by, next]: [usize; 2], signers: &[u8]) -> CertifiedHeader {
        let (set, next_set) = (&self.sets[by].0, &self.sets[next].0);
        let header = Header {
            chain: self.genesis.hash(),
            height,
            time: Timestamp::from_millis(height),
            previous: hash(1),
            transactions: hash(2),
            state: self.store.root,
            validators: set.hash(),
            next_validators: next_set.hash(),
            proposer: set.validators()[0].key,
        };
        let block = header.id();
        let bytes = vote_bytes(header.chain, VoteKind::Precommit, height, 1, Some(block));
        let sign = |seed: &u8| CommitSignature {
            validator: key(*seed).public(),
            signature: key(*seed).sign_bytes(&bytes),
        };
        CertifiedHeader {
            header,
            certificate: Certificate {
                height,
                round: 1,
                block,
                signatures: signers.iter().map(sign).collect(),
            },
            handover: (by != next).then(|| next_set.clone()),
        }
    }

    fn whole(&self, height: u64, sets: [usize; 2]) -> CertifiedHeader {
        self.block(height, sets, &self.sets[sets[0]].1)
    }

    fn proof(&self, key: RecordKey) -> RecordProof {
        RecordProof {
            record: self.records.iter().find(|record| record.key() == key).cloned(),
            proof: tree::prove(&self.store, self.store.root, key.path()).unwrap(),
        }
    }

    fn case(&self, handovers: &[CertifiedHeader], head: &CertifiedHeader, key: RecordKey, proof: &RecordProof) -> Case {
        Case {
            chain: self.genesis.hash(),
            genesis: encode(&self.genesis),
            handovers: handovers.iter().map(encode).collect(),
            proven: encode(&(head, proof)),
            key,
        }
    }

    /// Cases that a rule of the light client each decides.
    fn cases(&self) -> Vec<Case> {
        let walked = [self.whole(2, [0, 1]), self.whole(4, [1, 2])];
        let head = self.whole(5, [2, 2]);
        let keys: Vec<RecordKey> = self.records.iter().map(Record::key).collect();
        let (first, other) = (keys[0], keys[1]);
        let good = self.proof(first);
        let absent = RecordKey::new(Kind::Contract, id(200));
        let on = |handovers: &[CertifiedHeader], head: &CertifiedHeader| self.case(handovers, head, first, &good);
        let says = |key, proof: &RecordProof| self.case(&walked, &head, key, proof);
        let mut cases: Vec<Case> = keys.iter().map(|key| says(*key, &self.proof(*key))).collect();
        let assignments = keys.iter().find(|key| key.kind == Kind::Assignments).unwrap();
        let withheld = |key| RecordProof {
            record: None,
            ..self.proof(key)
        };
        cases.extend([
            says(absent, &self.proof(absent)),
            says(other, &good),
            says(absent, &good),
            says(first, &withheld(first)),
            says(*assignments, &withheld(*assignments)),
            says(
                first,
                &RecordProof {
                    record: self.proof(other).record,
                    ..good.clone()
                },
            ),
        ]);
        let mut deep = good.clone();
        deep.proof.siblings = vec![hash(1); 257];
        cases.push(says(first, &deep));
        let twin = {
            let mut twin = head.clone();
            twin.header.time = Timestamp::from_millis(99);
            twin
        };
        let bare = CertifiedHeader {
            handover: None,
            ..walked[0].clone()
        };
        let wrong = CertifiedHeader {
            handover: Some(self.sets[2].0.clone()),
            ..walked[0].clone()
        };
        let twice = {
            let mut twice = head.clone();
            twice.certificate.signatures = vec![head.certificate.signatures[0]; 2];
            twice
        };
        cases.extend([
            on(&[], &self.whole(1, [0, 0])),
            on(&[], &head),
            on(&walked[..1], &head),
            on(&walked, &self.whole(3, [1, 1])),
            on(&[], &bare),
            on(&[], &wrong),
            on(&walked, &twin),
            on(&walked, &twice),
            on(&[walked.to_vec(), vec![head.clone()]].concat(), &head),
            on(
                &[walked.to_vec(), vec![self.whole(5, [2, 1])]].concat(),
                &self.whole(5, [1, 1]),
            ),
            // Of seven, six are more than two thirds and four are not; of six, four are just two thirds.
            on(&walked[..1], &self.block(3, [1, 1], &[1, 2])),
            on(&walked[..1], &self.block(3, [1, 1], &[1, 3])),
            on(&walked, &self.block(5, [2, 2], &[3])),
            on(&walked, &self.block(5, [2, 2], &[4])),
            on(&walked, &self.block(5, [2, 2], &[3, 1])),
            on(&walked, &self.block(5, [2, 2], &[])),
        ]);
        let mut elsewhere = cases[0].clone();
        elsewhere.chain = hash(1);
        cases.push(elsewhere);
        cases
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_light_clients_say_the_same_of_all_bytes() {
    let world = World::start(HttpLimits::default()).await;
    let browser = Chromium::start().await;
    browser.open(&world.page("")).await;
    browser.see("#blocks li").await;
    let chain = Chain::new();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cases = chain.cases();
    let whole = chain.records.len();
    for index in 0..300 {
        let spoiled = cases[index % whole].spoiled(&mut random);
        cases.push(spoiled);
    }
    let asked: Vec<Value> = cases.iter().map(Case::json).collect();
    let page = browser.eval(&format!("{OUTCOMES}({})", json!(asked))).await;
    let mut kinds = std::collections::BTreeSet::new();
    for (index, case) in cases.iter().enumerate() {
        let outcome = case.outcome();
        assert_eq!(page[index], outcome, "case {index}, seed {seed}: {}", case.json());
        if index < whole {
            assert_eq!(outcome, chain.records[index].hash().to_string(), "case {index} is true");
        }
        kinds.insert(if outcome.len() == 64 {
            "record".to_owned()
        } else {
            outcome
        });
    }
    let all = [
        "absent",
        "altered record",
        "bad handover",
        "bad proof",
        "certificate of another block",
        "forged certificate",
        "malformed",
        "missing record",
        "record",
        "stale head",
        "truncated contract set",
        "wrong genesis",
        "wrong validator set",
    ];
    let missing: Vec<_> = all.iter().filter(|kind| !kinds.contains(**kind)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}, seed {seed}");
    world.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_reads_each_kind_of_record_as_the_interface_says_it() {
    let world = World::start(HttpLimits::default()).await;
    let browser = Chromium::start().await;
    browser.open(&world.page("")).await;
    browser.see("#blocks li").await;
    let records: Vec<Record> = (1..).zip(bodies()).map(|(seed, body)| record(seed, body)).collect();
    let kinds: std::collections::BTreeSet<Kind> = records.iter().map(|record| record.body.kind()).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    let encoded: Vec<String> = records.iter().map(hex).collect();
    let read = browser.eval(&format!("{READ}({})", json!(encoded))).await;
    for (index, record) in records.iter().enumerate() {
        assert_eq!(
            read[index],
            quoted(serde_json::to_value(record).unwrap()),
            "{}",
            record.key()
        );
    }
    world.running.stop().await.unwrap();
}
