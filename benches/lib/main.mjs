/** scripts/bench: gets everything ready, has it measured, prints tables, writes the record. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chart } from "./chart.mjs";
import { machineName } from "./machine.mjs";
import { PARTS, UsageError } from "./options.mjs";
import { report } from "./report.mjs";

const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url));

/** @param {import("./options.mjs").Options} options @param {string[]} argv */
export async function main(options, argv) {
  if (options.chart !== null) {
    process.stdout.write(chart(readRecord(options.chart)));
    return;
  }
  const paths = prepare(options);
  const began = performance.now();
  // Not before: it needs packages that preparing installs.
  const { measure } = await import("./measure.mjs");
  const record = await measure(options, paths, argv);
  console.log(report(record));
  // A part of a run would take the place of a whole one.
  const usual = options.quick || options.parts.size < PARTS.length ? null : here(`../runs/${record.date.slice(0, 10)}-${machineName()}`);
  const folder = options.out === null ? usual : path.resolve(options.out);
  if (folder === null) return;
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, `${options.browser}.json`);
  writeFileSync(file, `${JSON.stringify(record, rounded, 1)}\n`);
  console.error(`\n${path.relative(process.cwd(), file)} written after ${((performance.now() - began) / 60_000).toFixed(1)} minutes`);
}

/** @param {string} file @returns {import("./report.mjs").Record_} */
function readRecord(file) {
  try {
    const record = JSON.parse(readFileSync(file, "utf8"));
    if (Array.isArray(record.engines)) return record;
  } catch (error) {
    throw new UsageError(`--chart: ${/** @type {Error} */ (error).message}`);
  }
  throw new UsageError(`--chart: ${file} is no record of a run`);
}

/** Microseconds and bytes are exact enough. @param {string} _ @param {unknown} value */
function rounded(_, value) {
  return typeof value === "number" ? Math.round(value * 1000) / 1000 : value;
}

/** @param {import("./options.mjs").Options} options @returns {Record<string, string>} what scripts/lib/bench-setup found */
function prepare({ build, browser, parts }) {
  const output = execFileSync(here("../../scripts/lib/bench-setup"), [...(build ? [] : ["--no-build"]), browser, ...parts],
    { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  return Object.fromEntries(output.trim().split("\n").map((line) => {
    const at = line.indexOf("=");
    return [line.slice(0, at), line.slice(at + 1)];
  }));
}
