// scripts/bench: its arguments, and what it makes of a record. Nothing is measured here.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chart } from "../../benches/lib/chart.mjs";
import { configurations, threadCounts } from "../../benches/lib/engines.mjs";
import { PARTS, parseOptions } from "../../benches/lib/options.mjs";
import { report } from "../../benches/lib/report.mjs";
import { median, runTasks } from "../../benches/lib/schedule.mjs";

const at = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const RECORD = at("tests/fixtures/bench/record.json");
const record = () => JSON.parse(readFileSync(RECORD, "utf8"));

/** @param {string[]} argv */
const bench = (...argv) => spawnSync(at("scripts/bench"), argv, { encoding: "utf8" });

test("help names every option and every part, and measures nothing", () => {
  const { status, stdout } = bench("--help");
  assert.equal(status, 0);
  for (const word of ["--quick", "--only", "--limits", "--browser", "--out", "--no-build", "--chart", ...PARTS]) {
    assert.ok(stdout.includes(word), word);
  }
});

for (const [argv, culprit] of [
  [["--slow"], "--slow"],
  [["--only", "ours,wllama9"], "wllama9"],
  [["--only", ""], "nothing"],
  [["--browser", "safari"], "safari"],
  [["--limits", "--only", "ours"], "--limits"],
  [["--chart", at("README.md")], "--chart"],
  [["ours"], "ours"],
]) {
  test(`${argv[0]} ${argv[1] ?? ""} is refused by name`, () => {
    const { status, stderr } = bench(...argv);
    assert.equal(status, 2);
    assert.match(stderr, new RegExp(`^bench: .*${culprit}`));
  });
}

test("the options say what is measured", () => {
  assert.deepEqual([...parseOptions([]).parts], PARTS);
  assert.deepEqual([...parseOptions(["--limits"]).parts], ["ours", "limits"]);
  assert.deepEqual([...parseOptions(["--only", "candle, turn"]).parts], ["candle", "turn"]);
  assert.ok(!parseOptions(["--quick"]).parts.has("visit"));
});

test("every configuration has an id of its own, and threads double up to the cores", () => {
  assert.deepEqual(threadCounts(6), [1, 2, 4]);
  const all = configurations(new Set(PARTS), 2);
  assert.equal(new Set(all.map(({ id }) => id)).size, all.length);
  assert.deepEqual(configurations(new Set(["candle"]), 8).map(({ threads }) => threads), [1, 1]);
});

test("the median is the middle", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});

test("engines take turns, and a slow one reads a long prompt once or not at all", async () => {
  const order = [];
  /** An engine that reads `speed` tokens a second and may use what it has cached. */
  const engine = (id, speed, keeps) => ({
    id, keeps, threads: 1,
    run: async ({ prompt, keep, ids }) => {
      order.push(id);
      assert.equal(ids.length, prompt);
      return { prefilled: prompt, prefillMs: (prompt * 1000) / speed, decoded: 24, decodeMs: 240, kept: keep };
    },
  });
  const tasks = await runTasks([engine("fast", 1000, true), engine("slow", 50, true), engine("slower", 50, false)],
    { prompts: [16, 1024], rounds: 3, text: "x".repeat(4096), ids: Array(1024).fill(7), say: () => {} });
  assert.deepEqual(order.slice(3, 6), ["slow", "slower", "fast"]);
  assert.equal(tasks.fast[1024].mode, "fresh");
  assert.equal(tasks.slow[1024].mode, "kept");
  assert.ok(tasks.slow[1024].runs.every(({ kept }) => kept));
  assert.equal(tasks.slower[1024], undefined);
  for (const done of Object.values(tasks)) for (const { runs } of Object.values(done)) assert.equal(runs.length, 3);
});

test("the tables have medians, ratios and shares", () => {
  const text = report(record());
  assert.match(text, /smollm-web, relaxed +1 +400 +400 +400 +100 /);
  // What was not read in the runs is not reported as read.
  assert.match(text, /wllama 2\.3\.7 +1 +25\.0 +25\.0 +– +20\.0 /);
  assert.match(text, /wllama 2\.3\.7 +2 +16\.0× +16\.0× +– +8\.0×/);
  // 400 tokens/s of 106.2 M multiply-adds and a 128th of the head's 28.3 M, of 70 G; 100 × 80 MB of 40 GB/s.
  assert.match(text, /smollm-web, relaxed +1 +128 +61% +20%/);
  assert.match(text, /at most 15 tokens, smollm-web, relaxed, threads 2 +32\.0 ms/);
  assert.match(text, /every byte the server sent +68\.00 MB/);
});

test("the chart shows every engine's bars, to scale, and escapes what it did not write", () => {
  const svg = chart(record());
  assert.equal(svg.match(/<rect /g)?.length, 10);
  assert.ok(svg.includes("Test &#38; Co") && !svg.includes("Test & Co"));
  const widths = [...svg.matchAll(/<rect class="ours \w+" .*?width="([\d.]+)"/g)].map(([, width]) => Number(width));
  assert.ok(Math.abs(widths[1] / widths[0] - 2) < 0.01, "200 tokens/s are twice as long as 100");
  assert.match(svg, /prefers-color-scheme: dark/);
  assert.throws(() => chart({ ...record(), engines: [] }), /no engine/);
});

test("--chart prints what the record says", () => {
  const { status, stdout } = bench("--chart", RECORD);
  assert.equal(status, 0);
  assert.equal(stdout, chart(record()));
});

test("the README's picture is drawn from a record", () => {
  const picture = readFileSync(at("docs/benchmark.svg"), "utf8");
  const runs = readdirSync(at("benches/runs"), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("chromium.json"));
  assert.ok(runs.some((name) => chart(JSON.parse(readFileSync(at(`benches/runs/${name}`), "utf8"))) === picture));
});
