/**
 * The page's service worker: keeps one whole version of the page's files on this device, so that the page
 * works with no network, and gives pages and workers the headers that isolate them across origins, where
 * the host cannot. Models are not its business: the package stores them itself.
 *
 * A version is the list of files that scripts/build has put in here, each with its SHA-256. All of it is
 * fetched and compared before the version is used, and no version's page ever gets another's file.
 */
(() => {
  /** @type {{ version: string, files: Record<string, string> }} */
  const SITE = { version: "", files: {} };

  /** Of these a browser needs one, and which is known only when the engine has been started. */
  const ON_DEMAND = /^smollm-web\/pkg\/([^/]+)\//;
  /** Written last: a version without it is not whole, and not used. */
  const PAGE = "index.html";
  /** Files fetched at once. */
  const PARALLEL = 6;

  /** @type {any} */
  const worker = self;
  const { scope } = worker.registration;
  // Pages in several folders of one host share one Cache storage.
  const family = `smollm-page ${scope} `;
  const name = family + SITE.version;

  /** What a browser asks the headers of isolation of. */
  const ISOLATED = new Set(["document", "iframe", "frame", "worker", "sharedworker"]);

  worker.addEventListener("install", (/** @type {any} */ event) => event.waitUntil(install()));
  worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(activate()));
  worker.addEventListener("fetch", (/** @type {any} */ event) => {
    const { request } = event;
    const path = request.method === "GET" ? pathOf(request) : null;
    const answered = path !== null ? serve(path, request) : ISOLATED.has(request.destination) ? fetch(request) : null;
    if (answered) event.respondWith(ISOLATED.has(request.destination) ? answered.then(isolated) : answered);
  });
  worker.addEventListener("message", (/** @type {any} */ event) => {
    const { data, ports: [port] } = event;
    const answer = answers[/** @type {keyof typeof answers} */ (data?.ask)];
    if (!answer || !port) return;
    event.waitUntil(answer(data).then(
      (/** @type {unknown} */ value) => port.postMessage({ value }),
      (/** @type {unknown} */ error) => port.postMessage({ error: String(error) }),
    ));
  });

  /** What pages ask (www/offline.js). */
  const answers = {
    version: async () => SITE.version,
    /** Keeps the engine's build, and the one for one thread to which it may go back; true once nothing more is needed from the network. */
    keep: async (/** @type {{ build: string }} */ { build }) => {
      const builds = [build, build.replace("-threads", "")];
      const wanted = Object.keys(SITE.files).filter((path) => builds.includes(ON_DEMAND.exec(path)?.[1] ?? ""));
      await fill((path) => wanted.includes(path), []);
      return wanted.length > 0;
    },
    /** Lets this version take over, unless pages of the one before are still open elsewhere: how many. */
    takeOver: async () => {
      const open = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
      const others = open.filter((/** @type {{ url: string }} */ { url }) => pathOf({ url, mode: "navigate" }) === PAGE).length - 1;
      if (others <= 0) await worker.skipWaiting();
      return Math.max(0, others);
    },
    /** Leaves nothing behind: the host has no such page any more. */
    leave: async () => {
      await worker.registration.unregister();
      await drop((key) => key.startsWith(family));
    },
  };

  async function install() {
    const older = (await caches.keys()).filter((key) => key.startsWith(family) && key !== name);
    // The new version's page needs the same build of the engine as the old one's.
    await fill(async (path) => (await Promise.all(older.map((old) => kept(old, path)))).some(Boolean), older);
  }

  /**
   * Brings what is missing of this version, the page last.
   * @param {(path: string) => boolean | Promise<boolean>} builds which files of the engine's builds belong to it
   * @param {string[]} older other versions' caches
   */
  async function fill(builds, older) {
    const cache = await caches.open(name);
    // There already, where an earlier try was interrupted or a page asked for it: what is stored was compared.
    const bringTo = async (/** @type {string} */ path) => await kept(name, path) ?? await cache.put(urlOf(path), await bring(path, older));
    const waiting = Object.keys(SITE.files).filter((path) => path !== PAGE);
    const take = async () => {
      for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
        if (!ON_DEMAND.test(path) || await builds(path)) await bringTo(path);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, take));
    if (PAGE in SITE.files) await bringTo(PAGE);
  }

  async function activate() {
    await drop((key) => key.startsWith(family) && key !== name);
    // A first visit's page gets its further files from here too; every other is ruled already.
    await worker.clients.claim();
  }

  /** @param {(key: string) => boolean} which */
  async function drop(which) {
    for (const key of (await caches.keys()).filter(which)) await caches.delete(key);
  }

  /** @param {{ url: string, mode: string }} request @returns {string | null} the file of ours that it asks for */
  function pathOf({ url, mode }) {
    const { origin, pathname } = new URL(url);
    const base = new URL(scope);
    if (origin !== base.origin || !pathname.startsWith(base.pathname)) return null;
    const path = pathname.slice(base.pathname.length) || (mode === "navigate" ? PAGE : "");
    return Object.hasOwn(SITE.files, path) ? path : null;
  }

  /** @param {string} path @param {Request} request */
  async function serve(path, request) {
    const found = await kept(name, path);
    if (found) return found;
    // Storage was cleared: without the page itself nothing here is whole, and the host's is.
    if (!await kept(name, PAGE)) return fetch(request);
    try {
      const response = await bring(path, []);
      await (await caches.open(name)).put(urlOf(path), response.clone());
      return response;
    } catch {
      // Another version's file, or none: it must not be run with this page.
      worker.registration.update().catch(() => {});
      return Response.error();
    }
  }

  /** @param {string} path */
  function urlOf(path) {
    return new URL(path, scope).href;
  }

  /** @param {string} cacheName which this does not make @param {string} path */
  function kept(cacheName, path) {
    return caches.match(urlOf(path), { cacheName, ignoreVary: true });
  }

  /**
   * A file of this version, its hash compared: out of another version where it is the same, else from the host.
   * @param {string} path @param {string[]} older
   */
  async function bring(path, older) {
    for (const cacheName of older) {
      const response = await kept(cacheName, path);
      const copy = response && await compared(path, response);
      if (copy) return copy;
    }
    const response = await fetch(urlOf(path), { cache: "no-cache", credentials: "same-origin" });
    const copy = response.ok && await compared(path, response);
    if (!copy) throw new Error(`${path}: ${response.ok ? `not the file of version ${SITE.version}` : `status ${response.status}`}`);
    return copy;
  }

  /** @param {string} path @param {Response} response @returns {Promise<Response | null>} null where it is another file */
  async function compared(path, response) {
    const copy = response.clone();
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", await response.arrayBuffer()));
    if (Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("") !== SITE.files[path]) return null;
    // A page may not be what a redirect led to (hosts that serve index.html as the folder); all else stays as it came,
    // so that browsers keep their compiled code with it.
    return copy.redirected ? new Response(copy.body, { headers: copy.headers }) : copy;
  }

  /** @param {Response} response */
  function isolated(response) {
    // A redirect, for the browser to follow, or something that may not be read.
    if (["opaqueredirect", "opaque", "error"].includes(response.type)) return response;
    const headers = new Headers(response.headers);
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", "require-corp");
    const { status, statusText, body } = response;
    return new Response(body, { status, statusText, headers });
  }
})();
