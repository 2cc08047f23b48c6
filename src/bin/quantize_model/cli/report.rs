//! What became of the weights, as a table.

use smollm_web::weights::pack::{Manifest, TensorReport};

pub fn print(reports: &[TensorReport], manifest: &Manifest) {
    println!(
        "{:<48} {:>8} {:>12} {:>6} {:>9}",
        "tensor", "encoding", "weights", "bits", "error"
    );
    for report in reports {
        println!(
            "{:<48} {:>8} {:>12} {:>6.2} {:>8.3}%",
            report.name,
            format!("{:?}", report.encoding).to_lowercase(),
            report.elements,
            bits(report.bytes, report.elements),
            100.0 * report.relative_error,
        );
    }
    let weights: u64 = reports.iter().map(|report| report.elements).sum();
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.bytes).sum();
    let texts: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    println!();
    println!(
        "{weights} weights in {bytes} bytes, {} shards: {:.3} bits a weight",
        manifest.shards.len(),
        bits(bytes, weights)
    );
    println!("{texts} bytes of tokenizer and template");
    println!("read back and found the same");
}

fn bits(bytes: u64, weights: u64) -> f64 {
    8.0 * bytes as f64 / weights as f64
}
