/** Packs in Chromium with its real storage: what a damaged server, a damaged device and a server that is gone come to. */
import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { launchChromium } from "../support/browsers.mjs";
import { PACK } from "../support/cli.mjs";
import { openBlank } from "../support/in-page.mjs";
import { DIST, serveSite } from "../support/site.mjs";

/** Files, and a byte in each. */
const CASES = [["manifest.json", 300], ["tokenizer.json", 5000], ["weights-00001.bin", 0], ["weights-00004.bin", 1_000_000], ["weights-00006.bin", -1]];

let folder, site, browser, page;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "smollm-pack-"));
  await cp(path.join(DIST, PACK), folder, { recursive: true, filter: (name) => !name.endsWith(".gguf") });
  // The same files under several addresses: each has a storage of its own.
  site = await serveSite({ overlays: Object.fromEntries(["copy", ...CASES.map((_, i) => `copy-${i}`)].map((name) => [`/${name}/`, folder])) });
  browser = await launchChromium();
  page = await browser.newPage();
  await openBlank(page, site.blank);
});
after(async () => {
  await browser?.close();
  await site?.close();
  await rm(folder, { recursive: true, force: true });
});

const load = (model) => page.evaluate((m) => window.settled(async () => {
  const engine = await window.SmolLM.load(m, { logLevel: "silent" });
  const reply = await engine.chat.completions.create({ messages: [{ role: "user", content: "Name the capital of France." }], temperature: 0, max_tokens: 12 });
  await engine.unload();
  return reply.choices[0].message.content;
}), model);

/** Runs `action` with one bit of a file turned over. */
async function flipped(name, at, action) {
  const file = path.join(folder, name);
  const good = await readFile(file);
  const bad = Buffer.from(good);
  bad[at < 0 ? bad.length + at : at] ^= 2;
  await writeFile(file, bad);
  try {
    return await action();
  } finally {
    await writeFile(file, good);
  }
}

/** Asked for since `before`, without the path. */
const asked = (before) => site.requests.slice(before).map((entry) => entry.path).filter((name) => name.startsWith("/copy/"))
  .map((name) => name.slice("/copy/".length));

test("a flipped bit is an integrity error naming the file, and the next load finds nothing bad on this device", async () => {
  for (const [i, [name, at]] of CASES.entries()) {
    const { error } = await flipped(name, at, () => load(`/copy-${i}/`));
    assert.equal(error?.code, "integrity", `${name}: ${JSON.stringify(error)}`);
    assert.ok(error.ours && error.message.startsWith(`${name}: `), error.message);
    const mended = await load(`/copy-${i}/manifest.json`);
    assert.match(mended.value ?? JSON.stringify(mended.error), /Paris/);
  }
});

test("what is on this device is checked again, and mended", async () => {
  await load("/copy/");
  const damaged = await page.evaluate(async () => {
    const root = await (await (await navigator.storage.getDirectory()).getDirectoryHandle("smollm-web")).getDirectoryHandle("v2");
    for await (const model of root.values()) {
      for await (const entry of model.values()) {
        if (!entry.name.endsWith(".record")) continue;
        const record = JSON.parse(await (await entry.getFile()).text());
        if (!record.url.endsWith("/copy/weights-00002.bin")) continue;
        const handle = await model.getFileHandle(entry.name.replace("record", "data"));
        const writable = await handle.createWritable({ keepExistingData: true });
        await writable.write({ type: "write", position: 4321, data: new Uint8Array([1, 2, 3, 4]) });
        await writable.close();
        return record.url;
      }
    }
  });
  assert.ok(damaged, "the shard is not on this device");
  const before = site.requests.length;
  const { value, error } = await load("/copy/");
  assert.match(value ?? JSON.stringify(error), /Paris/);
  assert.deepEqual(asked(before), ["manifest.json", "weights-00002.bin"]);
  const again = site.requests.length;
  await load("/copy/");
  assert.deepEqual(asked(again), ["manifest.json"]);
});

test("the wasm class fetches a pack by itself", async () => {
  const answer = (name) => page.evaluate(async (model) => {
    const glue = await import(new URL("../smollm-web/pkg/simd128/smollm_web.js", location.href).href);
    await glue.default();
    return window.settled(async () => {
      const instruct = new glue.SmolLMInstruct();
      await instruct.initialize(model);
      return instruct.instruct("Name the capital of France.");
    });
  }, name);
  for (const model of ["/copy/", "/copy/manifest.json"]) {
    const { value, error } = await answer(model);
    assert.match(value ?? JSON.stringify(error), /Paris/);
  }
  for (const [name, at] of [["weights-00003.bin", 12_345], ["tokenizer.json", 77], ["manifest.json", 1000]]) {
    const { error } = await flipped(name, at, () => answer("/copy/"));
    assert.equal(error?.code, "integrity", `${name}: ${JSON.stringify(error)}`);
    assert.ok(error.message.startsWith(`${name}: `), error.message);
  }
});
