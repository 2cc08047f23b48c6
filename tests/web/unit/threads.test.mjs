/** How the engine's worker gets its threads, and what it does where it cannot have them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { loadFake } from "../support/fake-engine.mjs";

/** A thread's worker that answers as told, and remembers what it was sent. */
class FakeThread {
  #listeners = { message: [], error: [] };
  terminated = false;

  constructor(url, name, answer) {
    Object.assign(this, { url, name, answer });
  }

  addEventListener(type, listener) {
    this.#listeners[type].push(listener);
  }

  postMessage(message) {
    // A page that sees the engine's memory keeps it until its next garbage collection.
    assert.deepEqual(Object.keys(message), ["port"]);
    const { port } = message;
    this.port = port;
    port.onmessage = ({ data }) => {
      this.start = data;
      const [type, event] = this.answer;
      if (type === "message") port.postMessage(event.data);
      else for (const listener of this.#listeners[type]) listener(event);
    };
  }

  terminate() {
    this.terminated = true;
    this.port?.close();
  }
}

const READY = ["message", { data: { ready: true } }];

/** Loads on a machine of eight cores in an isolated page. @param {(index: number) => any} answer of each thread */
async function load(answer, options = {}) {
  const threads = [];
  const modules = [];
  const fake = await import("../fake/smollm_web.js");
  const { engine } = await loadFake({ logger: () => {}, ...options }, undefined, {
    isolated: true,
    cores: 8,
    importModule: async (url) => {
      modules.push(url.split("/").at(-2));
      return fake;
    },
    spawnThread: (url, name) => {
      const thread = new FakeThread(url, name, answer(threads.length));
      threads.push(thread);
      return thread;
    },
  });
  const { info } = engine;
  const living = threads.filter(({ terminated }) => !terminated).length;
  await engine.unload();
  assert.ok(threads.every(({ terminated }) => terminated), "threads outlive their engine");
  return { info, threads, modules, living };
}

test("threads share the engine's module and memory", async () => {
  const { info, threads, modules, living } = await load(() => READY, { threads: 3 });
  assert.equal(info.threads, 3);
  assert.equal(living, 2);
  assert.equal(info.crossOriginIsolated, true);
  assert.ok(info.why.includes("threads 3: asked for by option"), info.why.join());
  assert.equal(modules.length, 1);
  assert.match(modules[0], /-threads$/);
  assert.deepEqual(threads.map(({ start }) => start.index), [0, 1]);
  for (const { url, start: { module, memory, glueUrl } } of threads) {
    assert.match(url.pathname, /\/js\/threads-worker\.js$/);
    assert.ok(module instanceof WebAssembly.Module);
    assert.ok(memory.buffer instanceof SharedArrayBuffer);
    // Through a message each has its own object, of the same bytes.
    new Uint8Array(memory.buffer)[0]++;
    assert.equal(new Uint8Array(threads[0].start.memory.buffer)[0], threads.findIndex(({ start }) => start.memory === memory) + 1);
    assert.match(glueUrl, new RegExp(`/pkg/${modules[0]}/smollm_web.js$`));
  }
});

test("by default there are as many as physical cores; one asked for starts none", async () => {
  assert.equal((await load(() => READY)).info.threads, 4);
  const { info, threads, modules } = await load(() => READY, { threads: 1 });
  assert.equal(info.threads, 1);
  assert.equal(threads.length, 0);
  assert.doesNotMatch(modules[0], /-threads$/);
});

for (const [what, answer, reason] of [
  ["cannot be created", () => { throw new DOMException("not of this origin", "SecurityError"); }, /not of this origin/],
  ["does not load", () => ["error", { message: "404" }], /404/],
  ["has no name for its error", () => ["error", {}], /could not be started/],
  ["cannot instantiate the module", (i) => (i === 0 ? READY : ["message", { data: { failed: "no memory" } }]), /no memory/],
]) {
  test(`where a worker ${what}, the engine runs on one thread and says why`, async () => {
    const { info, living, modules } = await load(answer, { threads: 3 });
    assert.equal(info.threads, 1);
    assert.equal(living, 0);
    const [why] = info.why.filter((w) => w.startsWith("threads "));
    assert.match(why, /^threads 1: /);
    assert.match(why, reason);
    assert.doesNotMatch(modules.at(-1), /-threads$/);
  });
}

test("where no shared memory is to be had, the engine runs on one thread and says why", async (t) => {
  const { Memory } = WebAssembly;
  const asked = [];
  t.mock.method(WebAssembly, "Memory", function memory(descriptor) {
    if (!descriptor.shared) return new Memory(descriptor);
    asked.push(descriptor.maximum);
    throw new RangeError("WebAssembly.Memory(): could not allocate memory");
  });
  const { info, living } = await load(() => READY, { threads: 2 });
  assert.equal(info.threads, 1);
  assert.equal(living, 0);
  assert.ok(info.why.some((why) => /^threads 1: .*shared memory/.test(why)), info.why.join());
  assert.deepEqual(asked, [65536, 32768, 16384]);
});
