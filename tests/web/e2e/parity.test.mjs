/**
 * The same bits everywhere: fingerprints of a text of 300 tokens with an answer of 200, and greedy answers to ten prompts,
 * from the native command line, and from every wasm build in Chromium and in Firefox, on one thread and on several, with a
 * warm cache and from scratch; from the pack that the site serves, and some of them from the GGUF file that it was made from.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { GGUF, PACK, fingerprint, generate } from "../support/cli.mjs";
import { openBlank, complete, loadEngine } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

const PROMPTS = [
  "What is the capital of France?",
  "Write a haiku about autumn leaves.",
  "Explain photosynthesis to a ten year old.",
  "def fibonacci(n):",
  "Translate to Spanish: Good morning, how are you?",
  "List the first five prime numbers.",
  "¿Qué hora es? 现在几点? Который час? 🕰️",
  "Tell me a joke about a cat and a keyboard.",
  "Summarise: The quick brown fox jumps over the lazy dog. The dog sleeps on. The fox goes home.",
  "Why do people dream? Answer in two sentences, please.",
];
/** The second half goes on where the first ended, so that a cache has something to give. */
const REQUESTS = PROMPTS.map((content, i) => ({
  messages: i < 5 ? [{ role: "user", content }] : [
    { role: "user", content: PROMPTS[i - 5] }, { role: "assistant", content: "Let me think about that for a moment." }, { role: "user", content },
  ],
  temperature: 0, max_tokens: 48, seed: 1, logprobs: true, top_logprobs: 20,
}));

/** Stands for the logits: every one of them is in the sum under each log-probability. @param {number[]} logprobs */
const hash = (logprobs) => createHash("sha256").update(Float32Array.from(logprobs)).digest("hex");

/** Without a cache to test, a few are enough to see that the weights are the same. */
const FROM_GGUF = [0, 3, 6];

/** Some more than 300 tokens. */
const TEXT = readFileSync(new URL("../../../benches/prompt.txt", import.meta.url), "utf8").slice(0, 1600);

let site, expected, expectedFromGguf, prints;
before(async () => {
  site = await serveSite();
  const answers = (requests, model) => generate(requests, model).map(({ ids, logprobs }) => ({
    ids, logits: hash(logprobs.flatMap(({ logprob, top_logprobs }) => [logprob, ...top_logprobs.map(([, p]) => p)])),
  }));
  expected = answers(REQUESTS, PACK);
  expectedFromGguf = answers(FROM_GGUF.map((i) => REQUESTS[i]), GGUF);
  prints = fingerprint(TEXT, PACK);
  assert.ok(prints.tokens >= 300 && prints.ids.length === 200);
  assert.equal(expected.length, PROMPTS.length);
  for (const { ids } of [...expected, ...expectedFromGguf]) assert.ok(ids.length > 3);
});
after(() => site?.close());

/** Asks, and compares with the native answer. @param {any} page @param {number} i @param {string} where */
async function asks(page, i, where, native = expected[i]) {
  const { ids, logprobs, usage } = await complete(page, REQUESTS[i]);
  assert.deepEqual(ids, native.ids, `${where}: ${PROMPTS[i]}`);
  assert.equal(hash(logprobs), native.logits, `logits, ${where}: ${PROMPTS[i]}`);
  return usage.prompt_tokens_details.cached_tokens;
}

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  test(`${browserName}: every build, on 1, 2 and 4 threads, gives the native answers, cached and from scratch`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await openBlank(page, site.blank);
      for (const kernel of ["relaxed", "simd128"]) {
        for (const threads of [1, 2, 4]) {
          const info = await loadEngine(page, "smollm2-135m-instruct", { kernel, threads });
          assert.match(info.kernel, kernel === "relaxed" ? /^relaxed-simd128(-i32)?$/ : /^simd128$/);
          assert.equal(info.threads, threads);
          const where = `${kernel}, threads ${threads}`;
          const { text, answer, ids } = await page.evaluate((text) => window.engine.fingerprint(text), TEXT);
          assert.deepEqual({ text, answer, ids }, { text: prints.text, answer: prints.answer, ids: prints.ids }, where);
          let cached = 0;
          for (const i of REQUESTS.keys()) {
            cached += await asks(page, i, `${where}, first time`);
            // Asked again, the whole prompt is in the cache, which knows nothing of threads.
            if (threads === 1) cached += await asks(page, i, `${where}, second time`);
          }
          assert.ok(cached > 0, "the cache was never used");
          // From scratch: something else in between empties the cache but for the first three tokens.
          for (const i of threads === 1 ? REQUESTS.keys() : []) {
            await complete(page, { messages: [{ role: "system", content: "Zebra." }, { role: "user", content: "Hm." }], max_tokens: 1 });
            assert.ok(await asks(page, i, `${where}, from scratch`) <= 3);
          }
          console.log(`${browserName}, ${where}: ${REQUESTS.length} prompts equal, logits ${text.slice(0, 8)}… and ${answer.slice(0, 8)}…, ${cached} prompt tokens from the cache`);
        }
      }
      await loadEngine(page, `/${GGUF}`);
      for (const [nth, i] of FROM_GGUF.entries()) await asks(page, i, "from the GGUF file", expectedFromGguf[nth]);
    } finally {
      await browser.close();
    }
  });
}
