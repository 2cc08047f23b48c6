/** Counts the Web Workers of the browsers that this process has started, by what the system knows of their threads. */
import { readFileSync, readdirSync } from "node:fs";

/** As Chromium and Firefox call a dedicated worker's thread, cut at 15 characters by the kernel. */
const WORKER = /^(DedicatedWorker|DOM Worker)/;

const read = (path) => {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // It ended meanwhile.
  }
};

const list = (path) => {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
};

/** @returns {number} */
export function countWorkers() {
  const parents = new Map(list("/proc").filter((name) => /^\d+$/.test(name))
    .map((pid) => [pid, /\) \S+ (\d+)/.exec(read(`/proc/${pid}/stat`))?.[1]]));
  const ours = (pid) => pid === String(process.pid) || (parents.has(pid) && ours(parents.get(pid)));
  let workers = 0;
  for (const pid of parents.keys()) {
    if (!ours(pid)) continue;
    for (const thread of list(`/proc/${pid}/task`)) {
      if (WORKER.test(read(`/proc/${pid}/task/${thread}/comm`))) workers++;
    }
  }
  return workers;
}
