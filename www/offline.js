/** The page's side of its service worker: keeps the page on this device, and tells of new versions. */

/** A page that stays open for days asks for a new version this often, when somebody looks at it. */
const ASK_MS = 3_600_000;
/** A service worker that says nothing by then was ended. */
const ANSWER_MS = 60_000;

export class Offline {
  /** Beside the page: a service worker rules its own folder and below. */
  static WORKER = "service-worker.js";
  /** Of this page; empty where it was not made by scripts/build. */
  static VERSION = document.documentElement.dataset.version ?? "";

  #onUpdate;
  #onReplaced;
  /** @type {ServiceWorkerRegistration | null} */
  #registration = null;
  #reloading = false;
  #started = Promise.resolve();

  /**
   * @param {object} events
   * @param {() => void} events.update another version is here, whole, and waits
   * @param {() => void} events.replaced another version rules this page, whose files it no longer has
   */
  constructor({ update, replaced }) {
    this.#onUpdate = update;
    this.#onReplaced = replaced;
  }

  /** Where there are no service workers (no https, a private window), the page works from the network. */
  start() {
    this.#started = this.#start();
  }

  async #start() {
    const { serviceWorker } = navigator;
    if (!serviceWorker) return;
    try {
      if (serviceWorker.controller && await isGone()) {
        await ask(serviceWorker.controller, { ask: "leave" });
        return location.reload();
      }
      const registration = this.#registration = await serviceWorker.register(Offline.WORKER);
      // Without one, this page came from the network, and is ruled for the first time.
      let ruled = serviceWorker.controller !== null;
      serviceWorker.addEventListener("controllerchange", () => {
        if (this.#reloading) location.reload();
        else if (ruled) this.#onReplaced();
        else void this.#compare();
        ruled = true;
      });
      const look = () => { if (registration.waiting && serviceWorker.controller) this.#onUpdate(); };
      registration.addEventListener("updatefound", () => registration.installing?.addEventListener("statechange", look));
      registration.installing?.addEventListener("statechange", look);
      look();
      let asked = Date.now();
      document.addEventListener("visibilitychange", () => {
        if (document.visibilityState !== "visible" || Date.now() - asked < ASK_MS) return;
        asked = Date.now();
        registration.update().catch(() => {});
      });
    } catch {
      this.#registration = null;
    }
  }

  /** The host may have got another version between this page and its service worker. */
  async #compare() {
    const worker = /** @type {ServiceWorker} */ (navigator.serviceWorker.controller);
    const version = await ask(worker, { ask: "version" }).catch(() => Offline.VERSION);
    if (version !== Offline.VERSION) this.#onReplaced();
  }

  /**
   * Keeps the engine's build with the page. @param {string} build
   * @returns {Promise<boolean>} whether page and engine now work without the network
   */
  async keep(build) {
    await this.#started;
    const worker = this.#registration && await activated(this.#registration);
    return worker !== null && await ask(worker, { ask: "keep", build }).catch(() => false) === true;
  }

  /**
   * Lets the waiting version take over, which reloads this page.
   * @returns {Promise<number>} how many other tabs keep it from that: there is one version for all
   */
  async takeOver() {
    const waiting = this.#registration?.waiting;
    this.#reloading = true;
    try {
      const others = waiting ? Number(await ask(waiting, { ask: "takeOver" })) : 0;
      if (others > 0) this.#reloading = false;
      // Another tab was quicker: the version is in place already.
      else if (!waiting) location.reload();
      return others;
    } catch (error) {
      this.#reloading = false;
      throw error;
    }
  }
}

/**
 * Whether the host has no such page any more, or another project has its address now, as on localhost: then nothing
 * may come from here instead. Without a network, nobody says so.
 */
async function isGone() {
  const response = await fetch(Offline.WORKER, { method: "HEAD", cache: "no-store" }).catch(() => null);
  if (response === null) return false;
  return [404, 410].includes(response.status) || (response.ok && !response.headers.get("Content-Type")?.includes("javascript"));
}

/** @param {ServiceWorkerRegistration} registration @returns {Promise<ServiceWorker | null>} null where it cannot be installed */
function activated({ active, waiting, installing }) {
  const coming = waiting ?? installing;
  if (active || !coming) return Promise.resolve(active);
  return new Promise((resolve) => {
    coming.addEventListener("statechange", () => {
      if (coming.state === "activated") resolve(coming);
      else if (coming.state === "redundant") resolve(null);
    });
  });
}

/** @param {ServiceWorker} worker @param {object} question @returns {Promise<unknown>} */
function ask(worker, question) {
  return new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel();
    const timer = setTimeout(() => reject(new Error("the service worker does not answer")), ANSWER_MS);
    port1.onmessage = ({ data }) => {
      clearTimeout(timer);
      port1.close();
      if ("error" in data) reject(new Error(data.error));
      else resolve(data.value);
    };
    worker.postMessage(question, [port2]);
  });
}
