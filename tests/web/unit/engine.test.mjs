import assert from "node:assert/strict";
import { test } from "node:test";
import { SmolLM, SmolLMChat, SmolLMError } from "../../../js/index.js";
import * as fake from "../fake/smollm_web.js";
import { LocalWorker, fakeGguf, loadFake } from "../support/fake-engine.mjs";

const ask = (content) => [{ role: "user", content }];

/** Loads, runs, unloads. */
function engineTest(name, run, options) {
  test(name, async () => {
    const { engine, worker } = await loadFake(options);
    try {
      await run(engine, worker);
    } finally {
      await engine.unload();
    }
  });
}

engineTest("info says what is loaded and why", async ({ info }) => {
  assert.equal(info.architecture, "llama");
  assert.equal(info.contextLength, 2048);
  assert.equal(info.threads, 1);
  assert.equal(info.weightBytes, 1000);
  assert.ok(info.why.some((w) => w.startsWith("kernel ")) && info.why.some((w) => w.startsWith("threads 1")));
});

engineTest("a whole completion has OpenAI's shape, usage and timings", async (engine) => {
  const reply = await engine.chat.completions.create({ messages: ask("say: one two three"), seed: 5 });
  assert.equal(reply.object, "chat.completion");
  assert.deepEqual(reply.choices, [{
    index: 0, finish_reason: "stop", logprobs: null, message: { role: "assistant", content: "one two three", refusal: null },
  }]);
  const { timings, ...usage } = reply.usage;
  assert.deepEqual(usage, {
    prompt_tokens: 5, completion_tokens: 3, total_tokens: 8,
    // The role's word is there from warming up.
    prompt_tokens_details: { cached_tokens: 1 },
  });
  assert.deepEqual(Object.keys(timings).sort(), ["decode_ms", "decode_tokens_per_second", "first_token_ms", "prefill_ms", "prefill_tokens_per_second"]);
  assert.equal(reply.seed, 5);
});

engineTest("a stream yields one chunk a token, then the figures", async (engine) => {
  const chunks = [];
  for await (const chunk of await engine.chat.completions.create({ messages: ask("say: one two three"), stream: true })) chunks.push(chunk);
  assert.deepEqual(chunks.map((c) => c.choices[0].delta), [{ role: "assistant", content: "" }, { content: "one" }, { content: " two" }, { content: " three" }, {}]);
  assert.deepEqual(chunks.map((c) => c.choices[0].finish_reason), [null, null, null, null, "stop"]);
  assert.equal(new Set(chunks.map((c) => c.id)).size, 1);
  assert.ok(chunks.every((c, i) => Boolean(c.usage) === (i === chunks.length - 1)));
});

engineTest("warming up makes way for a request, and happens only once", async (engine, worker) => {
  // At once after loading: the warming up has hardly begun.
  assert.equal((await engine.chat.completions.create({ messages: ask("say: now") })).choices[0].message.content, "now");
  assert.equal(worker.sent.filter(({ call }) => call === "generate").length, 1);
});

engineTest("stop, max_tokens and logprobs", async (engine) => {
  const create = (content, more) => engine.chat.completions.create({ messages: ask(content), ...more });
  assert.equal((await create("say: a b STOP c", { stop: "STOP" })).choices[0].message.content.trim(), "a b");
  const short = await create("long: 50", { max_tokens: 4 });
  assert.equal(short.choices[0].finish_reason, "length");
  assert.equal(short.usage.completion_tokens, 4);
  const { logprobs } = (await create("say: hé", { logprobs: true, top_logprobs: 2 })).choices[0];
  const [{ token_id }] = logprobs.content;
  assert.equal(await engine.detokenize([token_id]), "hé");
  assert.deepEqual(logprobs.content, [{
    token: "hé", token_id, logprob: -0.5, bytes: [104, 195, 169],
    top_logprobs: [
      { token: "hé", token_id, logprob: -0.5, bytes: [104, 195, 169] },
      { token: " other1", token_id: token_id + 1, logprob: -1.5, bytes: [32, 111, 116, 104, 101, 114, 49] },
    ],
  }]);
});

engineTest("an abort in mid-answer ends the stream with figures, then AbortError, and the next request works", async (engine) => {
  const stop = new AbortController();
  const chunks = [];
  await assert.rejects(async () => {
    for await (const chunk of await engine.chat.completions.create({ messages: ask("long: 20000"), stream: true, signal: stop.signal })) {
      chunks.push(chunk);
      if (chunks.length === 5) stop.abort(new Error("enough"));
    }
  }, (error) => error instanceof SmolLMError && error.name === "AbortError" && error.cause.message === "enough");
  const last = chunks[chunks.length - 1];
  assert.equal(last.choices[0].finish_reason, "abort");
  assert.ok(last.usage.completion_tokens >= 3);
  assert.equal((await engine.chat.completions.create({ messages: ask("say: still here") })).choices[0].message.content, "still here");
});

engineTest("an abort while the prompt is read, while queued, and before the call", async (engine) => {
  const long = "x ".repeat(1500);
  const prefill = new AbortController();
  await assert.rejects(engine.chat.completions.create({
    messages: ask(long), signal: prefill.signal, onPrefill: ({ done }) => done > 64 && prefill.abort(),
  }), { name: "AbortError" });

  const first = engine.chat.completions.create({ messages: ask("slow: 5 a b c d e f g h i j") });
  const queued = new AbortController();
  const second = engine.chat.completions.create({ messages: ask("say: never"), signal: queued.signal });
  setTimeout(() => queued.abort(), 10);
  await assert.rejects(second, { code: "aborted" });
  assert.equal((await first).choices[0].message.content.trim(), "a b c d e f g h i j");
  await assert.rejects(engine.chat.completions.create({ messages: ask("x"), signal: AbortSignal.abort() }), { code: "aborted" });
});

engineTest("leaving a stream early stops the generation", async (engine) => {
  for await (const chunk of await engine.chat.completions.create({ messages: ask("long: 20000"), stream: true })) {
    if (chunk.choices[0].delta.content) break;
  }
  // Would wait for twenty thousand words otherwise.
  assert.equal((await engine.chat.completions.create({ messages: ask("say: next") })).choices[0].message.content, "next");
});

engineTest("requests take turns; tokenizer calls need none", async (engine) => {
  const order = [];
  const create = (name, content) => engine.chat.completions.create({ messages: ask(content) }).then(() => order.push(name));
  const all = [create("first", "slow: 10 a b c d e f"), create("second", "say: b"), engine.countTokens("a b c").then((n) => order.push(n))];
  await Promise.all(all);
  assert.deepEqual(order, [3, "first", "second"]);
});

engineTest("whenBusy: error refuses a second request", async (engine) => {
  const first = engine.chat.completions.create({ messages: ask("slow: 5 a b c") });
  await assert.rejects(engine.chat.completions.create({ messages: ask("x") }), { code: "busy" });
  await first;
  await engine.chat.completions.create({ messages: ask("say: x") });
}, { whenBusy: "error" });

engineTest("tokenizer calls", async (engine) => {
  const ids = await engine.tokenize("one two one");
  assert.ok(Array.isArray(ids) && ids.length === 3);
  assert.equal(await engine.detokenize(ids), "one two one");
  assert.equal(await engine.countTokens("one two"), 2);
  assert.equal(await engine.countTokens(ask("one two")), 3);
  await assert.rejects(engine.detokenize([-1]), { code: "invalid_argument" });
  await assert.rejects(engine.tokenize(7), { code: "invalid_argument" });
});

engineTest("an error of the engine keeps its code, and the engine goes on", async (engine) => {
  await assert.rejects(engine.chat.completions.create({ messages: ask("fail") }), { code: "out_of_memory", message: /kv cache/ });
  await assert.rejects(engine.chat.completions.create({ messages: ask("x ".repeat(3000)) }), { code: "context_overflow" });
  await engine.chat.completions.create({ messages: ask("say: x") });
});

engineTest("a crash rejects what runs, what waits, and what comes", async (engine) => {
  const running = engine.chat.completions.create({ messages: ask("trap") });
  const waiting = engine.chat.completions.create({ messages: ask("say: x") });
  await assert.rejects(running, { code: "engine_lost" });
  await assert.rejects(waiting, { code: "engine_lost" });
  await assert.rejects(engine.tokenize("x"), { code: "engine_lost" });
});

engineTest("a worker that fails rejects everything pending, streams included", async (engine, worker) => {
  const stream = await engine.chat.completions.create({ messages: ask("long: 20000"), stream: true });
  const waiting = engine.chat.completions.create({ messages: ask("say: x") });
  const reading = assert.rejects(async () => { for await (const _ of stream); }, { code: "engine_lost" });
  worker.emit("error", { message: "boom" });
  await reading;
  await assert.rejects(waiting, { code: "engine_lost", message: /boom/ });
});

engineTest("unload rejects what is pending, and may be called twice", async (engine, worker) => {
  const pending = engine.chat.completions.create({ messages: ask("long: 20000") });
  pending.catch(() => {});
  await engine.unload();
  await engine.unload();
  await assert.rejects(pending, { code: "engine_lost", message: /unloaded/ });
  assert.ok(worker.terminated);
});

test("loading: progress, abort, and failures leave nothing behind", async () => {
  const seen = [];
  const { engine } = await loadFake({ onProgress: (p) => seen.push(p) });
  await engine.unload();
  assert.deepEqual(seen[0], { phase: "load", loaded: 1000, total: 1000, file: "fake.gguf", cached: true, rate: 0, timeLeft: 0 });
  assert.equal(engine.info.stored, false);
  assert.equal(seen[seen.length - 1].phase, "warmup");
  assert.equal(seen[seen.length - 1].loaded, 1000);

  await assert.rejects(loadFake({ signal: AbortSignal.abort() }), { name: "AbortError" });
  const stop = new AbortController();
  const loading = loadFake({ signal: stop.signal });
  stop.abort();
  await assert.rejects(loading, { name: "AbortError" });

  await assert.rejects(loadFake({}, new File(["<!doctype html>"], "m.gguf")), { code: "not_a_model", message: /HTML page/ });
  await assert.rejects(loadFake({}, fakeGguf(50)), { code: "not_a_model", message: /truncated after 50 bytes/ });
  await assert.rejects(loadFake({ threads: 0 }), { code: "invalid_argument", message: /threads/ });
  await assert.rejects(loadFake({ whenFull: "ask" }), { code: "invalid_argument", message: /whenFull: expected memory, error, evict/ });
  await assert.rejects(loadFake({ contextLength: 1.5 }), { code: "invalid_argument" });
  await assert.rejects(loadFake({}, "no-such-model"), { code: "invalid_argument" });

  const broken = () => new LocalWorker({ importModule: async () => { throw new TypeError("failed to import"); } });
  await assert.rejects(loadFake({ workerFactory: broken }), (error) => error.code === "network" && error.cause !== undefined);
});

test("a checkpoint directory given as Files", async () => {
  const weights = new Uint8Array(200);
  weights[0] = 100;
  weights[8] = 0x7b;
  const files = [new File(["{}"], "config.json"), new File(["{}"], "tokenizer.json"), new File([weights], "model.safetensors")];
  const { engine } = await loadFake({}, files);
  assert.equal(engine.info.architecture, "smollm3");
  await engine.unload();
  await assert.rejects(loadFake({}, files.slice(1)), { code: "not_a_model", message: /config\.json: not among the files given/ });
});

/** A chat over the fake engine. */
async function withChat(run, options) {
  const { engine } = await loadFake({ contextLength: 100_000 });
  try {
    await run(new SmolLMChat(engine, options), engine);
  } finally {
    await engine.unload();
  }
}

test("a fingerprint waits for its turn, can be aborted, and leaves nothing behind", async () => {
  const { engine } = await loadFake();
  const [answer, found] = await Promise.all([
    engine.chat.completions.create({ messages: [{ role: "user", content: "say: first" }] }),
    engine.fingerprint("one two three", { tokens: 2 }),
  ]);
  assert.equal(answer.choices[0].message.content, "first");
  assert.deepEqual(found, { text: "text of 3", answer: "answer of 2", ids: [0, 1] });
  const abort = new AbortController();
  const aborted = engine.fingerprint("word ".repeat(5000), { signal: abort.signal });
  setTimeout(() => abort.abort(), 20);
  await assert.rejects(aborted, { code: "aborted", name: "AbortError" });
  for (const [text, options] of [["", {}], [7, {}], ["x", { tokens: -1 }], ["x", { tokens: 1.5 }]]) {
    await assert.rejects(engine.fingerprint(text, options), { code: "invalid_argument" });
  }
  assert.equal(fake.FingerprintRun.alive, 0);
  await engine.unload();
});

test("a chat remembers, instruct does not", () => withChat(async (chat) => {
  const pieces = [];
  assert.equal(await chat.chat("say: hello there", { onToken: (t) => pieces.push(t) }), "hello there");
  assert.deepEqual(pieces, ["hello", " there"]);
  await chat.chat("say: two");
  assert.equal(await chat.instruct("say: alone"), "alone");
  await chat.chat("say: three");
  assert.deepEqual(chat.getConversationHistory().map(({ role, content }) => `${role}: ${content}`), [
    "user: say: hello there", "assistant: hello there", "user: say: two", "assistant: two", "user: say: three", "assistant: three",
  ]);
  chat.getConversationHistory().pop();
  assert.equal(chat.getConversationHistory().length, 6);
  chat.clearConversation();
  assert.deepEqual(chat.getConversationHistory(), []);
}));

test("what the model is asked: the system prompt, the history, the message", async () => {
  const { engine, worker } = await loadFake();
  const chat = new SmolLMChat(engine, { systemPrompt: "be kind", sampling: { temperature: 0 } });
  const asked = () => worker.sent.filter(({ call }) => call === "generate").at(-1).args;
  await chat.chat("say: a");
  await chat.chat("say: b", { temperature: 1 });
  assert.deepEqual(asked().messages, [
    { role: "system", content: "be kind" }, { role: "user", content: "say: a" }, { role: "assistant", content: "a" }, { role: "user", content: "say: b" },
  ]);
  assert.equal(asked().temperature, 1);
  await chat.instruct("say: c");
  assert.deepEqual(asked().messages, [{ role: "system", content: "be kind" }, { role: "user", content: "say: c" }]);
  assert.equal(asked().temperature, 0);
  chat.setSystemPrompt("");
  await chat.chat("say: d");
  assert.deepEqual(asked().messages, [{ role: "user", content: "say: d" }]);
  await engine.unload();
});

test("messages sent at once are answered one after the other, each knowing the last", () => withChat(async (chat) => {
  await Promise.all([chat.chat("slow: 5 a b c"), chat.chat("say: second")]);
  assert.deepEqual(chat.getConversationHistory().map((m) => m.content.trim()), ["slow: 5 a b c", "a b c", "say: second", "second"]);
}));

test("a stopped answer is remembered as far as it got; a failed one leaves no trace", () => withChat(async (chat) => {
  const stop = new AbortController();
  let got = "";
  await assert.rejects(chat.chat("long: 20000", { signal: stop.signal, onToken: (t) => { got += t; if (got.length > 20) stop.abort(); } }), { name: "AbortError" });
  const [, answer] = chat.getConversationHistory();
  assert.ok(answer.content.startsWith(" word0") && answer.content.length >= 20);
  await assert.rejects(chat.chat("fail"), { code: "out_of_memory" });
  await assert.rejects(chat.chat("  "), { code: "invalid_argument" });
  await assert.rejects(chat.chat("say: a b", { onToken: () => { throw new RangeError("mine"); } }), RangeError);
  assert.equal(chat.getConversationHistory().length, 2);
  await chat.chat("say: fine");
  assert.equal(chat.getConversationHistory().length, 4);
}));

test("when the context is full, whole oldest exchanges are forgotten, and the caller is told", async () => {
  const { engine } = await loadFake({ contextLength: 100 });
  const dropped = [];
  const chat = new SmolLMChat(engine, { systemPrompt: "you are brief", onDropped: (messages) => dropped.push(...messages) });
  for (let i = 0; i < 12; i++) await chat.chat(`say: ${i} a b c d e f`);
  const [system, ...rest] = chat.getConversationHistory();
  assert.deepEqual(system, { role: "system", content: "you are brief" });
  assert.ok(dropped.length > 0 && dropped.length % 2 === 0);
  assert.equal(dropped.length + rest.length, 24);
  assert.deepEqual([...dropped, ...rest].map((m) => Number(/\d+/.exec(m.content))), Array.from({ length: 24 }, (_, i) => i >> 1));
  await assert.rejects(chat.chat("x ".repeat(200)), { code: "context_overflow" });
  await engine.unload();
});

test("an answer that comes after the conversation was cleared is not remembered", () => withChat(async (chat) => {
  const answer = chat.chat("say: a b", { onToken: () => chat.setSystemPrompt("new") });
  assert.equal(await answer, "a b");
  assert.deepEqual(chat.getConversationHistory(), [{ role: "system", content: "new" }]);
}));

test("a chat on its own loads its own engine, and can try again after a failure", async () => {
  const chat = new SmolLMChat("not-a-model");
  await assert.rejects(chat.chat("x"), { code: "engine_lost", message: /initialize/ });
  await assert.rejects(chat.initialize(), { code: "invalid_argument" });
  await assert.rejects(chat.initialize(), { code: "invalid_argument" });
  assert.deepEqual((await SmolLM.models.list()).map(({ id, cached }) => ({ id, cached })), [{ id: "smollm2-135m-instruct", cached: false }]);
});

/** The fake in a memory of so many pages at most, whose steps trap. */
const trapping = (maximum) => ({
  importModule: async () => ({
    ...fake,
    default: async () => ({ memory: new WebAssembly.Memory({ initial: 16, maximum }) }),
    SmolLMInstruct: class extends fake.SmolLMInstruct {
      step() {
        throw new WebAssembly.RuntimeError("unreachable");
      }
    },
  }),
});

for (const [name, pages, code] of [["for want of memory", 16, "out_of_memory"], ["by a bug", 1000, "engine_lost"]]) {
  test(`an engine that ended ${name} while it warmed up says so when it is asked, and is asked no more`, async () => {
    const { engine, worker } = await loadFake({}, fakeGguf(), trapping(pages));
    await assert.rejects(engine.chat.completions.create({ messages: ask("say: a") }), { code });
    assert.ok(worker.terminated);
    await assert.rejects(engine.countTokens("a"), { code: "engine_lost" });
  });
}
