//! Images: kept, published, found again.

use std::path::Path;

use chain_client::Proven;
use ledger::{
    Hash, Id, Operation,
    body::{Blob, Image},
    text::Text,
};
use peer_link::BlobHash;

use super::{Bot, BotError};
use crate::app::ImageRef;

impl Bot {
    /// Keeps an imported image and publishes it under `name`.
    ///
    /// # Errors
    /// [`BotError`] when it cannot be kept or the chain refuses.
    pub async fn add_image(&self, root: &Path, config: String, name: &str) -> Result<Id, BotError> {
        let name = Text::new(name).map_err(|error| BotError::Usage(format!("name: {error}")))?;
        let root = blob(self.shared.blobs.add_file(root).await?);
        let config = blob(self.shared.blobs.add_bytes(config.into_bytes()).await?);
        let id = Image::founding_id(self.id(), &name);
        let known = self.chain().record::<Image>(id).await?;
        // The same content again needs no new version.
        if known.is_none_or(|known| known.body.root != root || known.body.config != config) {
            self.send(Operation::PublishImage { name, root, config }).await?;
        }
        Ok(id)
    }

    /// The newest version of an image.
    ///
    /// # Errors
    /// [`BotError::NotFound`] when there is none.
    pub(super) async fn image(&self, image: &ImageRef) -> Result<Proven<Image>, BotError> {
        let owner = image.owner.unwrap_or(self.id());
        let id = Image::founding_id(owner, &image.name);
        let found = self.chain().record::<Image>(id).await?;
        found.ok_or_else(|| {
            BotError::NotFound(format!(
                "image {image} is not on the chain; publish it with `threebot image push`"
            ))
        })
    }
}

fn blob((hash, size): (BlobHash, u64)) -> Blob {
    Blob {
        hash: Hash::from_bytes(*hash.as_bytes()),
        size,
    }
}
