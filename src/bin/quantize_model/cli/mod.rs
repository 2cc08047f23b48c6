//! Reads a model, writes a pack beside where it shall be, reads that back, and only then puts it there.

mod calibrate;
mod output;
#[path = "../../common/pack_dir.rs"]
mod pack_dir;
mod report;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use smollm_web::int4::PackedMatrix;
use smollm_web::loader::{LoadOptions, Loader};
use smollm_web::weights::pack::{
    Calibrated, Manifest, PackFormat, PackReader, PackWriter, PackedInfo, Source, TensorReport,
    digest,
};
use smollm_web::weights::{TensorInfo, TensorSink};
use smollm_web::{Error, ErrorKind, Result};

use output::{Output, ShardWriter};
use pack_dir::PackDir;

/// Makes a pack for the browser from a Hugging Face checkpoint or a GGUF file
#[derive(Parser)]
#[command(version)]
struct Args {
    /// A checkpoint's directory (bf16, f16 or f32 safetensors) or a .gguf file
    #[arg(long, value_name = "PATH")]
    model_path: PathBuf,
    /// The directory to make; a pack that is there already is replaced
    #[arg(long, value_name = "DIR")]
    output_path: PathBuf,
    /// How to store the weights
    #[arg(long, value_enum, default_value_t = Format::Int4)]
    format: Format,
    /// Text to run the model over, so that its head is rounded where that costs least; plain, some thousand words
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// The model's name; the source's own, unless told
    #[arg(long)]
    name: Option<String>,
    /// The licence of the weights; what the source says, unless told
    #[arg(long)]
    licence: Option<String>,
    /// A page about the model; what the source says, unless told
    #[arg(long)]
    origin: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Groups of 32 four-bit codes with a scale and a minimum
    Int4,
}

pub fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error ({}): {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let format = match args.format {
        Format::Int4 => PackFormat::INT4,
    };
    let calibrated = {
        let loaded = source::load(&args.model_path)?;
        let statistics = calibrate::head_statistics(&loaded, args.calibration.as_deref())?;
        Calibrated::new(statistics, loaded.model.config().tie_word_embeddings)
    };
    let output = Output::begin(&args.output_path)?;
    let mut shards = ShardWriter::new(output.directory());
    let mut writer = PackWriter::new(format, calibrated, |bytes: &[u8]| shards.push(bytes));
    let read = source::read(&args.model_path, &mut writer)?;
    let (tensors, reports) = writer.finish();

    let mut manifest = Manifest::new(&read.config);
    manifest.name = args.name.clone().or(read.name);
    manifest.source = Source {
        origin: args.origin.clone().or(read.origin),
        licence: args.licence.clone().or(read.licence),
        files: read.weights,
    };
    for (name, text) in &read.texts {
        manifest.files.push(output.write(name, text.as_bytes())?);
    }
    for (name, text) in &source::notices(&args.model_path, manifest.source.licence.as_deref())? {
        manifest.notices.push(output.write(name, text)?);
    }
    manifest.tensors = tensors;
    manifest.shards = shards.finish()?;
    output.write_manifest(&manifest)?;

    verify(&PackDir::open(output.directory())?, &reports)?;
    output.finish()?;
    report::print(&reports, &manifest);
    Ok(())
}

/// Loads the pack's small files and compares every matrix with what the writer saw.
fn verify(pack: &PackDir, reports: &[TensorReport]) -> Result<()> {
    Loader::pack(
        &pack.manifest,
        |name| pack.text(name),
        LoadOptions::default(),
    )?;
    let mut reader = PackReader::new(&pack.manifest, pack.manifest.model_config()?)?;
    let mut comparison = Comparison(reports);
    pack.read_shards(|name, bytes| {
        reader.begin_shard(name)?;
        reader.feed(bytes, &mut comparison)
    })?;
    reader.finish()
}

/// The tensors that have not come back yet.
struct Comparison<'a>(&'a [TensorReport]);

impl Comparison<'_> {
    fn next(&mut self, name: &str, digest: Option<[u8; 32]>) -> Result<()> {
        let expected = self.0.split_off_first();
        if expected.is_some_and(|report| report.name == name && report.digest == digest) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Integrity,
            format!("tensor {name}: reads back differently from what was written"),
        ))
    }
}

impl TensorSink for Comparison<'_> {
    fn tensor(&mut self, info: &TensorInfo, _: &[u8]) -> Result<()> {
        self.next(&info.name, None)
    }

    fn packed(&mut self, info: &PackedInfo, matrix: PackedMatrix) -> Result<()> {
        self.next(&info.name, Some(digest(&matrix)))
    }
}
