/**
 * Cross-origin isolation for pages on hosts that cannot set headers. Threads need it; a service worker of
 * the page's own origin can give it, from the second time on that the page is loaded. So there is
 * one reload, on the first visit.
 */

/** Kept until the page is isolated, so that a page that cannot be is not reloaded for ever. */
const TRIED = "smollm-web:isolation";

/** A worker that is not there by then will isolate the next visit. */
const INSTALL_MS = 10_000;

/**
 * Isolates this page, if it is not. Resolves at once where it is, and where it cannot be; otherwise the
 * page is reloaded, once, and this never resolves. To be awaited before the page begins anything.
 *
 * @param {object} [options]
 * @param {string | URL} [options.workerUrl] where the host serves `isolation-worker.js` of this package: a
 *   service worker rules the pages of its own folder and below, so it lies beside the page, not in the package
 * @param {"require-corp" | "credentialless"} [options.policy] what becomes of files that this page takes
 *   from other origins without CORS: see docs/deploying.md
 * @returns {Promise<{ isolated: boolean, why: string }>}
 */
export async function isolate({ workerUrl = "isolation-worker.js", policy = "require-corp" } = {}) {
  /** @param {string} why */
  const not = (why) => ({ isolated: false, why });
  try {
    if (globalThis.crossOriginIsolated) {
      sessionStorage.removeItem(TRIED);
      return { isolated: true, why: "the page is cross-origin isolated" };
    }
    if (!globalThis.isSecureContext || !navigator.serviceWorker) {
      return not("service workers need https (or localhost) and a browser that has them");
    }
    if (globalThis.top !== globalThis.self) return not("a framed page is isolated only by the page around it");
    if (sessionStorage.getItem(TRIED)) return not("the page was reloaded once and is not isolated even so");

    const url = new URL(workerUrl, document.baseURI);
    if (policy !== "require-corp") url.searchParams.set("policy", policy);
    const registration = await navigator.serviceWorker.register(url);
    if (!location.href.startsWith(registration.scope)) {
      return not(`${url.pathname} rules ${registration.scope} alone: serve it from this page's folder`);
    }
    await installed(registration);
    sessionStorage.setItem(TRIED, "1");
  } catch (error) {
    // No storage, no worker file, a policy against it: the page works without.
    return not(error instanceof Error ? error.message : String(error));
  }
  location.reload();
  return new Promise(() => {});
}

/**
 * Settles when a page of the scope would have its service worker. `serviceWorker.ready` never does where it
 * cannot be installed.
 * @param {ServiceWorkerRegistration} registration
 * @returns {Promise<void>}
 */
function installed({ active, waiting, installing }) {
  const coming = waiting ?? installing;
  if (active || !coming) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`the service worker was not installed within ${INSTALL_MS / 1000} s`)), INSTALL_MS);
    coming.addEventListener("statechange", () => {
      if (coming.state === "activated") resolve();
      else if (coming.state === "redundant") reject(new Error("the service worker could not be installed"));
      else return;
      clearTimeout(timer);
    });
  });
}
