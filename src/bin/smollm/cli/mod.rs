//! The command line: one line of JSON in, one out, so that other programs can drive it.

mod bench;
mod chat;
mod fingerprint;
mod generate;
mod jsonl;
mod open;
#[path = "../../common/pack_dir.rs"]
mod pack_dir;
mod score;
mod template;
mod tokenize;

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use smollm_web::Result;
use smollm_web::instruct::{InstructModel, RequestOptions};

/// SmolLM language models on the CPU.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Chat(chat::Args),
    Generate(generate::Args),
    Tokenize(tokenize::Args),
    Template(template::Args),
    Score(score::Args),
    Fingerprint(fingerprint::Args),
    Bench(bench::Args),
}

pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Chat(args) => chat::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Template(args) => template::run(args),
        Command::Score(args) => score::run(args),
        Command::Fingerprint(args) => fingerprint::run(args),
        Command::Bench(args) => bench::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error ({}): {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

/// A conversation that knows today's date.
fn conversation(args: &open::ModelArgs) -> Result<InstructModel> {
    let mut model = InstructModel::new(open::load(args)?)?;
    model.defaults_mut().date = Some(today());
    Ok(model)
}

/// Fills in a seed that nobody chose.
fn seeded(mut options: RequestOptions) -> RequestOptions {
    options
        .seed
        .get_or_insert_with(|| RandomState::new().hash_one(()));
    options
}

/// The day in UTC as `2025-07-08`.
fn today() -> String {
    let days = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() / 86_400);
    iso_day(days)
}

/// The civil date of a day since 1970-01-01
/// (<https://howardhinnant.github.io/date_algorithms.html#civil_from_days>, for days from 1970 on).
fn iso_day(days_since_1970: u64) -> String {
    let z = days_since_1970 + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_277, "2025-07-08"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(iso_day(days), date);
        }
    }
}
