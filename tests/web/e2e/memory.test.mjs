/**
 * Memory on the real weights, in Chromium and where it may differ in Firefox: what is told beforehand is what is taken, what runs
 * out is an error that one can go on after, and nothing is left of an engine that was unloaded. `docs/reliability.md` keeps the
 * table of what was told and found: `UPDATE_DOCS=1` writes it there.
 */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { REGISTRY } from "../../../js/models.js";
import { pageProcessBytes } from "../../../scripts/lib/memory.mjs";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { GGUF } from "../support/cli.mjs";
import { complete, loadEngine, openBlank } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

const MODEL = "smollm2-135m-instruct";
const QUESTION = { messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 16 };
const PAGE = 65536;

let site, browser, page;
before(async () => {
  site = await serveSite();
  browser = await launchChromium();
  page = await browser.newPage();
  page.setDefaultTimeout(0);
  await openBlank(page, site.blank);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

/** What the page's process takes, once that is less: ended workers and their memory go when a busy browser gets to it. */
async function residentBelow(browserName, bytes) {
  let now = Infinity;
  for (let tries = 0; now >= bytes && tries < 15; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    now = pageProcessBytes(browserName);
  }
  return now;
}
const preflight = (model, options, on = page) => on.evaluate(([what, how]) => window.SmolLM.models.preflight(what, how), [model, options]);
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/** What was told of memory and speed, and what was found. */
async function compare(on, model, options) {
  const told = await preflight(model, options, on);
  const info = await loadEngine(on, model, options);
  const { usage } = await complete(on, QUESTION);
  const found = await on.evaluate(() => window.engine.info.memoryBytes);
  const off = told.memoryBytes / found - 1;
  const row = `| ${model.endsWith(".gguf") ? "GGUF, Q4_1" : "pack"} | ${options.threads} | ${options.contextLength} | ${megabytes(info.weightBytes)} | ${
    megabytes(told.memoryBytes)} | ${megabytes(found)} | ${(100 * off).toFixed(1)}% |`;
  console.log(row, `${Math.round(told.tokensPerSecond)} tokens/s told, ${Math.round(usage.timings.decode_tokens_per_second)} found`);
  assert.equal(told.contextLength, info.contextLength);
  assert.ok(Math.abs(off) < 0.05, row);
  // Loading takes at no time much more than what is there in the end.
  assert.ok(info.memoryBytes < 1.05 * told.memoryBytes, row);
  assert.ok(told.fits && told.tokensPerSecond > 1, told.why.join("\n"));
  assert.equal(told.instead, null);
  return { row, told };
}

test("the memory that a model takes is told within 5%, whatever the context, file and number of threads", async () => {
  const rows = [];
  for (const model of [MODEL, `/${GGUF}`]) {
    for (const threads of [1, 2]) {
      for (const contextLength of [64, 512, 2048, 8192]) rows.push((await compare(page, model, { threads, contextLength })).row);
    }
  }
  if (!process.env.UPDATE_DOCS) return;
  const doc = new URL("../../../docs/reliability.md", import.meta.url);
  const table = ["| file | threads | context | weights, MB | told, MB | found, MB | |", "| --- | --- | --- | --- | --- | --- | --- |", ...rows].join("\n");
  const text = await readFile(doc, "utf8");
  await writeFile(doc, text.replace(/<!-- memory -->[^]*<!-- \/memory -->/, `<!-- memory -->\n${table}\n<!-- /memory -->`));
});

test("what the registry says of memory is about that of one thread and the usual context", async () => {
  const { memoryBytes, contextLength } = await preflight(MODEL, { threads: 1 });
  assert.equal(contextLength, 2048);
  assert.ok(Math.abs(REGISTRY[0].memoryBytes / memoryBytes - 1) < 0.02, `${REGISTRY[0].memoryBytes}, ${memoryBytes}`);
});

test("Firefox takes as much, and gives it back", async () => {
  const firefox = await launchFirefox();
  try {
    const other = await firefox.newPage();
    other.setDefaultTimeout(0);
    await openBlank(other, site.blank);
    for (const threads of [1, 2]) await compare(other, MODEL, { threads, contextLength: 2048 });
    const loaded = pageProcessBytes("firefox");
    await other.evaluate(() => window.engine.unload());
    const unloaded = await residentBelow("firefox", loaded - 100e6);
    console.log(`Firefox: resident ${megabytes(loaded)} MB loaded, ${megabytes(unloaded)} MB unloaded`);
    assert.ok(loaded - unloaded > 100e6, `${loaded}, then ${unloaded}`);
  } finally {
    await firefox.close();
  }
});

test("the download is told to the byte, and is nothing once it is here", async () => {
  const context = await browser.newContext();
  const fresh = await context.newPage();
  await openBlank(fresh, site.blank);
  const ask = () => fresh.evaluate((model) => window.SmolLM.models.preflight(model, { threads: 1 }), MODEL);
  const { files, shards } = await (await fetch(`${site.url}models/${MODEL}/manifest.json`)).json();
  const bytes = [...files, ...shards].reduce((sum, file) => sum + file.bytes, 0);
  const before = site.requests.length;
  assert.equal((await ask()).downloadBytes, bytes);
  const asked = site.requests.slice(before).map(({ path }) => path).filter((path) => path.startsWith("/models/"));
  assert.deepEqual(asked, [`/models/${MODEL}/manifest.json`]);
  await loadEngine(fresh, MODEL, { threads: 1 });
  assert.equal((await ask()).downloadBytes, 0);
  await context.close();
});

/** Loads with a memory of at most so many pages; `settled` as in in-page.mjs. */
const loadIn = (pages, options) => page.evaluate(async ([model, most, how]) => {
  await window.engine?.unload();
  const outcome = await window.settled(async () => {
    window.engine = await window.SmolLM.load(model, {
      logLevel: "silent", threads: 2, ...how,
      // The threads' workers share the engine's memory, and make none.
      workerFactory: (url, name = "") => (/worker\.js$/.test(url) && !/threads/.test(url)
        ? new Worker("/blank/small-memory.js", { type: "module", name: String(most) })
        : new Worker(url, { type: "module", name })),
    });
    return window.engine.info;
  });
  return outcome;
}, [MODEL, pages, options]);

test("memory that runs out while a model is loaded is out_of_memory, and a shorter context loads", async () => {
  // Enough for the weights and a short context alone.
  const pages = Math.ceil((await preflight(MODEL, { threads: 2, contextLength: 512 })).memoryBytes / PAGE) + 100;
  const failed = await loadIn(pages, { contextLength: 4096 });
  assert.equal(failed.error?.code, "out_of_memory", JSON.stringify(failed));
  assert.match(failed.error.message, /context of 4096 positions; choose a shorter one/);
  const { value } = await loadIn(pages, { contextLength: 512 });
  assert.equal(value?.contextLength, 512);
  assert.match((await complete(page, QUESTION)).text, /Paris/);
  // Not even the weights.
  const tiny = await loadIn(800, {});
  assert.equal(tiny.error?.code, "out_of_memory", JSON.stringify(tiny));
});

test("memory that runs out in an answer is out_of_memory; the engine can be loaded again, and the conversation goes on", async () => {
  const { value } = await loadIn(4000, { contextLength: 8192 });
  const pages = value.memoryBytes / PAGE;
  assert.ok((await loadIn(pages, { contextLength: 8192 })).value, "what fits once fits again");
  const long = { ...QUESTION, messages: [{ role: "user", content: "word ".repeat(3000) }] };
  const ask = (params) => page.evaluate((given) => window.settled(() => window.engine.chat.completions.create(given)), params);
  const failed = await ask(long);
  assert.equal(failed.error?.code, "out_of_memory", JSON.stringify(failed));
  // The instance is in an unknown state, and is not asked any more.
  assert.equal((await ask(QUESTION)).error?.code, "engine_lost");
  await loadEngine(page, MODEL, { threads: 2, contextLength: 8192 });
  assert.equal((await ask(long)).error, undefined);
});

test("an unloaded engine leaves nothing behind", async () => {
  const cycle = async () => {
    await loadEngine(page);
    await complete(page, QUESTION);
    await page.evaluate(() => window.engine.unload());
  };
  await cycle();
  const first = await residentBelow("chromium", Infinity);
  for (let i = 0; i < 5; i++) await cycle();
  // An engine takes ten times this.
  const most = first + 15e6;
  const last = await residentBelow("chromium", most);
  console.log(`resident after the first unload ${first}, after the sixth ${last}`);
  assert.ok(last < most, `${first}, then ${last}`);
});
