/** Workers that crash or are ended; requests that are stopped or come at a bad time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SmolLM, SmolLMChat } from "../../../js/index.js";
import { LocalWorker, fakeGguf, loadFake, withWasm } from "../support/fake-engine.mjs";

const ask = (content) => [{ role: "user", content }];

test("an engine says when it is lost, and why", async () => {
  const crashed = await loadFake();
  await assert.rejects(crashed.engine.chat.completions.create({ messages: ask("trap") }), { code: "engine_lost" });
  assert.match((await crashed.engine.lost).message, /crashed/);
  assert.ok(crashed.worker.terminated);

  const failed = await loadFake();
  failed.worker.emit("error", { message: "boom" });
  assert.match((await failed.engine.lost).message, /boom/);

  const unloaded = await loadFake();
  await unloaded.engine.unload();
  assert.match((await unloaded.engine.lost).message, /unloaded/);
});

test("a chat whose engine is lost in mid-answer can be loaded again, and goes on where it was", () => withWasm(async () => {
  const workers = [];
  const chat = new SmolLMChat(fakeGguf(), {
    logLevel: "silent",
    workerFactory: () => {
      workers.push(new LocalWorker());
      return workers.at(-1);
    },
  });
  await chat.initialize();
  await chat.chat("say: before");
  const running = chat.chat("long: 20000", { onToken: () => workers[0].emit("error", { message: "killed" }) });
  const waiting = chat.chat("say: waiting");
  await assert.rejects(running, { code: "engine_lost", message: /killed/ });
  await assert.rejects(waiting, { code: "engine_lost", message: /killed.*initialize/ });
  assert.equal(chat.engine, null);

  await chat.initialize();
  assert.equal(await chat.chat("say: after"), "after");
  assert.deepEqual(chat.getConversationHistory().map(({ content }) => content), ["say: before", "before", "say: after", "after"]);
  assert.deepEqual(workers[1].sent.find(({ call }) => call === "generate").args.messages.map(({ content }) => content), ["say: before", "before", "say: after"]);
  await chat.unload();
  await assert.rejects(chat.chat("x"), { code: "engine_lost", message: /unloaded.*initialize/ });
}));

test("a message that is stopped while it waits for its turn settles at once", async () => {
  const { engine } = await loadFake();
  const chat = new SmolLMChat(engine);
  const order = [];
  const first = chat.chat("slow: 10 a b c d e f").then(() => order.push("first"));
  const stop = new AbortController();
  const second = assert.rejects(chat.chat("say: never", { signal: stop.signal }), { code: "aborted" }).then(() => order.push("second"));
  const third = chat.instruct("say: third").then(() => order.push("third"));
  stop.abort();
  await Promise.all([first, second, third]);
  assert.deepEqual(order, ["second", "first", "third"]);
  assert.deepEqual(chat.getConversationHistory().map(({ content }) => content.trim()), ["slow: 10 a b c d e f", "a b c d e f"]);
  await assert.rejects(chat.chat("x", { signal: AbortSignal.abort() }), { code: "aborted" });
  await engine.unload();
});

test("whenBusy: error refuses what comes while an answer is written, but not right after it was stopped", async () => {
  const { engine } = await loadFake({ whenBusy: "error" });
  const stop = new AbortController();
  const stream = await engine.chat.completions.create({ messages: ask("slow: 30 a b c d e f"), stream: true, signal: stop.signal });
  await assert.rejects(engine.chat.completions.create({ messages: ask("x") }), { code: "busy" });
  stop.abort();
  assert.equal((await engine.chat.completions.create({ messages: ask("say: next") })).choices[0].message.content, "next");
  await assert.rejects(async () => { for await (const _ of stream); }, { code: "aborted" });

  const chat = new SmolLMChat(engine, { whenBusy: "error" });
  const first = chat.chat("slow: 5 a b c");
  await assert.rejects(chat.chat("x"), { code: "busy" });
  await assert.rejects(chat.instruct("x"), { code: "busy" });
  assert.equal(await first, "a b c");
  assert.equal(await chat.chat("say: free"), "free");
  await engine.unload();
});

test("every kind of pending call rejects when the engine is lost while it loads", () => withWasm(async () => {
  let worker;
  const loading = SmolLM.load(fakeGguf(), {
    logLevel: "silent",
    workerFactory: () => (worker = new LocalWorker()),
    onProgress: () => worker.emit("error", { message: "killed" }),
  });
  await assert.rejects(loading, { code: "engine_lost", message: /killed/ });
}));
