//! What people and programs write: what is read is written as something that reads the same.
#![no_main]

use std::{fmt::Display, str::FromStr};

use ledger::{
    Excerpt, Genesis, Hash, Id, Kind, PublicKey, Signature, SignedTransaction,
    body::{Entity, Label},
    quantity,
    query::{Position, State},
    text::Text,
};
use libfuzzer_sys::fuzz_target;

fn check<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(
            value.to_string().parse::<T>().is_ok_and(|again| again == value),
            "{text}"
        );
    }
}

fn check_json<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq>(text: &str) {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        let again = serde_json::to_string(&value).expect("what was read can be written");
        assert!(
            serde_json::from_str::<T>(&again).is_ok_and(|again| again == value),
            "{text}"
        );
    }
}

fuzz_target!(|text: &str| {
    check::<Hash>(text);
    check::<Id>(text);
    check::<PublicKey>(text);
    check::<Signature>(text);
    check::<Kind>(text);
    check::<State>(text);
    check::<Position>(text);
    check::<Label>(text);
    check::<Text<64>>(text);
    if let Ok(tokens) = quantity::tokens(text) {
        assert_eq!(quantity::tokens(&tokens.to_string()), Ok(tokens));
    }
    let _ = (quantity::bytes(text), quantity::millis(text));
    if let Ok((latitude, longitude)) = quantity::point(text) {
        assert!(latitude.abs() <= 90_000_000 && longitude.abs() <= 180_000_000);
    }
    let _ = quantity::country(text);
    check_json::<Genesis>(text);
    check_json::<Entity>(text);
    check_json::<SignedTransaction>(text);
    check_json::<Excerpt>(text);
});
