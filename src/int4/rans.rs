//! Entropy coding of small symbols: rANS (Duda 2013, "Asymmetric numeral systems") with static tables, in four
//! interleaved states (Giesen 2014, "Interleaved entropy coders").
//!
//! A table gives each symbol a share of 4,096 slots. A state of 32 bits is kept at 2¹⁶ or more by 16-bit words, so a
//! symbol takes at most one word. Symbol number `i` goes through state `i % 4`: four chains of multiplications that do
//! not wait for each other.

use crate::error::{Error, Result};

/// A share of all slots is the whole.
const SLOT_BITS: u32 = 12;
const SLOTS: usize = 1 << SLOT_BITS;
/// States stay at or above this.
const LOW: u64 = 1 << 16;
/// States, and symbols that are decoded at once.
pub(super) const LANES: usize = 4;

/// Slots of each symbol, 4,096 in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares(Vec<u16>);

impl Shares {
    /// All slots to symbol 0: it costs nothing.
    pub fn certain() -> Self {
        Self(vec![SLOTS as u16])
    }

    /// Shares in proportion to `counts`, at least one slot for whatever occurs; at most 4,096 symbols.
    pub fn of(counts: &[u64]) -> Self {
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return Self::certain();
        }
        let share = |n: u64| {
            let ideal = (u128::from(n) * SLOTS as u128 / u128::from(total)) as u16;
            if n > 0 { ideal.max(1) } else { 0 }
        };
        let mut shares: Vec<u16> = counts.iter().map(|&n| share(n)).collect();
        // What rounding left over or took too much goes where a slot changes the length least: −n·log₂(share).
        loop {
            let sum: usize = shares.iter().map(|&s| usize::from(s)).sum();
            if sum == SLOTS {
                break;
            }
            let gain = |i: usize, to: u16| {
                counts[i] as f64 * libm::log2(f64::from(to) / f64::from(shares[i]))
            };
            let used = (0..shares.len()).filter(|&i| shares[i] > 0);
            let best = if sum < SLOTS {
                used.max_by(|&a, &b| gain(a, shares[a] + 1).total_cmp(&gain(b, shares[b] + 1)))
            } else {
                used.filter(|&i| shares[i] > 1)
                    .max_by(|&a, &b| gain(a, shares[a] - 1).total_cmp(&gain(b, shares[b] - 1)))
            };
            let best = best.expect("fewer symbols than slots");
            if sum < SLOTS {
                shares[best] += 1;
            } else {
                shares[best] -= 1;
            }
        }
        let used = shares
            .iter()
            .rposition(|&s| s > 0)
            .map_or(0, |last| last + 1);
        shares.truncate(used);
        Self(shares)
    }

    /// Appends the shares: the number of symbols (two bytes), then each share in one byte below 128 and else in two,
    /// a zero followed by how many zeros there are.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend((self.0.len() as u16).to_le_bytes());
        let mut rest = &self.0[..];
        while let Some(&share) = rest.first() {
            let mut taken = 1;
            if share == 0 {
                taken = rest.iter().take(255).take_while(|&&s| s == 0).count();
                out.extend([0, taken as u8]);
            } else if share < 128 {
                out.push(share as u8);
            } else {
                out.extend([128 | (share >> 8) as u8, share as u8]);
            }
            rest = &rest[taken..];
        }
    }

    /// Takes the shares of at most `symbols` symbols from the front of `data`.
    ///
    /// # Errors
    /// `not_a_model` for anything that [`Shares::write`] does not write.
    pub fn read(data: &mut &[u8], symbols: usize) -> Result<Self> {
        let bad = || Error::not_a_model("a table of the entropy coder is malformed");
        let mut byte = || -> Result<u16> {
            let (&first, rest) = data.split_first().ok_or_else(bad)?;
            *data = rest;
            Ok(first.into())
        };
        let len = usize::from(byte()? | byte()? << 8);
        if len > symbols {
            return Err(bad());
        }
        let mut shares = Vec::with_capacity(len);
        while shares.len() < len {
            match byte()? {
                0 => {
                    let zeros = usize::from(byte()?);
                    if zeros == 0 || zeros > len - shares.len() {
                        return Err(bad());
                    }
                    shares.resize(shares.len() + zeros, 0);
                }
                share @ 1..128 => shares.push(share),
                high => shares.push((high & 127) << 8 | byte()?),
            }
        }
        let sum: usize = shares.iter().map(|&s| usize::from(s)).sum();
        if sum != SLOTS {
            return Err(bad());
        }
        Ok(Self(shares))
    }
}

/// What decoding asks: each slot's symbol (low 8 bits), the slot's place among the symbol's (12), and the symbol's
/// share less one (12).
pub(super) type Slots = [u32; SLOTS];

/// A table, for decoding.
pub(super) struct Table(Box<Slots>);

impl Table {
    pub fn slots(&self) -> &Slots {
        &self.0
    }

    pub fn new(shares: &Shares) -> Self {
        let mut slots = Box::new([0; SLOTS]);
        let mut to = slots.iter_mut();
        for (symbol, &share) in shares.0.iter().enumerate() {
            for (place, slot) in to.by_ref().take(share.into()).enumerate() {
                *slot = symbol as u32 | (place as u32) << 8 | (u32::from(share) - 1) << 20;
            }
        }
        Self(slots)
    }
}

/// Symbols in the order in which they will be decoded.
pub(super) struct Encoder<'a> {
    shares: &'a [Shares],
    /// For each table, the slot at which each symbol begins.
    starts: Vec<Vec<u64>>,
    symbols: Vec<(u8, u8)>,
}

impl<'a> Encoder<'a> {
    pub fn new(shares: &'a [Shares]) -> Self {
        let starts = |shares: &Shares| {
            let begin = |at: &mut u64, &share: &u16| {
                let start = *at;
                *at += u64::from(share);
                Some(start)
            };
            shares.0.iter().scan(0, begin).collect()
        };
        Self {
            shares,
            starts: shares.iter().map(starts).collect(),
            symbols: Vec::new(),
        }
    }

    /// Adds a symbol, coded with table `table`, in which it must have a share.
    pub fn push(&mut self, table: usize, symbol: u8) {
        self.symbols.push((table as u8, symbol));
    }

    /// The states, then the words in the order of decoding; little-endian.
    pub fn finish(self) -> Vec<u8> {
        let mut states = [LOW; LANES];
        let mut words: Vec<u16> = Vec::new();
        for (i, &(table, symbol)) in self.symbols.iter().enumerate().rev() {
            let (table, symbol) = (usize::from(table), usize::from(symbol));
            let share = u64::from(self.shares[table].0[symbol]);
            let state = &mut states[i % LANES];
            if *state >= share << (32 - SLOT_BITS) {
                words.push(*state as u16);
                *state >>= 16;
            }
            let quotient = *state / share;
            *state = (quotient << SLOT_BITS) + *state % share + self.starts[table][symbol];
        }
        let states = states
            .iter()
            .flat_map(|&state| (state as u32).to_le_bytes());
        let words = words.iter().rev().flat_map(|word| word.to_le_bytes());
        states.chain(words).collect()
    }
}

/// Words that a [`Decoder::run`] may take.
pub(super) const RUN: usize = 128;

/// Takes symbols from what [`Encoder::finish`] wrote.
pub(super) struct Decoder<'a> {
    /// Below 2³². Wider than that, because vectors have no product of such numbers: compilers would put the four states
    /// into one, and take them out again for every look-up.
    states: [u64; LANES],
    words: &'a [[u8; 2]],
    /// Words taken; past the end there are zeros.
    position: usize,
    /// The last words, filled up with zeros, from the first position at which fewer than [`RUN`] are left.
    tail: [[u8; 2]; 2 * RUN],
    tail_start: usize,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// `not_a_model` for data without states or with half a word.
    pub fn new(data: &'a [u8]) -> Result<Self> {
        let bad = || Error::not_a_model("entropy-coded data is cut off");
        let (states, words) = data.split_first_chunk::<{ 4 * LANES }>().ok_or_else(bad)?;
        let (words, rest) = words.as_chunks();
        if !rest.is_empty() {
            return Err(bad());
        }
        let tail_start = (words.len() + 1).saturating_sub(RUN);
        let mut tail = [[0; 2]; 2 * RUN];
        tail[..words.len() - tail_start].copy_from_slice(&words[tail_start..]);
        let mut lanes = [0; LANES];
        for (lane, bytes) in lanes.iter_mut().zip(states.as_chunks().0) {
            *lane = u32::from_le_bytes(*bytes).into();
        }
        Ok(Self {
            states: lanes,
            words,
            position: 0,
            tail,
            tail_start,
        })
    }

    /// At most [`RUN`] symbols, by `take`, which asks for [`LANES`] at a time.
    #[inline(always)]
    pub fn run<R>(&mut self, take: impl FnOnce(&mut Run) -> R) -> R {
        let window = match self.words.get(self.position..).and_then(<[_]>::first_chunk) {
            Some(window) => window,
            None => {
                let at = (self.position - self.tail_start.min(self.position)).min(RUN);
                self.tail[at..].first_chunk().expect("twice a run")
            }
        };
        let mut run = Run {
            states: self.states,
            window,
            taken: 0,
        };
        let result = take(&mut run);
        self.states = run.states;
        self.position += run.taken;
        result
    }

    /// `n` symbols, all with one table.
    pub fn symbols(&mut self, table: &Table, n: usize) -> Vec<u8> {
        let mut symbols = vec![0; n.next_multiple_of(LANES)];
        for symbols in symbols.chunks_mut(RUN) {
            self.run(|run| {
                for symbols in symbols.as_chunks_mut().0 {
                    *symbols = run.take([table.slots(); LANES]);
                }
            });
        }
        symbols.truncate(n);
        symbols
    }

    /// Says that all symbols are taken.
    ///
    /// # Errors
    /// `not_a_model` where the data is not at its end or the states not at their beginning.
    pub fn finish(self) -> Result<()> {
        if self.position == self.words.len() && self.states == [LOW; LANES] {
            Ok(())
        } else {
            Err(Error::not_a_model("entropy-coded data is damaged"))
        }
    }
}

/// A stretch of decoding with everything in registers.
pub(super) struct Run<'a> {
    states: [u64; LANES],
    window: &'a [[u8; 2]; RUN],
    taken: usize,
}

impl Run<'_> {
    /// The next symbol of each lane, each by its own table.
    #[inline(always)]
    pub fn take(&mut self, tables: [&Slots; LANES]) -> [u8; LANES] {
        let mut symbols = [0; LANES];
        for first in (0..LANES).step_by(4) {
            // All words that four lanes could want: what they really take is known too late to load it.
            let words = self.window.get(self.taken..).and_then(<[_]>::first_chunk);
            let [a, b, c, d] = *words.unwrap_or(&[[0; 2]; 4]);
            let mut words = u64::from_le_bytes([a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]);
            for lane in first..first + 4 {
                let state = self.states[lane];
                let slot = u64::from(tables[lane][state as usize % SLOTS]);
                symbols[lane] = slot as u8;
                let high = state >> SLOT_BITS;
                let next = high * (slot >> 20) + high + (slot >> 8) % SLOTS as u64;
                let low = next < LOW;
                let with_word = next << 16 | words & 0xffff;
                self.states[lane] = if low { with_word } else { next };
                words = if low { words >> 16 } else { words };
                self.taken += usize::from(low);
            }
        }
        symbols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> impl Iterator<Item = u32> {
        let mut x = 7u32;
        (0..n).map(move |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x >> 8
        })
    }

    /// Symbols of three tables: skewed, flat, certain.
    fn sample(n: usize) -> (Vec<Shares>, Vec<(usize, u8)>) {
        let symbols: Vec<(usize, u8)> = noise(n)
            .enumerate()
            .map(|(i, x)| match i / LANES % 3 {
                0 => (0, (x % 200 * (x / 200 % 200) / 700) as u8),
                1 => (1, (x % 256) as u8),
                _ => (2, 0),
            })
            .collect();
        let shares = (0..3)
            .map(|table| {
                let mut counts = [0; 256];
                for &(_, symbol) in symbols.iter().filter(|(t, _)| *t == table) {
                    counts[usize::from(symbol)] += 1;
                }
                Shares::of(&counts)
            })
            .collect();
        (shares, symbols)
    }

    fn encode(shares: &[Shares], symbols: &[(usize, u8)]) -> Vec<u8> {
        let mut encoder = Encoder::new(shares);
        symbols.iter().for_each(|&(t, s)| encoder.push(t, s));
        encoder.finish()
    }

    fn decode(data: &[u8], shares: &[Shares], symbols: &[(usize, u8)]) -> Result<Vec<u8>> {
        let tables: Vec<Table> = shares.iter().map(Table::new).collect();
        let mut decoder = Decoder::new(data)?;
        let mut out = Vec::new();
        for lanes in symbols.chunks(LANES) {
            let tables = std::array::from_fn(|i| tables[lanes[i].0].slots());
            out.extend(decoder.run(|run| run.take(tables)));
        }
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn symbols_come_back_in_about_their_entropy() {
        for n in [4, 12, 1000, 40_000] {
            let (shares, symbols) = sample(n);
            let data = encode(&shares, &symbols);
            let back = decode(&data, &shares, &symbols).unwrap();
            assert!(back.iter().eq(symbols.iter().map(|(_, s)| s)), "{n}");
            let bits: f64 = symbols
                .iter()
                .map(|&(t, s)| 12.0 - f64::from(shares[t].0[usize::from(s)]).log2())
                .sum();
            let most = bits / 8.0 * 1.001 + 4.0 * LANES as f64 + 8.0;
            assert!((data.len() as f64) < most, "{} is above {most}", data.len());
        }
    }

    #[test]
    fn shares_come_back() {
        for shares in sample(5000).0.iter().chain([&Shares::certain()]) {
            let mut data = Vec::new();
            shares.write(&mut data);
            let whole = data.clone();
            let mut rest = &data[..];
            assert_eq!(&Shares::read(&mut rest, 256).unwrap(), shares);
            assert!(rest.is_empty());
            for cut in 0..whole.len() {
                assert!(Shares::read(&mut &whole[..cut], 256).is_err(), "{cut}");
            }
            assert!(Shares::read(&mut &whole[..], shares.0.len() - 1).is_err());
        }
    }

    #[test]
    fn damage_is_noticed_and_never_a_panic() {
        let (shares, symbols) = sample(4000);
        let data = encode(&shares, &symbols);
        for cut in (0..data.len()).step_by(97) {
            assert!(decode(&data[..cut], &shares, &symbols).is_err(), "{cut}");
        }
        for (i, x) in noise(200).enumerate() {
            let mut bad = data.clone();
            let at = x as usize % bad.len();
            bad[at] ^= 1 << (i % 8);
            // A flipped bit may decode to other symbols; that the end is reached in the first state then takes luck
            // of one in 2⁶⁴.
            assert!(decode(&bad, &shares, &symbols).is_err(), "{at}");
        }
    }
}
