//! Searching the state after one block. What one page costs is bounded, whatever is looked for and whoever filled the chain.

use std::{collections::BTreeSet, ops::Bound};

use ledger::{
    Hash, Id, Kind, Record, RecordKey, Resources,
    body::{Assignments, Farm, Terms},
    encoding::encode,
    geography::{Cell, Place},
    index::IndexKey,
    query::{Facts, Position, Query},
    record::BodyOf,
};
use redb::Value;

use super::{Bytes, DatabaseError, INDEX, LATEST, Result, Snapshot};

/// Most records and farms that are looked at for one page.
const MAX_LOOKED: usize = 4_096;
/// Most cells of the globe whose farms are put in order for one page; a wider search looks at all farms.
const MAX_CELLS: usize = 256;
/// Most farms near a point that are put in order for one page.
const MAX_NEAR: usize = 1_024;
/// Most terms of a farm that a search looks at.
const MAX_TERMS: usize = 16;
/// Behind all records of a farm.
const BEHIND_ALL: Id = Id::from_hash(Hash::from_bytes([0xff; 32]));

/// A part of what a search finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The hits, in ascending order.
    pub hits: Vec<Position>,
    /// Where to go on; `None` at the end. A page with few hits or none may have more beyond it.
    pub next: Option<Position>,
}

/// Ids in ascending order.
type Ids = Box<dyn Iterator<Item = Result<Id>>>;

/// Where the candidates of a page come from.
struct Source {
    ids: Ids,
    /// Whether the ids are those of farms, whose records are the candidates.
    farms: bool,
    /// Whether the ids end where the search does.
    whole: bool,
}

impl Source {
    const fn records(ids: Ids) -> Self {
        let (farms, whole) = (false, true);
        Self { ids, farms, whole }
    }
}

impl Snapshot<'_> {
    /// Ids of records of a kind above `after`, of one owner or of all, in ascending order, at most `limit`.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn find(&self, kind: Kind, of: Option<Id>, after: Option<Id>, limit: usize) -> Result<Vec<Id>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = match of {
            Some(of) => self.indexed(&IndexKey::Of { kind, of }, from)?,
            None => self.of_kind(kind, from)?,
        };
        ids.take(limit).collect()
    }

    /// Records above `after` that match a query whose filters fit its kind, at most `limit`; where the search goes farm by farm, at
    /// most `each` of a farm.
    ///
    /// # Errors
    /// [`DatabaseError`] when the file cannot be read.
    pub fn search(&self, query: &Query, after: Option<Position>, each: usize, limit: usize) -> Result<Page> {
        let source = self.source(query, after)?;
        let mut walk = Walk {
            snapshot: self,
            query,
            limit,
            hits: Vec::new(),
            last: after.unwrap_or_default(),
            looked: 0,
        };
        let at_the_end = if source.farms {
            walk.farms(source.ids, after, each)?
        } else {
            walk.records(source.ids, Id::default(), &Known::default(), usize::MAX)?
        };
        let next = (!(at_the_end && source.whole)).then_some(walk.last);
        Ok(Page { hits: walk.hits, next })
    }

    /// The narrowest set of candidates that there is an index for.
    fn source(&self, query: &Query, after: Option<Position>) -> Result<Source> {
        let kind = query.kind;
        let id = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.id));
        // Of the farm at which the last page ended there may be more.
        let farm = after.map_or(Bound::Unbounded, |after| Bound::Included(after.farm));
        let has_farm = matches!(kind, Kind::Node | Kind::Terms);
        match (query.of, query.place, query.state) {
            (Some(of), ..) if has_farm && self.body::<Farm>(of)?.is_none() => {
                let kind = Kind::Farm;
                let ids = self.indexed(&IndexKey::Of { kind, of }, farm)?;
                let (farms, whole) = (true, true);
                Ok(Source { ids, farms, whole })
            }
            (Some(of), ..) if has_farm => {
                let is_behind = after.is_some_and(|after| of < after.farm);
                let ids = Box::new((!is_behind).then_some(Ok(of)).into_iter());
                let (farms, whole) = (true, true);
                Ok(Source { ids, farms, whole })
            }
            (Some(of), ..) => Ok(Source::records(self.indexed(&IndexKey::Of { kind, of }, id)?)),
            (None, Some(place), _) => self.farms_in(place, if has_farm { farm } else { id }, has_farm),
            (None, None, _) if query.fits.is_some() => {
                let (ids, farms, whole) = (self.of_kind(Kind::Farm, farm)?, true, true);
                Ok(Source { ids, farms, whole })
            }
            (None, None, Some(state)) => Ok(Source::records(self.indexed(&IndexKey::In { kind, state }, id)?)),
            (None, None, None) => Ok(Source::records(self.of_kind(kind, id)?)),
        }
    }

    /// The farms in a place, and more where the place is wide: a search looks at where they stand in any case.
    fn farms_in(&self, place: Place, from: Bound<Id>, farms: bool) -> Result<Source> {
        let cells = match place {
            Place::Country(country) => {
                let (ids, whole) = (self.indexed(&IndexKey::Country(country), from)?, true);
                return Ok(Source { ids, farms, whole });
            }
            Place::Near {
                latitude,
                longitude,
                km,
            } => Cell::around((latitude, longitude), km, MAX_CELLS),
        };
        let Some(cells) = cells else {
            let (ids, whole) = (self.of_kind(Kind::Farm, from)?, true);
            return Ok(Source { ids, farms, whole });
        };
        let mut near = BTreeSet::new();
        let mut whole = true;
        for cell in cells {
            for id in self.indexed(&IndexKey::Cell(cell), from)?.take(MAX_NEAR + 1) {
                near.insert(id?);
            }
            while near.len() > MAX_NEAR {
                near.pop_last();
                whole = false;
            }
        }
        let ids = Box::new(near.into_iter().map(Ok));
        Ok(Source { ids, farms, whole })
    }

    fn indexed(&self, key: &IndexKey, from: Bound<Id>) -> Result<Ids> {
        ids(&self.redb.open_table(INDEX)?, &encode(key), from)
    }

    fn of_kind(&self, kind: Kind, from: Bound<Id>) -> Result<Ids> {
        ids(&self.redb.open_table(LATEST)?, &encode(&kind), from)
    }

    fn body<B: BodyOf>(&self, id: Id) -> Result<Option<B>> {
        let record = self.latest_version(&RecordKey::new(B::KIND, id))?;
        Ok(record.and_then(|record| B::of(&record.body).cloned()))
    }
}

/// The ids behind a prefix of a table's keys.
fn ids<V: Value + 'static>(table: &redb::ReadOnlyTable<Bytes, V>, prefix: &[u8], from: Bound<Id>) -> Result<Ids> {
    if from == Bound::Excluded(BEHIND_ALL) {
        return Ok(Box::new(std::iter::empty()));
    }
    let key = |id: Id| [prefix, id.hash().as_bytes()].concat();
    let last = key(BEHIND_ALL);
    let first = match from {
        Bound::Unbounded => Bound::Included(prefix.to_vec()),
        Bound::Included(id) => Bound::Included(key(id)),
        Bound::Excluded(id) => Bound::Excluded(key(id)),
    };
    let range = (first.as_ref().map(Vec::as_slice), Bound::Included(last.as_slice()));
    let entries = table.range::<&[u8]>(range)?;
    Ok(Box::new(entries.map(|entry| id_at_end(entry?.0.value()))))
}

fn id_at_end(key: &[u8]) -> Result<Id> {
    let id = key.last_chunk::<32>().ok_or(DatabaseError::Damaged("index"))?;
    Ok(Id::from_hash(Hash::from_bytes(*id)))
}

/// What is known of the candidates of one farm.
#[derive(Debug, Default)]
struct Known {
    farm: Option<Farm>,
    terms: Vec<Terms>,
}

/// One page being put together.
struct Walk<'a> {
    snapshot: &'a Snapshot<'a>,
    query: &'a Query,
    limit: usize,
    hits: Vec<Position>,
    /// The last candidate that was looked at.
    last: Position,
    looked: usize,
}

impl Walk<'_> {
    const fn is_full(&self) -> bool {
        self.hits.len() >= self.limit || self.looked >= MAX_LOOKED
    }

    /// Looks at records of a farm, until `most` of them match. Returns whether the page had room for it.
    fn records(&mut self, ids: Ids, farm: Id, known: &Known, most: usize) -> Result<bool> {
        let most = self.hits.len().saturating_add(most);
        for id in ids {
            if self.is_full() {
                return Ok(false);
            }
            if self.hits.len() >= most {
                break;
            }
            let position = Position { farm, id: id? };
            self.looked += 1;
            self.last = position;
            if self.is_hit(position.id, known)? {
                self.hits.push(position);
            }
        }
        Ok(true)
    }

    fn farms(&mut self, farms: Ids, after: Option<Position>, each: usize) -> Result<bool> {
        let kind = self.query.kind;
        for of in farms {
            if self.is_full() {
                return Ok(false);
            }
            let of = of?;
            self.looked += 1;
            let known = self.known(of)?;
            let is_there = |place: Place| known.farm.as_ref().is_some_and(|farm| place.contains(&farm.location));
            if self.query.place.is_none_or(is_there) {
                let after = after.filter(|after| after.farm == of);
                let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.id));
                let ids = self.snapshot.indexed(&IndexKey::Of { kind, of }, from)?;
                if !self.records(ids, of, &known, each)? {
                    return Ok(false);
                }
            }
            self.last = Position {
                farm: of,
                id: BEHIND_ALL,
            };
        }
        Ok(true)
    }

    fn known(&self, farm: Id) -> Result<Known> {
        let mut terms = Vec::new();
        if self.query.kind == Kind::Node && self.query.fits.is_some() {
            for id in self.snapshot.find(Kind::Terms, Some(farm), None, MAX_TERMS)? {
                terms.extend(self.snapshot.body::<Terms>(id)?);
            }
        }
        let farm = self.snapshot.body::<Farm>(farm)?;
        Ok(Known { farm, terms })
    }

    fn is_hit(&self, id: Id, known: &Known) -> Result<bool> {
        let key = RecordKey::new(self.query.kind, id);
        let record: Option<Record> = self.snapshot.latest_version(&key)?;
        let record = record.ok_or(DatabaseError::Damaged("index"))?;
        let reserved = match self.query.fits {
            Some(_) if self.query.kind == Kind::Node => self.snapshot.body::<Assignments>(id)?,
            _ => None,
        };
        let facts = Facts {
            farm: known.farm.as_ref(),
            reserved: reserved.map_or(Resources::ZERO, |assignments| assignments.reserved),
            terms: &known.terms,
        };
        Ok(self.query.matches(&record, &facts))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ledger::{
        Body, PublicKey, SigningKey, Timestamp, Tokens,
        body::{Keys, Location, Node, NodeState, Prices, SettlementRule},
        machine::Outcome,
        query::State,
        text::Text,
    };

    use super::*;
    use crate::database::{Database, put_outcome, tests::genesis};

    /// All latest records of a chain that nobody but a test makes.
    struct World {
        database: Database,
        latest: BTreeMap<RecordKey, Record>,
        random: fastrand::Rng,
        _folder: tempfile::TempDir,
    }

    fn id(number: u64) -> Id {
        Id::from_hash(Hash::from_bytes(*blake3::hash(&number.to_be_bytes()).as_bytes()))
    }

    const OWNERS: [u64; 3] = [1_001, 1_002, 1_003];

    impl World {
        fn new(seed: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let database = Database::open(&folder.path().join("chain.redb"), genesis()).unwrap();
            let mut world = Self {
                database,
                latest: BTreeMap::new(),
                random: fastrand::Rng::with_seed(seed),
                _folder: folder,
            };
            for _ in 0..2 {
                let bodies = world.bodies();
                world.put(bodies);
            }
            world
        }

        fn location(&mut self) -> Location {
            Location {
                country: self.random.choice([*b"BE", *b"DE", *b"NZ"]).unwrap(),
                latitude: self.random.i32(-90_000_000..=90_000_000),
                longitude: self.random.i32(175_000_000..=180_000_000) * if self.random.bool() { 1 } else { -1 },
            }
        }

        fn state(&mut self) -> NodeState {
            let (until, since) = (Timestamp::from_millis(5), Timestamp::default());
            let states = [
                NodeState::Joined { until },
                NodeState::Active { seen: since, until },
                NodeState::Gone { since },
                NodeState::Expelled,
            ];
            self.random.choice(states).unwrap()
        }

        /// Farms, nodes, terms: what a version of each says.
        fn bodies(&mut self) -> Vec<(Id, Body)> {
            let key: PublicKey = SigningKey::from_seed(&[3; 32]).public();
            let keys = Keys {
                signing: key,
                link: key,
                encryption: key,
            };
            let mut bodies: Vec<(Id, Body)> = Vec::new();
            for number in 0..12 {
                let farm = Farm {
                    owner: id(OWNERS[usize::try_from(number % 3).unwrap()]),
                    name: Text::lossy("farm"),
                    location: self.location(),
                    enrolments: vec![],
                };
                bodies.push((id(number), farm.into()));
            }
            for number in 100..160 {
                let state = self.state();
                let capacity = Resources {
                    cru: self.random.u64(1..8),
                    ..Resources::ZERO
                };
                let node = Node {
                    farm: id(number % 12),
                    keys,
                    capacity,
                    addresses: vec![],
                    hardware: Text::lossy(""),
                    refused_disks: vec![],
                    state,
                };
                bodies.push((id(number), node.into()));
                let reserved = Resources {
                    cru: self.random.u64(0..=capacity.cru),
                    ..Resources::ZERO
                };
                let assignments = Assignments {
                    reserved,
                    ..Assignments::default()
                };
                bodies.push((id(number), assignments.into()));
            }
            for number in 200..218 {
                let price = Tokens::from_micro(self.random.u64(1..10));
                let terms = Terms {
                    farm: id(number % 12),
                    prices: Prices {
                        cru_hour: price,
                        mru_gib_hour: price,
                        sru_gib_hour: price,
                        hru_gib_hour: price,
                    },
                    periods: (1, 10),
                    rule: SettlementRule {
                        period_ms: 1_000,
                        grace_ms: 1_000,
                        acknowledge_ms: 1_000,
                        deploy_ms: 1_000,
                        suspend_ms: 1_000,
                        tolerance_permille: 0,
                        unconfirmed_permille: 0,
                        missed_limit: 1,
                        dispute_limit: 1,
                    },
                    open: self.random.bool(),
                };
                bodies.push((id(number), terms.into()));
            }
            bodies
        }

        /// Appends a version of each record, linked to the one before.
        fn put(&mut self, bodies: Vec<(Id, Body)>) {
            let mut records = Vec::new();
            for (id, body) in bodies {
                let before = self.latest.get(&RecordKey::new(body.kind(), id));
                let record = Record {
                    id,
                    version: before.map_or(1, |before| before.version + 1),
                    previous: before.map_or(Hash::ZERO, Record::hash),
                    author: Id::CHAIN,
                    height: 1,
                    body,
                };
                self.latest.insert(record.key(), record.clone());
                records.push(record);
            }
            let outcome = Outcome {
                records,
                nodes: vec![],
                root: Hash::ZERO,
            };
            let write = self.database.redb.begin_write().unwrap();
            put_outcome(&write, &outcome).unwrap();
            write.commit().unwrap();
        }

        fn body<B: BodyOf>(&self, id: Id) -> Option<&B> {
            B::of(&self.latest.get(&RecordKey::new(B::KIND, id))?.body)
        }

        /// What a search must find: every record looked at.
        fn expected(&self, query: &Query) -> BTreeSet<Id> {
            let terms = |farm: Id| -> Vec<Terms> {
                let all = self.latest.values().filter_map(|record| Terms::of(&record.body));
                all.filter(|terms| terms.farm == farm).cloned().collect()
            };
            let is_hit = |record: &&Record| {
                let farm = match &record.body {
                    Body::Node(node) => node.farm,
                    Body::Terms(terms) => terms.farm,
                    _ => Id::default(),
                };
                let assignments = self.body::<Assignments>(record.id);
                let terms = terms(farm);
                let facts = Facts {
                    farm: self.body::<Farm>(farm),
                    reserved: assignments.map_or(Resources::ZERO, |set| set.reserved),
                    terms: &terms,
                };
                query.matches(record, &facts)
            };
            let hits = self.latest.values().filter(is_hit);
            hits.map(|record| record.id).collect()
        }

        /// What pages of `limit` hits find together, in order.
        fn found(&self, query: &Query, limit: usize) -> Vec<Position> {
            let snapshot = self.database.snapshot().unwrap();
            let (mut all, mut after) = (Vec::new(), None);
            loop {
                let page = snapshot.search(query, after, usize::MAX, limit).unwrap();
                assert!(page.hits.len() <= limit);
                all.extend(page.hits);
                let Some(next) = page.next else { break };
                assert!(Some(next) > after, "a page goes on: {after:?} {next:?}");
                after = Some(next);
            }
            all
        }

        fn query(&mut self) -> Query {
            let random = &mut self.random;
            let mut some = |one_in: u8| random.u8(0..one_in) == 0;
            let (of, state, place, fits, price) = (some(2), some(3), some(2), some(2), some(2));
            let kind = self.random.choice([Kind::Farm, Kind::Node, Kind::Terms]).unwrap();
            let belongs = [id(OWNERS[0]), id(OWNERS[1]), id(self.random.u64(0..12))];
            let near = self.location();
            let place_of = [
                Place::Country(*b"BE"),
                Place::Near {
                    latitude: near.latitude,
                    longitude: near.longitude,
                    km: self.random.u32(0..3_000),
                },
            ];
            let fits_in = Resources {
                cru: self.random.u64(1..4),
                ..Resources::ZERO
            };
            Query {
                kind,
                of: of.then(|| self.random.choice(belongs).unwrap()),
                state: state.then(|| self.random.choice([State::Active, State::Gone, State::Open]).unwrap()),
                place: place.then(|| self.random.choice(place_of).unwrap()),
                fits: fits.then_some(fits_in),
                max_hour: price.then(|| Tokens::from_micro(self.random.u64(1..30))),
            }
        }
    }

    #[test]
    fn a_search_finds_what_matches_and_nothing_else_however_it_is_paged() {
        let (mut asked, mut hits) = (0, 0);
        for seed in 0..8 {
            let mut world = World::new(seed);
            for _ in 0..400 {
                let query = world.query();
                if query.check().is_err() {
                    continue;
                }
                let expected = world.expected(&query);
                for limit in [1, 3, 1_000] {
                    let found = world.found(&query, limit);
                    assert!(found.is_sorted_by(|a, b| a < b), "seed {seed}: {query:?}");
                    let found: BTreeSet<Id> = found.into_iter().map(|hit| hit.id).collect();
                    assert_eq!(found, expected, "seed {seed}, pages of {limit}: {query:?}");
                }
                asked += 1;
                hits += expected.len();
            }
        }
        assert!(
            asked > 500 && hits > 1_000,
            "{asked} searches with {hits} hits prove little"
        );
    }

    #[test]
    fn no_farm_fills_a_page_beyond_its_share() {
        let world = World::new(1);
        let query = Query {
            place: Some(Place::ANYWHERE),
            ..Query::all(Kind::Node)
        };
        let snapshot = world.database.snapshot().unwrap();
        let page = snapshot.search(&query, None, 2, 1_000).unwrap();
        assert_eq!((page.hits.len(), page.next), (24, None));
        let farms: BTreeSet<Id> = page.hits.iter().map(|hit| hit.farm).collect();
        assert_eq!(farms.len(), 12);
    }
}
