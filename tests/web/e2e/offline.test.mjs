/**
 * The page without a network, and its versions, in Chromium and in Firefox: what was loaded once answers with the
 * server stopped, a new version is whole before it takes over, no page ever gets another version's file, and none stays
 * where the host has no such page any more.
 */
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { startServer } from "../../../scripts/lib/server.mjs";
import { launchChromium, launchFirefox } from "../support/browsers.mjs";
import { ready, tell, until } from "../support/chat-page.mjs";
import { DIST, copySite, serveSite } from "../support/site.mjs";

const PACK = path.join(DIST, "models/smollm2-135m-instruct");
/** What a browser loads of the pack. */
async function packBytes() {
  const manifest = await readFile(path.join(PACK, "manifest.json"), "utf8");
  const { files, shards } = JSON.parse(manifest);
  return [...files, ...shards].reduce((sum, { bytes }) => sum + bytes, manifest.length);
}

const FAKE = "?model=fake/fake.gguf";
const ask = async (page, text) => {
  const before = await page.evaluate(() => document.querySelectorAll(".message-user").length);
  await tell(page, text);
  await until(page, "answered", (n) => document.querySelectorAll(".message-user").length === n + 1
    && ["done", "length"].includes([...document.querySelectorAll(".message-assistant")].at(-1)?.dataset.status), before);
  return page.evaluate(() => [...document.querySelectorAll(".answer")].at(-1).textContent.trim());
};
/** The package stores a model behind the page's back, its manifest last. @param {number} bytes of all its files */
const modelStored = (page, bytes) => until(page, "the model stored", async (expected) => {
  const sizeOf = async (folder) => {
    let sum = 0;
    for await (const entry of folder.values()) sum += entry.kind === "file" ? (await entry.getFile()).size : await sizeOf(entry);
    return sum;
  };
  return await sizeOf(await navigator.storage.getDirectory()) >= expected;
}, bytes);
/** As the page itself says it, in the engine's dialog. */
const worksOffline = (page) => until(page, "kept for offline use", async () => {
  document.querySelector(".engine-pill").click();
  const facts = [...document.querySelectorAll(".facts dt")].find((dt) => dt.textContent === "Page works offline");
  const yes = facts?.nextElementSibling.textContent === "yes";
  document.querySelector("dialog")?.close();
  return yes;
});
const release = (page) => page.evaluate(() => document.documentElement.dataset.release ?? "first");
const noticeText = (page) => page.evaluate(() => document.getElementById("notice").innerText);
const noticed = (page, words) => until(page, `told: ${words}`, (w) => document.getElementById("notice").innerText.includes(w), words);
const findUpdate = (page) => page.evaluate(async () => void (await navigator.serviceWorker.getRegistration()).update().catch(() => {}));
/** By script: a click by the library waits for the page to leave in one browser and not in the other. */
const click = (page, selector) => page.evaluate((s) => setTimeout(() => document.querySelector(s).click()), selector);

const asked = (site, before, name) => site.requests.slice(before).filter((entry) => entry.path === name).length;

/** Changes two modules and says so on the page. @param {string} root @param {string} name */
async function change(root, name) {
  await appendFile(path.join(root, "app.js"), `\ndocument.documentElement.dataset.release = ${JSON.stringify(name)};\n`);
  // A module that only another start of the engine asks for again.
  await appendFile(path.join(root, "smollm-web/worker.js"), `\n// ${name}\n`);
}

for (const [browserName, launch] of [["Chromium", launchChromium], ["Firefox", launchFirefox]]) {
  for (const isolation of [true, false]) {
    test(`${browserName}: loaded once, the page answers with the server stopped${isolation ? "" : ", on a host without headers too"}`, async () => {
      const site = await serveSite({ isolation });
      const browser = await launch();
      try {
        const page = await browser.newPage();
        page.setDefaultTimeout?.(0);
        // Without headers the page leaves by itself and comes back, in the middle of what the library waits for.
        await page.goto(`${site.url}?seed=7`).catch((error) => { if (isolation) throw error; });
        await ready(page);
        await worksOffline(page);
        await modelStored(page, await packBytes());
        assert.equal(await page.evaluate(() => window.crossOriginIsolated), true);
        // Now everything is from this device but the manifest, which is always asked for.
        const before = site.requests.length;
        await page.reload();
        await ready(page);
        const again = site.requests.slice(before).map((entry) => entry.path);
        assert.deepEqual(again.filter((name) => !["/service-worker.js", "/models/smollm2-135m-instruct/manifest.json"].includes(name)), []);
        const kept = await page.evaluate(async () => {
          const names = await caches.keys();
          const paths = (await Promise.all(names.map(async (name) => (await caches.open(name)).keys()))).flat().map(({ url }) => new URL(url).pathname);
          return { names: names.length, paths };
        });
        assert.equal(kept.names, 1);
        assert.deepEqual(kept.paths.filter((name) => name.startsWith("/models/")), []);
        assert.equal(kept.paths.filter((name) => name.endsWith(".wasm")).length, 2, "the build in use, the one it may go back to, and no other");
        await site.close();

        const began = performance.now();
        await page.reload();
        await ready(page);
        console.log(`${browserName}: ready ${Math.round(performance.now() - began)} ms after a reload without a server`);
        assert.match(await ask(page, "What is the capital of France?"), /Paris/);
        assert.equal(await page.evaluate(() => window.crossOriginIsolated), true);
      } finally {
        await browser.close();
        await site.close().catch(() => {});
      }
    });
  }

  test(`${browserName}: a new version waits for pages of the old one, which keep their own files`, async () => {
    const copy = await copySite();
    const site = await serveSite({ root: copy.root });
    const browser = await launch();
    try {
      // Playwright's browsers give every page of theirs a profile of its own.
      const profile = await (browser.newContext?.() ?? browser);
      const page = await profile.newPage();
      page.setDefaultTimeout?.(0);
      await page.goto(site.url + FAKE);
      await ready(page);
      await worksOffline(page);
      assert.equal(await ask(page, "say: old"), "old");

      await change(copy.root, "second");
      await copy.version();
      const before = site.requests.length;
      await findUpdate(page);
      await noticed(page, "new version");
      const fetched = site.requests.slice(before).filter(({ status }) => status === 200).map((entry) => entry.path);
      assert.ok(fetched.includes("/app.js") && fetched.includes("/smollm-web/worker.js"), fetched.join());
      assert.ok(!fetched.some((name) => name.startsWith("/components/")), "what did not change is not fetched again");

      // The engine starts again, and takes its worker from the page's own version.
      await tell(page, "trap");
      await until(page, "failed", () => [...document.querySelectorAll(".message-assistant")].at(-1).dataset.status === "failed");
      assert.equal(await ask(page, "say: still old"), "still old");
      assert.equal(await release(page), "first");
      assert.deepEqual(asked(site, before, "/smollm-web/worker.js"), 1, "once, by the new version");

      // So does another tab, and as long as it is there nothing takes over.
      const other = await profile.newPage();
      await other.goto(site.url + FAKE);
      await ready(other);
      assert.equal(await release(other), "first");
      await noticed(other, "new version");
      await click(page, ".notice-action");
      await noticed(page, "Close the other tabs");
      assert.equal(await release(page), "first");
      await other.close();

      await click(page, ".notice-action");
      await until(page, "on the second version", () => document.documentElement.dataset.release === "second");
      await ready(page);
      assert.equal(await noticeText(page), "");
      assert.equal(await ask(page, "say: new"), "new");
      assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll(".answer")].map((answer) => answer.textContent.trim()).filter(Boolean)),
        ["old", "still old", "new"]);
      assert.equal(await page.evaluate(async () => (await caches.keys()).length), 1, "the old version's files are gone");
      await site.close();
      await page.reload();
      await ready(page);
      assert.equal(await release(page), "second");
      assert.equal(await ask(page, "say: alone"), "alone");
    } finally {
      await browser.close();
      await site.close().catch(() => {});
      await copy.remove();
    }
  });

  test(`${browserName}: a version that is only half on the server is never used`, async () => {
    const copy = await copySite();
    const site = await serveSite({ root: copy.root });
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await page.goto(site.url + FAKE);
      await ready(page);
      await worksOffline(page);

      const old = await readFile(path.join(copy.root, "app.js"));
      await change(copy.root, "second");
      await copy.version();
      const whole = await readFile(path.join(copy.root, "app.js"));
      await writeFile(path.join(copy.root, "app.js"), old);
      const state = await page.evaluate(async () => {
        const registration = await navigator.serviceWorker.getRegistration();
        const found = new Promise((resolve) => registration.addEventListener("updatefound", () => {
          const { installing } = registration;
          installing.addEventListener("statechange", () => resolve(installing.state));
        }));
        await registration.update().catch(() => {});
        return found;
      });
      assert.equal(state, "redundant");
      await page.reload();
      await ready(page);
      assert.equal(await release(page), "first");
      assert.equal(await noticeText(page), "");

      // The rest arrives.
      await writeFile(path.join(copy.root, "app.js"), whole);
      await findUpdate(page);
      await noticed(page, "new version");
      await click(page, ".notice-action");
      await until(page, "on the second version", () => document.documentElement.dataset.release === "second");
    } finally {
      await browser.close();
      await site.close();
      await copy.remove();
    }
  });

  test(`${browserName}: cleared storage and a worker that cannot be installed leave the page working from the network`, async () => {
    const copy = await copySite();
    const site = await serveSite({ root: copy.root, isolation: false });
    const browser = await launch();
    try {
      // A list that no host could satisfy.
      const worker = path.join(copy.root, "service-worker.js");
      await writeFile(worker, (await readFile(worker, "utf8")).replace(/"app\.js":"[0-9a-f]{8}/, '"app.js":"00000000'));
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await page.goto(site.url + FAKE);
      await ready(page);
      assert.equal(await page.evaluate(() => window.crossOriginIsolated), false);
      assert.equal(await ask(page, "say: plain"), "plain");

      await copy.version();
      await page.reload();
      await until(page, "isolated", () => window.crossOriginIsolated);
      await ready(page);
      await worksOffline(page);
      await page.evaluate(async () => { for (const name of await caches.keys()) await caches.delete(name); });
      await page.reload();
      await ready(page);
      assert.equal(await ask(page, "say: cleared"), "cleared");
      await worksOffline(page);
      await site.close();
      await page.reload();
      await ready(page);
      assert.equal(await ask(page, "say: kept anew"), "kept anew");
    } finally {
      await browser.close();
      await site.close();
      await copy.remove();
    }
  });

  test(`${browserName}: a page whose host got another version before the service worker was there becomes that version`, async () => {
    const copy = await copySite();
    let arrived = () => {};
    const arrival = new Promise((resolve) => { arrived = () => resolve(undefined); });
    const site = await serveSite({ root: copy.root, delay: (name) => (name === "/service-worker.js" ? arrival : undefined) });
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await page.goto(site.url + FAKE);
      await ready(page);
      assert.equal(await ask(page, "say: early"), "early");
      await change(copy.root, "second");
      await copy.version();
      arrived();
      await until(page, "on the second version", () => document.documentElement.dataset.release === "second");
      await ready(page);
      assert.deepEqual(await page.evaluate(() => [...document.querySelectorAll(".answer")].map((answer) => answer.textContent.trim())), ["early"]);
    } finally {
      await browser.close();
      await site.close();
      await copy.remove();
    }
  });

  test(`${browserName}: a page that its address no longer has goes, with all that was kept of it`, async () => {
    const copy = await copySite();
    const other = await mkdtemp(path.join(tmpdir(), "smollm-other-"));
    await writeFile(path.join(other, "index.html"), "<!doctype html><title>Another project</title><p>Here lives another project.");
    let site = await serveSite({ root: copy.root });
    const browser = await launch();
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout?.(0);
      await page.goto(site.url + FAKE);
      await ready(page);
      await worksOffline(page);
      const { url } = site;
      await site.close();
      site = await startServer({ root: other, port: Number(new URL(url).port) });
      await page.goto(url);
      await until(page, "the other project", () => document.title === "Another project");
      assert.deepEqual(await page.evaluate(async () => [(await caches.keys()).length, (await navigator.serviceWorker.getRegistrations()).length]), [0, 0]);
    } finally {
      await browser.close();
      await site.close();
      await copy.remove();
      await rm(other, { recursive: true });
    }
  });
}
