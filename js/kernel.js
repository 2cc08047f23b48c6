/**
 * Of kernels that differ in speed alone, the faster: which it is depends on the processor, and browsers do not name
 * that. So both run for some milliseconds.
 */

/**
 * @typedef {object} Rivals of the wasm build (`src/wasm/kernel.rs`)
 * @property {() => string[]} rival_kernels the one in use first
 * @property {(name: string, rounds: number) => void} try_kernel
 * @property {(name: string) => boolean} select_kernel
 */

/** Long enough for clocks that browsers keep coarse: a trial takes at least this long. */
const TRIAL_MS = 2;

/** A trial that takes so many rounds measures nothing any more. */
const MOST_ROUNDS = 1 << 12;

/** Browsers compile wasm quickly first, and well once it has run for a while: so long both run before they are compared. */
const WARM_MS = 40;

/** In turns, of which the quickest counts: whatever else the machine does only adds. */
const TURNS = 5;

/** What is in use stays, unless another takes less than this part of its time. */
const CLEARLY = 0.9;

/**
 * Makes the wasm build use the fastest of its kernels.
 *
 * @param {Rivals} wasm
 * @param {() => number} [now] milliseconds
 * @returns {string[]} why, in words for `engine.info.why`; empty where there was no choice
 */
export function chooseFasterKernel(wasm, now = () => performance.now()) {
  const names = wasm.rival_kernels();
  if (names.length < 2) return [];
  const time = (/** @type {string} */ name, /** @type {number} */ rounds) => {
    const began = now();
    wasm.try_kernel(name, rounds);
    return now() - began;
  };
  /** @param {number} from @returns {number} how many rounds of the first take long enough */
  const enough = (from) => {
    let rounds = from;
    while (rounds < MOST_ROUNDS && time(names[0], rounds) < TRIAL_MS) rounds *= 2;
    return rounds;
  };
  let rounds = enough(4);
  const began = now();
  for (let turn = 0; now() - began < WARM_MS && turn < WARM_MS / TRIAL_MS; turn++) {
    for (const name of names) wasm.try_kernel(name, rounds);
  }
  rounds = enough(rounds);
  const took = names.map(() => Infinity);
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [i, name] of names.entries()) took[i] = Math.min(took[i], time(name, rounds));
  }
  let best = 0;
  for (const [i, ms] of took.entries()) if (ms < CLEARLY * took[best]) best = i;
  wasm.select_kernel(names[best]);
  const figures = names.map((name, i) => `${name} ${took[i].toFixed(1)} ms`).join(", ");
  return [`dot products ${names[best]}: measured here, ${figures}`];
}
