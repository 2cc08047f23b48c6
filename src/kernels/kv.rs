//! Keys and values of one layer as integers, in the layout that attention reads.

use super::backend::dispatch;
use super::simd::{Simd, max_lane};
use std::collections::TryReserveError;

/// Positions, or columns of a value, that one vector takes.
pub(super) const LANES: usize = 8;

/// One layer's keys and values (kv_heads, capacity, head_dim). Every head's vector has a float scale, max |x| / limit, and
/// integers of 8 bits for a value, of 13 for a key: a few channels of keys are far larger than the others, which 8 bits
/// would round away, and scores are what softmax magnifies. Both products of attention then are sums over pairs, eight lanes
/// at a time:
///
/// ```text
/// keys    (kv_head, position / 8, column / 2, position % 8, column % 2)
/// values  (kv_head, column / 8, position / 2, column % 8, position % 2)
/// ```
#[derive(Debug, Clone)]
pub struct KvLayer {
    pub(super) keys: Vec<i16>,
    pub(super) values: Vec<i8>,
    /// (kv_heads, capacity)
    pub(super) key_scales: Vec<f32>,
    /// (kv_heads, capacity)
    pub(super) value_scales: Vec<f32>,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// A multiple of `LANES`.
    pub(super) capacity: usize,
}

impl KvLayer {
    /// The widest head: beyond it, the products of a query and a key, each at its limit, could pass 2^31.
    pub const MAX_HEAD_DIM: usize = 256;
    const KEY_LIMIT: f32 = 4095.0;
    const VALUE_LIMIT: f32 = 127.0;
    /// What queries are rounded to.
    pub(super) const QUERY_LIMIT: f32 = 2047.0;

    /// Room for `capacity` positions, rounded up to whole vectors.
    ///
    /// # Errors
    /// Where the memory cannot be had.
    ///
    /// # Panics
    /// Where `head_dim` is no multiple of 8 or above [`Self::MAX_HEAD_DIM`].
    pub fn new(kv_heads: usize, head_dim: usize, capacity: usize) -> Result<Self, TryReserveError> {
        assert!(head_dim.is_multiple_of(LANES) && head_dim <= Self::MAX_HEAD_DIM);
        let capacity = capacity.saturating_add(LANES - 1) / LANES * LANES;
        let positions = kv_heads.saturating_mul(capacity);
        let elements = positions.saturating_mul(head_dim);
        Ok(Self {
            keys: zeros(elements)?,
            values: zeros(elements)?,
            key_scales: zeros(positions)?,
            value_scales: zeros(positions)?,
            kv_heads,
            head_dim,
            capacity,
        })
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.keys[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.key_scales[..])
            + size_of_val(&self.value_scales[..])
    }

    /// Bytes in memory of one that is not there yet.
    pub fn bytes_of(kv_heads: usize, head_dim: usize, capacity: usize) -> u64 {
        let vector = head_dim * (size_of::<i16>() + size_of::<i8>()) + 2 * size_of::<f32>();
        let capacity = (capacity as u64).next_multiple_of(LANES as u64);
        capacity.saturating_mul((kv_heads * vector) as u64)
    }

    /// Stores a position's key and value, each (kv_heads, head_dim).
    ///
    /// # Panics
    /// Where the position is beyond the capacity or a length is wrong.
    pub fn store(&mut self, position: usize, key: &[f32], value: &[f32]) {
        let d = self.head_dim;
        assert!(position < self.capacity, "position");
        assert!(
            key.len() == self.kv_heads * d && value.len() == key.len(),
            "width"
        );
        let mut q = [0; Self::MAX_HEAD_DIM];
        for head in 0..self.kv_heads {
            let cell = self.cell(head, position);
            self.key_scales[cell] = quantize(&key[head * d..][..d], Self::KEY_LIMIT, &mut q);
            self.set_key(head, position, &q[..d]);
            self.value_scales[cell] = quantize(&value[head * d..][..d], Self::VALUE_LIMIT, &mut q);
            self.set_value(head, position, &q[..d]);
        }
    }

    /// Bytes that [`save`](Self::save) writes.
    pub fn saved_bytes(&self) -> usize {
        self.kv_heads * (2 * size_of::<f32>() + self.head_dim * (size_of::<i16>() + 1))
    }

    /// Appends a position as it is stored to `out`: of each head the scales of key and value, the key's integers (16 bits),
    /// the value's (8); all little-endian.
    ///
    /// # Panics
    /// Where the position is beyond the capacity.
    pub fn save(&self, position: usize, out: &mut Vec<u8>) {
        assert!(position < self.capacity, "position");
        for head in 0..self.kv_heads {
            let cell = self.cell(head, position);
            out.extend_from_slice(&self.key_scales[cell].to_le_bytes());
            out.extend_from_slice(&self.value_scales[cell].to_le_bytes());
            for pair in 0..self.head_dim / 2 {
                let at = self.key_pair(head, position, pair);
                for key in &self.keys[at..][..2] {
                    out.extend_from_slice(&key.to_le_bytes());
                }
            }
            for block in 0..self.head_dim / LANES {
                let at = self.value_block(head, position, block);
                let values = self.values[at..][..2 * LANES - 1].iter().step_by(2);
                out.extend(values.map(|&value| value as u8));
            }
        }
    }

    /// Stores a position as [`save`](Self::save) wrote it; false where [`store`](Self::store) stores no such numbers, and
    /// attention, whose sums rely on their limits, must not see them.
    ///
    /// # Panics
    /// Where the position is beyond the capacity or the length is not that of `saved_bytes`.
    #[must_use]
    pub fn restore(&mut self, position: usize, bytes: &[u8]) -> bool {
        assert!(position < self.capacity, "position");
        assert_eq!(bytes.len(), self.saved_bytes(), "length");
        let d = self.head_dim;
        let mut q = [0; Self::MAX_HEAD_DIM];
        for (head, bytes) in bytes.chunks_exact(bytes.len() / self.kv_heads).enumerate() {
            let (scales, integers) = bytes.split_at(2 * size_of::<f32>());
            let [key_scale, value_scale] =
                [0, 1].map(|i| f32::from_le_bytes(scales.as_chunks().0[i]));
            let (keys, values) = integers.split_at(d * size_of::<i16>());
            let cell = self.cell(head, position);
            let mut sound = [key_scale, value_scale]
                .iter()
                .all(|s| s.is_finite() && *s >= 0.0);
            self.key_scales[cell] = key_scale;
            for (q, key) in q.iter_mut().zip(keys.as_chunks().0) {
                *q = i16::from_le_bytes(*key);
                sound &= f32::from(q.unsigned_abs()) <= Self::KEY_LIMIT;
            }
            self.set_key(head, position, &q[..d]);
            self.value_scales[cell] = value_scale;
            for (q, &value) in q.iter_mut().zip(values) {
                *q = (value as i8).into();
                sound &= f32::from(q.unsigned_abs()) <= Self::VALUE_LIMIT;
            }
            self.set_value(head, position, &q[..d]);
            if !sound {
                return false;
            }
        }
        true
    }

    /// Where the scales of a head's vector lie.
    fn cell(&self, head: usize, position: usize) -> usize {
        head * self.capacity + position
    }

    /// Where two neighbouring columns of a key lie.
    fn key_pair(&self, head: usize, position: usize, pair: usize) -> usize {
        let base = head * self.capacity * self.head_dim;
        base + position / LANES * LANES * self.head_dim + (pair * LANES + position % LANES) * 2
    }

    /// Where eight columns of a value lie: at every other place from here on.
    fn value_block(&self, head: usize, position: usize, block: usize) -> usize {
        let base = head * self.capacity * self.head_dim;
        base + block * LANES * self.capacity + position / 2 * 2 * LANES + position % 2
    }

    fn set_key(&mut self, head: usize, position: usize, key: &[i16]) {
        for (pair, key) in key.as_chunks::<2>().0.iter().enumerate() {
            let at = self.key_pair(head, position, pair);
            self.keys[at..][..2].copy_from_slice(key);
        }
    }

    fn set_value(&mut self, head: usize, position: usize, value: &[i16]) {
        for (block, values) in value.chunks_exact(LANES).enumerate() {
            let at = self.value_block(head, position, block);
            let to = self.values[at..][..2 * LANES - 1].iter_mut().step_by(2);
            to.zip(values).for_each(|(to, &v)| *to = v as i8);
        }
    }
}

pub(super) fn zeros<T: Clone + Default>(n: usize) -> Result<Vec<T>, TryReserveError> {
    let mut v = Vec::new();
    v.try_reserve_exact(n)?;
    v.resize(n, T::default());
    Ok(v)
}

/// Quantizes `x` to -limit..=limit by its largest value; returns the scale. Zeros have scale 0.
///
/// # Panics
/// Where the length is no multiple of 8 or `q` is shorter.
pub(super) fn quantize(x: &[f32], limit: f32, q: &mut [i16]) -> f32 {
    assert!(x.len().is_multiple_of(LANES) && q.len() >= x.len() && limit <= 32_767.0);
    let mut scale = 0.0;
    // SAFETY: the lengths were checked.
    unsafe { quantize_vector(x, limit, q, &mut scale) };
    scale
}

dispatch! {
    fn quantize_vector(x: &[f32], limit: f32, q: &mut [i16], scale: &mut f32) = quantize_vector_with;
}

/// # Safety
/// Lengths as checked in [`quantize`].
#[inline(always)]
unsafe fn quantize_vector_with<S: Simd>(x: &[f32], limit: f32, q: &mut [i16], scale: &mut f32) {
    // SAFETY: every access is to eight elements of a chunk of eight.
    unsafe {
        let mut largest = S::splat(0.0);
        for x in x.chunks_exact(LANES) {
            largest = S::max(S::abs(S::load(x.as_ptr())), largest);
        }
        let largest = max_lane::<S>(largest);
        // Numbers too small for their inverse count as zero.
        let inverse = if largest < 1e-30 {
            *scale = 0.0;
            0.0
        } else {
            *scale = largest / limit;
            limit / largest
        };
        let inverse = S::splat(inverse);
        for (x, q) in x.chunks_exact(LANES).zip(q.chunks_exact_mut(LANES)) {
            let scaled = S::mul(S::load(x.as_ptr()), inverse);
            S::store_i16(q.as_mut_ptr(), S::float_to_int(scaled));
        }
    }
}
