/** Saved conversations: what is on the device after whatever happens to a save, and what the engine makes of it. */
import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { SmolLM, SmolLMError } from "../../../js/index.js";
import { withStates } from "../../../js/states.js";
import { loadFake } from "../support/fake-engine.mjs";
import { allFiles, memoryOpfs } from "../support/memory-opfs.mjs";

const FOLDER = "smollm-web-states/v1/";
let origin;
let navigatorBefore;

// Node has no storage, and its navigator, where it has one, cannot be written to.
before(() => { navigatorBefore = Object.getOwnPropertyDescriptor(globalThis, "navigator"); });
after(() => {
  delete globalThis.navigator;
  if (navigatorBefore) Object.defineProperty(globalThis, "navigator", navigatorBefore);
});
beforeEach(() => {
  origin = memoryOpfs();
  give({ storage: { getDirectory: async () => origin } });
});

function give(navigator) {
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true });
}

/** The parts of a state of so many bytes, all of them `fill`; `events` happen before the part of their number. */
function state(bytes, fill, events = {}) {
  let part = 0;
  return {
    bytes,
    next: async () => {
      events[part]?.();
      const left = bytes - 10 * part++;
      return left > 0 ? new Uint8Array(Math.min(10, left)).fill(fill) : undefined;
    },
  };
}

const save = (key, ...how) => withStates((states) => states.save(key, { ...state(...how), maxBytes: 100 }));

/** What is restored: the first byte, and how many there are. */
async function restored(key) {
  let first;
  const found = await withStates((states) => states.restore(key, async (chunks) => {
    let bytes = 0;
    for await (const chunk of chunks) {
      first ??= chunk[0];
      bytes += chunk.length;
    }
    return bytes;
  }));
  return found && { first, ...found };
}

const names = () => [...allFiles(origin).keys()].map((path) => path.slice(FOLDER.length));

test("what was saved last is what is restored", async () => {
  assert.equal(await restored("chat"), null);
  await save("chat", 35, 1);
  assert.deepEqual(await restored("chat"), { first: 1, tokens: 35, bytes: 35 });
  await save("chat", 40, 2);
  assert.deepEqual(await restored("chat"), { first: 2, tokens: 40, bytes: 40 });
  assert.deepEqual(names(), ["chat/2-40"], "nothing else is left");
});

test("a save that is cut short leaves the old state whole", async () => {
  await save("chat", 35, 1);
  for (const parts of [0, 1, 2, 3]) {
    // As a worker dies: what it waits for never comes, and the system closes what it had open.
    const { next } = state(40, 2);
    let left = parts;
    await new Promise((died) => {
      const last = () => {
        died();
        return new Promise(() => {});
      };
      void withStates((states) => states.save("chat", { bytes: 40, next: () => (left-- > 0 ? next() : last()) }));
    });
    for (const file of allFiles(origin).values()) file.release();
    assert.equal(names().length, 2);
    assert.deepEqual(await restored("chat"), { first: 1, tokens: 35, bytes: 35 }, `after ${parts} parts`);
  }
  await save("other", 20, 3);
  assert.deepEqual(names().map((name) => name.split("/")[0]), ["chat", "other"], "the next save clears up, whichever it is");
});

test("where two are whole, the newer is read, and the older if that is damaged", async () => {
  // As after a death between the end of a save and the deletion of what it replaces.
  await save("chat", 35, 1);
  const folder = await (await (await origin.getDirectoryHandle("smollm-web-states")).getDirectoryHandle("v1")).getDirectoryHandle("chat");
  const handle = await (await folder.getFileHandle("2-40", { create: true })).createSyncAccessHandle();
  handle.write(new Uint8Array(40).fill(2), { at: 0 });
  handle.close();
  assert.deepEqual(await restored("chat"), { first: 2, tokens: 40, bytes: 40 });

  const found = await withStates((states) => states.restore("chat", async (chunks) => {
    for await (const chunk of chunks) if (chunk[0] === 2) throw new SmolLMError("integrity", "a checksum is wrong");
    return 35;
  }));
  assert.deepEqual(found, { tokens: 35, bytes: 35 });
  assert.deepEqual(names(), ["chat/1-35"]);
});

test("an error while saving leaves the old state whole, and nothing half-made", async () => {
  await save("chat", 35, 1);
  const broken = () => { throw Object.assign(new Error("stopped"), { name: "AbortError" }); };
  await assert.rejects(save("chat", 40, 2, { 2: broken }), { code: "aborted", name: "AbortError" });
  assert.deepEqual(names(), ["chat/1-35"]);
  assert.deepEqual(await restored("chat"), { first: 1, tokens: 35, bytes: 35 });
});

test("all together take no more than they may, and the oldest goes first", async () => {
  await save("a", 30, 1);
  await save("b", 30, 2);
  await save("c", 30, 3);
  await save("a", 35, 4);
  assert.deepEqual((await SmolLM.states.list()).map(({ key, bytes }) => [key, bytes]), [["b", 30], ["c", 30], ["a", 35]]);
  await save("d", 40, 5);
  assert.deepEqual((await SmolLM.states.list()).map(({ key }) => key), ["a", "d"]);
  await assert.rejects(save("e", 101, 6), { code: "storage_full", message: /101 bytes.*may take 100/ });
  assert.deepEqual((await SmolLM.states.list()).map(({ key }) => key), ["a", "d"], "for nothing, nothing goes");
});

test("a device that is full gives up the oldest, and then the save", async () => {
  await save("a", 30, 1);
  await save("b", 30, 2);
  origin.space.quota = 75;
  await save("c", 40, 3);
  assert.deepEqual((await SmolLM.states.list()).map(({ key }) => key), ["b", "c"]);
  await assert.rejects(save("c", 60, 4), { code: "storage_full" });
  assert.deepEqual(await restored("c"), { first: 3, tokens: 40, bytes: 40 }, "its own old state is not given up");
});

test("states are deleted by name", async () => {
  await save("a", 30, 1);
  assert.equal(await SmolLM.states.delete("a"), true);
  assert.equal(await SmolLM.states.delete("a"), false);
  assert.equal(await restored("a"), null);
  for (const key of ["", "A", "a/b", "..", "a".repeat(65), undefined]) {
    await assert.rejects(SmolLM.states.delete(key), { code: "invalid_argument", message: /^key: expected/ });
  }
});

test("a browser that stores nothing says so", async () => {
  give({ storage: { getDirectory: async () => { throw Object.assign(new Error("denied"), { name: "SecurityError" }); } } });
  await assert.rejects(SmolLM.states.list(), { code: "unsupported_browser", message: /saved conversations: denied/ });
});

const say = (engine, ...words) => engine.chat.completions.create({ messages: words.map((content) => ({ role: "user", content })) });

test("an engine goes on where another left off", async () => {
  const { engine } = await loadFake();
  await say(engine, "say: one two three four");
  const saved = await engine.saveState("chat");
  assert.equal(saved.tokens, 6);
  await engine.unload();

  const { engine: next } = await loadFake();
  assert.equal(await next.restoreState("other"), null);
  assert.deepEqual(await next.restoreState("chat"), saved);
  const { usage } = await say(next, "say: one two three four", "more");
  assert.equal(usage.prompt_tokens_details.cached_tokens, 6);

  const fake = await import("../fake/smollm_web.js");
  assert.equal(fake.StateWriter.alive, 0, "what was made in wasm is freed");
  await next.unload();
});

test("what the engine refuses stays, what is damaged goes", async () => {
  const { engine } = await loadFake();
  await say(engine, "say: hello");
  const { bytes } = await engine.saveState("chat");
  const [file] = allFiles(origin).values();
  file.bytes[6] = "2".charCodeAt(0);
  await assert.rejects(engine.restoreState("chat"), { code: "invalid_argument", message: /another version/ });
  assert.equal(allFiles(origin).size, 1);
  file.bytes[bytes - 2] = "?".charCodeAt(0);
  await assert.rejects(engine.restoreState("chat"), { code: "integrity", message: /damaged/ });
  assert.equal(allFiles(origin).size, 0);
  assert.equal(await engine.restoreState("chat"), null);
  await assert.rejects(engine.saveState("Chat"), { code: "invalid_argument" });
  await assert.rejects(engine.saveState("chat", { maxBytes: NaN }), { code: "invalid_argument", message: /maxBytes/ });
  await assert.rejects(engine.saveState("chat", { maxBytes: 5 }), { code: "storage_full" });
  assert.equal((await say(engine, "say: still there")).choices[0].message.content, "still there");
  await engine.unload();
});

test("saving stops when it is asked to, and the engine answers", async () => {
  const { engine } = await loadFake();
  await say(engine, `say: ${"word ".repeat(300)}`);
  const stop = new AbortController();
  const saving = engine.saveState("chat", { signal: stop.signal });
  stop.abort();
  await assert.rejects(saving, { code: "aborted" });
  assert.equal(allFiles(origin).size, 0);
  const { usage } = await say(engine, `say: ${"word ".repeat(300)}`, "more");
  assert.ok(usage.prompt_tokens_details.cached_tokens > 300);
  await engine.unload();
});
