/**
 * The same tokens everywhere: greedy ids of ten prompts from the native command line, and from both
 * wasm builds in Chromium and in Firefox, with a warm cache and from scratch.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { generate } from "../support/cli.mjs";
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
  temperature: 0, max_tokens: 48, seed: 1,
}));

let site, expected;
before(async () => {
  site = await serveSite();
  expected = generate(REQUESTS).map(({ ids }) => ids);
  assert.equal(expected.length, PROMPTS.length);
  for (const ids of expected) assert.ok(ids.length > 3);
});
after(() => site?.close());

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  test(`${browserName}: both builds give the native ids, cached and from scratch`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await openBlank(page, site.blank);
      for (const kernel of ["relaxed", "simd128"]) {
        const info = await loadEngine(page, "smollm2-135m-instruct", { kernel });
        assert.equal(info.kernel, kernel === "relaxed" ? "relaxed-simd128" : "simd128");
        let cached = 0;
        for (const [i, request] of REQUESTS.entries()) {
          // Asked twice: the second time, the whole prompt is in the cache.
          for (const time of ["first", "second"]) {
            const { ids, usage } = await complete(page, request);
            assert.deepEqual(ids, expected[i], `${kernel}, ${time} time: ${PROMPTS[i]}`);
            cached += usage.prompt_tokens_details.cached_tokens;
          }
        }
        assert.ok(cached > 0, "the cache was never used");
        // From scratch: something else in between empties the cache but for the first three tokens.
        for (const [i, request] of REQUESTS.entries()) {
          await complete(page, { messages: [{ role: "system", content: "Zebra." }, { role: "user", content: "Hm." }], max_tokens: 1 });
          const { ids, usage } = await complete(page, request);
          assert.ok(usage.prompt_tokens_details.cached_tokens <= 3);
          assert.deepEqual(ids, expected[i], `${kernel}, from scratch: ${PROMPTS[i]}`);
        }
        console.log(`${browserName}, ${kernel}: ${REQUESTS.length} prompts equal, ${cached} prompt tokens from the cache`);
      }
    } finally {
      await browser.close();
    }
  });
}
