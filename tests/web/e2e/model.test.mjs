/**
 * The package with the real weights in Chromium: what the model says, what is remembered, how
 * quickly it stops, and what bad input comes to.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { launchChromium } from "../support/browsers.mjs";
import { REGISTRY } from "../../../js/models.js";
import { GGUF } from "../support/cli.mjs";
import { openBlank, complete, loadEngine } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

let site, browser, page, info;
before(async () => {
  site = await serveSite();
  browser = await launchChromium();
  page = await browser.newPage();
  await openBlank(page, site.blank);
  info = await loadEngine(page);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

const user = (content) => [{ role: "user", content }];
const greedy = { temperature: 0, seed: 1 };

test("what is loaded", async () => {
  console.log(info);
  assert.equal(info.architecture, "llama");
  assert.ok(info.threads >= 1);
  assert.match(info.kernel, /^relaxed-simd128(-i32)?$/);
  assert.equal(info.crossOriginIsolated, true);
  assert.ok(info.parameters > 134e6 && info.parameters < 135e6);
  assert.ok(info.memoryBytes <= 260e6, `${info.memoryBytes} bytes`);
  const progress = await page.evaluate(() => window.progress);
  const phases = progress.map(({ phase }) => phase);
  assert.ok(phases.includes("download") && phases.includes("verify") && phases.at(-1) === "warmup", phases.join());
  assert.deepEqual(progress.map(({ loaded }) => loaded), progress.map(({ loaded }) => loaded).sort((a, b) => a - b));
  const { files, shards } = await (await fetch(`${site.url}models/smollm2-135m-instruct/manifest.json`)).json();
  const bytes = [...files, ...shards].reduce((sum, file) => sum + file.bytes, 0);
  assert.equal(progress.at(-1).loaded, bytes);
  // The page says how much before it knows exactly.
  assert.ok(Math.abs(REGISTRY[0].bytes / bytes - 1) < 0.02, `the registry says ${REGISTRY[0].bytes}, the pack has ${bytes}`);
});

test("a second load comes from this device", async () => {
  const before = site.requests.length;
  const began = performance.now();
  await loadEngine(page);
  console.log(`from cached files to ready: ${Math.round(performance.now() - began)} ms`);
  const asked = site.requests.slice(before).map(({ path }) => path).filter((path) => path.startsWith("/models/"));
  assert.deepEqual(asked, ["/models/smollm2-135m-instruct/manifest.json"]);
  assert.ok(await page.evaluate(() => window.progress.every(({ cached }) => cached)));
});

test("whole and streamed answers are the same, and the figures add up", async () => {
  const params = { messages: user("Name the capital of France."), ...greedy, max_tokens: 40 };
  const streamed = await complete(page, params);
  const whole = await page.evaluate((p) => window.engine.chat.completions.create(p), params);
  assert.match(streamed.text, /Paris/);
  assert.equal(whole.choices[0].message.content, streamed.text);
  assert.equal(whole.choices[0].finish_reason, streamed.finish);
  const { usage } = streamed;
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.equal(usage.completion_tokens, streamed.ids.length);
  assert.ok(usage.timings.first_token_ms > 0 && usage.timings.decode_tokens_per_second > 0);
  // The same prompt again: all of it but the last token is in the cache.
  assert.equal(whole.usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens - 1);
  console.log(usage.timings);
});

test("a seed repeats an answer; stop and max_tokens end it; log-probabilities are some", async () => {
  const messages = user("Name an animal.");
  const once = await complete(page, { messages, temperature: 1.2, seed: 7, max_tokens: 24 });
  const again = await complete(page, { messages, temperature: 1.2, seed: 7, max_tokens: 24 });
  assert.deepEqual(once.ids, again.ids);
  const other = await complete(page, { messages, temperature: 1.2, seed: 8, max_tokens: 24 });
  assert.notDeepEqual(once.ids, other.ids);

  const counting = { messages: user("Count from 1 to 10, separated by commas."), ...greedy };
  const stopped = await complete(page, { ...counting, stop: ["5"] });
  assert.equal(stopped.finish, "stop");
  assert.ok(!stopped.text.includes("5"));
  const short = await complete(page, { ...counting, max_tokens: 3 });
  assert.equal(short.finish, "length");
  assert.equal(short.ids.length, 3);

  const { choices: [{ logprobs }] } = await page.evaluate((p) => window.engine.chat.completions.create(p),
    { ...counting, max_tokens: 5, logprobs: true, top_logprobs: 4 });
  for (const { token_id, logprob, top_logprobs } of logprobs.content) {
    assert.equal(top_logprobs.length, 4);
    assert.equal(top_logprobs[0].token_id, token_id, "greedy takes the likeliest");
    assert.equal(top_logprobs[0].logprob, logprob);
    const sum = top_logprobs.reduce((p, t) => p + Math.exp(t.logprob), 0);
    assert.ok(sum > 0 && sum <= 1.0001);
  }
});

test("three turns are remembered", async () => {
  // A model of this size forgets names easily: left to itself it answers "I'm Emily", and so does
  // float32 transformers on the same weights. So several conversations are held, and the name has to
  // come back in some, and in none where nobody said it. From the GGUF file: the pack, whose weights are
  // rounded once more, forgets even more easily, and it is the conversation that is tested here.
  const VARIANTS = [
    ["Be brief. Use the user's name in every answer.", "What is the capital of France?"],
    ["You are a polite assistant. Greet the user by name, and use the name in every answer.", "Nice to meet you!"],
    ["Always call the user by their name.", "Nice to meet you!"],
    ["You are a friendly assistant. You call the user by their name.", "Nice to meet you!"],
    ["You are a helpful assistant. The user tells you about themselves, and you remember it.", "Nice to meet you!"],
  ];
  await page.evaluate(async (url) => { window.fromGguf = await window.SmolLM.load(url); }, `/${GGUF}`);
  const converse = (first) => page.evaluate(async ([variants, greeting]) => {
    const held = [];
    for (const [systemPrompt, middle] of variants) {
      const chat = new window.SmolLMChat(window.fromGguf, { systemPrompt, sampling: { temperature: 0 } });
      await chat.initialize();
      const answers = [];
      for (const message of [greeting, middle, "What's my name?"]) answers.push(await chat.chat(message, { max_tokens: 40 }));
      held.push({ answers, history: chat.getConversationHistory() });
    }
    return held;
  }, [VARIANTS, first]);
  const recalled = (held) => held.filter(({ answers }) => answers[2].includes("Alice")).length;

  const told = await converse("Hi, my name is Alice");
  for (const { answers, history } of told) {
    assert.equal(history.shift().role, "system");
    assert.equal(history.length, 6);
    assert.deepEqual(history.map(({ role }) => role), ["user", "assistant", "user", "assistant", "user", "assistant"]);
    assert.deepEqual(history.filter(({ role }) => role === "assistant").map(({ content }) => content), answers);
  }
  const untold = await converse("Hi there");
  console.log(`the name came back in ${recalled(told)} of ${VARIANTS.length} conversations, unsaid in ${recalled(untold)}`);
  assert.ok(recalled(told) >= 2, told.map(({ answers }) => answers[2]).join(" | "));
  assert.equal(recalled(untold), 0);
  await page.evaluate(() => window.fromGguf.unload());
});

test("instructions are followed, and leave the conversation alone", async () => {
  const { poem, list, sentence, history } = await page.evaluate(async () => {
    const chat = new window.SmolLMChat(window.engine, { sampling: { temperature: 0 } });
    await chat.chat("Hi, my name is Bob", { max_tokens: 20 });
    const pieces = [];
    const poem = await chat.instruct("Write a short poem about AI.", { max_tokens: 150, onToken: (t) => pieces.push(t) });
    if (pieces.join("") !== poem) throw new Error("the pieces are not the answer");
    return {
      poem,
      list: await chat.instruct("List three benefits of exercise as a numbered list.", { max_tokens: 250 }),
      sentence: await chat.instruct("Explain machine learning in one sentence.", { max_tokens: 100 }),
      history: chat.getConversationHistory(),
    };
  });
  assert.match(poem, /\bAI\b|artificial/i);
  assert.match(list, /1\.[^]*2\.[^]*3\./);
  assert.match(sentence, /machine learning|learn/i);
  assert.equal(history.length, 2);
});

test("a system prompt changes the voice", async () => {
  const { plain, pirate } = await page.evaluate(async () => {
    const chat = new window.SmolLMChat(window.engine, { sampling: { temperature: 0 } });
    const question = "Introduce yourself in one sentence.";
    const plain = await chat.chat(question, { max_tokens: 60 });
    chat.setSystemPrompt("You are Captain Redbeard, a pirate. You always speak like a pirate and begin with Arrr.");
    return { plain, pirate: await chat.chat(question, { max_tokens: 60 }) };
  });
  assert.notEqual(plain, pirate);
  assert.match(pirate, /arr|captain|redbeard|pirate|matey|ship|sea/i);
  assert.doesNotMatch(plain, /redbeard|matey/i);
});

test("an abort settles quickly in every phase, and the next request works", async () => {
  const figures = await page.evaluate(async () => {
    const { engine, settled } = window;
    const words = Array.from({ length: 1300 }, (_, i) => ["river", "stone", "cloud", "lamp", "seven"][i % 5] + (i % 7 ? "" : ".")).join(" ");
    const create = (content, more) => engine.chat.completions.create({ messages: [{ role: "user", content }], temperature: 0, ...more });
    const promptTokens = await engine.countTokens([{ role: "user", content: words }]);

    /** Aborts when `when` says so; how long the request then took to settle, and the engine to be free. */
    const aborted = async (start) => {
      const stop = new AbortController();
      let at = 0;
      const abort = () => {
        if (at) return;
        at = performance.now();
        stop.abort();
      };
      const { error } = await settled(() => start(stop.signal, abort));
      const settledMs = performance.now() - at;
      const next = await create("Say hi.", { max_tokens: 2 });
      return { error, settledMs, next: next.choices[0].message.content, nextMs: performance.now() - at };
    };
    return {
      promptTokens,
      prefill: await aborted((signal, abort) => create(words, { signal, onPrefill: ({ done }) => { if (done > 100) abort(); } })),
      decode: await aborted((signal, abort) => create("Write a long story.", { signal, stream: true }).then(async (stream) => {
        let tokens = 0;
        for await (const chunk of stream) if (chunk.choices[0].delta.content && ++tokens === 8) abort();
      })),
      queued: await aborted((signal, abort) => {
        void create("Count to three.", { max_tokens: 12 });
        setTimeout(abort, 20);
        return create("x", { signal });
      }),
      load: await aborted((signal, abort) => window.SmolLM.load("smollm2-135m-instruct", {
        signal, cache: "none", onProgress: ({ loaded }) => { if (loaded > 1e6) abort(); },
      })),
    };
  });
  assert.ok(figures.promptTokens >= 1500, `${figures.promptTokens} tokens`);
  console.log(`prompt of ${figures.promptTokens} tokens`);
  for (const phase of ["prefill", "decode", "queued", "load"]) {
    const { error, settledMs, next, nextMs } = figures[phase];
    console.log(`abort during ${phase}: settled after ${settledMs.toFixed(1)} ms; the next request was answered ${nextMs.toFixed(0)} ms after the abort`);
    assert.equal(error?.name, "AbortError", phase);
    assert.equal(error?.code, "aborted", phase);
    assert.ok(next.length > 0, phase);
  }
});

test("an over-long conversation loses its oldest exchanges; an over-long message is refused", async () => {
  const { reply, refused, again } = await page.evaluate(async () => {
    const small = await window.SmolLM.load("smollm2-135m-instruct", { contextLength: 512 });
    const filler = Array.from({ length: 20 }, (_, i) => [
      { role: "user", content: `Tell me something about the number ${i}.` },
      { role: "assistant", content: `The number ${i} comes after ${i - 1} and before ${i + 1}, and that is what is known about it.` },
    ]).flat();
    const create = (messages) => small.chat.completions.create({ messages, temperature: 0, max_tokens: 16 });
    const out = {
      reply: await create([{ role: "system", content: "You are brief." }, ...filler, { role: "user", content: "And 21?" }]),
      refused: await window.settled(() => create([{ role: "user", content: "word ".repeat(2000) }])),
      again: await create([{ role: "user", content: "Hi" }]),
    };
    await small.unload();
    return out;
  });
  assert.ok(reply.dropped_messages.length > 0 && reply.dropped_messages.length % 2 === 0);
  assert.match(reply.dropped_messages[0].content, /number 0/);
  assert.equal(refused.error.code, "context_overflow");
  assert.ok(again.choices[0].message.content.length > 0);
});

test("tokenizer references, from the GGUF's own vocabulary: exact", async () => {
  const cases = (await readFile(new URL("../../golden/tokenizer.jsonl", import.meta.url), "utf8")).trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(cases.length >= 250, `${cases.length} cases`);
  const wrong = await page.evaluate(async (all) => {
    const wrong = [];
    for (const { text, ids_plain, ids_special } of all) {
      const plain = await window.engine.tokenize(text), special = await window.engine.tokenize(text, { parseSpecial: true });
      if (String(plain) !== String(ids_plain) || String(special) !== String(ids_special)) wrong.push({ text, plain, special, ids_plain, ids_special });
    }
    return wrong;
  }, cases);
  assert.deepEqual(wrong, []);
});

test("bad input: each a typed error naming the culprit, and a load afterwards works", async () => {
  const load = (model, options) => page.evaluate(([m, o]) => window.settled(() => window.SmolLM.load(m, { cache: "none", logLevel: "silent", ...o })), [model, options ?? {}]);
  for (const [model, code, message] of [
    ["/models/nowhere.gguf", "http_status", /nowhere\.gguf.*404/],
    ["/models/nowhere/", "http_status", /config\.json.*404/],
    ["/blank/index.html?x=.gguf", "http_status", /config\.json.*404/],
    ["/blank/page.gguf", "not_a_model", /page\.gguf: expected a GGUF file, found an HTML page/],
    ["http://localhost:1/x.gguf", "network", /x\.gguf: no connection/],
    ["no-such-model", "invalid_argument", /no-such-model/],
  ]) {
    const { error } = await load(model);
    assert.ok(error?.ours, `${model}: ${JSON.stringify(error)}`);
    assert.equal(error.code, code, `${model}: ${error.message}`);
    assert.match(error.message, message);
  }

  const { truncated, absurd, garbage, kind } = await page.evaluate(async () => {
    const whole = await (await fetch(new URL("../models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf", location.href))).blob();
    const load = (blob, name) => window.settled(() => window.SmolLM.load(new File([blob], name), { logLevel: "silent" }));
    const header = new DataView(new ArrayBuffer(64));
    for (const [i, c] of [..."GGUF"].entries()) header.setUint8(i, c.charCodeAt(0));
    header.setUint32(4, 3, true);
    header.setBigUint64(8, 1n << 60n, true);
    header.setBigUint64(16, 1n << 60n, true);
    const flipped = new Uint8Array(await whole.slice(0, 4 << 20).arrayBuffer());
    flipped.fill(0xff, 30, 2000);
    return {
      truncated: await load(whole.slice(0, 50_000_000), "truncated.gguf"),
      absurd: await load(new Blob([header]), "absurd.gguf"),
      garbage: await load(new Blob([flipped]), "garbage.gguf"),
      kind: await load(new Blob(["PK\x03\x04 not a model at all, but long enough to look at its first bytes"]), "zip.gguf"),
    };
  });
  for (const [name, { error }] of Object.entries({ truncated, absurd, garbage, kind })) {
    assert.equal(error?.code, "not_a_model", `${name}: ${JSON.stringify(error)}`);
    console.log(`${name}: ${error.message}`);
  }
  for (const params of [{}, { messages: [] }, { messages: user("x"), temperature: -1 }, { messages: user("x"), top_p: 2 }, { messages: user("x"), max_token: 1 }]) {
    const { error } = await page.evaluate((p) => window.settled(() => window.engine.chat.completions.create(p)), params);
    assert.equal(error?.code, "invalid_argument", JSON.stringify(params));
  }
  const { text } = await complete(page, { messages: user("Say hi."), ...greedy, max_tokens: 8 });
  assert.ok(text.length > 0);
});

test("checkpoint directories: safetensors in one file and in shards, and GGUF beside them", async () => {
  for (const [model, architecture] of [["/fixtures/models/llama-tied/", "llama"], ["/fixtures/models/smollm3", "smollm3"], ["/fixtures/models/llama-untied.gguf", "llama"]]) {
    const found = await page.evaluate(async (m) => {
      const tiny = await window.SmolLM.load(m, { cache: "none" });
      const reply = await tiny.chat.completions.create({ messages: [{ role: "user", content: "Hi" }], temperature: 0, max_tokens: 4 });
      await tiny.unload();
      return { info: tiny.info, tokens: reply.usage.completion_tokens };
    }, model);
    assert.equal(found.info.architecture, architecture, model);
    assert.ok(found.tokens >= 1, model);
  }
});
