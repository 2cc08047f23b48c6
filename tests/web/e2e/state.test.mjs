/**
 * A conversation of a thousand tokens over a reload, on the real weights, in Chromium and in Firefox: what is restored goes on
 * with the bits of an engine that was never away, and spares the prefill; what a killed worker leaves is whole.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { complete, loadEngine, openBlank } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";

let site;
before(async () => { site = await serveSite(); });
after(() => site?.close());

const TEXT = readFileSync(new URL("../../../benches/prompt.txt", import.meta.url), "utf8").slice(0, 4400);
const FIRST = { messages: [{ role: "user", content: `Sum this up:\n${TEXT}` }], temperature: 0, max_tokens: 100 };
/** The next message. */
const more = (answer) => ({
  messages: [...FIRST.messages, { role: "assistant", content: answer }, { role: "user", content: "Thank you. What is it about?" }],
  temperature: 0, max_tokens: 40, top_logprobs: 5,
});

/** A visit: the page is loaded and the engine made anew. @param {any} page */
async function visit(page) {
  await openBlank(page, site.blank);
  await loadEngine(page, "smollm2-135m-instruct", { contextLength: 2048 });
}

async function save(page, key) {
  const saved = await page.evaluate((name) => window.settled(() => window.engine.saveState(name)), key);
  assert.equal(saved.error, undefined, saved.error?.message);
  return saved;
}
const restore = (page, key) => page.evaluate((name) => window.settled(() => window.engine.restoreState(name)), key);
const listed = (page) => page.evaluate(() => window.SmolLM.states.list().then((all) => all.map(({ key, bytes }) => [key, bytes])));

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  test(`${browserName}: a reload goes on without prefill, with the same bits`, async (t) => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await visit(page);
      const { text } = await complete(page, FIRST);
      const saved = await save(page, "chat");
      assert.ok(saved.value.tokens >= 1000, `${saved.value?.tokens} tokens`);
      assert.deepEqual(await listed(page), [["chat", saved.value.bytes]]);
      const expected = await complete(page, more(text));

      await visit(page);
      assert.equal((await restore(page, "nothing")).value, null);
      const restored = await restore(page, "chat");
      assert.deepEqual(restored.value, saved.value);
      const on = await complete(page, more(text));
      assert.deepEqual([on.ids, on.logprobs], [expected.ids, expected.logprobs]);
      const cached = on.usage.prompt_tokens_details.cached_tokens;
      assert.equal(cached, expected.usage.prompt_tokens_details.cached_tokens, "as if it had never been away");
      assert.ok(cached >= 1000, `${cached} tokens are not read again`);

      await visit(page);
      const anew = await complete(page, more(text));
      assert.deepEqual([anew.ids, anew.logprobs], [expected.ids, expected.logprobs]);
      assert.ok(anew.usage.prompt_tokens_details.cached_tokens < 100);

      const [warm, back, cold] = [expected, on, anew].map(({ usage }) => usage.timings.first_token_ms);
      t.diagnostic(`${saved.value.tokens} tokens, ${saved.value.bytes} bytes: saved in ${saved.ms.toFixed(0)} ms, restored in `
        + `${restored.ms.toFixed(0)} ms; first token ${back.toFixed(0)} ms after that, ${cold.toFixed(0)} ms without, `
        + `${warm.toFixed(0)} ms where the page was never left: ${(cold / (restored.ms + back)).toFixed(1)} times as soon`);

      await page.evaluate(() => window.SmolLM.states.delete("chat"));
      assert.equal((await restore(page, "chat")).value, null);
    } finally {
      await browser.close();
    }
  });

  test(`${browserName}: a worker that dies while it saves leaves the state before; another model refuses it`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await visit(page);
      const short = { messages: [{ role: "user", content: "Name three colours." }], temperature: 0, max_tokens: 20 };
      await complete(page, short);
      const { value: whole } = await save(page, "chat");
      for (const ms of [0, 5, 20]) {
        await complete(page, FIRST);
        const { error } = await page.evaluate(async (wait) => {
          const saving = window.settled(() => window.engine.saveState("chat"));
          await new Promise((resolve) => setTimeout(resolve, wait));
          await window.engine.unload();
          return saving;
        }, ms);
        if (!error) continue; // It was done already.
        assert.equal(error.code, "engine_lost");
        await visit(page);
        assert.deepEqual((await restore(page, "chat")).value, whole, `killed after ${ms} ms`);
      }

      await loadEngine(page, "../models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf");
      const { error } = await restore(page, "chat");
      assert.equal(error?.code, "invalid_argument");
      assert.match(error.message, /another model/);
    } finally {
      await browser.close();
    }
  });
}
