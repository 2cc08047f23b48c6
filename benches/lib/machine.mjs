/** What a figure depends on: the machine, the versions, the state of the source. */
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import os from "node:os";
import { fileURLToPath } from "node:url";

/** The instructions that the kernels of ours and of others choose between. */
const FEATURES = ["ssse3", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "asimd", "asimddp", "i8mm"];

export function machine() {
  const [cpu] = os.cpus();
  return {
    cpu: cpu?.model.trim() ?? "unknown",
    cores: os.cpus().length,
    memoryBytes: os.totalmem(),
    system: `${os.type()} ${os.release()} ${os.arch()}`,
    features: cpuFeatures(),
  };
}

function cpuFeatures() {
  try {
    const line = /^(flags|Features)\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[2] ?? "";
    const all = new Set(line.split(" "));
    return FEATURES.filter((feature) => all.has(feature));
  } catch {
    return [];
  }
}

/** A folder's name for this machine: its processor and how many cores of it. */
export function machineName() {
  const { cpu, cores } = machine();
  const name = cpu.toLowerCase().replace(/\((r|tm)\)|processor|cpu|@.*$/g, " ").replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");
  return `${name || "unknown"}-${cores}-core`;
}

export function source() {
  return {
    commit: said("git", ["rev-parse", "HEAD"]),
    // What was measured is that commit only if nothing else had changed.
    changed: said("git", ["status", "--porcelain", "--untracked-files=no"]) !== "",
  };
}

export function versions() {
  return { node: process.version, rustc: said("rustc", ["--version"]) };
}

/** @param {string} program @param {string[]} args */
function said(program, args) {
  try {
    return execFileSync(program, args, { encoding: "utf8", cwd: fileURLToPath(new URL(".", import.meta.url)), stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

/**
 * Memory of this process's descendants whose name fits, pages that several share counted once; null where
 * the system does not tell (it does on Linux).
 *
 * @param {RegExp} name
 */
export function memoryOfDescendants(name) {
  try {
    const processes = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry)).flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
        const [, pid, comm, parent] = /^(\d+) \((.*)\) \S+ (\d+)/s.exec(stat) ?? [];
        return [{ pid: Number(pid), comm, parent: Number(parent) }];
      } catch {
        return []; // It has ended meanwhile.
      }
    });
    /** @type {Set<number>} */
    const family = new Set([process.pid]);
    for (let size = 0; size !== family.size;) {
      size = family.size;
      for (const { pid, parent } of processes) if (family.has(parent)) family.add(pid);
    }
    const own = processes.filter(({ pid, comm }) => pid !== process.pid && family.has(pid) && name.test(comm));
    if (own.length === 0) return null;
    return own.reduce((sum, { pid }) => sum + proportionalBytes(pid), 0);
  } catch {
    return null;
  }
}

/** @param {number} pid */
function proportionalBytes(pid) {
  try {
    return Number(/^Pss:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
