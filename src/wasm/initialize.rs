//! From a model's URL to a loaded model: which files there are, and in which order they are read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use web_sys::Url;

use super::fetch::{self, Body};
use crate::error::{Error, Result};
use crate::loader::{CheckpointTexts, LoadOptions, LoadedModel, Loader};
use crate::weights::pack::{MANIFEST, Manifest};

/// Fetches and loads the model at `model_url`: a `.gguf` file; a directory with a pack, or the `manifest.json` in it; or
/// a directory with a Hugging Face checkpoint: the small files of [`CheckpointTexts`], and `model.safetensors` or its
/// shards and `model.safetensors.index.json`.
///
/// # Errors
/// Those of [`fetch::get`] and of [`Loader`], each naming the file.
pub(super) async fn load(model_url: &str, options: LoadOptions) -> Result<LoadedModel> {
    let url = fetch::resolve(model_url)?;
    let path = url.pathname();
    if path.to_ascii_lowercase().ends_with(".gguf") {
        let mut loader = Loader::gguf(options);
        let name = path.rsplit('/').next().unwrap_or(&path);
        read_weights(&mut loader, name, fetch::get(&url).await?).await?;
        return loader.finish();
    }
    if let Some(directory) = path.strip_suffix(MANIFEST) {
        url.set_pathname(directory);
        let manifest = fetch::get(&fetch::in_directory(&url, MANIFEST)?).await?;
        return load_pack(&url, &manifest.text().await?, options).await;
    }
    match fetch::get_optional(&fetch::in_directory(&url, MANIFEST)?).await? {
        Some(manifest) => load_pack(&url, &manifest.text().await?, options).await,
        None => load_checkpoint(&url, options).await,
    }
}

/// One file after the other; each is checked before anything is done with it.
async fn load_pack(directory: &Url, manifest: &str, options: LoadOptions) -> Result<LoadedModel> {
    let manifest = Manifest::parse(manifest)?;
    let mut texts = BTreeMap::new();
    for file in &manifest.files {
        let url = fetch::in_directory(directory, &file.name)?;
        texts.insert(&file.name, fetch::get(&url).await?.text().await?);
    }
    let text_of = |name: &str| texts.get(&name.to_owned()).map(|text| text.as_str());
    let mut loader = Loader::pack(&manifest, text_of, options)?;
    for shard in &manifest.shards {
        let url = fetch::in_directory(directory, &shard.name)?;
        let stored = fetch::get(&url).await?.bytes(shard.bytes as usize).await?;
        shard.verify(&stored)?;
        loader.begin_file(&shard.name)?;
        loader.feed(&stored)?;
    }
    loader.finish()
}

/// One file after the other, the small ones first: the first of them tells a wrong URL, and everything
/// that can be refused is refused before the weights are asked for.
async fn load_checkpoint(directory: &Url, options: LoadOptions) -> Result<LoadedModel> {
    let mut texts = BTreeMap::new();
    for (name, required) in CheckpointTexts::FILES {
        let url = fetch::in_directory(directory, name)?;
        let body = if required {
            Some(fetch::get(&url).await?)
        } else {
            fetch::get_optional(&url).await?
        };
        if let Some(body) = body {
            texts.insert(name, body.text().await?);
        }
    }
    let texts = CheckpointTexts::from_files(|name| texts.get(name).map(String::as_str))?;
    let mut loader = Loader::safetensors(&texts, options)?;

    let index = fetch::in_directory(directory, "model.safetensors.index.json")?;
    match fetch::get_optional(&index).await? {
        None => read_shard(&mut loader, directory, "model.safetensors").await?,
        Some(index) => {
            for shard in shards(&index.text().await?)? {
                read_shard(&mut loader, directory, &shard).await?;
            }
        }
    }
    loader.finish()
}

async fn read_shard(loader: &mut Loader, directory: &Url, name: &str) -> Result<()> {
    let url = fetch::in_directory(directory, name)?;
    read_weights(loader, name, fetch::get(&url).await?).await
}

async fn read_weights(loader: &mut Loader, name: &str, body: Body) -> Result<()> {
    loader.begin_file(name)?;
    body.stream(|chunk| loader.feed(chunk)).await
}

/// The files that an index (`model.safetensors.index.json`) spreads its tensors over, each once.
fn shards(index: &str) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let invalid =
        |what: String| Error::not_a_model(format!("model.safetensors.index.json: {what}"));
    let index: Index = serde_json::from_str(index).map_err(|e| invalid(e.to_string()))?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(invalid("names no file".into()));
    }
    // The names come from the server, and shall not lead out of the model's directory.
    match names
        .iter()
        .find(|name| name.contains(['/', '\\', ':']) || name.starts_with('.'))
    {
        Some(name) => Err(invalid(format!("{name:?} is no file of this directory"))),
        None => Ok(names),
    }
}
