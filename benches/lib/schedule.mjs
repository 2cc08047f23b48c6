/**
 * Which engine runs when. All engines take turns at the same task, so that whatever else the machine does
 * hits all of them, and a task is done for all before the next begins.
 */

/** @typedef {import("./engines.mjs").OpenEngine} OpenEngine */

/**
 * Prompt lengths. A run reads the prompt and generates behind it: prefill of so many tokens, then decode at
 * that context. The shortest is the shortest question that there is with its template.
 */
export const PROMPTS = [16, 128, 1024, 2000];
export const QUICK_PROMPTS = [16, 128];
const GENERATE = 24;

/** An engine that would need longer for a prompt reads it once, for decode behind it … */
const FRESH_SECONDS = 8;
/** … and one that would need even longer leaves it out. */
const KEPT_SECONDS = 25;

/**
 * @typedef {{ mode: "fresh" | "kept", runs: import("./engines.mjs").Run[] }} Task what a prompt came to;
 *   `kept`: the prompt was read once, before the runs, so that they say nothing of prefill
 * @typedef {Record<string, Record<number, Task>>} Tasks by engine, by prompt
 */

/**
 * @param {OpenEngine[]} engines
 * @param {{ prompts: number[], rounds: number, text: string, ids: number[], say: (line: string) => void }} options
 * @returns {Promise<Tasks>}
 */
export async function runTasks(engines, { prompts, rounds, text, ids, say }) {
  /** @type {Tasks} */
  const tasks = Object.fromEntries(engines.map(({ id }) => [id, {}]));
  for (const prompt of prompts) {
    const able = engines.flatMap((engine) => {
      const mode = modeFor(engine, prompt, tasks[engine.id]);
      return mode ? [{ engine, mode }] : [];
    });
    for (const { engine, mode } of able) tasks[engine.id][prompt] = { mode, runs: [] };
    const about = text.slice(0, Math.ceil((text.length * prompt) / ids.length));
    const request = { prompt, text: about, ids: ids.slice(0, prompt), generate: GENERATE };
    for (let round = 0; round <= rounds; round++) {
      say(round === 0 ? `prompt of ${prompt} tokens: warming up ${able.length} engines` : `prompt of ${prompt} tokens: round ${round} of ${rounds}`);
      // Nobody always comes first, or always behind the same neighbour's heat.
      const turned = able.map((_, i) => able[(i + round) % able.length]);
      for (const { engine, mode } of turned) {
        if (round === 0 && mode === "fresh" && prompt > prompts[0]) continue;
        const run = await engine.run({ ...request, keep: mode === "kept" });
        if (round > 0) tasks[engine.id][prompt].runs.push(run);
      }
    }
  }
  return tasks;
}

/**
 * @param {OpenEngine} engine @param {number} prompt @param {Record<number, Task>} done
 * @returns {Task["mode"] | null}
 */
function modeFor(engine, prompt, done) {
  const known = Object.values(done).filter(({ mode }) => mode === "fresh").at(-1);
  if (!known) return "fresh";
  const seconds = prompt / rate(known.runs, "prefill");
  if (seconds <= FRESH_SECONDS) return "fresh";
  return engine.keeps && seconds <= KEPT_SECONDS ? "kept" : null;
}

/**
 * Tokens per second: the median over the runs.
 *
 * @param {import("./engines.mjs").Run[]} runs @param {"prefill" | "decode"} what
 */
export function rate(runs, what) {
  return median(runs.map((run) => (what === "prefill" ? (run.prefilled * 1000) / run.prefillMs : (run.decoded * 1000) / run.decodeMs)));
}

/** @param {number[]} values at least one */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
