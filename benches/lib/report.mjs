/** A record as tables for the terminal. */
import { LIMITS, shares } from "./limits.mjs";
import { median, rate } from "./schedule.mjs";

/**
 * @typedef {import("./schedule.mjs").Task} Task
 *
 * @typedef {object} EngineRecord
 * @property {string} id
 * @property {string} part
 * @property {string} label
 * @property {number} threads
 * @property {Record<string, any>} info what it says of itself
 * @property {{ wasmBytes?: number, processBytes: number | null }} memory after loading
 * @property {Record<string, Task>} tasks by prompt length
 *
 * @typedef {object} Record_
 * @property {string} date
 * @property {string} command
 * @property {string} browser
 * @property {{ commit: string, changed: boolean }} source
 * @property {{ cpu: string, cores: number, features: string[] }} machine
 * @property {EngineRecord[]} engines
 * @property {{ threads: number, perSecond: Record<string, number[]> }[]} [limits]
 * @property {{ coldMs: number[], cachedMs: number[] }} [loads]
 * @property {{ id: string, turns: { tokens: number, firstTokenMs: number }[] }[]} [turns]
 * @property {{ totalBytes: number, groups: Record<string, number> }} [visit]
 */

const LIMIT_NAMES = {
  stream: ["streaming read of 75 MB of wasm memory", "GB/s"],
  dot_i16: ["dot product, i16x8_relaxed_dot_i8x16_i7x16", "G multiply-adds/s"],
  dot_i32: ["dot product, i32x4_relaxed_dot_i8x16_i7x16_add", "G multiply-adds/s"],
  madd_f32: ["f32x4_relaxed_madd", "G multiply-adds/s"],
};

/** @param {Record_} record @returns {string} */
export function report(record) {
  const { machine, source, browser } = record;
  const parts = [
    `${browser} on ${machine.cpu}, ${machine.cores} cores (${machine.features.join(" ")})`
      + `\n${record.date}, commit ${source.commit.slice(0, 12)}${source.changed ? " with changes" : ""}`,
    speeds(record.engines), ratios(record.engines), limits(record), visitors(record),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

/** @param {EngineRecord[]} engines */
function speeds(engines) {
  const prompts = [...new Set(engines.flatMap(({ tasks }) => Object.keys(tasks).map(Number)))].sort((a, b) => a - b);
  if (prompts.length === 0) return "";
  return table("Tokens per second, medians", [
    ["", "threads", ...prompts.map((n) => `read ${n}`), ...prompts.map((n) => `write at ${n}`), "wasm memory", "process"],
    ...engines.map(({ label, threads, tasks, memory }) => [
      label, String(threads),
      ...prompts.map((n) => (tasks[n]?.mode === "fresh" ? number(rate(tasks[n].runs, "prefill")) : "–")),
      ...prompts.map((n) => (tasks[n] ? number(rate(tasks[n].runs, "decode")) : "–")),
      megabytes(memoryOf({ tasks, memory })), megabytes(memory.processBytes),
    ]),
  ]) + "\n–: left out, or only written behind, because reading that much would take this engine too long";
}

/** Wasm memory never shrinks, so the last figure is the peak. @param {Pick<EngineRecord, "tasks" | "memory">} engine */
export function memoryOf({ tasks, memory }) {
  const seen = Object.values(tasks).flatMap(({ runs }) => runs.map((run) => run.memoryBytes ?? 0));
  return Math.max(memory.wasmBytes ?? 0, ...seen) || null;
}

/** @param {EngineRecord[]} engines how many times the speed of each other engine ours has, thread for thread */
function ratios(engines) {
  const others = engines.filter(({ part }) => part !== "ours" && part !== "native");
  const rows = others.flatMap((other) => {
    const ours = engines.find(({ id }) => id === `ours-relaxed-${other.threads}`);
    if (!ours) return [];
    /** @param {number} prompt @param {"prefill" | "decode"} what */
    const ratio = (prompt, what) => {
      const [mine, theirs] = [ours.tasks[prompt], other.tasks[prompt]];
      if (!mine || !theirs || (what === "prefill" && theirs.mode !== "fresh")) return "–";
      return `${(rate(mine.runs, what) / rate(theirs.runs, what)).toFixed(1)}×`;
    };
    return [[other.label, String(other.threads), ratio(16, "prefill"), ratio(128, "prefill"), ratio(1024, "prefill"), ratio(16, "decode"), ratio(1024, "decode"), ratio(2000, "decode")]];
  });
  if (rows.length === 0) return "";
  return table("smollm-web (relaxed) is so many times as fast as", [
    ["", "threads", "read 16", "read 128", "read 1024", "write at 16", "write at 1024", "write at 2000"], ...rows,
  ]);
}

/** @param {Record_} record */
function limits({ limits: found, engines }) {
  if (!found) return "";
  const machine = table("What the machine allows, the best of several runs", [
    ["", ...found.map(({ threads }) => `${threads} thread${threads > 1 ? "s" : ""}`), ""],
    ...LIMITS.map((what) => {
      const [name, unit] = LIMIT_NAMES[/** @type {keyof typeof LIMIT_NAMES} */ (what)];
      return [name, ...found.map(({ perSecond }) => number(Math.max(...perSecond[what]) / 1e9)), unit];
    }),
  ]);
  const rows = engines.filter(({ part }) => part === "ours").flatMap(({ label, threads, tasks, info }) => {
    const perSecond = found.find((limit) => limit.threads === threads)?.perSecond;
    if (!perSecond) return [];
    return Object.entries(tasks).filter(([, { mode }]) => mode === "fresh").map(([prompt, { runs }]) => {
      const share = shares(runs, perSecond, { prompt: Number(prompt), weightBytes: info.weightBytes });
      return [label, String(threads), prompt, `${(100 * share.prefill).toFixed(0)}%`, `${(100 * share.decode).toFixed(0)}%`];
    });
  });
  if (rows.length === 0) return machine;
  return `${machine}\n\n${table("Our share of it", [["", "threads", "prompt", "reading: of the i16 dot peak", "writing: of the streaming read"], ...rows])}`;
}

/** @param {Record_} record */
function visitors({ loads, turns = [], visit, engines }) {
  /** @type {string[][]} */
  const rows = [];
  if (loads) {
    rows.push(["from the import to ready, over the network", `${number(median(loads.coldMs))} ms`]);
    rows.push(["from the import to ready, from the cache", `${number(median(loads.cachedMs))} ms`]);
  }
  for (const { id, turns: taken } of turns) {
    const engine = engines.find((other) => other.id === id);
    const most = Math.max(...taken.map(({ tokens }) => tokens));
    rows.push([`first text of a warm turn of at most ${most} tokens, ${engine?.label}, threads ${engine?.threads}`,
      `${number(median(taken.map(({ firstTokenMs }) => firstTokenMs)))} ms`]);
  }
  if (visit) {
    rows.push(["first visit, every byte the server sent", `${(visit.totalBytes / 1e6).toFixed(2)} MB`]);
    for (const [group, bytes] of Object.entries(visit.groups)) rows.push([`  ${group}`, `${(bytes / 1e6).toFixed(2)} MB`]);
  }
  return rows.length > 0 ? table("What a visitor waits for", rows) : "";
}

/** @param {string} title @param {string[][]} rows the first one is the head where there are more than two columns */
function table(title, rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join("  ").trimEnd());
  return [title, ...lines].join("\n");
}

/** @param {number} value */
export function number(value) {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

/** @param {number | null} bytes */
function megabytes(bytes) {
  return bytes === null ? "–" : `${(bytes / 1e6).toFixed(0)} MB`;
}
