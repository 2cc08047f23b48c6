/** What scripts/bench understands. */
import { parseArgs } from "node:util";

export const USAGE = `Usage: scripts/bench [--quick] [--only NAMES] [--limits] [--browser NAME] [--out DIR] [--no-build]
       scripts/bench --chart FILE

Measures this engine beside others on the same machine, the same weights and the same prompt, in one run,
and prints tables; a whole run's raw figures go to benches/runs/<date>-<machine>/. It takes about a quarter
of an hour; leave the machine alone meanwhile.

  --quick          three rounds and short prompts, no loads and no first visit: a few minutes
  --only NAMES     some of: ours, wllama2, wllama3, candle, llama.cpp, native, limits, load, turn, visit
                   (comma-separated)
  --limits         the machine's limits and our share of them; the same as --only ours,limits
  --browser NAME   chromium (the default) or firefox
  --out DIR        where the raw figures go, also those of a part
  --no-build       takes the site in dist/ and the programs in target/ as they are
  --chart FILE     prints the picture of a record (docs/benchmark.svg) and measures nothing

What is missing is installed: npm packages for wllama, PyPI's for native llama.cpp.`;

/** Everything that can be measured, in the order of the tables. */
export const PARTS = ["ours", "wllama2", "wllama3", "candle", "llama.cpp", "native", "limits", "load", "turn", "visit"];
const BROWSERS = ["chromium", "firefox"];

/**
 * @typedef {object} Options
 * @property {boolean} help
 * @property {boolean} quick
 * @property {Set<string>} parts
 * @property {"chromium" | "firefox"} browser
 * @property {string | null} out null for the usual place
 * @property {boolean} build
 * @property {string | null} chart
 */

/** A mistake of whoever typed the command. */
export class UsageError extends Error {}

/** @param {string[]} argv @returns {Options} */
export function parseOptions(argv) {
  let values;
  try {
    ({ values } = parseArgs({
      args: argv,
      options: {
        help: { type: "boolean", short: "h", default: false },
        quick: { type: "boolean", default: false },
        only: { type: "string" },
        limits: { type: "boolean", default: false },
        browser: { type: "string", default: "chromium" },
        out: { type: "string" },
        "no-build": { type: "boolean", default: false },
        chart: { type: "string" },
      },
    }));
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
  if (!BROWSERS.includes(values.browser)) {
    throw new UsageError(`--browser: expected ${BROWSERS.join(" or ")}, found ${values.browser}`);
  }
  if (values.limits && values.only !== undefined) throw new UsageError("--limits and --only exclude each other");
  return {
    help: values.help,
    quick: values.quick,
    parts: parts(values),
    browser: /** @type {Options["browser"]} */ (values.browser),
    out: values.out ?? null,
    build: !values["no-build"],
    chart: values.chart ?? null,
  };
}

/** @param {{ only?: string, limits: boolean, quick: boolean }} values */
function parts({ only, limits, quick }) {
  if (limits) return new Set(["ours", "limits"]);
  if (only === undefined) return new Set(quick ? PARTS.filter((part) => part !== "visit" && part !== "load") : PARTS);
  const names = only.split(",").map((name) => name.trim());
  const unknown = names.find((name) => !PARTS.includes(name));
  if (unknown !== undefined) throw new UsageError(`--only: expected some of ${PARTS.join(", ")}, found ${unknown || "nothing"}`);
  return new Set(names);
}
