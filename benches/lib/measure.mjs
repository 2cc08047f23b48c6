/** One run: every part that was asked for, in one browser, one after the other. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import os from "node:os";
import { fileURLToPath } from "node:url";
import { startServer } from "../../scripts/lib/server.mjs";
import { openBrowser } from "./browser.mjs";
import { configurations, openEngine, threadCounts } from "./engines.mjs";
import { measureLimits } from "./limits.mjs";
import { machine, source, versions } from "./machine.mjs";
import { PROMPTS, QUICK_PROMPTS, runTasks } from "./schedule.mjs";
import { measureLoads, measureTurns, measureVisit } from "./visits.mjs";

const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));
const ROUNDS = 5;
const QUICK_ROUNDS = 3;

/** @param {string} line */
const say = (line) => void process.stderr.write(`${line}\n`);

/**
 * @param {import("./options.mjs").Options} options @param {Record<string, string>} paths @param {string[]} argv
 * @returns {Promise<import("./report.mjs").Record_>}
 */
export async function measure({ quick, parts, browser: name }, paths, argv) {
  const rounds = quick ? QUICK_ROUNDS : ROUNDS;
  const threads = threadCounts(os.cpus().length);
  const lab = await startServer({ root: here("../web/page"), policy: null, overlays: {
    "/engines/": here("../web/engines"),
    "/peers/": here("../web/node_modules"),
    "/site/": paths.site,
    "/weights.gguf": paths.weights,
    ...(paths.q4_0 && { "/weights.q4_0.gguf": paths.q4_0 }),
    ...(paths.candle && { "/candle/": paths.candle }),
    ...(paths.limits && { "/limits.wasm": paths.limits }),
  } });
  const browser = await openBrowser(name);
  /** @type {import("./visits.mjs").Serve} */
  const serve = (extra = {}) => startServer({ root: paths.site, overlays: { "/bench/": here("../web/page") }, ...extra });
  try {
    /** @type {import("./report.mjs").Record_ & Record<string, unknown>} */
    const record = {
      date: new Date().toISOString(), command: ["scripts/bench", ...argv].join(" "), browser: browser.version,
      source: source(), machine: machine(), versions: versions(), rounds, engines: [],
    };
    if (parts.has("limits")) {
      say("the machine's limits");
      record.limits = await measureLimits(browser, lab.url, threads, rounds);
    }
    if (parts.has("load")) {
      say("loads");
      record.loads = await measureLoads(browser, serve, rounds);
    }
    if (parts.has("visit")) {
      say("a first visit");
      record.visit = await measureVisit(browser, serve);
    }
    const { engines, leftOut } = await openEngines(configurations(parts, os.cpus().length), { browser, url: lab.url, paths });
    record.leftOut = leftOut;
    if (engines.length > 0) {
      const tasks = await runTasks(engines, { prompts: quick ? QUICK_PROMPTS : PROMPTS, rounds, ...await prompt(paths), say });
      if (parts.has("turn")) {
        say("warm turns");
        record.turns = await measureTurns(engines.filter(({ part }) => part === "ours"), rounds);
      }
      record.engines = engines.map(({ id, part, label, threads, info, memory }) => ({ id, part, label, threads, info, memory, tasks: tasks[id] }));
      for (const engine of engines) await engine.close();
    }
    if (parts.has("limits") && record.limits) {
      // Again at the end: a machine that slowed down meanwhile shows.
      const again = await measureLimits(browser, lab.url, threads, rounds);
      for (const [i, { perSecond }] of again.entries()) {
        for (const [what, values] of Object.entries(perSecond)) record.limits[i].perSecond[what].push(...values);
      }
    }
    return record;
  } finally {
    await browser.close();
    await lab.close();
  }
}

/**
 * One engine that cannot be had is no reason to measure none: it is left out, and the record says why.
 *
 * @param {import("./engines.mjs").Configuration[]} wanted
 * @param {{ browser: import("./browser.mjs").Browser, url: string, paths: Record<string, string> }} place
 */
async function openEngines(wanted, place) {
  const engines = [];
  /** @type {{ id: string, why: string }[]} */
  const leftOut = [];
  for (const configuration of wanted) {
    const { id, label, threads } = configuration;
    let why = "";
    try {
      const engine = await openEngine(configuration, place);
      if (Number(engine.info.threads) === threads) engines.push(engine);
      else {
        why = `it runs on ${engine.info.threads} threads`;
        await engine.close();
      }
    } catch (error) {
      why = String(error);
    }
    if (why) leftOut.push({ id, why });
    say(`${label}, threads ${threads}: ${why ? `left out: ${why}` : "loaded"}`);
  }
  return { engines, leftOut };
}

/** The fixed text, and its token ids as our own tokenizer sees them. @param {Record<string, string>} paths */
async function prompt({ weights, native }) {
  const text = readFileSync(here("../prompt.txt"), "utf8");
  const output = execFileSync(native, ["tokenize", "--model", weights], { encoding: "utf8", input: JSON.stringify({ text }) });
  return { text, ids: JSON.parse(output).ids };
}
