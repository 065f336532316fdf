//! Where things stand: countries, distances, and the cells by which what is near is found.
//!
//! Nothing here is agreed on: a search and whoever checks its hits reckon distances, the state machine never does.

use std::f64::consts::PI;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::body::Location;

/// Mean radius of the earth in kilometres (IUGG, R1).
const EARTH_KM: f64 = 6_371.0;
/// Millionths of a degree in one degree.
const MICRO: i32 = 1_000_000;
/// Half of a cell's diagonal at the equator, where it is longest, in kilometres, rounded up.
const HALF_DIAGONAL_KM: f64 = 79.0;
/// Farthest that two places can be apart, in kilometres, rounded up.
pub const MAX_KM: u32 = 20_016;

/// A part of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A country, two capital letters of ISO 3166-1.
    Country([u8; 2]),
    /// All within a distance of a point.
    Near {
        /// Latitude in millionths of a degree, north positive.
        latitude: i32,
        /// Longitude in millionths of a degree, east positive.
        longitude: i32,
        /// Distance on the earth's surface in kilometres.
        km: u32,
    },
}

impl Place {
    /// The whole globe.
    pub const ANYWHERE: Self = Self::Near {
        latitude: 0,
        longitude: 0,
        km: MAX_KM,
    };

    /// Whether it is on the globe.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match *self {
            Self::Country(country) => country.iter().all(u8::is_ascii_uppercase),
            Self::Near {
                latitude, longitude, ..
            } => (-90 * MICRO..=90 * MICRO).contains(&latitude) && (-180 * MICRO..=180 * MICRO).contains(&longitude),
        }
    }

    /// Whether a location lies in it.
    #[must_use]
    pub fn contains(&self, location: &Location) -> bool {
        match *self {
            Self::Country(country) => location.country == country,
            Self::Near {
                latitude,
                longitude,
                km,
            } => {
                let there = (location.latitude, location.longitude);
                distance_km((latitude, longitude), there) <= f64::from(km)
            }
        }
    }
}

/// Distance of two points on the earth's surface in kilometres, taken as a sphere: right to half of a percent. Points are latitude
/// and longitude in millionths of a degree.
fn distance_km(from: (i32, i32), to: (i32, i32)) -> f64 {
    let radians = |micro: i32| f64::from(micro) / f64::from(MICRO) * PI / 180.0;
    let (latitude, there) = (radians(from.0), radians(to.0));
    let half = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
    // The haversine formula, which is exact for near points as well.
    let chord = half(latitude, there) + latitude.cos() * there.cos() * half(radians(from.1), radians(to.1));
    2.0 * EARTH_KM * chord.min(1.0).sqrt().asin()
}

/// A square of the globe, a degree wide and high.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Cell {
    /// Whole degrees of latitude above the south pole, 0 to 180.
    row: u16,
    /// Whole degrees of longitude east of 180° west, 0 to 360.
    column: u16,
}

impl Cell {
    /// The cell in which a location lies; one beyond the globe is in that of its edge.
    #[must_use]
    pub fn of(location: &Location) -> Self {
        let degrees = |micro: i32, half: i32| {
            let whole = micro.clamp(-half * MICRO, half * MICRO).div_euclid(MICRO) + half;
            u16::try_from(whole).expect("at most 360 once it is clamped")
        };
        Self {
            row: degrees(location.latitude, 90),
            column: degrees(location.longitude, 180),
        }
    }

    fn middle(self) -> (i32, i32) {
        let micro = |degrees: u16, half: i32| (i32::from(degrees) - half) * MICRO + MICRO / 2;
        (micro(self.row, 90), micro(self.column, 180))
    }

    /// All cells in which a location within `km` of a point may lie, in ascending order; `None` where they are more than `most`.
    #[must_use]
    pub fn around(point: (i32, i32), km: u32, most: usize) -> Option<Vec<Self>> {
        let reach = f64::from(km) + HALF_DIAGONAL_KM;
        let mut cells = Vec::new();
        for row in 0..=180 {
            // No cell of a row is nearer than the row is.
            let same_meridian = (Self { row, column: 0 }.middle().0, point.1);
            if distance_km(point, same_meridian) > reach {
                continue;
            }
            for column in 0..=360 {
                let cell = Self { row, column };
                if distance_km(point, cell.middle()) <= reach {
                    cells.push(cell);
                }
            }
            if cells.len() > most {
                return None;
            }
        }
        Some(cells)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GHENT: (i32, i32) = (51_050_000, 3_720_000);
    const SYDNEY: (i32, i32) = (-33_868_800, 151_209_300);

    fn location(point: (i32, i32)) -> Location {
        Location {
            country: *b"BE",
            latitude: point.0,
            longitude: point.1,
        }
    }

    fn near(point: (i32, i32), km: u32) -> Place {
        let (latitude, longitude) = point;
        Place::Near {
            latitude,
            longitude,
            km,
        }
    }

    #[test]
    fn distances_are_those_of_the_map() {
        let far = distance_km(GHENT, SYDNEY);
        assert!((16_700.0..16_900.0).contains(&far), "{far}");
        let poles = distance_km((90 * MICRO, 0), (-90 * MICRO, 77 * MICRO));
        assert!((20_010.0..f64::from(MAX_KM)).contains(&poles), "{poles}");
        assert!(
            near(GHENT, 60).contains(&location((50_850_000, 4_350_000))),
            "Brussels is 51 km away"
        );
        assert!(!near(GHENT, 40).contains(&location((50_850_000, 4_350_000))));
        // Across the meridian of 180 degrees.
        assert!(near((0, 179_900_000), 30).contains(&location((0, -179_900_000))));
        assert!(near(GHENT, 0).contains(&location(GHENT)));
    }

    #[test]
    fn what_is_too_wide_has_no_cells() {
        assert!(Cell::around(GHENT, 100, 1_000).unwrap().len() < 40);
        assert_eq!(Cell::around(GHENT, MAX_KM, 1_000), None);
        assert!(!near((90_000_001, 0), 1).is_valid() && near((90 * MICRO, -180 * MICRO), 1).is_valid());
        assert!(!Place::Country(*b"be").is_valid() && Place::Country(*b"BE").is_valid());
    }

    proptest! {
        #[test]
        fn whatever_is_near_lies_in_a_cell_around(
            latitude in -90 * MICRO..=90 * MICRO,
            longitude in -180 * MICRO..=180 * MICRO,
            north in -3 * MICRO..3 * MICRO,
            east in -180 * MICRO..=180 * MICRO,
            km in 0_u32..400,
        ) {
            let there = location(((latitude + north).clamp(-90 * MICRO, 90 * MICRO), east));
            let beside = location((there.latitude, longitude));
            for there in [there, beside] {
                let place = near((latitude, longitude), km);
                let cells = Cell::around((latitude, longitude), km, usize::MAX).unwrap();
                prop_assert!(!place.contains(&there) || cells.contains(&Cell::of(&there)));
                prop_assert!(cells.is_sorted_by(|a, b| a < b));
            }
        }
    }
}
