//! Entropy coding of small symbols: rANS (Duda 2013, "Asymmetric numeral systems") with static tables, in sixteen
//! interleaved states (Giesen 2014, "Interleaved entropy coders").
//!
//! A table gives each symbol a share of 2,048 slots. A state of 32 bits is kept at 2¹⁶ or more by 16-bit words, so a
//! symbol takes at most one word. Symbol number `i` goes through state `i % 16`: sixteen chains of look-ups and
//! multiplications that do not wait for each other, four to a vector.

use super::four::Four;
use crate::error::{Error, Result};

/// Shares are parts of two to this. With 2,048 slots instead of 4,096 a pack is 0.02% larger, and twice as many tables
/// fit a processor's first cache.
const SLOT_BITS: u32 = 11;
const SLOTS: usize = 1 << SLOT_BITS;
/// States stay at or above this.
const LOW: u32 = 1 << 16;
/// States, and symbols that are decoded at once.
pub(super) const LANES: usize = 16;
/// Vectors of four that the states take.
pub(super) const VECTORS: usize = LANES / 4;

/// Slots of each symbol, 2,048 in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares(Vec<u16>);

impl Shares {
    /// All slots to symbol 0: it costs nothing.
    pub fn certain() -> Self {
        Self(vec![SLOTS as u16])
    }

    /// Shares in proportion to `counts`, at least one slot for whatever occurs; at most 2,048 symbols.
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

/// Bytes of a table for decoding.
pub(super) const TABLE_BYTES: usize = 4 * SLOTS;

/// `N` bytes of tables for decoding, a power of two. Of each slot four bytes: its symbol (8 bits), the slot's place among
/// the symbol's (12), and the symbol's share (12). A table that was not set is all zeros.
pub(super) struct Tables<const N: usize>(Vec<u8>);

impl<const N: usize> Tables<N> {
    pub fn new() -> Self {
        Self(vec![0; N])
    }

    pub fn set(&mut self, table: usize, shares: &Shares) {
        let mut rest = self.0[table * TABLE_BYTES..].as_chunks_mut().0;
        for (symbol, &share) in shares.0.iter().enumerate() {
            let (slots, others) = rest.split_at_mut(share.into());
            for (place, slot) in slots.iter_mut().enumerate() {
                let entry = symbol as u32 | (place as u32) << 8 | u32::from(share) << 20;
                *slot = entry.to_le_bytes();
            }
            rest = others;
        }
    }

    /// What [`Run::take`] looks up in.
    pub fn bytes(&self) -> &[u8; N] {
        self.0.as_slice().try_into().expect("N bytes")
    }
}

/// Where the tables of these numbers begin, as [`Run::take`] wants it.
pub(super) fn at_table(table: Four) -> Four {
    table.shl::<{ TABLE_BYTES.ilog2() }>()
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
        let mut states = [u64::from(LOW); LANES];
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

/// Symbols that a [`Decoder::run`] may take, and words that it may need.
pub(super) const RUN: usize = 256;
/// Words that a vector could take: they are read before it is known which are.
const AHEAD: usize = 4;

/// Bytes that a run may look at.
const WINDOW: usize = 2 * (RUN + AHEAD);

/// Takes symbols from what [`Encoder::finish`] wrote.
pub(super) struct Decoder<'a> {
    states: [Four; VECTORS],
    words: &'a [u8],
    /// Bytes taken; past the end there are zeros.
    position: usize,
    /// The last bytes, followed by zeros.
    tail: [u8; 2 * WINDOW],
    /// The first byte of the tail: from here on less than a window is left.
    tail_start: usize,
}

impl<'a> Decoder<'a> {
    /// # Errors
    /// `not_a_model` for data without states or with half a word.
    pub fn new(data: &'a [u8]) -> Result<Self> {
        let bad = || Error::not_a_model("entropy-coded data is cut off");
        let (states, words) = data.split_first_chunk::<{ 4 * LANES }>().ok_or_else(bad)?;
        if !words.len().is_multiple_of(2) {
            return Err(bad());
        }
        let tail_start = (words.len() + 1).saturating_sub(WINDOW);
        let mut tail = [0; 2 * WINDOW];
        tail[..words.len() - tail_start].copy_from_slice(&words[tail_start..]);
        let lanes = |v: usize| std::array::from_fn(|lane| u32_at(states, 4 * v + lane));
        Ok(Self {
            states: std::array::from_fn(|v| Four::new(lanes(v))),
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
                let at = (self.position - self.tail_start.min(self.position)).min(WINDOW);
                self.tail[at..].first_chunk().expect("two windows")
            }
        };
        let mut run = Run {
            states: self.states,
            window,
            taken: 0,
        };
        let result = take(&mut run);
        self.states = run.states;
        self.position += run.taken as usize;
        result
    }

    /// `n` symbols, all with one table.
    pub fn symbols<const N: usize>(&mut self, tables: &[u8; N], table: usize, n: usize) -> Vec<u8> {
        let at = at_table(Four::splat(table as u32));
        let mut symbols = vec![0; n.next_multiple_of(LANES)];
        for symbols in symbols.chunks_mut(RUN) {
            self.run(|run| {
                for symbols in symbols.as_chunks_mut::<LANES>().0 {
                    let taken = run.take(tables, [at; VECTORS]);
                    for (to, four) in symbols.as_chunks_mut::<4>().0.iter_mut().zip(taken) {
                        *to = four.to_array().map(|symbol| symbol as u8);
                    }
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
        let at_rest = |states: Four| states.to_array() == [LOW; 4];
        if self.position == self.words.len() && self.states.into_iter().all(at_rest) {
            Ok(())
        } else {
            Err(Error::not_a_model("entropy-coded data is damaged"))
        }
    }
}

fn u32_at(bytes: &[u8], index: usize) -> u32 {
    let bytes = bytes[4 * index..].first_chunk();
    u32::from_le_bytes(*bytes.expect("four bytes"))
}

/// A stretch of decoding with everything in registers.
pub(super) struct Run<'a> {
    states: [Four; VECTORS],
    window: &'a [u8; WINDOW],
    /// Bytes of the window that are taken.
    taken: u32,
}

impl Run<'_> {
    /// The next symbol of each lane, each by its own table ([`at_table`]).
    #[inline(always)]
    pub fn take<const N: usize>(
        &mut self,
        tables: &[u8; N],
        at: [Four; VECTORS],
    ) -> [Four; VECTORS] {
        let [a, b, c, d] = at;
        // No closure, which compilers may leave a function of its own.
        [
            self.step(0, tables, a),
            self.step(1, tables, b),
            self.step(2, tables, c),
            self.step(3, tables, d),
        ]
    }

    #[inline(always)]
    fn step<const N: usize>(&mut self, v: usize, tables: &[u8; N], at: Four) -> Four {
        let state = self.states[v];
        let within = state.and(Four::splat(SLOTS as u32 - 1)).shl::<2>();
        let slot = at.or(within).look_up(tables);
        let place = slot.shr::<8>().and(Four::splat(0xfff));
        let next = state.shr::<SLOT_BITS>().mul(slot.shr::<20>()).add(place);
        let ahead = self.window[self.taken as usize % (2 * RUN)..].first_chunk();
        let words = u64::from_le_bytes(*ahead.expect("AHEAD words past the last"));
        let (state, taken) = next.refilled(words);
        self.states[v] = state;
        self.taken += 2 * taken;
        slot.and(Four::splat(0xff))
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
        let mut tables = Tables::<{ 4 * TABLE_BYTES }>::new();
        for (table, shares) in shares.iter().enumerate() {
            tables.set(table, shares);
        }
        let mut decoder = Decoder::new(data)?;
        let mut out = Vec::new();
        for lanes in symbols.chunks(LANES) {
            let at = |v: usize| Four::new(std::array::from_fn(|i| lanes[4 * v + i].0 as u32));
            let at = std::array::from_fn(|v| at_table(at(v)));
            let taken = decoder.run(|run| run.take(tables.bytes(), at));
            out.extend(taken.into_iter().flat_map(Four::to_array).map(|x| x as u8));
        }
        decoder.finish()?;
        Ok(out)
    }

    #[test]
    fn symbols_come_back_in_about_their_entropy() {
        for n in [16, 48, 1600, 40_000] {
            let (shares, symbols) = sample(n);
            let data = encode(&shares, &symbols);
            let back = decode(&data, &shares, &symbols).unwrap();
            assert!(back.iter().eq(symbols.iter().map(|(_, s)| s)), "{n}");
            let bits: f64 = symbols
                .iter()
                .map(|&(t, s)| f64::from(SLOT_BITS) - f64::from(shares[t].0[usize::from(s)]).log2())
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
    fn damage_is_an_error_or_other_symbols_and_never_a_panic() {
        let (shares, symbols) = sample(4000);
        let data = encode(&shares, &symbols);
        for cut in (0..data.len()).step_by(97) {
            assert!(decode(&data[..cut], &shares, &symbols).is_err(), "{cut}");
        }
        for (i, x) in noise(200).enumerate() {
            let mut bad = data.clone();
            let at = x as usize % bad.len();
            bad[at] ^= 1 << (i % 8);
            // Symbols of equal shares trade places, and nothing after them is different.
            if let Ok(back) = decode(&bad, &shares, &symbols) {
                assert!(back.iter().ne(symbols.iter().map(|(_, s)| s)), "{at}");
            }
        }
    }
}
