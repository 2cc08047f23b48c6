/** What is logged, where it goes, and what is never in it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createLogger, defaultLogLevel } from "../../../js/log.js";
import { Journal } from "../../../www/logic/journal.js";
import { loadFake } from "../support/fake-engine.mjs";

test("levels: what is below is dropped, also when it was logged elsewhere", () => {
  const seen = [];
  const log = createLogger("warn", ({ level, message }) => seen.push([level, message]));
  log.error("a"); log.warn("b"); log.info("c"); log.debug("d");
  for (const level of ["error", "info"]) log.write({ level, message: "e", time: 1 });
  createLogger("silent", () => assert.fail()).error("x");
  assert.deepEqual(seen, [["error", "a"], ["warn", "b"], ["error", "e"]]);
});

test("a logger that throws stops nothing", async (t) => {
  const told = t.mock.method(console, "error", () => {});
  const { engine } = await loadFake({ logLevel: "debug", logger: () => { throw new Error("mine"); } });
  const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: "say: on" }] });
  assert.equal(reply.choices[0].message.content, "on");
  assert.equal(told.mock.calls[0].arguments[1].message, "mine");
  await engine.unload();
});

test("without an option, the page's localStorage decides", () => {
  const levelWith = (value) => {
    Object.defineProperty(globalThis, "localStorage", { value, configurable: true });
    try {
      return defaultLogLevel();
    } finally {
      delete globalThis.localStorage;
    }
  };
  assert.equal(levelWith({ getItem: (key) => (key === "smollm-web:log" ? "debug" : null) }), "debug");
  assert.equal(levelWith({ getItem: () => "loudly" }), "warn");
  assert.equal(levelWith({ getItem: () => { throw new Error("denied"); } }), "warn");
  assert.equal(levelWith(undefined), "warn");
});

test("every stage says what it chose, how much it did and how long it took, and repeats no words", async () => {
  const entries = [];
  const { engine } = await loadFake({ logLevel: "debug", logger: (entry) => entries.push(entry) });
  const before = Date.now();
  await engine.chat.completions.create({ messages: [{ role: "user", content: "say: xylophone quartz" }], temperature: 0.5, stop: "zebra" });
  await engine.unload();

  const stages = entries.map(({ message }) => message.split(":")[0]);
  const order = ["probe", "engine", "model", "ready", "request", "prompt", "prefill", "answer", "worker"];
  let at = -1;
  for (const stage of order) {
    at = stages.indexOf(stage, at + 1);
    assert.ok(at >= 0, `${stage} in ${stages.join()}`);
  }
  const find = (stage) => entries.find(({ message }) => message.startsWith(`${stage}:`));
  assert.equal(find("probe").data.crossOriginIsolated, false);
  assert.match(find("engine").data.build, /^(relaxed|simd128)$/);
  assert.ok(find("engine").data.why.some((reason) => reason.startsWith("threads 1: ")));
  assert.match(find("model").message, /1000 bytes from this device/);
  assert.equal(find("ready").data.weightBytes, 1000);
  assert.equal(find("request").data.temperature, 0.5);
  assert.match(find("prompt").message, /^prompt: 4 tokens, \d of them in the cache, after \d+ ms$/);
  assert.match(find("prefill").message, /^prefill: \d tokens in \d+ ms$/);
  assert.match(find("answer").message, /^answer: 2 tokens, then stop$/);
  assert.ok(find("answer").data.decode_ms >= 0);

  // The page's clock, also for what the worker logged.
  assert.ok(Math.abs(find("request").time - before) < 60_000);
  assert.doesNotMatch(JSON.stringify(entries), /xylophone|quartz|zebra/);
});

test("an error is logged once, with its code; an abort is none", async () => {
  const entries = [];
  const { engine } = await loadFake({ logLevel: "error", logger: (entry) => entries.push(entry) });
  await assert.rejects(engine.chat.completions.create({ messages: [{ role: "user", content: "fail" }] }), { code: "out_of_memory" });
  const stop = new AbortController();
  const stopped = engine.chat.completions.create({ messages: [{ role: "user", content: "long: 20000" }], signal: stop.signal });
  setTimeout(() => stop.abort(), 5);
  await assert.rejects(stopped, { code: "aborted" });
  assert.deepEqual(entries.map(({ level, data }) => [level, data.code]), [["error", "out_of_memory"]]);
  await engine.unload();
});

test("the page's journal keeps the latest entries, in order, in short lines", () => {
  const journal = new Journal();
  journal.add({ level: "info", message: "second", time: 2000.5, data: { ms: 1.23456, why: ["a"] } });
  journal.add({ level: "warn", message: "first", time: 1999, data: new Error("boom") });
  journal.add({ level: "debug", message: "third", time: 3500.5 });
  assert.deepEqual(journal.lines(), [
    { at: "0.000", level: "warn", message: "first", data: "boom" },
    { at: "0.000", level: "info", message: "second", data: '{"ms":1.23,"why":["a"]}' },
    { at: "1.500", level: "debug", message: "third", data: "" },
  ]);
  assert.equal(String(journal).split("\n")[1], '0.000 info second  {"ms":1.23,"why":["a"]}');
  for (let i = 0; i < 1000; i++) journal.add({ level: "debug", message: String(i), time: 4000 + i });
  assert.equal(journal.lines().length, 400);
  assert.equal(journal.lines().at(-1).message, "999");
});
