/**
 * A service worker that gives pages and workers the headers which isolate them across origins, where the
 * host cannot. A classic script: a site's own service worker may `importScripts` it. Everything else
 * goes its way untouched.
 */
(() => {
  /** @type {any} */
  const worker = self;
  const asked = new URL(worker.location.href).searchParams.get("policy");
  const policy = asked === "credentialless" ? asked : "require-corp";

  /** What a browser asks these headers of. */
  const ISOLATED = new Set(["document", "iframe", "frame", "worker", "sharedworker"]);

  worker.addEventListener("install", () => worker.skipWaiting());
  worker.addEventListener("activate", (/** @type {any} */ event) => event.waitUntil(worker.clients.claim()));
  worker.addEventListener("fetch", (/** @type {any} */ event) => {
    if (ISOLATED.has(event.request.destination)) event.respondWith(withHeaders(event.request));
  });

  /** @param {Request} request */
  async function withHeaders(request) {
    const response = await fetch(request);
    // A redirect, for the browser to follow, or something of another origin that may not be read.
    if (response.type === "opaqueredirect" || response.type === "opaque") return response;
    const headers = new Headers(response.headers);
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", policy);
    const { status, statusText, body } = response;
    return new Response(body, { status, statusText, headers });
  }
})();
