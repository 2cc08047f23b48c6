/** How much memory the browser that this process started takes, as the system sees it. Linux only: it reads /proc. */
import { readFileSync, readdirSync } from "node:fs";

/** @param {string} path */
const read = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // It ended meanwhile.
  }
};

/** How the processes that pages run in are started; some write spaces between their arguments. */
const PAGE = { chromium: / --type=renderer /, firefox: / -contentproc .* tab\s*$/ };

/**
 * Resident bytes of the process that a page runs in, of several the largest: browsers keep empty ones at hand.
 * @param {keyof typeof PAGE} browser
 * @returns {number}
 */
export function pageProcessBytes(browser) {
  const parents = new Map(readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    .map((pid) => [pid, /\) \S+ (\d+)/.exec(read(`/proc/${pid}/stat`))?.[1] ?? ""]));
  /** @param {string} pid @returns {boolean} */
  const ours = (pid) => pid === String(process.pid) || (parents.has(pid) && ours(parents.get(pid) ?? ""));
  let bytes = 0;
  for (const pid of parents.keys()) {
    const command = read(`/proc/${pid}/cmdline`).replaceAll("\0", " ");
    if (!PAGE[browser].test(command) || !ours(pid)) continue;
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(read(`/proc/${pid}/status`))?.[1] ?? 0;
    bytes = Math.max(bytes, 1024 * Number(kilobytes));
  }
  return bytes;
}
