/**
 * Threads in Chromium and in Firefox, on the real weights: where there are some, where there are none and
 * why, how a host without headers comes by them, and that none outlives its engine.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { complete, loadEngine, openBlank } from "../support/in-page.mjs";
import { serveSite } from "../support/site.mjs";
import { countWorkers } from "../support/workers.mjs";

const QUESTION = { messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 24 };
const MODEL = "smollm2-135m-instruct";

let isolated, plain;
before(async () => {
  isolated = await serveSite();
  plain = await serveSite({ isolation: false });
});
after(async () => {
  await isolated?.close();
  await plain?.close();
});

/** Until the page says yes, which it may leave and come back to meanwhile. @param {any} page @param {() => unknown} question */
async function until(page, question) {
  for (let tries = 0; tries < 200; tries++) {
    if (await page.evaluate(question).catch(() => false)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`never true: ${question}`);
}

const loads = (site, path) => site.requests.filter((request) => request.path === path).length;

/** Workers begin and end when the browser gets to it. @param {number} expected */
async function assertWorkers(expected) {
  let found;
  for (let tries = 0; tries < 200; tries++) {
    found = countWorkers();
    if (found === expected) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(found, expected, "workers that live");
}

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  test(`${browserName}: an isolated page has threads; without headers there is one, until a service worker isolates it`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);

      await openBlank(page, isolated.blank);
      const two = await loadEngine(page, MODEL, { threads: 2 });
      assert.equal(two.threads, 2);
      assert.equal(two.crossOriginIsolated, true);
      assert.ok(two.why.includes("threads 2: asked for by option"), two.why.join());
      const answer = await complete(page, QUESTION);
      assert.match(answer.text, /Paris/);
      const one = await loadEngine(page, MODEL, { threads: 1 });
      assert.equal(one.threads, 1);
      assert.deepEqual((await complete(page, QUESTION)).ids, answer.ids);
      const auto = await loadEngine(page, MODEL);
      const cores = await page.evaluate(() => navigator.hardwareConcurrency);
      assert.ok(auto.threads >= Math.min(2, cores) && auto.threads <= Math.min(8, cores), `${auto.threads} of ${cores}`);

      await openBlank(page, plain.blank);
      const single = await loadEngine(page, MODEL, { threads: 2 });
      assert.equal(single.threads, 1);
      assert.equal(single.crossOriginIsolated, false);
      assert.ok(single.why.includes("threads 1: the page is not cross-origin isolated"), single.why.join());
      assert.deepEqual((await complete(page, QUESTION)).ids, answer.ids);

      const path = new URL(plain.blank).pathname;
      const before = loads(plain, path);
      // The page goes away before the call settles.
      await page.evaluate(() => {
        import(new URL("../smollm-web/index.js", location.href).href)
          .then(({ isolate }) => isolate({ workerUrl: "../isolation-worker.js" }));
      });
      // Firefox isolates the empty document that it shows before the reloaded one, too.
      await until(page, () => window.crossOriginIsolated && location.protocol === "http:" && document.readyState === "complete");
      assert.equal(loads(plain, path), before + 1, "reloads");
      await page.evaluate(async () => {
        const { SmolLM, isolate } = await import(new URL("../smollm-web/index.js", location.href).href);
        window.isolation = await isolate({ workerUrl: "../isolation-worker.js" });
        window.SmolLM = SmolLM;
      });
      assert.deepEqual(await page.evaluate(() => window.isolation), { isolated: true, why: "the page is cross-origin isolated" });
      assert.equal((await loadEngine(page, MODEL, { threads: 2 })).threads, 2);
      assert.deepEqual((await complete(page, QUESTION)).ids, answer.ids);
      assert.equal(loads(plain, path), before + 1, "reloads after isolation");
    } finally {
      await browser.close();
    }
  });

  test(`${browserName}: the chat page isolates itself; a page that cannot be is reloaded once and goes on`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      await page.goto(`${plain.url}blank/index.html`);
      const why = await page.evaluate(async () => {
        const { isolate } = await import(new URL("../smollm-web/index.js", location.href).href);
        const missing = await isolate({ workerUrl: "nowhere.js" });
        const narrow = await isolate({ workerUrl: "../smollm-web/isolation-worker.js" });
        sessionStorage.setItem("smollm-web:isolation", "1");
        const again = await isolate({ workerUrl: "../isolation-worker.js" });
        sessionStorage.clear();
        return [missing, narrow, again];
      });
      assert.ok(why.every((one) => one.isolated === false && one.why.length > 10));
      assert.match(why[1].why, /serve it from this page's folder/);
      assert.match(why[2].why, /reloaded once/);

      const before = loads(plain, "/");
      await page.goto(plain.url);
      await until(page, () => window.crossOriginIsolated && document.querySelector(".engine-pill[data-state]") !== null);
      // After its one reload it comes from this device.
      assert.equal(loads(plain, "/"), before + 1);
    } finally {
      await browser.close();
    }
  });

  test(`${browserName}: engines come and go, at rest, while they load and while they answer, and take their threads along`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await openBlank(page, isolated.blank);
      const others = countWorkers();
      for (let cycle = 0; cycle < 3; cycle++) {
        assert.equal((await loadEngine(page, MODEL, { threads: 4 })).threads, 4);
        // The engine's own, and three more.
        await assertWorkers(others + 4);
        assert.match((await complete(page, QUESTION)).text, /Paris/);
        await page.evaluate(() => window.engine.unload());
        await assertWorkers(others);
      }

      // In the middle of an answer: the threads are at work or spinning.
      await loadEngine(page, MODEL, { threads: 4 });
      const lost = await page.evaluate(async () => {
        const { engine, settled } = window;
        const stream = await engine.chat.completions.create({ messages: [{ role: "user", content: "Write a long story." }], stream: true });
        return (await settled(async () => {
          let tokens = 0;
          for await (const _ of stream) if (++tokens === 5) void engine.unload();
        })).error;
      });
      assert.equal(lost?.code, "engine_lost");
      await assertWorkers(others);

      const aborted = await page.evaluate(async (model) => {
        const stop = new AbortController();
        return (await window.settled(() => window.SmolLM.load(model, {
          threads: 4, signal: stop.signal, onProgress: ({ loaded }) => { if (loaded > 1e6) stop.abort(); },
        }))).error;
      }, MODEL);
      assert.equal(aborted?.code, "aborted");
      await assertWorkers(others);
    } finally {
      await browser.close();
    }
  });

  test(`${browserName}: an answer is stopped at once while threads work, and the next one is right`, async () => {
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await openBlank(page, isolated.blank);
      await loadEngine(page, MODEL, { threads: 2 });
      const expected = (await complete(page, QUESTION)).ids;
      const reasons = await page.evaluate(async () => {
        const found = [];
        const words = Array.from({ length: 600 }, (_, i) => ["river", "stone", "cloud"][i % 3]).join(" ");
        for (let i = 0; i < 6; i++) {
          const stop = new AbortController();
          const { error } = await window.settled(async () => {
            const stream = await window.engine.chat.completions.create({
              messages: [{ role: "user", content: i % 2 ? `${i} ${words}` : `Tell story number ${i}.` }],
              stream: true, signal: stop.signal, onPrefill: () => { if (i % 2) stop.abort(); },
            });
            let tokens = 0;
            for await (const _ of stream) if (++tokens === 3 + i) stop.abort();
          });
          found.push(error?.code);
        }
        return found;
      });
      assert.deepEqual(reasons, Array(6).fill("aborted"));
      assert.deepEqual((await complete(page, QUESTION)).ids, expected);
    } finally {
      await browser.close();
    }
  });
}
