//! Sealed texts, which peers hold for the parties of a contract.

use ledger::body::Blob;

use super::{
    ChainClient,
    peers::{call, unexpected},
};
use crate::{
    ClientError, Reason,
    protocol::{Answer, Request},
};

impl ChainClient {
    /// Gives a sealed text to every peer that can be reached, to hold until the contract that names it has ended.
    ///
    /// # Errors
    /// [`ClientError`] when no peer took it.
    pub async fn hold_sealed(&self, sealed: Vec<u8>) -> Result<Blob, ClientError> {
        let blob = Blob::of(&sealed);
        let mut answers = self.request_each(&Request::Hold(sealed));
        let (mut taken, mut failures) = (false, Vec::new());
        while let Some((peer, answer)) = answers.recv().await {
            match answer {
                Ok(Answer::Taken) => taken = true,
                Ok(answer) => failures.push(self.failed(peer, unexpected(answer))),
                Err(reason) => failures.push(self.failed(peer, reason)),
            }
        }
        if taken {
            Ok(blob)
        } else {
            Err(ClientError::AllFailed(failures))
        }
    }

    /// A sealed text, verified by its hash and size.
    ///
    /// # Errors
    /// [`ClientError`] when no peer holds it.
    pub async fn sealed(&self, blob: &Blob) -> Result<Vec<u8>, ClientError> {
        self.ask(move |connection| {
            Box::pin(async move {
                let answer = call(&connection, &Request::Sealed(blob.hash)).await?;
                let Answer::Sealed(bytes) = answer else {
                    return Err(unexpected(answer));
                };
                if Blob::of(&bytes) == *blob {
                    Ok(bytes)
                } else {
                    Err(Reason::AlteredContent(blob.hash))
                }
            })
        })
        .await
    }
}
