//! What is known of a code of six bits before it is read: the magnitude of its row's codes, and the mean and the spread
//! of its column's.

use super::stored::{CodeBits, StoredRow};
use crate::kernels::GROUP;

/// Classes of rows, and tables of codes, at most.
pub(super) const TABLES: usize = 32;
/// The code of six bits that stands for zero.
const MIDDLE: u8 = CodeBits::Six.max_code() / 2;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Columns {
    /// Mean distance of a code from the middle in rows of each class, in sixteenths.
    pub magnitudes: [u16; TABLES],
    /// Mean of each column over such a distance, in sixteenths.
    pub means: Vec<i8>,
    /// Log₂ of the mean distance from that mean, in thirds, above [`NO_SPREAD`].
    pub spreads: Vec<u8>,
}

/// The spread that leaves a row's class as it is.
pub(super) const NO_SPREAD: u8 = 16;

impl Columns {
    pub fn of(cols: usize, rows: &[StoredRow]) -> Self {
        let from_middle = |code: u8| f64::from(code) - f64::from(MIDDLE);
        let own: Vec<f64> = rows.iter().map(magnitude).collect();
        let mut magnitudes = [(0.0, 0.0); TABLES];
        let mut sums = vec![0.0; cols];
        for (row, &own) in rows.iter().zip(&own) {
            let (sum, count) = &mut magnitudes[usize::from(class(own))];
            *sum += own;
            *count += 1.0;
            for (sum, code) in sums.iter_mut().zip(codes(row)) {
                *sum += from_middle(code) / own;
            }
        }
        let n = rows.len().max(1) as f64;
        let means: Vec<i8> = sums
            .iter()
            .map(|sum| (16.0 * sum / n).round() as i8)
            .collect();
        let mut distances = vec![0.0; cols];
        for (row, &own) in rows.iter().zip(&own) {
            for ((distance, code), &mean) in distances.iter_mut().zip(codes(row)).zip(&means) {
                *distance += (from_middle(code) / own - f64::from(mean) / 16.0).abs();
            }
        }
        let spreads = distances
            .iter()
            .map(|sum| third_octaves(sum / n, NO_SPREAD))
            .collect();
        let magnitudes = magnitudes.map(|(sum, count)| {
            if count > 0.0 {
                (16.0 * sum / count).round() as u16
            } else {
                0
            }
        });
        Self {
            magnitudes,
            means,
            spreads,
        }
    }

    /// Means and spreads of a group of columns.
    #[inline(always)]
    pub fn group(&self, g: usize) -> (&[i8; GROUP], &[u8; GROUP]) {
        (&self.means.as_chunks().0[g], &self.spreads.as_chunks().0[g])
    }

    /// How a code is coded: with which table, and by how much less than it is.
    pub fn context(&self, class: u8, col: usize) -> (usize, u8) {
        let table =
            (u16::from(class) + u16::from(self.spreads[col])).saturating_sub(NO_SPREAD.into());
        let magnitude = i32::from(self.magnitudes[usize::from(class)]);
        let mean = (i32::from(self.means[col]) * magnitude + 128) >> 8;
        (usize::from(table).min(TABLES - 1), mean as u8)
    }
}

/// The codes of a row.
fn codes(row: &StoredRow) -> impl Iterator<Item = u8> {
    row.groups.iter().flat_map(|group| group.codes)
}

/// The mean distance of a row's codes from the middle, at least a sixteenth.
pub(super) fn magnitude(row: &StoredRow) -> f64 {
    let sum: u64 = codes(row)
        .map(|code| u64::from(code.abs_diff(MIDDLE)))
        .sum();
    let mean = sum as f64 / (row.groups.len() * GROUP).max(1) as f64;
    mean.max(1.0 / 16.0)
}

/// The class of rows of this magnitude.
pub(super) fn class(magnitude: f64) -> u8 {
    third_octaves(magnitude, 12).min(TABLES as u8 - 1)
}

/// Log₂ in thirds above `zero`, as near as a u8 comes.
fn third_octaves(x: f64, zero: u8) -> u8 {
    if x <= 0.0 {
        return 0;
    }
    let thirds = (3.0 * libm::log2(x)).round() as i32;
    (thirds + i32::from(zero)).clamp(0, 255) as u8
}
