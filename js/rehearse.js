/** How fast a model would be here: the engine runs a smaller one of the same shapes for a moment. */

/**
 * @typedef {object} Rehearsal of the engine (`src/wasm/preflight.rs`)
 * @property {() => number} rehearse makes the smaller model; the share of the real one's time that a step takes
 * @property {() => void} step a token
 */

/** Browsers compile wasm quickly first, and well once it has run for a while. */
const WARM_MS = 150;
/** So long a measurement takes at least, for clocks that browsers keep coarse. */
const TAKE_MS = 20;
/** Of so many counts the middle one: what else the machine does will be in the way of answers, too. */
const TAKES = 7;

/**
 * @param {Rehearsal} engine
 * @param {{ now?: () => number, turn?: () => Promise<void> }} [around] `turn` lets messages in between two steps
 * @returns {Promise<number>} tokens a second of one answer in a short conversation
 */
export async function rehearse(engine, { now = () => performance.now(), turn = async () => {} } = {}) {
  const share = engine.rehearse();
  const began = now();
  while (now() - began < WARM_MS) {
    engine.step();
    await turn();
  }
  const takes = [];
  for (let take = 0; take < TAKES; take++) {
    let steps = 0, took = 0;
    for (const from = now(); took < TAKE_MS; took = now() - from) {
      engine.step();
      steps++;
    }
    takes.push(took / steps);
    await turn();
  }
  takes.sort((a, b) => a - b);
  return (1000 * share) / takes[TAKES >> 1];
}
